"""Integrated gradients: the gradient collected along the straight path from a baseline to the image.

    values = (x - x') * mean_m d score / d x at x' + a_m (x - x')        a_m = (m + 1/2) / steps

Completeness: sum(values) = score(x) - score(x'), up to the quadrature; the gap is reported per image. Steps start at 50
and double up to 400 for each image whose gap is above 1 % of the difference; `steps=N` fixes them.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W) summed over channels, or (N, C, H, W) with `channels=True`.
Units:  score.
Source: Sundararajan, Taly & Yan, ICML 2017, eq. 1 and 3, arXiv:1703.01365.
Departs from source: midpoints instead of right end points (smaller error at equal cost, exact for linear models);
    steps adapt to the gap; the baseline is the mean colour, which is zero after normalisation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from xaikit.core.batch import Batch
from xaikit.core.errors import BadInput
from xaikit.core.method import METHODS, Cost, Family, InputMethod, Need, Values
from xaikit.core.perturb import Fill, check_fill, fill_values

__all__ = ["IntegratedGradients"]

_FIRST, _MOST, _GAP = 50, 400, 0.01


@METHODS.register
@dataclass(frozen=True)
class IntegratedGradients(InputMethod):
    """Path integral of the gradient from a baseline.

    Args:
        steps: points on the path; None starts at 50 and doubles up to 400 until the gap is under 1 %.
        baseline: where the path begins: a fill by name, or pixels that broadcast to the images.
    """

    steps: int | None = None
    baseline: Fill | Tensor = "mean"

    name: ClassVar[str] = "integrated-gradients"
    family: ClassVar[Family] = "gradient"
    source: ClassVar[str] = "Sundararajan et al., ICML 2017, arXiv:1703.01365"
    needs: ClassVar[frozenset[Need]] = frozenset({"input-gradient"})

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise BadInput(f"steps: expected at least 1, got {self.steps}; leave it out to adapt it")
        check_fill(self.baseline)

    def compute(self, batch: Batch) -> Values:
        """Return (x - x') times the mean gradient, (n, C, H, W)."""
        filled = fill_values(self.classifier, batch.pixels, self.baseline, batch.generators("baseline"))
        start = filled.expand_as(batch.inputs)
        every = torch.arange(len(batch), device=start.device)
        expected = batch.scores - batch.scores_of(start, every)
        values = torch.zeros_like(batch.inputs)
        gaps = torch.zeros_like(expected)
        used = [0] * len(batch)
        steps, open_rows = self.steps or _FIRST, every
        while len(open_rows):
            found = self._integrate(batch, start, open_rows, steps)
            gap = found.flatten(1).sum(1) - expected[open_rows]
            values[open_rows], gaps[open_rows] = found, gap
            for row in open_rows.tolist():
                used[row] = steps
            if self.steps is not None or steps >= _MOST:
                break
            open_rows = open_rows[gap.abs() > _GAP * expected[open_rows].abs()]
            steps *= 2
        return Values(values, completeness=gaps, params={"steps": used})

    def cost(self, size: tuple[int, int]) -> Cost:
        """A forward and a backward a step, and the two ends of the path."""
        steps = self.steps or _FIRST
        return Cost(steps + 2, steps)

    def _integrate(self, batch: Batch, start: Tensor, rows: Tensor, steps: int) -> Tensor:
        """Return (x - x') times the mean gradient over `steps` midpoints for the images `rows`."""
        difference = (batch.inputs - start)[rows]
        total = torch.zeros_like(difference)

        def gradients(places: Tensor, points: Tensor) -> Tensor:
            along = ((points + 0.5) / steps).to(difference).reshape(-1, 1, 1, 1)
            path = start[rows[places]] + along * difference[places]
            return batch.score_gradients(path, rows[places])[1]

        for places, _, gradient in batch.pairs(steps, gradients, "path points", images=len(rows)):
            total.index_add_(0, places, gradient)
        return difference * total / steps
