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
from typing import Any

import torch
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.foundation.parameters import Positive
from xaikit.images.shapes import upsample
from xaikit.methods.base import METHODS, LayerMethod, Values
from xaikit.model.classifier import Classifier
from xaikit.model.hooks import Layer
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@METHODS.register
@dataclass(frozen=True)
class LayerCAM(LayerMethod):
    """Activations times their positive gradients, for one layer or fused over several.

    Args:
        shallower: names of further layers to fuse with `layer`, a comma-separated string or a sequence.
        gamma: gain of the shallower layers' maps inside tanh.
    """

    shallower: str | tuple[str, ...] = ()
    gamma: Positive = 2.0

    name = "layer-cam"
    family = "activation"
    source = "Jiang et al., TIP 2021"
    signed = False
    needs = frozenset({"gradients"})

    @classmethod
    def several_layers(cls, classifier: Classifier, layers: list[str | torch.nn.Module]) -> dict[str, Any]:
        """Return the last of the layers, in the order in which they run, as `layer`, the others as `shallower`.

        Raises:
            BadInput: there are none, one is not a layer with a grid, or one is given twice.
        """
        order = list(classifier.layers())
        places = [classifier.resolve_layer(layer) for layer in layers]
        unknown = [str(place) for place in places if place.name not in order]
        if not places or unknown or len(set(places)) < len(places):
            got = unknown[0] if unknown else ", ".join(map(str, places)) or "none"
            raise BadInput(f"layer: expected different layers among classifier.layers(), got {got}")
        *shallower, deepest = map(str, sorted(places, key=lambda place: order.index(place.name)))
        return {"layer": deepest} | ({"shallower": tuple(shallower)} if shallower else {})

    @classmethod
    def own_layers(cls, classifier: Classifier, params: dict[str, Any]) -> dict[str, Any]:
        """Return the parameters, with the classifier's list of layers where none are given."""
        if len(classifier.fused) < 2 or "layer" in params or "shallower" in params:
            return params
        return params | cls.several_layers(classifier, list(map(str, classifier.fused)))

    @property
    def places(self) -> list[Layer]:
        """The shallower layers, then the method's own."""
        names = self.shallower.split(",") if isinstance(self.shallower, str) else self.shallower
        return [*(self.classifier.resolve_layer(name.strip()) for name in names if name.strip()), self.place]

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
