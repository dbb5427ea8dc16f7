"""One function has one map: BatchNorm and other constants count as part of the map before them, however written."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from tests.methods.replicas.decomposition import COMPOSITES, Dense, as_matrix, carried
from tests.networks import images
from xaikit.foundation.errors import BadInput
from xaikit.methods.base import METHODS, LayerMethod
from xaikit.model.classifier import Classifier
from xaikit.run.attribution import Attribution

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def seeded(network: nn.Module, seed: int = 0) -> nn.Module:
    """Return the network in eval mode and float64 with seeded weights; BatchNorms have factors of both signs."""
    network, stream = network.double().eval(), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            scale = 1.0 / max(1, parameter[0].numel()) ** 0.5 if parameter.ndim > 1 else 0.3
            parameter.copy_(torch.randn(parameter.shape, generator=stream, dtype=torch.float64) * scale)
        for norm in (module for module in network.modules() if isinstance(module, NORMS)):
            norm.weight.copy_(torch.randn(norm.weight.shape, generator=stream, dtype=torch.float64))
            norm.running_mean.copy_(torch.randn(norm.weight.shape, generator=stream, dtype=torch.float64) * 0.3)
            norm.running_var.copy_(torch.rand(norm.weight.shape, generator=stream, dtype=torch.float64) + 0.3)
    return network


class Normed(nn.Module):
    """BatchNorm after a convolution, after one with groups and after a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1, self.act1 = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU()
        self.conv2, self.norm2 = nn.Conv2d(6, 4, 3, stride=2, padding=1, groups=2), nn.BatchNorm2d(4)
        self.linear, self.norm3, self.head = nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act1(self.norm1(self.conv1(x)))
        x = F.relu(self.norm2(self.conv2(x))).mean((2, 3))
        return self.head(F.relu(self.norm3(self.linear(x))))


class Called(nn.Module):
    """A module computed by a function."""

    def __init__(self, inner: nn.Module, function: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.inner, self.function = inner, function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.inner, x)


def rewritten(
    network: nn.Module,
    conv: Callable[[Any], nn.Module] | None = None,
    norm: Callable[[Any], nn.Module] | None = None,
    linear: Callable[[Any], nn.Module] | None = None,
) -> nn.Module:
    """Return a copy of the network with some of its modules replaced."""
    network = copy.deepcopy(network)
    for kinds, replacement in ((nn.Conv2d, conv), (NORMS, norm), (nn.Linear, linear)):
        for name, module in list(network.named_children()) if replacement else []:
            if isinstance(module, kinds):
                setattr(network, name, replacement(module))
    return network


def folded(network: nn.Module) -> nn.Module:
    """Return the network with the BatchNorms folded into the weights by torch's own functions."""
    network = copy.deepcopy(network)
    network.conv1 = fuse_conv_bn_eval(network.conv1, network.norm1)
    network.conv2 = fuse_conv_bn_eval(network.conv2, network.norm2)
    network.linear = fuse_linear_bn_eval(network.linear, network.norm3)
    network.norm1, network.norm2, network.norm3 = nn.Identity(), nn.Identity(), nn.Identity()
    return network


def constants(norm: Any, ndim: int, axis: int = 1) -> tuple[Tensor, ...]:
    """Return mean, deviation, weight and bias of a BatchNorm, with the channels on an axis of `ndim` axes."""
    shape = [-1 if place == axis % ndim else 1 for place in range(ndim)]
    deviation = (norm.running_var + norm.eps).sqrt()
    return tuple(value.reshape(shape) for value in (norm.running_mean, deviation, norm.weight, norm.bias))


def batch_norm(norm: Any, x: Tensor) -> Tensor:
    return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.1, norm.eps)


def native(norm: Any, x: Tensor) -> Tensor:
    return torch.batch_norm(x, norm.weight, norm.bias, norm.running_mean, norm.running_var, False, 0.1, norm.eps, False)


def instance_norm(norm: Any, x: Tensor) -> Tensor:
    values = x if x.ndim > 2 else x[:, :, None]
    statistics = norm.running_mean, norm.running_var, norm.weight, norm.bias
    return F.instance_norm(values, *statistics, use_input_stats=False, eps=norm.eps).reshape(x.shape)


def written_out(norm: Any, x: Tensor) -> Tensor:
    mean, deviation, weight, bias = constants(norm, x.ndim)
    return (x - mean) / deviation * weight + bias


def frozen(norm: Any, x: Tensor) -> Tensor:
    mean, deviation, weight, bias = constants(norm, x.ndim)
    scale = weight * deviation.reciprocal()
    return x * scale + (bias - mean * scale)


def in_place(norm: Any, x: Tensor) -> Tensor:
    mean, deviation, weight, bias = constants(norm, x.ndim)
    x -= mean
    x.div_(deviation).mul_(weight)
    return x.add_(bias)


def from_the_right(norm: Any, x: Tensor) -> Tensor:
    mean, deviation, weight, bias = constants(norm, x.ndim)
    return torch.sub(bias, weight / deviation * (mean - x))


def in_two(norm: Any, x: Tensor) -> Tensor:
    _, _, weight, bias = constants(norm, x.ndim)
    return torch.add(bias, F.batch_norm(x, norm.running_mean, norm.running_var, eps=norm.eps) * weight)


def negated(norm: Any, x: Tensor) -> Tensor:
    return -F.batch_norm(x, norm.running_mean, norm.running_var, -norm.weight, -norm.bias, eps=norm.eps)


def flattened(norm: Any, x: Tensor) -> Tensor:
    return batch_norm(norm, x.flatten(2) if x.ndim > 2 else x.unsqueeze(2)).reshape_as(x)


def as_tokens(norm: Any, x: Tensor) -> Tensor:
    """As LeViT writes it: images and positions together make the batch."""
    last = x.movedim(1, -1)
    return batch_norm(norm, last.flatten(0, -2)).reshape(last.shape).movedim(-1, 1)


def channels_last(norm: Any, x: Tensor) -> Tensor:
    mean, deviation, weight, bias = constants(norm, x.ndim, -1)
    return ((x.movedim(1, -1) - mean) * (weight / deviation) + bias).movedim(-1, 1)


def after_moves(norm: Any, x: Tensor) -> Tensor:
    return batch_norm(norm, F.dropout(x.contiguous().clone().to(x.dtype), 0.5, training=False))


class OwnConvolution(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class NormAct(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu(batch_norm(self, x)) if x.ndim == 4 else batch_norm(self, x)


class Double(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight / 2


def of_class(kind: type[nn.Module]) -> Callable[[Any], nn.Module]:
    """Return a replacement that gives a module another class and keeps its state."""

    def change(module: nn.Module) -> nn.Module:
        module.__class__ = kind
        return module

    return change


def synchronised(norm: Any) -> nn.Module:
    return nn.SyncBatchNorm.convert_sync_batchnorm(norm)


def bias_apart(conv: Any) -> nn.Module:
    def apart(conv: Any, x: Tensor) -> Tensor:
        return F.conv2d(x, conv.weight, None, conv.stride, conv.padding, 1, conv.groups) + conv.bias[:, None, None]

    return Called(conv, apart)


def matmul(linear: Any) -> nn.Module:
    return Called(linear, lambda linear, x: x @ linear.weight.T + linear.bias)


def halves(conv: Any) -> nn.Module:
    """Return the convolution computed as two, each of half the output channels."""

    def joined(conv: Any, x: Tensor) -> Tensor:
        parts = zip(
            x.chunk(2, 1) if conv.groups == 2 else (x, x), conv.weight.chunk(2), conv.bias.chunk(2), strict=True
        )
        return torch.cat([F.conv2d(part, *maps, conv.stride, conv.padding) for part, *maps in parts], 1)

    return Called(conv, joined)


def parametrised(register: Callable[[Any], Any]) -> Callable[[Any], nn.Module]:
    def change(module: nn.Module) -> nn.Module:
        register(module)
        return module.requires_grad_(False)

    return change


def hooked(network: nn.Module) -> nn.Module:
    network = rewritten(network)
    for conv, norm in (("conv1", "norm1"), ("conv2", "norm2"), ("linear", "norm3")):
        norm_module = getattr(network, norm).requires_grad_(False)  # no longer a module of the network
        getattr(network, conv).register_forward_hook(lambda module, args, y, norm=norm_module: batch_norm(norm, y))
        setattr(network, norm, nn.Identity())
    return network


class Deciding(Normed):
    """The forward depends on values, which torch.fx cannot trace."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if float(x.detach().abs().max()) < 1e9 else x / 2)


class WithSide(Normed):
    """A side head that the score does not use reads what comes before a BatchNorm."""

    def forward(self, x: Tensor) -> Tensor:
        before = self.conv1(x)
        F.conv2d(before, self.conv2.weight, groups=2).mean()
        x = self.act1(self.norm1(before))
        x = F.relu(self.norm2(self.conv2(x))).mean((2, 3))
        return self.head(F.relu(self.norm3(self.linear(x))))


NORM_FORMS = (
    batch_norm,
    native,
    instance_norm,
    written_out,
    frozen,
    in_place,
    from_the_right,
    in_two,
    negated,
    flattened,
    as_tokens,
    channels_last,
    after_moves,
)
FORMS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "modules": copy.deepcopy,
    **{
        form.__name__: lambda net, form=form: rewritten(net, norm=lambda norm: Called(norm, form))
        for form in NORM_FORMS
    },
    "own convolution": lambda net: rewritten(net, conv=of_class(OwnConvolution)),
    "norm and activation": lambda net: rewritten(net, norm=of_class(NormAct)),
    "SyncBatchNorm": lambda net: rewritten(net, norm=synchronised),
    "bias apart": lambda net: rewritten(net, conv=bias_apart, linear=matmul),
    "bias apart from folded weights": lambda net: rewritten(folded(net), conv=bias_apart, linear=matmul),
    "weight norm": lambda net: rewritten(net, conv=parametrised(parametrizations.weight_norm)),
    "own parametrisation": lambda net: rewritten(
        net, conv=parametrised(lambda conv: parametrize.register_parametrization(conv, "weight", Double()))
    ),
    "pruned": lambda net: rewritten(
        net, conv=parametrised(lambda conv: prune.custom_from_mask(conv, "weight", torch.ones_like(conv.weight)))
    ),
    "hooks": hooked,
    "untraceable": lambda net: of_class(Deciding)(copy.deepcopy(net)),
    "side head": lambda net: of_class(WithSide)(copy.deepcopy(net)),
}
CASES: list[tuple[str, dict[str, Any]]] = [
    *(("lrp", {"composite": composite}) for composite in COMPOSITES),
    *(("lrp", {"composite": composite, "bias": "zero"}) for composite in ("epsilon-plus-flat", "gamma")),
    ("rap", {}),
    ("rap", {"dense": "convolution"}),
    ("contrastive-lrp", {}),
    ("contrastive-lrp", {"opposite": "weights", "bias": "absorb"}),
    ("excitation-backprop", {}),
    ("excitation-backprop", {"variant": "contrastive"}),
    ("softmax-gradient-lrp", {"bias": "absorb"}),
    ("relevance-cam", {}),
    ("layer-excitation-backprop", {"variant": "contrastive"}),
]


def attributed(network: nn.Module, name: str, params: dict[str, Any], pixels: Tensor, **options: Any) -> Attribution:
    clf = Classifier(network, size=pixels.shape[-1], **options)
    layer = "act1" if issubclass(METHODS.get(name), LayerMethod) else None
    return METHODS.get(name).build(clf, layer, **params).attribute(pixels, [2, 0, 1][: len(pixels)])


def same(found: Attribution, expected: Attribution) -> None:
    """Assert that two maps agree to rounding, and that there is something in them."""
    largest = float(expected.values.abs().max())
    assert largest > 0
    assert float((found.values - expected.values).abs().max()) <= 1e-8 * largest
    assert found.flags == expected.flags


@cache
def expected_maps() -> list[Attribution]:
    network = folded(seeded(Normed()))
    return [attributed(network, name, params, images(), mean=MEAN, std=STD) for name, params in CASES]


@pytest.mark.parametrize(
    "form", [pytest.param(form, marks=[pytest.mark.slow] if index % 3 else []) for index, form in enumerate(FORMS)]
)
@pytest.mark.slow
def test_one_function_has_one_map(form: str) -> None:
    plain = seeded(Normed())
    network = FORMS[form](plain)
    assert torch.allclose(network(images()), folded(plain)(images()), rtol=0, atol=1e-12)
    for (name, params), expected in zip(CASES, expected_maps(), strict=True):
        same(attributed(network, name, params, images(), mean=MEAN, std=STD), expected)
    alone = attributed(network, *CASES[6], images()[:1], mean=MEAN, std=STD).values
    assert torch.allclose(alone, expected_maps()[6].values[:1], rtol=1e-8, atol=1e-12)


@pytest.mark.slow
def test_a_norm_after_joined_convolutions_is_part_of_each() -> None:
    network = seeded(Normed())
    found, expected = rewritten(network, conv=halves), rewritten(folded(network), conv=halves)
    for name, params in CASES:
        same(attributed(found, name, params, images()), attributed(expected, name, params, images()))


@pytest.mark.parametrize("composite", COMPOSITES)
def test_the_map_is_that_of_dense_matrices(composite: str) -> None:
    network, index = seeded(Normed()), torch.tensor([2, 0, 1])
    clf = Classifier(network, mean=MEAN, std=STD, size=8)
    x = clf.normalize(images())
    low, high = (clf.normalize(torch.full_like(x[:1], end)).flatten() for end in (0.0, 1.0))
    steps = [
        ("convolution", nn.Sequential(network.conv1, network.norm1), True),
        ("convolution", nn.Sequential(network.conv2, network.norm2), True),
        ("pool", nn.Sequential(nn.AvgPool2d(4), nn.Flatten()), False),
        ("dense", nn.Sequential(network.linear, network.norm3), True),
        ("dense", network.head, False),
    ]
    maps = []
    for kind, module, rectified in steps:
        maps.append(Dense(kind, *as_matrix(module, tuple(x.shape[1:])), x.flatten(1), low, high))
        with torch.no_grad():
            x = module(x).relu() if rectified else module(x)
    start = F.one_hot(index, 4) * x
    for bias in ("absorb", "zero"):
        found = METHODS.get("lrp").build(clf, composite=composite, bias=bias, channels=True).attribute(images(), index)
        expected = carried(maps, composite, bias, start)
        assert float((found.values - expected).abs().max()) <= 1e-9 * float(expected.abs().max())


class Transposed(nn.Module):
    """A transposed convolution with groups before a BatchNorm."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.act1, self.fc = nn.ReLU(), nn.Linear(6, 4)
        self.conv, self.up = nn.Conv2d(3, 4, 3, stride=2), nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, groups=groups)
        self.norm = nn.BatchNorm2d(6)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.norm(self.up(self.act1(self.conv(x))))).mean((2, 3)))


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.slow
def test_transposed_convolutions_fold_along_their_output_channels(groups: int) -> None:
    network = seeded(Transposed(groups))
    by_hand = copy.deepcopy(network)
    mean, deviation, weight, bias = constants(network.norm, 1)
    scale = weight / deviation
    with torch.no_grad():
        for channel in range(6):
            group, place = divmod(channel, 6 // groups)
            inputs = slice(group * 4 // groups, (group + 1) * 4 // groups)
            by_hand.up.weight[inputs, place] *= scale[channel]
        by_hand.up.bias.sub_(mean).mul_(scale).add_(bias)
    by_hand.norm = nn.Identity()
    assert torch.allclose(network(images()), by_hand(images()), rtol=0, atol=1e-12)
    for name, params in CASES:
        same(attributed(network, name, params, images()), attributed(by_hand, name, params, images()))


@pytest.mark.parametrize("value", [0.0, 0.5])
@pytest.mark.slow
def test_a_border_of_constants_before_the_map_is_no_obstacle(value: float) -> None:
    def padded(conv: Any, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (1, 1, 1, 1), value=value), conv.weight, conv.bias, conv.stride, groups=conv.groups)

    network = seeded(Normed())
    found, expected = (rewritten(net, conv=lambda conv: Called(conv, padded)) for net in (network, folded(network)))
    for name, params in CASES:
        same(attributed(found, name, params, images()), attributed(expected, name, params, images()))


class Shared(nn.Module):
    """One convolution, run before each of two BatchNorms."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm1, self.norm2 = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        self.act1, self.fc = nn.ReLU(), nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act1(self.norm1(self.conv(x)))
        return self.fc(F.relu(self.norm2(self.conv(x))).mean((2, 3)))


class Apart(Shared):
    """The same with a convolution each, the BatchNorms in their weights."""

    def __init__(self, shared: Any) -> None:
        super().__init__()
        self.conv, self.fc = fuse_conv_bn_eval(shared.conv, shared.norm1), shared.fc
        self.second = fuse_conv_bn_eval(shared.conv, shared.norm2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.second(self.act1(self.conv(x)))).mean((2, 3)))


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.slow
def test_a_module_that_runs_twice_folds_each_time(count: int) -> None:
    shared = seeded(Shared())
    for name, params in CASES:
        found, expected = (attributed(net, name, params, images(count)) for net in (shared, Apart(shared)))
        same(found, expected)


@pytest.mark.parametrize("register", [parametrizations.spectral_norm, parametrizations.orthogonal])
@pytest.mark.slow
def test_weights_that_are_computed_are_those_of_the_forward(register: Callable[[Any], Any]) -> None:
    network = rewritten(seeded(Normed()), linear=parametrised(register), conv=parametrised(register)).eval()
    plain = seeded(Normed())
    with torch.no_grad():
        for name in ("conv1", "conv2", "linear", "head"):
            getattr(plain, name).weight.copy_(getattr(network, name).weight)
    for name, params in (*CASES, ("integrated-gradients", {"steps": 14}), ("smooth-grad", {"samples": 14})):
        same(attributed(network, name, params, images()), attributed(plain, name, params, images()))


@pytest.mark.slow
def test_hooks_on_the_network_itself_belong_to_the_function() -> None:
    inner = seeded(Normed())
    wrapped, hook = nn.Sequential(copy.deepcopy(inner)), inner.register_forward_hook
    inner.register_forward_pre_hook(lambda module, args: ((args[0] - 0.45) / 0.22,))
    hook(lambda module, args, output: 2 * output)
    wrapped[0].register_forward_pre_hook(lambda module, args: ((args[0] - 0.45) / 0.22,))
    wrapped[0].register_forward_hook(lambda module, args, output: 2 * output)
    for name, params in CASES:
        if not issubclass(METHODS.get(name), LayerMethod) and params.get("composite") != "epsilon-gamma-box":
            same(attributed(inner, name, params, images()), attributed(wrapped, name, params, images()))


@pytest.mark.parametrize(
    "change",
    [
        lambda net: net.mask.mul_(-2),
        lambda net: net.factors.__setitem__(0, -3.0),
        lambda net: setattr(net, "stride", (2, 2)),
        lambda net: net.conv2.weight.data.neg_(),
        lambda net: net.norm2.running_var.data.mul_(4),
        lambda net: setattr(net.norm1, "eps", 0.5),
    ],
    ids=["tensor", "list", "tuple", "weights", "statistics", "eps"],
)
@pytest.mark.parametrize("name", ["lrp", "rap", "contrastive-lrp", "excitation-backprop", "integrated-gradients"])
def test_a_network_that_changed_is_explained_as_it_is_now(name: str, change: Callable[[Any], Any]) -> None:
    class Changing(Normed):
        mask, factors, stride = torch.ones(1, 6, 1, 1, dtype=torch.float64), [1.0], (1, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.act1(self.norm1(self.conv1(x)) * self.mask)
            x = F.relu(self.norm2(F.conv2d(x, self.conv2.weight, None, self.stride, groups=2))).mean((2, 3))
            return self.head(self.factors[0] * self.linear(x))

    network = seeded(Changing())
    network.mask, network.factors = network.mask.clone(), [1.0]
    clf = Classifier(network, size=8)
    before = METHODS.get(name)(clf).attribute(images(), 1)
    change(network)
    found = METHODS.get(name)(clf).attribute(images(), 1)
    same(found, METHODS.get(name)(Classifier(copy.deepcopy(network), size=8)).attribute(images(), 1))
    assert not torch.allclose(found.values, before.values, rtol=1e-3)


class Unfolded(nn.Module):
    """A convolution, and constants that are no part of it, written in several ways."""

    def __init__(self, form: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 4)
        self.places = nn.Parameter(torch.zeros(6, 6))
        self.tokens = nn.BatchNorm1d(36)
        self.form = form

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.form(self, self.conv(x)).flatten(2).mean(2))


FACTORS = torch.tensor([1, -2, 3, -4, 2, 1, -1, 3], dtype=torch.float64).reshape(8, 1, 1)
UNFOLDED: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "used twice": lambda net, y: net.norm(y).relu() + y,
    "used after a move": lambda net, y: (z := y.contiguous().clone(), net.norm(z).relu() + z)[1],
    "a factor for each position": lambda net, y: (y * net.places + 0.2).relu(),
    "a shift for each position": lambda net, y: (y + net.places).relu(),
    "tokens": lambda net, y: net.tokens(y.flatten(2).transpose(1, 2)).relu().transpose(1, 2),
    "a ReLU between": lambda net, y: net.norm(y.relu()).relu(),
    "a ReLU in place between": lambda net, y: net.norm(F.relu(y, inplace=True)).relu(),
    "a ReLU in place, unused, between": lambda net, y: (F.hardtanh(y, 0.0, 9.0, True), net.norm(y).relu())[1],
    "a ReLU in place, as a move": lambda net, y: net.norm(F.relu_(y).contiguous()).relu(),
    "beside a constant": lambda net, y: net.norm(
        torch.cat([y[:, :, 1:], net.places[:1].expand(len(y), 4, 1, 6)], 2)
    ).relu(),
    "channels repeated": lambda net, y: (
        (y.repeat(1, 2, 1, 1) * FACTORS + 0.3 * FACTORS).relu().unflatten(1, (2, 4)).sum(1)
    ),
    "a constant beside all of it": lambda net, y: net.norm(torch.cat([y, torch.zeros_like(y)], 2)).relu(),
    "half of it": lambda net, y: torch.cat([net.norm(y)[:, :2], y[:, 2:]], 1).relu(),
    "broadcast": lambda net, y: (y.mean((2, 3), keepdim=True) * 2 + net.places).relu(),
    "a pooling between": lambda net, y: net.norm(F.max_pool2d(y, 2)).relu(),
}
SPELLED: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "used twice": lambda net, y: batch_norm(net.norm, y).relu() + y,
    "tokens": lambda net, y: batch_norm(net.tokens, y.flatten(2).transpose(1, 2)).relu().transpose(1, 2),
    "a ReLU in place between": UNFOLDED["a ReLU between"],
    "a ReLU in place, unused, between": lambda net, y: net.norm(F.hardtanh(y, 0.0, 9.0)).relu(),
    "a ReLU in place, as a move": UNFOLDED["a ReLU between"],
}


@pytest.mark.parametrize("form", UNFOLDED)
@pytest.mark.slow
def test_what_is_no_part_of_one_map_keeps_its_own_share(form: str) -> None:
    network = seeded(Unfolded(UNFOLDED[form]), 3)
    clf = Classifier(network, size=8)
    inputs = images().requires_grad_(True)
    (gradient,) = torch.autograd.grad(network(inputs)[:, 1].sum(), inputs)
    zero = METHODS.get("lrp").build(clf, composite="zero", channels=True).attribute(images(), 1)
    expected = (inputs * gradient).detach()
    assert float((zero.values - expected).abs().max()) < 1e-6 * float(expected.abs().max())
    for composite in COMPOSITES:
        lrp = METHODS.get("lrp").build(clf, composite=composite)
        found, alone = lrp.attribute(images(), 1), lrp.attribute(images()[1:2], 1)
        absorbed = sum(amount for name, amount in found.diagnostics.items() if name.startswith("absorbed_"))
        assert float((found.completeness + absorbed).abs().max()) < 1e-9
        assert torch.allclose(alone.values, found.values[1:2], rtol=1e-8, atol=1e-12)
        if form in SPELLED:
            spelled = METHODS.get("lrp").build(
                Classifier(seeded(Unfolded(SPELLED[form]), 3), size=8), composite=composite
            )
            same(found, spelled.attribute(images(), 1))


@pytest.mark.parametrize(
    ("form", "called"),
    [
        (lambda net, y: F.batch_norm(y, None, None, training=True), "batch_norm"),
        (lambda net, y: F.instance_norm(y), "instance_norm"),
        (
            lambda net, y: torch.native_batch_norm(y, None, None, torch.zeros(4), torch.ones(4), False, 0.1, 1e-5)[0],
            "native_batch_norm",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:.* mixes the images of a batch")
def test_other_forms_of_normalisation_are_refused_by_name(form: Callable[[Any, Tensor], Tensor], called: str) -> None:
    clf = Classifier(seeded(Unfolded(form)).float(), size=8)
    for name in ("lrp", "rap", "excitation-backprop"):
        with pytest.raises(BadInput, match=f"expected operations that have a rule, got {called}; use another method"):
            METHODS.get(name)(clf).attribute(images(dtype=torch.float32), 1)


def test_the_network_runs_once_as_it_is_written() -> None:
    """Nothing is copied: the modules that the user holds are those that run."""
    network, calls = seeded(Normed()), []
    network.norm1.register_forward_hook(lambda module, args, output: calls.append(module))
    clf = Classifier(network, size=8)
    clf.outline()
    calls.clear()
    METHODS.get("lrp")(clf).attribute(images(), 1)
    assert calls == [network.norm1]
