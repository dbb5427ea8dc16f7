"""Relevance follows values: one function has one map, in whatever form it is written."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.networks import bound, images
from xaikit.foundation.errors import BadInput
from xaikit.methods.activation import full_grad
from xaikit.methods.base import METHODS
from xaikit.methods.gradient import completeness
from xaikit.run.attribution import Attribution

METHODS_TO_COMPARE: list[tuple[str, dict[str, Any]]] = [
    ("lrp", {}),
    ("lrp", {"composite": "epsilon"}),
    ("lrp", {"composite": "epsilon-gamma-box"}),
    ("lrp", {"composite": "epsilon-alpha2-beta1", "bias": "zero"}),
    ("rap", {}),
    ("contrastive-lrp", {}),
    ("excitation-backprop", {}),
    ("relevance-cam", {}),
    ("layer-excitation-backprop", {}),
]
FEW = [METHODS_TO_COMPARE[index] for index in (0, 4, 7)]


def methods_for(form: str, *thorough: str) -> list[tuple[str, dict[str, Any]]]:
    """Return all methods to compare for the thorough forms, and three of them for the others."""
    return METHODS_TO_COMPARE if form in thorough else FEW


class Written(nn.Module):
    """Two convolutions with a function between them, which may use a channel gate and a gate of each position."""

    def __init__(self, between: Callable[[Written, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 5, 3, padding=1)
        self.squeeze, self.spread, self.fc = nn.Linear(4, 3), nn.Linear(3, 4), nn.Linear(5, 4)
        self.local = nn.Conv2d(4, 4, 3, padding=1)
        self.between = between

    def gate(self, x: Tensor) -> Tensor:
        return self.spread(F.relu(self.squeeze(x.mean((2, 3)))))[:, :, None, None]

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.conv2(self.between(self, F.relu(self.conv1(x))))).mean((2, 3)))


def explained(
    between: Callable[[Written, Tensor], Tensor], name: str, params: dict[str, Any], count: int = 3, index: int = 1
) -> Attribution:
    layer = "conv1" if name in ("relevance-cam", "layer-excitation-backprop") else None
    return METHODS.get(name).build(bound(Written(between), seed=3), layer, **params).attribute(images(count), index)


def assert_same_map(
    form: Callable[[Written, Tensor], Tensor],
    plain: Callable[[Written, Tensor], Tensor],
    methods: list[tuple[str, dict[str, Any]]],
) -> None:
    x = images().double()
    assert torch.allclose(bound(Written(form), seed=3)(x), bound(Written(plain), seed=3)(x), atol=1e-10)
    for name, params in methods:
        found, expected = (explained(between, name, params) for between in (form, plain))
        scale = float(expected.values.abs().max())
        assert scale > 0
        assert torch.allclose(found.values, expected.values, rtol=0, atol=1e-7 * scale), name
        assert found.flags == expected.flags
    alone = explained(form, *methods[0], 1)
    expected = explained(form, *methods[0])
    assert torch.allclose(alone.values, expected.values[:1], rtol=0, atol=1e-9 * float(expected.values.abs().max()))


GATES: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "hard sigmoid written out": lambda y: F.relu6(y + 3) / 6,
    "sigmoid written out": lambda y: 1 / (1 + torch.exp(-y)),
    "one plus tanh": lambda y: 1 + torch.tanh(y),
    "relu": F.relu,
    "in place": lambda y: F.hardsigmoid(y.clone(), inplace=True),
    "method in place": lambda y: y.clone().sigmoid_(),
    "without a rule": lambda y: 1 + torch.erf(y),
}


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.slow
def test_a_gate_is_a_constant_whatever_it_computes(gate: str) -> None:
    """The right value: the same product with the gate cut out of the graph."""
    function = GATES[gate]
    assert_same_map(
        lambda net, x: x * function(net.gate(x)).expand_as(x),
        lambda net, x: x * function(net.gate(x)).detach(),
        methods_for(gate, "sigmoid", "without a rule"),
    )
    assert_same_map(lambda net, x: function(net.local(x)) * x, lambda net, x: x * function(net.local(x)).detach(), FEW)


SPREAD: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "expand": lambda y, x: y.expand(-1, -1, *x.shape[2:]),
    "repeat": lambda y, x: y.repeat(1, 1, *x.shape[2:]),
    "tile": lambda y, x: torch.tile(y, (1, 1, *x.shape[2:])),
    "broadcast_to": lambda y, x: torch.broadcast_to(y, x.shape),
    "repeat_interleave": lambda y, x: y.repeat_interleave(x.shape[2], 2).repeat_interleave(x.shape[3], 3),
    "interpolate": lambda y, x: F.interpolate(y, size=x.shape[2:]),
    "bilinear": lambda y, x: F.interpolate(y, size=x.shape[2:], mode="bilinear"),
    "cat": lambda y, x: torch.cat([torch.cat([y] * x.shape[2], 2)] * x.shape[3], 3),
    "permute": lambda y, x: y.permute(0, 2, 3, 1).expand(-1, *x.shape[2:], -1).permute(0, 3, 1, 2).contiguous(),
    "times ones": lambda y, x: y * torch.ones_like(x),
    "plus zeros": lambda y, x: y + torch.zeros_like(x),
    "index": lambda y, x: y[:, :, torch.zeros(x.shape[2], dtype=torch.long)].expand_as(x),
    "float and back": lambda y, x: y.float().expand_as(x).double(),
}


@pytest.mark.parametrize("spread", SPREAD)
@pytest.mark.slow
def test_a_gate_is_a_constant_however_it_is_spread(spread: str) -> None:
    def gated(net: Written, x: Tensor) -> Tensor:
        return x * SPREAD[spread](net.gate(x).sigmoid(), x)

    assert_same_map(gated, lambda net, x: x * SPREAD[spread](net.gate(x).sigmoid(), x).detach(), FEW)
    if spread != "float and back":
        assert_same_map(gated, lambda net, x: x * net.gate(x).sigmoid(), [("deep-lift", {})])


def test_a_gate_made_by_another_branch_is_bounded_or_smaller() -> None:
    """The gate does not depend on the signal: both come from the image side by side."""

    def bounded(net: Written, x: Tensor) -> Tensor:
        return F.relu(net.local(x)) * torch.sigmoid(net.local(x.flip(-1)) * 2)

    def smaller(net: Written, x: Tensor) -> Tensor:
        return F.relu(1 + net.gate(x.flip(-1)).expand_as(x)) * F.relu(net.local(x))

    def bounded_and_cut(net: Written, x: Tensor) -> Tensor:
        return F.relu(net.local(x)) * torch.sigmoid(net.local(x.flip(-1)) * 2).detach()

    assert_same_map(bounded, bounded_and_cut, FEW)
    assert_same_map(smaller, lambda net, x: F.relu(1 + net.gate(x.flip(-1))).detach() * F.relu(net.local(x)), FEW)


def test_two_signals_get_half_each() -> None:
    def both(net: Written, x: Tensor) -> Tensor:
        first, second = net.local(x).chunk(2, 1)
        return torch.cat([first * second, first * second], 1)

    def halves(net: Written, x: Tensor) -> Tensor:
        first, second = net.local(x).chunk(2, 1)
        return torch.cat([first * second.detach(), first.detach() * second], 1)

    for name, params in METHODS_TO_COMPARE:
        if name not in ("rap", "lrp"):
            found, expected = (explained(between, name, params).values for between in (both, halves))
            assert not torch.allclose(found, expected)
    clf = bound(Product(), seed=1)
    found = METHODS.get("lrp").build(clf, composite="epsilon", channels=True).attribute(images())
    assert torch.allclose(found.values[:, 0], found.values[:, 1], rtol=1e-6)
    assert not found.values[:, 2].any()


class Product(nn.Module):
    """The product of two channels of the image, in a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        first, second, _ = x.unbind(1)
        return self.fc((first * second).flatten(1))


ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "relu by comparison": (F.relu, lambda x: x * (x > 0)),
    "relu by a float mask": (F.relu, lambda x: (x > 0).double() * x),
    "silu": (F.silu, lambda x: x * torch.sigmoid(x)),
    "silu as a quotient": (F.silu, lambda x: x / (1 + torch.exp(-x))),
    "silu of a view": (F.silu, lambda x: (x.flatten(2) * torch.sigmoid(x).flatten(2)).view_as(x)),
    "hard swish": (F.hardswish, lambda x: x * F.relu6(x + 3) / 6),
    "hard swish by clamp": (F.hardswish, lambda x: x * ((x + 3).clamp(0, 6) / 6)),
    "gelu": (F.gelu, lambda x: x * 0.5 * (1 + torch.erf(x / 2**0.5))),
    "gelu, half first": (F.gelu, lambda x: 0.5 * x * (1 + torch.erf(x * 0.5**0.5))),
    "gelu by tanh": (
        lambda x: F.gelu(x, approximate="tanh"),
        lambda x: 0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x * x * x))),
    ),
    "mish": (F.mish, lambda x: x * torch.tanh(F.softplus(x))),
    "quick gelu": (lambda x: x * torch.sigmoid(1.702 * x).detach(), lambda x: x * torch.sigmoid(1.702 * x)),
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.slow
def test_an_activation_written_out_passes_relevance_on(activation: str) -> None:
    named, written = ACTIVATIONS[activation]
    methods = methods_for(activation, "silu", "gelu by tanh")
    assert_same_map(lambda net, x: written(net.local(x)), lambda net, x: named(net.local(x)), methods)


def test_an_activation_without_a_rule_is_refused_by_name() -> None:
    for name, params in FEW:
        with pytest.raises(BadInput, match="expected operations that have a rule, got where"):
            explained(lambda net, x: torch.where(x > 0.1, net.local(x), 0.1 * x), name, params)
        with pytest.raises(BadInput, match="expected operations that have a rule, got sin_"):
            explained(lambda net, x: _first_channels_in_place(net.local(x)), name, params)


def _first_channels_in_place(x: Tensor) -> Tensor:
    x = x.clone()
    x[:, :2].sin_()
    return x


class Constants(nn.Module):
    """A network that adds or multiplies what does not depend on the image."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.conv1, self.conv2, self.fc = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 4)
        self.channel = nn.Parameter(torch.randn(1, 4, 1, 1))
        self.classes = nn.Parameter(torch.randn(1, 4))
        self.register_buffer("mask", (torch.arange(36).reshape(1, 1, 6, 6) % 3 > 0).double())
        self.rows = torch.linspace(0, 1, 12, dtype=torch.float64).reshape(3, 4, 1, 1)
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x))
        if self.how == "exponential":
            x = x + self.channel.exp()
        if self.how == "buffer":
            x = x * (1 - self.mask)
        if self.how == "rows":
            x = x + 2 * self.rows[: len(x)]
        if self.how == "winners":
            x = x * (x >= x.flatten(1).median(1).values[:, None, None, None])
        if self.how == "random":
            x = x * torch.rand(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype).round()
        x = self.fc(F.relu(self.conv2(x)).mean((2, 3)))
        return {"temperature": x * self.classes.exp(), "prior": x + self.classes.log_softmax(1)}.get(self.how, x)


@pytest.mark.filterwarnings("ignore:.* mixes the images of a batch")  # a constant with a row for each image
@pytest.mark.parametrize("how", ["exponential", "buffer", "rows", "winners", "random", "temperature", "prior"])
@pytest.mark.parametrize("name", ["relevance-cam", "layer-excitation-backprop"])
def test_a_constant_bypasses_no_layer(name: str, how: str) -> None:
    """Whatever does not depend on the image absorbs nothing, in a batch of one as in a batch of its own length."""
    method = METHODS.get(name).build(bound(Constants(how), seed=2), "conv1")
    together = method.attribute(images(), 1)
    assert not together.diagnostics["absorbed_bypass"].any()
    total = sum(amount for key, amount in together.diagnostics.items() if key.startswith("absorbed_"))
    if name == "layer-excitation-backprop":
        assert torch.allclose(together.values.sum((1, 2)).double() + total, torch.ones(3).double())
    if how not in ("rows", "random"):
        for image, values in zip(images(), together.values, strict=True):
            alone = method.attribute(image[None], 1)
            assert torch.allclose(alone.values[0], values, rtol=0, atol=1e-9 * float(values.abs().max()))


class Unregistered(nn.Module):
    """A network with weights that no module holds, which keep their own gradient, or the same as buffers."""

    def __init__(self, how: str, *, gradient: bool) -> None:
        super().__init__()
        stream = torch.Generator().manual_seed(0)
        self.conv1, self.conv2, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 5, 3, padding=1), nn.Linear(5, 4)
        self.values = torch.rand(1, 4, 8, 8, generator=stream, dtype=torch.float64).requires_grad_(gradient)
        self.weight = torch.rand(4, 4, 3, 3, generator=stream, dtype=torch.float64).requires_grad_(gradient)
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x))
        self.values.data = self.values.data.clamp(0.2, 0.8)
        values = self.values.mT.tanh().exp()
        if self.how == "cat":
            x = torch.cat([x[:, :2], values[:, :2].expand(len(x), -1, -1, -1)], 1)
        else:
            x = {"sum": lambda: x + values, "product": lambda: x * values}.get(
                self.how, lambda: F.conv2d(x, self.weight, padding=1)
            )()
        return self.fc(F.relu(self.conv2(x)).mean((2, 3)))


@pytest.mark.parametrize("how", ["sum", "product", "convolution", "cat"])
def test_a_weight_that_no_module_holds_is_a_constant(how: str) -> None:
    for name in ("lrp", "rap", "layer-excitation-backprop", "deep-lift"):
        layer = "conv1" if name == "layer-excitation-backprop" else None
        found, expected = (
            METHODS.get(name).build(bound(Unregistered(how, gradient=own), seed=1), layer).attribute(images(), 1)
            for own in (True, False)
        )
        assert torch.equal(found.values, expected.values)
        assert found.flags == expected.flags


class Skips(nn.Module):
    """A branch around `conv2` that joins in many ways."""

    def __init__(self, join: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.fc, self.join = nn.LazyLinear(4), join
        self.fc(self.body(torch.zeros(1, 3, 8, 8)))

    def body(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x))
        return self.join(F.relu(self.conv2(x)), x).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(x))


SKIPS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sum": lambda y, x: y + x,
    "sum of flat values": lambda y, x: y.flatten(1) + x.flatten(1),
    "sum of one row": lambda y, x: y + x[:, :, :1],
    "cat": lambda y, x: torch.cat([x, y], 1),
    "stack": lambda y, x: torch.stack([x, y], 2),
    "padded channels": lambda y, x: y + F.pad(x[:, :2], (0, 0, 0, 0, 1, 1)),
    "statement": lambda y, x: _written_into(x, y),
}


def _written_into(x: Tensor, y: Tensor) -> Tensor:
    joined = x.clone()
    joined[:, 1:3] = y[:, 1:3]
    return joined


@pytest.mark.parametrize("skip", SKIPS)
def test_what_bypasses_a_layer_is_recorded(skip: str) -> None:
    """The share that bypasses is what arrives at the skipped value when the layer's own branch gets nothing."""
    clf = bound(Skips(SKIPS[skip]), seed=3)
    for count in (3, 1):
        found = METHODS.get("layer-excitation-backprop").build(clf, "conv2").attribute(images(count), 1)
        bypass = found.diagnostics["absorbed_bypass"]
        dead = found.diagnostics["absorbed_dead"]
        assert bool((bypass > 0.01).all())
        assert bool((bypass < 0.99).all())
        assert torch.allclose(found.values.sum((1, 2)).double() + bypass + dead, torch.ones(count).double())
        assert not any(found.flags)
    together = METHODS.get("relevance-cam").build(clf, "conv2").attribute(images(), 1).values
    alone = METHODS.get("relevance-cam").build(clf, "conv2").attribute(images(1), 1).values
    assert torch.allclose(alone, together[:1], rtol=0, atol=1e-9 * float(together.abs().max()))


def test_a_layer_beside_the_score_gets_nothing() -> None:
    clf = bound(Sided(lambda net, x: (net.fc(net.features(x)), net.side(x).mean((2, 3)))), seed=1)
    found = METHODS.get("layer-excitation-backprop").build(clf, "side").attribute(images(), 1)
    assert not found.values.any()
    assert torch.allclose(found.diagnostics["absorbed_bypass"], torch.ones(3).double())
    assert found.flags == [{"constant"}] * 3


def test_a_stem_without_a_graph_is_flagged() -> None:
    class Frozen(Skips):
        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                x = F.relu(self.conv1(x))
            return self.fc((x + F.relu(self.conv2(x))).flatten(1))

    for network, flags in ((Frozen(SKIPS["sum"]), {"stem-without-graph"}), (Skips(SKIPS["sum"]), set())):
        for name in ("relevance-cam", "layer-excitation-backprop"):
            assert METHODS.get(name).build(bound(network), "conv2").attribute(images(), 1).flags == [flags] * 3


class Sided(nn.Module):
    """A classifier with further branches."""

    def __init__(self, heads: Callable[[Sided, Tensor], Any]) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 5, 3, padding=1)
        self.fc, self.side, self.aux = nn.Linear(5, 4), nn.Conv2d(3, 2, 3), nn.Linear(5, 3)
        self.heads = heads

    def features(self, x: Tensor) -> Tensor:
        return F.relu(self.conv2(F.relu(self.conv1(x)))).mean((2, 3))

    def forward(self, x: Tensor) -> Any:
        return self.heads(self, x)


def _alone(net: Sided, x: Tensor) -> Any:
    return net.fc(net.features(x))


def _beside(other: Callable[[Sided, Tensor], Any]) -> Callable[[Sided, Tensor], Any]:
    def heads(net: Sided, x: Tensor) -> Any:
        features = net.features(x)
        return net.fc(features), other(net, features)

    return heads


BESIDE: dict[str, Callable[[Sided, Tensor], Any]] = {
    "normalize": lambda net, v: F.normalize(net.aux(v)),
    "einsum": lambda net, v: torch.einsum("ni,nj->nij", v, v),
    "sort": lambda net, v: torch.sort(v, 1),
    "where": lambda net, v: torch.where(v > 0.1, v, 2 * v),
    "in place": lambda net, v: net.aux(v).sin_(),
    "maximum of two": lambda net, v: torch.logaddexp(v, 2 * v),
    "dilated max pooling": lambda net, v: F.max_pool1d(v[:, None], 2, dilation=2),
    "amax of the batch": lambda net, v: v.amax(),
}
BESIDE_METHODS = [
    "lrp",
    "rap",
    "excitation-backprop",
    "contrastive-lrp",
    "softmax-gradient-lrp",
    "relevance-cam",
    "layer-excitation-backprop",
    "deep-lift",
    "deep-lift-shap",
]


@pytest.mark.parametrize(
    ("name", "beside"),
    [
        *((name, "normalize") for name in BESIDE_METHODS),
        *((name, one) for name in ("lrp", "deep-lift") for one in BESIDE),
    ],
)
def test_an_operation_beside_the_score_needs_no_rule(name: str, beside: str) -> None:
    layer = "conv1" if name in ("relevance-cam", "layer-excitation-backprop") else None
    found, expected = (
        METHODS.get(name).build(bound(Sided(heads), seed=1), layer).attribute(images(), 1)
        for heads in (_beside(BESIDE[beside]), _alone)
    )
    assert torch.equal(found.values, expected.values)
    assert found.flags == expected.flags


@pytest.mark.parametrize(("name", "operation"), [("lrp", "cosine_similarity"), ("deep-lift", "cosine_similarity")])
def test_an_operation_is_refused_where_relevance_arrives(name: str, operation: str) -> None:
    def heads(net: Sided, x: Tensor) -> Tensor:
        features = net.features(x)
        return torch.cat([net.fc(features), F.cosine_similarity(features, features.flip(1))[:, None]], 1)

    method = METHODS.get(name).build(bound(Sided(heads), seed=1))
    expected = METHODS.get(name).build(bound(Sided(_alone), seed=1)).attribute(images(), 1)
    assert torch.allclose(method.attribute(images(), 1).values, expected.values, rtol=1e-5)
    with pytest.raises(BadInput, match=f"with a rule, got {operation}|that have a rule, got {operation}"):
        method.attribute(images(), 4)


def test_relevance_that_is_lost_is_flagged() -> None:
    network = Sided(_alone)
    clf = bound(network, seed=1)
    with torch.no_grad():
        for layer in (network.conv1, network.conv2, network.fc):
            layer.bias.zero_()
    assert not any(METHODS.get("lrp")(clf).attribute(images(), 1).flags)
    with torch.no_grad():
        network.conv2.bias.fill_(50.0)
    found = METHODS.get("lrp")(clf).attribute(images(), 1)
    assert bool((found.diagnostics["absorbed_bias"].abs() > 0.9 * found.scores.abs()).all())
    assert found.flags == [{"relevance-lost"}] * 3
    assert not any(METHODS.get("lrp").build(clf, bias="zero").attribute(images(), 1).flags)
    with torch.no_grad():
        network.conv2.weight.copy_(-network.conv2.weight.abs())
    walk = METHODS.get("excitation-backprop")(clf).attribute(images(), 1)
    assert torch.allclose(walk.diagnostics["absorbed_dead"], torch.ones(3).double())
    assert all("relevance-lost" in flags for flags in walk.flags)


@pytest.mark.parametrize("activation", [F.relu, lambda x: F.leaky_relu(x, 0.2), F.silu, lambda x: F.relu6(9 * x)])
def test_full_grad_flags_what_its_sum_misses(
    activation: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    clf = bound(Sided(lambda net, x: net.fc(activation(net.conv2(activation(net.conv1(x)))).mean((2, 3)))), seed=1)
    assert METHODS.get("full-grad")(clf).attribute(images(), 1).flags == [set()] * 3
    monkeypatch.setattr(full_grad, "implicit_bias", lambda function, args, kwargs: None)  # as of an unknown call
    found = METHODS.get("full-grad")(clf).attribute(images(), 1)
    smooth = float(activation(torch.tensor(1.0))) != 1
    assert found.flags == [{"incomplete"} if smooth else set()] * 3
    assert bool(((found.completeness / found.scores).abs() >= 0.01).all()) == smooth


def test_deep_lift_flags_gaps_of_scores_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    def scaled(scale: float) -> list[set[str]]:
        clf = bound(Sided(lambda net, x: scale * _alone(net, x)), seed=1)
        return METHODS.get("deep-lift")(clf).attribute(images(), 1).flags

    assert scaled(1.0) == scaled(1e-9) == [set()] * 3
    monkeypatch.setattr(completeness, "_LARGEST_GAP", -1.0)
    assert scaled(1.0) == scaled(1e-9) == [{"incomplete"}] * 3


def _alive() -> int:
    gc.collect()
    return sum(type(thing).__name__ == "_CarryBackward" for thing in gc.get_objects())


@pytest.mark.slow
def test_no_graph_outlives_its_pass() -> None:
    """The nodes of the graph refer to the engine, so the engine must not refer to them."""
    clf = bound(Skips(SKIPS["sum"]), seed=3)
    before = _alive()
    for name in ("lrp", "relevance-cam", "deep-lift"):
        METHODS.get(name).build(clf, "conv2" if name == "relevance-cam" else None).attribute(images(), 1)
    assert _alive() == before
