"""Perturbation methods, derived a second time."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.methods.replicas import close, replicates
from tests.networks import DeepNet, LinearNet, bound, images
from xaikit.foundation.identity import generator, generators
from xaikit.images.hashes import image_hashes
from xaikit.methods.base import METHODS
from xaikit.model.classifier import Classifier

QUARTERS = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1]] * 3 + [[2, 2, 2, 3, 3, 3, 3, 3]] * 5)
NORMALISED = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]}


def shares(clf: Classifier, x: Tensor, target: int) -> Tensor:
    """Return weight times pixel of a `LinearNet`, summed over channels, (N, 8, 8)."""
    return (x * clf.network.fc.weight.reshape(4, 3, 8, 8)[target]).sum(1)


def summed(values: Tensor, numbers: Tensor) -> Tensor:
    """Return at each pixel the sum of `values` (N, H, W) over its segment, `numbers` (H, W)."""
    inside = (numbers.flatten()[:, None] == numbers.flatten()[None]).to(values)
    return (values.flatten(1) @ inside).reshape(values.shape)


def score_of(clf: Classifier, pixels: Tensor, kept: Tensor, target: int, fill: Tensor) -> float:
    """Return the logit of one image (3, H, W) of which the pixels `kept` (H, W) stand, the rest being `fill`."""
    return float(clf(torch.where(kept, pixels, fill)[None]).detach()[0, target])


def game(clf: Classifier, pixels: Tensor, numbers: Tensor, target: int, fill: Tensor) -> dict[frozenset[int], float]:
    """Return the logit of one image for every subset of its segments."""
    players = numbers.unique().tolist()
    subsets = itertools.chain.from_iterable(itertools.combinations(players, size) for size in range(len(players) + 1))
    return {
        frozenset(subset): score_of(clf, pixels, torch.isin(numbers, torch.tensor(subset, dtype=int)), target, fill)
        for subset in subsets
    }


def shapley(values: dict[frozenset[int], float]) -> Tensor:
    """Return the Shapley values by their definition: the mean marginal gain over all orders."""
    players = sorted(max(values, key=len))
    found = torch.zeros(len(players), dtype=torch.float64)
    for player, subset in itertools.product(players, values):
        if player not in subset:
            size, count = len(subset), len(players)
            share = math.factorial(size) * math.factorial(count - size - 1) / math.factorial(count)
            found[player] += share * (values[subset | {player}] - values[subset])
    return found


@replicates("occlusion")
def _occlusion_of_a_linear_model() -> None:
    clf = bound(LinearNet())
    x = images()
    found = METHODS.get("occlusion").build(clf, window=2, stride=2).attribute(x, 1)
    blocks = F.avg_pool2d(shares(clf, x, 1)[:, None], 2)[:, 0] * 4
    close(found, blocks.repeat_interleave(2, 1).repeat_interleave(2, 2))
    whole = METHODS.get("occlusion").build(clf, window=8).attribute(x, 1)
    close(whole, shares(clf, x, 1).sum((1, 2), keepdim=True).expand(3, 8, 8))


@replicates("occlusion")
def _occlusion_by_a_loop_over_windows() -> None:
    clf = bound(DeepNet(), **NORMALISED)
    x = images(2)
    total, cover = torch.zeros(2, 8, 8, dtype=torch.float64), torch.zeros(8, 8, dtype=torch.float64)
    clean = clf.probabilities(x)[:, 0]
    starts = [0, 2, 4, 5]
    for top in starts:
        for left in starts:
            covered = x.clone()
            covered[:, :, top : top + 3, left : left + 3] = 0
            drop = clean - clf.probabilities(covered)[:, 0]
            total[:, top : top + 3, left : left + 3] += drop.detach()[:, None, None]
            cover[top : top + 3, left : left + 3] += 1
    options = {"window": 3, "stride": 2, "fill": "black", "score": "probability"}
    close(METHODS.get("occlusion").build(clf, **options).attribute(x, 0), total / cover)


@replicates("feature-ablation")
def _feature_ablation_of_a_linear_model() -> None:
    clf = bound(LinearNet())
    x = images()
    found = METHODS.get("feature-ablation").build(clf, segmentation=QUARTERS).attribute(x, 2)
    close(found, summed(shares(clf, x, 2), QUARTERS))


@replicates("feature-ablation")
def _feature_ablation_by_a_loop_over_segments() -> None:
    clf = bound(DeepNet(), **NORMALISED)
    x = images(2)
    expected = torch.zeros(2, 8, 8, dtype=torch.float64)
    for image, expects in zip(x, expected, strict=True):
        colours = torch.stack([image[:, number == QUARTERS].mean(1) for number in range(4)], 1)[:, QUARTERS]
        for number in range(4):
            drop = clf(image[None])[0, 1] - score_of(clf, image, number != QUARTERS, 1, colours)
            expects[number == QUARTERS] = drop.detach()
    options = {"segmentation": QUARTERS, "fill": "segment-mean"}
    close(METHODS.get("feature-ablation").build(clf, **options).attribute(x, 1), expected)


def smooth_masks(count: int, grid: int, keep: float, side: int, seed: int = 0) -> Tensor:
    """Return RISE's masks by enlarging each grid whole and cutting at its offset, (count, side, side)."""
    stream = generator(seed, "rise", f"{side}x{side}")
    cell = math.ceil(side / grid)
    tossed = (torch.rand(count, grid, grid, generator=stream) < keep).double()
    tops, lefts = (torch.randint(cell, (count,), generator=stream) for _ in range(2))
    whole = F.interpolate(tossed[:, None], scale_factor=(grid + 1) * cell / grid, mode="bilinear")[:, 0]
    rows = zip(whole, tops.tolist(), lefts.tolist(), strict=True)
    return torch.stack([one[top : top + side, left : left + side] for one, top, left in rows])


@replicates("rise")
def _rise_by_a_loop_over_masks() -> None:
    clf = bound(DeepNet(), **NORMALISED)
    x = images(2)
    masks = smooth_masks(50, 4, 0.3, 8, seed=5)
    mean = torch.tensor(NORMALISED["mean"])[:, None, None]
    kept = torch.stack([clf.probabilities(mask * x + (1 - mask) * mean)[:, 3].detach() for mask in masks])
    expected = torch.einsum("mn,mhw->nhw", kept, masks) / (50 * 0.3)
    found = METHODS.get("rise").build(clf, samples=50, grid=4, keep=0.3).attribute(x, 3, seed=5)
    assert torch.allclose(found.values, expected, atol=1e-7)


@replicates("rise")
def _rise_of_patches_by_a_loop_over_kronecker_products() -> None:
    clf, x = bound(DeepNet(), **NORMALISED), images(2)
    stream = generator(5, "rise", "8x8")
    grids = (torch.rand(40, 4, 4, generator=stream) < 0.3).double()
    expected = torch.zeros(2, 8, 8, dtype=torch.float64)
    for grid in grids:
        mask = torch.kron(grid, torch.ones(2, 2, dtype=torch.float64))
        probability = clf.to_probabilities(clf.logits(clf.normalize(x) * mask))[:, 3].detach()
        expected += probability[:, None, None] * mask / (40 * 0.3)
    found = METHODS.get("rise").build(clf, samples=40, grid=4, keep=0.3, masks="patches").attribute(x, 3, seed=5)
    close(found, expected, 1e-6)


@replicates("rise")
def _centred_rise_is_a_regression_on_the_mask_at_each_pixel() -> None:
    clf = bound(DeepNet())
    x = images(2)
    masks = smooth_masks(60, 3, 0.5, 8)
    kept = torch.stack([clf.probabilities(mask * x)[:, 0].detach() for mask in masks])
    expected = torch.zeros(2, 8, 8, dtype=torch.float64)
    for image, top, left in itertools.product(range(2), range(8), range(8)):
        expected[image, top, left] = np.polyfit(masks[:, top, left].numpy(), kept[:, image].numpy(), 1)[0]
    found = METHODS.get("rise").build(clf, samples=60, grid=3, variant="centred").attribute(x, 0)
    assert torch.allclose(found.values, expected, atol=1e-6)


@replicates("lime")
def _lime_by_the_normal_equations() -> None:
    clf = bound(DeepNet(), **NORMALISED)
    x = images(2)
    found = METHODS.get("lime").build(clf, samples=40, segmentation=QUARTERS, fill="white").attribute(x, 1, seed=3)
    for image, stream, values in zip(x, generators(3, image_hashes(x), "lime"), found.values, strict=True):
        kept = torch.rand(40, 4, generator=stream) < 0.5
        kept[0] = True
        pixels = torch.where(kept[:, None, QUARTERS], image, 1.0)
        wanted = clf.probabilities(pixels)[:, 1].detach()
        design = torch.cat([kept.double(), torch.ones(40, 1)], 1)
        cosine = F.cosine_similarity(kept.double(), torch.ones(40, 4, dtype=torch.float64))
        weights = torch.exp(-((1 - cosine) ** 2) / 0.25**2).sqrt()
        penalty = torch.diag(torch.tensor([1.0, 1, 1, 1, 0], dtype=torch.float64))
        fitted = torch.linalg.solve(design.T @ (weights[:, None] * design) + penalty, design.T @ (weights * wanted))
        assert torch.allclose(values, fitted[:4][QUARTERS], atol=1e-9)


@replicates("kernel-shap")
def _kernel_shap_by_the_definition_of_shapley_values() -> None:
    clf = bound(DeepNet(), **NORMALISED)
    x = images(2)
    found = METHODS.get("kernel-shap").build(clf, segments=9, segmentation="grid").attribute(x, 2)
    numbers = (torch.arange(8) * 3 // 8)[:, None] * 3 + torch.arange(8) * 3 // 8
    mean = torch.tensor(NORMALISED["mean"])[:, None, None]
    for image, values in zip(x, found.values, strict=True):
        expected = shapley(game(clf, image, numbers, 2, mean))
        assert torch.allclose(values, expected[numbers], atol=1e-6)


@replicates("kernel-shap")
def _kernel_shap_of_a_linear_model_by_samples() -> None:
    clf = bound(LinearNet())
    x = images()
    found = METHODS.get("kernel-shap").build(clf, segments=36, segmentation="grid", samples=120).attribute(x, 2)
    numbers = (torch.arange(8) * 6 // 8)[:, None] * 6 + torch.arange(8) * 6 // 8
    assert torch.allclose(found.values, summed(shares(clf, x, 2), numbers), atol=1e-9)


def owen(values: dict[frozenset[int], float], regions: list[list[int]], context: frozenset[int]) -> dict[int, float]:
    """Return each player's Owen value: a half is worth the mean of its gains without and with the other half."""
    if len(regions) == 1:
        (region,) = regions
        gain = values[context | set(region)] - values[context]
        if len(region) == 1:
            return {region[0]: gain}
        return owen(values, [region[: len(region) // 2], region[len(region) // 2 :]], context)
    found: dict[int, float] = {}
    for half, other in (regions, regions[::-1]):
        alone = owen(values, [half], context)
        joined = owen(values, [half], context | set(other))
        found |= {player: (alone[player] + joined[player]) / 2 for player in half}
    return found


@replicates("partition-shap")
def _partition_shap_by_the_recursion_over_halves() -> None:
    """Both ends, the two halves, and each of them in two contexts: twelve evaluations end at quarters of the image."""
    clf = bound(DeepNet())
    x = images(1)
    numbers = (torch.arange(8) // 4)[:, None] * 2 + torch.arange(8) // 4
    values = game(clf, x[0], numbers, 1, torch.zeros(3, 1, 1, dtype=x.dtype))
    expected = owen(values, [[0, 1, 2, 3]], frozenset())
    found = METHODS.get("partition-shap").build(clf, samples=12).attribute(x, 1)
    for player, value in expected.items():
        assert math.isclose(float(found.values[0][numbers == player].sum()), value, abs_tol=1e-9)


@replicates("partition-shap")
def _partition_shap_of_a_linear_model() -> None:
    clf = bound(LinearNet())
    x = images(1)
    found = METHODS.get("partition-shap").build(clf, samples=20_000).attribute(x, 2)
    close(found, shares(clf, x, 2))


@replicates("shapley-sampling")
def _shapley_sampling_nears_the_definition_and_adds_up() -> None:
    clf, x = bound(DeepNet(), **NORMALISED), images(1)
    found = METHODS.get("shapley-sampling").build(clf, segments=4, segmentation="grid", samples=600).attribute(x, 2)
    numbers = (torch.arange(8) * 2 // 8)[:, None] * 2 + torch.arange(8) * 2 // 8
    expected = shapley(game(clf, x[0], numbers, 2, torch.tensor(NORMALISED["mean"])[:, None, None]))
    assert torch.allclose(found.values[0], expected[numbers], atol=0.03 * float(expected.abs().max()))
    assert found.completeness is not None
    assert float(found.completeness.abs().max()) < 1e-12


@replicates("shapley-sampling")
def _shapley_sampling_of_a_linear_model_is_exact() -> None:
    clf, x = bound(LinearNet()), images()
    found = METHODS.get("shapley-sampling").build(clf, segments=36, segmentation="grid", samples=2).attribute(x, 2)
    numbers = (torch.arange(8) * 6 // 8)[:, None] * 6 + torch.arange(8) * 6 // 8
    close(found, summed(shares(clf, x, 2), numbers))
