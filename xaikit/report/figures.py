"""The figures, drawn as inline SVG: small, sharp at any width, and coloured by the page's own style sheet.

    results -> four panels: API (up), APD (down), IR (up), DR (down) over the threshold, one line a method

A method keeps its colour, dash and marker in every figure of a page; controls are thin and grey. Colours are classes
(`s0` to `s7`), which the page defines for light and dark; together with five markers they tell forty methods apart.

Units: user units of the view box, about a pixel at the usual width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from xaikit.report.aggregate import Mask, Result

__all__ = ["PANELS", "Frame", "Panel", "Style", "panel_svg", "styles", "swatch_svg"]


@dataclass(frozen=True)
class Panel:
    """One panel of the paper's figure.

    Args:
        key: name of the curve.
        title: short name.
        meaning: what it is, in words.
        better: which way is better.
    """

    key: str
    title: str
    meaning: str
    better: str


PANELS = (
    Panel("api", "API", "average relative rise of confidence", "higher"),
    Panel("apd", "APD", "average relative drop of confidence", "lower"),
    Panel("ir", "IR", "share of images whose confidence rises", "higher"),
    Panel("dr", "DR", "share of images whose confidence drops", "lower"),
)


@dataclass(frozen=True)
class Style:
    """How a method is drawn: a class for its colour, a dash pattern and a marker."""

    colour: str
    dash: str = ""
    marker: int | None = None


_AXIS = "share of pixels removed, t"
_COLOURS = 8
_DASHES = ("", "7 3", "2 3", "9 3 2 3")
_CONTROL_DASHES = ("", "5 3", "1.5 2.5", "7 2 1.5 2", "10 4", "3 1.5")


def styles(results: Sequence[Result]) -> dict[str, Style]:
    """Return each method's style, by its place among the methods or among the controls."""
    methods = [result.method for result in results if not result.is_control]
    controls = [result.method for result in results if result.is_control]
    drawn = {
        name: Style(f"s{place % _COLOURS}", _DASHES[place % len(_DASHES)], place % len(_MARKERS))
        for place, name in enumerate(methods)
    }
    return drawn | {
        name: Style("control", _CONTROL_DASHES[place % len(_CONTROL_DASHES)]) for place, name in enumerate(controls)
    }


@dataclass(frozen=True)
class Frame:
    """Where a panel's axes lie in its view box, and how far up its values go."""

    top_value: float
    width: float = 340
    height: float = 236
    left: float = 38
    right: float = 12
    top: float = 10
    bottom: float = 34

    def x(self, threshold: float) -> float:
        """Return the horizontal place of a threshold."""
        return self.left + threshold * (self.width - self.left - self.right)

    def y(self, value: float) -> float:
        """Return the vertical place of a value; what lies above the axis stays at its top."""
        share = min(value / self.top_value, 1.0)
        return self.height - self.bottom - share * (self.height - self.top - self.bottom)


def panel_svg(panel: Panel, results: Sequence[Result], mask: Mask, drawn: dict[str, Style]) -> str:
    """Return one panel for one kind of mask.

    The axis is the same for soft and binary masks, so that switching between them moves only the lines.
    """
    frame = Frame(_top_value(panel, results))
    order = sorted(results, key=lambda result: not result.is_control)
    lines = [_line(frame, result, result.curves[mask][panel.key], drawn[result.method]) for result in order]
    label = f"{panel.title}, {panel.meaning}, over the threshold, {mask} masks; {panel.better} is better"
    return "".join(
        [
            f'<svg class="panel" viewBox="0 0 {frame.width:g} {frame.height:g}" role="img" aria-label="{label}"',
            f' data-curve="{panel.key}" data-left="{frame.left:g}" data-right="{frame.right:g}">',
            _axes(frame),
            f'<line class="cursor" y1="{frame.top:g}" y2="{frame.height - frame.bottom:g}"/>',
            *lines,
            "</svg>",
        ]
    )


def swatch_svg(style: Style) -> str:
    """Return the short piece of line that stands for a method in the legend."""
    marker = "" if style.marker is None else _marker(style.marker, 14, 6)
    dash = f' stroke-dasharray="{style.dash}"' if style.dash else ""
    return (
        f'<svg class="swatch {style.colour}" viewBox="0 0 28 12" aria-hidden="true">'
        f'<path class="curve" d="M1 6H27"{dash}/>{marker}</svg>'
    )


def _top_value(panel: Panel, results: Sequence[Result]) -> float:
    """Return the upper end of the axis: 1 for shares, a round number just above the data for API."""
    if panel.key != "api":
        return 1.0
    highest = max((np.nanmax(curves["api"], initial=0.0) for r in results for curves in r.curves.values()), default=0.0)
    return _round_up(float(highest) * 1.05) if highest > 0 else 1.0


def _round_up(value: float) -> float:
    """Return the next of 1, 1.5, 2, 3, 4, 5, 6, 8, 10 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * power >= value * (1 - 1e-9))


def _axes(frame: Frame) -> str:
    parts = []
    for tick in np.linspace(0, frame.top_value, 6 if frame.top_value == 1 else 5):
        y = frame.y(float(tick))
        parts.append(
            f'<line class="grid" x1="{frame.left:g}" x2="{frame.width - frame.right:g}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        parts.append(f'<text class="tick" x="{frame.left - 6:g}" y="{y + 3.5:.1f}" text-anchor="end">{tick:.3g}</text>')
    bottom = frame.height - frame.bottom
    for tenth in range(11):
        x = frame.x(tenth / 10)
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom:g}" y2="{bottom + 4:g}"/>')
        if tenth % 2 == 0:
            parts.append(
                f'<text class="tick" x="{x:.1f}" y="{bottom + 15:g}" text-anchor="middle">{tenth / 10:g}</text>'
            )
    parts.append(
        f'<line class="axis" x1="{frame.left:g}" x2="{frame.width - frame.right:g}" y1="{bottom:g}" y2="{bottom:g}"/>'
    )
    middle = (frame.left + frame.width - frame.right) / 2
    parts.append(
        f'<text class="axis-title" x="{middle:g}" y="{frame.height - 4:g}" text-anchor="middle">{_AXIS}</text>'
    )
    return "".join(parts)


def _line(frame: Frame, result: Result, values: np.ndarray, style: Style) -> str:
    points = [
        (frame.x(float(t)), frame.y(float(value)))
        for t, value in zip(result.thresholds, values, strict=True)
        if math.isfinite(value)
    ]
    if not points:
        return ""
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    dash = f' stroke-dasharray="{style.dash}"' if style.dash else ""
    markers = "" if style.marker is None else "".join(_marker(style.marker, x, y) for x, y in points[:-1])
    name = escape(result.method, quote=True)
    return f'<g class="line {style.colour}" data-method="{name}"><path class="curve" d="{path}"{dash}/>{markers}</g>'


_MARKERS = (
    "M{x0} {y}A3 3 0 1 0 {x1} {y}A3 3 0 1 0 {x0} {y}Z",
    "M{x0} {y0}H{x1}V{y1}H{x0}Z",
    "M{x} {y0}L{x1} {y1}H{x0}Z",
    "M{x} {y0}L{x1} {y}L{x} {y1}L{x0} {y}Z",
    "M{x} {y1}L{x1} {y0}H{x0}Z",
)


def _marker(kind: int, x: float, y: float, radius: float = 3.0) -> str:
    places = {"x": x, "y": y, "x0": x - radius, "x1": x + radius, "y0": y - radius, "y1": y + radius}
    shape = _MARKERS[kind].format(**{name: f"{value:.1f}" for name, value in places.items()})
    return f'<path class="marker" d="{shape}"/>'
