"""Rows from a benchmark's folder, without torch.

    DIR/rows/*.parquet    rows, whatever process wrote them; a unit that stands twice is read once
    DIR/manifest.json     title, command, environment, and which settings belong to the report
    DIR/pictures.json     {"pictures": [{dataset, model, image, files by name}, ...]}, if there are some to show

Without a manifest all rows belong to it. Names that start with a dot are no rows.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xaikit.benchmark.rows import Row, read
from xaikit.foundation.errors import BadInput


@dataclass(frozen=True)
class Benchmark:
    """What a benchmark's folder holds.

    Args:
        rows: one an image and method, in the order of the suite.
        run: title, command, created, seed and environment, as the page takes them.
        directions: by measure, which way is better: "higher", "lower" or "none".
        pictures: by (dataset, model), image_id and method, overlays as files that are there.
    """

    rows: list[Row]
    run: dict[str, Any]
    directions: dict[str, str]
    pictures: dict[tuple[str, str], dict[str, dict[str, Path]]]


def read_benchmark(folder: str | Path) -> Benchmark:
    """Return the rows of a folder that belong to its report.

    Raises:
        BadInput: there are none, or a file that is no Parquet.
    """
    folder = Path(folder)
    manifest = _json(folder / "manifest.json")
    settings = list(manifest.get("settings", {}))
    place = {setting: position for position, setting in enumerate(settings)}
    units: dict[str, Row] = {}
    for file in sorted((folder / "rows").glob("*.parquet")):
        if not file.name.startswith("."):
            for row in read(file):
                if (not place or row["setting"] in place) and _better(row, units.get(row["unit_id"])):
                    units[row["unit_id"]] = row
    if not units:
        raise BadInput(f"{folder}: expected rows/*.parquet of a benchmark, got none; run `xaikit benchmark` first")
    rows = sorted(units.values(), key=lambda row: (place.get(row["setting"], 0), row["image_id"]))
    run = {key: manifest[key] for key in ("title", "command", "created", "seed", "environment") if key in manifest}
    directions = {name: about["direction"] for name, about in manifest.get("measures", {}).items()}
    return Benchmark(rows, {"title": "Benchmark"} | run, directions, _pictures(folder))


def _pictures(folder: Path) -> dict[tuple[str, str], dict[str, dict[str, Path]]]:
    found: dict[tuple[str, str], dict[str, dict[str, Path]]] = {}
    for one in _json(folder / "pictures.json").get("pictures", []):
        files = {name: folder / file for name, file in one["files"].items() if (folder / file).is_file()}
        if files:
            found.setdefault((one["dataset"], one["model"]), {})[one["image"]] = files
    return found


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: expected JSON, got something else ({error}); remove it") from error
    return found if isinstance(found, dict) else {}


def _better(row: Row, known: Row | None) -> bool:
    return known is None or (known["status"] != "ok" and row["status"] == "ok")
