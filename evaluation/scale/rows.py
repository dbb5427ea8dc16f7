"""Cost of one row of a benchmark at growing numbers of rows: `python -m evaluation.scale.rows 10000 100000 1000000`.

Rows of ten methods are generated in files of a thousand. For each number a process reads the index and plans what is
missing, which is nothing, and another one writes the report. Printed: processor time and memory a row, beyond those of
the process before it begins, and the size of the page.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

METHODS = 10
_FILE = 1000  # rows of a file


@dataclass(frozen=True)
class _Named:
    """A setting or a picture, as far as a plan needs it."""

    id: str


def write_rows(folder: Path, count: int) -> None:
    """Write generated rows of whole images."""
    from xaikit.benchmark.identity import unit_id
    from xaikit.benchmark.store import Store

    store, stream = Store.open(folder), np.random.default_rng(0)
    images = _FILE // METHODS
    for start in range(0, count // METHODS, images):
        soft, binary, y = stream.random((_FILE, 11)), stream.random((_FILE, 11)), stream.random(_FILE)
        rows: list[dict[str, Any]] = [
            {
                "unit_id": unit_id(f"m{method}", f"p{image:06d}"),
                "setting": f"m{method}",
                "picture": f"p{image:06d}",
                "image_id": f"{image:06d}.png",
                "method": f"m{method}",
                "status": "ok",
                "protocol": "{}",
                "family": "gradient",
                "dataset": "d",
                "model": "m",
                "levels": 10,
                "y": y[place],
                "o_soft": soft[place].tolist(),
                "o_binary": binary[place].tolist(),
            }
            for place, (image, method) in enumerate(
                (image, method) for image in range(start, start + images) for method in range(METHODS)
            )
        ]
        store.write(rows, [])


def planned(folder: Path, count: int) -> None:
    """Read the index and plan the units, which are all done."""
    from xaikit.benchmark.plan import plan
    from xaikit.benchmark.protocol import Protocol
    from xaikit.benchmark.store import Store

    settings: Any = [_Named(f"m{method}") for method in range(METHODS)]
    pictures: Any = [_Named(f"p{image:06d}") for image in range(count // METHODS)]
    found = plan(0, settings, pictures, Store.open(folder).sweep(), Protocol({}, 10, "mean"), 16)
    assert (found.done, found.chunks) == (count, []), found


def reported(folder: Path, count: int) -> None:
    """Write the report."""
    from xaikit.report.numbers.read import read_benchmark
    from xaikit.runs.page import write_all

    benchmark = read_benchmark(folder)
    assert len(benchmark) == count
    write_all(folder, benchmark, print)


STEPS = {"plan": planned, "report": reported}


def main(counts: list[int]) -> None:
    """Measure each number of rows."""
    print(f"{'rows':>9} {'step':>7} {'CPU us each':>12} {'bytes each':>11} {'CPU s':>7} {'MiB':>6} {'page MB':>8}")
    for count in counts:
        with TemporaryDirectory() as place:
            folder = Path(place)
            write_rows(folder, count)
            for step in STEPS:
                subprocess.run([sys.executable, "-m", "evaluation.scale.rows", step, place, str(count)], check=True)


def measure(step: str, folder: Path, count: int) -> None:
    """Run one step and print one line of its cost."""
    import torch  # noqa: F401 - what every process loads does not belong to a row

    import xaikit.benchmark.run
    import xaikit.runs.page  # noqa: F401

    before, begin = _peak(), time.process_time()
    STEPS[step](folder, count)
    seconds, peak = time.process_time() - begin, _peak()
    page = folder / "report.html"
    size = f"{page.stat().st_size / 1e6:8.2f}" if page.exists() else ""
    each = (peak - before) * 2**20 / count
    print(f"{count:>9,} {step:>7} {1e6 * seconds / count:12.1f} {each:11,.0f} {seconds:7.1f} {peak:6.0f} {size}")


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in STEPS:
        measure(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
    else:
        main([int(count) for count in sys.argv[1:]] or [10_000, 100_000, 1_000_000])
