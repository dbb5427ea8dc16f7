"""Completeness gap: difference between the sum of a map and the score difference that it should distribute.

    value = |sum_p a_p - (F_c(x) - F_c(b))| / max(|F_c(x) - F_c(b)|, 1e-3)

In words: Some methods promise that their values add up to a difference of scores. The measure is the distance from that
promise as a share of the difference; zero means that it is kept. No network is run, since the method reports its gap.
Methods without such a promise have no value, which is no fault of theirs. The trap: a kept sum does not tell whether
the values are at the right pixels. A gap usually means that a path had too few steps.

b is the method's own baseline. Only methods that promise completeness (integrated gradients, DeepLIFT, SHAP) have a
value; each reports its gap with its attribution, so that no further forward is needed. FullGrad has no baseline and
promises F(x); the map it returns is not what it sums, so it reports the promised sum in its diagnostics.

Shapes: value (N,); NaN where the method promises no sum, or there is no attribution.
Source: Sundararajan et al., ICML 2017, proposition 1, arXiv:1703.01365.
Departs from source: relative to the promised difference, which is clamped to at least 1e-3.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from xaikit.measures.base import MEASURES, Measure, Subject

_SMALLEST = 1e-3


@MEASURES.register
@dataclass(frozen=True)
class CompletenessGap(Measure):
    """Difference between the sum of the map and the promised score difference, relative to the latter."""

    name = "completeness-gap"
    direction = "lower"
    range = (0.0, torch.inf)
    source = "Sundararajan et al., ICML 2017, arXiv:1703.01365"
    needs = frozenset({"maps"})

    def compute(self, subject: Subject) -> Tensor:
        """Return the relative gap, (N,)."""
        attribution = subject.attribution
        if attribution is None or attribution.completeness is None:
            return torch.full((len(subject.maps),), torch.nan, dtype=torch.float64, device="cpu")
        gap = attribution.completeness.detach().cpu().double()
        promised = attribution.diagnostics.get("promised")
        if promised is None:
            promised = attribution.values.detach().cpu().double().flatten(1).sum(1) - gap
        promised = promised.detach().cpu().double()
        return (gap.abs() / promised.abs().clamp(min=_SMALLEST)).masked_fill(~subject.finite, torch.nan)
