"""Integrated gradients: the gradient integrated along the straight path from a baseline to the image.

    values = (x - x') * sum_m w_m d score / d x at x' + a_m (x - x')
    midpoint          a_m = (m + 1/2) / steps, w_m = 1 / steps
    gauss-legendre    a_m, w_m of the Gauss-Legendre rule on [0, 1]

In words: The image is faded in from a baseline, the mean colour by default, and the gradients on the way are averaged
and multiplied by the difference between image and baseline. The map is fine, signed and specific to the class, and its
values add up to the difference of the two scores; the gap is reported. Everything is relative to the baseline: pixels
of its colour get zero, so try a second baseline. The map is often noisy. It costs 50 backwards, and more where the gap
is large.

With several baselines the values are averaged. Completeness: sum(values) = score(x) - mean score(x'), up to the
quadrature error; the gap is reported per image. By default an image starts with 50 steps, doubled up to 400 while its
gap exceeds 1 % of the difference; `steps=N` fixes the number. An image whose gap exceeds 1 % in the end is flagged
`incomplete`.

With `weighting="idgi"` (Yang et al., CVPR 2023, arXiv:2303.14242) only the direction of the gradient counts, and each
step gives out the change of the score over it, in shares of the squared gradient:

    values = sum_m g_m^2 / sum g_m^2 * (score_{m+1} - score_m)        at a_m = m / steps

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W) summed over channels, or (N, C, H, W) with `channels=True`.
Units:  score.
Source: Sundararajan, Taly & Yan, ICML 2017, eq. 1 and 3, arXiv:1703.01365.
Departs from source: midpoints instead of right end points (smaller error at equal cost, exact for linear models); the
    number of steps adapts to the gap; the baseline is the mean colour, which is zero after normalisation.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.foundation.parameters import Count
from xaikit.images.fills import Fill
from xaikit.images.shapes import per_image
from xaikit.methods.base import METHODS, InputMethod, Values
from xaikit.methods.gradient.completeness import flagged, missed
from xaikit.methods.gradient.idgi import Weighting, important_direction
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost

Quadrature = Literal["midpoint", "gauss-legendre"]

_FIRST, _MOST = 50, 400
_MOST_NODES = 1000  # the nodes are the eigenvalues of a matrix of this size


@METHODS.register
@dataclass(frozen=True)
class IntegratedGradients(InputMethod):
    """Path integral of the gradient from a baseline.

    Args:
        steps: number of points on the path; None starts at 50 and doubles up to 400 until the gap is at most 1 %.
        baseline: start of the path: the name of a fill, pixels that broadcast to the images, or a tuple of these, whose
            values are averaged; a random fill that is named twice is drawn twice.
        quadrature: rule that sets the points on the path and their weights.
        weighting: "path" multiplies the gradient by the change of the image, "idgi" gives out the change of the score
            in shares of the squared gradient.
    """

    steps: Count | None = None
    baseline: Fill | Tensor | tuple[Fill | Tensor, ...] = "mean"
    quadrature: Quadrature = "midpoint"
    weighting: Weighting = "path"

    name = "integrated-gradients"
    family = "gradient"
    source = "Sundararajan et al., ICML 2017, arXiv:1703.01365"
    needs = frozenset({"input-gradient"})

    def check(self) -> None:
        """Check that there is a baseline, that the quadrature has a use, and its limit."""
        if not isinstance(self.baseline, Tensor) and not self.baseline:
            raise BadInput("baseline: expected at least one, got none; omit it to use the mean colour")
        if self.quadrature != "midpoint" and self.weighting == "idgi":
            raise BadInput(f"quadrature: expected none with weighting='idgi', got {self.quadrature!r}; omit it")
        if self.quadrature == "gauss-legendre" and (self.steps or 0) > _MOST_NODES:
            raise BadInput(f"steps: expected at most {_MOST_NODES} for gauss-legendre, got {self.steps}; use midpoint")

    def compute(self, batch: Batch) -> Values:
        """Return (x - x') times the mean gradient, (n, C, H, W)."""
        starts = self._starts(batch)
        rows = torch.arange(len(batch), device=starts.device)
        others = torch.stack([batch.scores_of(start, rows) for start in starts]).mean(0)
        values, gaps = torch.zeros_like(batch.inputs), torch.zeros_like(others)
        steps, steps_used = self.steps or _FIRST, [0] * len(batch)
        while len(rows):
            integral = self._integrate(batch, starts, rows, steps)
            gap = integral.flatten(1).sum(1) - (batch.scores - others)[rows]
            values[rows], gaps[rows] = integral, gap.to(gaps.dtype)
            for row in rows.tolist():
                steps_used[row] = steps
            if self.steps is not None or steps >= _MOST:
                break
            rows = rows[missed(gap, batch.scores[rows], others[rows], batch.arithmetic)]
            steps *= 2
        incomplete = missed(gaps, batch.scores, others, batch.arithmetic)
        return Values(values, completeness=gaps, flags=flagged(incomplete), params={"steps": steps_used})

    def cost(self, size: tuple[int, int]) -> Cost:
        """Return the passes: a forward and a backward per step and baseline, and a forward for each end of the paths.

        The weighting "idgi" takes another forward per step.
        """
        steps, baselines = self.steps or _FIRST, len(self._baselines)
        forwards = steps if self.weighting == "path" else 2 * steps
        return Cost((forwards + 1) * baselines + 1, steps * baselines)

    @property
    def _baselines(self) -> tuple[Fill | Tensor, ...]:
        return self.baseline if isinstance(self.baseline, tuple) else (self.baseline,)

    def _starts(self, batch: Batch) -> Tensor:
        """Return the starts of the paths, (baselines, n, C, H, W)."""
        filled = [batch.filled(baseline, f"baseline {index}") for index, baseline in enumerate(self._baselines)]
        return torch.stack([start.expand_as(batch.inputs) for start in filled])

    def _integrate(self, batch: Batch, starts: Tensor, rows: Tensor, steps: int) -> Tensor:
        """Return the integral over each path with `steps` points, averaged over baselines, for images `rows` (m,)."""
        points, weights = (rule.to(batch.inputs) for rule in quadrature_rule(self.quadrature, steps))
        total = torch.zeros_like(batch.inputs[rows])

        def products(indices: Tensor, items: Tensor) -> Tensor:
            images, step = rows[indices], items % steps
            start = starts[items // steps, images]
            difference = batch.inputs[images] - start
            if self.weighting == "idgi":
                here, there = (
                    start + per_image((step + more).to(start) / steps, start) * difference for more in (0, 1)
                )
                score, gradient = batch.score_gradients(here, images)
                return important_direction(gradient, batch.scores_of(there, images) - score)
            path = start + points[step].reshape(-1, 1, 1, 1) * difference
            gradient = batch.score_gradients(path, images)[1]
            return gradient.mul_(difference).mul_(weights[step].reshape(-1, 1, 1, 1))

        for indices, _, product in batch.pairs(steps * len(starts), products, "path points", images=len(rows)):
            total.index_add_(0, indices, product)
        return total / len(starts)


def quadrature_rule(name: Quadrature, steps: int) -> tuple[Tensor, Tensor]:
    """Return the points and weights (steps,) float64 of a quadrature rule on [0, 1]; the weights sum to one."""
    if name == "midpoint":
        points = (torch.arange(steps, dtype=torch.float64, device="cpu") + 0.5) / steps
        return points, torch.full_like(points, 1 / steps)
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    return torch.from_numpy((nodes + 1) / 2), torch.from_numpy(weights / 2)
