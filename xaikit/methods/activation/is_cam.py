"""IS-CAM: Score-CAM with confidences averaged over masked images from dark to full strength.

    H_k = rho(upsample(A_k))                       one mask per channel, in [0, 1]
    w_k = mean_i p_c(i / steps H_k (*) x)          i = 1 ... steps
    map = relu(sum_k w_k A_k)

In words: As in Score-CAM, each activation map of a layer masks the image, and the probability that the network gives to
the class weights the map. Here the masked image is also shown at lower strengths, and the probabilities are averaged,
as Integrated Gradients average over a path. The map is coarse and shows support for the class only. It needs no
gradient, but one forward per channel and step. Faint masked images are even less like those the network knows.

Channels that are constant over space give no mask; their weight is 0. One step is Score-CAM; with more, the map depends
less on the class: the rank correlation with the map of another class is .89 with 10, .52 for Score-CAM (texture-cnn, 8
drawn pictures).

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, h, w), the layer's own grid.
Source: Naidu et al., 2020, arXiv:2010.03023.
Departs from source: weights are probabilities, as in the authors' code of Score-CAM, and not their softmax over
    channels; strengths are i / steps, as in Integrated Gradients (torchcam adds them up, beyond the image itself).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from xaikit.foundation.parameters import Count
from xaikit.methods.activation.score_cam import masked_scores
from xaikit.methods.base import METHODS, LayerMethod, Values
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@METHODS.register
@dataclass(frozen=True)
class ISCAM(LayerMethod):
    """Positive part of the sum of activation maps, each weighted by the mean confidence along a path of masked images.

    Args:
        steps: number of strengths of the masked image.
    """

    steps: Count = 10

    name = "is-cam"
    family = "activation"
    source = "Naidu et al. 2020, arXiv:2010.03023"
    signed = False
    needs = frozenset({"activations", "probabilities"})

    def compute(self, batch: Batch) -> Values:
        """Return relu(sum_k w_k A_k), (n, h, w)."""
        activations = batch.activations(self.place)

        def fainter(masks: Tensor, rows: Tensor, channels: Tensor, steps: Tensor) -> Tensor:
            return masks * ((steps + 1) / self.steps).to(masks)[:, None, None]

        weights = masked_scores(batch, activations, batch.confidences_of, self.steps, fainter)
        return Values(torch.einsum("nk,nkhw->nhw", weights, activations).relu())

    def cost(self, size: tuple[int, int]) -> Cost:
        """One forward of the clean image and one per channel and step."""
        return Cost(1 + self.steps * self.classifier.outline().layers[self.place.name][0], 0)
