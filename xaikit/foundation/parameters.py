"""Parameters: the fields of a frozen dataclass, validated by their type hints on construction.

    @dataclass(frozen=True)
    class Blur(Parameters):
        sigma: Positive = 10.0

    Blur(sigma="x")      BadInput: sigma: expected a number above 0, got 'x'; the default is 10.0

The constructor, `build` and the command line use the same validation. A string that spells a number is accepted as the
number, as in a shell; True is not. No number may exceed a million, unless its class raises `largest`: such a count
would run for days, and float32 loses sums of more terms and products of larger factors. Bounds that follow from the
size of the image are checked where the parameter meets the image.
"""

import math
import types
from collections.abc import Callable, Iterable
from dataclasses import Field, fields
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
from annotated_types import Ge, Gt, Le, Lt
from pydantic import ConfigDict, TypeAdapter, ValidationError
from torch import Tensor

from xaikit.foundation.errors import BadInput, UnknownName
from xaikit.foundation.foreign_keywords import our_keyword

Count = Annotated[int, Ge(1)]
Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]
Share = Annotated[float, Ge(0), Le(1)]

LARGEST_TABLE = 2**28
"""Largest number of random numbers that a method draws at once: 2 GiB in float64."""

_SHOWN = 60  # largest number of characters of a value in a message
_BOUNDS = {Ge: ("from", "ge"), Gt: ("above", "gt"), Le: ("up to", "le"), Lt: ("below", "lt")}
_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    Tensor: "a tensor",
    type(None): "None",
    Any: "any value",
}


class Parameters:
    """Base class of a frozen dataclass whose fields are its parameters."""

    not_parameters: ClassVar[frozenset[str]] = frozenset()
    """Fields that are not parameters and are not validated."""

    largest: ClassVar[float] = 1e6
    """Largest magnitude of a number."""

    def __post_init__(self) -> None:
        """Validate every parameter, then their combination."""
        for name in self.parameter_names():
            object.__setattr__(self, name, self.checked(name, getattr(self, name)))
        self.check()

    def check(self) -> None:
        """Validate the combination of parameters; subclasses override this.

        Raises:
            BadInput: the combination is invalid.
        """

    @property
    def params(self) -> dict[str, Any]:
        """The parameters by name."""
        return {name: getattr(self, name) for name in self.parameter_names()}

    @classmethod
    def parameter_names(cls) -> list[str]:
        """Return the names of the parameters."""
        owner: Any = cls
        return list(_parameters(owner))

    @classmethod
    def check_names(cls, names: Iterable[str], kind: str = "parameter") -> None:
        """Check that all names are parameters.

        Args:
            names: names to check.
            kind: word for a name in the message.

        Raises:
            BadInput: a name is not a parameter; the message suggests similar ones, or ours for another package's.
        """
        known, owner = cls.parameter_names(), getattr(cls, "name", "")
        for name in names:
            if name not in known:
                if ours := our_keyword(name, known):
                    raise BadInput(f"{owner or 'parameters'}: expected a keyword of xaikit, got {name!r}; use {ours}")
                has = f"{owner or 'it'} has {', '.join(known) or 'none'}"
                raise BadInput(str(UnknownName(f"{kind} of {owner}" if owner else kind, name, known, has)))

    @classmethod
    def expected(cls, name: str) -> str:
        """Return what values a field takes, such as "a whole number from 1 or None"."""
        owner: Any = cls
        return _described(_hint(owner, name))

    @classmethod
    def checked(cls, name: str, value: Any) -> Any:
        """Return the value of a parameter converted to its declared type.

        Raises:
            BadInput: the value cannot be converted, or is too large.
        """
        owner: Any = cls
        value = value.item() if isinstance(value, np.generic) else value
        try:
            result = _adapter(owner, name).validate_python(value)
        except ValidationError as error:
            raise _refusal(cls, name, value) from error
        if isinstance(value, bool) and not isinstance(result, bool):
            raise _refusal(cls, name, value)
        numbers = [number for number in _several(result) if isinstance(number, int | float)]
        if any(abs(number) > cls.largest for number in numbers):
            raise _refusal(cls, name, value, f"at most {cls.largest:,.0f}")
        return result


@cache
def _parameters(cls: Any) -> dict[str, Field[Any]]:
    return {field.name: field for field in fields(cls) if field.name not in cls.not_parameters}


@cache
def _hint(cls: Any, name: str) -> Any:
    return get_type_hints(cls, include_extras=True)[name]


@cache
def _adapter(cls: Any, name: str) -> TypeAdapter[Any]:
    return TypeAdapter(_hint(cls, name), config=ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False))


def check_table(name: str, rows: int, columns: int, remedy: str) -> None:
    """Check that a table of random numbers fits into memory.

    Args:
        name: the parameter to blame.
        rows: number of rows.
        columns: number of columns.
        remedy: what the user can do.

    Raises:
        BadInput: the table has more than `LARGEST_TABLE` numbers.
    """
    if rows * columns > LARGEST_TABLE:
        raise BadInput(
            f"{name}: expected at most {LARGEST_TABLE:,} numbers in memory, got {rows:,} x {columns:,}; {remedy}"
        )


def _refusal(cls: Any, name: str, value: Any, expected: str = "") -> BadInput:
    owner = f"{cls.name}: " if isinstance(getattr(cls, "name", None), str) else ""
    field = _parameters(cls)[name]
    remedy = f"; the default is {field.default}" if isinstance(field.default, int | float | tuple) else ""
    return BadInput(f"{owner}{name}: expected {expected or _described(_hint(cls, name))}, got {_shown(value)}{remedy}")


def _several(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _shown(value: Any) -> str:
    """Return a value as it stands in a message, in a few words."""
    if not isinstance(value, str | int | float | tuple | list):
        return type(value).__name__
    if isinstance(value, int) and abs(value) >= 10**_SHOWN:
        return f"a number of {int(math.log10(abs(value))) + 1:,} digits"
    try:
        text = repr(value)
    except ValueError:  # Python does not write numbers of several thousand digits
        return f"a {type(value).__name__} of numbers that are too long to show"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _described(hint: Any) -> str:
    """Return a description of a type, such as "a whole number from 1 or None"."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        bounds = [
            f"{word} {getattr(bound, attribute):g}"
            for bound in arguments[1:]
            for kind, (word, attribute) in _BOUNDS.items()
            if isinstance(bound, kind)
        ]
        return f"{_described(arguments[0])} {' and '.join(bounds)}".strip()
    if origin is Literal:
        return " or ".join(filter(None, [", ".join(map(str, arguments[:-1])), str(arguments[-1])]))
    if origin in (Union, types.UnionType):
        several = [argument for argument in arguments if get_origin(argument) is tuple]
        single = [argument for argument in arguments if argument not in several]
        return " or ".join(dict.fromkeys(map(_described, single))) + (", or several" if several else "")
    if origin in (tuple, list):
        return f"several of {_described(arguments[0])}"
    if origin is not None and isinstance(origin, type) and issubclass(origin, Callable):  # type: ignore[arg-type]
        return "a function"
    return _WORDS.get(hint, "") or f"a {getattr(hint, '__name__', str(hint))}"
