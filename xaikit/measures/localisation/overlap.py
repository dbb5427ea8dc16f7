"""Overlap: number of evidence pixels among the |G| highest pixels of the map.

    covered = |top_k(a) inside G|        k = |G|

Where the cut splits a group of equal values, each of them counts with the share of the group above the cut, which is
the expected value over all orders of ties.

Shapes: maps (N, H, W); masks (N, H, W) bool; covered and sizes (N,) float64.
"""

from torch import Tensor


def covered_by_highest(maps: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Return the expected number of evidence pixels among the |G| highest of each map, and |G|."""
    values, inside = maps.flatten(1), masks.flatten(1)
    size = inside.sum(1)
    limit = values.sort(1, descending=True).values.gather(1, (size - 1).clamp(min=0)[:, None])
    above, tied = values > limit, values == limit
    share = (size - above.sum(1)).double() / tied.sum(1)
    covered = (above & inside).sum(1) + share * (tied & inside).sum(1)
    return covered, size.double()
