"""DeepLIFT with the Rescale rule: the difference to a baseline, propagated back through the network.

    values = (x - x') * M        M by the rules of `multiplier_rules`, in one forward and one backward of [x; x']

In words: The image and a baseline, the mean colour by default, run through the network, and the difference of their
scores is passed back layer by layer in proportion to the differences of the activations. The map is fine, signed and
specific to the class; its values add up to the score difference. It costs one backward of two images, far less than
integrated gradients. Everything is relative to the baseline: pixels of its colour get zero. Operations without a rule
are refused.

Completeness: sum(values) = score(x) - score(x'), exact up to rounding. The gap is reported per image; an image whose
gap exceeds 1 % of the difference gets the flag `incomplete`. An operation without a rule on the way to the score raises
BadInput.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W) summed over channels, or (N, C, H, W) with `channels=True`.
Units:  score.
Source: Shrikumar, Greenside & Kundaje, ICML 2017, arXiv:1704.02685, sections 3.1, 3.2 and 3.5.1.
Departs from source: products of activations (gates, x * sigmoid(x)) use midpoints and LayerNorm is split into its
    parts, so that completeness holds for them too; the baseline is the mean colour, which is zero after normalisation.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from xaikit.images.fills import Fill
from xaikit.methods.base import METHODS, InputMethod, Values
from xaikit.methods.gradient.completeness import flagged, missed
from xaikit.methods.gradient.multipliers import pair_multipliers
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@METHODS.register
@dataclass(frozen=True)
class DeepLIFT(InputMethod):
    """Rescale multipliers times the difference to a baseline.

    Args:
        baseline: what the image is compared with: the name of a fill, or pixels that broadcast to the images.
    """

    baseline: Fill | Tensor = "mean"

    name = "deep-lift"
    family = "gradient"
    source = "Shrikumar et al., ICML 2017, arXiv:1704.02685"
    needs = frozenset({"input-gradient"})

    def compute(self, batch: Batch) -> Values:
        """Return (x - x') times the multipliers, (n, C, H, W)."""
        baselines = batch.filled(self.baseline, "baseline").expand(-1, *batch.inputs.shape[1:])
        rows = torch.arange(len(batch), device=baselines.device)
        result = pair_multipliers(batch, batch.inputs, baselines, rows, mates=None if self._shared else rows)
        values = (batch.inputs - baselines) * result.values
        gap = values.flatten(1).sum(1) - (batch.scores - result.others)
        incomplete = missed(gap, batch.scores, result.others, batch.arithmetic)
        return Values(values, completeness=gap, flags=flagged(incomplete))

    def cost(self, size: tuple[int, int]) -> Cost:
        """Return a forward for the class, then one pass each way for the image, and for its baseline if not shared."""
        return Cost(2, 1) if self._shared else Cost(3, 2)

    @property
    def _shared(self) -> bool:
        """Whether all images share one baseline."""
        if isinstance(self.baseline, Tensor):
            return self.baseline.ndim < 4 or len(self.baseline) == 1
        return self.baseline in ("mean", "black", "white")
