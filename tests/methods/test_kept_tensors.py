"""Networks that keep or rewrite tensors in their forward train on after every method."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import xaikit
from tests import networks

METHODS = {
    "occlusion": {"window": 8},
    "rise": {"samples": 5},
    "lime": {"samples": 150},
    "sobol": {"samples": 2, "grid": 2},
    "hsic": {"samples": 5, "grid": 2},
    "score-cam": {},
}


class MaxNorm(nn.Linear):
    """Renormalises its own weights in each forward."""

    def forward(self, features):
        self.weight.data = torch.renorm(self.weight.data, p=2, dim=0, maxnorm=0.5)
        return super().forward(features)


class Head(nn.Module):
    def __init__(self, head: nn.Module | None = None) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, 3) if head is None else head
        self.kept: dict[int, torch.Tensor] = {}

    def tail(self, x):
        return self.head(self.convolution(x).relu().mean((2, 3)))

    def forward(self, x):
        return self.tail(x)


class KeptGrid(Head):
    """Keeps a channel of coordinates for each number of images."""

    def forward(self, x):
        if len(x) not in self.kept:
            self.kept[len(x)] = torch.linspace(1, 2, x.shape[3], dtype=x.dtype).expand(len(x), 1, 1, -1).clone()
        return self.tail(x * self.kept[len(x)])


class KeptScale(Head):
    """Writes a scale that the weights give into a parameter's data."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1, 3, 1, 1))

    def forward(self, x):
        self.scale.data = self.convolution.weight.data.abs().mean((0, 2, 3)).reshape(1, 3, 1, 1) + 1
        return self.tail(x * self.scale)


class KeptKernel(Head):
    """Makes the kernel of its blur in the first forward."""

    def forward(self, x):
        if 0 not in self.kept:
            self.kept[0] = torch.ones(3, 1, 3, 3, dtype=x.dtype) / 9
        return self.tail(nn.functional.conv2d(x, self.kept[0], padding=1, groups=3))


class Refining(Head):
    """Moves the image along its own gradient."""

    def forward(self, x):
        with torch.enable_grad():
            start = x if x.requires_grad else x.detach().requires_grad_()
            (step,) = torch.autograd.grad(self.tail(start).logsumexp(1).sum(), start, create_graph=True)
        return self.tail(x + 0.1 * step)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "make", [lambda: Head(MaxNorm(4, 3)), KeptGrid, KeptScale, KeptKernel, Refining], ids=lambda make: make.__name__
)
@pytest.mark.parametrize("count", [1, 3])
def test_trains_on(method, make, count):
    torch.manual_seed(0)
    network = make().double().train()
    pixels = networks.images(count, size=16)
    attribution = xaikit.attribute(xaikit.Classifier(network, mean=0), pixels, 1, method, **METHODS[method])
    again = xaikit.attribute(xaikit.Classifier(network, mean=0), pixels, 1, method, **METHODS[method])
    assert torch.equal(attribution.values, again.values)
    everything = [*network.parameters(), *network.kept.values()]
    assert not any(tensor.is_inference() for tensor in everything)
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert network.training
    network(pixels).sum().backward()
    assert all(parameter.grad is not None for parameter in [*network.convolution.parameters(), network.head.weight])
