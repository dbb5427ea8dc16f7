"""Eigen-CAM: projection of the activations on their first principal direction, without class or gradient.

    B = A reshaped to (hw, C);  B = U S V^T;  map = B v_1 = S_1 u_1

In words: The activations of a layer are reduced to the one pattern over channels that is strongest in this image, and
the map shows how strong that pattern is at each position. It is coarse, and it ignores the class: every class gets the
same map. After a ReLU it has no negative values. It costs one forward and no gradient. Take it to see where the layer
responds most, not to ask why the network chose a class.

The sign is chosen so that the map agrees with the mean activation; non-negative activations then give a non-negative
map. Only the smaller of the matrices B B^T (hw x hw) and B^T B (C x C) is computed.

variant "uncentred"  as above
variant "centred"    each channel's mean over space is subtracted first, as pytorch-grad-cam does; the sign then makes
                     the largest absolute value positive

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, h, w), the layer's own grid.
Source: Muhammad & Yeasin, IJCNN 2020, arXiv:2008.00299.
Departs from source: the paper leaves the sign open.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from xaikit.methods.base import METHODS, LayerMethod, Values
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost

Variant = Literal["uncentred", "centred"]


@METHODS.register
@dataclass(frozen=True)
class EigenCAM(LayerMethod):
    """Projection of the activations on their first principal direction.

    Args:
        variant: "uncentred" as in the paper, "centred" subtracts each channel's mean.
    """

    variant: Variant = "uncentred"

    name = "eigen-cam"
    family = "activation"
    source = "Muhammad & Yeasin, IJCNN 2020, arXiv:2008.00299"
    class_specific = False
    needs = frozenset({"activations"})
    passes = Cost(1, 0)

    def compute(self, batch: Batch) -> Values:
        """Return B v_1, (n, h, w)."""
        return Values(first_direction(batch.activations(self.place), self.variant))


def first_direction(maps: Tensor, variant: Variant) -> Tensor:
    """Return the projection B v_1 (n, h, w) of maps (n, C, h, w), with the sign of the variant."""
    rows = maps.flatten(2).transpose(1, 2).double()
    if variant == "centred":
        rows = rows - rows.mean(1, keepdim=True)
    projected = _first_projection(rows)
    if variant == "centred":
        agreement = projected.gather(1, projected.abs().argmax(1, keepdim=True))
    else:
        agreement = (projected * rows.mean(2)).sum(1, keepdim=True)
    sign = torch.where(agreement < 0, -1.0, 1.0)
    return (sign * projected).reshape(len(maps), *maps.shape[2:]).to(maps.dtype)


def _first_projection(rows: Tensor) -> Tensor:
    """Return S_1 u_1 (n, P) of matrices (n, P, C), from the smaller Gram matrix."""
    tall = rows.shape[1] > rows.shape[2]
    gram = rows.transpose(1, 2) @ rows if tall else rows @ rows.transpose(1, 2)
    values, vectors = torch.linalg.eigh(gram)
    first: Tensor = vectors[:, :, -1]
    if tall:
        return torch.einsum("npc,nc->np", rows, first)
    scale: Tensor = values[:, -1:].clamp_min(0).sqrt()
    return scale * first
