"""Poly-CAM: the class activation map of the deepest layer, refined from layer to layer by finer ones.

    P     = M_L at the deepest layer;  then at each shallower layer l:  P <- up(P) (*) LNorm(M_l)
    M_l   = relu(sum_k w_k A_k)                        A: activations of layer l
    w_k   = increase p_c(H_k (*) x) - p_c(0), decrease p_c(x) - p_c((1 - H_k) (*) x), or the sum of "both"
    H_k   = rho(upsample(A_k (*) up(P)))               one mask per channel, in [0, 1]; up(P) is 1 at the deepest layer
    LNorm(M) = M / up(mean of M within the cells of the next coarser layer)

In words: The deepest layer knows where the class is, coarsely; shallower layers know edges, not classes. Each channel
of a layer, times the map so far, masks the image, and its weight is the probability that the mask keeps (increase), or
that is lost without what it shows (decrease). The map of the layer then moves the mass of the map so far within its
cells. The map is fine and shows support only. It needs no gradient, but one or two forwards per channel of every layer.

Without names, the shallower layers are one for each finer grid: the last of those that lie least deep in other modules.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, h, w), the grid of the shallowest layer.
Source: Englebert, Cornu & De Vleeschouwer, ICPR 2022, arXiv:2204.13359, PCAM+, PCAM- and PCAM+-.
Departs from source: it may in details; written by what is published of the method, without its equations at hand. The
    masks of shallower layers, the cell means of LNorm, bilinear enlarging and the choice of layers are decided here.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from xaikit.images.shapes import upsample
from xaikit.methods.activation.score_cam import masked_scores
from xaikit.methods.activation.several_layers import SeveralLayers
from xaikit.methods.base import METHODS, Values
from xaikit.model.hooks import Layer
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@METHODS.register
@dataclass(frozen=True)
class PolyCAM(SeveralLayers):
    """Class activation maps of several layers, from the deepest to the finest, multiplied.

    Args:
        shallower: names of the layers before `layer`, a comma-separated string or a sequence; none are chosen by grid.
        weight: what weighs a channel: the probability that its mask keeps ("increase", PCAM+), that is lost without
            what it covers ("decrease", PCAM-), or "both" (PCAM+-).
    """

    weight: Literal["increase", "decrease", "both"] = "both"

    name = "poly-cam"
    family = "activation"
    source = "Englebert et al., ICPR 2022, arXiv:2204.13359"
    signed = False
    needs = frozenset({"activations", "probabilities"})

    @property
    def places(self) -> list[Layer]:
        """The named shallower layers, or one for each finer grid, then the method's own."""
        return super().places if self.shallower else [*self._finer(), self.place]

    def compute(self, batch: Batch) -> Values:
        """Return P of the shallowest layer, (n, h, w)."""
        activations = batch.activations(self.place)
        total = self._map(batch, activations, activations)
        places = self.places
        for place in reversed(places[:-1]):
            activations, coarse = batch.activations(place), (total.shape[1], total.shape[2])
            enlarged = upsample(total, (activations.shape[2], activations.shape[3]))
            own = self._map(batch, activations, activations * enlarged[:, None])
            mean = upsample(adaptive_avg_pool2d(own, coarse), (own.shape[1], own.shape[2]))
            total = enlarged * torch.where(mean > 0, own / torch.where(mean > 0, mean, 1), 0)
        return Values(total, params={"shallower": tuple(map(str, places[:-1]))})

    def cost(self, size: tuple[int, int]) -> Cost:
        """One forward of the clean image, one per layer, one of nothing, and one or two per channel."""
        places, shapes = self.places, self.classifier.outline().layers
        channels = sum(shapes[place.name][0] for place in places)
        return Cost(2 + len(places) + channels * (2 if self.weight == "both" else 1), 0)

    def _map(self, batch: Batch, activations: Tensor, masks: Tensor) -> Tensor:
        """Return relu(sum_k w_k A_k), (n, h, w), where the weights are of other masks (n, C, h, w) on the same grid."""
        varies = masks.amax((2, 3)) > masks.amin((2, 3))
        weights = torch.zeros_like(activations[:, :, 0, 0])
        if self.weight != "decrease":
            nothing = batch.confidences_of(
                torch.zeros_like(batch.inputs), torch.arange(len(batch), device=weights.device)
            )
            weights += masked_scores(batch, masks, batch.confidences_of) - nothing[:, None].to(weights)
        if self.weight != "increase":
            left = masked_scores(batch, masks, batch.confidences_of, change=lambda mask, *where: 1 - mask)
            weights += batch.confidences[:, None].to(weights) - left
        return torch.einsum("nk,nkhw->nhw", weights * varies, activations).relu()

    def _finer(self) -> list[Layer]:
        """Return for each finer grid before the method's own layer the last of its layers with the fewest parents."""
        seen, names = self.classifier.outline(), list(self.classifier.outline().layers)
        modules = dict(self.classifier.module.named_modules(remove_duplicate=False))
        own = modules[self.place.name]  # which may have another name in the outline
        last = next((index for index, name in enumerate(names) if modules.get(name) is own), 0)
        chosen: dict[tuple[int, int], str] = {}
        for name in names[:last]:
            _, height, width = seen.layers[name]
            finer = height * width > seen.layers[names[last]][1] * seen.layers[names[last]][2]
            if not finer or seen.calls.get(name, 1) > 1 or name in seen.without_grid | seen.apart:
                continue
            if name.count(".") <= chosen.get((height, width), name).count("."):
                chosen[height, width] = name
        return [self.classifier.resolve_layer(name) for name in sorted(chosen.values(), key=names.index)]
