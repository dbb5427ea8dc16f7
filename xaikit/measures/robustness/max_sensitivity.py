"""Max-sensitivity: largest change of the map under imperceptible changes of the image.

    value = max_s |A(x + d_s, c) - A(x, c)| / |A(x, c)|        d uniform in [-r, r], in pixels; Euclidean norms

In words: Noise too weak to see is added to the image several times, the method explains each copy, and the measure is
the largest change of the map relative to the map itself. Low means that the map is stable. It needs the method, which
runs once per copy. The trap: stable is not right. A constant map has the best value, zero, and a faithful map may have
to change where the network is sensitive itself.

Only noise that does not change the top class counts. A low value does not prove that a map is right: a constant map
scores 0.

Shapes: values on the method's own grid; value (N,); NaN for a map of zeros, or where all noise changes the class.
Source: Yeh et al., NeurIPS 2019, arXiv:1901.09392.
Departs from source: noise that changes the top class is left out, which captum's `sensitivity_max` counts; a map of
    zeros has no value, where captum takes its norm as 1.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from xaikit.foundation.identity import generators
from xaikit.foundation.parameters import Count, Positive, check_table
from xaikit.measures.base import MEASURES, Measure, Subject
from xaikit.run.cost import Cost


@MEASURES.register
@dataclass(frozen=True)
class MaxSensitivity(Measure):
    """Largest change of the map, relative to itself, under small uniform noise.

    Args:
        radius: r, the largest absolute noise, in pixel values.
        draws: number of noise samples.
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
        original = _rows(subject.explanation.values)
        top = subject.logits.argmax(1)
        changes = []
        for noisy in self.noisy(subject):
            again = _rows(method.attribute(noisy, subject.explained, context=context).values)
            change = (again - original).norm(dim=1) / original.norm(dim=1)
            changes.append(change.masked_fill((subject.logits_of(noisy).argmax(1) != top).cpu(), -torch.inf))
        largest = torch.stack(changes).amax(0)
        return largest.masked_fill(largest.isinf() | ~subject.finite, torch.nan)

    def noisy(self, subject: Subject) -> list[Tensor]:
        """Return the images (N, C, H, W) with noise, one tensor per draw."""
        shape = (self.draws, *subject.pixels.shape[1:])
        check_table("draws", self.draws, subject.pixels[0].numel(), "lower draws")
        streams = generators(subject.context.seed, subject.hashes, self.name)
        uniform = torch.stack(
            [torch.rand(shape, generator=stream, dtype=torch.float32, device="cpu") for stream in streams], 1
        )
        noise = (2 * uniform - 1) * self.radius
        return list(subject.pixels + noise.to(subject.pixels))

    def cost(self) -> Cost:
        """Return one forward per draw, for its top class."""
        return Cost(self.draws)

    def explanations(self) -> int:
        """Return one further map per draw."""
        return self.draws


def _rows(values: Tensor) -> Tensor:
    return values.detach().cpu().double().flatten(1)
