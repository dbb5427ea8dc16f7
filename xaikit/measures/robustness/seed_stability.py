"""Seed stability: whether a method that draws random numbers returns the same map for other seeds.

    value = mean_{r < s} likeness(A_r, A_s)        A_r: map for seed + r, r = 0 ... R - 1

In words: The method explains the same image with several seeds, and the maps are compared by rank correlation. One
means that chance plays no part, as for every deterministic method; a low value usually means that the method needs more
samples. It needs the method, which runs once per seed. The trap: it says nothing about whether a map is right; the
controls that draw nothing get one.

likeness is Spearman's correlation, with 1 for equal maps and else 0 if either is constant. A deterministic method
scores exactly 1.

Shapes: values on the method's own grid; value (N,) in [-1, 1].
Source: xaikit; rank correlation between runs as in Visani et al. (stability indices), 2020, arXiv:2001.11757.
Departs from source: maps instead of sets of features.
"""

from dataclasses import dataclass, replace
from itertools import combinations
from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import Tensor

from xaikit.measures.base import MEASURES, Measure, Subject
from xaikit.measures.correlation import likeness


@MEASURES.register
@dataclass(frozen=True)
class SeedStability(Measure):
    """Mean rank correlation between the maps of several seeds.

    Args:
        seeds: number of seeds, including that of the run.
    """

    seeds: Annotated[int, Ge(2), Le(1000)] = 5

    name = "seed-stability"
    direction = "higher"
    range = (-1.0, 1.0)
    source = "xaikit; after Visani et al., 2020, arXiv:2001.11757"
    needs = frozenset({"model", "method"})

    def compute(self, subject: Subject) -> Tensor:
        """Return the mean likeness over all pairs of seeds, (N,)."""
        method, quiet = subject.explainer, replace(subject.context, progress=None)
        contexts = [replace(quiet, seed=quiet.seed + step) for step in range(1, self.seeds)]
        others = [method.attribute(subject.pixels, subject.explained, context=context) for context in contexts]
        maps = [attribution.values.detach().cpu().double().flatten(1) for attribution in (subject.explanation, *others)]
        pairs = torch.stack([likeness(first, second) for first, second in combinations(maps, 2)])
        return pairs.mean(0).masked_fill(~subject.finite, torch.nan)

    def explanations(self) -> int:
        """Return one further map per further seed."""
        return self.seeds - 1
