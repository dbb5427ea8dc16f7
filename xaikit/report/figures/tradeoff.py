"""Quality against cost: one point per method with its interval, and the Pareto front.

    x: cost of one image, logarithmic        y: a measure, better is up

The axes span the methods. Controls are grey; dominated methods are faint. Each point has its name next to it if there
is room.
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
    """An occupied rectangle of the drawing."""

    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: _Box) -> bool:
        in_x = self.left < other.right and other.left < self.right
        return in_x and self.top < other.bottom and other.top < self.bottom


def tradeoff_svg(points: Sequence[Point], quality: Column, cost: str, styles: Mapping[str, Style]) -> str:
    """Return the figure of one measure as SVG.

    Args:
        points: points of methods and controls.
        quality: the measure.
        cost: title of the horizontal axis.
        styles: style of each method.
    """
    known = [point for point in points if point.cost > 0]
    across, up = _axes([point for point in known if not point.is_control] or known, quality)
    shown = [point for point in known if up.low <= point.quality <= up.high]
    outside = [point.method for point in known if point not in shown]
    label = f"{quality.name} against {cost}; {quality.direction} is better"
    centres = [(across(point.cost), up(point.quality)) for point in shown]
    parts = [_grid(across, up, quality, cost), _front(shown, across, up)]
    parts += [_point(point, centre, up, styles[point.method]) for point, centre in zip(shown, centres, strict=True)]
    parts += _names(shown, centres)
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
    inverted = "" if quality.direction == "higher" else " (axis inverted)"
    parts.append(text(f"{quality.name}; up is better{inverted}", 4, 12, "axis-title"))
    return "".join(parts)


def _front(points: Sequence[Point], across: Axis, up: Axis) -> str:
    front = sorted((across(point.cost), up(point.quality)) for point in points if point.front)
    if not front:
        return ""
    steps = [f"M{front[0][0]:.1f} {front[0][1]:.1f}", *(f"H{x:.1f}V{y:.1f}" for x, y in front[1:])]
    return element("path", class_="front", d="".join([*steps, f"H{_WIDTH - _RIGHT:g}"]))


def _point(point: Point, centre: tuple[float, float], up: Axis, style: Style) -> str:
    title = f"{point.method}: {point.quality:.3f} [{point.low:.3f}, {point.high:.3f}] at {point.cost:,.3g}"
    parts = [element("title", escape(title))]
    if math.isfinite(point.low) and math.isfinite(point.high):
        x = centre[0]
        parts.append(element("line", class_="range", x1=x, x2=x, y1=up(point.low), y2=up(point.high)))
    parts.append(markers(style.marker, [centre], 3.2 if point.is_control else _RADIUS))
    faint = "" if point.front or point.is_control else " dominated"
    return element("g", *parts, class_=f"point {style.colour}{faint}", data_method=point.method)


def _names(points: Sequence[Point], centres: Sequence[tuple[float, float]]) -> list[str]:
    """Return the name of each point in the first free box around it, the front first, controls last."""
    occupied = [_Box(x - _RADIUS, y - _RADIUS, x + _RADIUS, y + _RADIUS) for x, y in centres]
    parts = []
    pairs = zip(points, centres, strict=True)
    for point, centre in sorted(pairs, key=lambda pair: (pair[0].is_control, not pair[0].front)):
        name = shortened(point.method, _LETTERS)
        free = next((box for box in _boxes_around(*centre, name) if not any(map(box.overlaps, occupied))), None)
        if free is not None:
            occupied.append(free)
            words = text(name, free.left + 1, free.bottom - 3, "tick" if point.is_control else "name")
            parts.append(element("g", _leader(centre, free), words, class_="point", data_method=point.method))
    return parts


def _leader(centre: tuple[float, float], box: _Box) -> str:
    """Return the line from a point to its name, or "" if the name is close."""
    x, y = min(max(centre[0], box.left), box.right), min(max(centre[1], box.top), box.bottom)
    if math.hypot(x - centre[0], y - centre[1]) < _NEAR:
        return ""
    return element("line", class_="grid", x1=centre[0], y1=centre[1], x2=x, y2=y)


def _boxes_around(x: float, y: float, name: str) -> Iterator[_Box]:
    """Yield the boxes for a name around a point that lie inside the figure, nearest first."""
    width, height = text_width(name, _NAME) + 2, _NAME + 1
    for distance in (8, 18, 30, 44):
        for left, middle in (
            (x + distance, y),
            (x - distance - width, y),
            (x - width / 2, y - distance - 4),
            (x - width / 2, y + distance + 4),
            (x + distance, y - distance),
            (x + distance, y + distance),
            (x - distance - width, y - distance),
            (x - distance - width, y + distance),
        ):
            box = _Box(left, middle - height / 2, left + width, middle + height / 2)
            if box.left >= _LEFT and box.right <= _WIDTH and box.top >= _TOP - 6 and box.bottom <= _HEIGHT - _BOTTOM:
                yield box
