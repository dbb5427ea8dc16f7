"""Fake-CAM: ones except for one pixel: no explanation, but good average drop and increase in confidence.

    map = 1 everywhere, 0 in the top left pixel

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W) in {0, 1}.
Source: Poppi et al., CVPR Workshops 2021, arXiv:2104.10252.
"""

from dataclasses import dataclass

import torch

from xaikit.methods.base import METHODS, Method, Values
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@METHODS.register
@dataclass(frozen=True)
class Fake(Method):
    """A map of ones with a zero in the top left corner."""

    name = "fake"
    family = "control"
    source = "Poppi et al., CVPR Workshops 2021, arXiv:2104.10252"
    signed = False
    class_specific = False
    passes = Cost(1, 0)

    def compute(self, batch: Batch) -> Values:
        """Return ones (n, H, W) with a zero in the top left corner."""
        values = torch.ones_like(batch.pixels[:, 0])
        values[:, 0, 0] = 0.0
        return Values(values)
