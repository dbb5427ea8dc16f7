"""Run every contest, or those whose name holds an argument, and write the figures to evaluation/results/speed/.

A contest whose peer is not installed says so and leaves its figures as they were; pixel_flipping.py says how Quantus,
which does not belong into this environment, is compared with.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import platform
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

import tests.speed
from tests.speed.contest import Outcome

RESULTS = Path(__file__).resolve().parents[2] / "evaluation" / "results" / "speed"
PEERS = ("torch", "torchvision", "captum", "grad-cam", "torchcam", "quantus", "ray")


def main(wanted: list[str]) -> int:
    """Return 0 when every claim was met."""
    met = True
    RESULTS.mkdir(parents=True, exist_ok=True)
    for module in pkgutil.iter_modules(tests.speed.__path__, "tests.speed."):
        contests = getattr(importlib.import_module(module.name), "contests", None)
        if contests is None or (wanted and not any(word in module.name for word in wanted)):
            continue
        outcomes = [contest.run(print) for contest in contests()]
        met = met and all(claim["met"] for outcome in outcomes for claim in outcome.claims)
        if outcomes:
            _write(module.name.rsplit(".", 1)[1], outcomes)
    return 0 if met else 1


def _write(name: str, outcomes: list[Outcome]) -> None:
    about = {
        "command": f"python -m tests.speed {name}",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "versions": _versions(),
        "contests": [asdict(outcome) for outcome in outcomes],
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def _versions() -> dict[str, str]:
    found = {}
    for package in PEERS:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
