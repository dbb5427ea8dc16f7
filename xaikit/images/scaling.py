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
_UNUSED = 8  # a picture whose values span less than this part of their type's range is warned of
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


def scaled(values: np.ndarray[Any, Any], name: str, stated: Range | None = None, full: Range | None = None) -> Floats:
    """Return values in [0, 1], float64.

    Args:
        values: numbers of any type and shape.
        name: what messages call them.
        stated: the range that becomes [0, 1]; values outside it are clipped.
        full: without a stated range, the lowest and highest value of the type; None for floats in [0, 1], which may lie
            a little outside it, as resampling leaves them.

    Raises:
        BadInput: values that are not finite or, without a stated range, outside that of their type.

    Warns:
        XaikitWarning: nearly all of the type's range is unused, so that the picture is nearly of one colour.
    """
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise BadInput(f"{name}: expected finite values, got NaN or infinity; replace them")
    if not values.size:
        return values
    low, high = stated or full or (0.0, 1.0)
    least, most = float(values.min()), float(values.max())
    if stated is None and full is None and (least < -OVERSHOOT or most > 1 + OVERSHOOT):
        raise BadInput(f"{name}: expected a float picture in [0, 1], got {least:.3g} to {most:.3g}; {_REMEDY}")
    if stated is None and full is not None:
        if least < low or most > high:
            expected, got = f"{low:.0f} to {high:.0f}", f"{least:.0f} to {most:.0f}"
            raise BadInput(f"{name}: expected values from {expected}, got {got}; {_REMEDY}")
        if most > low and high - low > 255 and (most - least) * _UNUSED <= high - low:
            likely = f"0, {2 ** math.ceil(math.log2(most + 1)) - 1}" if low == 0 else f"{least:.0f}, {most:.0f}"
            warnings.warn(
                f"{name}: of little contrast, its values are {least:.0f} to {most:.0f} of {low:.0f} to {high:.0f}; "
                f"if their range is another, give value_range=({likely})",
                XaikitWarning,
                stacklevel=2,
            )
    return ((values - low) / (high - low)).clip(0.0, 1.0)
