"""HSIC: how far the score depends on whether a cell is shown, by the Hilbert-Schmidt independence criterion.

    masks m (n, d) in {0, 1}, half of them with cell i;  y = score under each;  u = 2 m - 1
    L_ab = exp(-(y_a - y_b)^2 / (2 w^2)), w = median of |y_a - y_b|, or of those above 0 if it is 0;  H = 1 - 1/n
    value_i = tr(K_i H L H) / (n - 1)^2 = u_i^T (H L H) u_i / (2 (n - 1)^2)

K_i is Dirac's kernel, 1 where two masks agree on cell i, which is (1 + u_i u_i^T) / 2; so all cells are one product.
The masks are drawn from the seed, the same for all images. A constant score gives zeros.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W), one value a cell of a g x g grid.
Units:  dependence, 0 where the score is independent of the cell; up to sampling noise.
Source: Novello, Fel & Vigouroux, NeurIPS 2022, section 3, arXiv:2206.06219.
Departs from source: values are shown cell by cell, not enlarged smoothly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from xaikit.foundation.identity import generator
from xaikit.foundation.parameters import Count
from xaikit.images.cells import cell_numbers
from xaikit.methods.base import METHODS, InputMethod, Values
from xaikit.methods.perturbation.scorer import PlainFill, Score, Scorer
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@METHODS.register
@dataclass(frozen=True)
class HSIC(InputMethod):
    """Dependence of the score on whether a cell is shown.

    Args:
        samples: number of masks.
        grid: cells a side.
        fill: what hidden cells become: a fill by name, or pixels that broadcast to the images.
        score: "probability" is that of the class, "logit" the explained score.
    """

    samples: Annotated[int, Ge(2)] = 500
    grid: Count = 8
    fill: PlainFill | Tensor = "mean"
    score: Score = "probability"

    name = "hsic"
    family = "perturbation"
    source = "Novello et al., NeurIPS 2022, arXiv:2206.06219"
    signed = False
    needs = frozenset({"probabilities"})

    def compute(self, batch: Batch) -> Values:
        """Return the dependence on each pixel's cell, (n, H, W)."""
        scorer = Scorer(batch, self.fill, self.score)
        numbers = cell_numbers((self.grid, self.grid), batch.size, batch.pixels.device)
        shown = self._masks(batch.context.seed).to(numbers.device)
        scores = scorer.of_masks(self.samples, lambda rows, items: shown[items][:, numbers])
        found = [_dependences(shown, one) for one in scores]
        return Values(torch.stack([one[numbers] for one in found]))

    def cost(self, size: tuple[int, int]) -> Cost:
        """The clean image and one forward a mask."""
        return Cost(1 + self.samples, 0)

    def _masks(self, seed: int) -> Tensor:
        """Return which cells each mask shows, (samples, cells) bool; every cell is shown by half of them."""
        stream = generator(seed, self.name, f"{self.samples} masks of {self.grid}x{self.grid}")
        places = (
            torch.rand(self.samples, self.grid**2, generator=stream, dtype=torch.float64, device="cpu")
            .argsort(0)
            .argsort(0)
        )
        return places < self.samples // 2


def _dependences(shown: Tensor, scores: Tensor) -> Tensor:
    """Return the criterion (d,) of masks (n, d) and scores (n,)."""
    count = len(scores)
    distance = (scores.double()[:, None] - scores.double()[None, :]).abs()
    apart = distance[tuple(torch.triu_indices(count, count, 1, device=distance.device))]
    nothing = 1e-12 * float(scores.abs().max())
    width = apart.median()
    if float(width) <= nothing:
        apart = apart[apart > nothing]
        if not len(apart):
            return torch.zeros_like(scores[:1]).expand(shown.shape[1])
        width = apart.median()
    likeness = torch.exp(-(distance / width).square() / 2)
    centred = likeness - likeness.mean(0) - likeness.mean(1, keepdim=True) + likeness.mean()
    signs = 2.0 * shown.double() - 1
    return ((signs * (centred @ signs)).sum(0) / (2 * (count - 1) ** 2)).clamp(min=0).to(scores)
