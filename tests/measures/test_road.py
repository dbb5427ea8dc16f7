"""ROAD: the imputation against exact solutions, the measure against its definition and pytorch-grad-cam's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.networks import heatmaps, pictures, small, summing
from xaikit.foundation.errors import BadInput
from xaikit.images.pixel_order import ranks
from xaikit.measures.base import Measure, Subject
from xaikit.measures.removal import imputation, masked_forwards
from xaikit.measures.removal.imputation import NOISE, impute
from xaikit.measures.removal.protocol import KeepProtocol
from xaikit.measures.removal.road import ROAD, ROADLeastRelevant, ROADMostRelevant
from xaikit.measures.removal.shared_curves import curve
from xaikit.run.context import Context

KINDS = [ROAD, ROADLeastRelevant, ROADMostRelevant]


def blobs(count: int, size: tuple[int, int], seed: int = 0) -> Tensor:
    """Smooth maps in (0, 1)."""
    coarse = torch.rand(count, 1, 6, 6, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, size, mode="bilinear", align_corners=False)[:, 0]


def subject(maps: Tensor | None = None, context: Context | None = None) -> Subject:
    maps = blobs(4, (9, 7)) if maps is None else maps
    target = torch.tensor([0, 1, 2, 0])[: len(maps)]
    return Subject(small().eval(), pictures(len(maps)), maps, target, context=context or Context())


def near(values: Tensor, expected: Tensor, tolerance: float = 1e-6) -> None:
    torch.testing.assert_close(values.double(), expected.double(), rtol=0, atol=tolerance)


# ---- the imputation -------------------------------------------------------------------------------------------------


def dense(image: Tensor, known: Tensor) -> Tensor:
    """Solve one image (C, H, W) with a matrix, from the definition: each removed pixel against its neighbours."""
    height, width = known.shape
    missing = [(int(y), int(x)) for y, x in (~known).nonzero()]
    number = {place: row for row, place in enumerate(missing)}
    matrix, right = np.zeros((len(missing), len(missing))), np.zeros((len(missing), len(image)))
    for (y, x), row in number.items():
        for down in (-1, 0, 1):
            for across in (-1, 0, 1):
                other = (y + down, x + across)
                if other == (y, x) or not (0 <= other[0] < height and 0 <= other[1] < width):
                    continue
                weight = 1 / 12 if down and across else 1 / 6
                matrix[row, row] += weight
                if other in number:
                    matrix[row, number[other]] -= weight
                else:
                    right[row] += weight * image[:, other[0], other[1]].numpy()
    filled = image.double().clone()
    for (y, x), values in zip(missing, np.linalg.solve(matrix, right), strict=True):
        filled[:, y, x] = torch.from_numpy(values)
    return filled


def test_the_solution_is_that_of_a_dense_solve() -> None:
    """Half and nine tenths of 32 x 32 removed in blobs, nine tenths scattered."""
    maps = blobs(3, (32, 32))
    maps[2] = torch.rand(32, 32, generator=torch.Generator().manual_seed(1))
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    shares = torch.tensor([0.5, 0.9, 0.9])
    limits = torch.stack([one.quantile(share) for one, share in zip(maps, shares, strict=True)])
    known = maps >= limits[:, None, None]
    found = impute(images, known)
    for i in range(3):
        near(found[i], dense(images[i], known[i]), 1e-3)


@pytest.mark.parametrize("size", [(1, 5), (6, 1), (2, 2), (5, 8)])
def test_thin_and_small_images(size: tuple[int, int]) -> None:
    images = torch.randn(2, 1, *size, generator=torch.Generator().manual_seed(0))
    known = torch.zeros(2, *size, dtype=torch.bool)
    known[0, 0, 0], known[1, -1, -1], known[1, 0, -1] = True, True, True
    found = impute(images, known)
    for i in range(2):
        near(found[i], dense(images[i], known[i]), 1e-4)


def test_a_plane_is_continued_into_a_hole() -> None:
    """A pixel of a plane is the mean of its eight neighbours, so that the exact answer is the plane."""
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, 24), torch.linspace(-1, 1, 24), indexing="ij")
    plane = (0.7 * rows - 0.4 * columns + 0.2)[None, None]
    known = torch.ones(1, 24, 24, dtype=torch.bool)
    known[:, 3:-2, 2:-4] = False
    near(impute(plane, known), plane, 1e-3)


def test_what_is_known_stays_to_the_bit_and_nothing_removed_is_nothing_done() -> None:
    images = torch.randn(2, 3, 9, 7, generator=torch.Generator().manual_seed(0))
    known = blobs(2, (9, 7)) > 0.5
    found = impute(images, known)
    stays = known[:, None].expand_as(images)
    assert torch.equal(found[stays], images[stays])
    assert torch.equal(impute(images, torch.ones_like(known)), images)


def test_systems_do_not_depend_on_their_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.randn(6, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    known = blobs(6, (20, 20)) > torch.linspace(0.2, 0.8, 6)[:, None, None]
    known[:, 0, 0] = True
    whole = impute(images, known)
    for i in range(6):
        assert torch.equal(impute(images[i : i + 1], known[i : i + 1])[0], whole[i])
    monkeypatch.setattr(imputation, "_SLAB", 1)
    assert torch.equal(impute(images, known), whole)


# ---- the measure ----------------------------------------------------------------------------------------------------


def test_equals_its_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    """Image by image and level by level, with the exact solution and the noise off."""
    monkeypatch.setattr(masked_forwards, "NOISE", 0.0)
    one = subject(heatmaps(4))
    found = {order: curve(one, KeepProtocol(5, "binary", "imputed", order=order)).o for order in ("lowest", "highest")}
    inputs = one.classifier.normalize(one.pixels)
    for order, sign in (("lowest", 1), ("highest", -1)):
        for i in range(4):
            values = one.maps[i].flatten().tolist()
            places = sorted(range(63), key=lambda place, values=values, sign=sign: sign * values[place])  # type: ignore[misc]
            for j in range(1, 5):
                known = torch.ones(63, dtype=torch.bool)
                known[places[: 63 * j // 5]] = False
                known = known.reshape(9, 7)
                filled = dense(inputs[i], known).float()
                with torch.no_grad():
                    expected = one.classifier.logits(filled[None]).softmax(1)[0, one.target[i]]
                assert float(found[order][i, j]) == pytest.approx(float(expected), abs=1e-4)
    least, most = found["lowest"][:, 1:5].mean(1), found["highest"][:, 1:5].mean(1)
    near(ROADLeastRelevant().compute(one), least, 1e-12)
    near(ROADMostRelevant().compute(one), most, 1e-12)
    near(ROAD().compute(one), (least - most) / 2, 1e-12)


def test_noise_is_the_images_own_and_no_maps() -> None:
    """A flat image is imputed as it is, and only noise remains: small, the same for any map, another by seed."""
    pixels = torch.full((2, 3, 9, 7), 0.3)
    pixels[1] = 0.6
    weights = torch.randn(1, 3, 9, 7, generator=torch.Generator().manual_seed(0))
    classifier = summing(weights, channels=3)
    target = torch.ones(2, dtype=torch.int64)

    def all_but_one(seed: int, maps: Tensor) -> Tensor:
        one = Subject(classifier, pixels, maps, target, context=Context(seed=seed))
        return curve(one, KeepProtocol(63, "binary", "imputed", score="logit")).o[:, 62] - flat

    flat = (pixels.double() * weights).sum((1, 2, 3))
    ramp = torch.linspace(0, 1, 63).reshape(1, 9, 7).expand(2, -1, -1)
    one, again, other = all_but_one(0, ramp), all_but_one(0, ramp), all_but_one(1, ramp)
    assert torch.equal(one, again)
    assert (one - other).abs().min() > 1e-4
    assert (one[0] - one[1]).abs() > 1e-4
    assert (one.abs() < 5 * NOISE * weights.norm() + 1e-3).all()
    near(all_but_one(0, ramp**2), one, 1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_order_and_neighbours_change_nothing(kind: type[Measure]) -> None:
    whole = kind().compute(subject(context=Context(chunk_size=64)))
    near(kind().compute(subject(context=Context(chunk_size=3))), whole)
    one, order = subject(), torch.tensor([2, 0, 3, 1])
    for rows in (order, order[:1], order[1:3]):
        part = Subject(one.classifier, one.pixels[rows], one.maps[rows], one.target[rows])
        near(kind().compute(part), whole[rows])


def test_what_the_three_share() -> None:
    one = subject()
    ROAD().compute(one)
    spent = one.context.counters.forwards
    assert spent == 4 * ROAD().cost().forwards + 4 + 1
    ROADMostRelevant().compute(one)
    ROADLeastRelevant().compute(one)
    assert one.context.counters.forwards == spent
    ROAD(10).compute(one)  # each tenth; every other is there
    assert one.context.counters.forwards == spent + 4 * 2 * 5


def test_constant_maps_and_maps_that_are_not_finite() -> None:
    maps = blobs(4, (9, 7))
    maps[0], maps[2, 1, 1] = 0.5, torch.nan
    values = ROAD().compute(subject(maps))
    assert float(values[0]) == 0
    assert values.isnan().tolist() == [False, False, True, False]


def test_levels_that_leave_nothing_to_impute_are_refused() -> None:
    for kind in KINDS:
        with pytest.raises(BadInput, match="levels: expected a whole number from 2, got 1"):
            kind(levels=1)
        with pytest.raises(BadInput, match="levels: expected a whole number from 2, got 0"):
            kind(levels=0)


# ---- pytorch-grad-cam -----------------------------------------------------------------------------------------------


@pytest.mark.backends
@pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning")
def test_pytorch_grad_cam_imputes_the_same() -> None:
    road = pytest.importorskip("pytorch_grad_cam.metrics.road", reason="the extra `backends` is missing")
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    known = blobs(3, (32, 32)) > 0.5
    found = impute(images, known)
    for i in range(3):
        near(found[i], road.NoisyLinearImputer(noise=0)(images[i], known[i].float()), 1e-3)


@pytest.mark.backends
@pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning")
def test_pytorch_grad_cam_measures_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the noise off, and maps of equal steps, whose percentiles remove as many pixels as our shares."""
    road = pytest.importorskip("pytorch_grad_cam.metrics.road", reason="the extra `backends` is missing")
    monkeypatch.setattr(masked_forwards, "NOISE", 0.0)
    classifier = small().eval()
    maps = (ranks(blobs(3, (20, 20))) / 400).reshape(3, 20, 20)
    pixels, target = pictures(3, size=(20, 20)), torch.tensor([0, 1, 2])
    inputs = classifier.normalize(pixels)

    def theirs(remove: Any) -> Tensor:
        scores = []
        for percentile in (20, 40, 60, 80):
            metric = road.PerturbationConfidenceMetric(remove(percentile, road.NoisyLinearImputer(noise=0)))
            picks = [lambda logits, index=index: logits.softmax(-1)[index] for index in target.tolist()]
            scores.append(metric(inputs, maps.numpy(), picks, classifier.network, return_diff=False))
        return torch.from_numpy(np.stack(scores)).double().mean(0)

    one = Subject(classifier, pixels, maps, target)
    most, least = theirs(road.RemoveMostRelevantFirst), theirs(road.RemoveLeastRelevantFirst)
    assert (least - most).abs().min() > 0.01
    near(ROADMostRelevant().compute(one), most, 1e-3)
    near(ROADLeastRelevant().compute(one), least, 1e-3)
    near(ROAD().compute(one), (least - most) / 2, 1e-3)
