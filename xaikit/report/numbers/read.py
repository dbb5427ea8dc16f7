"""Reads the rows of a benchmark's folder, without torch.

    DIR/rows/*.parquet    rows of all processes; a unit that occurs twice is read once
    DIR/manifest.json     title, command, environment, and the settings that belong to the report
    DIR/pictures.json     {"pictures": [{dataset, model, image, files by name}, ...]}, optional

Without a manifest all rows belong to the report. Files whose name starts with a dot are ignored.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xaikit.benchmark.rows import Row, read
from xaikit.foundation.errors import BadInput


@dataclass(frozen=True)
class Benchmark:
    """The contents of a benchmark's folder.

    Args:
        rows: one row per image and method, in the order of the suite.
        run: title, command, created, seed and environment, as the page takes them.
        directions: better direction by measure: "higher", "lower" or "none".
        pictures: existing files of overlays by (dataset, model), image_id and method.
    """

    rows: list[Row]
    run: dict[str, Any]
    directions: dict[str, str]
    pictures: dict[tuple[str, str], dict[str, dict[str, Path]]]


def read_benchmark(folder: str | Path) -> Benchmark:
    """Return the rows of a folder that belong to its report.

    Raises:
        BadInput: there are no rows, or a file is not Parquet.
    """
    folder = Path(folder)
    manifest = _json(folder / "manifest.json")
    order = {setting: index for index, setting in enumerate(manifest.get("settings", {}))}
    units: dict[str, Row] = {}
    for file in sorted((folder / "rows").glob("*.parquet")):
        if not file.name.startswith("."):
            for row in read(file):
                if (not order or row["setting"] in order) and _better(row, units.get(row["unit_id"])):
                    units[row["unit_id"]] = row
    if not units:
        raise BadInput(f"{folder}: expected rows/*.parquet of a benchmark, got none; run `xaikit benchmark` first")
    rows = sorted(units.values(), key=lambda row: (order.get(row["setting"], 0), row["image_id"]))
    run = {key: manifest[key] for key in ("title", "command", "created", "seed", "environment") if key in manifest}
    directions = {name: about["direction"] for name, about in manifest.get("measures", {}).items()}
    return Benchmark(rows, {"title": "Benchmark"} | run, directions, _pictures(folder))


def _pictures(folder: Path) -> dict[tuple[str, str], dict[str, dict[str, Path]]]:
    pictures: dict[tuple[str, str], dict[str, dict[str, Path]]] = {}
    for entry in _json(folder / "pictures.json").get("pictures", []):
        files = {name: folder / file for name, file in entry["files"].items() if (folder / file).is_file()}
        if files:
            pictures.setdefault((entry["dataset"], entry["model"]), {})[entry["image"]] = files
    return pictures


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: expected JSON, got something else ({error}); remove it") from error
    return content if isinstance(content, dict) else {}


def _better(row: Row, known: Row | None) -> bool:
    return known is None or (known["status"] != "ok" and row["status"] == "ok")
