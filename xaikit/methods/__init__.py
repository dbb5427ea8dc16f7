"""The attribution methods: a folder a family, a file a method.

The public name `xaikit.methods` is both this package and the function that lists its names; whichever Python binds
last, `xaikit.methods()` works.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import get_args

from xaikit.foundation.errors import UnknownName
from xaikit.methods.base import METHODS, Family

__all__ = ["names"]


def names(family: Family | None = None, backends: bool = False) -> list[str]:
    """Return the names of all methods.

    Args:
        family: of this one alone.
        backends: add those of other packages that are installed, such as "captum/saliency".

    Raises:
        UnknownName: no such family.
    """
    if family is not None and family not in get_args(Family):
        raise UnknownName("family", str(family), get_args(Family), f"the families are {', '.join(get_args(Family))}")
    return METHODS.names(lambda kind: family is None or kind.family == family, guests=backends)


class _Package(ModuleType):
    def __call__(self, family: Family | None = None, backends: bool = False) -> list[str]:
        return names(family, backends)


sys.modules[__name__].__class__ = _Package
