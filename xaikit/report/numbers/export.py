"""summary.csv: all numbers of a report for other programs, one line per dataset, model and method.

    NAME, NAME_low, NAME_high, NAME_p        the mean, the ends of its 95 % interval, the p against the best method

Values are in full precision, empty where unknown; p is Holm-corrected. A measure whose values are also a scalar of the
rows, such as api, is in the columns of the scalar. A text that a spreadsheet would take for a formula has an apostrophe
before it.
"""

import csv
import io
import math
from pathlib import Path

from xaikit.benchmark.rows import MEASURE
from xaikit.foundation.files import write_text
from xaikit.foundation.texts import visible
from xaikit.report.numbers.aggregate import Result
from xaikit.report.numbers.columns import same_values
from xaikit.report.numbers.compare import Leader
from xaikit.report.numbers.latex import Latex, summary_tex
from xaikit.report.numbers.tables import Tables

_ABOUT = ("dataset", "model", "method", "family", "params", "layer", "images", "excluded")
_NAN = float("nan")
_FORMULA = ("=", "+", "-", "@")


def write_summaries(folder: str | Path, tables: Tables, latex: Latex | None = None) -> None:
    """Write summary.csv and summary.tex into a folder."""
    tex = summary_tex(tables, latex or Latex())
    write_text(Path(folder) / "summary.csv", summary_csv(tables))
    write_text(Path(folder) / "summary.tex", tex)


def summary_csv(tables: Tables) -> str:
    """Return a CSV with one line per dataset, model and method."""
    results = {key: [line.result for lines in table.blocks.values() for line in lines] for key, table in tables.items()}
    everything = [result for block in results.values() for result in block]
    twice = {f"{MEASURE}{name}" for name in same_values(everything)}
    keys = dict.fromkeys(key for result in everything for key in (*result.scalars, *result.intervals))
    names = [key for key in keys if key not in twice]
    tested = {name for table in tables.values() for name in table.leaders}
    bounded = {name for result in everything for name in result.intervals}
    parts = {
        name: [*(("", "_low", "_high") if name in bounded else ("",)), *(("_p",) if name in tested else ())]
        for name in names
    }
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*_ABOUT, *(_guarded(name + part) for name in names for part in parts[name])])
    for (dataset, model), block in results.items():
        best = tables[dataset, model].leaders
        for result in block:
            values = {name: _numbers(result, name, best.get(name)) for name in names}
            about = [dataset, model, result.method, result.family, result.params, result.layer]
            about += [str(result.count), str(result.excluded)]
            numbers = [_text(values[name][part]) for name in names for part in parts[name]]
            writer.writerow([*map(_guarded, about), *numbers])
    return stream.getvalue()


def _numbers(result: Result, name: str, leader: Leader | None) -> dict[str, float]:
    low, high = result.interval(name)
    p = leader.p.get(result.method, _NAN) if leader else _NAN
    return {"": result.mean(name), "_low": low, "_high": high, "_p": p}


def _guarded(text: str) -> str:
    """Return a text that is one cell and no formula: an apostrophe stands before one that begins like a formula."""
    shown = visible(text)
    return f"'{shown}" if shown.startswith(_FORMULA) else shown


def _text(value: float) -> str:
    return "" if math.isnan(value) else repr(value)
