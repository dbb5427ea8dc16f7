"""Opti-CAM: the mixture of activation maps whose mask keeps the class's score highest.

    S(u) = sum_k softmax(u)_k A_k
    M(u) = rho(upsample(S(u)))                                   rho scales to [0, 1]
    u*   = argmax_u z_c(M(u) (*) x)                              Adam from u = 0
    map  = M(u*)

In words: A mask for the image is mixed from a layer's activation maps, and the weights of the mixture are optimised for
this image by gradient ascent until the network's logit for the class on the masked image is as high as it gets. The map
is that mask, smooth and between 0 and 1, and shows support only. It costs a hundred forwards and backwards. The best
mask is not the most necessary region: it may darken what disturbs the class and keep surroundings that help it.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W) in [0, 1], the size of the images.
Units:  share of the image that is kept.
Source: Zhang et al., Computer Vision and Image Understanding 2024, arXiv:2301.07002.
Departs from source: all steps are done, where the authors' code stops early once the logit falls; activations are
    taken as they are, which that code rectifies first; gradients are in units of the first one, so that Adam's small
    constant does not depend on the unit of the score.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from xaikit.foundation.parameters import Count, Positive
from xaikit.images.shapes import unit, upsample
from xaikit.methods.base import METHODS, LayerMethod, Values
from xaikit.methods.perturbation.mask_search import Adam, Search, View, search_masks
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@METHODS.register
@dataclass(frozen=True)
class OptiCAM(LayerMethod):
    """Mask mixed from activation maps by weights that are optimised for the score of the masked image.

    Args:
        steps: number of gradient steps.
        rate: size of Adam's steps.
    """

    steps: Count = 100
    rate: Positive = 0.1

    name = "opti-cam"
    family = "activation"
    source = "Zhang et al., CVIU 2024, arXiv:2301.07002"
    signed = False
    needs = frozenset({"activations", "input-gradient"})

    def compute(self, batch: Batch) -> Values:
        """Return M(u*), (n, H, W)."""
        activations = batch.activations(self.place)

        def begin(rows: Tensor, copies: Tensor) -> Search:
            return _Mixture(batch.inputs[rows], activations[rows], self.rate)

        return Values(search_masks(batch, 1, self.steps, begin)[:, 0])

    def cost(self, size: tuple[int, int]) -> Cost:
        """One forward of the clean image, one forward and one backward per step."""
        return Cost(1 + self.steps, self.steps)


class _Mixture(Search):
    """The mixtures of one portion, which begin with equal weights."""

    def __init__(self, inputs: Tensor, activations: Tensor, rate: float) -> None:
        self.inputs, self.activations = inputs, activations
        self.parameters = activations.new_zeros(activations.shape[:2])
        self.adam = Adam(self.parameters, rate)
        self.unit = self.parameters[:, :1]

    def masks(self, parameters: Tensor) -> Tensor:
        mixed = torch.einsum("mk,mkhw->mhw", parameters.softmax(1), self.activations)
        return unit(upsample(mixed, (self.inputs.shape[2], self.inputs.shape[3])))[0]

    def views(self, masks: Tensor, step: int) -> list[View]:
        masked = self.inputs * masks[:, None].to(self.inputs.dtype)
        return [View(masked, masked.new_full((len(masked),), -1.0))]

    def penalty(self, parameters: Tensor, masks: Tensor, step: int) -> Tensor:
        return 0 * parameters.sum(1)

    def move(self, gradient: Tensor, step: int) -> None:
        if step == 0:
            largest = gradient.abs().amax(1, keepdim=True)
            self.unit = torch.where(largest > 0, largest, 1)
        self.parameters = self.parameters - self.adam.move(gradient / self.unit, step)
