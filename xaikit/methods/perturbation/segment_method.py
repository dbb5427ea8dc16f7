"""The base of methods that switch segments on and off: their parameters, and maps with one value per segment."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from xaikit.foundation.parameters import Count
from xaikit.methods.base import InputMethod, Values
from xaikit.methods.perturbation.scorer import MaskedFill, Score
from xaikit.methods.perturbation.segments import Segmentation, check_segmentation, segment
from xaikit.run.batch import Batch


@dataclass(frozen=True)
class SegmentMethod(InputMethod):
    """A method whose map has one value per segment.

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

    family = "perturbation"

    def check(self) -> None:
        """Check the segmentation."""
        check_segmentation(self.segmentation)

    def segmented(self, batch: Batch) -> tuple[Tensor, list[int]]:
        """Return the segment number of each pixel (n, H, W), and the number of segments of each image."""
        segments = segment(batch.pixels, self.segmentation, self.segments)
        return segments, [int(number) + 1 for number in segments.flatten(1).amax(1).tolist()]

    def spread(self, values: list[Tensor], segments: Tensor, counts: list[int], **more: Any) -> Values:
        """Return maps (n, H, W) in which each pixel has the value of its segment.

        Args:
            values: one tensor (M,) per image, with a value per segment.
            segments: (n, H, W) segment numbers.
            counts: number of segments of each image; a single one sets the flag `one-segment`.
            **more: completeness, params and diagnostics of `Values`.
        """
        diagnostics = {"segments": torch.tensor(counts, device="cpu")} | more.pop("diagnostics", {})
        flags = [{"one-segment"} if count == 1 else set[str]() for count in counts]
        maps = torch.stack([image_values[numbers] for image_values, numbers in zip(values, segments, strict=True)])
        return Values(maps, flags=flags, diagnostics=diagnostics, **more)
