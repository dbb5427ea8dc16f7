"""hires-cam in bfloat16 against float32, on a CPU with bfloat16 instructions, and how far its maps agree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from evaluation.speed.contest import Claim, Contest
from evaluation.speed.subjects import subject

__all__ = ["contests"]


def contests() -> Iterator[Contest]:
    """Yield the contest where the CPU has the instructions."""
    about_the_cpu = Path("/proc/cpuinfo")
    if not about_the_cpu.is_file() or "avx512_bf16" not in about_the_cpu.read_text(encoding="utf-8"):
        print("bfloat16: left out, this CPU has no instructions for it")
        return
    full = subject("resnet50")
    half = replace(full, precision="bfloat16")
    ranks = [work.attribute("hires-cam").values.flatten(1).argsort(1).argsort(1).float() for work in (full, half)]
    correlations = [float(torch.corrcoef(torch.stack(pair))[0, 1]) for pair in zip(*ranks, strict=True)]
    yield Contest(
        "bfloat16 resnet50",
        "hires-cam, batch 8 at 224x224",
        {"bfloat16": lambda: half.attribute("hires-cam"), "float32": lambda: full.attribute("hires-cam")},
        [Claim("bfloat16", "float32", 1 / 1.6)],
        facts={"lowest rank correlation of the maps": round(min(correlations), 4)},
    )
