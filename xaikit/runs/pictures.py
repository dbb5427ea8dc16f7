"""The pictures of a benchmark's report: the overlay of every method for the example images.

rows -> images by seed and quantiles -> maps that DIR/pictures lacks are explained -> overlays -> pictures.json
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xaikit.benchmark.own import Own
    from xaikit.benchmark.pictures import Explained
    from xaikit.benchmark.suite import Suite
    from xaikit.report.numbers.read import Benchmark

_FOLDER = "pictures"


def write_pictures(
    suite: Suite,
    output: Path,
    benchmark: Benchmark,
    device: str,
    notice: Callable[[str], None] = lambda line: None,
    own: Own | None = None,
) -> None:
    """Draw the pictures of a suite that the report of its results folder needs and does not have undamaged yet.

    Those of other data sets and models in the folder can only be drawn with their own suite.

    Args:
        suite: the suite that was run.
        output: folder of its results.
        benchmark: their numbers.
        device: device of the models.
        notice: called with one line that says how many maps are drawn.
        own: classifiers and images of the caller.
    """
    from xaikit.benchmark.pictures import explained
    from xaikit.benchmark.store import Store
    from xaikit.benchmark.worker import Worker
    from xaikit.foundation.files import output_directory, write_json
    from xaikit.foundation.identity import fingerprint
    from xaikit.report.page.gallery import choose
    from xaikit.report.page.page import SAMPLE

    output_directory(output / _FOLDER)
    entries: list[dict[str, Any]] = []
    missing: dict[str, dict[str, dict[str, int]]] = {model.title: {} for model in suite.models}
    for (dataset, model), summary in benchmark.summaries.items():
        chosen = choose(summary, int(benchmark.run.get("seed", 0)), SAMPLE, benchmark.measures)
        images = [choice.image_id for choice in chosen]
        rows = benchmark.rows_of((dataset, model), images)
        for image in images:
            scored = [row for row in rows if row["image_id"] == image and not row.get("error")]
            content = [[row.get(name) for name in ("conditions", "picture")] for row in scored[:1]]
            files = {name: _file(fingerprint([dataset, model, image, content, name])) for name in ("input", "evidence")}
            files |= {row["method"]: _file(row["unit_id"]) for row in scored}
            entries.append({"dataset": dataset, "model": model, "image": image, "files": files})
            if dataset == suite.data.title and model in missing:
                evidence = output / files["evidence"]
                lost = not _is_whole(output / files["input"]) or (evidence.exists() and not _is_whole(evidence))
                targets = {
                    row["method"]: row["target"]
                    for row in scored
                    if lost or not _is_whole(output / files[row["method"]])
                }
                missing[model] |= {image: targets} if targets else {}
    if count := sum(len(targets) for images in missing.values() for targets in images.values()):
        notice(f"{count:,} maps to draw for the report")
        ours = (entry for entry in entries if entry["dataset"] == suite.data.title)
        paths = {(entry["model"], entry["image"]): entry["files"] for entry in ours}
        store = Store.open(output)
        worker = Worker(suite, store, device, store.manifest().threads or 1, own)
        for index in range(len(suite.models)):
            for example in explained(worker, index, missing[suite.models[index].title]):
                _write(example, {name: output / file for name, file in paths[example.model, example.image].items()})
    write_json(output / "pictures.json", {"pictures": entries})


def _file(name: str) -> str:
    return f"{_FOLDER}/{name}.png"


def _is_whole(file: Path) -> bool:
    """Return whether a picture is there and its checksums are right."""
    from PIL import Image

    try:
        with Image.open(file, formats=["PNG"]) as picture:
            picture.verify()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return False
    return True


def _write(example: Explained, files: Mapping[str, Path]) -> None:
    from xaikit.images.drawing import Map, map_tile
    from xaikit.images.overlays import paled
    from xaikit.images.reading import save_png

    save_png(files["input"], example.picture)
    if example.evidence is not None:
        save_png(files["evidence"], paled(example.picture, example.evidence))
    for values in example.maps:
        save_png(files[values[0]], map_tile(example.picture, Map(*values)).picture)
