"""Max-sensitivity: how far the map moves at most when the image changes imperceptibly.

    value = max_s |A(x + d_s, c) - A(x, c)| / |A(x, c)|        d uniform in [-r, r], in pixels; Euclidean norms

Only noise that leaves the top class as it is counts. A diagnostic, no proof of truth: a constant map scores 0.

Shapes: values on the method's own grid; value (N,); NaN for a map of zeros, or where all noise changed the class.
Source: Yeh et al., NeurIPS 2019, arXiv:1901.09392.
Departs from source: noise that changes the top class is left out, which captum's `sensitivity_max` counts; a map of
    zeros has no value, where captum takes its norm as 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from xaikit.foundation.identity import generators
from xaikit.foundation.parameters import Count, Positive
from xaikit.measures.base import MEASURES, Measure, Subject
from xaikit.run.cost import Cost


@MEASURES.register
@dataclass(frozen=True)
class MaxSensitivity(Measure):
    """Largest change of the map, relative to itself, under small uniform noise.

    Args:
        radius: r of the noise, in pixel units.
        draws: how often it is drawn.
    """

    radius: Positive = 0.02
    draws: Count = 10

    name = "max-sensitivity"
    direction = "lower"
    range = (0.0, torch.inf)
    source = "Yeh et al., NeurIPS 2019, arXiv:1901.09392"
    needs = frozenset({"model", "method"})

    def compute(self, subject: Subject) -> Tensor:
        """Return the largest relative change of each map, (N,)."""
        method, context = subject.explainer, replace(subject.context, progress=None)
        first = _rows(subject.explanation.values)
        top = subject.logits.argmax(1)
        found = []
        for noisy in self.noisy(subject):
            again = _rows(method.attribute(noisy, subject.target, context=context).values)
            change = (again - first).norm(dim=1) / first.norm(dim=1)
            found.append(change.masked_fill((subject.logits_of(noisy).argmax(1) != top).cpu(), -torch.inf))
        largest = torch.stack(found).amax(0)
        return largest.masked_fill(largest.isinf() | ~subject.finite, torch.nan)

    def noisy(self, subject: Subject) -> list[Tensor]:
        """Return the images with noise, once for each draw."""
        drawn = [
            torch.rand(self.draws, *image.shape, generator=one, device="cpu")
            for image, one in zip(
                subject.pixels, generators(subject.context.seed, subject.hashes, self.name), strict=True
            )
        ]
        noise = (2 * torch.stack(drawn, 1) - 1) * self.radius
        return list(subject.pixels + noise.to(subject.pixels))

    def cost(self) -> Cost:
        """A forward a draw, for its top class."""
        return Cost(self.draws)

    def explanations(self) -> int:
        """One a draw."""
        return self.draws


def _rows(values: Tensor) -> Tensor:
    return values.detach().cpu().double().flatten(1)
