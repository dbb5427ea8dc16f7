"""Grids: a layer's output as activation maps (N, C, h, w)."""

from torch import Tensor

from xaikit.foundation.errors import BadInput


def grid(activation: Tensor) -> Tensor:
    """Return the activations unchanged after checking that they are (N, C, h, w).

    Raises:
        BadInput: the activations are not four-dimensional.
    """
    if activation.ndim != 4:
        raise BadInput(
            f"layer: expected activations (N, C, h, w), got {tuple(activation.shape)}; choose an earlier layer"
        )
    return activation
