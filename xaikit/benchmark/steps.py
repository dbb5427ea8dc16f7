"""Steps of seconds: how many images are explained or measured together, so that a stop loses little.

    images = work of a step / (passes per image x bytes of activations per pass)

It depends on the network, the kind of device and the method alone, never on a clock or on what is missing: images that
share a pass share its rounding. Time per byte is much the same for all networks on one device.
"""

from collections.abc import Iterator, Sequence
from typing import TypeVar

from xaikit.model.classifier import Classifier
from xaikit.run.cost import Cost

T = TypeVar("T")

_WORK = {"cpu": 2**33, "cuda": 2**40}
"""Bytes of activations that take a few seconds."""
_HIDDEN = 2**28  # bytes of a pass whose activations are not known: a function, TorchScript
_SHARED = 300  # passes per image that the methods on it share, nominally


def images_of_a_step(classifier: Classifier, size: Sequence[int], cost: Cost) -> int:
    """Return the number of images of `size` = (H, W) in one step at a cost for each, 1 at least."""
    outline = classifier.outline(size)
    each = _HIDDEN if outline.rows.hidden else outline.activation_bytes
    passes = max(1.0, cost.forwards + 2 * cost.backwards)
    return max(1, int(_WORK.get(classifier.device.type, _WORK["cuda"]) / (passes * max(1, each))))


def images_of_a_block(classifier: Classifier, size: Sequence[int]) -> int:
    """Return the number of images of `size` = (H, W) whose methods share what is known of the images, 1 at least."""
    return images_of_a_step(classifier, size, Cost(_SHARED))


def parts(items: Sequence[T], most: int) -> Iterator[Sequence[T]]:
    """Yield parts of at most `most` items, in order."""
    for start in range(0, len(items), most):
        yield items[start : start + most]
