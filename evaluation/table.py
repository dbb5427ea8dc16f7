"""Figures of all methods from folders of the benchmark, as a file of evaluation/results, which the pages show.

    xaikit benchmark evaluation/suites/methods.toml -o out/methods
    xaikit benchmark evaluation/suites/squeezenet-real.toml -o out/photographs
    python -m evaluation.table methods --drawn out/methods --photographs out/photographs

    xaikit benchmark evaluation/suites/transformer.toml -o out/transformer
    python -m evaluation.table transformer --drawn out/transformer

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

FOLDER = Path(__file__).parent / "results"
_DRAWN = {
    "measure.pointing-game": "pointing",
    "measure.energy-inside": "energy",
    "measure.parameter-randomisation": "other weights",
    "measure.random-logit": "other class",
}


def figures(folders: list[Path], columns: dict[str, str]) -> pd.DataFrame:
    """Return the mean figures of each method in the order of the table."""
    rows = pd.concat([xaikit.read_rows(folder) for folder in folders], ignore_index=True)
    rows = rows[(rows.status == "ok") & ~rows.method.str.endswith("-uncalibrated")]
    for name in ("soft", "binary"):
        kept = np.stack(rows[f"o_{name}"].to_list())
        rows[name] = (kept[:, 1:] + kept[:, :-1]).mean(1) / 2
    means = rows.groupby("method")[["soft", "binary", *columns]].mean().rename(columns=columns)
    control = rows.groupby("method").family.first() == "control"
    ordered = means.assign(control=control).sort_values(["control", "binary"], ascending=[True, False])
    return ordered.drop(columns="control")


def main() -> None:
    """Read the folders and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="name of the file")
    parser.add_argument(
        "--drawn", type=Path, action="append", required=True, help="folder of methods.toml or transformer.toml"
    )
    parser.add_argument("--photographs", type=Path, action="append", help="folder of squeezenet-real.toml")
    given = parser.parse_args()
    table = figures(given.drawn, _DRAWN)
    if given.photographs:
        real = figures(given.photographs, {})[["soft", "binary"]]
        table = table.join(real.rename(columns="photographs {}".format))
    table.to_csv(FOLDER / f"{given.name}.csv", float_format="%.2f", lineterminator="\n")


if __name__ == "__main__":
    main()
