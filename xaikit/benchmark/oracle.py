"""The oracle and its opposite: the evidence itself as a map, where it is known; controls at the upper and lower end.

oracle = 1 on the evidence, 0 elsewhere        anti-oracle = 1 - oracle

Shapes: masks (H, W) bool by the image's content hash; values (N, H, W).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from xaikit.methods.base import Method, Values
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@dataclass(frozen=True)
class Oracle(Method):
    """The mask of the evidence.

    Args:
        masks: (H, W) bool by the image's content hash.
    """

    masks: Mapping[str, Tensor] = field(default_factory=dict)

    name = "oracle"
    family = "control"
    source = "the data"
    signed = False
    scale = "unit"
    class_specific = False

    def compute(self, batch: Batch) -> Values:
        """Return 1 on the evidence."""
        return Values(torch.stack([self.masks[content] for content in batch.hashes]).to(batch.pixels))

    def cost(self, size: tuple[int, int]) -> Cost:
        """Nothing."""
        return Cost(0)

    @property
    def params(self) -> dict[str, Any]:
        """None: the masks are the data's."""
        return {}


@dataclass(frozen=True)
class AntiOracle(Oracle):
    """Everything but the evidence."""

    name = "anti-oracle"

    def compute(self, batch: Batch) -> Values:
        """Return 1 off the evidence."""
        return Values(1 - super().compute(batch).values)


ORACLES: dict[str, type[Oracle]] = {kind.name: kind for kind in (Oracle, AntiOracle)}
