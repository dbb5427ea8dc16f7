"""Feature ablation: the drop of the score when one segment of the image is removed.

    d_k = score(x) - score(x without segment k)
    map(u) = d_k at every pixel u of segment k

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W), signed, one value per segment.
Units:  score (or probability) per segment, not divided by its area.
Source: Kokhlikyan et al., arXiv:2009.07896 (captum); leaving one feature out, Zeiler & Fergus, ECCV 2014.
Departs from source: features are superpixels, computed by scikit-image.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from xaikit.foundation.parameters import Count
from xaikit.methods.base import METHODS, InputMethod, Values
from xaikit.methods.perturbation.scorer import MaskedFill, Score, Scorer
from xaikit.methods.perturbation.segments import (
    Segmentation,
    check_segmentation,
    flags_of,
    segment,
    segment_counts,
    spread,
)
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@METHODS.register
@dataclass(frozen=True)
class FeatureAblation(InputMethod):
    """Drop of the score when a segment is removed.

    Args:
        segmentation: slic, grid, quickshift, felzenszwalb, or segment numbers (H, W).
        segments: approximate number of segments of slic and grid.
        fill: content of a removed segment: the name of a fill, or pixels that broadcast to the images.
        score: "logit" is the explained score, "probability" is that of the class.
    """

    segmentation: Segmentation | Tensor = "slic"
    segments: Count = 64
    fill: MaskedFill | Tensor = "mean"
    score: Score = "logit"

    name = "feature-ablation"
    family = "perturbation"
    source = "Kokhlikyan et al., arXiv:2009.07896"

    def check(self) -> None:
        """Check the segmentation."""
        check_segmentation(self.segmentation)

    def compute(self, batch: Batch) -> Values:
        """Return each segment's drop at its pixels, (n, H, W)."""
        segments = segment(batch.pixels, self.segmentation, self.segments)
        counts = segment_counts(segments)
        scorer = Scorer(batch, self.fill, self.score, segments)
        remaining = scorer.of_coalitions([~torch.eye(count, dtype=torch.bool, device="cpu") for count in counts])
        drops = [clean - without for clean, without in zip(scorer.clean, remaining, strict=True)]
        return Values(
            spread(drops, segments),
            flags=flags_of(counts),
            diagnostics={"segments": torch.tensor(counts, device="cpu")},
        )

    def cost(self, size: tuple[int, int]) -> Cost:
        """Return a forward for the clean image and one per segment."""
        return Cost(1 + min(self.segments, size[0] * size[1]), 0)
