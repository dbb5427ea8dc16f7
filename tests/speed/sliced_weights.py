"""A large linear map of a few images in slices, VGG-16's first, against torch's own."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from tests.speed.contest import Claim, Contest
from xaikit.core.sliced_weights import SlicedWeights

__all__ = ["contests"]

ROWS = 8


def contests() -> Iterator[Contest]:
    """Yield the one contest."""
    torch.manual_seed(0)
    layer = nn.Linear(25088, 4096).requires_grad_(False)
    x, direction = torch.randn(ROWS, 25088, requires_grad=True), torch.randn(ROWS, 4096)

    def plain() -> Tensor:
        return torch.autograd.grad(layer(x), x, direction)[0]

    def sliced() -> Tensor:
        with SlicedWeights():
            return plain()

    yield Contest(
        "linear map 25088 to 4096",
        f"{ROWS} images, float32, forward and backward",
        {"slices": sliced, "torch": plain},
        [Claim("slices", "torch", at_least=1.3)],
    )
