"""Networks of tokens and of channels last; the module `emit` of each returns the same values as (N, C, h, w)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ORDERS", "Blind", "ChannelsLast", "Tokens", "seeded"]

WIDTH, HEADS, CLASSES, PATCH = 12, 2, 4, 4

ORDERS = {
    "row by row": lambda h, w: torch.arange(h * w),
    "column by column": lambda h, w: torch.arange(h * w).reshape(h, w).T.flatten(),
    "backwards": lambda h, w: torch.arange(h * w).flip(0),
    "snake": lambda h, w: torch.cat(
        [row if i % 2 == 0 else row.flip(0) for i, row in enumerate(torch.arange(h * w).reshape(h, w))]
    ),
    "windows": lambda h, w: torch.arange(h * w).reshape(h // 2, 2, w // 2, 2).transpose(1, 2).flatten(),
}
"""Index of the patch that each token holds, for a grid (h, w)."""


class Attention(nn.Module):
    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.fused = fused

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        if self.fused:
            mixed = F.scaled_dot_product_attention(q, k, v)
        else:
            mixed = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1) @ v
        return self.proj(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention = Attention(fused)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 20), nn.GELU(), nn.Linear(20, WIDTH))
        self.between = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.between(self.norm1(x)))
        return x + self.mlp(self.norm2(x))


class Emit(nn.Module):
    """The identity on tokens, by way of maps that the module `maps` returns."""

    def __init__(self, order: Tensor, size: tuple[int, int], before: int) -> None:
        super().__init__()
        self.maps = nn.Identity()
        self.order, self.size, self.before = order, size, before

    def forward(self, x: Tensor) -> Tensor:
        count = len(self.order)
        first, patches, last = x.split([self.before, count, x.shape[1] - count - self.before], 1)
        grid = torch.empty_like(patches).index_copy(1, self.order, patches)
        maps = self.maps(grid.transpose(1, 2).reshape(len(x), WIDTH, *self.size))
        return torch.cat([first, maps.flatten(2).transpose(1, 2)[:, self.order], last], 1)


class Tokens(nn.Module):
    """A vision transformer.

    Args:
        size: (H, W) of the pictures, multiples of 8.
        before: number of tokens before the patches: class token, distillation, registers.
        after: number of tokens after the patches.
        reads: "class" reads the first token, "mean" the mean of the patches, "both" the first two tokens.
        order: a name in `ORDERS`.
        emit: number of the block whose normed input is emitted as maps; None for none, -1 for the last norm.
    """

    def __init__(self, size=(16, 24), before=1, after=0, reads="class", order="row by row", emit=None, fused=True):
        super().__init__()
        h, w = self.grid = size[0] // PATCH, size[1] // PATCH
        self.embed = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.before = nn.Parameter(torch.randn(1, before, WIDTH))
        self.after = nn.Parameter(torch.randn(1, after, WIDTH))
        self.position = nn.Parameter(torch.randn(1, before + h * w + after, WIDTH))
        self.blocks = nn.ModuleList(Block(fused) for _ in range(3))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, CLASSES)
        self.reads = reads
        self.register_buffer("order", ORDERS[order](h, w))
        maker = Emit(self.order, self.grid, before)
        self.emit = maker.maps
        self.last = maker if emit == -1 else nn.Identity()
        if emit is not None and emit >= 0:
            self.blocks[emit].between = maker

    def forward(self, x: Tensor) -> Tensor:
        patches = self.embed(x).flatten(2).transpose(1, 2)[:, self.order]
        before, after = self.before.expand(len(x), -1, -1), self.after.expand(len(x), -1, -1)
        tokens = torch.cat([before, patches, after], 1) + self.position
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.last(self.norm(tokens))
        if self.reads == "mean":
            first = self.before.shape[1]
            return self.head(tokens[:, first : first + patches.shape[1]].mean(1))
        return self.head(tokens[:, : 2 if self.reads == "both" else 1].mean(1))


class ChannelsLast(nn.Module):
    """Blocks on (N, h, w, C) with a downsampling by merging 2 x 2 positions; `emit` are the maps that are pooled."""

    def __init__(self, relu: bool = False) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, WIDTH, 2, 2)
        self.depthwise = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, groups=WIDTH)
        self.norm, self.mix = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH)
        self.merge, self.last = nn.Linear(4 * WIDTH, WIDTH), nn.ReLU() if relu else nn.LayerNorm(WIDTH)
        self.emit, self.head = nn.Identity(), nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).permute(0, 2, 3, 1)
        local = self.depthwise(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        x = x + self.mix(self.norm(local)).relu()
        x = torch.cat([x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)], 3)
        x = self.last(self.merge(x))
        return self.head(self.emit(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).mean((1, 2)))


class Blind(nn.Module):
    """Channels last by code that nothing can be read from: the positions behind it are not known."""

    def __init__(self, hide) -> None:
        super().__init__()
        self.embed, self.hidden, self.head = nn.Conv2d(3, WIDTH, 2, 2), nn.Identity(), nn.Linear(WIDTH, CLASSES)
        self.hide, self.mix = hide, nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.hidden(self.hide(self.embed(x).flatten(2).transpose(1, 2)))
        return self.head(self.mix(tokens).relu().mean(1))


def seeded(build) -> nn.Module:
    torch.manual_seed(0)
    return build().double().eval()
