"""The former address of the errors, which are in `xaikit` and xaikit/foundation/errors.py."""

from xaikit.foundation.errors import (
    BadChecksum,
    BadInput,
    LeftOut,
    MissingExtra,
    NoSuchLayer,
    UnknownName,
    XaikitError,
    XaikitWarning,
)

__all__ = [
    "BadChecksum",
    "BadInput",
    "LeftOut",
    "MissingExtra",
    "NoSuchLayer",
    "UnknownName",
    "XaikitError",
    "XaikitWarning",
]
