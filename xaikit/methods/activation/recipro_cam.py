"""Recipro-CAM: the confidence that remains when all but one place of a layer is set to zero.

    g_p(q) = exp(-|q - p|^2 / 2 spread^2) in the 3 x 3 window around cell p, 0 elsewhere
    map(p) = p_c(tail(A (*) g_p))                                                          one value per cell p

In words: A layer's activations are kept at one cell of its grid and, fading, at the cells beside it, and set to zero
everywhere else; the probability that the network then gives to the class is the value of that cell. The map is coarse,
has no sign, and needs no gradient. It costs one forward per cell, not per channel. Evidence that only counts together
with that of another place gets little, and zero activations everywhere else are unusual for the network.

The window at the border is cut off. Where the part behind the layer can run alone it does, from one forward of the
image (tail.py); the result's params say "tail", else "full".

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, h, w), the layer's own grid.
Units:  probability.
Source: Byun & Lee, CVPR Workshops 2024, arXiv:2209.14074.
Departs from source: the map is not scaled to [0, 1].
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from xaikit.foundation.parameters import NotNegative
from xaikit.methods.activation.tail import Tail
from xaikit.methods.base import METHODS, LayerMethod, Values
from xaikit.model.target import Target
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@METHODS.register
@dataclass(frozen=True)
class ReciproCAM(LayerMethod):
    """Confidence of the network in what one place of a layer holds.

    Args:
        spread: standard deviation of the 3 x 3 window in cells; 0 keeps one cell alone.
    """

    spread: NotNegative = 1.0

    name = "recipro-cam"
    family = "activation"
    source = "Byun & Lee, CVPR Workshops 2024, arXiv:2209.14074"
    needs = frozenset({"activations", "probabilities"})
    signed = False

    def compute(self, batch: Batch) -> Values:
        """Return the confidence per kept cell, (n, h, w)."""
        count, _, height, width = batch.activations(self.place).shape
        windows = self._windows(height, width).to(batch.activations(self.place))
        rows = torch.arange(count, device=windows.device).repeat_interleave(len(windows))

        def confidence(target: Target, logits: Tensor) -> Tensor:
            return target.confidence(logits, self.classifier.output)

        def window(cells: Tensor) -> Tensor:
            return windows[cells % len(windows), None]

        kept, _, path = Tail(batch, self.place, rows, window, confidence, "cells").answers()
        return Values(kept.reshape(count, height, width), params={"path": path})

    def cost(self, size: tuple[int, int]) -> Cost:
        """One forward of the clean image and at most one per cell of the layer."""
        _, height, width = self.classifier.outline().layers[self.place.name]
        return Cost(1 + height * width, 0)

    def _windows(self, height: int, width: int) -> Tensor:
        """Return the weights g_p (h w, h, w) of every cell p."""
        rows = torch.arange(height, device="cpu")[:, None] - torch.arange(height, device="cpu")
        columns = torch.arange(width, device="cpu")[:, None] - torch.arange(width, device="cpu")
        down, across = (
            torch.where(gap.abs() <= 1, torch.exp(-(gap.double() / self.spread).square() / 2), 0)
            if self.spread
            else (gap == 0).double()
            for gap in (rows, columns)
        )
        return (down[:, None, :, None] * across[None, :, None, :]).flatten(0, 1)
