"""Figures are well-formed, complete, and say the same of a method everywhere."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from tests.report.rows import rows
from xaikit.report.aggregate import aggregate
from xaikit.report.figures import PANELS, Frame, panel_svg, styles, swatch_svg

EVIL = '<img onerror="x">&'


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.key)
@pytest.mark.parametrize("mask", ["soft", "binary"])
def test_one_line_a_method_through_its_own_points(panel, mask):
    results = aggregate(rows(methods={EVIL: "gradient", "cam": "activation", "ones": "control"}))
    drawn = styles(results)
    svg = ET.fromstring(panel_svg(panel, results, mask, drawn))
    lines = {group.get("data-method"): group for group in svg.iter("g")}
    assert set(lines) == {EVIL, "cam", "ones"}
    assert next(iter(lines)) == "ones", "controls lie below the methods"
    for result in results:
        path = lines[result.method].find("path").get("d")
        assert path.count("L") == 10
        heights = [float(point.split()[1]) for point in path[1:].split("L")]
        values = result.curves[mask][panel.key]
        assert heights.index(max(heights)) == int(values.argmin())
        assert max(heights) <= 236
        assert min(heights) >= 0


def test_every_method_has_its_own_look():
    many = {f"method {place}": "gradient" for place in range(40)} | {
        f"control {place}": "control" for place in range(6)
    }
    results = aggregate(rows(images=1, methods=many))
    drawn = styles(results)
    assert len(set(drawn.values())) == len(drawn) == 46
    assert {style.colour for name, style in drawn.items() if name.startswith("control")} == {"control"}
    assert all(ET.fromstring(swatch_svg(style)) is not None for style in drawn.values())


def test_a_method_without_numbers_has_no_line():
    results = aggregate(rows(images=1, methods={"cam": "activation"}, error="no"))
    for panel in PANELS:
        svg = ET.fromstring(panel_svg(panel, results, "soft", styles(results)))
        assert not list(svg.iter("g"))


def test_both_masks_share_the_axis():
    results = aggregate(rows())
    drawn = styles(results)
    axes = [ET.fromstring(panel_svg(PANELS[0], results, mask, drawn)).iter("text") for mask in ("soft", "binary")]
    ticks = [[text.text for text in axis] for axis in axes]
    assert ticks[0] == ticks[1]


def test_the_frame_maps_its_corners():
    frame = Frame(top_value=2.0)
    assert (frame.x(0), frame.x(1)) == (frame.left, frame.width - frame.right)
    assert (frame.y(0), frame.y(2), frame.y(5)) == (frame.height - frame.bottom, frame.top, frame.top)
