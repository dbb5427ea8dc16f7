"""DeepLIFT-SHAP: DeepLIFT averaged over reference images.

    values = mean_b (x - x_b) * M(x, x_b)        M by the rules of `multiplier_rules`

In words: DeepLIFT is run against several reference images and averaged, so that the result depends less on one baseline
colour. The map is fine, signed and specific to the class; its values add up to the score minus the mean score of the
references. They approximate Shapley values and are not equal to them. The default references are drawn pictures; give
your own if the question is what sets an image apart from your data. It costs one backward per reference and one more.

Completeness: sum(values) = score(x) - mean_b score(x_b), exact up to rounding; the gap is reported per image, which is
flagged `incomplete` above 1 %. A portion may hold (image, reference) pairs of several images; each image runs once per
portion.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W) summed over channels, or (N, C, H, W) with `channels=True`.
Units:  score.
Source: Lundberg & Lee, NeurIPS 2017, arXiv:1705.07874, section 4.2 (Deep SHAP); Shrikumar et al., ICML 2017.
Departs from source: the default references are synthetic images; products and LayerNorm as in deep-lift.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from xaikit.methods.base import METHODS, InputMethod, Values
from xaikit.methods.gradient.completeness import flagged, missed
from xaikit.methods.gradient.multipliers import pair_multipliers
from xaikit.methods.gradient.reference_images import Background, background_inputs, background_size, check_background
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@METHODS.register
@dataclass(frozen=True)
class DeepLIFTSHAP(InputMethod):
    """Mean of DeepLIFT over references.

    Args:
        references: pixels (B, C, H, W) of the images' size, or the number of synthetic images.
    """

    references: Background = 20

    name = "deep-lift-shap"
    family = "gradient"
    source = "Lundberg & Lee, NeurIPS 2017, arXiv:1705.07874"
    needs = frozenset({"input-gradient"})

    def check(self) -> None:
        """Check the references."""
        check_background(self.references)

    def compute(self, batch: Batch) -> Values:
        """Return the mean over references of (x - x_b) times the multipliers, (n, C, H, W)."""
        references, flags = background_inputs(batch, self.references)
        count = len(references)

        def contributions(pairs: Tensor) -> tuple[Tensor, Tensor]:
            rows, others = pairs // count, references[pairs % count]
            first, last = int(rows[0]), int(rows[-1])
            result = pair_multipliers(batch, others, batch.inputs[first : last + 1], rows, rows - first)
            return (batch.inputs[rows] - others) * result.values, result.scores

        total, reference_scores = torch.zeros_like(batch.inputs), torch.zeros_like(batch.scores)
        for pairs, (values, scores) in batch.packed(len(batch) * count, contributions, "pairs"):
            total.index_add_(0, pairs // count, values)
            reference_scores.index_add_(0, pairs // count, scores)
        values = total / count
        others = reference_scores / count
        gap = values.flatten(1).sum(1) - (batch.scores - others)
        incomplete = flagged(missed(gap, batch.scores, others, batch.arithmetic))
        return Values(values, completeness=gap, flags=[a | b for a, b in zip(flags, incomplete, strict=True)])

    def cost(self, size: tuple[int, int]) -> Cost:
        """Return a forward for the class, then one forward and one backward for the image and for each reference."""
        count = background_size(self.references)
        return Cost(2 + count, 1 + count)
