"""The ledger: how much relevance did not reach the image, per image and reason.

    bias          absorbed by terms that do not depend on the input: biases, constants, borders
    stabiliser    absorbed by the term that keeps denominators away from zero
    dead          arrived at outputs to which nothing contributes under the rule
    bypass        bypassed the layer at which the pass ends: skip connections and other branches

The ledger makes the sum a check:  sum(values) + sum(absorbed) = sum(start).

Shapes: each amount (n,), float64.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

Reason = Literal["bias", "stabiliser", "dead", "bypass"]
REASONS: tuple[Reason, ...] = get_args(Reason)


class MixedRows(Exception):
    """The rows of a tensor are not the images of the batch: each image has to be explained by itself."""


class Ledger:
    """Sums per image and reason.

    Args:
        images: number of images in the batch; None is the length of each recorded amount.
    """

    def __init__(self, images: int | None = None) -> None:
        self.images = images
        self.amounts: dict[Reason, Tensor] = {}

    def rows(self, tensor: Tensor) -> int:
        """Return the number of images in a tensor of the network: the length of its first axis, or one image.

        Raises:
            MixedRows: the first axis is not that of the images.
        """
        length = tensor.shape[0] if tensor.ndim else 1
        if self.images not in (None, 1, length):
            raise MixedRows
        return self.images or length

    def book(self, reason: Reason, amount: Tensor) -> None:
        """Add an amount (n, ...), summed over every axis but the first."""
        sums = amount.reshape(self.rows(amount), -1).sum(1).double()
        self.amounts[reason] = self.amounts[reason] + sums if reason in self.amounts else sums

    def absorbed(self, images: int) -> dict[Reason, Tensor]:
        """Return the amounts (images,) of each reason, and clear the ledger."""
        amounts, self.amounts = self.amounts, {}
        nothing = torch.zeros(images, dtype=torch.float64, device="cpu")
        return {reason: amounts[reason][:images] if reason in amounts else nothing for reason in REASONS}
