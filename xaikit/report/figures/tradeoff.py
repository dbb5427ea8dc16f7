"""Quality against cost: one point a method with its interval, and the Pareto front through those that nothing beats.

    x: what one image costs, logarithmic        y: a measure, its better end up

The axis spans the methods. Controls are grey; what some method beats in both is faint. Each point has its name beside
it, where there is room.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from xaikit.report.figures.svg import Axis, Style, drawing, element, markers, shortened, text, text_width
from xaikit.report.numbers.columns import Column
from xaikit.report.numbers.compare import Point

_WIDTH, _HEIGHT = 720.0, 480.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, 20.0, 26.0, 40.0
_NAME, _LETTERS = 11.5, 26
_RADIUS = 4.5
_NEAR = 10.0


@dataclass(frozen=True)
class _Box:
    """A part of the drawing that is taken."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: _Box) -> bool:
        beside = self.right <= other.left or other.right <= self.left
        return not (beside or self.bottom <= other.top or other.bottom <= self.top)


def tradeoff_svg(points: Sequence[Point], quality: Column, cost: str, drawn: Mapping[str, Style]) -> str:
    """Return the figure for one measure.

    Args:
        points: of methods and controls.
        quality: the measure.
        cost: title of the horizontal axis.
        drawn: each method's style.
    """
    known = [point for point in points if point.cost > 0]
    across, up = _axes([point for point in known if not point.is_control] or known, quality)
    shown = [point for point in known if up.low <= point.quality <= up.high]
    outside = [point.method for point in known if point not in shown]
    label = f"{quality.title} ({quality.group}) against {cost}; {quality.direction} is better"
    places = [(across(point.cost), up(point.quality)) for point in shown]
    parts = [_grid(across, up, quality, cost), _front(shown, across, up)]
    parts += [_point(point, place, up, drawn[point.method]) for point, place in zip(shown, places, strict=True)]
    parts += _names(shown, places)
    if outside:
        parts.append(text(f"outside the figure: {', '.join(outside)}", _LEFT, _HEIGHT - _BOTTOM - 6))
    return drawing("tradeoff", (_WIDTH, _HEIGHT), label, parts)


def _axes(points: Sequence[Point], quality: Column) -> tuple[Axis, Axis]:
    costs = [point.cost for point in points] or [1.0]
    ends = [end for point in points for end in (point.quality, point.low, point.high) if math.isfinite(end)] or [0.0]
    margin = 0.06 * (max(ends) - min(ends)) or 0.5
    low, high = min(ends) - margin, max(ends) + margin
    bottom, top = (_HEIGHT - _BOTTOM, _TOP) if quality.direction == "higher" else (_TOP, _HEIGHT - _BOTTOM)
    return Axis(min(costs) / 1.8, max(costs) * 2.2, _LEFT, _WIDTH - _RIGHT, log=True), Axis(low, high, bottom, top)


def _grid(across: Axis, up: Axis, quality: Column, cost: str) -> str:
    bottom = _HEIGHT - _BOTTOM
    parts = []
    for tick in up.ticks():
        parts.append(element("line", class_="grid", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=up(tick), y2=up(tick)))
        parts.append(text(f"{tick:.4g}", _LEFT - 7, up(tick) + 3.5, anchor="end"))
    for tick in across.ticks():
        parts.append(element("line", class_="axis", x1=across(tick), x2=across(tick), y1=bottom, y2=bottom + 4))
        parts.append(text(f"{tick:,g}", across(tick), bottom + 16, anchor="middle"))
    parts.append(element("line", class_="axis", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=bottom, y2=bottom))
    parts.append(text(cost, (_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 6, "axis-title", "middle"))
    turned = "" if quality.direction == "higher" else " (axis turned over)"
    parts.append(text(f"{quality.title}, {quality.group}; up is better{turned}", 4, 12, "axis-title"))
    return "".join(parts)


def _front(points: Sequence[Point], across: Axis, up: Axis) -> str:
    """Return the steps along which nothing is better and cheaper."""
    front = sorted((across(point.cost), up(point.quality)) for point in points if point.front)
    if not front:
        return ""
    steps = [f"M{front[0][0]:.1f} {front[0][1]:.1f}", *(f"H{x:.1f}V{y:.1f}" for x, y in front[1:])]
    return element("path", class_="front", d="".join([*steps, f"H{_WIDTH - _RIGHT:g}"]))


def _point(point: Point, place: tuple[float, float], up: Axis, style: Style) -> str:
    reading = f"{point.method}: {point.quality:.3f} [{point.low:.3f}, {point.high:.3f}] at {point.cost:,.3g}"
    parts = [element("title", escape(reading))]
    if math.isfinite(point.low) and math.isfinite(point.high):
        ends = up(point.low), up(point.high)
        parts.append(element("line", class_="range", x1=place[0], x2=place[0], y1=ends[0], y2=ends[1]))
    parts.append(markers(style.marker, [place], 3.2 if point.is_control else _RADIUS))
    faint = "" if point.front or point.is_control else " dominated"
    return element("g", *parts, class_=f"point {style.colour}{faint}", data_method=point.method)


def _names(points: Sequence[Point], places: Sequence[tuple[float, float]]) -> list[str]:
    """Return each point's name at the first place around it that is free: the front first, the controls last."""
    taken = [_Box(x - _RADIUS, y - _RADIUS, x + _RADIUS, y + _RADIUS) for x, y in places]
    parts = []
    for place in sorted(range(len(points)), key=lambda one: (points[one].is_control, not points[one].front)):
        point, name = points[place], shortened(points[place].method, _LETTERS)
        free = next((one for one in _around(*places[place], name) if not any(map(one.meets, taken))), None)
        if free is not None:
            taken.append(free)
            words = text(name, free.left + 1, free.bottom - 3, "tick" if point.is_control else "name")
            line = _leader(places[place], free)
            parts.append(element("g", line, words, class_="point", data_method=point.method))
    return parts


def _leader(place: tuple[float, float], box: _Box) -> str:
    """Return the line from a point to its name, where that is not beside it."""
    x, y = min(max(place[0], box.left), box.right), min(max(place[1], box.top), box.bottom)
    if math.hypot(x - place[0], y - place[1]) < _NEAR:
        return ""
    return element("line", class_="grid", x1=place[0], y1=place[1], x2=x, y2=y)


def _around(x: float, y: float, name: str) -> Iterator[_Box]:
    width, height = text_width(name, _NAME) + 2, _NAME + 1
    for away in (8, 18, 30, 44):
        for left, middle in (
            (x + away, y),
            (x - away - width, y),
            (x - width / 2, y - away - 4),
            (x - width / 2, y + away + 4),
            (x + away, y - away),
            (x + away, y + away),
            (x - away - width, y - away),
            (x - away - width, y + away),
        ):
            box = _Box(left, middle - height / 2, left + width, middle + height / 2)
            if box.left >= _LEFT and box.right <= _WIDTH and box.top >= _TOP - 6 and box.bottom <= _HEIGHT - _BOTTOM:
                yield box
