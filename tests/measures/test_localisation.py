"""Localisation by hand, over all orders of ties, against scikit-learn, and on images whose evidence is known."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from itertools import pairwise, permutations
from typing import Any

import pytest
import torch
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score
from torch import Tensor

from tests.networks import heatmaps, pictures, small
from xaikit.foundation.errors import BadInput
from xaikit.images.synthetic import Scene, draw
from xaikit.measures.base import Measure, Subject
from xaikit.measures.localisation.average_precision import AveragePrecision
from xaikit.measures.localisation.energy_inside import EnergyInside
from xaikit.measures.localisation.iou import IntersectionOverUnion
from xaikit.measures.localisation.pointing_game import PointingGame
from xaikit.measures.localisation.rank_accuracy import RankAccuracy
from xaikit.methods.base import METHODS
from xaikit.zoo.load import load

MEASURES: list[Measure] = [
    PointingGame(),
    EnergyInside(),
    RankAccuracy(),
    IntersectionOverUnion(),
    IntersectionOverUnion("area"),
    IntersectionOverUnion(0.5),
    AveragePrecision(),
]


def judged(measure: Measure, maps: Tensor, masks: Tensor) -> Tensor:
    count, size = len(maps), (maps.shape[1], maps.shape[2])
    return measure.compute(Subject(small(), pictures(count, size=size), maps, torch.zeros(count).long(), masks=masks))


def by_hand(measure: Measure, values: list[float], inside: list[int]) -> float:
    """One row of pixels as an image."""
    return float(judged(measure, torch.tensor([[values]]), torch.tensor([[inside]]).bool())[0])


@pytest.mark.parametrize(
    ("measure", "expected"),
    [
        (PointingGame(), 0.0),
        (EnergyInside(), 0.8 / 2.0),
        (RankAccuracy(), 1 / 2),
        (IntersectionOverUnion("area"), 1 / 3),
        (IntersectionOverUnion(0.5), 1 / 3),
        (IntersectionOverUnion(0.25), 2 / 4),
        (AveragePrecision(), (1 / 2 + (2 / 3 + 2 / 4) / 2) / 2),
    ],
    ids=str,
)
def test_by_hand(measure: Measure, expected: float) -> None:
    assert by_hand(measure, [0.9, 0.5, 0.3, 0.3, 0.0, -0.4], [0, 1, 0, 1, 0, 0]) == pytest.approx(expected)


def over_all_orders(values: list[float], inside: list[int]) -> dict[str, float]:
    """Return what each measure is on average when ties go in any order."""
    size, found = sum(inside), []
    for order in permutations(range(len(values))):
        if any(values[one] < values[other] for one, other in pairwise(order)):
            continue
        hits = [inside[place] for place in order]
        precisions = [sum(hits[: place + 1]) / (place + 1) for place in range(len(hits)) if hits[place]]
        found.append((hits[0], sum(hits[:size]) / size, sum(precisions) / size))
    means = torch.tensor(found, dtype=torch.float64).mean(0).tolist()
    return dict(zip(("pointing-game", "rank-accuracy", "average-precision"), means, strict=True))


@pytest.mark.parametrize("measure", [PointingGame(), RankAccuracy(), AveragePrecision()], ids=lambda one: one.name)
@pytest.mark.parametrize(
    ("values", "inside"),
    [
        ([1.0] * 6, [1, 1, 0, 0, 0, 0]),
        ([3.0, 3.0, 3.0, 2.0, 2.0, 1.0], [0, 1, 0, 1, 0, 1]),
        ([5.0, 2.0, 2.0, 2.0, 2.0, 1.0], [1, 0, 1, 1, 0, 0]),
        ([0.0, 0.0, 0.0, 0.0, 4.0, 4.0], [1, 1, 1, 1, 0, 1]),
        ([-1.0, -1.0, -2.0, -2.0, -2.0, -3.0], [0, 0, 0, 1, 0, 0]),
    ],
)
def test_ties_count_as_their_expected_value(measure: Measure, values: list[float], inside: list[int]) -> None:
    assert by_hand(measure, values, inside) == pytest.approx(over_all_orders(values, inside)[measure.name], abs=1e-12)


def test_average_precision_is_scikit_learns() -> None:
    maps = torch.rand(5, 20, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    masks = maps + torch.rand(5, 20, 30, generator=torch.Generator().manual_seed(1)) > 1.2
    expected = [average_precision_score(one.flatten(), other.flatten()) for one, other in zip(masks, maps, strict=True)]
    assert judged(AveragePrecision(), maps, masks).tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("measure", MEASURES, ids=str)
def test_an_empty_mask_has_no_value(measure: Measure) -> None:
    masks = heatmaps(4, seed=3) > 0.3
    masks[1] = False
    assert judged(measure, heatmaps(4), masks).isnan().tolist() == [False, True, False, False]


@pytest.mark.parametrize("measure", MEASURES, ids=str)
def test_the_mask_itself_is_perfect_and_its_opposite_is_not(measure: Measure) -> None:
    masks = heatmaps(4, seed=3) > 0.3
    assert judged(measure, masks.float(), masks).tolist() == [1.0] * 4
    wrong = judged(measure, (~masks).float(), masks)
    assert (wrong <= masks.flatten(1).double().mean(1)).all()


@pytest.mark.parametrize("measure", [PointingGame(), EnergyInside(), RankAccuracy()], ids=lambda one: one.name)
def test_a_constant_map_scores_the_area(measure: Measure) -> None:
    masks = heatmaps(4, seed=3) > 0.3
    area = masks.flatten(1).double().mean(1)
    torch.testing.assert_close(judged(measure, torch.full((4, 9, 7), 0.3), masks), area, rtol=0, atol=1e-12)
    assert judged(IntersectionOverUnion(), torch.full((4, 9, 7), 0.3), masks).tolist() == pytest.approx(area.tolist())


def test_only_positive_values_are_energy() -> None:
    assert by_hand(EnergyInside(), [-5.0, 2.0, -1.0, 2.0], [1, 1, 0, 0]) == 0.5
    for measure in (EnergyInside(), IntersectionOverUnion(0.5)):
        assert math.isnan(by_hand(measure, [-1.0, -2.0, 0.0], [1, 0, 0]))


def test_raw_values_are_read_where_there_is_an_attribution() -> None:
    """The heatmap lifts the lowest value to zero, and so would all that is negative become evidence."""
    classifier, pixels = small(), pictures(2)
    made = METHODS.get("integrated-gradients").build(classifier, steps=5).attribute(pixels, 0)
    masks = made.values > 0
    subject = Subject(classifier, pixels, made.heatmap(), made.target, masks=masks, attribution=made)
    assert EnergyInside().compute(subject).tolist() == [1.0, 1.0]
    assert (EnergyInside().compute(replace(subject, attribution=None)) < 1).all()


def test_a_tolerance_grows_the_evidence_by_a_disc() -> None:
    masks = torch.zeros(1, 224, 224, dtype=torch.bool)
    masks[0, 100, 100] = True
    for point, expected in (((100, 115), 1.0), ((109, 112), 1.0), ((110, 112), 0.0), ((100, 116), 0.0)):
        maps = torch.zeros(1, 224, 224)
        maps[0][point] = 1.0
        assert judged(PointingGame(tolerance=15), maps, masks).tolist() == [expected]
        assert judged(PointingGame(), maps, masks).tolist() == [0.0]


def test_rank_accuracy_and_overlap_by_area_are_one() -> None:
    maps, masks = heatmaps(6), heatmaps(6, seed=3) > 0.3
    covered = judged(RankAccuracy(), maps, masks)
    torch.testing.assert_close(judged(IntersectionOverUnion("area"), maps, masks), covered / (2 - covered))


@pytest.mark.parametrize(
    ("measure", "arguments"),
    [
        (PointingGame, {"tolerance": -1}),
        (IntersectionOverUnion, {"threshold": 0.0}),
        (IntersectionOverUnion, {"threshold": 1.5}),
        (IntersectionOverUnion, {"threshold": "median"}),
    ],
)
def test_parameters_that_do_not_fit_are_refused(measure: Any, arguments: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="expected"):
        measure(**arguments)


def test_masks_of_another_kind_are_refused() -> None:
    for masks in (torch.ones(2, 9, 7), torch.ones(2, 7, 9, dtype=torch.bool), torch.ones(1, 9, 7, dtype=torch.bool)):
        with pytest.raises(BadInput, match="masks: expected bool"):
            judged(EnergyInside(), heatmaps(2), masks)


@cache
def scene() -> Scene:
    return draw(24, 5)


def on_scene(measure: Measure, maps: Tensor) -> float:
    one = scene()
    subject = Subject(load("texture-cnn"), one.pixels, maps, one.labels, masks=one.objects)
    return float(measure.compute(subject).mean())


@pytest.mark.parametrize("measure", MEASURES, ids=str)
def test_on_drawn_images_the_object_is_found(measure: Measure) -> None:
    classifier, one = load("texture-cnn"), scene()
    grad_cam = METHODS.get("grad-cam")(classifier).attribute(one.pixels, one.labels)
    random = torch.rand(24, 64, 64, generator=torch.Generator().manual_seed(0))
    area = float(one.objects.double().mean())
    assert on_scene(measure, one.objects.float()) == 1.0
    assert on_scene(measure, grad_cam.heatmap()) > 2 * on_scene(measure, random)
    if not isinstance(measure, IntersectionOverUnion | PointingGame):
        assert on_scene(measure, random) == pytest.approx(area, abs=0.01)


@pytest.mark.parametrize("measure", [EnergyInside(), AveragePrecision()], ids=lambda one: one.name)
def test_a_corrupted_object_scores_worse_and_worse(measure: Measure) -> None:
    """Normal noise: uniform noise of less than half the weight leaves the object's pixels above all others."""
    noise = torch.randn(24, 64, 64, generator=torch.Generator().manual_seed(0))
    weights = [0.0, 0.25, 0.5, 0.75, 1.0]
    values = [on_scene(measure, (1 - weight) * scene().objects.float() + weight * noise) for weight in weights]
    assert spearmanr(weights, values).statistic <= -0.9
