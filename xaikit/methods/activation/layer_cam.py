"""Layer-CAM: each place of each activation map, weighted by its own positive gradient.

    map = relu(sum_k relu(G_k) (*) A_k)

With several layers the maps are fused: each but the deepest is brought to tanh(gamma * M / max M), the deepest to
M / max M, all to the finest grid, and the largest value of each place is taken.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, h, w), the layer's own grid or the finest of several.
Source: Jiang et al., TIP 2021, eq. 4-8.
Departs from source: nothing for one layer; the fusion resizes before it takes the largest value.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from xaikit.foundation.parameters import Positive
from xaikit.images.shapes import upsample
from xaikit.methods.base import METHODS, LayerMethod, Values
from xaikit.model.hooks import Layer
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@METHODS.register
@dataclass(frozen=True)
class LayerCAM(LayerMethod):
    """Activations times their positive gradients, for one layer or several fused.

    Args:
        shallower: names of further layers to fuse with `layer`, as one text with commas or a sequence.
        gamma: how strongly the shallower layers' maps are raised.
    """

    shallower: str | tuple[str, ...] = ()
    gamma: Positive = 2.0

    name = "layer-cam"
    family = "activation"
    source = "Jiang et al., TIP 2021"
    signed = False
    needs = frozenset({"gradients"})

    @cached_property
    def places(self) -> list[Layer]:
        """The shallower layers, then the method's own."""
        names = self.shallower.split(",") if isinstance(self.shallower, str) else self.shallower
        return [*(self.classifier.resolve_layer(name.strip()) for name in names if name.strip()), self.place]

    def compute(self, batch: Batch) -> Values:
        """Return relu(sum_k relu(G_k) A_k), (n, h, w), or the fusion of several."""
        batch.attach(self.places)
        maps = [self._map(batch, place) for place in self.places]
        if len(maps) == 1:
            return Values(maps[0])
        shares = [one / one.amax((1, 2), keepdim=True).clamp_min(torch.finfo(one.dtype).tiny) for one in maps]
        raised = [torch.tanh(self.gamma * one) for one in shares[:-1]]
        finest = max((tuple(one.shape[1:]) for one in maps), key=lambda grid: grid[0] * grid[1])
        fused = torch.stack([upsample(one, (finest[0], finest[1])) for one in [*raised, shares[-1]]])
        return Values(fused.amax(0))

    def cost(self, size: tuple[int, int]) -> Cost:
        """One forward; the backward runs down to the shallowest layer."""
        return Cost(1, 1 if self.shallower else 0.05)

    @staticmethod
    def _map(batch: Batch, place: Layer) -> Tensor:
        activations, gradients = batch.activations_and_gradients(place)
        return torch.einsum("nkhw,nkhw->nhw", gradients.clamp_min(0), activations).relu()
