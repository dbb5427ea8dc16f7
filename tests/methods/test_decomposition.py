"""Relevance on networks of every kind: what arrives and what is absorbed is what was promised."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

import xaikit
from tests import networks
from tests.networks import ConvolutionalHead, DeepNet, GAPNet, InPlaceSum, bound, images
from xaikit.foundation.errors import BadInput, XaikitWarning
from xaikit.methods.base import METHODS, InputMethod
from xaikit.model.classifier import Classifier
from xaikit.run.attribution import Attribution
from xaikit.run.context import Context

SIDE = 96
NAMED = ("resnet18", "resnet50", "densenet121", "googlenet", "convnext_tiny")
GATED = ("efficientnet_b0", "mobilenet_v3_small")
PLAIN = ("vgg11", "squeezenet1_0")
DECOMPOSITION = [name for name in METHODS.names() if METHODS.get(name).family == "decomposition"]
TO_THE_IMAGE = [name for name in DECOMPOSITION if issubclass(METHODS.get(name), InputMethod)]


@lru_cache(maxsize=1)  # tests of one network follow each other
def trained_on_noise(name: str, dtype: torch.dtype = torch.float32) -> Classifier:
    """Return a torchvision network with seeded weights and the BatchNorm statistics of two batches of noise."""
    options = {"init_weights": True, "aux_logits": False} if name == "googlenet" else {}
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        torch.manual_seed(0)
        network = networks.of_torchvision(name, **options).train()
        for norm in (one for one in network.modules() if isinstance(one, nn.BatchNorm2d)):
            norm.momentum = None
        with torch.no_grad():
            for _ in range(2):
                network(torch.randn(8, 3, SIDE, SIDE))
    return Classifier(network.eval().to(dtype), mean=[0.5] * 3, std=[0.25] * 3, size=SIDE, name=name)


def noise(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1), dtype=dtype)


def missing(found: Attribution) -> float:
    """Return the largest share of the promised sum that neither arrived nor was booked."""
    assert found.completeness is not None
    absorbed = sum(amount for name, amount in found.diagnostics.items() if name.startswith("absorbed_"))
    return float(((found.completeness + absorbed) / found.diagnostics["promised"]).abs().max())


def gap(found: Attribution) -> float:
    assert found.completeness is not None
    return float((found.completeness / found.diagnostics["promised"]).abs().max())


@pytest.mark.slow
@pytest.mark.parametrize("name", [*NAMED, *GATED, *PLAIN])
def test_the_books_balance_on_torchvision_networks(name: str) -> None:
    clf, x = trained_on_noise(name), noise()
    zero = METHODS.get("lrp").build(clf, composite="epsilon-plus", bias="zero").attribute(x)
    assert missing(zero) < 1e-3
    if name in GATED:
        dead = zero.diagnostics["absorbed_dead"] + zero.diagnostics["absorbed_stabiliser"]
        assert torch.allclose(zero.completeness.double(), -dead, atol=1e-3 * float(zero.scores.abs().min()))
        assert 0 < gap(zero) < 0.2
    else:
        assert gap(zero) < 0.01
    for composite in ("epsilon-plus-flat", "epsilon-gamma-box"):
        assert missing(METHODS.get("lrp").build(clf, composite=composite).attribute(x)) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("name", [*NAMED, *GATED, *PLAIN])
def test_the_epsilon_rule_balances_in_double_precision(name: str) -> None:
    clf, x = trained_on_noise(name, torch.float64), noise(torch.float64)
    found = METHODS.get("lrp").build(clf, composite="epsilon").attribute(x)
    assert missing(found) < 1e-3
    assert not any("unbalanced" in flags for flags in found.flags)


@pytest.mark.slow
def test_books_that_do_not_balance_are_flagged() -> None:
    """Without biases the epsilon rule divides by sums that the network never saw, and some of them are next to zero."""
    clf, x = trained_on_noise("densenet121", torch.float64), noise(torch.float64)
    found = METHODS.get("lrp").build(clf, composite="epsilon", bias="zero").attribute(x)
    assert missing(found) > 0.01
    assert all("unbalanced" in flags for flags in found.flags)


@pytest.mark.slow
@pytest.mark.parametrize("method", [name for name in DECOMPOSITION if name != "lrp"])
@pytest.mark.parametrize("name", ["resnet18", "densenet121", "convnext_tiny", "mobilenet_v3_small"])
def test_every_decomposition_runs_on_every_kind(name: str, method: str) -> None:
    found = METHODS.get(method)(trained_on_noise(name)).attribute(noise())
    assert found.values.isfinite().all()
    assert not any("constant" in flags or "unbalanced" in flags for flags in found.flags)


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.parametrize("name", ["cifar-resnet20", "cifar-resnet56"])
def test_trained_residual_networks_keep_the_sum(name: str, real_data: Path) -> None:
    weights = real_data / "weights" / f"{name.removeprefix('cifar-')}_cifar10.pth"
    clf = xaikit.load(name, weights=weights, device="cpu")
    x = clf.read(sorted((real_data / "cifar10").glob("*/*.jpg"))[::200][:4])
    found = METHODS.get("lrp").build(clf, composite="epsilon-plus", bias="zero").attribute(x)
    assert gap(found) < 0.01
    assert missing(found) < 1e-3
    assert missing(METHODS.get("lrp")(clf).attribute(x)) < 1e-3


class Normalised(nn.Module):
    """BatchNorm before a ReLU and a convolution, LayerNorm over channels, a group norm, a difference and a quotient."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3, padding=1)
        self.layer, self.group, self.fc = nn.LayerNorm(4), nn.GroupNorm(2, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(F.pad(self.norm(x).relu(), (1, 1, 1, 1), value=0.5))
        x = self.layer(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = self.group(F.gelu(x)) * torch.sigmoid(x) - 0.1 * x
        return self.fc(F.interpolate(x / 2 + 1, scale_factor=2.0).mean((2, 3)))


@pytest.mark.parametrize("composite", ["epsilon", "z-plus", "gamma", "epsilon-alpha2-beta1", "epsilon-plus-flat"])
@pytest.mark.parametrize("bias", ["absorb", "zero"])
def test_the_books_balance_on_what_cannot_be_folded(composite: str, bias: str) -> None:
    clf = bound(Normalised(), mean=[0.5] * 3, std=[0.25] * 3)
    stream = torch.Generator().manual_seed(1)
    for values in (clf.network.norm.running_mean, clf.network.norm.running_var):
        values.copy_(torch.rand(3, generator=stream, dtype=torch.float64) + 0.5)
    found = METHODS.get("lrp").build(clf, composite=composite, bias=bias).attribute(images(), 1)
    assert missing(found) < 1e-9
    assert float(found.values.abs().max()) > 0


class Adding(InPlaceSum):
    def block(self, x: Tensor) -> Tensor:
        return x + self.conv(x)


@pytest.mark.parametrize("name", DECOMPOSITION)
def test_sums_in_place_are_sums(name: str) -> None:
    layer = None if name in TO_THE_IMAGE else "conv"
    found, expected = (
        METHODS.get(name).build(bound(one), layer).attribute(images(), 2) for one in (InPlaceSum(), Adding())
    )
    assert torch.allclose(found.values, expected.values, atol=1e-12)
    assert float(expected.values.abs().max()) > 0


class Attending(nn.Module):
    """A product of two signals that mixes places."""

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(2)
        return (flat @ flat.transpose(1, 2)).flatten(1)[:, :4]


@pytest.mark.parametrize("name", TO_THE_IMAGE)
def test_an_operation_without_a_rule_is_named(name: str) -> None:
    with pytest.raises(BadInput, match="expected operations that have a rule, got matmul"):
        METHODS.get(name)(bound(Attending())).attribute(images(), 1)


@pytest.mark.parametrize("name", [*DECOMPOSITION, "relevance-cam"])
@pytest.mark.parametrize(("last", "called"), [(nn.Softmax(1), "softmax"), (nn.LogSoftmax(1), "log-softmax")])
def test_a_softmax_at_the_end_is_refused_by_name(name: str, last: nn.Module, called: str) -> None:
    clf = Classifier(nn.Sequential(GAPNet(), last).double(), size=8, layer="0.relu")
    with (
        pytest.warns(XaikitWarning, match="already ends in"),
        pytest.raises(BadInput, match=f"expected a network that ends in logits, got one with a {called}; give it with"),
    ):
        METHODS.get(name)(clf).attribute(images(), 1)


@pytest.mark.parametrize("name", TO_THE_IMAGE)
def test_a_network_that_cuts_its_graph_is_refused(name: str) -> None:
    clf = Classifier(networks.seeded(networks.FrozenStem), size=8)
    with pytest.raises(BadInput, match=r"under torch\.no_grad"):
        METHODS.get(name)(clf).attribute(networks.images(), 1)


@pytest.mark.parametrize("name", [name for name in DECOMPOSITION if name not in ("lrp", "rap")])
def test_targets_that_are_no_class_are_refused(name: str) -> None:
    with pytest.raises(BadInput, match="expected a class as target"):
        METHODS.get(name)(bound(GAPNet())).attribute(images(), lambda logits: logits[:, 0])


@pytest.mark.parametrize(
    "params",
    [
        {"epsilon": -1},
        {"epsilon": float("inf")},
        {"alpha": 0.5},
        {"gamma": -0.1},
        {"convolution": "z-box"},
        {"composite": "best"},
    ],
)
def test_parameters_that_do_not_fit_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=r"expected .*, got .*"):
        METHODS.get("lrp").build(bound(GAPNet()), **params)


def test_a_layer_asks_no_rule_of_what_lies_before_it() -> None:
    class Stemmed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            flat = x.flatten(2)
            mixed = torch.einsum("ncp,ndp->ncd", flat, flat).repeat(1, 1, 3)[:, :, None].repeat(1, 1, 9, 1)
            return self.fc(self.conv(mixed).relu().mean((2, 3)))

    clf = bound(Stemmed())
    found = METHODS.get("layer-excitation-backprop")(clf, layer="conv").attribute(images(), 1)
    assert missing(found) < 1e-9
    with pytest.raises(BadInput, match="expected operations that have a rule, got einsum"):
        METHODS.get("excitation-backprop")(clf).attribute(images(), 1)


def test_a_contrast_that_cancels_place_by_place_is_zero_and_flagged() -> None:
    network = bound(ConvolutionalHead()).network.float()
    with torch.no_grad():
        network.features[2].bias += 5
        network.classifier[0].bias += 5
    clf, x = Classifier(network, size=8), images().float()
    contrast = METHODS.get("layer-excitation-backprop").build(clf, variant="contrastive")
    assert [flags & {"constant"} for flags in contrast.attribute(x, 1).flags] == [{"constant"}] * 3
    earlier = METHODS.get("layer-excitation-backprop").build(clf, "features.1", variant="contrastive").attribute(x, 1)
    assert not any(earlier.flags)


def test_a_contrast_of_rounding_is_zero_in_bfloat16_too() -> None:
    network = nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Conv2d(64, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    clf = bound(nn.Sequential(network, nn.Flatten()))
    with torch.no_grad():
        network[0].bias += 3
        network[2].bias += 3
    clf = Classifier(clf.network.float(), size=8, layer="0.1")
    contrast = METHODS.get("layer-excitation-backprop").build(clf, variant="contrastive")
    for context in (Context(), Context(precision="bfloat16")):
        assert not contrast.attribute(images().float(), 1, context=context).values.any()


def test_a_contrast_needs_a_map_after_the_layer() -> None:
    clf = bound(ConvolutionalHead())
    contrast = METHODS.get("layer-excitation-backprop").build(clf, "classifier.0", variant="contrastive")
    with pytest.raises(BadInput, match=r"layer classifier\.0: expected a linear map after it, got none; choose"):
        contrast.attribute(images(), 1)


@pytest.mark.parametrize("name", ["relevance-cam", "layer-excitation-backprop"])
def test_a_relevance_pass_to_a_layer_takes_one_forward(name: str) -> None:
    context = Context()
    METHODS.get(name)(bound(GAPNet())).attribute(images(), 1, context=context)
    assert (context.counters.forwards, context.counters.backwards) == (3, 3)


def test_constants_are_no_bypass() -> None:
    class Moved(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)
            self.shift, self.scale = nn.Parameter(torch.ones(1, 4, 1, 1)), nn.Parameter(torch.ones(4))

        def forward(self, x: Tensor) -> Tensor:
            moved = self.conv(x) * self.scale.view(1, -1, 1, 1) + self.shift.expand(len(x), -1, 6, 6)
            return self.fc(moved.relu().mean((2, 3)))

    found = METHODS.get("layer-excitation-backprop").build(bound(Moved()), "conv").attribute(images(1), 1)
    assert not found.diagnostics["absorbed_bypass"].any()
    assert missing(found) < 1e-9


class Normalising(nn.Module):
    """A network that normalises its images itself."""

    def __init__(self, network: nn.Module, how: str) -> None:
        super().__init__()
        self.network, self.how = network, how
        self.mean, self.std = (torch.tensor(one, dtype=torch.float64).reshape(3, 1, 1) for one in (MEAN, STD))

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "transform":
            return self.network(torchvision.transforms.functional.normalize(x, MEAN, STD))
        return self.network((x - self.mean) / self.std if self.how == "division" else (x - self.mean) * (1 / self.std))


MEAN, STD = [0.375, 0.5, 0.625], [0.125, 0.25, 0.5]


@pytest.mark.parametrize("how", ["division", "product", "transform"])
@pytest.mark.parametrize(
    ("name", "params"),
    [
        *((name, {}) for name in TO_THE_IMAGE),
        *(("lrp", {"composite": one}) for one in ("epsilon", "z-plus", "epsilon-alpha2-beta1", "gamma")),
        ("lrp", {"first": "w-squared", "bias": "zero"}),
    ],
)
def test_it_does_not_matter_where_images_are_normalised(how: str, name: str, params: dict[str, Any]) -> None:
    outside = bound(DeepNet(), seed=5, mean=MEAN, std=STD)
    inside = Classifier(Normalising(outside.network, how), size=8)
    found, expected = (METHODS.get(name).build(clf, **params).attribute(images(), 1) for clf in (inside, outside))
    assert torch.allclose(found.values, expected.values, rtol=1e-8, atol=1e-12)
    assert missing(found) < 1e-3 or float(found.diagnostics["promised"].abs().max()) < 1e-9


@pytest.mark.parametrize("how", ["division", "product", "transform"])
def test_z_box_is_refused_where_the_network_normalises(how: str) -> None:
    clf = Classifier(Normalising(bound(DeepNet()).network, how), size=8)
    with pytest.raises(BadInput, match="z-box: expected a network that is given normalised images, got one that norm"):
        METHODS.get("lrp").build(clf, composite="epsilon-gamma-box").attribute(images(), 1)
    METHODS.get("lrp").build(clf, composite="epsilon-gamma-box", first="flat").attribute(images(), 1)


class After(nn.Module):
    """GAPNet and something after it."""

    def __init__(self, after: Any, classes: int = 4) -> None:
        super().__init__()
        self.body, self.side, self.aux = GAPNet(classes), nn.Conv2d(3, 2, 3), nn.Linear(classes, 2)
        self.after = after

    def forward(self, x: Tensor) -> Any:
        return self.after(self, x)


def plain(net: After, x: Tensor) -> Tensor:
    return net.body(x)


COMPOSITES = ("epsilon-plus", "z-plus", "epsilon-alpha2-beta1", "epsilon-plus-flat", "gamma")


@pytest.mark.parametrize("composite", COMPOSITES)
@pytest.mark.parametrize(
    "after",
    [
        lambda net, x: net.body(x) + 0.0,
        lambda net, x: sum([net.body(x)]),
        lambda net, x: 0.0 - (0.0 - net.body(x)),
    ],
    ids=["plus nothing", "sum of one", "twice from nothing"],
)
def test_a_constant_takes_its_share_and_no_more(after: Any, composite: str) -> None:
    found, expected = (
        METHODS.get("lrp").build(bound(After(one)), composite=composite).attribute(images()) for one in (after, plain)
    )
    assert torch.allclose(found.values, expected.values, rtol=1e-4, atol=1e-12)
    shifted = METHODS.get("lrp").build(bound(After(lambda net, x: net.body(x) + 0.3)), composite=composite)
    assert missing(shifted.attribute(images(), 1)) < 1e-9


SIDES = {
    "two heads": lambda net, x: (z := net.body(x), net.aux(z)),
    "a map that leads nowhere": lambda net, x: (net.side(x), net.body(x))[1],
}


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("contrastive-lrp", {"opposite": "weights"}),
        ("excitation-backprop", {"variant": "contrastive"}),
        ("rap", {}),
        ("lrp", {"composite": "epsilon-plus-flat"}),
        ("lrp", {"composite": "epsilon-gamma-box"}),
    ],
)
def test_first_and_last_are_those_that_the_score_depends_on(name: str, params: dict[str, Any], side: str) -> None:
    select = 0 if side == "two heads" else None
    found, expected = (
        METHODS.get(name).build(bound(After(one), select=chosen), **params).attribute(images(), 1)
        for one, chosen in ((SIDES[side], select), (plain, None))
    )
    assert torch.equal(found.values, expected.values)


@pytest.mark.parametrize("name", ["excitation-backprop", "contrastive-lrp", "softmax-gradient-lrp", "lrp", "rap"])
def test_one_logit_is_two_classes_with_opposite_weights(name: str) -> None:
    class Both(GAPNet):
        def forward(self, x: Tensor) -> Tensor:
            features = self.relu(self.conv2(F.relu(self.conv1(x)))).mean((2, 3))
            return F.linear(
                features, torch.cat([-self.fc.weight, self.fc.weight]), torch.cat([-self.fc.bias, self.fc.bias])
            )

    one, two = bound(GAPNet(1), seed=4), bound(Both(1), seed=4, output="sigmoid")
    weights = one.network.fc.weight.detach()
    assert float(weights.min()) < 0 < float(weights.max())
    for target in (0, 1):
        found = METHODS.get(name).build(one).attribute(images(), target)
        assert float(found.values.abs().max()) > 0
        if name != "softmax-gradient-lrp":
            expected = METHODS.get(name).build(two).attribute(images(), target)
            assert torch.allclose(found.values, expected.values, atol=1e-12)
        else:
            share = torch.sigmoid(one(images())[:, target].double())
            assert torch.allclose(found.diagnostics["promised"], torch.zeros(3, dtype=torch.float64), atol=1e-12)
            assert bool((found.values.abs().amax((1, 2)) < 2 * share * (1 - share)).all())


def test_relevance_cam_tells_the_classes_of_one_logit_apart() -> None:
    zero, one = (METHODS.get("relevance-cam").build(bound(GAPNet(1))).attribute(images(), target) for target in (0, 1))
    assert not torch.allclose(zero.values, one.values)
    with pytest.raises(BadInput, match="relevance-cam: expected a class as target"):
        METHODS.get("relevance-cam").build(bound(GAPNet())).attribute(images(), xaikit.Contrast(0, 1))


@pytest.mark.parametrize(
    ("name", "params"), [("rap", {}), ("lrp", {"composite": "epsilon-gamma-box"}), ("lrp", {"first": "z-box"})]
)
def test_a_box_reaches_through_the_flattening(name: str, params: dict[str, Any]) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 10), nn.ReLU(), nn.Linear(10, 4))
    found = METHODS.get(name).build(bound(network), **params).attribute(images(), 1)
    assert missing(found) < 1e-9


def test_a_box_on_something_else_than_the_image_is_refused() -> None:
    def grey(net: nn.Module, x: Tensor) -> Tensor:
        return net[1](x.mean(1, keepdim=True).expand(-1, 2, -1, -1).contiguous())

    network = nn.Sequential(
        nn.Conv2d(3, 3, 1), nn.Sequential(nn.Conv2d(2, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    )
    network.forward = lambda x: grey(network, x)  # type: ignore[method-assign]
    with pytest.raises(BadInput, match=r"z-box: expected a first map that reads the image's 3 channels, got inputs"):
        METHODS.get("lrp").build(bound(network), first="z-box").attribute(images(), 1)


def test_a_handwritten_function_is_refused() -> None:
    class Swish(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x * torch.sigmoid(x)

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            return gradient

    network = After(lambda net, x: net.body(Swish.apply(net.side(x)).sum(1, keepdim=True).expand(-1, 3, -1, -1)))
    with pytest.raises(BadInput, match=r"got the autograd\.Function Swish; use another method"):
        METHODS.get("lrp").build(bound(network)).attribute(images(), 1)


def test_a_sigmoid_at_the_end_is_undone() -> None:
    with pytest.warns(XaikitWarning, match="its inverse is explained"):
        found = METHODS.get("lrp").build(bound(After(lambda net, x: torch.sigmoid(net.body(x))))).attribute(images(), 1)
    expected = METHODS.get("lrp").build(bound(After(plain), output="sigmoid")).attribute(images(), 1)
    assert torch.allclose(found.values, expected.values, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("pool", [nn.MaxPool2d(2, dilation=2), nn.AdaptiveMaxPool2d(4, return_indices=True)])
def test_max_pooling_that_is_no_mean_of_windows_is_refused_as_one(pool: nn.Module) -> None:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.pool, self.fc = nn.Conv2d(3, 4, 3), pool, nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            pooled = self.pool(self.conv(x))
            return self.fc((pooled[0] if isinstance(pooled, tuple) else pooled).mean((2, 3)))

    clf = bound(Pooled())
    with pytest.raises(BadInput, match="max_pool: expected windows without dilation and indices for 'mean'"):
        METHODS.get("lrp").build(clf, max_pool="mean").attribute(images())
    assert METHODS.get("lrp")(clf).attribute(images()).values.isfinite().all()


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("lrp", {"max_pool": "sum"}, "max_pool"),
        ("rap", {"dense": "theirs"}, "dense"),
        ("layer-excitation-backprop", {"variant": "opposite"}, "variant"),
    ],
)
def test_a_form_that_does_not_exist_is_refused(name: str, params: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        METHODS.get(name).build(bound(GAPNet()), **params)


class Written(nn.Module):
    """Two convolutions, and how the second takes the first."""

    def __init__(self, between: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv1, self.side, self.conv2 = nn.Conv2d(3, 4, 2, 2), nn.Conv2d(3, 4, 2, 2), nn.Conv2d(4, 4, 3, padding=1)
        self.fc, self.between = nn.Linear(4, 4), between

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.conv2(self.between(F.relu(self.conv1(x)), self.side(x)))).mean((2, 3)))


def enlarged(x: Tensor, **options) -> Tensor:
    """Bicubic interpolation as the matrix product that it is."""
    height, width = x.shape[2:]
    cells = torch.eye(height * width, dtype=x.dtype).reshape(-1, 1, height, width)
    matrix = F.interpolate(cells, mode="bicubic", **options)
    return (x.flatten(2) @ matrix.flatten(1)).reshape(*x.shape[:2], *matrix.shape[2:])


WAYS = {
    "rsub": (lambda a, b: b - 3 * a, lambda a, b: torch.rsub(a, b, alpha=3)),
    "sub": (lambda a, b: a - 3 * b, lambda a, b: torch.sub(a, b, alpha=3)),
    "rsub of a constant": (lambda a, b: 2 - 3 * a, lambda a, b: torch.rsub(a, torch.full_like(a, 2), alpha=3)),
    "bicubic": (lambda a, b: enlarged(a, scale_factor=2), lambda a, b: F.interpolate(a, None, 2, "bicubic")),
    "bicubic to a size": (
        lambda a, b: enlarged(a, size=(7, 5), align_corners=True),
        lambda a, b: F.interpolate(a, size=(7, 5), mode="bicubic", align_corners=True),
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("method", ["lrp", "rap", "excitation-backprop"])
def test_two_ways_to_write_an_operation_have_one_map(method: str, way: str) -> None:
    first, second = (METHODS.get(method)(Classifier(Written(each).double(), size=8)) for each in WAYS[way])
    expected, found = (each.attribute(images(2), 1).values for each in (first, second))
    assert torch.allclose(found, expected, rtol=0, atol=1e-9 * float(expected.abs().max()))
