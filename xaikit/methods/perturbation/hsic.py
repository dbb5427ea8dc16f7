"""HSIC: how strongly the score depends on the visibility of a cell, by the Hilbert-Schmidt independence criterion.

    masks m (n, d) in {0, 1}, half of them show cell i;  y = score under each mask;  u = 2 m - 1
    L_ab = exp(-(y_a - y_b)^2 / (2 w^2)), w = median of |y_a - y_b|, or of those above rounding;  H = 1 - 1/n
    value_i = tr(K_i H L H) / (n - 1)^2 = u_i^T (H L H) u_i / (2 (n - 1)^2)

In words: The cells of a grid are hidden and shown at random many times, and the map tells how strongly the probability
of the class depends on whether a cell is visible. It is coarse and never negative: a cell that speaks against the class
scores like one that speaks for it. Unlike a mean it also notices effects that are not linear. Values rank cells and are
not shares of the score. It costs 500 forwards by default; with few, chance decides.

K_i is the Dirac kernel, 1 where two masks agree on cell i. It equals (1 + u_i u_i^T) / 2, so one matrix product gives
all cells. The masks depend on the seed and are the same for all images. A constant score gives zeros.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W), one value per cell of a g x g grid.
Units:  dependence; 0 if the score is independent of the cell, up to sampling noise.
Source: Novello, Fel & Vigouroux, NeurIPS 2022, section 3, arXiv:2206.06219.
Departs from source: values are constant within a cell, not upsampled smoothly.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.foundation.identity import generator
from xaikit.foundation.parameters import Count, check_table
from xaikit.images.cells import cell_numbers
from xaikit.methods.base import METHODS, InputMethod, Values
from xaikit.methods.perturbation.scorer import PlainFill, Score, Scorer, rounding
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost

_MOST_SAMPLES = 5000  # the matrices K and L have samples^2 entries


@METHODS.register
@dataclass(frozen=True)
class HSIC(InputMethod):
    """Dependence of the score on the visibility of a cell.

    Args:
        samples: number of masks.
        grid: number of cells per side.
        fill: content of hidden cells: the name of a fill, or pixels that broadcast to the images.
        score: "probability" is that of the class, "logit" is the explained score.
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

    def check(self) -> None:
        """Check the memory of the matrices and the masks."""
        if self.samples > _MOST_SAMPLES:
            raise BadInput(f"samples: expected at most {_MOST_SAMPLES}, got {self.samples}; the default is 500")
        check_table("grid", self.samples, self.grid**2, "lower grid or samples")

    def compute(self, batch: Batch) -> Values:
        """Return the dependence on each pixel's cell, (n, H, W)."""
        scorer = Scorer(batch, self.fill, self.score)
        numbers = cell_numbers((self.grid, self.grid), batch.size, batch.pixels.device)
        shown = self._masks(batch.context.seed).to(numbers.device)
        scores = scorer.of_masks(self.samples, lambda rows, items: shown[items][:, numbers])
        return Values(torch.stack([_dependences(shown, image_scores)[numbers] for image_scores in scores]))

    def cost(self, size: tuple[int, int]) -> Cost:
        """Return a forward for the clean image and one per mask."""
        return Cost(1 + self.samples, 0)

    def _masks(self, seed: int) -> Tensor:
        """Return the visibility of the cells in each mask, (samples, cells) bool; half of the masks show a cell."""
        stream = generator(seed, self.name, f"{self.samples} masks of {self.grid}x{self.grid}")
        draws = torch.rand(self.samples, self.grid**2, generator=stream, dtype=torch.float64, device="cpu")
        return draws.argsort(0).argsort(0) < self.samples // 2


def _dependences(shown: Tensor, scores: Tensor) -> Tensor:
    """Return the criterion (d,) of masks (n, d) and scores (n,)."""
    count = len(scores)
    distance = (scores.double()[:, None] - scores.double()[None, :]).abs()
    pairwise = distance[tuple(torch.triu_indices(count, count, 1, device=distance.device))]
    negligible = float(rounding(scores))
    width = pairwise.median()
    if float(width) <= negligible:
        pairwise = pairwise[pairwise > negligible]
        if not len(pairwise):
            return torch.zeros_like(scores[:1]).expand(shown.shape[1])
        width = pairwise.median()
    kernel = torch.exp(-(distance / width).square() / 2)
    centred = kernel - kernel.mean(0) - kernel.mean(1, keepdim=True) + kernel.mean()
    signs = 2.0 * shown.double() - 1
    return ((signs * (centred @ signs)).sum(0) / (2 * (count - 1) ** 2)).clamp(min=0).to(scores)
