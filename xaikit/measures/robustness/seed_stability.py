"""Seed stability: whether a method that draws random numbers gives the same map with others.

    value = mean_{r < s} likeness(A_r, A_s)        A_r with seed + r, r = 0 ... R - 1

likeness is Spearman's correlation, with 1 for maps that are equal and 0 where one alone is constant. A method that
draws nothing has exactly 1.

Shapes: values on the method's own grid; value (N,) in [-1, 1].
Source: xaikit; rank correlation between runs as in Visani et al. (stability indices), 2020, arXiv:2001.11757.
Departs from source: maps instead of sets of features.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from xaikit.measures.base import MEASURES, Measure, Subject
from xaikit.measures.correlation import likeness


@MEASURES.register
@dataclass(frozen=True)
class SeedStability(Measure):
    """Mean rank correlation of the maps that several seeds give.

    Args:
        seeds: how many, the run's own included.
    """

    seeds: Annotated[int, Ge(2)] = 5

    name = "seed-stability"
    direction = "higher"
    range = (-1.0, 1.0)
    source = "xaikit; after Visani et al., 2020, arXiv:2001.11757"
    needs = frozenset({"model", "method"})

    def compute(self, subject: Subject) -> Tensor:
        """Return the mean likeness over all pairs of seeds, (N,)."""
        method, quiet = subject.explainer, replace(subject.context, progress=None)
        contexts = [replace(quiet, seed=quiet.seed + step) for step in range(1, self.seeds)]
        others = [method.attribute(subject.pixels, subject.target, context=one) for one in contexts]
        maps = [one.values.detach().cpu().double().flatten(1) for one in (subject.explanation, *others)]
        pairs = torch.stack([likeness(one, other) for one, other in combinations(maps, 2)])
        return pairs.mean(0).masked_fill(~subject.finite, torch.nan)

    def explanations(self) -> int:
        """One a further seed."""
        return self.seeds - 1
