"""Peak memory of a benchmark of 100 and of 10,000 drawn images: the list of units may grow, the images must not."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evaluation.speed.contest import Figure
from xaikit.benchmark.run import run
from xaikit.benchmark.suite import Suite

__all__ = ["contests"]

FEW, MANY = 100, 10_000
STATUS = Path("/proc/self/status")


def contests() -> Iterator[Figure]:
    """Yield the one figure."""
    if not STATUS.exists():
        print("memory: left out, this system has no /proc/self/status with the peak memory of a process")
        return
    yield Figure(
        "memory",
        f"texture-cnn, grad-cam and one measure, one thread: {FEW} and {MANY} drawn images, each in its own process",
        f"peak memory with {MANY} images over that with {FEW}",
        _growth,
        at_most=1.1,
    )


def _growth() -> tuple[float, dict[str, Any]]:
    few, many = _in_a_process(FEW), _in_a_process(MANY)
    return many["MiB"] / few["MiB"], {f"{FEW} images": few, f"{MANY} images": many}


def _in_a_process(count: int) -> dict[str, float]:
    command = [sys.executable, "-m", "evaluation.speed.memory", str(count)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _measure(count: int) -> dict[str, float]:
    """Run a benchmark here and return the peak memory of this process and the time.

    The peak is VmHWM: `ru_maxrss` keeps that of the process which started this one.
    """
    suite = Suite.of(
        models=["texture-cnn"],
        data={"kind": "synthetic", "count": count},
        methods=["grad-cam"],
        controls=[],
        measures=["mean-map"],
        levels=1,
        threads=1,
    )
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        outcome = run(suite, folder, device="cpu")
    assert outcome.computed == count
    peak = next(int(line.split()[1]) for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    return {"MiB": round(peak / 2**10, 1), "seconds": round(time.perf_counter() - begin, 1)}


if __name__ == "__main__":
    print(json.dumps(_measure(int(sys.argv[1]))))
