"""The pictures of a benchmark's report: every method's overlay of the few images that the report shows.

rows -> images by seed and quantiles -> explained where DIR/pictures lacks them -> overlays -> pictures.json
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xaikit.benchmark.pictures import Explained
    from xaikit.benchmark.suite import Suite

_FOLDER = "pictures"


def write_pictures(suite: Suite, output: Path, device: str, notice: Callable[[str], None] = lambda line: None) -> None:
    """Draw what the report of a suite's folder shows and does not have yet.

    Args:
        suite: that was run.
        output: its folder, with rows.
        device: where the models are.
        notice: told how many maps are explained again, in one line.
    """
    from xaikit.benchmark.pictures import explained
    from xaikit.benchmark.store import Store
    from xaikit.benchmark.worker import Worker
    from xaikit.foundation.files import output_directory, write_json
    from xaikit.foundation.identity import fingerprint
    from xaikit.report.numbers.aggregate import blocks
    from xaikit.report.numbers.read import read_benchmark
    from xaikit.report.page.gallery import choose
    from xaikit.report.page.page import SAMPLE

    output_directory(output / _FOLDER)
    found = read_benchmark(output)
    listed: list[dict[str, Any]] = []
    missing: dict[str, dict[str, dict[str, int]]] = {}
    for (dataset, model), rows in blocks(found.rows).items():
        for choice in choose(rows, int(found.run.get("seed", 0)), SAMPLE):
            own = [row for row in rows if row["image_id"] == choice.image_id and not row.get("error")]
            scene = [dataset, model, choice.image_id]
            files = {name: _file(fingerprint([*scene, name])) for name in ("input", "evidence")}
            files |= {row["method"]: _file(row["unit_id"]) for row in own}
            listed.append({"dataset": dataset, "model": model, "image": choice.image_id, "files": files})
            lacking = {row["method"]: row["target"] for row in own if not (output / files[row["method"]]).is_file()}
            if lacking:
                missing.setdefault(model, {})[choice.image_id] = lacking
    places = {(one["model"], one["image"]): one["files"] for one in listed}
    if missing:
        count = sum(len(methods) for images in missing.values() for methods in images.values())
        notice(f"{count:,} maps to draw for the report")
        store = Store.open(output)
        worker = Worker(suite, store, device, store.manifest()["threads"])
        for place in range(len(suite.models)):
            for one in explained(worker, place, missing.get(worker.model(place).classifier.name, {})):
                _write(one, {name: output / file for name, file in places[one.model, one.image].items()})
    write_json(output / "pictures.json", {"pictures": listed})


def _file(name: str) -> str:
    return f"{_FOLDER}/{name}.png"


def _write(one: Explained, files: Mapping[str, Path]) -> None:
    from xaikit.images.drawing import Map, map_tile, paled
    from xaikit.images.reading import save_png

    save_png(files["input"], one.picture)
    if one.evidence is not None:
        save_png(files["evidence"], paled(one.picture, one.evidence))
    for found in one.maps:
        save_png(files[found[0]], map_tile(one.picture, Map(*found)).picture)
