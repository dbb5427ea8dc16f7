"""SS-CAM: Score-CAM with confidences averaged over noisy copies of each mask.

    H_k = rho(upsample(A_k))                                 one mask per channel, in [0, 1]
    w_k = mean_i p_c((H_k + e_i) (*) x)                      e_i ~ N(0, deviation^2) at every pixel, i = 1 ... samples
    map = relu(sum_k w_k A_k)

In words: As in Score-CAM, each activation map of a layer masks the image, and the probability that the network gives to
the class weights the map. Here noise is added to the mask, and the probability is averaged over several draws, so that
a weight depends less on the exact mask. The map is coarse and shows support for the class only. It needs no gradient,
but one forward per channel and draw. With much noise the weights say little about the masks.

Channels that are constant over space give no mask; their weight is 0. Without noise it is Score-CAM. The draws depend
on the seed and the content of the image only.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, h, w), the layer's own grid.
Source: Wang et al., 2020, arXiv:2006.14255, SS-CAM (1), noise in the activation map.
Departs from source: weights are probabilities, as in the authors' code of Score-CAM; by default the deviation
    is 0.1. With the paper's 2, twice a mask's range, the map hardly depends on the class: the rank correlation with the
    map of another class is .99, also with 35 draws, but .52 with 0.1, as for Score-CAM (texture-cnn, 8 drawn pictures).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from xaikit.foundation.identity import generator
from xaikit.foundation.parameters import Count, NotNegative
from xaikit.methods.activation.score_cam import masked_scores
from xaikit.methods.base import METHODS, LayerMethod, Values
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@METHODS.register
@dataclass(frozen=True)
class SSCAM(LayerMethod):
    """Positive part of the sum of activation maps, each weighted by the mean confidence under its noisy mask.

    Args:
        samples: number of noisy copies of each mask.
        deviation: standard deviation of the noise, where a mask's range is 1.
    """

    samples: Count = 10
    deviation: NotNegative = 0.1

    name = "ss-cam"
    family = "activation"
    source = "Wang et al. 2020, arXiv:2006.14255"
    signed = False
    needs = frozenset({"activations", "probabilities"})

    def compute(self, batch: Batch) -> Values:
        """Return relu(sum_k w_k A_k), (n, h, w)."""
        activations = batch.activations(self.place)

        def noisy(masks: Tensor, rows: Tensor, channels: Tensor, samples: Tensor) -> Tensor:
            draws = zip(rows.tolist(), channels.tolist(), samples.tolist(), strict=True)
            noise = torch.stack([self._noise(batch, *draw) for draw in draws])
            return masks + self.deviation * noise.to(masks)

        weights = masked_scores(batch, activations, batch.confidences_of, self.samples, noisy)
        return Values(torch.einsum("nk,nkhw->nhw", weights, activations).relu())

    def cost(self, size: tuple[int, int]) -> Cost:
        """One forward of the clean image and one per channel and draw."""
        return Cost(1 + self.samples * self.classifier.outline().layers[self.place.name][0], 0)

    @staticmethod
    def _noise(batch: Batch, row: int, channel: int, sample: int) -> Tensor:
        """Return the noise (H, W) of one draw for one channel of one image, on the CPU."""
        stream = generator(batch.context.seed, batch.hashes[row], "noise", f"{channel} {sample}")
        return torch.randn(batch.size, generator=stream, dtype=torch.float32, device="cpu")
