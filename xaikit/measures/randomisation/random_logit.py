"""Random logit: whether the map changes when another class is explained.

    value = likeness(A(x, c), A(x, c'))        c' another class, drawn per image, or the runner-up

In words: The method explains another class of the same image, drawn at random, and the two maps are compared by rank
correlation. Near one means that the map ignores the class; near zero that it changes with it; below zero that the maps
are opposed. Low is better. It needs the method, which runs once more. The traps: a map that changes with the class need
not be right, and two similar classes may rightly have similar maps.

likeness is Spearman's correlation, with 1 for equal maps and else 0 if either is constant. A method that ignores the
class scores 1.

Shapes: values on the method's own grid; value (N,) in [-1, 1]; NaN where the network has one output.
Source: Sixt et al., ICML 2020, arXiv:1912.09818.
Departs from source: rank correlation of the signed maps instead of their structural similarity.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from xaikit.foundation.identity import generators
from xaikit.measures.base import MEASURES, Measure, Subject
from xaikit.measures.correlation import likeness


@MEASURES.register
@dataclass(frozen=True)
class RandomLogit(Measure):
    """Rank correlation of the map with the map of another class.

    Args:
        against: "random" draws the other class per image, "runner-up" takes the most probable other class.
    """

    against: Literal["random", "runner-up"] = "random"

    name = "random-logit"
    direction = "lower"
    range = (-1.0, 1.0)
    source = "Sixt et al., ICML 2020, arXiv:1912.09818"
    needs = frozenset({"model", "method"})

    def compute(self, subject: Subject) -> Tensor:
        """Return the likeness of the two classes' maps, (N,)."""
        if subject.classifier.classes < 2:
            return torch.full((len(subject.maps),), torch.nan, dtype=torch.float64, device="cpu")
        context = replace(subject.context, progress=None)
        again = subject.explainer.attribute(subject.pixels, self.other(subject), context=context)
        first, second = (
            attribution.values.detach().cpu().double().flatten(1) for attribution in (subject.explanation, again)
        )
        return likeness(first, second).masked_fill(~subject.finite, torch.nan)

    def other(self, subject: Subject) -> Tensor:
        """Return the other class of each image, (N,) int64.

        Raises:
            BadInput: the target is not a class.
        """
        subject.explained.require_class(self.name)
        target = subject.explained.index
        if self.against == "runner-up":
            target = target.to(subject.logits.device)
            return subject.logits.scatter(1, target[:, None], -torch.inf).argmax(1)
        classes = subject.classifier.classes
        streams = generators(subject.context.seed, subject.hashes, self.name)
        steps = torch.cat([torch.randint(1, classes, (1,), generator=stream, device="cpu") for stream in streams])
        return (target.cpu() + steps) % classes

    def explanations(self) -> int:
        """Return 1, for the other class."""
        return 1
