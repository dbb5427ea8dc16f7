"""bfloat16 against float32 on a CPU that has it, with the rank correlation of the maps."""

from __future__ import annotations

from collections.abc import Iterator

import torch

import xaikit
from tests.speed.contest import Claim, Contest
from tests.speed.subjects import subject
from xaikit.run.context import Context

__all__ = ["contests"]


def contests() -> Iterator[Contest]:
    """Yield the contest where the CPU has bfloat16."""
    if torch.cpu._is_avx512_bf16_supported():
        yield _bfloat16()


def _bfloat16() -> Contest:
    one = subject("resnet50", "layer4")

    def run(precision: str) -> torch.Tensor:
        context = Context(precision=precision, chunk_size=8)  # type: ignore[arg-type]
        return xaikit.attribute(one.classifier, one.pixels, method="hires-cam", context=context).values

    ranks = [run(precision).flatten(1).argsort(1).argsort(1).double() for precision in ("float32", "bfloat16")]
    centred = [rank - rank.mean(1, keepdim=True) for rank in ranks]
    correlation = (centred[0] * centred[1]).sum(1) / (centred[0].norm(dim=1) * centred[1].norm(dim=1))
    return Contest(
        "bfloat16 resnet50",
        "hires-cam, batch 8 at 224x224, layer4",
        {"bfloat16": lambda: run("bfloat16"), "float32": lambda: run("float32")},
        [Claim("bfloat16", "float32", at_least=1.6)],
        facts={"rank correlation of maps, lowest of 8": round(float(correlation.min()), 4)},
    )
