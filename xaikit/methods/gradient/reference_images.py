"""The background: reference images that a method compares each image with.

    references = pixels (B, C, H, W), or the number of synthetic images to draw with images/references.py

Images that are compared with synthetic references get the flag `default-references`.

Shapes: references (B, C, H, W) in the network's coordinates.
"""

import math
from functools import lru_cache
from typing import Annotated

from annotated_types import Ge, Le
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.foundation.parameters import check_table
from xaikit.images.references import draw_references
from xaikit.images.shapes import check_images, check_range
from xaikit.run.batch import Batch

Background = Annotated[int, Ge(1), Le(10_000)] | Tensor


def check_background(references: Background) -> None:
    """Check that there is at least one reference and that pixels have the shape (B, C, H, W).

    Raises:
        BadInput: there is no reference, or the pixels have another shape.
    """
    if isinstance(references, Tensor):
        check_images(references, references.shape[1] if references.ndim == 4 else 3)
    if background_size(references) < 1:
        raise BadInput("references: expected at least 1, got 0; omit them to use synthetic ones")


def background_size(references: Background) -> int:
    """Return the number of references."""
    return len(references) if isinstance(references, Tensor) else references


def background_inputs(batch: Batch, references: Background) -> tuple[Tensor, list[set[str]]]:
    """Return the references (B, C, H, W) in the network's coordinates, and the flags of each image.

    Raises:
        BadInput: the references differ from the images in shape or range, or there are too many to draw.
    """
    shape = tuple(batch.inputs.shape[1:])
    if not isinstance(references, Tensor):
        check_table("references", references, math.prod(shape), "lower references")
    pixels = references if isinstance(references, Tensor) else _synthetic(references, shape[0], batch.size)
    if tuple(pixels.shape[1:]) != shape:
        raise BadInput(
            f"references: expected (B, {', '.join(map(str, shape))}), got {tuple(pixels.shape)}; resize them"
        )
    check_range(pixels, bounded=batch.classifier.bounded, name="references")
    flags: set[str] = set() if isinstance(references, Tensor) else {"default-references"}
    return batch.classifier.normalize(pixels.to(batch.inputs)), [set(flags) for _ in range(len(batch))]


@lru_cache(maxsize=2)
def _synthetic(count: int, channels: int, size: tuple[int, int]) -> Tensor:
    return draw_references(count, channels, size)
