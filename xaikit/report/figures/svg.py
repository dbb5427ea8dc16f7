"""What all figures are drawn with: SVG elements, axes, and each method's look.

    value -> Axis -> place in the view box         method -> Style -> colour, dash, marker, the same in every figure

Colours are classes (`s0` to `s7`, `control`) that set `color`; lines and markers take `currentColor`. The page defines
them for light and dark, and `standalone` for a file of its own. With four dashes and five markers they tell forty
methods apart, also in print and to colour-blind eyes. All text is escaped here.

Units: user units of the view box, about a pixel at the usual width.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from xaikit.report.numbers.aggregate import Result

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#b5478f", "#a67c00", "#2fa4d9", "#6a4fb3", "#7a4a2b")
_DASHES = ("", "7 3", "2 3", "9 3 2 3")
_CONTROL_DASHES = ("", "5 3", "1.5 2.5", "7 2 1.5 2", "10 4", "3 1.5")
_NAMESPACE = "http://www.w3.org/2000/svg"
_LETTER = 0.56  # mean width of a letter, in heights
_MARKERS = (
    "m-{r} 0a{r} {r} 0 1 0 {d} 0a{r} {r} 0 1 0-{d} 0z",
    "m-{r}-{r}h{d}v{d}h-{d}z",
    "m0-{r}l{r} {d}h-{d}z",
    "m0-{r}l{r} {r}-{r} {r}-{r}-{r}z",
    "m0 {r}l{r}-{d}h-{d}z",
)


@dataclass(frozen=True)
class Style:
    """How a method is drawn: a class for its colour, a dash pattern and a marker."""

    colour: str
    dash: str = ""
    marker: int | None = None


def styles(results: Sequence[Result]) -> dict[str, Style]:
    """Return each method's style, by its place among the methods or among the controls."""
    methods = [result.method for result in results if not result.is_control]
    controls = [result.method for result in results if result.is_control]
    drawn = {
        name: Style(f"s{place % len(_COLOURS)}", _DASHES[place % len(_DASHES)], place % len(_MARKERS))
        for place, name in enumerate(methods)
    }
    return drawn | {
        name: Style("control", _CONTROL_DASHES[place % len(_CONTROL_DASHES)]) for place, name in enumerate(controls)
    }


@dataclass(frozen=True)
class Axis:
    """From values to places.

    Args:
        low: value at `start`.
        high: value at `end`.
        start: place of the low end.
        end: place of the high end; less than `start` where places grow downwards.
        log: values are spaced by their logarithm.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return the place of a value; what lies outside stays at the end."""
        low, high, at = (math.log(one) if self.log else one for one in (self.low, self.high, max(value, self._least)))
        share = (at - low) / (high - low)
        return self.start + min(max(share, 0.0), 1.0) * (self.end - self.start)

    @property
    def _least(self) -> float:
        return self.low if self.log else -math.inf

    def ticks(self) -> list[float]:
        """Return round values inside the axis: by powers of ten on a logarithmic one, else about five."""
        if not self.log:
            return round_ticks(self.low, self.high)
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        steps = (1, 2, 5) if self.high / self.low < 200 else (1,)
        candidates = (step * 10.0**power for power in powers for step in steps)
        return [tick for tick in candidates if self.low * (1 - 1e-9) <= tick <= self.high * (1 + 1e-9)]


def round_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Return multiples of 1, 2 or 5 times a power of ten from low to high, about as many as asked."""
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = min((1, 2, 5, 10), key=lambda one: abs(math.log(one * power / raw))) * power
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(place * step, 12) + 0.0 for place in range(first, last + 1)]


def element(name: str, *content: str, **attributes: str | float | None) -> str:
    """Return an SVG element around content that is markup already.

    Args:
        name: of the element.
        content: elements, or escaped text.
        attributes: values to be escaped, None to be left out; `class_` is class, and underscores are hyphens.
    """
    known = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items() if value is not None}
    given = "".join(f' {key}="{_written(value)}"' for key, value in known.items())
    inside = "".join(content)
    return f"<{name}{given}>{inside}</{name}>" if inside else f"<{name}{given}/>"


def text(words: str, x: float, y: float, kind: str = "tick", anchor: str | None = None) -> str:
    """Return a line of text; `kind` is its class."""
    return element("text", escape(words), class_=kind, x=x, y=y, text_anchor=anchor)


def drawing(kind: str, size: tuple[float, float], label: str, parts: Iterable[str], **attributes: str | float) -> str:
    """Return a whole SVG of a class, with a label for those who do not see it."""
    box = f"0 0 {size[0]:g} {size[1]:g}"
    known: dict[str, str | float] = {"xmlns": _NAMESPACE, "class_": kind, "viewBox": box, "role": "img"}
    return element("svg", *parts, **known, aria_label=label, **attributes)


def markers(kind: int | None, places: Iterable[tuple[float, float]], radius: float = 3.0) -> str:
    """Return a method's marker around places; a control, which has none, gets a disc."""
    shape = _MARKERS[kind or 0].format(r=f"{radius:g}", d=f"{2 * radius:g}")
    return element("path", class_="marker", d="".join(f"M{x:.4g} {y:.4g}{shape}" for x, y in places))


def swatch_svg(style: Style) -> str:
    """Return the short piece of line that stands for a method in the legend."""
    line = element("path", class_="curve", d="M1 6H27", stroke_dasharray=style.dash or None)
    sign = "" if style.marker is None else markers(style.marker, [(14, 6)])
    return element("svg", line, sign, class_=f"swatch {style.colour}", viewBox="0 0 28 12", aria_hidden="true")


def text_width(words: str, height: float) -> float:
    """Return about how wide a text is."""
    return _LETTER * height * len(words)


def shortened(words: str, letters: int) -> str:
    """Return a text of at most so many letters."""
    return words if len(words) <= letters else words[: letters - 1] + "\N{HORIZONTAL ELLIPSIS}"


def standalone(svg: str) -> str:
    """Return a drawing of the page as a file of its own: on white, with its own style."""
    colours = "".join(f".s{place}{{color:{colour}}}" for place, colour in enumerate(_COLOURS))
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


def _written(value: str | float) -> str:
    return escape(value, quote=True) if isinstance(value, str) else f"{round(value, 1):g}"
