"""Figures of all methods from folders of the benchmark, as evaluation/results/methods.csv, which the pages show.

    xaikit benchmark evaluation/suites/methods.toml -o out/methods
    xaikit benchmark evaluation/suites/squeezenet-real.toml --limit 16 -o out/photographs
    python -m evaluation.table --drawn out/methods --photographs out/photographs

A figure is the mean over the images: the area under the confidence that soft and binary masks keep, the pointing game
and the share of the map inside the object, and Spearman's correlation with the maps of other weights and of another
class. The best under binary masks stands first, and the controls last. Folders given twice are joined.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

import xaikit

FILE = Path(__file__).parent / "results" / "methods.csv"
_DRAWN = {
    "measure.pointing-game": "pointing",
    "measure.energy-inside": "energy",
    "measure.parameter-randomisation": "other weights",
    "measure.random-logit": "other class",
}


def figures(folders: list[Path], columns: dict[str, str]) -> pd.DataFrame:
    """Return the mean figures of each method in the order of the table, and its family."""
    rows = pd.concat([xaikit.read_rows(folder) for folder in folders], ignore_index=True)
    rows = rows[(rows.status == "ok") & ~rows.method.str.endswith("-uncalibrated")]
    for name in ("soft", "binary"):
        kept = np.stack(rows[f"o_{name}"].to_list())
        rows[name] = (kept[:, 1:] + kept[:, :-1]).mean(1) / 2
    means = rows.groupby("method")[["soft", "binary", *columns]].mean().rename(columns=columns)
    control = rows.groupby("method").family.first() == "control"
    return means.assign(control=control).sort_values(["control", "binary"], ascending=[True, False])


def main() -> None:
    """Read the folders and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drawn", type=Path, action="append", required=True, help="folder of methods.toml")
    parser.add_argument("--photographs", type=Path, action="append", required=True, help="of squeezenet-real.toml")
    given = parser.parse_args()
    drawn = figures(given.drawn, _DRAWN)
    real = figures(given.photographs, {})[["soft", "binary"]].rename(columns="photographs {}".format)
    table = drawn.drop(columns="control").join(real)
    table.to_csv(FILE, float_format="%.2f", lineterminator="\n")


if __name__ == "__main__":
    main()
