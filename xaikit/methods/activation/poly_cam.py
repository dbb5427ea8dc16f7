"""Poly-CAM: the class activation map of the deepest layer, refined from layer to layer by finer ones.

    P     = M_L at the deepest layer;  then at each shallower layer l:  P <- up(P) (*) LNorm(M_l)
    M_l   = relu(sum_k w_k A_k)                        A: activations of layer l
    w_k   = p_c(H_k (*) x) for "increase", relu(p_c(x) - p_c((1 - H_k) (*) x)) for "decrease",
            relu(p_c(H_k (*) x) + p_c(x) - p_c((1 - H_k) (*) x)) for "both"
    H_k   = rho(upsample(A_k))                         one mask per channel, in [0, 1]
    LNorm(M) = M / up(down(M))                         down: to the next coarser layer's grid

In words: The deepest layer knows where the class is, coarsely; shallower layers know edges, not classes. Each channel
of a layer masks the image, and its weight is the probability that the mask keeps (increase, as in Score-CAM), or that
is lost without what it shows (decrease). The map of a shallower layer, relative to what it is around each position,
then moves the mass of the map so far. The map is fine, shows support only and needs no gradient, but one or two
forwards per channel of every layer.

Without names, the shallower layers are one for each finer grid, the last of those that lie least deep in other modules;
where no layer before it has a finer grid, as in most transformers, the map is that of one layer.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, h, w), the grid of the shallowest layer.
Source: Englebert, Cornu & De Vleeschouwer, ICPR 2022, arXiv:2204.13359, PCAM+, PCAM- and PCAM+-; formulas as in the
    authors' code.
Departs from source: masks are scaled by the least and the largest value, not by percentiles 0.1 and 99.9, after they
    are enlarged, not before; channels that are constant over space have no weight; where down(M) is 0, so is LNorm(M).
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from xaikit.images.shapes import upsample
from xaikit.methods.activation.score_cam import masked_scores
from xaikit.methods.activation.several_layers import FinerGrids
from xaikit.methods.base import METHODS, Values
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@METHODS.register
@dataclass(frozen=True)
class PolyCAM(FinerGrids):
    """Class activation maps of several layers, from the deepest to the finest, multiplied.

    Args:
        weight: what weighs a channel: the probability that its mask keeps ("increase", PCAM+), that is lost without
            what it covers ("decrease", PCAM-), or "both" (PCAM+-).
    """

    weight: Literal["increase", "decrease", "both"] = "both"

    name = "poly-cam"
    family = "activation"
    source = "Englebert et al., ICPR 2022, arXiv:2204.13359"
    signed = False
    needs = frozenset({"activations", "probabilities"})

    def compute(self, batch: Batch) -> Values:
        """Return P of the shallowest layer, (n, h, w)."""
        *shallower, deepest = self.places
        total = self._map(batch, batch.activations(deepest))
        for place in reversed(shallower):
            own = self._map(batch, batch.activations(place))
            coarse, fine = (total.shape[1], total.shape[2]), (own.shape[1], own.shape[2])
            around = upsample(upsample(own, coarse), fine)
            total = upsample(total, fine) * torch.where(around > 0, own / torch.where(around > 0, around, 1), 0)
        return Values(total, params={"shallower": tuple(map(str, shallower))})

    def cost(self, size: tuple[int, int]) -> Cost:
        """One forward of the clean image, one per layer, and one or two per channel."""
        places, shapes = self.places, self.classifier.outline().layers
        channels = sum(shapes[place.name][0] for place in places)
        return Cost(1 + len(places) + channels * (2 if self.weight == "both" else 1), 0)

    def _map(self, batch: Batch, activations: Tensor) -> Tensor:
        """Return relu(sum_k w_k A_k), (n, h, w)."""
        weights = torch.zeros_like(activations[:, :, 0, 0])
        if self.weight != "decrease":
            weights += masked_scores(batch, activations, batch.confidences_of)
        if self.weight != "increase":
            left = masked_scores(batch, activations, batch.confidences_of, change=lambda mask, *where: 1 - mask)
            weights += batch.confidences[:, None].to(weights) - left
        varies = activations.amax((2, 3)) > activations.amin((2, 3))
        return torch.einsum("nk,nkhw->nhw", weights.relu() * varies, activations).relu()
