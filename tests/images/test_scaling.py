"""Values of any type to [0, 1]."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from xaikit.foundation.errors import BadInput, XaikitWarning
from xaikit.images.scaling import scaled, value_range


def test_the_stated_range_becomes_the_unit_interval_and_clips() -> None:
    values = np.array([[-1024, -160, 40], [240, 241, 3071]], np.int16)
    np.testing.assert_allclose(scaled(values, "ct", (-160.0, 240.0)), [[0, 0, 0.5], [1, 1, 1]])


def test_without_a_range_the_type_has_one() -> None:
    np.testing.assert_allclose(
        scaled(np.array([0, 32768, 65535], np.uint16), "a", full=(0, 65535)), [0, 32768 / 65535, 1]
    )
    np.testing.assert_allclose(scaled(np.array([-0.01, 0.5, 1.0001]), "a"), [0, 0.5, 1])


@pytest.mark.parametrize(
    ("values", "full", "message"),
    [
        ([0.0, 2.0], None, r"a: expected a float picture in \[0, 1\], got 0 to 2; give value_range=\(low, high\)"),
        ([-1024, 3071], (0, 65535), "a: expected values from 0 to 65535, got -1024 to 3071; give value_range"),
        ([0, 70000], (0, 65535), "a: expected values from 0 to 65535, got 0 to 70000; give value_range"),
        ([0.0, float("nan")], None, "a: expected finite values, got NaN or infinity"),
        ([0.0, float("inf")], None, "a: expected finite values, got NaN or infinity"),
    ],
)
def test_what_no_range_tells_is_refused(values: list[float], full: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        scaled(np.array(values), "a", full=full)


@pytest.mark.parametrize(("most", "likely"), [(1023, 1023), (1024, 2047), (4095, 4095), (8191, 8191), (1, 1)])
def test_a_range_that_is_nearly_unused_is_warned_of(most: int, likely: int) -> None:
    with pytest.warns(XaikitWarning, match=rf"a: of little contrast, .* are 0 to {most} of 0 to 65535.*, {likely}\)"):
        scaled(np.array([0, most]), "a", full=(0, 65535))


def test_a_range_of_a_signed_type_is_warned_of_too() -> None:
    with pytest.warns(XaikitWarning, match=r"are -1024 to 3071 of -32768 to 32767; .* value_range=\(-1024, 3071\)"):
        scaled(np.array([-1024, 3071]), "a", full=(-32768, 32767))


def test_a_picture_that_uses_its_range_or_is_black_is_not() -> None:
    for most in (0, 8192, 65535):
        scaled(np.array([0, most]), "a", full=(0, 65535))


@pytest.mark.parametrize("given", [(0,), (1, 1), (2, 1), (0, float("inf")), "04", 4095, (None, 3), ("0", "1")])
def test_ranges_of_another_form(given: Any) -> None:
    with pytest.raises(BadInput, match=r"value_range: expected \(low, high\), two numbers, got"):
        value_range(given)
    assert value_range([0, 4095]) == (0.0, 4095.0)
    assert value_range(None) is None
