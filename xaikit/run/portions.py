"""Portions of images, and what to do when one fails.

by_size    group neighbours of equal size
attempt    run all items together, or one by one after a failure, so that a failure costs one item
reason     return why an item failed, in one line
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import TypeVar

from xaikit.foundation.errors import CannotWrite, XaikitError

T = TypeVar("T")
R = TypeVar("R")


def by_size(items: Sequence[T], size: Callable[[T], object], most: int) -> Iterator[list[T]]:
    """Yield portions of neighbouring items of equal size.

    Args:
        items: the items, in order.
        size: callable that returns an item's size, such as the shape of its pixels.
        most: largest number of items in one portion.
    """
    for start in range(0, len(items), most):
        for _, group in groupby(items[start : start + most], key=size):
            yield list(group)


def attempt(work: Callable[[Sequence[T]], Sequence[R]], items: Sequence[T]) -> list[R | Exception]:
    """Return one result per item; if the items fail together, run each alone and return its result or its error.

    Args:
        work: callable that returns one result per item.
        items: at least one item.

    Raises:
        CannotWrite: a result cannot be written.
    """
    try:
        return list(work(items))
    except CannotWrite:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the error becomes the item's result
        if len(items) == 1:
            return [error if isinstance(error, Exception) else RuntimeError(f"the code ended with sys.exit({error})")]
        return [outcome for item in items for outcome in attempt(work, [item])]


def reason(error: Exception) -> str:
    """Return why something failed, in one line."""
    lines = str(error).strip().splitlines() or ["no reason given"]
    return lines[0] if isinstance(error, XaikitError) else f"{type(error).__name__}: {lines[0]}"
