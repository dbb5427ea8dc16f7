"""Feature ablation: the drop of the score when one segment of the image is removed.

    d_k = score(x) - score(x without segment k)
    map(u) = d_k at every pixel u of segment k

In words: The image is cut into superpixels, about 64 by default, and each is covered in turn; every pixel of it gets
the drop of the score. The map is blocky, signed and specific to the class, and needs no gradient. A drop tells what the
segment adds while the rest is visible: if two segments carry the same evidence, both can get little. Values depend on
the segmentation, on the fill, and on the size of a segment. It costs one forward per segment.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W), signed, one value per segment.
Units:  score (or probability) per segment, not divided by its area.
Source: Kokhlikyan et al., arXiv:2009.07896 (captum); leaving one feature out, Zeiler & Fergus, ECCV 2014.
Departs from source: features are superpixels, computed by scikit-image.
"""

from dataclasses import dataclass

import torch

from xaikit.foundation.parameters import check_table
from xaikit.methods.base import METHODS, Values
from xaikit.methods.perturbation.scorer import Scorer
from xaikit.methods.perturbation.segment_method import SegmentMethod
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@METHODS.register
@dataclass(frozen=True)
class FeatureAblation(SegmentMethod):
    """Drop of the score when a segment is removed."""

    name = "feature-ablation"
    source = "Kokhlikyan et al., arXiv:2009.07896"

    def compute(self, batch: Batch) -> Values:
        """Return each segment's drop at its pixels, (n, H, W)."""
        segments, counts = self.segmented(batch)
        check_table("segments", max(counts), max(counts), "lower segments")
        scorer = Scorer(batch, self.fill, self.score, segments)
        remaining = scorer.of_coalitions([~torch.eye(count, dtype=torch.bool, device="cpu") for count in counts])
        drops = [clean - without for clean, without in zip(scorer.clean, remaining, strict=True)]
        return self.spread(drops, segments, counts)

    def cost(self, size: tuple[int, int]) -> Cost:
        """Return a forward for the clean image and one per segment."""
        return Cost(1 + min(self.segments, size[0] * size[1]), 0)
