"""Odd values of every parameter of every method and measure: refused in one line, or a finite result in short time."""

from __future__ import annotations

import math
import time
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from tests.methods.small import SMALL
from tests.networks import GAPNet, bound, heatmaps, images, pictures, small
from xaikit.foundation.errors import BadInput
from xaikit.foundation.parameters import LARGEST_TABLE, Parameters, check_table
from xaikit.foundation.registry import Registry
from xaikit.measures.base import MEASURES, Subject
from xaikit.methods.base import METHODS
from xaikit.methods.gradient.blur_integrated_gradients import blur_matrix

NEVER = (-1, -(10**30), 1e9, 10**9, 10**12, 1e30, 10**30, 10**400, 10**5000, math.nan, math.inf, -math.inf)
"""Values that no number of a method or measure may take."""
RARELY = (0, 1e-300, 1e-30, 1e-6, 0.999999, 10**6)
"""Values that some numbers may take; the result is then right, and there in short time."""
COUNTS = {"samples", "steps", "subsets", "patches", "draws", "references", "networks"}
"""Numbers of passes: a million is a long time, as asked."""
LONGEST = 5.0  # seconds, for what takes milliseconds


def numbers(registry: Registry[Any]) -> list[tuple[str, str]]:
    """Return the names of all parameters that are, or contain, a number, with their owner's name."""
    return [
        (name, parameter)
        for name in registry.names()
        for parameter in registry.get(name).parameter_names()
        if _is_number(typing.get_type_hints(registry.get(name), include_extras=True)[parameter])
    ]


def _is_number(hint: Any) -> bool:
    return hint in (int, float) or any(_is_number(part) for part in typing.get_args(hint))


def refusal(kind: type[Parameters], parameter: str, value: Any) -> str | None:
    """Return the message with which a value is refused before there is an image, or None."""
    first = {"classifier": None} if "classifier" in kind.__dataclass_fields__ else {}
    try:
        kind(**first, **{parameter: value})  # type: ignore[arg-type]
    except BadInput as error:
        return str(error)
    return None


@contextmanager
def refused_in_one_line() -> Iterator[None]:
    """Suppress BadInput with a message of one line."""
    try:
        yield
    except BadInput as error:
        if "\n" in str(error):
            raise


METHOD_NUMBERS, MEASURE_NUMBERS = numbers(METHODS), numbers(MEASURES)


def test_the_numbers_are_found() -> None:
    assert ("rise", "keep") in METHOD_NUMBERS
    assert ("extremal-perturbation", "areas") in METHOD_NUMBERS
    assert ("sensitivity-n", "sizes") in MEASURE_NUMBERS
    assert len(METHOD_NUMBERS) > 40
    assert len(MEASURE_NUMBERS) > 30


@pytest.mark.parametrize(("registry", "all_numbers"), [(METHODS, METHOD_NUMBERS), (MEASURES, MEASURE_NUMBERS)])
def test_what_no_number_may_be_is_refused_in_one_line(
    registry: Registry[Any], all_numbers: list[tuple[str, str]]
) -> None:
    for name, parameter in all_numbers:
        for value in (*NEVER, (1e30,), (math.nan, 1)):
            if isinstance(value, int | float) and 0 < value <= registry.get(name).largest:
                continue
            message = refusal(registry.get(name), parameter, value)
            assert message is not None, (name, parameter, value)
            assert parameter in message
            assert "expected" in message
            assert "\n" not in message
            assert len(message) < 300


@pytest.mark.slow
@pytest.mark.parametrize(("name", "parameter"), METHOD_NUMBERS)
def test_what_a_number_may_be_gives_a_finite_map(name: str, parameter: str) -> None:
    clf, x = bound(GAPNet()), images(2, size=16)
    for value in (*RARELY, METHODS.get(name).largest):
        if value >= 10**6 and parameter in COUNTS:
            continue
        begin = time.monotonic()
        with refused_in_one_line():
            found = METHODS.get(name).build(clf, **(SMALL.get(name, {}) | {parameter: value})).attribute(x)
            assert found.values.isfinite().all(), value
        assert time.monotonic() - begin < LONGEST, value


@pytest.mark.parametrize(("name", "parameter"), MEASURE_NUMBERS)
def test_what_a_number_may_be_gives_a_value_in_the_range(name: str, parameter: str) -> None:
    method = METHODS.get("saliency").build(small())
    pixels = pictures(2)
    made = method.attribute(pixels)
    masks = heatmaps(2, seed=4) > 0
    subject = Subject(small(), pixels, made.heatmap(), made.target, method=method, masks=masks, attribution=made)
    kind = MEASURES.get(name)
    for value in RARELY:
        if value == 10**6 and parameter in COUNTS:
            continue
        begin = time.monotonic()
        with refused_in_one_line():
            values = kind(**{parameter: value}).compute(subject)
            values = values[~values.isnan()]
            assert ((values >= kind.range[0] - 1e-9) & (values <= kind.range[1] + 1e-9)).all(), value
        assert time.monotonic() - begin < LONGEST, value


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("random-grid", {"grid": 17}, "grid: expected at most the image's 16 pixels a side, got 17"),
        ("rise", {"grid": 17}, "grid: expected at most the image's 16 pixels a side, got 17"),
        ("hsic", {"grid": 17}, "grid: expected at most the image's 16 pixels a side, got 17"),
        ("extremal-perturbation", {"sigma": 17}, "sigma: expected at most the image's 16 pixels a side, got 17"),
        ("occlusion", {"window": 17}, "window: expected at most the image's 16 pixels, got 17"),
        ("meaningful-perturbation", {"grid": 17}, "grid: expected at most 16 cells, one per pixel, got 17"),
        ("expected-gradients", {"references": 10**6}, "references: expected a whole number from 1"),
        ("rise", {"samples": 10**6, "grid": 100}, "samples: expected at most 268,435,456 numbers in memory"),
        ("hsic", {"samples": 5000, "grid": 1000}, "grid: expected at most 268,435,456 numbers in memory"),
        ("sobol", {"samples": 2**19, "grid": 100}, "samples: expected at most 268,435,456 numbers in memory"),
        ("integrated-gradients", {"steps": 1001, "quadrature": "gauss-legendre"}, "steps: expected at most 1000"),
    ],
)
def test_bounds_that_follow_from_the_image_or_the_memory(name: str, params: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        METHODS.get(name).build(bound(GAPNet()), **params).attribute(images(1, size=16))


@pytest.mark.parametrize("name", ["lime", "kernel-shap"])
def test_coalitions_that_do_not_fit_into_memory_are_refused(name: str) -> None:
    method = METHODS.get(name).build(bound(GAPNet()), samples=10**6, segments=300, segmentation="grid")
    with pytest.raises(BadInput, match="samples: expected at most 268,435,456 numbers in memory"):
        method.attribute(images(1, size=32))


def test_kernel_shap_refuses_more_segments_than_it_can_solve_for() -> None:
    with pytest.raises(BadInput, match="segments: expected at most 1,000, got 1,024; lower segments"):
        METHODS.get("kernel-shap").build(bound(GAPNet()), segments=2000, segmentation="grid").attribute(
            images(1, size=32)
        )


def test_segments_are_at_most_one_per_pixel() -> None:
    found = METHODS.get("feature-ablation").build(bound(GAPNet()), segments=10**6, segmentation="grid")
    assert found.attribute(images(1)).diagnostics["segments"].tolist() == [64]


def test_a_table_too_large_names_what_to_lower() -> None:
    check_table("samples", 2**14, 2**14, "lower samples")
    with pytest.raises(BadInput, match=r"samples: expected at most .* in memory, got 16,384 x 16,385; lower it"):
        check_table("samples", 2**14, LARGEST_TABLE // 2**14 + 1, "lower it")


@pytest.mark.parametrize("padding", ["zero", "reflect"])
@pytest.mark.parametrize(("length", "sigma"), [(1, 3.0), (5, 0.4), (9, 2.5), (7, 40.0)])
def test_a_blur_is_the_sum_over_the_continued_image(padding: Any, length: int, sigma: float) -> None:
    """Against the sum over every offset of the kernel, one after another."""
    radius = int(4 * sigma + 0.5)
    weights = {offset: math.exp(-0.5 * (offset / sigma) ** 2) for offset in range(-radius, radius + 1)}
    expected = torch.zeros(length, length, dtype=torch.float64)
    for row in range(length):
        for offset, weight in weights.items():
            column = row + offset
            if padding == "reflect":
                while not 0 <= column < length:
                    column = -1 - column if column < 0 else 2 * length - 1 - column
            if 0 <= column < length:
                expected[row, column] += weight / sum(weights.values())
    assert torch.allclose(blur_matrix(length, sigma, padding), expected, rtol=0, atol=1e-14)


def test_the_strongest_blur_leaves_nothing_or_the_mean() -> None:
    assert blur_matrix(16, 10_000, "zero").sum(1).max() < 1e-3
    assert torch.allclose(blur_matrix(16, 10_000, "reflect"), torch.full((16, 16), 1 / 16, dtype=torch.float64))
