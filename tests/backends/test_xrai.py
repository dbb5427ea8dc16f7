"""XRAI against the authors' package `saliency`: its regions of photographs, and what it makes of a base map."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import xaikit
from tests.backends.cases import Case, case_of
from xaikit.methods.base import METHODS
from xaikit.methods.perturbation.xrai import grow, regions_of

pytestmark = [pytest.mark.backends, pytest.mark.real]


@pytest.fixture(scope="module")
def theirs() -> ModuleType:
    return pytest.importorskip("saliency.core.xrai", reason="the extra `backends` is missing")


@pytest.fixture(scope="module")
def case(real_data: Path) -> Case:
    return case_of("squeezenet1_0", images=2)


def pictures(case: Case) -> list[np.ndarray[Any, Any]]:
    return [image.permute(1, 2, 0).double().numpy() for image in case.pixels]


@pytest.fixture(scope="module")
def base(case: Case) -> torch.Tensor:
    """Integrated gradients (N, C, H, W) from black and white."""
    options = {"steps": 4, "baseline": ("black", "white"), "channels": True}
    method = METHODS.get("integrated-gradients").build(case.classifier, **options)
    return method.attribute(case.pixels, case.target).values


def test_the_regions_are_equal(case: Case, theirs: ModuleType) -> None:
    for picture in pictures(case):
        found = regions_of(picture)
        expected = theirs._get_segments_felzenszwalb(picture)
        assert len(found) == len(expected)
        for ours, mask in zip(found, expected, strict=True):
            assert np.array_equal(ours, np.flatnonzero(mask))


@pytest.mark.parametrize("order", ["full", "fast"])
def test_the_map_is_theirs_given_the_base_map(case: Case, base: torch.Tensor, theirs: ModuleType, order: str) -> None:
    found = xaikit.attribute(case.classifier, case.pixels, case.target, method="xrai", steps=4, order=order).values
    chosen = theirs.XRAIParameters(algorithm=order)
    for picture, gradients, ours in zip(pictures(case), base, found, strict=True):
        given = gradients.permute(1, 2, 0).double().numpy()
        expected = theirs.XRAI().GetMask(picture, None, base_attribution=given, extra_parameters=chosen)
        assert np.abs(ours.double().numpy() - expected).max() <= 1e-6 * np.ptp(expected)


def test_few_pixels_are_forgotten_as_theirs_are(base: torch.Tensor, theirs: ModuleType) -> None:
    stream = np.random.default_rng(0)
    given = base[0].permute(1, 2, 0).double().numpy()
    corners = stream.integers(0, 200, (60, 2))
    masks = np.zeros((60, 224, 224), dtype=bool)
    for mask, (top, left) in zip(masks, corners, strict=True):
        mask[top : top + stream.integers(5, 90), left : left + stream.integers(5, 90)] = True
    expected = theirs.XRAI().GetMask(np.zeros((224, 224, 3)), None, base_attribution=given, segments=list(masks))
    found = grow(given.max(2), [np.flatnonzero(mask) for mask in masks])
    assert np.allclose(found, expected, atol=1e-12)
