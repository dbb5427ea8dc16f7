"""Peak memory of a benchmark of 100 and of 10,000 drawn images: what grows is the list of units, not the images."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec

from tests.speed.figure import Facts, Figure
from xaikit.benchmark.run import run
from xaikit.benchmark.suite import Suite

__all__ = ["contests"]

FEW, MANY = 100, 10_000
MIB = 2**20


def contests() -> Iterator[Figure]:
    """Yield the one figure."""
    if find_spec("resource") is None:
        print("memory: left out, this system does not tell the peak of a process")
        return
    yield Figure(
        "memory",
        f"texture-cnn, grad-cam and one measure, one thread: {FEW} and {MANY} drawn images, each in its own process",
        f"peak memory with {MANY} images over that with {FEW}",
        growth,
        at_most=1.1,
    )


def growth() -> tuple[float, Facts]:
    few, many = peak(FEW), peak(MANY)
    return many["bytes"] / few["bytes"], {
        f"MiB with {FEW}": round(few["bytes"] / MIB),
        f"MiB with {MANY}": round(many["bytes"] / MIB),
        f"seconds with {MANY}": round(many["seconds"], 1),
    }


def peak(count: int) -> dict[str, float]:
    """Return what a process of its own says of itself."""
    child = subprocess.run(
        [sys.executable, "-m", "tests.speed.memory", str(count)], capture_output=True, text=True, check=True
    )
    return json.loads(child.stdout)


def measure(count: int) -> dict[str, float]:
    """Run a benchmark here and return the peak of this process in bytes, and the seconds."""
    import resource

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
    unit = 1 if sys.platform == "darwin" else 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"bytes": most, "seconds": time.perf_counter() - begin}


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
