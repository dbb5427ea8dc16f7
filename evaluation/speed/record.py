"""Writes outcomes to a JSON file, with the machine and the versions they were measured on."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from evaluation.speed.contest import Outcome

__all__ = ["RESULTS", "write"]

RESULTS = Path(__file__).resolve().parents[1] / "results"
PACKAGES = ("xaikit", "torch", "torchvision", "captum", "grad-cam", "torchcam", "zennit", "saliency", "quantus", "ray")


def write(file: Path, command: str, outcomes: Sequence[Outcome], more: Mapping[str, Any] | None = None) -> None:
    """Write outcomes, and `more` entries beside them, as one JSON file."""
    about = {
        "command": command,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "versions": _versions(),
        **(more or {}),
        "contests": [asdict(outcome) for outcome in outcomes],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def _versions() -> dict[str, str]:
    """Return the versions of the packages that are installed."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
