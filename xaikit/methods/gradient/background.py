"""The background: reference images that a method compares each image with, given as pixels or drawn.

    references = (B, C, H, W) pixels, or how many to draw by images/references.py; drawn ones flag the images
                 `default-references`

Shapes: (B, C, H, W) in the network's own coordinates.
"""

from __future__ import annotations

from functools import lru_cache

from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.foundation.parameters import Count
from xaikit.images.references import draw_references
from xaikit.images.shapes import check_images
from xaikit.run.batch import Batch

Background = Count | Tensor


def check_background(references: Background) -> None:
    """Refuse references that are no pixels (B, C, H, W) of at least one image.

    Raises:
        BadInput: anything else.
    """
    if isinstance(references, Tensor):
        check_images(references, references.shape[1] if references.ndim == 4 else 3)
    if background_size(references) < 1:
        raise BadInput("references: expected at least 1, got 0; leave them out to have some drawn")


def background_size(references: Background) -> int:
    """Return the number of references."""
    return len(references) if isinstance(references, Tensor) else references


def background_inputs(batch: Batch, references: Background) -> tuple[Tensor, list[set[str]]]:
    """Return the references (B, C, H, W) as the network takes them, and the flags of the images.

    Raises:
        BadInput: references of another size than the images.
    """
    shape = tuple(batch.inputs.shape[1:])
    given = references if isinstance(references, Tensor) else _drawn(references, shape[0], batch.size)
    if tuple(given.shape[1:]) != shape:
        raise BadInput(f"references: expected (B, {', '.join(map(str, shape))}), got {tuple(given.shape)}; resize them")
    flags: set[str] = set() if isinstance(references, Tensor) else {"default-references"}
    return batch.classifier.normalize(given.to(batch.inputs)), [set(flags) for _ in range(len(batch))]


@lru_cache(maxsize=2)
def _drawn(count: int, channels: int, size: tuple[int, int]) -> Tensor:
    return draw_references(count, channels, size)
