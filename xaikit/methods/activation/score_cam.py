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

from collections.abc import Callable
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
        score = batch.scores_of if self.weight == "softmax-logit" else batch.confidences_of
        weights = self._weights(masked_scores(batch, activations, score), varies)
        return Values(
            torch.einsum("nk,nkhw->nhw", weights, activations).relu(),
            diagnostics={"channels": varies.sum(1)},
        )

    def cost(self, size: tuple[int, int]) -> Cost:
        """One forward of the clean image and one per channel."""
        channels = self.classifier.outline().layers[self.place.name][0]
        return Cost(1 + channels, 0)

    def _weights(self, scores: Tensor, varies: Tensor) -> Tensor:
        if self.weight == "probability":
            return scores
        any_varies = varies.any(1, keepdim=True)
        return torch.where(any_varies, scores.masked_fill(~varies & any_varies, -torch.inf).softmax(1), 0)


def masked_scores(
    batch: Batch,
    activations: Tensor,
    score: Callable[[Tensor, Tensor], Tensor],
    samples: int = 1,
    change: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor] | None = None,
) -> Tensor:
    """Return the mean score (n, C) of the image masked by each channel, and 0 for channels constant over space.

    Args:
        batch: the images.
        activations: (n, C, h, w), which become the masks.
        score: returns the scores (m,) of inputs (m, C, H, W) for the targets of images (m,).
        samples: number of forwards per channel.
        change: returns the masks (m, H, W) that are used, from masks (m, H, W) and the indices (m,) of their images,
            channels and samples.
    """
    rows, channels = (activations.amax((2, 3)) > activations.amin((2, 3))).nonzero(as_tuple=True)

    def masked(pairs: Tensor) -> Tensor:
        places, sample = pairs // samples, pairs % samples
        row, channel = rows[places], channels[places]
        mask = unit(upsample(activations[row, channel], batch.size))[0]
        mask = mask if change is None else change(mask, row, channel, sample)
        return score(batch.inputs[row] * mask[:, None], row)

    scores = activations.new_zeros(activations.shape[:2]).flatten()
    index = rows * activations.shape[1] + channels
    for pairs, part in batch.packed(len(rows) * samples, masked, "masked images"):
        scores.index_add_(0, index[pairs // samples], part.to(scores))
    return scores.reshape(activations.shape[:2]) / samples
