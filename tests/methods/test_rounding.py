"""Scores that differ by their rounding alone give a constant map, which is flagged, and not their rounding as a map."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from xaikit.methods.base import METHODS
from xaikit.model.classifier import Classifier
from xaikit.model.target import Target

PARAMS: dict[str, dict[str, Any]] = {
    "occlusion": {"window": 3},
    "feature-ablation": {"segments": 6},
    "kernel-shap": {"segments": 6},
    "partition-shap": {"samples": 30},
    "lime": {"samples": 40, "segments": 6, "fill": "black"},
    "sobol": {"samples": 4, "grid": 2},
    "hsic": {"samples": 20, "grid": 2},
    "rise": {"samples": 20, "grid": 2, "variant": "centred"},
    "meaningful-perturbation": {"steps": 20},
}
NAMES = [pytest.param(name, marks=[pytest.mark.slow] * (name == "partition-shap")) for name in PARAMS]  # imports shap


class Shifted(nn.Module):
    """Logits of a small network, times a factor, plus one constant for each class."""

    def __init__(self, factor: float, *shifts: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, len(shifts), 3, padding=1)
        nn.init.normal_(self.conv.weight, generator=torch.Generator().manual_seed(0))
        self.factor, self.shifts = factor, torch.tensor(shifts)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights = torch.linspace(-1, 2, x.shape[2] * x.shape[3]).reshape(x.shape[2:])
        return self.factor * (self.conv(x).relu() * weights).mean((2, 3)) + self.shifts.to(x)


def flags(name: str, network: nn.Module, target: Any = 0, **more: Any) -> tuple[set[str], float]:
    method = METHODS.get(name).build(Classifier(network.eval(), mean=0.5, std=0.25), **PARAMS[name] | more)
    made = method.attribute(torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1)), target)
    return made.flags[0], float(made.heatmap().std())


@pytest.mark.parametrize("name", NAMES)
def test_a_class_that_is_sure_or_absent_gives_a_constant_map(name: str) -> None:
    more = {"score": "probability"} if "score" in METHODS.get(name).__dataclass_fields__ else {}
    sure, absent = Shifted(0.1, 16.0, 0, 0), Shifted(1e-3, -2.0, 0, 0)
    assert flags(name, sure, **more) == ({"constant"}, 0)
    found, spread = flags(name, absent, **more)  # small differences, but well above rounding
    assert ("constant" in found) == (name == "meaningful-perturbation")
    assert (spread > 0.01) == (name != "meaningful-perturbation")
    assert name != "meaningful-perturbation" or flags(name, Shifted(9, -0.5, 0, 0))[1] > 0.01
    itself = Target(torch.tensor([0]), torch.tensor([0]), names=("class 0 against class 0",))
    assert flags(name, sure, itself, **more) == ({"constant", "against-itself"}, 0)


@pytest.mark.parametrize("name", [name for name in NAMES if name.values[0] not in ("rise", "meaningful-perturbation")])
def test_the_rounding_of_a_large_score_is_no_map(name: str) -> None:
    """The float32 step at 1000 is 6e-5, as large as the differences."""
    assert flags(name, Shifted(1e-4, 1000.0, 0), score="logit") == ({"constant"}, 0)
    assert flags(name, Shifted(1e-4, 1000.0, 0).double(), score="logit")[1] > 0.01
