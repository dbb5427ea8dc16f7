"""NumPy's files: one array (H, W) or (H, W, C), with the range of its type."""

from pathlib import Path
from tokenize import TokenError

import numpy as np

from xaikit.foundation.errors import BadInput
from xaikit.images.formats.format import Stored, check_pixels, register_format
from xaikit.images.scaling import Range


@register_format("NumPy", suffixes=(".npy",), begins=lambda start: start.startswith(b"\x93NUMPY"))
def read(path: Path, stated: Range | None) -> Stored:
    """Return the array of a file.

    Raises:
        BadInput: it holds Python objects.
        ValueError: it is damaged.
    """
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except TokenError as error:
        raise ValueError(error) from error
    except ValueError as error:
        if "Python objects" not in str(error):
            raise
        raise BadInput(f"{path}: expected an array of numbers, got Python objects; save numbers") from error
    if values.ndim > 1:
        check_pixels(values.shape[1], values.shape[0])
    return Stored(np.array(values))
