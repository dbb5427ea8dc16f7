"""Group-CAM: groups of weighted activation maps, weighted by the confidence that each of them restores.

    S_l = relu(sum_{k in group l} mean_xy(G_k) A_k)         G = d score / d A, groups of neighbouring channels
    M_l = rho(upsample(S_l where it is above its quantile `removed`, else 0))        rho scales to [0, 1]
    w_l = p_c(M_l (*) x + (1 - M_l) (*) blur(x)) - p_c(blur(x))
    map = relu(sum_l w_l M_l)

In words: A layer's activation maps, weighted as in Grad-CAM, are added up in groups. The positive part of each group,
cleaned of its lowest values, shows that part of the picture on a blurred picture, and the probability gained by it is
the group's weight. The map shows support for the class only. It costs one forward per group, far fewer than Score-CAM.
Which channels share a group is their order in the network, which has no meaning.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W), the size of the images.
Units:  probability.
Source: Zhang et al., 2021, arXiv:2103.13859.
Departs from source: the blur is that of the fills of perturbation methods, a Gaussian of 10 pixels on a side of 224;
    the authors' is one of 50 pixels, cut off to 51 x 51. Where the channels are no multiple of the groups, there are as
    many groups as asked, whose sizes differ by one.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from xaikit.foundation.parameters import Count, Share
from xaikit.images.shapes import unit, upsample
from xaikit.methods.base import METHODS, LayerMethod, Values
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@METHODS.register
@dataclass(frozen=True)
class GroupCAM(LayerMethod):
    """Sum of the masks of groups of channels, each weighted by the confidence it restores.

    Args:
        groups: number of groups; at most one per channel is used.
        removed: share of the lowest values of a mask that is set to zero.
    """

    groups: Count = 32
    removed: Share = 0.7

    name = "group-cam"
    family = "activation"
    source = "Zhang et al. 2021, arXiv:2103.13859"
    signed = False
    needs = frozenset({"gradients", "probabilities"})

    def compute(self, batch: Batch) -> Values:
        """Return relu(sum_l w_l M_l), (n, H, W)."""
        activations, gradients = batch.activations_and_gradients(self.place)
        weighted = gradients.mean((2, 3), keepdim=True) * activations
        groups = weighted.tensor_split(min(self.groups, weighted.shape[1]), dim=1)
        sums = torch.stack([group.sum(1) for group in groups], dim=1).relu()
        blurred = batch.filled("blur", "fill").expand_as(batch.inputs)
        origin = batch.confidences_of(blurred, torch.arange(len(batch), device=blurred.device))

        def restored(rows: Tensor, items: Tensor) -> Tensor:
            masks = self._masks(sums[rows, items], batch.size)[:, None].to(blurred.dtype)
            return batch.confidences_of(torch.lerp(blurred[rows], batch.inputs[rows], masks), rows)

        maps = activations.new_zeros(len(batch), *batch.size)
        for rows, items, part in batch.pairs(len(groups), restored, "groups"):
            gain = (part - origin[rows]).to(maps)
            maps.index_add_(0, rows, gain[:, None, None] * self._masks(sums[rows, items], batch.size))
        return Values(maps.relu())

    def cost(self, size: tuple[int, int]) -> Cost:
        """One forward and tail backward, one forward of the blurred image, and one per group."""
        channels = self.classifier.outline().layers[self.place.name][0]
        return Cost(2 + min(self.groups, channels), 0.05)

    def _masks(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the masks (m, H, W) in [0, 1] of group sums (m, h, w)."""
        threshold = torch.quantile(maps.flatten(1), self.removed, dim=1)[:, None, None]
        return unit(upsample(torch.where(maps > threshold, maps, 0) if self.removed else maps, size))[0]
