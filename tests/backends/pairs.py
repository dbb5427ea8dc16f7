"""A row of the table of agreement: one of our methods, one of theirs, where, and what turns one into the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tests.backends.cases import REAL
from tests.backends.formulas import Formula, as_it_is

__all__ = ["Pair"]


@dataclass(frozen=True)
class Pair:
    """One of ours and one of theirs in some networks.

    Args:
        ours: registry name.
        theirs: registry name.
        places: networks, each with `:layer` where it is not the last before the pooling.
        params: of ours.
        their_params: of theirs.
        formula: what makes our values theirs.
        own: for a formula that does not start from our values, the same one as ours has it; it must give them.
        their_formula: what makes their values ours, where the formula cannot be turned round.
        differs: why the heatmaps differ; empty where they agree.
        layer: for ours, instead of the place's.
        score: what ours explains, instead of the class.
        rank: which class is explained, 0 the one of the highest score and -1 the one of the lowest.
        images: how many pictures.
        side: of the pictures; None is the network's own.
        dtype: of the arithmetic.
        tolerance: largest difference, as a share of the map's range.
    """

    ours: str
    theirs: str
    places: tuple[str, ...] = REAL
    params: Mapping[str, Any] = field(default_factory=dict)
    their_params: Mapping[str, Any] = field(default_factory=dict)
    formula: Formula = as_it_is
    own: Formula | None = None
    their_formula: Formula = as_it_is
    differs: str = ""
    layer: str | None = None
    score: Callable[[Tensor], Tensor] | None = None
    rank: int = 0
    images: int = 3
    side: int | None = None
    dtype: torch.dtype = torch.float32
    tolerance: float = 1e-4
