"""Fake-CAM: ones except for one pixel: no explanation, but good average drop and increase in confidence.

    map = 1 everywhere, 0 in the top left pixel

In words: The map is one everywhere except for a single pixel. It is a control and explains nothing. As a soft mask it
leaves the image practically unchanged, so the confidence hardly drops and often rises by a trace. It shows that average
drop and the rate of increase can be satisfied without an explanation; read them together with the mean of the map or
with srg.

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
