"""Methods are compared on common images, and controls stay apart."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from tests.report.rows import aggregate, paired_differences, rows
from xaikit.report.numbers.columns import COLUMNS, Column
from xaikit.report.numbers.compare import compared, default_reference, leaders, pareto, rank_matrix

HIGHER = Column("measure.up", "up", "more", "higher", 3, "Up.")
LOWER = Column("measure.down", "down", "more", "lower", 3, "Down.")
NEITHER = Column("measure.up", "up", "more", "none", 3, "Up.", ranked=False)


def column(key: str) -> Column:
    (found,) = [one for one in COLUMNS if one.key == key]
    return found


def results_of(values: dict[str, list[float | None]], controls: tuple[str, ...] = (), **more: dict[str, float]):
    """Return results whose measures `up` and `down` have these values, one an image."""
    drawn = []
    for method, own in values.items():
        family = "control" if method in controls else "gradient"
        for row, value in zip(rows(images=len(own), methods={method: family}), own, strict=True):
            changed = {name: by_method[method] for name, by_method in more.items()}
            drawn.append(row | {"measure.up": value, "measure.down": value} | changed)
    return aggregate(drawn)


def leading(results, columns):
    return leaders(results, columns, compared(results, columns))


def test_differences_are_of_the_common_images():
    results = results_of({"a": [0.1, 0.2, 0.3, None], "b": [0.5, None, 0.2, 0.9], "c": [0.1, 0.2, 0.3, 0.4]})
    b, c = paired_differences(results, "a", HIGHER)
    assert (b.method, b.pairs, b.mean) == ("b", 2, pytest.approx((0.4 - 0.1) / 2))
    assert (b.better, b.worse) == (0.5, 0.5)
    assert b.low <= b.mean <= b.high
    assert (c.pairs, c.mean, c.p, c.better, c.worse) == (3, 0, 1, 0, 0)


def test_lower_is_better_where_the_column_says_so():
    results = results_of({"a": [0.5, 0.5], "b": [0.1, 0.2]})
    (up,), (down,) = (paired_differences(results, "a", one) for one in (HIGHER, LOWER))
    assert up.mean == down.mean < 0
    assert (up.better, up.worse) == (down.worse, down.better) == (0, 1)


def test_methods_and_controls_are_two_families():
    stream = np.random.default_rng(0)
    base = stream.random(30)
    near = {name: (base + stream.normal(0.02, 0.05, 30)).tolist() for name in "bcd"}
    alone = paired_differences(results_of({"a": base.tolist(), "b": near["b"]}), "a", HIGHER)
    crowd = paired_differences(
        results_of({"a": base.tolist(), **near, "ones": base.tolist()}, controls=("ones",)), "a", HIGHER
    )
    assert [one.method for one in crowd] == ["b", "c", "d", "ones"]
    assert [one.is_control for one in crowd] == [False, False, False, True]
    assert crowd[0].p >= alone[0].p
    assert crowd[3].p == 1
    with_controls = paired_differences(results_of({"a": base.tolist(), **near}), "a", HIGHER)
    assert [one.p for one in with_controls] == [one.p for one in crowd[:3]]


@pytest.mark.parametrize("measured", [HIGHER, LOWER, NEITHER])
def test_the_difference_from_each_is_the_opposite_of_its_difference(measured):
    stream = np.random.default_rng(3)
    values = {name: stream.random(30).tolist() for name in ("a", "b", "c", "ones", "center")}
    results = results_of(values, controls=("ones", "center"))
    for first, second in product(values, values):
        if first != second:
            one, other = (
                next(found for found in paired_differences(results, base, measured) if found.method == method)
                for base, method in ((first, second), (second, first))
            )
            change = np.array(values[second]) - np.array(values[first])
            assert one.mean == pytest.approx(change.mean(), abs=1e-12)
            assert (one.mean, one.low, one.high) == (-other.mean, -other.high, -other.low)
            if measured is NEITHER:
                assert math.isnan(one.better)
            else:
                assert (one.better, one.worse) == (other.worse, other.better)
                assert one.better == ((change > 0) if measured is HIGHER else (change < 0)).mean()
    assert paired_differences(results[:1], "a", measured) == []


def test_a_method_without_a_value_has_a_place_and_no_numbers():
    (b,) = paired_differences(results_of({"a": [0.1, 0.2], "b": [None, None]}), "a", HIGHER)
    assert b.pairs == 0
    assert all(math.isnan(value) for value in (b.mean, b.low, b.high, b.p, b.better, b.worse))


def test_one_image_has_a_difference_without_an_interval():
    (b,) = paired_differences(results_of({"a": [0.1], "b": [0.4]}), "a", HIGHER)
    assert (b.mean, b.p, b.pairs) == (pytest.approx(0.3), 1, 1)
    assert math.isnan(b.low)
    assert math.isnan(b.high)


def test_the_reference_is_grad_cam_or_the_first():
    results = results_of({"a": [0.1], "grad-cam": [0.2]})
    assert default_reference(results) == "grad-cam"
    assert default_reference(results[:1]) == "a"


def test_leaders_are_methods_and_p_is_against_them():
    stream = np.random.default_rng(1)
    base = stream.random(50)
    values = {"a": base - 0.3, "b": base, "c": base + stream.normal(-0.001, 0.05, 50), "ones": base + 1}
    results = results_of({name: own.tolist() for name, own in values.items()}, controls=("ones",))
    led = leading(results, [HIGHER, LOWER, column("ms")])
    assert set(led) == {"measure.up", "measure.down"}
    up = led["measure.up"]
    others = {"a", "b", "c"} - {up.best}
    assert up.best in "bc"
    assert set(up.p) == others
    assert up.p["a"] < 0.001
    assert up.p[(others - {"a"}).pop()] > 0.05
    assert led["measure.down"].best == "a"
    assert set(up.pairs.values()) == {50}


def test_leaders_without_methods_or_values():
    assert leading(results_of({"ones": [0.1, 0.2]}, controls=("ones",)), [HIGHER]) == {}
    assert leading(results_of({"a": [None, None]}), [HIGHER]) == {}
    led = leading(results_of({"a": [0.1, None], "b": [None, 0.2]}), [HIGHER])["measure.up"]
    assert (led.best, led.pairs) == ("b", {"a": 0})
    assert math.isnan(led.p["a"])


def test_ranks_turn_with_the_direction_and_share_ties():
    results = results_of({"a": [0.5], "b": [0.5], "c": [0.9], "d": [None], "ones": [2.0]}, controls=("ones",))
    matrix = rank_matrix(results, [HIGHER, LOWER, column("map_mean")])
    assert [one.key for one in matrix.columns] == ["measure.up", "measure.down"]
    assert matrix.methods == ("a", "b", "c", "d")
    np.testing.assert_array_equal(matrix.ranks, [[2.5, 1.5], [2.5, 1.5], [1, 3], [math.nan, math.nan]])
    np.testing.assert_allclose(matrix.tau, [[1, -1], [-1, 1]])


def test_ranks_of_one_method_tell_nothing():
    matrix = rank_matrix(results_of({"a": [0.5, 0.6]}), [HIGHER, LOWER])
    np.testing.assert_array_equal(matrix.ranks, [[1, 1]])
    assert np.isnan(matrix.tau).all()
    assert rank_matrix(results_of({"a": [0.5]}), []).tau.shape == (0, 0)


@pytest.mark.parametrize("measured", [HIGHER, LOWER])
def test_the_front_is_that_of_brute_force(measured):
    stream = np.random.default_rng(2)
    names = [f"m{place}" for place in range(12)]
    quality = {name: round(float(stream.random()), 1) for name in names}
    ms = {name: round(float(stream.random()), 1) for name in names}
    points = pareto(results_of({name: [quality[name]] for name in names}, ms=ms), measured)
    sign = 1 if measured.direction == "higher" else -1

    def dominated(name: str) -> bool:
        return any(
            sign * quality[other] >= sign * quality[name]
            and ms[other] <= ms[name]
            and (quality[other], ms[other]) != (quality[name], ms[name])
            for other in names
        )

    assert [point.method for point in points if point.front] == [name for name in names if not dominated(name)]
    assert any(point.front for point in points)
    for one, other in product(points, repeat=2):
        if (one.quality, one.cost) == (other.quality, other.cost):
            assert one.front == other.front


def test_controls_and_the_unknown_are_not_on_the_front():
    results = results_of(
        {"a": [0.5, 0.6], "b": [None, None], "ones": [1.0, 1.0]},
        controls=("ones",),
        forwards={"a": 1.0, "b": 1.0, "ones": 0.0},
        backwards={"a": 2.0, "b": 1.0, "ones": 0.0},
    )
    a, ones = pareto(results, HIGHER, "passes")
    assert (a.method, a.cost, a.front) == ("a", 3.0, True)
    assert a.low <= a.quality <= a.high
    assert (ones.method, ones.is_control, ones.front) == ("ones", True, False)
