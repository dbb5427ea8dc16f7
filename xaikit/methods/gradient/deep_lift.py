"""DeepLIFT with the Rescale rule: differences to a baseline, carried back through the network.

    values = (x - x') * M        M by the rules of `multiplier_rules`, in one forward and one backward of [x; x']

Completeness: sum(values) = score(x) - score(x'), exact up to rounding; the gap is reported per image, and above
1 % of the difference the image is flagged `incomplete`. An operation that has no rule is refused by name.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W) summed over channels, or (N, C, H, W) with `channels=True`.
Units:  score.
Source: Shrikumar, Greenside & Kundaje, ICML 2017, arXiv:1704.02685, sections 3.1, 3.2 and 3.5.1.
Departs from source: products of activations (gates, x * sigmoid(x)) by midpoints and LayerNorm by its parts, so that
    the sum holds there too; the baseline is the mean colour, which is zero after normalisation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from xaikit.images.fills import Fill
from xaikit.methods.base import METHODS, InputMethod, Values
from xaikit.methods.gradient.multipliers import pair_multipliers
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost

_MISSED = 0.01  # of the promised sum, from which on an image is flagged
_NOTHING = 1e-6


@METHODS.register
@dataclass(frozen=True)
class DeepLIFT(InputMethod):
    """Rescale multipliers times the difference to a baseline.

    Args:
        baseline: what the image is compared with: a fill by name, or pixels that broadcast to the images.
    """

    baseline: Fill | Tensor = "mean"

    name = "deep-lift"
    family = "gradient"
    source = "Shrikumar et al., ICML 2017, arXiv:1704.02685"
    needs = frozenset({"input-gradient"})

    def compute(self, batch: Batch) -> Values:
        """Return (x - x') times the multipliers, (n, C, H, W)."""
        filled = batch.filled(self.baseline, "baseline")
        others = filled.expand(-1, *batch.inputs.shape[1:])
        rows = torch.arange(len(batch), device=others.device)
        mates = None if self._shared else rows
        found = pair_multipliers(batch, batch.inputs, others, rows, mates)
        values = (batch.inputs - others) * found.values
        promised = batch.scores - found.others
        gap = values.flatten(1).sum(1) - promised
        missed = gap.abs() > _MISSED * promised.abs() + _NOTHING
        return Values(values, completeness=gap, flags=[{"incomplete"} if one else set() for one in missed.tolist()])

    def cost(self, size: tuple[int, int]) -> Cost:
        """The class, then a forward and a backward of the image, and of its baseline where each has its own."""
        return Cost(2, 1) if self._shared else Cost(3, 2)

    @property
    def _shared(self) -> bool:
        """Whether all images have one baseline."""
        if isinstance(self.baseline, Tensor):
            return self.baseline.ndim < 4 or len(self.baseline) == 1
        return self.baseline in ("mean", "black", "white")
