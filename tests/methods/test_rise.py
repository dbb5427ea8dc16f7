"""RISE: what must come out on models whose expectation is known, and how far the sampling noise reaches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.methods.replicas.perturbation import smooth_masks
from tests.networks import DeepNet, bound, images
from xaikit.foundation.errors import BadInput
from xaikit.methods.base import METHODS
from xaikit.methods.perturbation.rise import GridMasks
from xaikit.model.classifier import Classifier

SLOPE = torch.rand(8, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64) / 64


def linear(pixels: Tensor) -> Tensor:
    """A probability that is linear in the pixels: 0.1 + sum_v a_v x_v, x the mean over channels."""
    p = 0.1 + (pixels.double().mean(1) * SLOPE).sum((1, 2))
    return torch.stack([p, 1 - p], 1)


def linear_box() -> Classifier:
    return Classifier.from_function(linear, size=8, mean=0.0, takes="torch")


def explain(x: Tensor, clf: Classifier, seed: int = 0, **params: object) -> Tensor:
    return METHODS.get("rise").build(clf, **params).attribute(x, 0, seed=seed).values


def test_a_linear_probability_with_the_very_masks_that_were_drawn() -> None:
    """S(u) = 1 / (N p) (b sum_i M_i(u) + sum_v a_v x_v sum_i M_i(v) M_i(u))."""
    x = images(2).float()
    masks = smooth_masks(100, 4, 0.4, 8).flatten(1)
    products = (x.double().mean(1) * SLOPE).flatten(1)
    expected = (0.1 * masks.sum(0) + products @ masks.T @ masks) / (100 * 0.4)
    found = explain(x, linear_box(), samples=100, grid=4, keep=0.4)
    assert torch.allclose(found.flatten(1), expected, atol=1e-6)


@pytest.mark.slow
def test_its_expectation_within_the_standard_error() -> None:
    x = images(2).float()
    many = smooth_masks(40_000, 4, 0.5, 8, seed=99).flatten(1)
    products = (x.double().mean(1) * SLOPE).flatten(1)
    expected = ((0.1 * many.mean(0) + products @ many.T @ many / len(many)) / 0.5).reshape(2, 8, 8)
    attribution = METHODS.get("rise").build(linear_box(), samples=1000, grid=4).attribute(x, 0)
    error = attribution.diagnostics["standard_error"]
    away = (attribution.values - expected).abs().mean((1, 2)) / error
    assert (away < 2.5).all()


@pytest.mark.slow
def test_the_standard_error_is_what_seeds_differ_by() -> None:
    x = images(1).float()
    runs = [METHODS.get("rise").build(linear_box(), samples=60, grid=4).attribute(x, 0, seed=s) for s in range(40)]
    spread = float(torch.cat([one.values for one in runs]).std(0).mean())
    told = float(torch.stack([one.diagnostics["standard_error"] for one in runs]).mean())
    assert 0.8 < told / spread < 1.2


def test_a_constant_probability_gives_a_constant_map() -> None:
    clf = Classifier.from_function(lambda p: np.full((len(p), 2), 0.5, np.float32), size=8, mean=0.0)
    assert torch.allclose(explain(images(1), clf, samples=70, grid=3), torch.tensor(0.5))
    assert float(explain(images(1), clf, samples=70, grid=3, variant="centred").abs().max()) == 0


def test_masks_of_ones_give_the_probability_everywhere() -> None:
    clf, x = bound(DeepNet()), images(2)
    expected = clf.probabilities(x)[:, 0].detach()[:, None, None].expand(2, 8, 8)
    assert torch.allclose(explain(x, clf, samples=5, grid=3, keep=1.0), expected, atol=1e-6)
    assert float(explain(x, clf, samples=5, grid=3, keep=1.0, variant="centred").abs().max()) == 0


@pytest.mark.parametrize("size", [(8, 8), (224, 224), (30, 50)])
def test_masks_are_smooth_and_keep_their_share(size: tuple[int, int]) -> None:
    masks = GridMasks(400, 7, 0.5, size, 0, torch.zeros(1))(torch.arange(400))
    assert masks.shape == (400, *size)
    assert 0 <= float(masks.min()) <= float(masks.max()) <= 1 + 1e-6
    assert abs(float(masks.mean()) - 0.5) < 0.02
    assert float((masks.mean(0) - 0.5).abs().max()) < 0.15
    steps = masks.diff(dim=2).abs().max()
    assert float(steps) <= 7 / size[1] * 1.2 + 0.01 or size == (8, 8)


def test_masks_belong_to_the_seed_and_the_size() -> None:
    def drawn(seed: int, size: tuple[int, int], count: int = 20) -> Tensor:
        return GridMasks(count, 4, 0.5, size, seed, torch.zeros(1))(torch.arange(4))

    assert torch.equal(drawn(1, (16, 16)), drawn(1, (16, 16)))
    assert not torch.equal(drawn(1, (16, 16)), drawn(2, (16, 16)))


@pytest.mark.slow
def test_centred_maps_are_nearer_to_the_slope_than_plain_ones() -> None:
    """Against a linear probability whose true slope on each pixel's mask is known by many samples."""
    x = images(1).float()
    truth = explain(x, linear_box(), seed=50, samples=20_000, grid=4, variant="centred")[0].flatten()

    def likeness(variant: str) -> float:
        runs = torch.cat([explain(x, linear_box(), seed=s, samples=80, grid=4, variant=variant) for s in range(8)])
        return float(torch.stack([torch.corrcoef(torch.stack([one.flatten(), truth]))[0, 1] for one in runs]).mean())

    assert likeness("centred") > likeness("plain") + 0.1


def test_plain_maps_are_shown_as_they_are_and_centred_ones_from_least_to_most() -> None:
    clf, x = bound(DeepNet()), images(1)
    plain = METHODS.get("rise").build(clf, samples=50, grid=3).attribute(x)
    centred = METHODS.get("rise").build(clf, samples=50, grid=3, variant="centred").attribute(x)
    assert torch.equal(plain.heatmap(), plain.values.clamp(0, 1))
    assert (float(centred.heatmap().min()), float(centred.heatmap().max())) == (0, 1)
    assert float(centred.values.min()) < 0 < float(centred.values.max())


def test_a_heatmap_of_a_callable_shows_its_whole_range() -> None:
    """Values of a logit or a regression are no probabilities: clipped to [0, 1] the map would be blank."""
    x = images(1).float()
    as_logit = METHODS.get("rise").build(linear_box(), samples=50, grid=4).attribute(x, lambda z: 7 + z[:, 0])
    heatmap = as_logit.heatmap()
    assert as_logit.values.min() > 1
    assert (float(heatmap.min()), float(heatmap.max())) == (0.0, 1.0)
    spread = as_logit.values - as_logit.values.min()
    assert torch.allclose(heatmap, spread / spread.max(), atol=1e-6)
    assert METHODS.get("rise").build(linear_box(), samples=5, grid=4).attribute(x, 0).scale == "unit"


def test_patches_are_kept_and_removed_as_a_whole() -> None:
    masks = GridMasks(300, 4, 0.3, (8, 12), 0, torch.zeros(1), "patches")(torch.arange(300))
    blocks = masks.reshape(300, 4, 2, 4, 3)
    assert torch.equal(blocks, blocks[:, :, :1, :, :1].expand_as(blocks))
    assert masks.unique().tolist() == [0, 1]
    assert abs(float(masks.mean()) - 0.3) < 4 * (0.3 * 0.7 / 4800) ** 0.5


@pytest.mark.slow
def test_whole_patches_tell_what_each_adds_to_a_network_of_tokens() -> None:
    """The score is a sum over the means of patches, so that the slope of each is what it adds."""
    weight = torch.rand(4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64) / 16

    def tokens(pixels: Tensor) -> Tensor:
        p = (torch.nn.functional.avg_pool2d(pixels.double().mean(1), 2) * weight).sum((1, 2))
        return torch.stack([p, 1 - p], 1)

    clf = Classifier.from_function(tokens, size=8, mean=0.0, takes="torch")
    x = images(1).float()
    found = explain(x, clf, samples=4000, grid=4, masks="patches", variant="centred")
    added = torch.nn.functional.avg_pool2d(x.double().mean(1), 2) * weight
    error = (found[0, ::2, ::2] - added[0]).abs().max()
    assert torch.equal(found[0, ::2, ::2].repeat_interleave(2, 0).repeat_interleave(2, 1), found[0])
    assert float(error) < 0.15 * float(added.max())
    with pytest.raises(BadInput, match="grid: expected a divisor of the image's 8x8 pixels for patches, got 3"):
        explain(x, clf, samples=10, grid=3, masks="patches")
