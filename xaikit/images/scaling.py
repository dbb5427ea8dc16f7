"""Values of any type to [0, 1].

    (value - low) / (high - low), clipped to [0, 1]

    low, high    what the user states as `value_range=`
                 else what the file states: the window of a DICOM file, the sample range of a TIFF file
                 else the range of the type: 0 to 255 or 65535; of floats 0 to 1

What none of them tells is refused: negative integers, floats far outside [0, 1], integers of other types.
"""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from xaikit.foundation.errors import BadInput, XaikitWarning
from xaikit.images.overlays import Floats
from xaikit.images.shapes import OVERSHOOT

Range = tuple[float, float]
_UNUSED = 8  # a picture that uses less than this part of its type's range is warned of
_REMEDY = "give value_range=(low, high)"


def value_range(given: Any) -> Range | None:
    """Return a range that a user states.

    Raises:
        BadInput: it is not two finite numbers, the lower one first.
    """
    if given is None:
        return None
    numbers = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else []
    if len(numbers) == 2 and all(isinstance(number, int | float | np.number) for number in numbers):
        low, high = float(numbers[0]), float(numbers[1])
        if math.isfinite(low) and math.isfinite(high) and low < high:
            return low, high
    raise BadInput(f"value_range: expected (low, high), two numbers, got {given!r}; for example (0, 4095)")


def scaled(values: np.ndarray[Any, Any], name: str, stated: Range | None = None, top: float | None = None) -> Floats:
    """Return values in [0, 1], float64.

    Args:
        values: numbers of any type and shape.
        name: what messages call them.
        stated: the range that becomes [0, 1]; values outside it are clipped.
        top: without a stated range, the highest value of the type, whose lowest is 0; None for floats in [0, 1], which
            may lie a little outside it, as resampling leaves them.

    Raises:
        BadInput: values that are not finite or, without a stated range, outside that of their type.

    Warns:
        XaikitWarning: nearly all of the type's range is unused, so that the picture is nearly black.
    """
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise BadInput(f"{name}: expected finite values, got NaN or infinity; replace them")
    if stated is not None:
        low, high = stated
        return ((values - low) / (high - low)).clip(0.0, 1.0)
    least, most = float(values.min(initial=0.0)), float(values.max(initial=0.0))
    if top is None:
        if least < -OVERSHOOT or most > 1 + OVERSHOOT:
            raise BadInput(f"{name}: expected a float picture in [0, 1], got {least:.3g} to {most:.3g}; {_REMEDY}")
        return values.clip(0.0, 1.0)
    if least < 0 or most > top:
        raise BadInput(f"{name}: expected values from 0 to {top:.0f}, got {least:.0f} to {most:.0f}; {_REMEDY}")
    if 0 < most * _UNUSED <= top:
        likely = 2 ** math.ceil(math.log2(most + 1)) - 1
        warnings.warn(
            f"{name}: nearly black, its values reach {most:.0f} of {top:.0f}; if they have fewer bits than that, give "
            f"value_range=(0, {likely})",
            XaikitWarning,
            stacklevel=2,
        )
    return values / top
