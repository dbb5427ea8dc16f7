"""The flag `incomplete`: the sum of the values misses the difference of the scores that it should distribute.

    |gap| > 1 % of |score(x) - score(x')| + rounding of the scores

Rounding is a share of the scores themselves, so that the unit of the score has no effect.
"""

import torch
from torch import Tensor

_LARGEST_GAP = 0.01
_ROUNDING_STEPS = 64


def missed(gap: Tensor, scores: Tensor, others: Tensor, arithmetic: torch.dtype) -> Tensor:
    """Return whether the sum of each image's values misses `scores - others`, (n,) bool.

    Args:
        gap: (n,) sum of the values minus `scores - others`.
        scores: (n,) scores of the images.
        others: (n,) scores that they are compared with.
        arithmetic: dtype that the network computes in.
    """
    rounding = _ROUNDING_STEPS * torch.finfo(arithmetic).eps * (scores.abs() + others.abs())
    return ~(gap.abs() <= _LARGEST_GAP * (scores - others).abs() + rounding)  # also true where one of them is NaN


def flagged(missed: Tensor) -> list[set[str]]:
    """Return one set of flags per image: `incomplete` where `missed` (n,) is true."""
    return [{"incomplete"} if row else set() for row in missed.tolist()]
