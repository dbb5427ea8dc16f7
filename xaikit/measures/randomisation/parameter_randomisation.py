"""Parameter randomisation: whether the map changes when the network's parameters are randomised.

    value = mean_l likeness(|A(x, c)|, |A_l(x, c)|)        A_l: map after the l top groups of modules are randomised

In words: The network's parameters are drawn at random step by step from the logits down, the method explains each
network, and its maps are compared with the original by rank correlation. Near one means that the map does not depend on
what was learned, as for an edge detector. Low is a test passed and not a rank: noisy maps are unlike each other anyway.
It needs the method, which runs once per step, and compares absolute values.

likeness is Spearman's correlation, with 1 for equal maps and else 0 if either is constant. A value close to 1 means
that the map does not depend on the learned parameters, as for an edge detector. The converse does not hold: any noisy
map scores near 0, so that this is a test to pass and not a ranking. See randomised.py for how parameters are drawn.

Shapes: values on the method's own grid; value (N,) in [-1, 1].
Source: Adebayo et al., NeurIPS 2018, arXiv:1810.03292 (cascading); its limits: Binder et al., CVPR 2023,
    arXiv:2211.12486.
Departs from source: modules in groups; a library of reference images built before is not rebuilt.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from xaikit.foundation.parameters import Count
from xaikit.measures.base import MEASURES, Measure, Subject
from xaikit.measures.correlation import likeness
from xaikit.measures.randomisation.randomised import randomised


@MEASURES.register
@dataclass(frozen=True)
class ParameterRandomisation(Measure):
    """Rank correlation of the map with the maps of networks randomised from the logits down.

    Args:
        stages: number of groups of modules; each stage randomises one more group.
        at: "mean" over all stages, or "end" for the last stage only, where all modules are random.
    """

    stages: Count = 6
    at: Literal["mean", "end"] = "mean"

    name = "parameter-randomisation"
    direction = "lower"
    range = (-1.0, 1.0)
    source = "Adebayo et al., NeurIPS 2018, arXiv:1810.03292"
    needs = frozenset({"model", "method"})

    def compute(self, subject: Subject) -> Tensor:
        """Return the likeness, (N,)."""
        return self.curve(subject).mean(1)

    def curve(self, subject: Subject) -> Tensor:
        """Return the likeness after each stage, (N, L); at the "end" L is 1."""
        context = replace(subject.context, progress=None)
        original = _magnitudes(subject.explanation.values)
        methods = randomised(subject.explainer, subject.pixels[:1], self.explanations(), context.seed)
        maps = (method.attribute(subject.pixels, subject.explained, context=context).values for method in methods)
        curve = torch.stack([likeness(original, _magnitudes(values)) for values in maps], 1)
        return curve.masked_fill(~subject.finite[:, None], torch.nan)

    def explanations(self) -> int:
        """Return the number of stages; 1 for the last stage only."""
        return 1 if self.at == "end" else self.stages


def _magnitudes(values: Tensor) -> Tensor:
    return values.detach().cpu().double().abs().flatten(1)
