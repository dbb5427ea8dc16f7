"""Shapley value sampling: Shapley values of the segments, averaged over random orders in which they appear.

    v(S) = score of x with the segments outside S filled
    phi_k = mean over orders of  v(segments before k, and k) - v(segments before k)
    map(u) = phi_k at every pixel u of segment k

In words: The image is cut into superpixels, about 64 by default, which appear one after the other in a random order; a
superpixel gets the change of the score when it appears, averaged over several orders. The map is blocky, signed and
specific to the class, and adds up over segments to the score minus that of the empty image, for any number of orders.
Segmentation and fill decide much of it. It costs a forward per segment and order, and few orders are noisy.

Kernel SHAP estimates the same values by a regression. The orders depend on the seed and the content of the image only.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W), signed, one value per segment.
Units:  score (or probability) per segment, not divided by its area.
Source: Castro et al., Computers & Operations Research 2009.
Departs from source: features are superpixels, missing ones are filled.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from xaikit.foundation.parameters import Count, check_table
from xaikit.methods.base import METHODS, Values
from xaikit.methods.perturbation.scorer import Scorer
from xaikit.methods.perturbation.segment_method import SegmentMethod
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@METHODS.register
@dataclass(frozen=True)
class ShapleySampling(SegmentMethod):
    """Shapley values of the segments, averaged over random orders.

    Args:
        samples: number of orders.
    """

    samples: Count = 25

    name = "shapley-sampling"
    source = "Castro et al., Computers & Operations Research 2009"

    def compute(self, batch: Batch) -> Values:
        """Return each segment's mean contribution at its pixels, (n, H, W)."""
        segments, counts = self.segmented(batch)
        check_table("samples", self.samples * max(counts), max(counts), "lower samples or segments")
        orders = [
            torch.stack([torch.randperm(count, generator=stream, device="cpu") for _ in range(self.samples)])
            for count, stream in zip(counts, batch.generators(self.name), strict=True)
        ]
        scorer = Scorer(batch, self.fill, self.score, segments)
        scores = scorer.of_coalitions([_beginnings(order) for order in orders])
        values, gaps = [], []
        for order, score, clean in zip(orders, scores, scorer.clean, strict=True):
            ends = score[:1].expand(self.samples, 1), clean.expand(self.samples, 1)
            along = torch.cat([ends[0], score[1:].reshape(self.samples, -1), ends[1]], dim=1).double()
            changes = torch.zeros_like(along[:, 1:]).scatter(1, order.to(along.device), along.diff(dim=1))
            values.append(changes.mean(0).to(score))
            gaps.append(values[-1].sum() - clean + score[0])
        return self.spread(values, segments, counts, completeness=torch.stack(gaps))

    def cost(self, size: tuple[int, int]) -> Cost:
        """Return a forward for the clean and for the empty image, and one per order and segment but the last."""
        return Cost(2 + self.samples * (min(self.segments, size[0] * size[1]) - 1), 0)


def _beginnings(order: Tensor) -> Tensor:
    """Return the empty coalition, then the first 1 ... M - 1 segments of each order (s, M), (1 + s (M - 1), M) bool."""
    ranks = order.argsort(1)
    count = order.shape[1]
    kept = ranks[:, None, :] < torch.arange(1, count, device="cpu")[:, None]
    return torch.cat([kept.new_zeros(1, count), kept.flatten(0, 1)])
