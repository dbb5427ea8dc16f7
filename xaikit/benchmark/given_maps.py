"""Maps of the caller, measured like those of a method.

Shapes: maps (h, w), keyed by the content hash of the image; values (N, h, w).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from xaikit.foundation.identity import fingerprint
from xaikit.images.hashes import image_hashes
from xaikit.methods.base import Family, Method, Values
from xaikit.run.attribution import Scale
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@dataclass(frozen=True)
class GivenMaps(Method):
    """Maps that are there already.

    Args:
        maps: (h, w) by the content hash of the image.
    """

    maps: Mapping[str, Tensor] = field(default_factory=dict)

    name = "given"
    family: ClassVar[Family] = "given"
    source = "the caller"
    signed = False
    scale: ClassVar[Scale] = "minmax"
    passes = Cost(0)

    def compute(self, batch: Batch) -> Values:
        """Return the maps of the images."""
        return Values(torch.stack([self.maps[digest] for digest in batch.hashes]).to(batch.pixels))

    @property
    def params(self) -> dict[str, Any]:
        """What identifies the maps."""
        if not self.maps:
            return {}
        content = image_hashes(torch.stack(list(self.maps.values()))[:, None])
        return {"maps": fingerprint(dict(zip(self.maps, content, strict=True)))}
