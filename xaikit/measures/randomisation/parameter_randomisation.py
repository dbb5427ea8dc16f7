"""Parameter randomisation: whether the map changes when the network forgets what it learned.

    value = mean_l likeness(|A(x, c)|, |A_l(x, c)|)        A_l after the l top groups of modules are drawn anew

likeness is Spearman's correlation, with 1 for maps that are equal and 0 where one alone is constant. A map that stays
close to 1 does not depend on what was learned: an edge detector does not. The converse does not hold: any noisy map
scores near 0, so that this is a test to pass and no ranking. How the network is randomised is said in randomised.py.

Shapes: values on the method's own grid; value (N,) in [-1, 1].
Source: Adebayo et al., NeurIPS 2018, arXiv:1810.03292 (cascading); its limits: Binder et al., CVPR 2023,
    arXiv:2211.12486.
Departs from source: modules in groups; a library of reference images that was made before stays as it was.
"""

from __future__ import annotations

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
    """Rank correlation of the map with those of networks that are random from the logits down.

    Args:
        stages: groups of modules that are drawn, one more each time.
        at: "mean" over all stages, or only the "end", where all is random.
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
        first = _magnitudes(subject.explanation.values)
        methods = randomised(subject.explainer, subject.pixels[:1], self.explanations(), context.seed)
        found = (method.attribute(subject.pixels, subject.target, context=context) for method in methods)
        curve = torch.stack([likeness(first, _magnitudes(one.values)) for one in found], 1)
        return curve.masked_fill(~subject.finite[:, None], torch.nan)

    def explanations(self) -> int:
        """One a stage."""
        return 1 if self.at == "end" else self.stages


def _magnitudes(values: Tensor) -> Tensor:
    return values.detach().cpu().double().abs().flatten(1)
