"""The agreement of measures about the order of the methods: Kendall's tau as a triangle of squares.

    1: the same order      0: no more agreement than chance      -1: the opposite order

A deeper colour is further from chance; each square shows its number.
"""

import math
from html import escape

from xaikit.report.figures.svg import drawing, element, shortened, text
from xaikit.report.numbers.columns import Column
from xaikit.report.numbers.compare import RankMatrix

_CELL, _NAMES, _BOTTOM = 34.0, 196.0, 22.0
_LETTERS = 28
_DARK = 0.55  # absolute tau above which the number is bright


def agreement_svg(matrix: RankMatrix) -> str:
    """Return the lower triangle as SVG; columns have the numbers of the rows."""
    count = len(matrix.columns)
    names = [_name(column) for column in matrix.columns]
    parts = []
    for row, name in enumerate(names):
        y = _CELL * row
        words = f"{shortened(name, _LETTERS)}  {row + 1}"
        parts.append(text(words, _NAMES - 8, y + _CELL / 2 + 4, "name", "end"))
        parts.append(text(str(row + 1), _NAMES + _CELL * (row + 0.5), _CELL * count + 15, anchor="middle"))
        parts += [
            _square(float(matrix.tau[row, column]), _NAMES + _CELL * column, y, f"{name} and {names[column]}")
            for column in range(row + 1)
        ]
    size = (_NAMES + _CELL * count + 4, _CELL * count + _BOTTOM)
    return drawing("agreement", size, "Kendall's tau between the measures, over the methods", parts)


def _name(column: Column) -> str:
    """Return the title of a column, with the kind of masks if it has one."""
    return f"{column.title}, {column.group}" if column.group.endswith("masks") else column.title


def _square(tau: float, x: float, y: float, names: str) -> str:
    known = math.isfinite(tau)
    number = f"{tau:.2f}".replace("0.", ".") if known and abs(tau) < 1 else f"{tau:.0f}" if known else "\N{EN DASH}"
    kind = "cell against" if known and tau < 0 else "cell"
    strength = f"{0.06 + 0.94 * abs(tau):.2f}" if known else "0"
    inner = _CELL - 2
    number_class = "number bright" if known and abs(tau) > _DARK else "number"
    return element(
        "g",
        element("title", escape(f"{names}: {number}")),
        element("rect", class_=kind, x=x + 1, y=y + 1, width=inner, height=inner, rx=3, fill_opacity=strength),
        text(number, x + _CELL / 2, y + _CELL / 2 + 4, number_class, "middle"),
    )
