"""Score-CAM: activation maps weighted by the confidence that each keeps when it masks the image.

    H_k = rho(upsample(A_k))                  one mask a channel, in [0, 1]
    w_k = p_c(H_k (*) x)
    map = relu(sum_k w_k A_k)

weight "probability"          as above, the authors' code
weight "softmax-logit"        w = softmax_k(z_c(H_k (*) x)), the paper's text
weight "softmax-probability"  w = softmax_k(p_c(H_k (*) x))

Channels that are constant over space mask nothing and are left out: their weight is 0 ("probability") or they do not
take part in the softmax. Masks are made a portion at a time and the pairs of (image, channel) of all images are packed,
so memory does not grow with the number of channels.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, h, w), the layer's own grid.
Source: Wang et al., CVPR Workshops 2020, eq. 6-8, arXiv:1910.01279, and the authors' code for "probability".
Departs from source: maps are summed on the layer's grid (upsampling is linear); the baseline's score, the same for all
    channels, is left out of the softmax, where it cancels.
"""

from __future__ import annotations

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
    """Activation maps weighted by the confidence of the images that they mask.

    Args:
        weight: what a channel counts; see the formula.
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
        spoken = activations.amax((2, 3)) > activations.amin((2, 3))
        weights = self._weights(self._kept(batch, activations, spoken), spoken)
        return Values(
            torch.einsum("nk,nkhw->nhw", weights, activations).relu(),
            diagnostics={"channels": spoken.sum(1)},
        )

    def cost(self, size: tuple[int, int]) -> Cost:
        """The clean image and one forward a channel."""
        channels = self.classifier.outline().layers[self.place.name][0]
        return Cost(1 + channels, 0)

    def _kept(self, batch: Batch, activations: Tensor, spoken: Tensor) -> Tensor:
        """Return the logit or probability (n, C) that each channel's mask keeps."""
        rows, channels = spoken.nonzero(as_tuple=True)
        kept_by = batch.scores_of if self.weight == "softmax-logit" else batch.confidences_of

        def masked(places: Tensor) -> Tensor:
            mask = unit(upsample(activations[rows[places], channels[places]], batch.size))[0]
            return kept_by(batch.inputs[rows[places]] * mask[:, None], rows[places])

        kept = activations.new_zeros(spoken.shape)
        for places, found in batch.packed(len(rows), masked, "masked images"):
            kept[rows[places], channels[places]] = found.to(kept)
        return kept

    def _weights(self, kept: Tensor, spoken: Tensor) -> Tensor:
        if self.weight == "probability":
            return kept
        some = spoken.any(1, keepdim=True)
        return torch.where(some, kept.masked_fill(~spoken & some, -torch.inf).softmax(1), 0)
