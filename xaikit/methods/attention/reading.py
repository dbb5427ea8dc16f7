"""Reading: values of tokens as maps on the image."""

from __future__ import annotations

from torch import Tensor

from xaikit.methods.base import Values
from xaikit.run.attention import Tokens
from xaikit.run.batch import Batch


def on_image(batch: Batch, tokens: Tokens, values: Tensor) -> Values:
    """Return values (n, T) of tokens as maps (n, h, w), with the flag of those that do not lie on the image."""
    misplaced = batch.places.misplaced(tokens.layer)
    return Values(tokens.cells(values), flags=[{"misplaced-grid"} if mark else set() for mark in misplaced])
