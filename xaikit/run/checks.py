"""Checks of what a network returns for the images of a batch: one row for each."""

from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.model.hooks import Layer


def check_rows(logits: Tensor, count: int) -> None:
    """Check that logits (N, K) are finite, and one row for each of `count` images.

    Raises:
        BadInput: they are not.
    """
    if len(logits) != count:
        raise BadInput(
            f"model: expected logits ({count}, K) for {count} images, got {tuple(logits.shape)}; the model must not "
            "mix the images of a batch"
        )
    bad = (~logits.isfinite()).any(1).nonzero().flatten().tolist()
    if bad:
        raise BadInput(f"model: expected finite logits, got NaN or infinity for image {bad[0]}; check its weights")


def check_activations(activations: Tensor, count: int, layer: Layer) -> None:
    """Check that a layer's activations (n, C, h, w) have one row for each of `count` images.

    Raises:
        BadInput: they have not, for example because the network cuts the images into parts.
    """
    if len(activations) != count:
        raise BadInput(
            f"layer {str(layer)!r}: expected activations of {count} images, got {len(activations)} rows; choose a "
            "layer that sees whole images"
        )
