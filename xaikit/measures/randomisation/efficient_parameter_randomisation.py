"""Efficient parameter randomisation: how much more complex the map becomes when all parameters are random.

    value = (H(A_rand) - H(A)) / H(A)        H: entropy of the histogram of a map's values, 100 bins over its range

In words: All parameters of the network are drawn at random, the method explains the random network, and the measure is
how much more varied the values of that map are than those of the original, by the entropy of their histogram. High is
better: the map depends on what was learned. It needs the method, for one more map. The trap: it compares two
histograms, not two maps, and so tells nothing about whether the original map is right.

The test needs one further map, of a network that is random from the logits to the stem. It does not compare two maps
pixel by pixel, because a noisy method passes such a test whatever the network. A map that depends on the learned
parameters becomes more complex.

Shapes: values on the method's own grid; value (N,) in [-1, inf); NaN where the map is constant.
Source: Hedström et al. (eMPRT), NeurIPS Workshop XAI in Action 2023, arXiv:2401.06465.
Departs from source: a fixed number of bins; parameters are drawn as described in randomised.py.
"""

from dataclasses import dataclass, replace
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from xaikit.measures.base import MEASURES, Measure, Subject
from xaikit.measures.randomisation.randomised import randomised


@MEASURES.register
@dataclass(frozen=True)
class EfficientParameterRandomisation(Measure):
    """Relative rise of the map's histogram entropy when all parameters are random.

    Args:
        bins: number of bins of the histogram.
    """

    bins: Annotated[int, Ge(2)] = 100

    name = "efficient-parameter-randomisation"
    direction = "higher"
    range = (-1.0, torch.inf)
    source = "Hedström et al., 2023, arXiv:2401.06465"
    needs = frozenset({"model", "method"})

    def compute(self, subject: Subject) -> Tensor:
        """Return the relative rise of entropy, (N,)."""
        context = replace(subject.context, progress=None)
        (method,) = randomised(subject.explainer, subject.pixels[:1], 1, context.seed)
        again = method.attribute(subject.pixels, subject.explained, context=context).values
        before, after = (histogram_entropy(values, self.bins) for values in (subject.explanation.values, again))
        return (after / before - 1).masked_fill((before == 0) | ~subject.finite, torch.nan)

    def explanations(self) -> int:
        """Return 1, for the random network."""
        return 1


def histogram_entropy(values: Tensor, bins: int) -> Tensor:
    """Return the entropy (N,) in nats of each map's values (N, ...), over `bins` bins from minimum to maximum.

    A constant map has entropy 0; NaN where a map is not finite.
    """
    rows = values.detach().cpu().double().flatten(1)
    low, high = rows.amin(1, keepdim=True), rows.amax(1, keepdim=True)
    indices = ((rows - low) / (high - low) * bins).nan_to_num(0).long().clamp(0, bins - 1)
    counts = rows.new_zeros(len(rows), bins).scatter_add_(1, indices, torch.ones_like(rows))
    entropy: Tensor = torch.special.entr(counts / rows.shape[1]).sum(1)
    return entropy.masked_fill(~rows.isfinite().all(1), torch.nan)
