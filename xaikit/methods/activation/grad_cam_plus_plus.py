"""Grad-CAM++: gradients weighted by how much each place alone explains the channel's share in exp(score).

    a_kxy = G_kxy^2 / (2 G_kxy^2 + S_k G_kxy^3)          S_k = sum_xy A_kxy
    w_k   = sum_xy a_kxy relu(G_kxy)
    map   = relu(sum_k w_k A_k)

Where G > 0 the weight is a = 1 / (2 + S_k G); where G <= 0, relu(G) = 0 and a does not matter. The factor exp(score) is
common to all weights of an image and is left out.

variant "paper"     as above (Eq. 19)
variant "official"  a is divided by its sum over the places with G > 0, as the authors' code does
variant "local"     S_k G^3 is replaced by sum_xy A_kxy G_kxy^3, as several ports do; equal only where G is constant

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, h, w), the layer's own grid.
Source: Chattopadhay et al., WACV 2018, eq. 10-19, arXiv:1710.11063.
Departs from source: nothing in "paper". Activations should not be negative (take a layer after its ReLU): where S_k < 0
    makes the denominator vanish the weight is 0, and the image is flagged "negative-activations".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from xaikit.methods.base import METHODS, LayerMethod, Values
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost

_EPSILON = 1e-7


@METHODS.register
@dataclass(frozen=True)
class GradCAMPlusPlus(LayerMethod):
    """Activation maps weighted by their positive gradients, each by its share.

    Args:
        variant: which form of the weights; see the formula.
    """

    variant: Literal["paper", "official", "local"] = "paper"

    name = "grad-cam-plus-plus"
    family = "activation"
    source = "Chattopadhay et al., WACV 2018, arXiv:1710.11063"
    signed = False
    needs = frozenset({"gradients"})

    def compute(self, batch: Batch) -> Values:
        """Return relu(sum_k w_k A_k), (n, h, w)."""
        activations, gradients = batch.activations_and_gradients(self.place)
        positive = gradients.clamp_min(0)
        shares = self._shares(activations, gradients)
        if self.variant == "official":
            total = shares.sum((2, 3), keepdim=True)
            shares = shares / torch.where(total > 0, total, 1)
        weights = (shares * positive).sum((2, 3))
        negative = (activations < 0).flatten(1).any(1).tolist()
        return Values(
            torch.einsum("nk,nkhw->nhw", weights, activations).relu(),
            flags=[{"negative-activations"} if one else set() for one in negative],
        )

    def cost(self, size: tuple[int, int]) -> Cost:
        """One forward; the backward runs through the tail only."""
        return Cost(1, 0.05)

    def _shares(self, activations: Tensor, gradients: Tensor) -> Tensor:
        """Return a (n, C, h, w), zero where the gradient is not positive."""
        if self.variant == "local":
            scale = gradients.abs().amax((1, 2, 3), keepdim=True).clamp_min(torch.finfo(gradients.dtype).tiny)
            unit = gradients / scale  # powers of small gradients would underflow
            cubes = scale * (activations * unit**3).sum((2, 3), keepdim=True)
            numerator, denominator = unit**2, 2 * unit**2 + cubes
        else:
            numerator = torch.ones_like(gradients)
            denominator = 2 + activations.sum((2, 3), keepdim=True) * gradients
        usable = (gradients > 0) & (denominator.abs() > _EPSILON * numerator)
        return torch.where(usable, numerator / torch.where(usable, denominator, 1), 0)
