"""Figures are well-formed, complete, and say the same of a method everywhere."""

from __future__ import annotations

import random
from dataclasses import replace
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from tests.report.rows import aggregate, paired_differences, rows
from xaikit.report.figures.agreement import agreement_svg
from xaikit.report.figures.confidence import PANELS, confidence_svg, panel_svg
from xaikit.report.figures.differences import differences_svg
from xaikit.report.figures.svg import Axis, round_ticks, standalone, styles, swatch_svg
from xaikit.report.figures.tradeoff import tradeoff_svg
from xaikit.report.numbers.columns import shown_columns
from xaikit.report.numbers.compare import Point, RankMatrix, pareto

EVIL = '<img onerror="x">&'
METHODS = {EVIL: "gradient", "cam": "activation", "rise": "perturbation", "ones": "control"}
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def results():
    stream = random.Random(3)
    return aggregate([row | {"ms": stream.uniform(1, 100)} for row in rows(12, methods=METHODS)])


def column(results, key):
    return next(one for one in shown_columns(results) if one.key == key)


def parts(svg, kind):
    return [one for one in ET.fromstring(svg).iter() if kind in (one.get("class") or "").split()]


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.key)
@pytest.mark.parametrize("mask", ["soft", "binary"])
def test_one_line_a_method_through_its_own_points(results, panel, mask):
    svg = panel_svg(panel, results, mask, styles(results))
    lines = {group.get("data-method"): group for group in parts(svg, "line")}
    assert set(lines) == set(METHODS)
    assert next(iter(lines)) == "ones", "controls lie below the methods"
    for result in results:
        band, curve = (path.get("d") for path in lines[result.method].findall(f"{SVG}path")[:2])
        assert curve.count("L") == 10
        assert band.count("L") == 21
        heights = [float(point.split()[1]) for point in curve[1:].split("L")]
        values = result.curves[mask][panel.key]
        assert heights.index(max(heights)) == int(values.argmin())
        assert max(heights) <= 236
        assert min(heights) >= 0


def test_every_method_has_its_own_look():
    many = {f"method {place}": "gradient" for place in range(40)} | {
        f"control {place}": "control" for place in range(6)
    }
    drawn = styles(aggregate(rows(images=1, methods=many)))
    assert len(set(drawn.values())) == len(drawn) == 46
    assert {style.colour for name, style in drawn.items() if name.startswith("control")} == {"control"}
    assert all(ET.fromstring(swatch_svg(style)) is not None for style in drawn.values())


def test_a_method_without_numbers_has_no_line():
    results = aggregate(rows(images=1, methods={"cam": "activation"}, error="no"))
    for panel in PANELS:
        assert not parts(panel_svg(panel, results, "soft", styles(results)), "line")


def test_one_image_has_lines_without_bands():
    results = aggregate(rows(images=1))
    svg = panel_svg(PANELS[0], results, "soft", styles(results))
    assert len(parts(svg, "line")) == len(results)
    assert not parts(svg, "band")


def test_both_masks_share_the_axis(results):
    drawn = styles(results)
    ticks = [
        [one.text for one in parts(panel_svg(PANELS[0], results, mask, drawn), "tick")] for mask in ("soft", "binary")
    ]
    assert ticks[0] == ticks[1]


def test_the_confidence_of_one_image_stands_beside_y():
    results = aggregate(rows(1))
    svg = confidence_svg(EVIL, "soft", 0.8, {"grad-cam": [0.9, 0.5, 0.1]}, styles(results))
    (whole,) = parts(svg, "zero")
    points = parts(svg, "curve")[0].get("d")[1:].split("L")
    heights = [float(point.split()[1]) for point in points]
    assert heights[0] < float(whole.get("y1")) < heights[1] < heights[2]


def test_an_axis_maps_its_ends_and_stays_inside():
    axis = Axis(0, 2, 10, 110)
    assert [axis(value) for value in (0, 1, 2, 5, -5)] == [10, 60, 110, 110, 10]
    log = Axis(0.1, 1000, 0, 4, log=True)
    assert [round(log(value), 9) for value in (0, 0.1, 1, 10, 1000)] == [0, 0, 1, 2, 4]
    assert log.ticks() == [0.1, 1, 10, 100, 1000]
    assert Axis(3, 30, 0, 1, log=True).ticks() == [5, 10, 20]


@pytest.mark.parametrize("ends", [(0, 1), (-0.3, 0.07), (0, 1e-5), (123, 987), (0.94, 0.95)])
def test_ticks_are_round_and_inside(ends):
    ticks = round_ticks(*ends)
    assert 3 <= len(ticks) <= 9
    assert ends[0] <= min(ticks)
    assert max(ticks) <= ends[1]
    assert np.allclose(np.diff(ticks), ticks[1] - ticks[0])


def test_the_tradeoff_has_every_method_and_the_front(results):
    quality = column(results, "keep_auc_binary")
    points = pareto(results, quality, "ms")
    svg = tradeoff_svg(points, quality, "milliseconds", styles(results))
    assert {one.get("data-method") for one in parts(svg, "point")} <= set(METHODS)
    assert {"cam", "rise", EVIL} <= {one.get("data-method") for one in parts(svg, "point")}
    (front,) = parts(svg, "front")
    assert front.get("d").count("V") == sum(point.front for point in points) - 1


def test_the_better_end_is_up_in_every_tradeoff(results):
    drawn = styles(results)
    points = [Point("cam", False, 0.2, 0.1, 0.3, 1.0, True), Point("rise", False, 0.6, 0.5, 0.7, 9.0, False)]
    for key, best in (("keep_auc_binary", "rise"), ("apd", "cam")):
        svg = tradeoff_svg(points, column(results, key), "milliseconds", drawn)
        centres = {}
        for group in parts(svg, "point"):
            for line in group.findall(f"{SVG}line"):
                if line.get("class") == "range":
                    centres[group.get("data-method")] = float(line.get("y1")) + float(line.get("y2"))
        assert min(centres, key=centres.get) == best


def test_names_that_would_lie_on_others_are_left_out(results):
    points = [Point("cam", False, 0.5, 0.4, 0.6, 1.0, True)] * 60
    svg = tradeoff_svg(points, column(results, "keep_auc_binary"), "milliseconds", styles(results))
    names = parts(svg, "name")
    assert 5 < len(names) < 60
    places = [(float(one.get("x")), float(one.get("y"))) for one in names]
    assert len(set(places)) == len(places)


def test_a_control_far_from_the_methods_is_named_and_not_drawn(results):
    points = [
        Point("cam", False, 0.90, 0.89, 0.91, 1.0, True),
        Point("rise", False, 0.92, 0.91, 0.93, 9.0, True),
        Point("ones", True, 0.1, 0.05, 0.15, 0.5, False),
    ]
    svg = tradeoff_svg(points, column(results, "keep_auc_binary"), "milliseconds", styles(results))
    assert "outside the figure: ones" in svg
    assert "ones" not in {one.get("data-method") for one in parts(svg, "point")}


@pytest.mark.parametrize("key", ["keep_auc_binary", "apd"])
def test_differences_lie_to_the_right_where_they_are_better(results, key):
    quality = column(results, key)
    found = {one.method: one for one in paired_differences(results, "cam", quality)}
    svg = differences_svg(list(METHODS), found, "cam", quality, styles(results))
    (zero,) = parts(svg, "zero")
    rows_of = {one.get("data-method"): one for one in parts(svg, "row")}
    assert set(rows_of) == set(METHODS)
    for method, row in rows_of.items():
        mark = next(one for one in row.iter() if (one.get("class") or "").startswith("mark"))
        if method == "cam":
            assert mark.get("visibility") == "hidden"
            continue
        centre = next(one for one in row.iter() if one.get("class") == "centre").get("transform")
        right = float(centre.split("(")[1].split()[0]) > float(zero.get("x1"))
        assert right == ((found[method].mean > 0) == (quality.direction == "higher"))


def test_agreement_is_a_triangle_of_numbers(results):
    columns = shown_columns(results)[:3]
    tau = np.array([[1.0, -0.8, np.nan], [-0.8, 1.0, 0.25], [np.nan, 0.25, 1.0]])
    svg = agreement_svg(RankMatrix(columns, ("cam",), np.ones((1, 3)), tau))
    assert [one.text for one in parts(svg, "number")] == ["1", "-.80", "1", "\N{EN DASH}", ".25", "1"]
    assert len(parts(svg, "against")) == 1


def test_a_file_of_its_own_needs_no_page(results):
    svg = panel_svg(PANELS[0], [replace(one) for one in results], "soft", styles(results))
    alone = standalone(svg)
    root = ET.fromstring(alone.encode())
    assert root.find(f"{SVG}style").text.count("{color:#") == 9
    assert "var(" not in alone
