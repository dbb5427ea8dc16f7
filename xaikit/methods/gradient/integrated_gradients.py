"""Integrated gradients: the gradient collected along the straight path from a baseline to the image.

    values = (x - x') * sum_m w_m d score / d x at x' + a_m (x - x')
    midpoint          a_m = (m + 1/2) / steps, w_m = 1 / steps
    gauss-legendre    a_m, w_m of the Gauss-Legendre rule on [0, 1]

Of several baselines the values are averaged. Completeness: sum(values) = score(x) - mean score(x'), up to the
quadrature; the gap is reported per image. Steps start at 50 and double up to 400 for each image whose gap is above 1 %
of the difference; `steps=N` fixes them.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W) summed over channels, or (N, C, H, W) with `channels=True`.
Units:  score.
Source: Sundararajan, Taly & Yan, ICML 2017, eq. 1 and 3, arXiv:1703.01365.
Departs from source: midpoints instead of right end points (smaller error at equal cost, exact for linear models);
    steps adapt to the gap; the baseline is the mean colour, which is zero after normalisation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.foundation.parameters import Count
from xaikit.images.fills import Fill
from xaikit.methods.base import METHODS, InputMethod, Values
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost

Quadrature = Literal["midpoint", "gauss-legendre"]

_FIRST, _MOST, _GAP = 50, 400, 0.01


@METHODS.register
@dataclass(frozen=True)
class IntegratedGradients(InputMethod):
    """Path integral of the gradient from a baseline.

    Args:
        steps: points on the path; None starts at 50 and doubles up to 400 until the gap is under 1 %.
        baseline: where the path begins: a fill by name, pixels that broadcast to the images, or several of
            either, whose values are averaged; a name given twice draws twice.
        quadrature: which points on the path, and what each counts.
    """

    steps: Count | None = None
    baseline: Fill | Tensor | tuple[Fill | Tensor, ...] = "mean"
    quadrature: Quadrature = "midpoint"

    name = "integrated-gradients"
    family = "gradient"
    source = "Sundararajan et al., ICML 2017, arXiv:1703.01365"
    needs = frozenset({"input-gradient"})

    def check(self) -> None:
        """Refuse parameters that do not go together."""
        if not isinstance(self.baseline, Tensor) and not self.baseline:
            raise BadInput("baseline: expected at least one, got none; leave it out for the mean colour")

    def compute(self, batch: Batch) -> Values:
        """Return (x - x') times the mean gradient, (n, C, H, W)."""
        starts = self._starts(batch)
        every = torch.arange(len(batch), device=starts.device)
        expected = batch.scores - torch.stack([batch.scores_of(start, every) for start in starts]).mean(0)
        values, gaps = torch.zeros_like(batch.inputs), torch.zeros_like(expected)
        used = [0] * len(batch)
        steps, open_rows = self.steps or _FIRST, every
        along = batch.folded_for(steps * len(starts))
        while len(open_rows):
            found = self._integrate(along, starts, open_rows, steps)
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
        """A forward and a backward a step and baseline, and the ends of the paths."""
        steps, baselines = self.steps or _FIRST, len(self._baselines)
        return Cost((steps + 1) * baselines + 1, steps * baselines)

    @property
    def _baselines(self) -> tuple[Fill | Tensor, ...]:
        return self.baseline if isinstance(self.baseline, tuple) else (self.baseline,)

    def _starts(self, batch: Batch) -> Tensor:
        """Return where the paths begin, (baselines, n, C, H, W)."""
        filled = [batch.filled(baseline, f"baseline {place}") for place, baseline in enumerate(self._baselines)]
        return torch.stack([one.expand_as(batch.inputs) for one in filled])

    def _integrate(self, batch: Batch, starts: Tensor, rows: Tensor, steps: int) -> Tensor:
        """Return the sum over `steps` points of each path, averaged over baselines, for the images `rows`."""
        points, weights = (one.to(batch.inputs) for one in quadrature_rule(self.quadrature, steps))
        total = torch.zeros_like(batch.inputs[rows])

        def products(places: Tensor, items: Tensor) -> Tensor:
            images, step = rows[places], items % steps
            start = starts[items // steps, images]
            difference = batch.inputs[images] - start
            path = start + points[step].reshape(-1, 1, 1, 1) * difference
            gradient = batch.score_gradients(path, images)[1]
            return gradient.mul_(difference).mul_(weights[step].reshape(-1, 1, 1, 1))

        for places, _, product in batch.pairs(steps * len(starts), products, "path points", images=len(rows)):
            total.index_add_(0, places, product)
        return total / len(starts)


def quadrature_rule(name: Quadrature, steps: int) -> tuple[Tensor, Tensor]:
    """Return points and weights (steps,) float64 of a rule on [0, 1]; the weights sum to one."""
    if name == "midpoint":
        points = (torch.arange(steps, dtype=torch.float64, device="cpu") + 0.5) / steps
        return points, torch.full_like(points, 1 / steps)
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    return torch.from_numpy((nodes + 1) / 2), torch.from_numpy(weights / 2)
