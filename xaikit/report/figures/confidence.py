"""The paper's figure, for all images or for one: lines over the threshold.

    results       -> four panels: API (up), APD (down), IR (up), DR (down), a line and its 95 % band per method
    one image     -> the confidence that each method's mask leaves, and the confidence y in the whole image

Controls are drawn thin and grey behind the methods.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from xaikit.report.figures.svg import Axis, Style, drawing, element, markers, round_ticks, text
from xaikit.report.numbers.aggregate import Mask, Result

_WIDTH, _HEIGHT = 340.0, 236.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 38.0, 12.0, 10.0, 34.0
_MARKED = 12  # largest number of lines with a marker at every point
_AXIS = "share of pixels removed, t"


@dataclass(frozen=True)
class Panel:
    """One panel of the paper's figure.

    Args:
        key: name of the curve.
        title: short name.
        meaning: explanation in words.
        better: the better direction, "higher" or "lower".
    """

    key: str
    title: str
    meaning: str
    better: str

    @property
    def arrow(self) -> str:
        """The arrow of the better direction."""
        return "\N{UPWARDS ARROW}" if self.better == "higher" else "\N{DOWNWARDS ARROW}"


PANELS = (
    Panel("api", "API", "average relative rise of confidence", "higher"),
    Panel("apd", "APD", "average relative drop of confidence", "lower"),
    Panel("ir", "IR", "share of images whose confidence rises", "higher"),
    Panel("dr", "DR", "share of images whose confidence drops", "lower"),
)


class _Line(NamedTuple):
    """The values (T,) of one method over the thresholds (T,), and the ends (2, T) of their interval, or None."""

    method: str
    thresholds: np.ndarray
    values: np.ndarray
    band: np.ndarray | None = None


def panel_svg(panel: Panel, results: Sequence[Result], mask: Mask, styles: Mapping[str, Style]) -> str:
    """Return one panel for one kind of masks as SVG.

    The axis is the same for soft and binary masks, so that switching between them moves only the lines.
    """
    lines = [
        _Line(result.method, result.thresholds, result.curves[mask][panel.key], result.bands[mask][panel.key])
        for result in sorted(results, key=lambda result: not result.is_control)
    ]
    label = f"{panel.title}, {panel.meaning}, over the threshold, {mask} masks; {panel.better} is better"
    return _lines_svg(label, panel.key, _top_value(panel, results), lines, styles)


def confidence_svg(
    image: str, mask: Mask, y: float, curves: Mapping[str, Sequence[float]], styles: Mapping[str, Style]
) -> str:
    """Return the confidence left in one image over the threshold as SVG, one line per method, and y as a level line.

    Args:
        image: name of the image.
        mask: "soft" or "binary".
        y: confidence in the whole image.
        curves: confidence at each threshold by method, controls first.
        styles: style of each method.
    """
    lines = [_Line(name, np.linspace(0, 1, len(curve)), np.asarray(curve, float)) for name, curve in curves.items()]
    highest = max([y, *(float(np.nanmax(line.values, initial=0.0)) for line in lines)])
    label = f"confidence left in {image} over the threshold, {mask} masks"
    return _lines_svg(label, "confidence", 1.0 if highest > 0.5 else _round_up(highest), lines, styles, y)


def _lines_svg(
    label: str, key: str, top: float, lines: Sequence[_Line], styles: Mapping[str, Style], whole: float | None = None
) -> str:
    across, up = Axis(0, 1, _LEFT, _WIDTH - _RIGHT), Axis(0, top, _HEIGHT - _BOTTOM, _TOP)
    parts = [_axes(across, up), element("line", class_="cursor", y1=_TOP, y2=_HEIGHT - _BOTTOM)]
    if whole is not None:
        parts.append(element("line", class_="zero", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=up(whole), y2=up(whole)))
        parts.append(text("y", _WIDTH - _RIGHT + 3, up(whole) + 3.5))
    step = 1 if len(lines) <= _MARKED else 3
    parts += [_line_svg(line, across, up, styles[line.method], step) for line in lines]
    return drawing("panel", (_WIDTH, _HEIGHT), label, parts, data_curve=key, data_left=_LEFT, data_right=_RIGHT)


def _top_value(panel: Panel, results: Sequence[Result]) -> float:
    """Return the upper end of the axis: 1 for shares, a round number just above the data for API."""
    if panel.key != "api":
        return 1.0
    highest = max((np.nanmax(curves["api"], initial=0.0) for r in results for curves in r.curves.values()), default=0.0)
    return _round_up(float(highest) * 1.05)


def _round_up(value: float) -> float:
    """Return the next of 1, 1.5, 2, 3, 4, 5, 6, 8, 10 times a power of ten; 1 for a value of 0 or less."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * power >= value * (1 - 1e-9))


def _axes(across: Axis, up: Axis) -> str:
    parts = []
    for tick in round_ticks(up.low, up.high):
        y = up(tick)
        parts.append(element("line", class_="grid", x1=across.start, x2=across.end, y1=y, y2=y))
        parts.append(text(f"{tick:.3g}", across.start - 6, y + 3.5, anchor="end"))
    for tenth in range(11):
        x = across(tenth / 10)
        parts.append(element("line", class_="axis", x1=x, x2=x, y1=up.start, y2=up.start + 4))
        if tenth % 2 == 0:
            parts.append(text(f"{tenth / 10:g}", x, up.start + 15, anchor="middle"))
    parts.append(element("line", class_="axis", x1=across.start, x2=across.end, y1=up.start, y2=up.start))
    parts.append(text(_AXIS, (across.start + across.end) / 2, _HEIGHT - 4, "axis-title", "middle"))
    return "".join(parts)


def _line_svg(line: _Line, across: Axis, up: Axis, style: Style, step: int) -> str:
    """Return a line with a marker at every `step`-th point but the last."""
    points = _points(across, up, line.thresholds, line.values)
    if not points:
        return ""
    parts = [element("path", class_="curve", d=_path(points), stroke_dasharray=style.dash or None)]
    if line.band is not None and np.isfinite(line.band).all():
        low, high = (_points(across, up, line.thresholds, end) for end in line.band)
        parts.insert(0, element("path", class_="band", d=_path([*high, *reversed(low)]) + "Z"))
    if style.marker is not None:
        parts.append(markers(style.marker, points[:-1:step]))
    return element("g", *parts, class_=f"line {style.colour}", data_method=line.method)


def _path(points: Iterable[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{round(x, 1):g} {round(y, 1):g}" for x, y in points)


def _points(across: Axis, up: Axis, thresholds: np.ndarray, values: np.ndarray) -> list[tuple[float, float]]:
    pairs = zip(thresholds.tolist(), values.tolist(), strict=True)
    return [(across(t), up(value)) for t, value in pairs if math.isfinite(value)]
