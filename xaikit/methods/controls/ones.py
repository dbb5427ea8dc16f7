"""Ones: the same importance for every pixel.

    map = 1

In words: Every pixel gets the same value, for every image, class and network. It is a control and explains nothing.
Used as a mask it removes nothing, so measures that punish a loss of confidence give it their best value. Measures that
order the pixels find only ties in it. Read such measures beside one that tells how much of the image a mask keeps, such
as mean-map.

As a mask it removes nothing, so it has a perfect value in measures that reward weak masks (average drop).

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W), all 1.
Source: control row of the benchmark.
"""

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
    passes = Cost(1, 0)

    def compute(self, batch: Batch) -> Values:
        """Return ones (n, H, W)."""
        return Values(torch.ones_like(batch.pixels[:, 0]))
