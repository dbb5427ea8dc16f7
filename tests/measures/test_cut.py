"""Which pixels each level removes: counts, thresholds, ties."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from skimage.filters import threshold_otsu

from tests.networks import heatmaps, pictures, small, summing
from xaikit.foundation.errors import BadInput
from xaikit.images.pixel_order import removed
from xaikit.measures.removal.keep_curve import keep_curve
from xaikit.measures.removal.levels import SortedMaps, cut, otsu
from xaikit.measures.removal.protocol import KeepProtocol

RAMP = torch.tensor([0.0, 0.05, 0.1, 0.2, 0.2, 0.2, 0.4, 0.4, 0.5, 0.8]).reshape(1, 2, 5)


def test_counts_are_whole_numbers_for_every_size() -> None:
    for positions in [*range(1, 300), 32 * 32, 64 * 64, 224 * 224, 331 * 331]:
        counts = [removed(j, 10, positions) for j in range(11)]
        assert counts == [positions * j // 10 for j in range(11)]
        assert counts[0] == 0
        assert counts[10] == positions


@pytest.mark.parametrize(
    ("threshold", "counts"),
    [
        ("area", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        ("value", [0, 2, 3, 6, 6, 8, 9, 9, 9, 10, 10]),
        ("value-of-max", [0, 2, 3, 6, 6, 6, 8, 9, 9, 9, 9]),
    ],
)
def test_thresholds(threshold: Any, counts: list[int]) -> None:
    found = cut(SortedMaps.of(RAMP), KeepProtocol(threshold=threshold))
    assert found.counts[0].tolist() == counts
    curve = keep_curve(summing(), torch.rand(1, 1, 2, 5), RAMP, 1, threshold=threshold)
    assert curve.kept[0].tolist() == pytest.approx([1 - count / 10 for count in counts])


def test_a_value_threshold_keeps_what_reaches_it() -> None:
    maps = heatmaps(4)
    for threshold, top in (("value", 1.0), ("value-of-max", None)):
        found = cut(SortedMaps.of(maps), KeepProtocol(threshold=threshold))  # type: ignore[arg-type]
        for j in range(11):
            limit = torch.tensor(j / 10) * (maps.flatten(1).amax(1) if top is None else top)
            kept = (maps >= limit.reshape(-1, 1, 1)).flatten(1)
            assert torch.equal(kept, found.ranks[0] >= found.counts[:, j : j + 1])


def test_otsu_is_scikit_images() -> None:
    maps = torch.rand(5, 40, 40, generator=torch.Generator().manual_seed(0)) ** torch.tensor(
        [0.5, 1.0, 2.0, 3.0, 5.0]
    ).reshape(5, 1, 1)
    maps[:, 0, 0], maps[:, 0, 1] = 0.0, 1.0
    ours = otsu(maps.flatten(1))[:, 0]
    theirs = [threshold_otsu(one.double().numpy(), nbins=256) + 0.5 / 256 for one in maps]
    assert ours.tolist() == pytest.approx(theirs, abs=1e-6)


def test_otsu_is_one_level_of_its_own() -> None:
    curve = keep_curve(small(), pictures(3), heatmaps(3), threshold="otsu")
    assert tuple(curve.o.shape) == (3, 1)
    assert curve.thresholds.isnan().all()
    assert curve.auc().isnan().all()
    assert ((curve.kept > 0) & (curve.kept < 1)).all()
    assert curve.scalars()["api@t0"] == float(curve.api()[0])


def test_ties_go_in_row_major_order() -> None:
    wipe = SortedMaps.of(torch.ones(1, 2, 5))
    assert wipe.ranks[0, 0].tolist() == list(range(10))
    assert wipe.tie_share.tolist() == [1.0]
    assert SortedMaps.of(RAMP).tie_share.tolist() == [0.3]


def test_a_split_is_a_cut_inside_a_tie() -> None:
    assert cut(SortedMaps.of(RAMP), KeepProtocol(mask="binary")).split[0].nonzero()[:, 0].tolist() == [4, 5, 7]
    zeros = SortedMaps.of(torch.tensor([0.0, 0, 0, 0, 0, 0, 0.5, 0.5, 1, 1]).reshape(1, 2, 5))
    assert cut(zeros, KeepProtocol(mask="binary")).split[0].nonzero()[:, 0].tolist() == [
        1,
        2,
        3,
        4,
        5,
        7,
        9,
    ]
    assert cut(zeros, KeepProtocol(mask="soft")).split[0].nonzero()[:, 0].tolist() == [7, 9]


def test_random_ties_depend_on_seed_and_image_alone() -> None:
    classifier, pixels, maps = small(), pictures(4), torch.ones(4, 9, 7)

    def o(seed: int, rows: Any = slice(None)) -> torch.Tensor:
        return keep_curve(classifier, pixels[rows], maps[rows], 0, mask="binary", ties="random", seed=seed).o

    torch.testing.assert_close(o(0)[2:3], o(0, slice(2, 3)), rtol=0, atol=1e-6)
    assert not torch.allclose(o(0), o(1))
    assert not torch.allclose(o(0), keep_curve(classifier, pixels, maps, 0, mask="binary").o)


def test_average_ties_is_the_mean_of_its_orders_where_a_cut_splits_a_tie() -> None:
    weights = torch.arange(10, dtype=torch.float64).reshape(1, 1, 2, 5) / 10
    image = torch.ones(1, 1, 2, 5).double()
    curve = keep_curve(summing(weights), image, RAMP, 1, mask="binary", ties="average", tie_orders=200)
    stable = keep_curve(summing(weights), image, RAMP, 1, mask="binary")
    assert curve.forwards == 9 + 3 * 199
    unsplit = [0, 1, 2, 3, 6, 8, 9, 10]
    torch.testing.assert_close(curve.o[:, unsplit], stable.o[:, unsplit], rtol=0, atol=1e-12)
    # of the three pixels of value 0.2 (weights 0.3, 0.4, 0.5) one is gone at level 4, each as often as the others
    rest = [4.5 - 0.0 - 0.1 - 0.2 - gone for gone in (0.3, 0.4, 0.5)]
    expected = torch.tensor(rest, dtype=torch.float64).sigmoid().mean()
    assert float(curve.o[0, 4]) == pytest.approx(float(expected), abs=2e-4)
    assert float(stable.o[0, 4]) == pytest.approx(float(torch.tensor(rest[0]).sigmoid()), abs=1e-6)


@pytest.mark.parametrize(
    ("switches", "words"),
    [
        ({"mask": "hard"}, "soft or binary"),
        ({"threshold": "percentile"}, "area, value"),
        ({"ties": "stable"}, "index, random or average"),
        ({"score": "prob"}, "probability"),
        ({"fill": "zero"}, "mean, black"),
        ({"fill": torch.zeros(2, 3, 9, 7)}, "1 or 1 images"),
        ({"fill": torch.zeros(5)}, "broadcast"),
        ({"levels": 0}, "a whole number from 1, got"),
        ({"levels": 2.5}, "a whole number from 1, got"),
        ({"tie_orders": 0}, "a whole number from 1, got"),
        ({"tie_tolerance": -1.0}, "a number from 0, got"),
        ({"treshold": "area"}, "threshold"),
    ],
)
def test_switches_that_do_not_exist_are_refused(switches: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        keep_curve(small(), pictures(1), heatmaps(1), **switches)


def test_the_hash_names_the_protocol() -> None:
    colour = torch.full((3, 1, 1), 0.25)
    protocols = [
        KeepProtocol(),
        KeepProtocol(mask="binary"),
        KeepProtocol(levels=20),
        KeepProtocol(fill=colour),
        KeepProtocol(fill=colour + 0.5),
    ]
    assert len({protocol.hash for protocol in protocols}) == 5
    assert KeepProtocol(fill=colour).hash == KeepProtocol(fill=colour.clone()).hash
