"""Grids: a layer's output as maps (N, C, h, w)."""

from __future__ import annotations

from torch import Tensor

from xaikit.foundation.errors import BadInput


def grid(activation: Tensor) -> Tensor:
    """Return activations as (N, C, h, w); a CNN's already are.

    Raises:
        BadInput: the layer's output is not four-dimensional.
    """
    if activation.ndim != 4:
        raise BadInput(
            f"layer: expected activations (N, C, h, w), got {tuple(activation.shape)}; choose an earlier layer"
        )
    return activation
