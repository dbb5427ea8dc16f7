"""Edges: the edge strength of the image.

    map = sqrt(Gx^2 + Gy^2)        Gx, Gy: 3x3 Sobel of the mean over channels

In words: The map is the strength of the image's edges, computed by a Sobel filter without the network. It is a control:
fine, not negative, and the same for every class and every network. It looks convincing to the eye although it cannot
tell anything about a decision. If a method's maps resemble it, they may show the picture rather than what the network
used.

Gradient maps can look convincing because they resemble edges; this map shows edges without a model.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W) >= 0.
Source: control row of the benchmark; Adebayo et al., NeurIPS 2018, compare with edge detectors.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from xaikit.methods.base import METHODS, Method, Values
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@METHODS.register
@dataclass(frozen=True)
class Edges(Method):
    """Sobel edge strength of the image."""

    name = "edges"
    family = "control"
    source = "control: Sobel edges"
    signed = False
    class_specific = False
    passes = Cost(1, 0)

    def compute(self, batch: Batch) -> Values:
        """Return the edge strength (n, H, W)."""
        sobel = batch.pixels.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
        kernels = torch.stack([sobel, sobel.T])[:, None]
        grey = F.pad(batch.pixels.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
        return Values(F.conv2d(grey, kernels).square().sum(1).sqrt())
