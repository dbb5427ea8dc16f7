"""The differences of methods from a reference: one line per method with its mean over the images and the interval.

Better is to the right. The axis spans the methods; a control beyond it is drawn faint at its end. The page's script
redraws axis and marks when the reader chooses another reference.

Source: paired differences as the headline of a comparison, instead of two intervals that overlap.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape

from xaikit.report.figures.svg import Axis, Style, drawing, element, markers, shortened, text
from xaikit.report.numbers.columns import Column
from xaikit.report.numbers.compare import Difference

_WIDTH, _ROW, _TOP, _BOTTOM = 500.0, 22.0, 8.0, 44.0
_LEFT, _RIGHT = 160.0, 14.0
_LETTERS = 24
_MARGIN = 0.05


def differences_svg(
    methods: Sequence[str],
    differences: Mapping[str, Difference],
    reference: str,
    quality: Column,
    styles: Mapping[str, Style],
) -> str:
    """Return the figure of one measure as SVG.

    Args:
        methods: names of the methods, one line each, controls last.
        differences: difference from the reference by method.
        reference: the method that is the zero line.
        quality: the measure.
        styles: style of each method.
    """
    bottom = _TOP + _ROW * len(methods)
    ends = (_LEFT, _WIDTH - _RIGHT) if quality.direction != "lower" else (_WIDTH - _RIGHT, _LEFT)
    across = Axis(*_extent(differences), *ends)
    label = f"difference of {quality.title} from {reference}: the mean over the images and its 95 % interval"
    rows = [
        _row(method, differences.get(method), across, _TOP + _ROW * (index + 0.5), styles[method])
        for index, method in enumerate(methods)
    ]
    return drawing(
        "differences",
        (_WIDTH, bottom + _BOTTOM),
        label,
        [_axis(across, bottom, quality), *rows],
        data_start=across.start,
        data_end=across.end,
    )


def _extent(differences: Mapping[str, Difference]) -> tuple[float, float]:
    """Return the ends of the axis, which holds zero and the intervals of all methods with a margin."""
    shown = [difference for difference in differences.values() if not difference.is_control]
    shown = shown or list(differences.values())
    values = [value for row in shown for value in (row.mean, row.low, row.high)]
    ends = [0.0, *filter(math.isfinite, values)]
    low, high = min(ends), max(ends)
    margin = _MARGIN * (high - low) or 1.0
    return low - margin, high + margin


def _axis(across: Axis, bottom: float, quality: Column) -> str:
    parts = []
    for tick in across.ticks():
        x, kind = across(tick), "zero" if tick == 0 else "grid"
        parts.append(element("line", class_=kind, x1=x, x2=x, y1=_TOP, y2=bottom))
        parts.append(text(f"{tick:+.3g}" if tick else "0", x, bottom + 15, anchor="middle"))
    ticks = element("g", *parts, class_="ticks", data_top=_TOP, data_bottom=bottom)
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    words = f"difference of {quality.name}; to the right is better"
    return ticks + text(words, middle, bottom + 34, "axis-title", "middle")


def _row(method: str, difference: Difference | None, across: Axis, y: float, style: Style) -> str:
    """Return the name and the mark of a method; the mark of the reference is hidden until another one is chosen."""
    known = difference is not None and math.isfinite(difference.mean)
    mean, low, high = (difference.mean, difference.low, difference.high) if known and difference else (0.0, 0.0, 0.0)
    low, high = (low, high) if math.isfinite(low) and math.isfinite(high) else (mean, mean)
    name = text(shortened(method, _LETTERS), _LEFT - 10, y + 4, "name", "end")
    shape = markers(style.marker, [(0, 0)], 4.2)
    mark = element(
        "g",
        element("line", class_="range", x1=across(low), x2=across(high), y1=y, y2=y),
        element("g", shape, class_="centre", transform=f"translate({across(mean):.1f} {y:.1f})", data_y=y),
        class_=f"mark {style.colour}{'' if across.low <= mean <= across.high else ' outside'}",
        visibility=None if known else "hidden",
    )
    return element("g", element("title", escape(method)), name, mark, class_="row", data_method=method)
