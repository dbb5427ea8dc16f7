"""Sobol indices: the share of the score's variance that involves a cell, when all cells are dimmed at random.

    A, B (n, d)   points of a Sobol sequence in [0, 1]^2d, one dimension per cell of a g x g grid, d = g^2
    C_i           A with column i from B
    ST_i = sum_n (f(A) - f(C_i))^2 / (2 n Var f(A))             the total-order index by Jansen's estimator

In words: All cells of a grid are dimmed at random together, and the map tells how much of the variation of the class's
probability involves each cell, alone or with others. It is coarse and never negative: it cannot tell support from
opposition. An interaction counts for every cell in it, so values may add up to more than one. Few samples per cell make
small values unreliable. It costs some 2,000 forwards by default, for 64 cells and 32 samples.

f is the score of the image under the mask with these cell values. B itself is not scored, so an image takes n (d + 1)
forwards. The sequence is scrambled by the seed and equal for all images. A constant score gives zeros.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W), one value per cell.
Units:  share of the variance; an interaction counts for each of its cells, so the sum may exceed 1.
Source: Fel et al., NeurIPS 2021, eq. 3 and section 3.2, arXiv:2111.04138; Jansen, Comp. Phys. Comm. 1999.
Departs from source: the sequence is scrambled, so that it depends on the seed; values are constant within a cell.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor
from torch.quasirandom import SobolEngine

from xaikit.foundation.errors import BadInput
from xaikit.foundation.identity import stream_seed
from xaikit.foundation.parameters import Count, check_table
from xaikit.images.cells import cell_numbers
from xaikit.images.fills import Fill
from xaikit.methods.base import METHODS, InputMethod, Values
from xaikit.methods.perturbation.scorer import Score, Scorer, rounding
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@METHODS.register
@dataclass(frozen=True)
class Sobol(InputMethod):
    """Share of the score's variance that involves a cell.

    Args:
        samples: number n of points in the sequence, a power of two; each takes one forward plus one per cell.
        grid: number of cells per side.
        fill: content of a fully dimmed cell: the name of a fill, or pixels that broadcast to the images.
        score: "probability" is that of the class, "logit" is the explained score.
    """

    samples: Annotated[int, Ge(2)] = 32
    grid: Count = 8
    fill: Fill | Tensor = "mean"
    score: Score = "probability"

    name = "sobol"
    family = "perturbation"
    source = "Fel et al., NeurIPS 2021, arXiv:2111.04138"
    signed = False
    needs = frozenset({"probabilities"})

    def check(self) -> None:
        """Check the limits of the Sobol sequence, and its memory."""
        if self.samples & (self.samples - 1):
            raise BadInput(f"samples: expected a power of two from 2, got {self.samples}; the paper uses 32")
        if 2 * self.grid**2 > SobolEngine.MAXDIM:
            most = int((SobolEngine.MAXDIM / 2) ** 0.5)
            raise BadInput(f"grid: expected at most {most} cells a side, got {self.grid}")
        check_table("samples", self.samples, 2 * self.grid**2, "lower samples or grid")

    def compute(self, batch: Batch) -> Values:
        """Return the total-order index of each pixel's cell, (n, H, W)."""
        scorer = Scorer(batch, self.fill, self.score)
        numbers = cell_numbers((self.grid, self.grid), batch.size, batch.pixels.device)
        cells = self.grid**2
        first, second = torch.split(self._points(batch.context.seed).to(scorer.clean), cells, dim=1)

        def masks(rows: Tensor, items: Tensor) -> Tensor:
            sample, cell = items // (cells + 1), items % (cells + 1)
            values = first[sample]
            changed = (cell < cells).nonzero()[:, 0]
            values[changed, cell[changed]] = second[sample[changed], cell[changed]]
            return values[:, numbers]

        scores = torch.stack(scorer.of_masks(self.samples * (cells + 1), masks))
        indices = [_total_indices(table) for table in scores.reshape(len(batch), self.samples, cells + 1)]
        return Values(torch.stack([index[numbers] for index in indices]))

    def cost(self, size: tuple[int, int]) -> Cost:
        """Return a forward for the clean image, and for each point one forward plus one per cell."""
        return Cost(1 + self.samples * (self.grid**2 + 1), 0)

    def _points(self, seed: int) -> Tensor:
        """Return the points A and B side by side, (samples, 2 * cells) float64."""
        root = stream_seed(seed, self.name, f"{self.grid}x{self.grid}")
        sequence = SobolEngine(2 * self.grid**2, scramble=True, seed=root)  # type: ignore[no-untyped-call]
        return sequence.draw(self.samples, dtype=torch.float64)


def _total_indices(scores: Tensor) -> Tensor:
    """Return the total-order indices (d,) of scores (n, d + 1), whose last column is f(A)."""
    dtype, limit, scores = scores.dtype, float(rounding(scores)), scores.double()
    unchanged = scores[:, -1]
    variance = unchanged.var(correction=0)
    if float(unchanged.amax() - unchanged.amin()) <= limit:
        return torch.zeros_like(scores[0, :-1], dtype=dtype)
    return ((unchanged[:, None] - scores[:, :-1]).square().mean(0) / (2 * variance)).to(dtype)
