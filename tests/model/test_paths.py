"""The default layer: the last tensor with several positions on every path from the image to the outputs.

The right value is a closed form where the head is linear after mean pooling: HiResCAM at the pooled tensor sums to the
logit without its bias. Elsewhere it is the name of the tensor that the head pools.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import xaikit
from xaikit.foundation.errors import BadInput

CLASSES = 4


class Gate(nn.Module):
    """Squeeze and excite, with its own pooling and its own linear maps."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(channels, 2), nn.Linear(2, channels)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.up(self.down(F.adaptive_avg_pool2d(x, 1).flatten(1)).relu()).sigmoid()
        return x * gate[:, :, None, None]


class Staged(nn.Module):
    """stem -> gate -> top -> pool -> fc; `pool` maps (N, 12, h, w) to (N, 12)."""

    def __init__(self, pool, gate: type[nn.Module] | None = Gate) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.gate = gate(8) if gate else nn.Identity()
        self.top = nn.Sequential(nn.Conv2d(8, 12, 3, 2, 1), nn.ReLU())
        self.fc = nn.Linear(12, CLASSES)
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.pool(self.top(self.gate(self.stem(x)))).flatten(1))


class Attention(nn.Module):
    """Pooling by attention: one learned query, then softmax over the positions."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.linspace(-1, 1, 12))
        self.attention = nn.MultiheadAttention(12, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        return self.attention(self.query.expand(len(x), 1, 12), tokens, tokens, need_weights=False)[0][:, 0]


class WrittenAttention(Attention):
    """The same by hand: a weight for each position from a linear map of the tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.key = nn.Linear(12, 12)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        weights = (self.key(tokens) @ self.query).softmax(1)
        return (tokens * weights[..., None]).sum(1)


def whitened(x: Tensor) -> Tensor:
    return F.layer_norm(x.mean((2, 3)), (12,))


MEANS = {
    "mean": lambda h: h.mean((2, 3)),
    "mean of one axis, then of the other": lambda h: h.mean(2).mean(2),
    "reshape and mean": lambda h: h.reshape(*h.shape[:2], -1).mean(-1),
    "einsum": lambda h: torch.einsum("nchw->nc", h) / (h.shape[2] * h.shape[3]),
    "einsum with weights": lambda h: torch.einsum("nchw,hw->nc", h, torch.full(h.shape[2:], 1 / h[0, 0].numel())),
    "matmul with ones": lambda h: (h.flatten(2) @ torch.full((h[0, 0].numel(), 1), 1 / h[0, 0].numel()))[:, :, 0],
    "sum over the count": lambda h: h.sum(3).sum(2) / h[0, 0].numel(),
    "channels last": lambda h: h.permute(0, 2, 3, 1).flatten(1, 2).mean(1),
    "adaptive": lambda h: F.adaptive_avg_pool2d(h, 1),
    "adaptive in two steps": lambda h: F.adaptive_avg_pool2d(F.adaptive_avg_pool2d(h, (2, 2)), 1),
    "window of the whole": lambda h: F.avg_pool2d(h, h.shape[2:]),
    "convolution with ones": lambda h: F.conv2d(h, torch.full((12, 1, *h.shape[2:]), 1 / h[0, 0].numel()), groups=12),
    "stack of positions": lambda h: torch.stack([h[:, :, i, j] for i in range(4) for j in range(4)]).mean(0),
}
OTHERS = {
    "largest": lambda h: h.amax((2, 3)),
    "largest of one axis, then of the other": lambda h: h.max(2)[0].max(2)[0],
    "mean and largest": lambda h: h.mean((2, 3)) + h.flatten(2).max(2).values,
    "generalised mean": lambda h: h.clamp_min(1e-6).pow(3).mean((2, 3)).pow(1 / 3),
    "logsumexp": lambda h: h.flatten(2).logsumexp(2),
    "norm": lambda h: h.norm(dim=(2, 3)),
    "standard deviation": lambda h: h.flatten(2).std(2),
    "median": lambda h: h.flatten(2).median(2).values,
    "three largest": lambda h: h.flatten(2).topk(3, 2).values.mean(2),
    "softmax over positions": lambda h: (h.flatten(2) * h.mean(1).flatten(1).softmax(1)[:, None]).sum(2),
    "layer norm after the mean": whitened,
    "attention": Attention(),
    "attention by hand": WrittenAttention(),
    "bilinear": lambda h: torch.einsum("nchw,ndhw->ncd", h, h).mean(2),
    "split in two": lambda h: torch.cat([part.mean((2, 3)) for part in h.chunk(2, 1)], 1),
}


def seeded(build) -> nn.Module:
    torch.manual_seed(0)
    return build().eval()


@pytest.mark.parametrize("pool", MEANS.values(), ids=MEANS)
def test_the_pooled_tensor_is_found_whatever_pools_it(pool):
    network = seeded(lambda: Staged(pool))
    pixels = torch.rand(2, 3, 16, 16)
    found = xaikit.attribute(xaikit.Classifier(network), pixels, 1, "hires-cam")
    assert found.layer == "top"
    assert torch.allclose(found.values.sum((1, 2)), network(pixels)[:, 1] - network.fc.bias[1], atol=1e-5)


@pytest.mark.parametrize("pool", OTHERS.values(), ids=OTHERS)
def test_other_heads_have_the_same_layer(pool):
    assert xaikit.Classifier(seeded(lambda: Staged(pool)), size=16).layer == "top"


class Written(Staged):
    """The gate written into the forward, after the last convolution."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.top(self.stem(x))
        x = x * torch.sigmoid(x.mean((2, 3), keepdim=True))
        return self.fc(x.mean((2, 3)))


class SpatialGate(Staged):
    """A gate for each position, from a convolution, written into the forward."""

    def __init__(self) -> None:
        super().__init__(None)
        self.where = nn.Conv2d(12, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.top(self.stem(x))
        return self.fc((self.where(x).sigmoid() * x).mean((2, 3)))


class GateLast(Staged):
    def __init__(self) -> None:
        super().__init__(None)
        self.last = Gate(12)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.last(self.top(self.stem(x))).mean((2, 3)))


class SideHead(Staged):
    """An auxiliary head that runs after the main one."""

    def __init__(self, wrap) -> None:
        super().__init__(MEANS["mean"])
        self.side = nn.Sequential(nn.Conv2d(8, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 9))
        self.wrap = wrap

    def forward(self, x: Tensor):
        middle = self.stem(x)
        logits = self.fc(self.top(middle).mean((2, 3)))
        return self.wrap(logits, self.side(middle))


class TwoScales(Staged):
    """Two depths pooled separately: the first is the last tensor that both have in common."""

    def __init__(self) -> None:
        super().__init__(None)
        self.fc = nn.Linear(20, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        middle = self.gate(self.stem(x))
        return self.fc(torch.cat([middle.mean((2, 3)), self.top(middle).mean((2, 3))], 1))


class TwoHeads(Staged):
    def __init__(self) -> None:
        super().__init__(None)
        self.second = nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.top(self.stem(x))
        return self.fc(x.mean((2, 3))) + self.second(x.amax((2, 3)))


class Centre(Staged):
    """Reads one position of the last tensor, as a class token is read: the map has to be of the tensor before it."""

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.top(self.gate(self.stem(x)))[:, :, 1, 1])


class FullKernel(Staged):
    """A convolution as large as the tensor, as fully convolutional heads have it."""

    def __init__(self) -> None:
        super().__init__(None)
        self.head = nn.Sequential(nn.Conv2d(12, 7, 4), nn.ReLU(), nn.Conv2d(7, CLASSES, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.top(self.stem(x))).flatten(1)


class WithoutGraph(Staged):
    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


class Dense(Staged):
    """Concatenated features inside a block, a functional ReLU and the pooling after it (DenseNet)."""

    def __init__(self) -> None:
        super().__init__(None)
        self.norm = nn.BatchNorm2d(20)
        self.fc = nn.Linear(20, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.norm(torch.cat([x[:, :, ::2, ::2], self.top(x)], 1))
        return self.fc(F.relu(x, inplace=True).mean((2, 3)))


class Scores(Staged):
    """One channel a class; `pool` maps (N, 4, h, w) to (N, 4)."""

    def __init__(self, pool, end=lambda z: z) -> None:
        super().__init__(pool)
        self.map, self.end = nn.Conv2d(12, CLASSES, 1), end

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.pool(self.map(self.top(self.stem(x)))).flatten(1))


class Checkpointed(Staged):
    def __init__(self, reentrant: bool) -> None:
        super().__init__(None)
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(checkpoint(self.top, self.stem(x), use_reentrant=self.reentrant).mean((2, 3)))


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")  # a checkpoint without gradients
@pytest.mark.parametrize("reentrant", [False, True])
def test_a_module_that_a_checkpoint_runs_keeps_its_name(reentrant):
    assert xaikit.Classifier(seeded(lambda: Checkpointed(reentrant)), size=16).layer == "top"


@pytest.mark.filterwarnings("ignore:Scores already ends in a softmax")
@pytest.mark.parametrize("end", [lambda z: z, lambda z: z.softmax(1)], ids=["logits", "softmax"])
@pytest.mark.parametrize("name", ["mean", "generalised mean", "logsumexp", "three largest", "largest"])
def test_class_scores_are_stepped_over_whatever_pools_them(name, end):
    assert xaikit.Classifier(seeded(lambda: Scores((MEANS | OTHERS)[name], end)), size=16).layer == "top"


@pytest.mark.parametrize(
    ("build", "layer"),
    [
        (lambda: Written(None), "top"),
        (SpatialGate, "top"),
        (GateLast, "last"),
        (lambda: SideHead(lambda main, side: {"logits": main, "aux": side}), "top"),
        (lambda: SideHead(lambda main, side: (main, side)), "top"),
        (TwoScales, "gate"),
        (TwoHeads, "top"),
        (lambda: Centre(None), "gate"),
        (FullKernel, "top"),
        (Dense, "norm + relu"),
        (lambda: WithoutGraph(MEANS["mean"]), "top"),
        (lambda: Staged(MEANS["mean"], None), "top"),
    ],
)
def test_gates_side_heads_and_scales(build, layer):
    assert xaikit.Classifier(seeded(build), size=16).layer == layer


class Ensemble(nn.Module):
    """The mean of two networks: nothing but the image is common to both."""

    def __init__(self) -> None:
        super().__init__()
        self.normalise = nn.BatchNorm2d(3)
        self.first, self.second = Staged(MEANS["mean"]), Staged(MEANS["mean"])

    def forward(self, x: Tensor) -> Tensor:
        x = self.normalise(x)
        return (self.first(x) + self.second(x)) / 2


class Branches(Staged):
    """Two branches joined without a name."""

    def __init__(self) -> None:
        super().__init__(None)
        self.other = nn.Conv2d(8, 12, 5, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.fc((self.top(x) + self.other(x)).mean((2, 3)))


@pytest.mark.parametrize(
    "build",
    [Ensemble, Branches],
    ids=["ensemble", "branches"],
)
def test_without_a_common_layer_the_user_is_asked(build):
    with pytest.raises(BadInput, match=r"layer: found no default target layer in .*; give one of: .*stem"):
        _ = xaikit.Classifier(seeded(build), size=16).layer


class Patches(nn.Module):
    """Cuts each image into four and averages their scores: a body row is a part of an image, not an image."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU())
        self.fc = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.norm(x).unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
        return self.fc(self.body(parts).mean((2, 3))).unflatten(0, (len(x), -1)).mean(1)


class ChannelsLast(nn.Module):
    """Blocks on (N, h, w, C), as Swin has them, with a patch embedding before them."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 12, 4, 4)
        self.norm, self.mix, self.last = nn.LayerNorm(12), nn.Linear(12, 12), nn.LayerNorm(12)
        self.block, self.fc = nn.Identity(), nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).permute(0, 2, 3, 1)
        x = self.block(x + F.gelu(self.mix(self.norm(x))))
        return self.fc(self.last(x).mean((1, 2)))


class Tokens(Staged):
    """A residual block on tokens after the convolutions: the grid before it is not what the head pools."""

    def __init__(self) -> None:
        super().__init__(None)
        self.mix = nn.Linear(12, 12)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.top(self.stem(x)).flatten(2).transpose(1, 2)
        return self.fc((tokens + self.mix(tokens).relu())[:, 0])


def test_a_layer_before_blocks_of_tokens_is_not_taken():
    with pytest.raises(BadInput, match=r"no default target layer in Tokens"):
        _ = xaikit.Classifier(seeded(Tokens), size=16).layer


@pytest.mark.parametrize("layer", [None, "block", "mix", "last"])
def test_a_layer_with_its_channels_last_is_brought_to_a_grid(layer):
    network = seeded(ChannelsLast)
    classifier, pixels = xaikit.Classifier(network, size=16, layer=layer), torch.rand(2, 3, 16, 16)
    assert classifier.layers()["embed"] == classifier.layers()["last"] == (12, 4, 4)
    assert classifier.layer == ("last" if layer is None else layer)
    kept = []
    handle = network.get_submodule(classifier.layer).register_forward_hook(lambda *args: kept.append(args[2]))
    logits = network(pixels.requires_grad_(True))
    handle.remove()
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), kept[0])
    expected = torch.einsum("nhwc,nc->nhw", kept[0], gradient.mean((1, 2))).relu()
    found = xaikit.attribute(classifier, pixels.detach(), 0, "grad-cam")
    assert torch.allclose(found.values, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("layer", [None, "body"])
@pytest.mark.parametrize("method", ["grad-cam", "libra-cam", "score-cam", "relevance-cam", "full-grad"])
def test_a_layer_that_sees_parts_of_images_is_refused(method, layer):
    classifier = xaikit.Classifier(seeded(Patches), size=16, layer=layer)
    assert "body" not in classifier.layers()
    with pytest.raises(BadInput, match=r"default target layer|expected activations of 2 images, got|cuts images"):
        xaikit.attribute(classifier, torch.rand(2, 3, 16, 16), 0, method)


def test_the_layer_of_a_picture_does_not_depend_on_those_before():
    def explain(classifier, size):
        return xaikit.attribute(classifier, torch.rand(1, 3, *size), 0, "grad-cam")

    sizes = [(4, 4), (3, 3), (16, 20), (4, 4), (32, 16), (3, 3)]
    fresh = [explain(xaikit.Classifier(seeded(lambda: Staged(MEANS["mean"]))), size) for size in sizes]
    classifier = xaikit.Classifier(seeded(lambda: Staged(MEANS["mean"])))
    before = classifier.layer
    for size, one in zip(sizes, fresh, strict=True):
        later = explain(classifier, size)
        assert (later.layer, later.values.shape) == (one.layer, one.values.shape)
        assert classifier.layer == before == "top"
    assert fresh[1].layer == "gate"
    assert [side for side, one in zip(sizes, fresh, strict=True) if "earlier-layer" in one.flags[0]] == [
        (4, 4),
        (3, 3),
        (4, 4),
        (3, 3),
    ]


def test_one_method_follows_the_size_of_each_batch():
    method = xaikit.get_method("grad-cam")(xaikit.Classifier(seeded(lambda: Staged(MEANS["mean"]))))
    assert [method(torch.rand(1, 3, side, side)).layer for side in (16, 4, 16)] == ["top", "gate", "top"]
