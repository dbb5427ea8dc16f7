"""Grad-CAM++: activation maps weighted by a weighted sum of their positive gradients.

    a_kxy = G_kxy^2 / (2 G_kxy^2 + S_k G_kxy^3)          S_k = sum_xy A_kxy
    w_k   = sum_xy a_kxy relu(G_kxy)
    map   = relu(sum_k w_k A_k)

In words: As in Grad-CAM, weighted activation maps of a layer are added up, but a channel's weight is a weighted sum of
its positive gradients alone. The map is coarse and shows support for the class only. Because no weight is negative, a
channel that speaks against the class is not subtracted, so regions of other classes may stay visible. It needs
activations that are not negative, as after a ReLU. The authors propose it for several objects of one class.

The closed form of a follows from explaining exp(score). Where G > 0, a = 1 / (2 + S_k G); where G <= 0, relu(G) = 0 and
a has no effect. The factor exp(score) is common to all weights of an image and is left out.

variant "paper"     as above (Eq. 19)
variant "official"  a is divided by its sum over the positions with G > 0, as in the authors' code
variant "local"     S_k G^3 is replaced by sum_xy A_kxy G_kxy^3, as in several ports; equal only if G is constant

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, h, w), the layer's own grid.
Source: Chattopadhay et al., WACV 2018, eq. 10-19, arXiv:1710.11063.
Departs from source: nothing in "paper". Activations should not be negative (choose a layer after its ReLU): where
    S_k < 0 makes the denominator vanish the weight is 0, and the image is flagged "negative-activations".
"""

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
    """Positive part of the sum of activation maps, each weighted by a weighted sum of its positive gradients.

    Args:
        variant: form of the weights: "paper", "official" or "local"; see the module's formulas.
    """

    variant: Literal["paper", "official", "local"] = "paper"

    name = "grad-cam-plus-plus"
    family = "activation"
    source = "Chattopadhay et al., WACV 2018, arXiv:1710.11063"
    signed = False
    needs = frozenset({"gradients"})
    passes = Cost(1, 0.05)

    def compute(self, batch: Batch) -> Values:
        """Return relu(sum_k w_k A_k), (n, h, w)."""
        activations, gradients = batch.activations_and_gradients(self.place)
        positive = gradients.clamp_min(0)
        alphas = self._alphas(activations, gradients)
        if self.variant == "official":
            total = alphas.sum((2, 3), keepdim=True)
            alphas = alphas / torch.where(total > 0, total, 1)
        weights = (alphas * positive).sum((2, 3))
        negative = (activations < 0).flatten(1).any(1).tolist()
        return Values(
            torch.einsum("nk,nkhw->nhw", weights, activations).relu(),
            flags=[{"negative-activations"} if flagged else set() for flagged in negative],
        )

    def _alphas(self, activations: Tensor, gradients: Tensor) -> Tensor:
        """Return the weights a (n, C, h, w) of the gradients, zero where the gradient is not positive."""
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
