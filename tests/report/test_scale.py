"""A report of many rows: memory and time a row do not grow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from xaikit.benchmark.rows import COLUMNS, digest, parquet

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")]

METHODS = [f"m{place}" for place in range(10)]
PROGRAM = """
import sys, time
from pathlib import Path
from xaikit.runs.page import write_all
from xaikit.report.numbers.read import read_benchmark
folder = Path(sys.argv[1])
benchmark = read_benchmark(folder)
assert len(benchmark) == int(sys.argv[2])
write_all(folder, benchmark, print)
highest = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(1024 * int(highest.split()[1]), time.process_time())
"""


def write(folder: Path, images: int) -> None:
    (folder / "rows").mkdir(parents=True)
    stream = np.random.default_rng(0)
    for start in range(0, images, 100):
        count = 100 * len(METHODS)
        names = np.repeat([f"{place:06d}.png" for place in range(start, start + 100)], len(METHODS))
        methods = METHODS * 100
        columns = {
            "unit_id": [f"{name}/{method}" for name, method in zip(names, methods, strict=True)],
            "image_id": names,
            "method": methods,
            "setting": methods,
            "family": ["gradient"] * count,
            "status": ["ok"] * count,
            "dataset": ["d"] * count,
            "model": ["m"] * count,
            "levels": [10] * count,
            "y": stream.random(count),
            "o_soft": list(stream.random((count, 11))),
            "o_binary": list(stream.random((count, 11))),
        }
        content = parquet(pa.table({name: pa.array(values, COLUMNS[name]) for name, values in columns.items()}))
        (folder / "rows" / f"{start}-{digest(content)}.parquet").write_bytes(content)


def test_memory_and_time_of_a_row_do_not_grow(tmp_path):
    """A million rows of 40 numbers would need 8 GB as Python objects; as arrays they need their numbers."""
    used = {}
    for images in (2_000, 10_000):
        write(tmp_path / str(images), images)
        count = images * len(METHODS)
        arguments = [sys.executable, "-c", PROGRAM, str(tmp_path / str(images)), str(count)]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        used[count] = tuple(map(float, done.stdout.split()))
        assert (tmp_path / str(images) / "report.html").stat().st_size < 3e6
    (few, some), (many, more) = used.items()
    assert (more[0] - some[0]) / (many - few) < 1000, "bytes a row"
    assert more[1] / many < 1.2 * some[1] / few, "seconds a row"
