"""A layer's output that the network holds under another name: every use of it counts, as where each use is written."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import xaikit
from xaikit.foundation.errors import BadInput

METHODS = ["hires-cam", "ablation-cam", "score-cam", "relevance-cam"]


class Keeping(nn.ReLU):
    """Keeps its output as an attribute of its own."""

    def forward(self, x: Tensor) -> Tensor:
        self.kept = super().forward(x)
        return self.kept


class TwoHeads(nn.Module):
    """The second head reads the features that `way` keeps."""

    def __init__(self, way: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        act = Keeping() if way == "attribute" else nn.ReLU(inplace=way == "in place")
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1), act)
        self.fc, self.side = nn.Linear(6, 4), nn.Conv2d(6, 4, 3, padding=1)
        self.way, self.found = way, []
        if way == "hook":
            self.body[3].register_forward_hook(lambda module, args, output: self.found.append(output))
        if way == "hook on the body":
            self.body.register_forward_hook(lambda module, args, output: self.found.append({"maps": output}))

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.found.clear()
        if self.way == "in place":
            before = self.body[:3](x)
            return self.body[3](before), before
        maps = self.body(x)
        if self.way == "attribute":
            return maps, self.body[3].kept
        if self.way == "returned":
            return maps, maps
        return maps, self.found[-1]["maps"] if "body" in self.way else self.found[-1]

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.features(x)
        return self.fc(first.mean((2, 3))) + 3 * self.side(second).relu().mean((2, 3))


def explained(way: str, method: str, x: Tensor, **options) -> xaikit.Attribution:
    return xaikit.attribute(xaikit.Classifier(TwoHeads(way).double(), size=12), x, 1, method, **options)


@pytest.mark.parametrize("way", ["hook", "hook on the body", "attribute", "in place"])
@pytest.mark.parametrize("method", METHODS)
def test_each_use_of_a_shared_output_counts(method: str, way: str) -> None:
    x = torch.rand(2, 3, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected, found = (explained(kind, method, x, layer="body.3") for kind in ("returned", way))
    assert torch.allclose(found.values, expected.values, rtol=0, atol=1e-9 * float(expected.values.abs().max()))
    assert found.flags == expected.flags


def test_the_gradient_of_a_shared_output_is_that_of_both_heads() -> None:
    network = TwoHeads("hook").double()
    x = torch.rand(2, 3, 12, 12, dtype=torch.float64)
    maps = network.body(x).detach().requires_grad_()
    score = network.fc(maps.mean((2, 3))) + 3 * network.side(maps).relu().mean((2, 3))
    (gradient,) = torch.autograd.grad(score[:, 1].sum(), maps)
    found = xaikit.attribute(xaikit.Classifier(network, size=12), x, 1, "hires-cam")
    assert torch.allclose(found.values, (gradient * maps).sum(1).detach())


class TwoRelus(nn.Module):
    """Rectifies the features twice, or once for two uses."""

    def __init__(self, twice: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.fc, self.twice = nn.Conv2d(3, 6, 3), nn.Linear(6, 4), twice

    def forward(self, x: Tensor) -> Tensor:
        maps = self.conv(x)
        first = maps.relu()
        second = torch.relu(maps) if self.twice else first
        return self.fc(first.mean((2, 3))) + 2 * self.fc(second.amax((2, 3)))


@pytest.mark.parametrize("method", ["hires-cam", "ablation-cam", "eigen-cam"])
def test_two_relus_of_one_output_are_one_layer(method: str) -> None:
    x = torch.rand(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected, found = (
        xaikit.attribute(xaikit.Classifier(TwoRelus(twice).double(), size=8), x, 1, method, layer="conv + relu")
        for twice in (False, True)
    )
    assert torch.allclose(found.values, expected.values, rtol=0, atol=1e-9 * float(expected.values.abs().max()))


class Passing(nn.Module):
    """The second use of a tensor lies behind a module that returns its input."""

    def __init__(self, overwritten: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.short, self.act = nn.Conv2d(3, 6, 3), nn.Identity(), nn.ReLU(inplace=overwritten)
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        short = self.short(x)
        return self.fc((self.act(x).square() + short).mean((2, 3)))


def test_a_shortcut_is_a_layer_of_its_own_unless_it_is_overwritten() -> None:
    x = torch.rand(2, 3, 12, 12)
    network = Passing(overwritten=False)
    found = xaikit.attribute(xaikit.Classifier(network, size=12), x, 1, "hires-cam", layer="short")
    assert torch.allclose(found.values, torch.einsum("nkhw,k->nhw", network.stem(x), network.fc.weight[1]) / 100)
    for method in ("hires-cam", "ablation-cam"):
        with pytest.raises(BadInput, match="layer 'short': expected an output of its own"):
            xaikit.attribute(xaikit.Classifier(Passing(overwritten=True), size=12), x, 1, method, layer="short")


class Stored(nn.Module):
    """A layer that returns a tensor which it made in its first forward."""

    def forward(self, x: Tensor) -> Tensor:
        if not hasattr(self, "scale"):
            self.scale = torch.linspace(1, 2, x[0].numel()).reshape(1, *x.shape[1:])
        return self.scale


class Lent(nn.Module):
    """A layer that returns a parameter of another module."""

    def __init__(self, scale: nn.Parameter) -> None:
        super().__init__()
        self.lend = lambda: scale

    def forward(self, x: Tensor) -> Tensor:
        return self.lend()


class Scaled(Passing):
    """A tensor that is older than the forward scales the features."""

    def __init__(self, lent: bool) -> None:
        super().__init__(overwritten=False)
        self.scale = nn.Parameter(torch.rand(1, 6, 10, 10)) if lent else None
        self.short = Lent(self.scale) if lent else Stored()

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.fc((self.act(x) * self.short(x)).mean((2, 3)))


@pytest.mark.parametrize("lent", [False, True])
@pytest.mark.parametrize("method", ["hires-cam", "ablation-cam"])
def test_tensors_older_than_the_forward_stay_as_they_were(method: str, lent: bool) -> None:
    network, x = Scaled(lent), torch.rand(1, 3, 12, 12)
    before = network(x)
    xaikit.attribute(xaikit.Classifier(network, size=12), x, 1, method, layer="short")
    assert torch.equal(network(x), before)
    assert network.scale.requires_grad if lent else not network.short.scale.requires_grad
