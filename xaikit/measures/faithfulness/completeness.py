"""Completeness gap: what the sum of a map misses of the score it promises to distribute.

    value = |sum_p a_p - (F_c(x) - F_c(b))| / max(|F_c(x) - F_c(b)|, 1e-3)

b is the method's own baseline. Only methods that promise completeness have a value (integrated gradients, DeepLIFT,
SHAP); each reports its gap with its attribution, so that nothing is asked again. FullGrad has no baseline and promises
F(x); what it shows is not what it sums, so it says in its diagnostics what it promised.

Shapes: value (N,); NaN where the method promises no sum, or the map is not a method's.
Source: Sundararajan et al., ICML 2017, proposition 1, arXiv:1703.01365.
Departs from source: relative to the promised difference, which is held at 1e-3 or more.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from xaikit.measures.base import MEASURES, Measure, Subject

_SMALLEST = 1e-3


@MEASURES.register
@dataclass(frozen=True)
class CompletenessGap(Measure):
    """What the sum of the map misses of the promised difference of scores, as a share of it."""

    name = "completeness-gap"
    direction = "lower"
    range = (0.0, torch.inf)
    source = "Sundararajan et al., ICML 2017, arXiv:1703.01365"
    needs = frozenset({"maps"})

    def compute(self, subject: Subject) -> Tensor:
        """Return the relative gap, (N,)."""
        made = subject.attribution
        if made is None or made.completeness is None:
            return torch.full((len(subject.maps),), torch.nan, dtype=torch.float64, device="cpu")
        gap = made.completeness.detach().cpu().double()
        promised = made.diagnostics.get("promised")
        if promised is None:
            promised = made.values.detach().cpu().double().flatten(1).sum(1) - gap
        promised = promised.detach().cpu().double()
        return (gap.abs() / promised.abs().clamp(min=_SMALLEST)).masked_fill(~subject.finite, torch.nan)
