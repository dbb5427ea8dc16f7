"""Portions of images on their way through a run: what goes together, and what happens when it fails.

by_size    neighbours of equal size go together
attempt    all together, or each by itself, so that one failure costs one item
reason     why it failed, in one line
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import TypeVar

from xaikit.foundation.errors import XaikitError

T = TypeVar("T")
R = TypeVar("R")


def by_size(items: Sequence[T], size: Callable[[T], object], most: int) -> Iterator[list[T]]:
    """Yield neighbours of equal size, at most so many at a time.

    Args:
        items: in order.
        size: of an item, such as the shape of its pixels.
        most: number of items in one portion.
    """
    for start in range(0, len(items), most):
        for _, group in groupby(items[start : start + most], key=size):
            yield list(group)


def attempt(work: Callable[[Sequence[T]], Sequence[R]], items: Sequence[T]) -> list[R | Exception]:
    """Return one result an item; where all together fail, those of each by itself or the error it fails with.

    Args:
        work: returns one result an item.
        items: at least one.
    """
    try:
        return list(work(items))
    except Exception as error:  # noqa: BLE001 - an item fails with its reason, the others go on
        if len(items) == 1:
            return [error]
        return [outcome for item in items for outcome in attempt(work, [item])]


def reason(error: Exception) -> str:
    """Return why something failed, in one line."""
    lines = str(error).strip().splitlines() or ["no reason given"]
    return lines[0] if isinstance(error, XaikitError) else f"{type(error).__name__}: {lines[0]}"
