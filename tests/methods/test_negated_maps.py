"""Outputs of a map that are used as they are and negated (CReLU) give the map of one network with weights [W, -W]."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.networks import seeded
from xaikit.methods.base import METHODS
from xaikit.model.classifier import Classifier

NEGATED: dict[str, Callable[[Tensor], Tensor]] = {
    "minus": lambda a: -a,
    "factor": lambda a: a * -2,
    "quotient": lambda a: a / torch.full((4, 1, 1), -0.5, dtype=a.dtype),
    "in place": lambda a: a.clone().neg_(),
}

OTHERS = ("excitation-backprop", "contrastive-lrp")


class Both(nn.Module):
    """relu(conv) and relu(-factor conv), side by side, perhaps after a BatchNorm; or the same by one convolution."""

    def __init__(self, how: str, norm: bool) -> None:
        super().__init__()
        self.how = how
        self.stem, self.conv = nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(5, 4, 3, padding=1)
        self.last, self.head = nn.Conv2d(8, 6, 3), nn.Linear(6, 3)
        self.norm = nn.BatchNorm2d(4) if norm else None
        if self.norm is not None:
            nn.init.normal_(self.norm.running_mean)
            nn.init.uniform_(self.norm.running_var, 0.5, 2)
            nn.init.normal_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        f = self.stem(x).relu()
        if self.how in NEGATED:
            a = self.conv(f) if self.norm is None else self.norm(self.conv(f))
            h = torch.cat([F.relu(a), F.relu(NEGATED[self.how](a))], 1)
        else:
            scale, shift = torch.ones(4).to(x), torch.zeros(4).to(x)
            if self.norm is not None:
                scale = self.norm.weight / (self.norm.running_var + self.norm.eps).sqrt()
                shift = self.norm.bias - self.norm.running_mean * scale
            weight, bias = self.conv.weight * scale.reshape(-1, 1, 1, 1), self.conv.bias * scale + shift
            by = -1 if self.how == "one" else -2
            h = F.relu(F.conv2d(f, torch.cat([weight, by * weight]), torch.cat([bias, by * bias]), padding=1))
        return self.head(self.last(h).relu().mean((2, 3)))


@pytest.mark.parametrize("norm", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.parametrize("how", NEGATED)
@pytest.mark.parametrize("name", ["lrp", *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_a_negated_use_is_that_of_a_negated_map(name: str, how: str, norm: bool) -> None:
    forms = (how, "two" if how in ("factor", "quotient") else "one")
    made = [METHODS.get(name)(Classifier(seeded(lambda form=form: Both(form, norm)), mean=0.5)) for form in forms]
    pixels = torch.rand(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found, expected = (method.attribute(pixels, 0) for method in made)
    scale = float(expected.values.abs().max())
    torch.testing.assert_close(found.values / scale, expected.values / scale, rtol=0, atol=1e-9)
    assert found.flags == expected.flags


def test_a_negated_use_inside_a_network_of_one_logit() -> None:
    pixels = torch.rand(1, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    values = []
    for how in ("minus", "one"):
        network = seeded(lambda how=how: Both(how, False))
        network.head = nn.Linear(6, 1).double()
        nn.init.ones_(network.head.weight)
        nn.init.zeros_(network.head.bias)
        lrp = METHODS.get("lrp")(Classifier(network, mean=0.5))
        values.append(torch.cat([lrp.attribute(pixels, target).values for target in (0, 1)]))
    torch.testing.assert_close(*values)


MINIMA: dict[str, Callable[[Tensor], Tensor]] = {
    "clamp": lambda a: -((-a).clamp(max=0)),
    "clamp_max": lambda a: -torch.clamp_max(-a, 0),
    "in place": lambda a: -((-a).clamp_(max=0)),
    "limits": lambda a: -((-a).clamp(max=torch.zeros_like(a[0]))),
    "factors": lambda a: (a * -2).clamp(-9, 0) / -2,
}


class Rectified(nn.Module):
    """Two convolutions, each with the same ReLU."""

    def __init__(self, relu: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second, self.head, self.relu = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3), nn.Linear(5, 3), relu

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.relu(self.second(self.relu(self.first(x)))).mean((2, 3)))


@pytest.mark.parametrize("form", MINIMA)
@pytest.mark.parametrize("name", ["lrp", *(pytest.param(name, marks=pytest.mark.slow) for name in (*OTHERS, "rap"))])
def test_a_negative_minimum_is_a_relu(name: str, form: str) -> None:
    pixels = torch.rand(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    made = [seeded(lambda relu=relu: Rectified(relu)) for relu in (MINIMA[form], F.relu)]
    found, expected = (METHODS.get(name)(Classifier(net, mean=0.5)).attribute(pixels, 0) for net in made)
    scale = float(expected.values.abs().max())
    torch.testing.assert_close(found.values / scale, expected.values / scale, rtol=0, atol=1e-9)
