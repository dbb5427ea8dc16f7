"""A gate stays a gate however it is written: as a clip, or as the sum or product of gates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.networks import bound, images
from xaikit.methods.base import METHODS

METHODS_TO_COMPARE: list[tuple[str, dict[str, Any]]] = [
    ("lrp", {}),
    ("rap", {}),
    ("excitation-backprop", {}),
]


class Gated(nn.Module):
    """A signal z, gated by a function of another tensor h."""

    def __init__(self, gated: Callable[[Gated, Tensor, Tensor], Tensor], signal: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 5, 3)
        self.along, self.local, self.fc = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3), nn.Linear(5, 4)
        self.gated, self.signal = gated, signal

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.conv1(x))
        return self.fc(F.relu(self.conv3(self.gated(self, self.signal(self.conv2(h)), h))).mean((2, 3)))


def _rows(net: Gated, h: Tensor) -> Tensor:
    return torch.sigmoid(net.along(h.mean(3, keepdim=True)))[:, :, 1:-1]


def _columns(net: Gated, h: Tensor) -> Tensor:
    return torch.sigmoid(net.along(h.mean(2, keepdim=True)))[..., 1:-1]


def _everywhere(net: Gated, h: Tensor) -> Tensor:
    return torch.sigmoid(net.local(h))


def _hard(net: Gated, h: Tensor) -> Tensor:
    return F.hardsigmoid(net.local(h) * 3)


Form = Callable[[Gated, Tensor, Tensor], Tensor]
PAIRS: dict[str, tuple[Form, Form]] = {
    "relu6 over six": (lambda n, z, h: z * (F.relu6(n.local(h) * 3 + 3) / 6), lambda n, z, h: z * _hard(n, h)),
    "relu6 times a sixth": (
        lambda n, z, h: F.hardtanh(n.local(h) * 3 + 3, 0, 6) * (1 / 6) * z,
        lambda n, z, h: z * _hard(n, h),
    ),
    "clamp": (lambda n, z, h: z * (n.local(h) / 2 + 0.5).clamp(0, 1), lambda n, z, h: z * _hard(n, h)),
    "clamp by name": (
        lambda n, z, h: z * torch.clip(n.local(h) / 2 + 0.5, min=0.0, max=1.0),
        lambda n, z, h: z * _hard(n, h),
    ),
    "hardtanh": (lambda n, z, h: z * F.hardtanh(n.local(h) / 2 + 0.5, 0, 1), lambda n, z, h: z * _hard(n, h)),
    "hardtanh of both signs": (
        lambda n, z, h: z * (F.hardtanh(n.local(h)) * 0.5 + 0.5),
        lambda n, z, h: z * _hard(n, h),
    ),
    "relu6 without its constant": (
        lambda n, z, h: z * F.relu6(n.local(h) * 3 + 3),
        lambda n, z, h: z * _hard(n, h) * 6,
    ),
    "product of rows and columns": (
        lambda n, z, h: z * (_rows(n, h) * _columns(n, h)),
        lambda n, z, h: z * _rows(n, h) * _columns(n, h),
    ),
    "product of gates of one size": (
        lambda n, z, h: (_everywhere(n, h) * _hard(n, h)) * z,
        lambda n, z, h: z * _everywhere(n, h) * _hard(n, h),
    ),
    "product of three": (
        lambda n, z, h: z * (_rows(n, h) * (_columns(n, h) * _everywhere(n, h))),
        lambda n, z, h: z * _rows(n, h) * _columns(n, h) * _everywhere(n, h),
    ),
    "sum": (
        lambda n, z, h: z * (_everywhere(n, h) + _rows(n, h)),
        lambda n, z, h: z * _everywhere(n, h) + z * _rows(n, h),
    ),
    "mean of two": (
        lambda n, z, h: z * ((_hard(n, h) + _everywhere(n, h)) / 2),
        lambda n, z, h: z * _hard(n, h) * 0.5 + z * _everywhere(n, h) * 0.5,
    ),
    "larger of two": (
        lambda n, z, h: z * torch.maximum(_everywhere(n, h), _hard(n, h)),
        lambda n, z, h: torch.maximum(z * _everywhere(n, h), z * _hard(n, h)),
    ),
}
SIGNALS: dict[str, Callable[[Tensor], Tensor]] = {
    "nothing": lambda z: z,
    "relu6": F.relu6,
}


@pytest.mark.parametrize("form", PAIRS)
@pytest.mark.parametrize("signal", SIGNALS)
def test_one_gate_has_one_map(form: str, signal: str) -> None:
    if (form, signal) == ("relu6 without its constant", "relu6"):
        return  # two clips of one range: nothing tells the gate from the signal
    if form == "larger of two" and signal == "nothing":
        return  # another function where z is negative
    written, plain = (bound(Gated(gated, SIGNALS[signal]), seed=2) for gated in PAIRS[form])
    assert torch.allclose(written(images()), plain(images()), atol=1e-12)
    for count, (name, params) in [(1, METHODS_TO_COMPARE[0]), *((3, method) for method in METHODS_TO_COMPARE)]:
        if name == "excitation-backprop" and form in ("sum", "mean of two") and signal == "nothing":
            continue  # no walk leads from a sum to its negative terms
        found, expected = (
            METHODS.get(name).build(clf, **params).attribute(images(count), 1).values for clf in (written, plain)
        )
        assert torch.allclose(found, expected, rtol=0, atol=2e-5 * max(float(expected.abs().max()), 1e-9)), name


@pytest.mark.parametrize("form", ["relu6 over six", "clamp", "product of rows and columns", "sum"])
def test_a_gate_is_a_constant(form: str) -> None:
    gated = PAIRS[form][0]
    values = images(1)
    kept: list[Tensor] = []

    def constant(net: Gated, z: Tensor, h: Tensor) -> Tensor:
        kept.append(gated(net, torch.ones_like(z), h.detach()).detach())
        return z * kept[-1]

    found, expected = (
        METHODS.get("excitation-backprop").build(bound(Gated(form, F.relu), seed=2)).attribute(values, 1).values
        for form in (gated, constant)
    )
    assert torch.allclose(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("activation", [F.relu6, lambda z: F.hardtanh(z, 0, 4), lambda z: z.clamp(0, 3)])
def test_a_clip_above_one_stays_the_signal_of_a_gate(activation: Callable[[Tensor], Tensor]) -> None:
    """Where no value reaches the upper end, the clip is a ReLU."""
    found, expected = (
        METHODS.get("lrp")
        .build(bound(Gated(lambda n, z, h: z * _everywhere(n, h), one), seed=2))
        .attribute(images(), 1)
        for one in (activation, F.relu)
    )
    assert torch.allclose(found.values, expected.values, rtol=0, atol=1e-12)


class Larger(nn.Module):
    """The larger one of two activations, in several spellings."""

    def __init__(self, larger: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
        self.larger = larger

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.larger(self.first(x).relu(), self.second(x).relu())).relu().mean((2, 3))


@pytest.mark.parametrize(("name", "params"), [("lrp", {"composite": "epsilon"}), *METHODS_TO_COMPARE[1:]])
def test_a_clamp_at_a_signal_is_the_larger_of_two(name: str, params: dict[str, Any]) -> None:
    def values(larger: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        return METHODS.get(name).build(bound(Larger(larger)), **params).attribute(images(2), 0).values

    expected = values(torch.maximum)
    for larger in (torch.clamp_min, lambda a, b: a.clamp(min=b), lambda a, b: a.clone().clamp_min_(b), torch.clip):
        torch.testing.assert_close(values(larger), expected, rtol=0, atol=1e-12)
    apart = (values(lambda a, b: a.clamp_min(b.detach())) - expected).abs().max()  # the first one gets it all
    assert float(apart) > 0.05 * float(expected.abs().max())
