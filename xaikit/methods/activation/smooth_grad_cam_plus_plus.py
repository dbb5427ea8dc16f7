"""Smooth Grad-CAM++: Grad-CAM++ with powers of the gradient averaged over noisy copies of the image.

    D_j   = mean_i G_i^j            G_i = d score / d A at x + e_i,  e_i ~ N(0, (level * range of x)^2),  j = 1, 2, 3
    a_kxy = D_2 / (2 D_2 + S_k D_3)          S_k = sum_xy A_kxy
    w_k   = sum_xy a_kxy relu(D_1)
    map   = relu(sum_k w_k A_k)

In words: Grad-CAM++ weights a layer's activation maps by a weighted sum of their positive gradients. Here the gradient,
its square and its cube are averaged over several copies of the image with random noise, which removes some of their
speckle. The map is coarse and shows support for the class only. No weight is negative, so regions of other classes may
stay visible. It needs activations that are not negative, as after a ReLU, and a pass per copy.

A are the activations of the clean image. All draws depend on the seed and the content of the image only.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, h, w), the layer's own grid.
Source: Omeiza et al., 2019, arXiv:1908.01224.
Departs from source: the numerator is D_2 as in Grad-CAM++, where the paper's equation has D_1; where the denominator
    vanishes or is negative the weight is 0.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from xaikit.foundation.parameters import Count, NotNegative
from xaikit.images.shapes import per_image
from xaikit.methods.base import METHODS, LayerMethod, Values
from xaikit.methods.gradient.noise import copy_noise
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost

_EPSILON = 1e-7


@METHODS.register
@dataclass(frozen=True)
class SmoothGradCAMPlusPlus(LayerMethod):
    """Grad-CAM++ of mean powers of the gradient over noisy copies.

    Args:
        samples: number of noisy copies per image.
        level: standard deviation of the noise, as a share of the image's range.
    """

    samples: Count = 20
    level: NotNegative = 0.1

    name = "smooth-grad-cam-plus-plus"
    family = "activation"
    source = "Omeiza et al. 2019, arXiv:1908.01224"
    signed = False
    needs = frozenset({"gradients"})

    def compute(self, batch: Batch) -> Values:
        """Return relu(sum_k w_k A_k), (n, h, w)."""
        activations = batch.activations(self.place)
        image_range = batch.inputs.amax((1, 2, 3)) - batch.inputs.amin((1, 2, 3))
        sigma = per_image(self.level * image_range, batch.inputs)

        def gradients(rows: Tensor, copies: Tensor) -> Tensor:
            drawn = [copy_noise(batch, row, copy) for row, copy in zip(rows.tolist(), copies.tolist(), strict=True)]
            noisy = batch.inputs[rows] + sigma[rows] * torch.stack(drawn).to(batch.inputs)
            return batch.at(noisy, rows).activations_and_gradients(self.place)[1]

        first, second, third = (torch.zeros_like(activations, dtype=torch.float64) for _ in range(3))
        for rows, _, values in batch.pairs(self.samples, gradients, "noisy copies"):
            for power, total in enumerate((first, second, third), 1):
                total.index_add_(0, rows, values.double() ** power / self.samples)
        denominator = 2 * second + activations.sum((2, 3), keepdim=True) * third
        usable = denominator > _EPSILON * second
        alphas = torch.where(usable, second / torch.where(usable, denominator, 1), 0)
        weights = (alphas * first.clamp_min(0)).sum((2, 3)).to(activations)
        negative = (activations < 0).flatten(1).any(1).tolist()
        return Values(
            torch.einsum("nk,nkhw->nhw", weights, activations).relu(),
            flags=[{"negative-activations"} if flagged else set() for flagged in negative],
        )

    def cost(self, size: tuple[int, int]) -> Cost:
        """One forward of the clean image, then a forward and a tail backward per copy."""
        return Cost(1 + self.samples, 0.05 * self.samples)
