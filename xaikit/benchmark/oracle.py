"""The oracle and the anti-oracle: controls whose map is the known evidence, or its complement.

oracle = 1 on the evidence, 0 elsewhere        anti-oracle = 1 - oracle

Shapes: masks (H, W) bool, keyed by the content hash of the image; values (N, H, W).
"""

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
    """The mask of the evidence as a map, the best possible explanation.

    Args:
        masks: (H, W) bool, keyed by the content hash of the image.
    """

    masks: Mapping[str, Tensor] = field(default_factory=dict)

    name = "oracle"
    family = "control"
    source = "the data"
    signed = False
    scale = "unit"
    class_specific = False
    passes = Cost(0)

    def compute(self, batch: Batch) -> Values:
        """Return 1 on the evidence, 0 elsewhere."""
        return Values(torch.stack([self.masks[digest] for digest in batch.hashes]).to(batch.pixels))

    @property
    def params(self) -> dict[str, Any]:
        """Empty: the masks belong to the data."""
        return {}


@dataclass(frozen=True)
class AntiOracle(Oracle):
    """The complement of the evidence as a map, the worst possible explanation."""

    name = "anti-oracle"

    def compute(self, batch: Batch) -> Values:
        """Return 0 on the evidence, 1 elsewhere."""
        return Values(1 - super().compute(batch).values)


ORACLES: dict[str, type[Oracle]] = {kind.name: kind for kind in (Oracle, AntiOracle)}
