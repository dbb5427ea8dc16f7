"""DeepLIFT-SHAP: DeepLIFT averaged over reference images.

    values = mean_b (x - x_b) * M(x, x_b)        M by the rules of `multiplier_rules`

Completeness: sum(values) = score(x) - mean_b score(x_b), exact up to rounding; the gap is reported per image. Pairs of
an image and a reference fill whole portions, whichever image they belong to; an image is run once a portion.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W) summed over channels, or (N, C, H, W) with `channels=True`.
Units:  score.
Source: Lundberg & Lee, NeurIPS 2017, arXiv:1705.07874, section 4.2 (Deep SHAP); Shrikumar et al., ICML 2017.
Departs from source: references are drawn pictures unless given; products and LayerNorm as in deep-lift.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from xaikit.methods.base import METHODS, InputMethod, Values
from xaikit.methods.gradient.background import Background, background_inputs, background_size, check_background
from xaikit.methods.gradient.multipliers import pair_multipliers
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@METHODS.register
@dataclass(frozen=True)
class DeepLIFTSHAP(InputMethod):
    """Mean of DeepLIFT over references.

    Args:
        references: pixels (B, C, H, W) of the images' size, or how many pictures are drawn.
    """

    references: Background = 20

    name = "deep-lift-shap"
    family = "gradient"
    source = "Lundberg & Lee, NeurIPS 2017, arXiv:1705.07874"
    needs = frozenset({"input-gradient"})

    def check(self) -> None:
        """Refuse parameters that do not go together."""
        check_background(self.references)

    def compute(self, batch: Batch) -> Values:
        """Return the mean over references of difference times multipliers, (n, C, H, W)."""
        references, flags = background_inputs(batch, self.references)
        count = len(references)

        def contributions(places: Tensor) -> tuple[Tensor, Tensor]:
            rows, items = places // count, places % count
            first, last = int(rows[0]), int(rows[-1])
            images = batch.inputs[first : last + 1]
            found = pair_multipliers(batch, references[items], images, rows, rows - first)
            return (batch.inputs[rows] - references[items]) * found.values, found.scores

        total, compared = torch.zeros_like(batch.inputs), torch.zeros_like(batch.scores)
        for places, (values, scores) in batch.packed(len(batch) * count, contributions, "pairs"):
            total.index_add_(0, places // count, values)
            compared.index_add_(0, places // count, scores)
        values = total / count
        gap = values.flatten(1).sum(1) - (batch.scores - compared / count)
        return Values(values, completeness=gap, flags=flags)

    def cost(self, size: tuple[int, int]) -> Cost:
        """The class, then a forward and a backward a reference, and of the image beside them."""
        count = background_size(self.references)
        return Cost(2 + count, 1 + count)
