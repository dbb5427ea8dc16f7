"""Eigen-Grad-CAM: projection of gradient times activation on its first principal direction.

    B = G (*) A reshaped to (hw, C);  B = U S V^T;  map = B v_1 = S_1 u_1        G = d score / d A

In words: Activation times gradient is computed at each position and channel of a layer and reduced to its strongest
pattern over channels; the map shows that pattern at each position. It is coarse, signed and specific to the class.
Whatever is not part of the strongest pattern is left out, so a second object may be missing and the values do not add
up to the score. Take HiResCAM where all channels should count.

It is Eigen-CAM of G (*) A, which makes it class-specific. The sign is chosen so that the map agrees with the mean of
G (*) A, which is HiResCAM divided by the number of channels; the variants are those of Eigen-CAM (eigen_cam.py).

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, h, w), the layer's own grid, signed.
Units:  score, up to the length of v_1.
Source: Gildenblat, pytorch-grad-cam (EigenGradCAM), after Muhammad & Yeasin, IJCNN 2020, arXiv:2008.00299.
Departs from source: uncentred, as in the Eigen-CAM paper; pytorch-grad-cam centres (`variant="centred"`) and leaves the
    sign open.
"""

from dataclasses import dataclass

from xaikit.methods.activation.eigen_cam import Variant, first_direction
from xaikit.methods.base import METHODS, LayerMethod, Values
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@METHODS.register
@dataclass(frozen=True)
class EigenGradCAM(LayerMethod):
    """Projection of gradient times activation on its first principal direction.

    Args:
        variant: "uncentred" as in the Eigen-CAM paper, "centred" subtracts each channel's mean.
    """

    variant: Variant = "uncentred"

    name = "eigen-grad-cam"
    family = "activation"
    source = "Gildenblat, pytorch-grad-cam, 2021"
    needs = frozenset({"gradients"})
    passes = Cost(1, 0.1)

    def compute(self, batch: Batch) -> Values:
        """Return B v_1 of B = G (*) A, (n, h, w)."""
        activations, gradients = batch.activations_and_gradients(self.place)
        return Values(first_direction(gradients * activations, self.variant))
