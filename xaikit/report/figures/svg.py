"""The building blocks of all figures: SVG elements, axes, and the style of each method.

    value -> Axis -> position in the view box      method -> Style -> colour, dash, marker, the same in every figure

Colours are classes (`s0` to `s7`, `control`) that set `color`; lines and markers use `currentColor`. The page defines
them for light and dark mode, `standalone` for separate files. With four dashes and five markers they distinguish forty
methods, also in print and for colour-blind readers. All text is escaped here.

Units: user units of the view box, about a pixel at the usual width.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from xaikit.foundation.texts import visible
from xaikit.report.numbers.aggregate import Result

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#b5478f", "#a67c00", "#2fa4d9", "#6a4fb3", "#7a4a2b")
_DASHES = ("", "7 3", "2 3", "9 3 2 3")
_CONTROL_DASHES = ("", "5 3", "1.5 2.5", "7 2 1.5 2", "10 4", "3 1.5")
_NAMESPACE = "http://www.w3.org/2000/svg"
_LETTER = 0.56  # mean width of a letter relative to its height
_MARKERS = (
    "m-{r} 0a{r} {r} 0 1 0 {d} 0a{r} {r} 0 1 0-{d} 0z",
    "m-{r}-{r}h{d}v{d}h-{d}z",
    "m0-{r}l{r} {d}h-{d}z",
    "m0-{r}l{r} {r}-{r} {r}-{r}-{r}z",
    "m0 {r}l{r}-{d}h-{d}z",
)


@dataclass(frozen=True)
class Style:
    """The style of a method: a CSS class for its colour, a dash pattern and a marker."""

    colour: str
    dash: str = ""
    marker: int | None = None


def styles(results: Sequence[Result]) -> dict[str, Style]:
    """Return the style of each method, by its index among the methods or among the controls."""
    methods = [result.method for result in results if not result.is_control]
    controls = [result.method for result in results if result.is_control]
    return {
        name: Style(f"s{index % len(_COLOURS)}", _DASHES[index % len(_DASHES)], index % len(_MARKERS))
        for index, name in enumerate(methods)
    } | {name: Style("control", _CONTROL_DASHES[index % len(_CONTROL_DASHES)]) for index, name in enumerate(controls)}


@dataclass(frozen=True)
class Axis:
    """Maps values to positions.

    Args:
        low: value at `start`.
        high: value at `end`.
        start: position of the low end.
        end: position of the high end; may be less than `start`.
        log: whether the axis is logarithmic.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return the position of a value, clipped to the ends of the axis."""
        low, high, value = self.low, self.high, max(value, self.low)
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return self.start + min((value - low) / (high - low), 1.0) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Return round values on the axis: by powers of ten if it is logarithmic, else about five."""
        if not self.log:
            return round_ticks(self.low, self.high)
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        steps = (1, 2, 5) if self.high / self.low < 200 else (1,)
        candidates = (step * 10.0**power for power in powers for step in steps)
        return [tick for tick in candidates if self.low * (1 - 1e-9) <= tick <= self.high * (1 + 1e-9)]


def round_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Return about `about` multiples of 1, 2 or 5 times a power of ten from low to high."""
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = min((1, 2, 5, 10), key=lambda factor: abs(math.log(factor * power / raw))) * power
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(multiple * step, 12) + 0.0 for multiple in range(first, last + 1)]


def element(name: str, *content: str, **attributes: str | float | None) -> str:
    """Return an SVG element.

    Args:
        name: name of the element.
        content: markup inside the element: other elements, or escaped text.
        attributes: unescaped values; None is omitted. `class_` becomes class, other underscores become hyphens.
    """
    known = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items() if value is not None}
    opening = name + "".join(f' {key}="{_formatted(value)}"' for key, value in known.items())
    inside = "".join(content)
    return f"<{opening}>{inside}</{name}>" if inside else f"<{opening}/>"


def text(words: str, x: float, y: float, kind: str = "tick", anchor: str | None = None) -> str:
    """Return a line of text; `kind` is its class."""
    return element("text", escape(words), class_=kind, x=x, y=y, text_anchor=anchor)


def drawing(kind: str, size: tuple[float, float], label: str, parts: Iterable[str], **attributes: str | float) -> str:
    """Return a complete SVG with the class `kind` and a label for screen readers."""
    box = f"0 0 {size[0]:g} {size[1]:g}"
    known: dict[str, str | float] = {"xmlns": _NAMESPACE, "class_": kind, "viewBox": box, "role": "img"}
    return visible(element("svg", *parts, **known, aria_label=label, **attributes))


def markers(kind: int | None, positions: Iterable[tuple[float, float]], radius: float = 3.0) -> str:
    """Return a marker at each position; the kind None of controls is a disc."""
    shape = _MARKERS[kind or 0].format(r=f"{radius:g}", d=f"{2 * radius:g}")
    return element("path", class_="marker", d="".join(f"M{x:.4g} {y:.4g}{shape}" for x, y in positions))


def swatch_svg(style: Style) -> str:
    """Return the sample line of a method for the legend."""
    line = element("path", class_="curve", d="M1 6H27", stroke_dasharray=style.dash or None)
    marker = "" if style.marker is None else markers(style.marker, [(14, 6)])
    return element("svg", line, marker, class_=f"swatch {style.colour}", viewBox="0 0 28 12", aria_hidden="true")


def text_width(words: str, height: float) -> float:
    """Return the approximate width of a text."""
    return _LETTER * height * len(words)


def shortened(words: str, letters: int) -> str:
    """Return a text cut to at most `letters` letters."""
    return words if len(words) <= letters else words[: letters - 1] + "\N{HORIZONTAL ELLIPSIS}"


def standalone(svg: str) -> str:
    """Return a drawing of the page as the text of a separate file, on white and with its own style."""
    colours = "".join(f".s{index}{{color:{colour}}}" for index, colour in enumerate(_COLOURS))
    style = (
        f"svg{{background:#fff;font-family:system-ui,Helvetica,Arial,sans-serif}}{colours}.control{{color:#8f959b}}"
        ".grid{stroke:#e6e4de}.axis{stroke:#5b6570}.zero{stroke:#1c2127}"
        ".tick,.axis-title{fill:#5b6570;font-size:10.5px}.name{fill:#1c2127;font-size:11.5px}"
        ".tradeoff .name,.tradeoff .tick{paint-order:stroke;stroke:#fff;stroke-width:3px}"
        ".curve,.range{fill:none;stroke:currentColor;stroke-width:1.9;stroke-linejoin:round}"
        ".control .curve{stroke-width:1.1}"
        ".band{fill:currentColor;opacity:.06}.marker{fill:currentColor;stroke:#fff;stroke-width:.8}"
        ".front{fill:none;stroke:#5b6570;stroke-dasharray:3 3}.dominated{opacity:.6}.cursor{visibility:hidden}"
        ".cell{fill:#0b6e6e}.cell.against{fill:#a04a00}.bright{fill:#fff}.number{fill:#1c2127;font-size:10.5px}"
    )
    head, rest = svg.split(">", 1)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{head}><style>{style}</style>{rest}\n'


def _formatted(value: str | float) -> str:
    return escape(value, quote=True) if isinstance(value, str) else f"{round(value, 1):g}"
