"""FORGrad: the low-pass filter of another method's map."""

from __future__ import annotations

import pytest
import torch

from tests.networks import DeepNet, bound, images
from xaikit.foundation.errors import BadInput
from xaikit.methods.base import METHODS
from xaikit.methods.gradient.for_grad import low_pass


def test_waves_above_the_cutoff_are_removed_and_others_stay() -> None:
    """Cycles per shorter side: in an image of 24 x 48 pixels, 3 cycles in 24 pixels are 6 in 48."""
    down, across = torch.arange(24.0, dtype=torch.float64)[:, None], torch.arange(48.0, dtype=torch.float64)
    slow = 0.3 + torch.cos(2 * torch.pi * (2 * down / 24 + 4 * across / 48) + 1)  # sqrt(2^2 + 2^2) = 2.8
    along = torch.sin(2 * torch.pi * 6 * across / 48)
    fast = torch.cos(2 * torch.pi * 7 * across / 48)
    assert torch.allclose(low_pass(slow + along + fast, 3), slow + along, atol=1e-12)
    assert torch.allclose(low_pass(slow + along + fast, 2.9), slow, atol=1e-12)
    assert torch.allclose(low_pass(slow + along + fast, 0), torch.full_like(slow, 0.3), atol=1e-12)


def test_the_sum_and_its_gap_are_those_of_the_base_method() -> None:
    clf, x = bound(DeepNet()), images()
    options = {"steps": 3, "baseline": "black"}
    plain = METHODS.get("integrated-gradients").build(clf, **options).attribute(x, 1)
    found = (
        METHODS.get("for-grad").build(clf, base="integrated-gradients", base_params=options, cutoff=1).attribute(x, 1)
    )
    assert not torch.allclose(found.values, plain.values)
    assert torch.allclose(found.values.sum((1, 2)), plain.values.sum((1, 2)), rtol=1e-10)
    assert torch.equal(found.completeness, plain.completeness)
    assert found.flags == plain.flags
    assert found.params["steps"] == plain.params["steps"]


@pytest.mark.parametrize("base", ["saliency", "input-x-gradient", "grad-cam", "hires-cam"])
def test_the_sign_is_that_of_the_base_method_and_all_frequencies_give_its_map(base: str) -> None:
    clf, x = bound(DeepNet()), images()
    plain = METHODS.get(base)(clf).attribute(x, 1)
    for cutoff in (1, 100):
        found = METHODS.get("for-grad").build(clf, base=base, cutoff=cutoff).attribute(x, 1)
        assert found.signed == plain.signed
        assert plain.signed or bool((found.values >= 0).all())
    assert torch.allclose(found.values, plain.values, atol=1e-12)
    assert found.params.get("base_layer") == plain.layer


def test_a_filtered_method_is_not_filtered_again() -> None:
    with pytest.raises(BadInput, match="base: expected a method that is not filtered, got for-grad"):
        METHODS.get("for-grad").build(bound(DeepNet()), base="for-grad")
