"""Padding written out: a border of constants is no input, so the map is that of the padding inside the convolution."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.methods.test_decomposition import noise, trained_on_noise
from tests.networks import bound, images
from xaikit.methods.base import METHODS
from xaikit.model.classifier import Classifier
from xaikit.run.attribution import Attribution

SCALE = {"mean": [0.5, 0.4, 0.6], "std": [0.25, 0.3, 0.2]}
COMPARED: list[tuple[str, dict[str, Any]]] = [
    ("rap", {}),
    ("lrp", {}),
    ("lrp", {"composite": "epsilon-plus-flat", "bias": "zero"}),
    ("lrp", {"composite": "epsilon-gamma-box"}),
    ("lrp", {"composite": "z-plus", "first": "w-squared"}),
    ("lrp", {"composite": "epsilon-alpha2-beta1-flat", "convolution": "flat"}),
    ("lrp", {"composite": "z-plus", "convolution": "w-squared"}),
    ("contrastive-lrp", {}),
    ("excitation-backprop", {}),
    ("deep-lift", {}),
]


class Padded(nn.Module):
    """Two convolutions of stride 2, each of a padded input."""

    def __init__(self, padding: Callable[[nn.Conv2d, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3, stride=2), nn.Conv2d(4, 5, 3, stride=2)
        self.fc, self.padding = nn.Linear(5, 4), padding

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.padding(self.conv1, x))
        return self.fc(F.relu(self.padding(self.conv2, x)).mean((2, 3)))


def inside(conv: nn.Conv2d, x: Tensor) -> Tensor:
    return F.conv2d(x, conv.weight, conv.bias, conv.stride, 1)


def _zeros(x: Tensor) -> Tensor:
    return x.new_zeros(*x.shape[:2], x.shape[2] + 2, x.shape[3] + 2)


def _assigned(x: Tensor) -> Tensor:
    padded = _zeros(x)
    padded[:, :, 1:-1, 1:-1] = x
    return padded


def _copied(x: Tensor) -> Tensor:
    padded = _zeros(x)
    padded[:, :, 1:-1, 1:-1].copy_(x)
    return padded


def _joined(x: Tensor) -> Tensor:
    column = torch.zeros_like(x[..., :1])
    x = torch.cat([column, x, column], 3)
    row = x.new_zeros(*x.shape[:2], 1, x.shape[3])
    return torch.cat((row, x, row), dim=2)


def _scaled(x: Tensor) -> Tensor:
    return x if x.shape[1] == 3 else x * 1.0


def _summed(x: Tensor) -> Tensor:
    return x if x.shape[1] == 3 else 0.25 * x + 0.75 * x


FORMS: dict[str, Callable[[nn.Conv2d, Tensor], Tensor]] = {
    "ZeroPad2d": lambda conv, x: conv(nn.ZeroPad2d(1)(x)),
    "pad": lambda conv, x: conv(F.pad(x, (1, 1, 1, 1))),
    "pad by keywords": lambda conv, x: conv(F.pad(input=x, pad=[1, 1, 1, 1], mode="constant", value=0.0)),
    "constant_pad_nd": lambda conv, x: conv(torch.constant_pad_nd(x, (1, 1, 1, 1), 0)),
    "constant_pad_nd by keywords": lambda conv, x: conv(torch.constant_pad_nd(input=x, pad=(1, 1, 1, 1))),
    "one side after the other": lambda conv, x: conv(F.pad(F.pad(x, (1, 0, 1, 0)), (0, 1, 0, 1), value=0)),
    "cat with zeros": lambda conv, x: conv(_joined(x)),
    "assignment": lambda conv, x: conv(_assigned(x)),
    "copy into a slice": lambda conv, x: conv(_copied(x)),
    "layout": lambda conv, x: conv(F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1)).permute(0, 3, 1, 2).contiguous()),
    "more, then cut": lambda conv, x: conv(F.pad(x, (3, 2, 2, 3))[:, :, 1:-2, 2:-1]),
    "a keyword input": lambda conv, x: F.conv2d(
        input=F.pad(x, (1, 1, 1, 1)), weight=conv.weight, bias=conv.bias, stride=2
    ),
    "before the activation": lambda conv, x: conv(F.leaky_relu(F.pad(x, (1, 1, 1, 1)), 1.0)),
    "in place after it": lambda conv, x: conv(F.pad(x, (1, 1, 1, 1)).clamp_(-9, 9)),
    "a product after it": lambda conv, x: conv(_scaled(F.pad(x, (1, 1, 1, 1)))),
    "a sum after it": lambda conv, x: conv(_summed(F.pad(x, (1, 1, 1, 1)))),
    "windows": lambda conv, x: _by_windows(conv, x),
}


def _by_windows(conv: nn.Conv2d, x: Tensor) -> Tensor:
    rows = F.unfold(x, 3, padding=1, stride=2).transpose(1, 2)
    side = x.shape[-1] // 2
    return F.linear(rows, conv.weight.flatten(1), conv.bias).transpose(1, 2).unflatten(2, (side, side))


def explained(network: nn.Module, name: str, params: dict[str, Any], count: int = 3) -> Attribution:
    return METHODS.get(name).build(bound(network, seed=4, **SCALE), **params).attribute(images(count), 1)


@cache
def inside_explained(place: int) -> Attribution:
    return explained(Padded(inside), *COMPARED[place])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.slow
def test_zero_padding_written_out_gives_the_same_map(form: str) -> None:
    for place, (name, params) in enumerate(COMPARED):
        if (form, name) == ("windows", "rap") or (form == "windows" and "box" in params.get("composite", "")):
            continue  # the windows overlap, so rap counts other neurons; z-box is refused: the map reads no image
        if form == "a sum after it" and "convolution" in params:
            continue  # flat and w-squared give relevance to values of zero, which a sum does not pass on
        found, expected = explained(Padded(FORMS[form]), name, params), inside_explained(place)
        scale = float(expected.values.abs().max())
        assert torch.allclose(found.values, expected.values, rtol=0, atol=1e-6 * scale), (name, params)
        assert torch.allclose(found.completeness, expected.completeness, atol=1e-6 * float(found.scores.abs().max()))
        assert found.flags == expected.flags
    together, alone = (explained(Padded(FORMS[form]), *COMPARED[2], count).values for count in (3, 1))
    assert torch.allclose(alone, together[:1], rtol=0, atol=1e-9 * float(together.abs().max()))


MOVED: dict[str, tuple[Callable[[nn.Conv2d, Tensor], Tensor], Callable[[nn.Conv2d, Tensor], Tensor]]] = {
    "circular": (
        lambda conv, x: conv(F.pad(x, (1, 1, 1, 1), mode="circular")),
        lambda conv, x: conv(_wrapped(_wrapped(x, 2), 3)),
    ),
    "reflect": (
        lambda conv, x: conv(nn.ReflectionPad2d(1)(x)),
        lambda conv, x: conv(x[:, :, _reflected(x.shape[2])][..., _reflected(x.shape[3])]),
    ),
    "replicate": (
        lambda conv, x: conv(F.pad(input=x, pad=(1, 1, 1, 1), mode="replicate")),
        lambda conv, x: conv(_repeated(_repeated(x, 2), 3)),
    ),
    "one side only": (
        lambda conv, x: conv(F.pad(x, (0, 1, 0, 1))),
        lambda conv, x: F.conv2d(x, conv.weight, conv.bias, 1, 1)[:, :, 1::2, 1::2],
    ),
}


def _wrapped(x: Tensor, axis: int) -> Tensor:
    return torch.cat([x.narrow(axis, x.shape[axis] - 1, 1), x, x.narrow(axis, 0, 1)], axis)


def _repeated(x: Tensor, axis: int) -> Tensor:
    return torch.cat([x.narrow(axis, 0, 1), x, x.narrow(axis, x.shape[axis] - 1, 1)], axis)


def _reflected(size: int) -> Tensor:
    return torch.tensor([1, *range(size), size - 2])


@pytest.mark.parametrize("form", MOVED)
def test_a_border_of_copies_gives_relevance_back_to_what_was_copied(form: str) -> None:
    for name, params in COMPARED:
        found, expected = (explained(Padded(one), name, params) for one in MOVED[form])
        scale = float(expected.values.abs().max())
        assert torch.allclose(found.values, expected.values, rtol=0, atol=1e-4 * scale), (name, params)
        assert found.flags == expected.flags


class Bordered(Padded):
    """A border of another constant, in the second convolution or as a map added to it."""

    def __init__(self, value: float, *, added: bool) -> None:
        super().__init__(inside)
        self.value, self.added = value, added

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(inside(self.conv1, x))
        if not self.added:
            return self.fc(F.relu(self.conv2(F.pad(x, (1, 1, 1, 1), value=self.value))).mean((2, 3)))
        border = self.value * (1 - F.pad(torch.ones_like(x), (1, 1, 1, 1)))
        constant = F.conv2d(border, self.conv2.weight, None, 2)
        return self.fc(F.relu(inside(self.conv2, x) + constant.detach()).mean((2, 3)))


@pytest.mark.parametrize("value", [0.5, -2.0])
def test_a_border_of_another_constant_is_a_bias(value: float) -> None:
    """Where biases are excluded, it is the same map as with the border's contribution added after the convolution."""
    excluded = [("rap", {}), ("excitation-backprop", {}), ("lrp", {"bias": "zero"}), ("contrastive-lrp", {})]
    for name, params in excluded:
        found, expected = (explained(Bordered(value, added=added), name, params) for added in (False, True))
        scale = float(expected.values.abs().max())
        assert torch.allclose(found.values, expected.values, rtol=0, atol=1e-6 * scale), name
    for composite in ("epsilon", "z-plus", "epsilon-plus-flat"):
        found = explained(Bordered(value, added=False), "lrp", {"composite": composite})
        absorbed = sum(amount for key, amount in found.diagnostics.items() if key.startswith("absorbed_"))
        assert torch.allclose(found.values.sum((1, 2)) + absorbed, found.scores, rtol=1e-6)
        assert not any("unbalanced" in flags for flags in found.flags)


class Coordinates(Padded):
    """Two more channels that hold the position, as CoordConv has them; or their contribution as a bias."""

    def __init__(self, *, joined: bool) -> None:
        super().__init__(inside)
        self.wide, self.joined = nn.Conv2d(6, 5, 3, stride=2), joined

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(inside(self.conv1, x))
        rows = torch.linspace(-1, 1, x.shape[2], dtype=x.dtype)
        places = torch.stack(torch.meshgrid(rows, rows, indexing="ij")).expand(len(x), -1, -1, -1)
        if self.joined:
            return self.fc(F.relu(self.wide(torch.cat([x, places], 1))).mean((2, 3)))
        constant = F.conv2d(places, self.wide.weight[:, 4:], self.wide.bias, 2)
        return self.fc(F.relu(F.conv2d(x, self.wide.weight[:, :4], None, 2) + constant).mean((2, 3)))


def test_channels_of_constants_are_a_bias() -> None:
    for name, params in (("rap", {}), ("excitation-backprop", {}), ("lrp", {"convolution": "flat", "bias": "zero"})):
        found, expected = (explained(Coordinates(joined=joined), name, params) for joined in (True, False))
        scale = float(expected.values.abs().max())
        assert torch.allclose(found.values, expected.values, rtol=0, atol=1e-6 * scale), name
        assert not any("unbalanced" in flags for flags in found.flags)


def test_rap_keeps_its_sum_with_padding_written_out() -> None:
    found = explained(Padded(FORMS["pad"]), "rap", {})
    total = found.values.sum((1, 2)) + found.diagnostics["absorbed_dead"] + found.diagnostics["absorbed_stabiliser"]
    assert torch.allclose(total, found.scores)


def _written_out(network: nn.Module) -> nn.Module:
    """Return a copy of a network whose convolutions do not pad: a module before each of them does."""
    network = copy.deepcopy(network)
    for parent in list(network.modules()):
        for name, conv in list(parent.named_children()):
            if isinstance(conv, nn.Conv2d) and any(conv.padding):
                rows, columns = conv.padding
                conv.padding = (0, 0)
                setattr(parent, name, nn.Sequential(nn.ZeroPad2d((columns, columns, rows, rows)), conv))
    return network


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_padding_written_out_on_torchvision_networks(name: str) -> None:
    clf = trained_on_noise(name, torch.float64)
    options = {"mean": [0.5] * 3, "std": [0.25] * 3, "size": 96}
    other, x = Classifier(_written_out(clf.network), **options), noise(torch.float64)
    for method, params in COMPARED[:4]:
        found, expected = (METHODS.get(method).build(one, **params).attribute(x, 1) for one in (other, clf))
        scale = float(expected.values.abs().max())
        assert torch.allclose(found.values, expected.values, rtol=0, atol=1e-8 * scale), (method, params)
        assert found.flags == expected.flags
