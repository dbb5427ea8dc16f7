"""Guided integrated gradients: integrated gradients along a path that first changes where the gradient is small.

    values = sum_t (x_{t+1} - x_t) * d score / d x at x_t        x_0 = x' the baseline, x_T = x
    x_t = x' + a * (x - x')                                     a: progress of each coordinate, from 0 to 1

In words: As in integrated gradients, gradients are collected on the way from a baseline to the image, but the path
changes first the pixels where the gradient is small, which is meant to avoid large gradients that have little to do
with the image. The map is fine, signed and specific to the class. Its values add up to the score difference only
approximately; the gap is reported. The steps follow one another, image by image, so it is slow: 200 backwards by
default.

Step t of T, with b = (t + 1) / T:
    every coordinate below b - reach moves to b - reach
    among the coordinates below b + reach, the `fraction` with the smallest |gradient| moves towards b + reach, all by
    the same share, chosen such that sum |x - x_t| = (1 - b) sum |x - x'|
    if these do not suffice, they move all the way to b + reach and the next `fraction` follows, by the same gradient

Completeness: sum(values) = score(x) - score(x') only approximately, because one gradient covers steps of up to twice
the reach; the gap is reported per image, which is flagged `incomplete` above 1 %.

With `weighting="idgi"` (Yang et al., CVPR 2023, arXiv:2303.14242) each step gives out the change of the score over it,
in shares of the squared gradient, and nothing is missed:

    values = sum_t g_t^2 / sum g_t^2 * (score at x_{t+1} - score at x_t)        g_t at x_t

Images run one after another: rounding, which depends on the other rows of a batch, decides which of two almost equal
gradients is smaller, and one coordinate in another order leads to another path. A different device or precision may
therefore change the map by some percent of its range.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W) summed over channels, or (N, C, H, W) with `channels=True`.
Units:  score.
Source: Kapishnikov et al., CVPR 2021, algorithm 1 with anchors, arXiv:2106.09788.
Departs from source: nothing; coordinates of equal |gradient| advance together.
"""

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Le
from torch import Tensor

from xaikit.foundation.parameters import Count, Share
from xaikit.images.fills import Fill
from xaikit.images.shapes import per_image
from xaikit.methods.base import METHODS, InputMethod, Values
from xaikit.methods.gradient.completeness import flagged, missed
from xaikit.methods.gradient.idgi import Weighting, important_direction
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost

_TOLERANCE = 1e-9  # remaining share of the distance that counts as zero


@METHODS.register
@dataclass(frozen=True)
class GuidedIntegratedGradients(InputMethod):
    """Path integral of the gradient along a path of small gradients.

    Args:
        steps: number of points on the path.
        fraction: share of the coordinates that move together; each step moves up to 1 / fraction groups in turn.
        reach: largest lead or lag of a coordinate relative to the straight path, as a share of the path.
        baseline: start of the path: the name of a fill, or pixels that broadcast to the images.
        weighting: "path" multiplies the gradient by the change of the image, "idgi" gives out the change of the score
            in shares of the squared gradient.
    """

    steps: Count = 200
    fraction: Annotated[float, Ge(0.01), Le(1)] = 0.25
    reach: Share = 0.02
    baseline: Fill | Tensor = "mean"
    weighting: Weighting = "path"

    name = "guided-integrated-gradients"
    family = "gradient"
    source = "Kapishnikov et al., CVPR 2021, arXiv:2106.09788"
    needs = frozenset({"input-gradient"})

    def compute(self, batch: Batch) -> Values:
        """Return the sum along the path, (n, C, H, W)."""
        starts = batch.filled(self.baseline, "baseline").expand_as(batch.inputs)
        paths = [self._path(batch, starts[row : row + 1], row) for row in range(len(batch))]
        values, others = (torch.cat(parts) for parts in zip(*paths, strict=True))
        gap = values.flatten(1).sum(1) - (batch.scores - others)
        return Values(values, completeness=gap, flags=flagged(missed(gap, batch.scores, others, batch.arithmetic)))

    def _path(self, batch: Batch, start: Tensor, row: int) -> tuple[Tensor, Tensor]:
        """Return the sum (1, C, H, W) along the path of image `row` from `start` (1, C, H, W), and the score there."""
        image, rows = batch.inputs[row : row + 1], torch.tensor([row], device=start.device)
        difference = image - start
        distance = difference.abs()
        values, progress = torch.zeros_like(difference), torch.zeros_like(difference)
        other = batch.scores[:0]
        for step in range(1, self.steps + 1):
            score, gradient = batch.score_gradients(torch.lerp(start, image, progress), rows)
            other = score if step == 1 else other
            advanced = self._advanced(progress, distance, gradient.abs(), step)
            if self.weighting == "idgi":
                change = batch.scores_of(torch.lerp(start, image, advanced), rows) - score
                values += important_direction(gradient, change)
            else:
                values += (advanced - progress) * difference * gradient
            progress = advanced
            if batch.context.progress is not None:
                batch.context.progress(row * self.steps + step, len(batch) * self.steps, "path points")
        return values, other

    def cost(self, size: tuple[int, int]) -> Cost:
        """Return the passes: a forward and a backward per step, another forward with "idgi", and one for the image."""
        return Cost((self.steps if self.weighting == "path" else 2 * self.steps) + 1, self.steps)

    def _advanced(self, progress: Tensor, distance: Tensor, slope: Tensor, step: int) -> Tensor:
        """Return the progress (n, C, H, W) of all coordinates after a step.

        Args:
            progress: (n, C, H, W) before the step, in [0, 1].
            distance: (n, C, H, W) |x - x'|.
            slope: (n, C, H, W) |gradient|.
            step: number of the step, from 1.
        """
        if step == self.steps:
            return torch.ones_like(progress)
        goal = step / self.steps
        furthest = progress.new_tensor(min(goal + self.reach, 1.0))
        progress = progress.clamp(min=goal - self.reach)
        missing, negligible = _total((goal - progress) * distance), _TOLERANCE * _total(distance)
        room = (furthest - progress).clamp(min=0) * distance
        slope = slope.masked_fill(room <= 0, torch.inf)
        ordered = _ascending(slope.flatten(1))
        last, largest = ordered.shape[1] - 1, torch.finfo(slope.dtype).max
        group = math.floor(self.fraction * last)
        moved = torch.zeros(len(slope), 1, dtype=torch.int64, device=slope.device)
        while bool((missing > negligible).any()):
            threshold = ordered.gather(1, (moved + group).clamp(max=last)).clamp(max=largest)
            chosen = slope <= per_image(threshold[:, 0], slope)
            possible = _total(room * chosen)
            share = torch.where(possible > missing, missing / possible, 1.0).clamp(min=0)
            progress = torch.lerp(progress, furthest, chosen * per_image(share, slope))
            slope.masked_fill_(chosen, torch.inf)
            missing = (missing - possible).clamp(min=0) * (possible > 0)
            moved += chosen.flatten(1).sum(1, keepdim=True)
        return progress


def _ascending(values: Tensor) -> Tensor:
    """Return the values (n, m) of each image in ascending order; NumPy sorts ten times faster than torch on a CPU."""
    if values.device.type == "cpu":
        return torch.from_numpy(np.sort(values.numpy(), axis=1))
    return values.sort(1).values


def _total(values: Tensor) -> Tensor:
    """Return the sum (n,) of values (n, C, H, W), in a summation order that does not depend on n."""
    return values.sum(3).sum((1, 2))
