"""The plan of a keep curve: which confidences are known, and which images must go through the network.

    whole     a mask of ones                        o = y
    gone      a mask of zeros                       o = floor
    same      the mask of the previous level        o = that of the previous level
    unknown   all others                            one forward, or one per order of ties if the cut splits a tie

Shapes: cells of Q maps by T levels, on the CPU; work items (L,).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from xaikit.measures.removal.levels import Cuts
from xaikit.measures.removal.protocol import KeepProtocol


@dataclass(frozen=True)
class Plan:
    """The known values of Q maps at T levels, and the remaining work.

    Args:
        whole: (Q, T) bool, True where nothing is removed.
        gone: (Q, T) bool, True where everything is removed.
        invalid: (Q,) bool, True for maps without a value.
        first: (Q, T) int64, the first level with the same mask.
        items: (L,) int64, cell `q * T + j` of each work item.
        orders: (L,) int64, index of the order of ties of each work item.
    """

    whole: Tensor
    gone: Tensor
    invalid: Tensor
    first: Tensor
    items: Tensor
    orders: Tensor

    @classmethod
    def of(cls, cuts: Cuts, invalid: Tensor, protocol: KeepProtocol) -> Plan:
        """Return the plan for the cuts of some maps; the maps in `invalid` (Q,) are skipped."""
        blank, invalid = cuts.blank.cpu(), invalid.cpu()
        gone = blank == cuts.ranks.shape[2]
        whole = (blank == 0) & (cuts.full.cpu()[:, None] | (protocol.mask == "binary"))
        fresh = torch.ones_like(gone)
        fresh[:, 1:] = blank[:, 1:] != blank[:, :-1]
        unknown = fresh & ~gone & ~whole & ~invalid[:, None]
        repeats = torch.where(cuts.split.cpu(), protocol.orders, 1)[unknown]
        start = (repeats.cumsum(0) - repeats).repeat_interleave(repeats)
        return cls(
            whole=whole,
            gone=gone,
            invalid=invalid,
            first=torch.where(fresh, torch.arange(blank.shape[1], device="cpu"), 0).cummax(1).values,
            items=unknown.flatten().nonzero()[:, 0].repeat_interleave(repeats),
            orders=torch.arange(len(start), device="cpu") - start,
        )

    def complete(self, values: Tensor, y: Tensor, floor: Tensor) -> Tensor:
        """Return the confidence of all cells (Q, T) from those of the work items.

        Args:
            values: (L,) float64 confidence of each work item.
            y: (Q,) confidence on the unchanged image.
            floor: (Q,) confidence on the fill alone.
        """
        o = torch.zeros(self.gone.numel(), dtype=torch.float64, device="cpu").index_add_(0, self.items, values)
        o = (o / self._items_per_cell.clamp(min=1)).reshape(self.gone.shape).gather(1, self.first)
        o = torch.where(self.whole, y[:, None], o)
        o = torch.where(self.gone, floor[:, None], o)
        return o.masked_fill(self.invalid[:, None], torch.nan)

    @property
    def forwards(self) -> Tensor:
        """(Q,) number of work items of each map."""
        return self._items_per_cell.reshape(self.gone.shape).sum(1)

    @property
    def reused(self) -> Tensor:
        """(Q,) number of cells of each map that need no forward."""
        return ((self._items_per_cell == 0).reshape(self.gone.shape) & ~self.invalid[:, None]).sum(1)

    @property
    def _items_per_cell(self) -> Tensor:
        return torch.bincount(self.items, minlength=self.gone.numel())
