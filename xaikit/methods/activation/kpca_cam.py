"""KPCA-CAM: projection of the activations on the first principal component of a kernel, without class or gradient.

    b_p = A at position p, minus each channel's mean over positions                        a vector of C numbers
    K_pq = tanh(b_p . b_q / C + 1) "sigmoid",  exp(-|b_p - b_q|^2 / C) "rbf",  b_p . b_q "linear"
    K centred over rows and columns = V diag(s) V^T;   map = sqrt(s_1) v_1        s_1 the largest

In words: As in Eigen-CAM, the activations of a layer are reduced to their strongest pattern, but positions are compared
by a kernel, so that the pattern need not be a sum of channels. The map shows the pattern at each position. It is coarse
and signed, and it ignores the class: every class gets the same map. It costs one forward and no gradient. Strength is
relative to the mean position of the picture, which is zero.

The sign is chosen so that the largest absolute value is positive. The linear kernel is Eigen-CAM's variant "centred".

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, h, w), the layer's own grid, signed.
Source: Karmani et al., 2024, arXiv:2410.00267; kernel PCA: Schoelkopf et al., Neural Computation 1998.
Departs from source: the paper leaves the sign open.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from xaikit.foundation.parameters import check_table
from xaikit.methods.base import METHODS, LayerMethod, Values
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@METHODS.register
@dataclass(frozen=True)
class KPCACAM(LayerMethod):
    """Projection of the activations on the first principal component of a kernel.

    Args:
        kernel: how positions are compared: "sigmoid" as in the paper, "rbf" or "linear".
    """

    kernel: Literal["sigmoid", "rbf", "linear"] = "sigmoid"

    name = "kpca-cam"
    family = "activation"
    source = "Karmani et al. 2024, arXiv:2410.00267"
    class_specific = False
    needs = frozenset({"activations"})
    passes = Cost(1, 0)

    def compute(self, batch: Batch) -> Values:
        """Return sqrt(s_1) v_1, (n, h, w)."""
        activations = batch.activations(self.place)
        rows = activations.flatten(2).transpose(1, 2).double()
        check_table("positions of the layer", rows.shape[1], rows.shape[1], "take a deeper layer")
        maps = torch.stack([self._component(image) for image in rows])
        return Values(maps.reshape(len(maps), *activations.shape[2:]).to(activations.dtype))

    def _component(self, rows: Tensor) -> Tensor:
        """Return the first kernel component (P,) of one image's positions (P, C)."""
        rows = rows - rows.mean(0)
        kernel = rows @ rows.T
        if self.kernel == "sigmoid":
            kernel = (kernel / rows.shape[1] + 1).tanh()
        elif self.kernel == "rbf":
            squares = kernel.diagonal()
            kernel = ((2 * kernel - squares[:, None] - squares) / rows.shape[1]).exp()
        centred = kernel - kernel.mean(0) - kernel.mean(1, keepdim=True) + kernel.mean()
        sizes, vectors = torch.linalg.eigh(centred)
        rounding = 8 * len(rows) * torch.finfo(kernel.dtype).eps * kernel.abs().amax()
        component: Tensor = torch.where(sizes[-1] > rounding, sizes[-1], 0).sqrt() * vectors[:, -1]
        return component * torch.where(component[component.abs().argmax()] < 0, -1.0, 1.0)
