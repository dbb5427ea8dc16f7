"""Measures of how good an explanation is.

The public name `xaikit.measures` is both this package and the function that lists its names, as `xaikit.methods` is.
"""

from __future__ import annotations

import sys
from types import ModuleType

from xaikit.measures.base import MEASURES

__all__ = ["names"]


def names() -> list[str]:
    """Return the names of all measures."""
    return MEASURES.names()


class _Package(ModuleType):
    def __call__(self) -> list[str]:
        return names()


sys.modules[__name__].__class__ = _Package
