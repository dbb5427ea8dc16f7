"""A summand that depends on the image and has no graph is flagged by every relevance method; a gate is not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.networks import bound, images
from xaikit.methods.base import METHODS

RELEVANCE = (
    "lrp",
    "contrastive-lrp",
    "rap",
    "excitation-backprop",
    "softmax-gradient-lrp",
    "relevance-cam",
    "layer-excitation-backprop",
)


class Cut(nn.Module):
    """Two convolutions, and a function of what comes between them, which may use a third."""

    def __init__(self, between: Callable[[Cut, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv1, self.conv2, self.side = (nn.Conv2d(width, 4, 3, padding=1) for width in (3, 4, 4))
        self.fc, self.between = nn.Linear(4, 4), between
        self.position = nn.Parameter(torch.rand(4, 8, 8))
        self.register_buffer("kept", torch.rand(4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.conv2(self.between(self, F.relu(self.conv1(x))))).mean((2, 3)))


def _without_grad(net: Cut, h: Tensor) -> Tensor:
    with torch.no_grad():
        branch = net.side(h)
    return h + branch


def _written(net: Cut, h: Tensor) -> Tensor:
    out = h.clone()
    out[:, :2] = net.side(h)[:, :2].detach()
    return out


def _through_a_buffer(net: Cut, h: Tensor) -> Tensor:
    buffer = torch.zeros_like(h)
    buffer[:, 1:] = h[:, 1:].detach()
    return h + buffer


LEVELS = torch.linspace(0, 1, 9, dtype=torch.float64)
SUMMANDS: dict[str, Callable[[Cut, Tensor], Tensor]] = {
    "detach": lambda net, h: h + net.side(h).detach(),
    "detached first": lambda net, h: net.side(h.detach()) + h,
    "difference": lambda net, h: h - h.mean(1, keepdim=True).detach(),
    "data": lambda net, h: h + h.data.flip(3),
    "no_grad": _without_grad,
    "in place": lambda net, h: h.clone().add_(net.side(h).detach()),
    "integers": lambda net, h: h + (h * 8).int().to(h.dtype) / 8,
    "bytes": lambda net, h: h + (h * 8).byte().to(h.dtype) / 8,
    "integers added": lambda net, h: h + (h * 8).char(),
    "mask as a number": lambda net, h: h + (h > 0.1).to(h.dtype),
    "mask added": lambda net, h: h + (h > 0.1),
    "one of two values": lambda net, h: h + net.side(torch.where(h > 0.1, 1.0, -1.0).to(h.dtype)),
    "nearest of levels": lambda net, h: h + torch.bucketize(h.contiguous(), LEVELS).to(h.dtype) / 8,
    "detached spectrum": lambda net, h: h + torch.fft.ifft2(torch.fft.fft2(h).detach()).real,
    "dlpack": lambda net, h: h + torch.from_numpy(np.from_dlpack(h.detach()) * 2),
    "a number": lambda net, h: h + h.detach().mean().item(),
    "numpy": lambda net, h: h + torch.from_numpy(h.detach().numpy() * 2),
    "joined": lambda net, h: torch.cat([h[:, :2], h[:, 2:].detach()], 1),
    "larger": lambda net, h: torch.maximum(h, net.side(h).detach()),
    "written": _written,
    "buffer": _through_a_buffer,
    "straight through": lambda net, h: h + ((h * 4).detach().round() / 4 - h.detach()),
}
CONSTANTS: dict[str, Callable[[Cut, Tensor], Tensor]] = {
    "mask as a factor": lambda net, h: h * (h > 0.1).to(h.dtype),
    "selected by index": lambda net, h: h.gather(1, h.argsort(1)),
    "nothing": lambda net, h: h,
    "gate": lambda net, h: h * torch.sigmoid(net.side(h)).detach(),
    "gate of numbers": lambda net, h: torch.sigmoid(net.side(h.detach()).mean((2, 3), keepdim=True)) * h,
    "deviation": lambda net, h: h / (h.detach().std((1, 2, 3), keepdim=True) + 1),
    "mask": lambda net, h: h * (h > 0.3),
    "parameter": lambda net, h: h + net.position,
    "detached parameter": lambda net, h: h + net.position.detach() + net.kept,
    "blank": lambda net, h: h + torch.zeros_like(h.detach()) + torch.ones_like(h),
    "unused": lambda net, h: (h, h + net.side(h).detach())[0],
    "a decision": lambda net, h: h * 2 if float(h.detach().max()) < 1e9 else h,
    "shape": lambda net, h: h + h.shape[1],
}


@pytest.mark.filterwarnings("ignore:Cut mixes the images")  # a number of the whole batch
@pytest.mark.parametrize("form", SUMMANDS)
def test_a_severed_summand_is_flagged(form: str) -> None:
    classifier = bound(Cut(SUMMANDS[form]), seed=2)
    for count, name in [(1, "lrp"), *((3, name) for name in (RELEVANCE if form == "detach" else RELEVANCE[:1]))]:
        layer = "conv1" if name in RELEVANCE[-2:] else None
        found = METHODS.get(name).build(classifier, layer).attribute(images(count), 1)
        assert all("cut-gradient" in flags for flags in found.flags), name


@pytest.mark.parametrize("form", CONSTANTS)
def test_a_constant_and_a_gate_are_not(form: str) -> None:
    classifier = bound(Cut(CONSTANTS[form]), seed=2)
    for count, name in [(1, "lrp"), (3, "lrp"), (3, "excitation-backprop"), (3, "relevance-cam")]:
        layer = "conv1" if name in RELEVANCE[-2:] else None
        found = METHODS.get(name).build(classifier, layer).attribute(images(count), 1)
        assert not any("cut-gradient" in flags for flags in found.flags), name


FACTORS: dict[str, Callable[[Cut, Tensor], Tensor]] = {
    "channel gate of both signs": lambda net, h: net.side(h) * (h.mean((2, 3), keepdim=True) - 0.3).detach(),
    "one number": lambda net, h: net.side(h) * -h.detach().mean((1, 2, 3), keepdim=True),
    "quotient": lambda net, h: net.side(h) / -(1 + h.mean((1, 2, 3), keepdim=True)).detach(),
    "shift": lambda net, h: net.side(h) + h.mean((2, 3), keepdim=True).detach(),
    "in place": lambda net, h: net.side(h).mul_((h.amax((2, 3), keepdim=True) - 0.9).detach()),
}


@pytest.mark.parametrize("form", FACTORS)
@pytest.mark.parametrize("name", ["lrp", "rap", "excitation-backprop"])
def test_a_detached_gate_is_not_folded_in_a_batch_of_one_either(form: str, name: str) -> None:
    method = METHODS.get(name).build(bound(Cut(FACTORS[form]), seed=2))
    together = method.attribute(images(3), 1).values
    alone = torch.cat([method.attribute(image[None], 1).values for image in images(3)])
    assert torch.allclose(together, alone, rtol=0, atol=1e-9 * float(together.abs().max()))


@pytest.mark.parametrize("name", ["lrp", "rap"])
def test_a_gate_has_one_map_detached_or_not(name: str) -> None:
    def gated(net: Cut, h: Tensor) -> Tensor:
        return net.side(h) * torch.tanh(h.mean((2, 3), keepdim=True) - 0.3)

    def detached(net: Cut, h: Tensor) -> Tensor:
        return net.side(h) * torch.tanh(h.mean((2, 3), keepdim=True) - 0.3).detach()

    for count in (1, 3):
        found, expected = (
            METHODS.get(name).build(bound(Cut(form), seed=2)).attribute(images(count), 1).values
            for form in (detached, gated)
        )
        assert torch.allclose(found, expected, rtol=0, atol=1e-9 * float(expected.abs().max()))
