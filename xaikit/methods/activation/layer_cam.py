"""Layer-CAM: activations weighted by their own positive gradients at each position.

    map = relu(sum_k relu(G_k) (*) A_k)

In words: Each activation of a layer is multiplied by its own gradient where that is positive, and the products are
added up over the channels. The map shows support only, often much the same for several classes, at the resolution of
the layer. Because every position has its own weight, it can be used on earlier, finer layers too, and the maps of
several layers can be fused. The fusion takes a maximum of rescaled maps, so its values are for looking at, not
contributions to the score.

The maps of several layers, layer=["layer2", "layer4"], are fused: the deepest becomes M / max M, all others
tanh(gamma * M / max M); all are resized to the finest grid, and the maximum at each position is taken.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, h, w), the layer's own grid or the finest of several.
Source: Jiang et al., TIP 2021, eq. 4-8.
Departs from source: nothing for one layer; the fusion resizes before it takes the maximum.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from xaikit.foundation.parameters import Positive
from xaikit.images.shapes import upsample
from xaikit.methods.activation.several_layers import SeveralLayers
from xaikit.methods.base import METHODS, Values
from xaikit.model.hooks import Layer
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@METHODS.register
@dataclass(frozen=True)
class LayerCAM(SeveralLayers):
    """Activations times their positive gradients, for one layer or fused over several.

    Args:
        shallower: names of further layers to fuse with `layer`, a comma-separated string or a sequence.
        gamma: gain of the shallower layers' maps inside tanh.
    """

    gamma: Positive = 2.0

    name = "layer-cam"
    family = "activation"
    source = "Jiang et al., TIP 2021"
    signed = False
    needs = frozenset({"gradients"})

    @property
    def differentiated(self) -> list[Layer | None]:
        """All layers that are read."""
        return [*self.places]

    def compute(self, batch: Batch) -> Values:
        """Return relu(sum_k relu(G_k) A_k), (n, h, w), or the fusion of several such maps."""
        batch.attach(self.places)
        maps = [self._map(batch, layer) for layer in self.places]
        if len(maps) == 1:
            return Values(maps[0])
        *shallower, deepest = [m / m.amax((1, 2), keepdim=True).clamp_min(torch.finfo(m.dtype).tiny) for m in maps]
        raised = [torch.tanh(self.gamma * scaled) for scaled in shallower]
        finest = max((tuple(layer_map.shape[1:]) for layer_map in maps), key=lambda grid: grid[0] * grid[1])
        fused = torch.stack([upsample(scaled, (finest[0], finest[1])) for scaled in [*raised, deepest]])
        return Values(fused.amax(0))

    def cost(self, size: tuple[int, int]) -> Cost:
        """One forward; the backward runs down to the shallowest layer."""
        return Cost(1, 1 if self.shallower else 0.05)

    @staticmethod
    def _map(batch: Batch, layer: Layer) -> Tensor:
        activations, gradients = batch.activations_and_gradients(layer)
        return torch.einsum("nkhw,nkhw->nhw", gradients.clamp_min(0), activations).relu()
