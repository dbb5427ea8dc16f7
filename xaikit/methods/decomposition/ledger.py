"""The ledger: what relevance did not reach the image, per image, and why.

    bias          went to what is added whatever the input is: biases, constants, borders
    stabiliser    went to what keeps denominators away from zero
    dead          came to outputs that nothing contributes to by the rule
    bypass        went round the layer at which it was to end: through skip connections and other branches

With it the sum is a check:  sum(values) + sum(absorbed) = sum(start).

Shapes: each amount (n,), float64.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

Reason = Literal["bias", "stabiliser", "dead", "bypass"]
REASONS: tuple[Reason, ...] = get_args(Reason)


class Ledger:
    """Sums per image and reason.

    Args:
        images: rows of the physical batch; None takes them from what is booked.
    """

    def __init__(self, images: int | None = None) -> None:
        self.images = images
        self.amounts: dict[Reason, Tensor] = {}

    def book(self, reason: Reason, amount: Tensor) -> None:
        """Add an amount (n, ...), summed over all but the images."""
        rows = self.images or amount.shape[0]
        sums = amount.reshape(rows, -1).sum(1).double()
        self.amounts[reason] = self.amounts[reason] + sums if reason in self.amounts else sums

    def absorbed(self, images: int) -> dict[Reason, Tensor]:
        """Return what each reason took from the first `images` rows, and begin anew."""
        amounts, self.amounts = self.amounts, {}
        nothing = torch.zeros(images, dtype=torch.float64, device="cpu")
        return {reason: amounts[reason][:images] if reason in amounts else nothing for reason in REASONS}
