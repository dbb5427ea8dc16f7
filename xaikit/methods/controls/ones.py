"""Ones: every pixel matters alike.

    map = 1

It masks nothing, so a measure that rewards not masking (average drop) is perfect for it.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W), all 1.
Source: control row of the benchmark.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from xaikit.methods.base import METHODS, Method, Values
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@METHODS.register
@dataclass(frozen=True)
class Ones(Method):
    """A map that is one everywhere."""

    name = "ones"
    family = "control"
    source = "control: a constant map"
    signed = False
    class_specific = False

    def compute(self, batch: Batch) -> Values:
        """Return ones (n, H, W)."""
        return Values(torch.ones_like(batch.pixels[:, 0]))

    def cost(self, size: tuple[int, int]) -> Cost:
        """Nothing beyond the clean forward that names the class."""
        return Cost(1, 0)
