"""Methods of attention: what they see of any transformer, and what they refuse."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.models import VisionTransformer

import xaikit
from tests.methods.replicas import close
from tests.methods.replicas.attention import generic, le_grad, rollout
from tests.methods.small import classifier
from tests.networks import GAPNet, images
from tests.networks.disguised import scripted
from tests.networks.tokens import Attention, Tokens, seeded
from xaikit.foundation.errors import BadInput
from xaikit.methods.base import METHODS
from xaikit.model.attention import opened, weights_of
from xaikit.model.classifier import Classifier

NAMES = METHODS.names(lambda kind: kind.family == "attention")
OF_TOKENS = [name for name in NAMES if name != "attn-lrp"]  # which goes to the pixels, through whatever there is
SIZE = (16, 24)


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def pixels() -> Tensor:
    return torch.rand(2, 3, *SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def explained(network: nn.Module, x: Tensor | None = None, names: list[str] = OF_TOKENS) -> dict[str, Tensor]:
    """Return the maps of methods of attention by name, for class 1."""
    x = pixels() if x is None else x
    found = xaikit.attribute_many(Classifier(network, mean=0, size=tuple(x.shape[2:])), x, 1, methods=names)
    return {name: each.values for name, each in found.items()}


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"scale": 0.3},
        {"is_causal": True},
        {"attn_mask": drawn(5, 7)},
        {"attn_mask": drawn(2, 1, 5, 7) > -0.5},
    ],
)
def test_weights_are_those_of_the_fused_attention(given: dict[str, Any]) -> None:
    query, key, value = drawn(2, 4, 5, 6), drawn(2, 4, 7, 6), drawn(2, 4, 7, 8)
    weights, values = weights_of(query, key, value, **given)
    close(weights @ values, F.scaled_dot_product_attention(query, key, value, **given))


def test_weights_of_grouped_heads_and_of_tokens_that_read_none() -> None:
    query, key = drawn(2, 4, 5, 6), drawn(2, 2, 7, 6)
    weights, values = weights_of(query, key, key, enable_gqa=True)
    close(weights @ values, F.scaled_dot_product_attention(query, key, key, enable_gqa=True))
    weights, _ = weights_of(query, key[:, :1], key[:, :1], torch.zeros(5, 7, dtype=torch.bool))
    assert bool(weights.isnan().all())


@pytest.mark.parametrize("options", [{}, {"bias": False}, {"kdim": 6, "vdim": 10}])
@pytest.mark.parametrize("asked", [{}, {"need_weights": False}, {"average_attn_weights": False}])
def test_opened_multi_head_attention_is_the_module_s_own(options: dict[str, Any], asked: dict[str, Any]) -> None:
    module = nn.MultiheadAttention(8, 2, dtype=torch.float64, **options).eval()
    query = drawn(5, 3, 8)
    key, value = drawn(7, 3, options.get("kdim", 8)), drawn(7, 3, options.get("vdim", 8))
    if "kdim" not in options and "need_weights" in asked:
        key = value = query
    expected = module(query, key, value, **asked)
    names = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
    separate = {name: getattr(module, name) for name in names} | {"use_separate_proj_weight": True}
    given = (query, key, value, 8, 2, module.in_proj_weight, module.in_proj_bias, None, None, False, 0.0)
    given += (module.out_proj.weight, module.out_proj.bias)
    found = opened(given, {"training": False} | (separate if "kdim" in options else {}) | asked)
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours is None) == (theirs is None)
        if theirs is not None:
            close(ours, theirs)
    assert opened(given, {"training": False, "attn_mask": drawn(5, len(key))}) is None


FORMS: dict[str, dict[str, Any]] = {
    "no other token": {"before": 0, "reads": "mean"},
    "class token and mean": {"reads": "mean"},
    "distillation": {"before": 2, "reads": "both"},
    "registers": {"before": 3, "after": 2},
    "snake order": {"order": "snake"},
    "windows order": {"order": "windows"},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.slow
def test_the_tokens_of_the_head_are_found_and_those_of_the_image_lie_on_it(form: str) -> None:
    network = seeded(lambda: Tokens(SIZE, **FORMS[form]))
    found = explained(network)
    close(found["attention-rollout"], rollout(network, pixels()))
    close(found["generic-attention"], generic(network, pixels(), 1))
    close(found["le-grad"], le_grad(network, pixels(), 1))


class Written(nn.Module):
    """The attention of `Tokens`, as `mix` writes it."""

    def __init__(self, attention: Attention, mix: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.qkv, self.proj, self.mix = attention.qkv, attention.proj, mix

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, 2, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(self.mix(q, k, v).transpose(1, 2).flatten(2))


class MultiHead(nn.Module):
    """The attention of `Tokens`, as torch's module; "first" has the tokens first."""

    def __init__(self, attention: Attention, first: bool, need_weights: bool) -> None:
        super().__init__()
        width = attention.proj.in_features
        self.module = nn.MultiheadAttention(width, 2, batch_first=not first, dtype=torch.float64).eval()
        self.module.in_proj_weight, self.module.in_proj_bias = attention.qkv.weight, attention.qkv.bias
        self.module.out_proj.weight, self.module.out_proj.bias = attention.proj.weight, attention.proj.bias
        self.first, self.need_weights = first, need_weights

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(0, 1) if self.first else x
        mixed = self.module(x, x, x, need_weights=self.need_weights)[0]
        return mixed.transpose(0, 1) if self.first else mixed


def softmaxed(q: Tensor, k: Tensor) -> Tensor:
    return F.softmax(q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5, dim=-1)


WAYS: dict[str, Callable[[Attention], nn.Module]] = {
    "matmul": lambda one: Written(one, lambda q, k, v: torch.matmul(softmaxed(q, k), v)),
    "dropped and cast": lambda one: Written(one, lambda q, k, v: F.dropout(softmaxed(q, k), training=False).to(v) @ v),
    "einsum": lambda one: Written(one, lambda q, k, v: torch.einsum("b h i j, b h j d -> b h i d", softmaxed(q, k), v)),
    "overwritten": lambda one: Written(one, lambda q, k, v: F.scaled_dot_product_attention(q, k, v).mul_(1.0)),
    "module": lambda one: MultiHead(one, first=False, need_weights=False),
    "module with weights": lambda one: MultiHead(one, first=False, need_weights=True),
    "module, tokens first": lambda one: MultiHead(one, first=True, need_weights=False),
}


@cache
def explained_plainly() -> dict[str, Tensor]:
    return explained(seeded(lambda: Tokens((8, 8))), images(), NAMES)


def changed(way: Callable[[Attention], nn.Module]) -> nn.Module:
    network = seeded(lambda: Tokens((8, 8)))
    for block in network.blocks:
        block.attention = way(block.attention)
    return network


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.slow
def test_attention_is_the_same_in_whatever_way_it_is_written(way: str) -> None:
    expected = explained_plainly()
    for name, values in explained(changed(WAYS[way]), images(), NAMES).items():
        close(values, expected[name], 1e-9)


class Windows(nn.Module):
    """Attention within each half of the tokens."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x.reshape(2 * len(x), -1, x.shape[2])).reshape(x.shape)


class Convolved(nn.Module):
    """Attention before a convolution along the tokens."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.attention, width = attention, attention.proj.in_features
        self.conv = nn.Conv1d(width, width, 3, padding=1, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.attention(x).transpose(1, 2)).transpose(1, 2)


def by_script(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.transpose(-2, -1) * 0.4).softmax(-1) @ v


class ByFunction(torch.autograd.Function):
    """Attention in a function of its own."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        ctx.save_for_backward(q, k, v)
        return softmaxed(q, k) @ v

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            given = [tensor.detach().requires_grad_(True) for tensor in ctx.saved_tensors]
            return torch.autograd.grad(softmaxed(given[0], given[1]) @ given[2], given, gradients[0])


def only(number: int, way: Callable[[Attention], nn.Module], **options: Any) -> nn.Module:
    network = seeded(lambda: Tokens((8, 8), **options))
    network.blocks[number].attention = way(network.blocks[number].attention)
    return network


def gated(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (0.9 * softmaxed(q, k) + 0.1 / q.shape[2]) @ v


def pooled(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k[:, :, ::2], v[:, :, ::2])


def folded(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (softmaxed(q.flatten(0, 1), k.flatten(0, 1)) @ v.flatten(0, 1)).unflatten(0, q.shape[:2])


TOGETHER, ALL = "tokens that meet in attention alone", "attention of all tokens to each other"
REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "none": (GAPNet, "a network with attention, got GAPNet, in which none is seen"),
    "windows": (lambda: only(1, Windows, before=0, reads="mean"), ALL),
    "pooled": (lambda: only(1, lambda one: Written(one, pooled)), ALL),
    "heads in the batch": (lambda: changed(lambda one: Written(one, folded)), ALL),
    "gated in the first layer": (lambda: only(0, lambda one: Written(one, gated)), TOGETHER),
    "gated in the second layer": (lambda: only(1, lambda one: Written(one, gated)), TOGETHER),
    "gated in the last layer": (lambda: only(2, lambda one: Written(one, gated)), TOGETHER),
    "hidden in the second layer": (lambda: only(1, lambda one: Written(one, scripted(by_script))), TOGETHER),
    "hidden in the last layer": (lambda: only(2, lambda one: Written(one, scripted(by_script))), TOGETHER),
    "a function of its own": (lambda: only(1, lambda one: Written(one, ByFunction.apply)), "attention with a gradient"),
    "convolved in the first layer": (lambda: only(0, Convolved), TOGETHER),
    "convolved in the second layer": (lambda: only(1, Convolved), TOGETHER),
    "convolved before a mean": (lambda: only(1, Convolved, before=0, reads="mean"), TOGETHER),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.slow
def test_what_is_no_attention_of_all_to_all_is_refused_in_one_line(case: str) -> None:
    build, line = REFUSED[case]
    refused = Classifier(build().double() if case == "none" else build(), mean=0, size=8)
    for name in OF_TOKENS:
        with pytest.raises(BadInput, match=re.escape(f"expected {line}")) as caught:
            METHODS.get(name)(refused).attribute(images(1))
        assert "\n" not in str(caught.value)


class Checkpointed(nn.Module):
    def __init__(self, block: nn.Module, reentrant: bool) -> None:
        super().__init__()
        self.block, self.reentrant = block, reentrant

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = checkpoint(self.block, x, use_reentrant=self.reentrant)
        return found


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.slow
def test_checkpoints_do_not_matter_unless_they_hide_the_graph() -> None:
    network = seeded(lambda: Tokens((8, 8)))
    blocks = list(network.blocks)
    network.blocks = nn.ModuleList(Checkpointed(block, reentrant=False) for block in blocks)
    for name, values in explained(network, images()).items():
        close(values, explained_plainly()[name])
    network.blocks = nn.ModuleList(Checkpointed(block, reentrant=True) for block in blocks)
    with pytest.raises(BadInput, match=r"expected attention with a gradient, got Tokens with one under torch\.no_grad"):
        explained(network, images())


class Shared(Tokens):
    """All blocks are one module."""

    def __init__(self) -> None:
        super().__init__((8, 8))
        self.blocks = nn.ModuleList([self.blocks[0]] * 3)


class ReadsTwo(Tokens):
    """The head reads the tokens of two blocks."""

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.before.expand(len(x), -1, -1), tokens], 1) + self.position
        for block in self.blocks:
            earlier, tokens = tokens, block(tokens)
        return self.head(self.norm(tokens + earlier)[:, 0])


@pytest.mark.parametrize(
    ("build", "line"),
    [
        (Shared, "expected a module around each attention alone, got attentions that share theirs in Shared"),
        (lambda: ReadsTwo((8, 8)), "expected a head that takes the last block's output alone, got .* in ReadsTwo"),
    ],
)
@pytest.mark.slow
def test_le_grad_refuses_heads_and_blocks_that_it_cannot_use(build: Callable[[], nn.Module], line: str) -> None:
    bound_to = Classifier(seeded(build), mean=0, size=8)
    for count in (1, 2):
        with pytest.raises(BadInput, match=f"le-grad: {line}; use generic-attention"):
            xaikit.attribute(bound_to, images(count), 1, "le-grad")
    assert float(xaikit.attribute(bound_to, images(), 1, "generic-attention").values.max()) > 0


def test_a_small_score_has_a_small_map_of_le_grad_and_the_same_picture() -> None:
    found = [
        xaikit.attribute(classifier("le-grad"), images(), lambda z, unit=unit: unit * z[:, 1], "le-grad").values
        for unit in (1.0, 1e-8)
    ]
    close(found[1], 1e-8 * found[0])


def test_attn_lrp_refuses_a_network_without_attention() -> None:
    with pytest.raises(BadInput, match="attn-lrp: expected a network with attention, got one in which none is seen"):
        xaikit.attribute(Classifier(GAPNet().double(), mean=0, size=8), images(1), 1, "attn-lrp")


@pytest.mark.parametrize("case", ["windows", "pooled", "heads in the batch", "convolved in the first layer"])
@pytest.mark.slow
def test_attn_lrp_goes_through_any_attention_and_accounts_for_the_score(case: str) -> None:
    found = xaikit.attribute(Classifier(REFUSED[case][0](), mean=0, size=8), images(2), 1, "attn-lrp")
    absorbed = torch.stack([amount for name, amount in found.diagnostics.items() if name.startswith("absorbed_")])
    close(found.values.sum((1, 2)) + absorbed.sum(0), found.scores)
    assert not any("unbalanced" in flags for flags in found.flags)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.slow
def test_rollout_is_that_of_the_attentions_that_transformers_returns(attention: str) -> None:
    transformers = pytest.importorskip("transformers", reason="needs transformers: pip install 'xaikit[transformers]'")
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    config = transformers.DeiTConfig(**sizes, image_size=16, patch_size=4, num_labels=3)
    config._attn_implementation = "eager"
    torch.manual_seed(0)
    network = transformers.DeiTForImageClassificationWithTeacher(config).double().eval()
    x = torch.rand(2, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        first, second = (layer.mean(1) for layer in network(x, output_attentions=True).attentions)
    network.set_attn_implementation(attention)
    both = (second + torch.eye(18)) / 2 @ ((first + torch.eye(18)) / 2)
    found = xaikit.attribute(Classifier(network, mean=0, size=16, channels=3), x, 1, "attention-rollout")
    close(found, both[:, :2].mean(1)[:, 2:].reshape(2, 4, 4), 1e-6)  # its eager softmax rounds to float32


@pytest.mark.slow
def test_timm_and_torchvision_have_the_maps_of_their_written_out_attention() -> None:
    timm = pytest.importorskip("timm", reason="needs timm: pip install 'xaikit[timm]'")
    options = {"img_size": 16, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 3}
    torch.manual_seed(0)
    x = torch.rand(2, 3, 16, 16, dtype=torch.float64)
    network = timm.create_model("vit_tiny_patch16_224", pretrained=False, **options).double()
    fused = explained(network, x, NAMES)
    for block in network.blocks:
        block.attn.fused_attn = False
    for name, values in explained(network, x, NAMES).items():
        close(values, fused[name], 1e-9)
    other = VisionTransformer(16, 4, 2, 2, 16, 24, num_classes=3).double()
    nn.init.normal_(other.heads.head.weight)
    for name, values in explained(other, x, NAMES).items():
        assert values.shape == ((2, 16, 16) if name == "attn-lrp" else (2, 4, 4))
        assert float(values.abs().max()) > 0
