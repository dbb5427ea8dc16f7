"""Numbers made from rows alone are those of the keep curve."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests.report.rows import aggregate, rows
from xaikit.foundation.errors import BadInput
from xaikit.measures.removal.keep_curve import KeepCurve, KeepProtocol
from xaikit.report.numbers.aggregate import CURVES, Exclusion, summaries
from xaikit.report.numbers.statistics import bootstrap_interval


def keep_curve_of(own: list[dict], mask: str) -> KeepCurve:
    o = torch.tensor([row[f"o_{mask}"] for row in own], dtype=torch.float64)
    count, levels = len(own), own[0]["levels"]
    return KeepCurve(
        thresholds=torch.arange(levels + 1, dtype=torch.float64) / levels,
        y=torch.tensor([row["y"] for row in own], dtype=torch.float64),
        o=o,
        floor=o[:, -1],
        kept=torch.ones_like(o),
        target=torch.ones(count, dtype=torch.int64),
        invalid=torch.zeros(count, dtype=torch.bool),
        tie_share=torch.zeros(count),
        protocol=KeepProtocol.build(levels=levels, mask=mask, fill="mean"),
    )


@pytest.mark.parametrize("mask", ["soft", "binary"])
@pytest.mark.parametrize("levels", [4, 10])
def test_every_curve_and_scalar_equals_the_keep_curve(mask, levels):
    drawn = rows(images=9, levels=levels)
    for result in aggregate(drawn):
        curve = keep_curve_of([row for row in drawn if row["method"] == result.method], mask)
        expected = {"api": curve.api(), "apd": curve.apd(), "ir": curve.ir(), "dr": curve.dr(), "ties": curve.ties()}
        for name, values in expected.items():
            np.testing.assert_allclose(result.curves[mask][name], values.numpy(), atol=1e-12, err_msg=name)
        assert result.scalars[f"keep_auc_{mask}"] == pytest.approx(float(curve.auc().mean()), abs=1e-12)
        np.testing.assert_allclose(result.thresholds, curve.thresholds.numpy())
        if mask == "soft":
            assert result.scalars["api_largest_share"] == pytest.approx(
                curve.scalars()["api_largest_share"], nan_ok=True
            )
            assert result.scalars["ir"] == pytest.approx(float(curve.ir()[0]))


def test_identities_hold():
    for result in aggregate(rows(images=12)):
        for curves in result.curves.values():
            np.testing.assert_allclose(curves["ir"] + curves["dr"] + curves["ties"], 1)
            assert (curves["apd"] <= curves["dr"] + 1e-12).all()


def test_invalid_and_failed_rows_are_counted_and_left_out():
    good = rows(images=4, methods={"grad-cam": "activation"})
    bad = rows(images=1, methods={"grad-cam": "activation"}, flags=["invalid"], o_soft=[None] * 11)
    failed = rows(images=1, methods={"grad-cam": "activation"}, error="out of memory", y=None)
    (result,) = aggregate(good + bad + failed)
    (expected,) = aggregate(good)
    assert (result.count, result.excluded, result.flags) == (4, 2, {"invalid": 1})
    assert result.scalars == pytest.approx(expected.scalars, nan_ok=True)


def test_a_method_that_always_failed_has_no_numbers_but_a_place():
    (result,) = aggregate(rows(images=2, methods={"rise": "perturbation"}, error="no"))
    assert (result.count, result.excluded) == (0, 2)
    assert math.isnan(result.scalars["keep_auc_soft"])
    assert np.isnan(result.curves["soft"]["api"]).all()


def test_order_of_images_does_not_matter_and_controls_come_last():
    drawn = rows(methods={"ones": "control", "saliency": "gradient"})
    forward, backward = aggregate(drawn), aggregate(drawn[::-1])
    assert [result.method for result in forward] == ["saliency", "ones"]
    assert [r.scalars for r in forward] == [pytest.approx(r.scalars, nan_ok=True) for r in backward]


def test_models_and_datasets_are_never_pooled():
    both = rows(images=2) + rows(images=2, model="other")
    assert list(summaries(both)) == [("drawn", "net"), ("drawn", "other")]


def test_bad_rows_are_refused():
    with pytest.raises(BadInput, match="got none; score"):
        summaries([])
    with pytest.raises(BadInput, match="o_soft"):
        summaries([{name: value for name, value in rows()[0].items() if name != "o_soft"}])
    with pytest.raises(BadInput, match="expected 11 values in o_soft, got 3"):
        aggregate(rows(images=1, o_soft=[1.0, 1.0, 1.0]))


def test_values_are_aligned_by_image_for_every_method():
    drawn = rows(images=6)
    kept = [row for row in drawn if not (row["method"] == "saliency" and row["image_id"] == "002.png")]
    results = aggregate(kept[::-1])
    for result in results:
        assert result.images == tuple(f"{place:03d}.png" for place in range(6))
        own = {row["image_id"]: row for row in kept if row["method"] == result.method}
        expected = [own[image]["map_mean"] if image in own else math.nan for image in result.images]
        np.testing.assert_array_equal(result.values["map_mean"], expected)
        assert math.isnan(result.values["api"][2]) == (result.method == "saliency")
        assert all(len(values) == 6 for values in result.values.values())


def test_every_mean_has_its_values_and_its_interval():
    drawn = [row | {"measure.srg": row["y"] if row["image_id"] > "001.png" else None} for row in rows(images=9)]
    for result in aggregate(drawn):
        assert set(result.values) == set(result.intervals)
        assert set(result.scalars) - {"api_largest_share"} | {"measure.srg"} == set(result.values)
        for key, values in result.values.items():
            assert result.mean(key) == pytest.approx(np.nanmean(values))
            assert result.interval(key) == pytest.approx([float(end) for end in bootstrap_interval(values)])
            assert result.interval(key)[0] <= result.mean(key) + 1e-12
            assert result.mean(key) <= result.interval(key)[1] + 1e-12
        assert math.isnan(result.mean("measure.unknown"))
        assert math.isnan(result.interval("unknown")[0])


def test_bands_hold_the_curves_and_agree_with_the_scalars():
    for result in aggregate(rows(images=8)):
        for mask, curves in result.curves.items():
            for name in CURVES:
                low, high = result.bands[mask][name]
                assert (low <= curves[name] + 1e-12).all()
                assert (curves[name] <= high + 1e-12).all()
            assert result.scalars[f"ir_mean_{mask}"] == pytest.approx(curves["ir"][:-1].mean())
        assert result.interval("api") == pytest.approx(tuple(result.bands["soft"]["api"][:, 0]))


def test_one_image_has_numbers_and_no_interval():
    (result,) = aggregate(rows(images=1, methods={"cam": "activation"}))
    assert not math.isnan(result.mean("keep_auc_soft"))
    assert np.isnan(list(result.intervals.values())).all()
    assert np.isnan(result.bands["soft"]["api"]).all()


def test_seeds_of_an_image_are_averaged_first():
    methods = {"rise": "perturbation"}
    once, again = rows(images=3, methods=methods), rows(images=1, methods=methods, map_mean=0.9)
    (result,) = aggregate(once + again)
    expected = [(once[0]["map_mean"] + 0.9) / 2, once[1]["map_mean"], once[2]["map_mean"]]
    assert result.count == 4
    np.testing.assert_allclose(result.values["map_mean"], expected)
    assert result.mean("map_mean") == pytest.approx(np.mean(expected))


def excluded(drawn):
    (summary,) = summaries(drawn).values()
    return summary.exclusions


def test_what_is_left_out_is_said_once_a_reason():
    methods = {"cam": "activation", "rise": "perturbation"}
    failed = rows(images=2, methods=methods, error="out of memory", flags=None)
    invalid = rows(images=1, methods={"cam": "activation"}, flags=["invalid", "constant"])
    good = rows(images=3, methods=methods, flags=["constant"])
    assert excluded(good + failed + invalid) == (
        Exclusion("cam", "out of memory", ("000.png", "001.png")),
        Exclusion("rise", "out of memory", ("000.png", "001.png")),
        Exclusion("cam", "the map is not finite", ("000.png",)),
    )
    assert excluded(good) == ()
