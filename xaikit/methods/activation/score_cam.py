"""Score-CAM: activation maps weighted by the model's confidence in the image masked by each of them.

    H_k = rho(upsample(A_k))                  one mask per channel, in [0, 1]
    w_k = p_c(H_k (*) x)
    map = relu(sum_k w_k A_k)

In words: Each activation map of a layer, scaled to [0, 1], masks the image, and the probability that the network gives
to the class on the masked image is the map's weight. The positive part of the weighted sum is a coarse map of support
for the class. No gradient is needed, but one forward per channel is. The masked images differ from those the network
was trained on. A probability is never negative, so no channel is subtracted for speaking against the class.

weight "probability"          as above, the authors' code
weight "softmax-logit"        w = softmax_k(z_c(H_k (*) x)), the paper's text
weight "softmax-probability"  w = softmax_k(p_c(H_k (*) x))

Channels that are constant over space give no mask and are left out: their weight is 0 ("probability") or they are not
part of the softmax. Masks are computed in portions of (image, channel) pairs across all images, so memory does not grow
with the number of channels.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, h, w), the layer's own grid.
Source: Wang et al., CVPR Workshops 2020, eq. 6-8, arXiv:1910.01279, and the authors' code for "probability".
Departs from source: maps are summed on the layer's grid (upsampling is linear); the baseline's score, the same for all
    channels, is left out of the softmax, where it cancels.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from xaikit.images.shapes import unit, upsample
from xaikit.methods.base import METHODS, LayerMethod, Values
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@METHODS.register
@dataclass(frozen=True)
class ScoreCAM(LayerMethod):
    """Positive part of the sum of activation maps, each weighted by the confidence in the image it masks.

    Args:
        weight: form of the weights; see the module's formulas.
    """

    weight: Literal["probability", "softmax-logit", "softmax-probability"] = "probability"

    name = "score-cam"
    family = "activation"
    source = "Wang et al., CVPR Workshops 2020, arXiv:1910.01279"
    signed = False
    needs = frozenset({"activations", "probabilities"})

    def compute(self, batch: Batch) -> Values:
        """Return relu(sum_k w_k A_k), (n, h, w)."""
        activations = batch.activations(self.place)
        varies = activations.amax((2, 3)) > activations.amin((2, 3))
        weights = self._weights(self._masked_scores(batch, activations, varies), varies)
        return Values(
            torch.einsum("nk,nkhw->nhw", weights, activations).relu(),
            diagnostics={"channels": varies.sum(1)},
        )

    def cost(self, size: tuple[int, int]) -> Cost:
        """One forward of the clean image and one per channel."""
        channels = self.classifier.outline().layers[self.place.name][0]
        return Cost(1 + channels, 0)

    def _masked_scores(self, batch: Batch, activations: Tensor, varies: Tensor) -> Tensor:
        """Return the logit or probability (n, C) of the image masked by each channel that varies over space."""
        rows, channels = varies.nonzero(as_tuple=True)
        score = batch.scores_of if self.weight == "softmax-logit" else batch.confidences_of

        def masked(pairs: Tensor) -> Tensor:
            mask = unit(upsample(activations[rows[pairs], channels[pairs]], batch.size))[0]
            return score(batch.inputs[rows[pairs]] * mask[:, None], rows[pairs])

        scores = activations.new_zeros(varies.shape)
        for pairs, part in batch.packed(len(rows), masked, "masked images"):
            scores[rows[pairs], channels[pairs]] = part.to(scores)
        return scores

    def _weights(self, scores: Tensor, varies: Tensor) -> Tensor:
        if self.weight == "probability":
            return scores
        any_varies = varies.any(1, keepdim=True)
        return torch.where(any_varies, scores.masked_fill(~varies & any_varies, -torch.inf).softmax(1), 0)
