"""The oracle and the anti-oracle: controls whose map is the known evidence, or its complement.

oracle = 1 on the evidence, 0 elsewhere        anti-oracle = 1 - oracle

Shapes: maps (H, W) bool, keyed by the content hash of the image; values (N, H, W).
"""

from dataclasses import dataclass
from typing import Any

from xaikit.benchmark.given_maps import GivenMaps
from xaikit.methods.base import Values
from xaikit.run.batch import Batch


@dataclass(frozen=True)
class Oracle(GivenMaps):
    """The mask of the evidence as a map, the best possible explanation: 1 on the evidence, 0 elsewhere."""

    name = "oracle"
    family = "control"
    source = "the data"
    scale = "unit"
    class_specific = False

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
