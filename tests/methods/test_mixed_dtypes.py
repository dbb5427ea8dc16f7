"""A network whose head has another dtype than its layers gives the maps of the same network in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.networks import images
from xaikit.api import attribute
from xaikit.model.classifier import Classifier


class Mixed(nn.Module):
    """A convolution, and a head of another dtype, to which the pooled activations are brought."""

    def __init__(self, stem: torch.dtype, head: torch.dtype, power: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.fc = nn.Conv2d(3, 6, 3).to(stem), nn.Linear(6, 4).to(head)
        self.power = power

    def forward(self, x: Tensor) -> Tensor:
        features = F.relu(self.conv(x.to(self.conv.weight.dtype))) ** self.power
        return self.fc(features.to(self.fc.weight.dtype).mean((2, 3)))


METHODS: dict[str, dict[str, Any]] = {
    "cam": {},
    "grad-cam": {"layer": "conv"},
    "ablation-cam": {"layer": "conv"},
    "integrated-gradients": {"steps": 4},
}


@pytest.mark.parametrize(
    ("name", "power"), [(name, power) for name in METHODS for power in (1, 2) if (name, power) != ("cam", 2)]
)
@pytest.mark.parametrize("dtypes", [(torch.float32, torch.float64), (torch.float64, torch.float32)])
def test_a_head_of_another_dtype(name: str, dtypes: tuple[torch.dtype, torch.dtype], power: int) -> None:
    x = images(2, dtype=torch.float32)
    mixed, double = (Classifier(Mixed(*kinds, power), size=8) for kinds in (dtypes, (torch.float64,) * 2))
    found, expected = (attribute(clf, x, 1, name, **METHODS[name]).values.double() for clf in (mixed, double))
    assert torch.allclose(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
