"""A benchmark killed at random moments: `python -m evaluation.scale.kills OUT [pictures] [kills]`.

    undisturbed run -> OUT/whole, its seconds
    the same, killed (SIGKILL) `kills` times at moments drawn from these seconds, then to its end -> OUT/killed

It prints for each kill the seconds of work that were lost: those since rows were last written or computing began. It
fails if a value differs from the undisturbed by more than 1e-6, a unit stands twice or misses, or more than 30 s were
lost at once.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from xaikit.benchmark.store import Store

_PROGRAM = """
import json, sys
from xaikit.benchmark.run import run
from xaikit.benchmark.suite import Suite
outcome = run(Suite.of(**json.loads(sys.argv[1])), sys.argv[2], notice=lambda line: print(line, flush=True))
assert not outcome.failed and outcome.done == outcome.units
"""
_MOST = 30.0  # seconds of work that a kill may lose
_CLOCK = {"ms"}


def main(out: Path, pictures: int, kills: int) -> None:
    """Run the suite undisturbed and killed, compare, and print what each kill lost."""
    suite = {
        "models": ["texture-cnn"],
        "data": {"kind": "synthetic", "count": pictures, "seed": 3},
        "methods": ["grad-cam", {"name": "rise", "params": {"samples": 1000}}],
        "controls": ["random"],
        "threads": 1,
    }
    begin = time.monotonic()
    assert _start(suite, out / "whole").wait() == 0
    seconds = time.monotonic() - begin
    print(f"undisturbed: {seconds:.0f} s", flush=True)
    stream, lost = random.Random(20), list[float]()
    while len(lost) < kills:
        child = _start(suite, out / "killed")
        assert child.stdout is not None
        child.stdout.readline()  # the plan is announced: computing begins
        begin = time.time()
        try:
            child.wait(stream.uniform(0, 1.6 * seconds / kills))
        except subprocess.TimeoutExpired:
            child.kill()
            lost.append(time.time() - max(begin, _written(out / "killed")))
            child.wait()
            print(f"kill {len(lost)}: {len(_rows(out / 'killed'))} units are kept, {lost[-1]:.1f} s lost", flush=True)
        else:
            raise SystemExit(f"it ended before it was killed {kills} times; take more pictures")
    assert _start(suite, out / "killed").wait() == 0
    whole, found = _rows(out / "whole"), _rows(out / "killed")
    assert found.keys() == whole.keys(), "a unit misses"
    largest = max(_difference(found[unit], row) for unit, row in whole.items())
    print(f"{len(whole)} units, none twice; largest difference {largest:.1e}; at most {max(lost):.1f} s lost at once")
    if largest > 1e-6 or max(lost) > _MOST:
        raise SystemExit(1)


def _start(suite: dict[str, Any], folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _PROGRAM, json.dumps(suite), str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def _written(folder: Path) -> float:
    return max((file.stat().st_mtime for file in Store(folder).files()), default=0.0)


def _rows(folder: Path) -> dict[str, dict[str, Any]]:
    rows = [row for file in Store(folder).files() for row in pq.ParquetFile(file).read().to_pylist()]
    units = {row["unit_id"]: row for row in rows}
    assert len(units) == len(rows), "a unit stands twice"
    return units


def _difference(found: dict[str, Any], expected: dict[str, Any]) -> float:
    """Return the largest difference of two rows' numbers; other columns must be equal."""
    largest = 0.0
    for name, value in expected.items():
        if name in _CLOCK:
            continue
        pairs = zip(value, found[name], strict=True) if isinstance(value, list) else [(value, found[name])]
        for one, other in pairs:
            if isinstance(one, float) and isinstance(other, float):
                largest = max(largest, abs(one - other))
            else:
                assert one == other, (name, one, other)
    return largest


if __name__ == "__main__":
    counts = [*map(int, sys.argv[2:]), *(150, 6)[len(sys.argv) - 2 :]]
    main(Path(sys.argv[1]), counts[0], counts[1])
