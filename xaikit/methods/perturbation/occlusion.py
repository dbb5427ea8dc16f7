"""Occlusion: the drop of the score when a window of the image is covered.

    d_w = score(x) - score(x with window w filled)
    map(u) = mean of d_w over the windows w that cover pixel u

In words: A window is moved over the image and covered, by default with the mean colour; a pixel gets the mean drop of
the score over the windows that cover it. The map is coarse, as wide as the window, signed and specific to the class,
and needs no gradient. Its values are easy to read. It misses evidence that is present twice, and a covered window is
itself a pattern to which the network may respond. Smaller windows are finer and cost more forwards.

Windows lie on a regular grid; the last window of each axis ends at the border, so that every pixel is covered.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W), signed.
Units:  score (or probability).
Source: Zeiler & Fergus, ECCV 2014, section 3, arXiv:1311.2901.
Departs from source: values are the drop instead of the remaining score, and overlapping windows are averaged.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.foundation.parameters import Count
from xaikit.methods.base import METHODS, InputMethod, Values
from xaikit.methods.perturbation.scorer import PlainFill, Score, Scorer
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@METHODS.register
@dataclass(frozen=True)
class Occlusion(InputMethod):
    """Mean drop of the score over the windows that cover a pixel.

    Args:
        window: side of the window in pixels; None is a seventh of the image's short side.
        stride: distance between windows in pixels; None is half the window.
        fill: content of the window: the name of a fill, or pixels that broadcast to the images.
        score: "logit" is the explained score, "probability" is that of the class.
    """

    window: Count | None = None
    stride: Count | None = None
    fill: PlainFill | Tensor = "mean"
    score: Score = "logit"

    name = "occlusion"
    family = "perturbation"
    source = "Zeiler & Fergus, ECCV 2014, arXiv:1311.2901"

    def compute(self, batch: Batch) -> Values:
        """Return the mean drop over covering windows, (n, H, W)."""
        window, stride = self._grid(batch.size)
        scorer = Scorer(batch, self.fill, self.score)
        covered_rows = _cover(batch.size[0], window[0], stride).to(scorer.clean)
        covered_columns = _cover(batch.size[1], window[1], stride).to(scorer.clean)
        down, across = len(covered_rows), len(covered_columns)

        def masks(_: Tensor, windows: Tensor) -> Tensor:
            return 1 - covered_rows[windows // across, :, None] * covered_columns[windows % across, None, :]

        remaining = torch.stack(scorer.of_masks(down * across, masks))
        drops = scorer.clean[:, None, None] - remaining.reshape(len(batch), down, across)
        sums = torch.stack([covered_rows.T @ image_drops @ covered_columns for image_drops in drops])
        return Values(
            sums / torch.outer(covered_rows.sum(0), covered_columns.sum(0)),
            params={"window": window if window[0] != window[1] else window[0], "stride": stride},
        )

    def cost(self, size: tuple[int, int]) -> Cost:
        """Return a forward for the clean image and one per window."""
        window, stride = self._grid(size)
        down, across = (len(_starts(side, width, stride)) for side, width in zip(size, window, strict=True))
        return Cost(1 + down * across, 0)

    def _grid(self, size: tuple[int, int]) -> tuple[tuple[int, int], int]:
        """Return the window (h, w), clipped to the image, and the stride."""
        if self.window is not None and self.window > max(size):
            raise BadInput(f"window: expected at most the image's {max(size)} pixels, got {self.window}")
        side = self.window or max(1, round(min(size) / 7))
        window = (min(side, size[0]), min(side, size[1]))
        stride = self.stride or max(1, min(window) // 2)
        if stride > min(window):
            raise BadInput(
                f"stride: expected at most the window {min(window)}, got {stride}, which leaves pixels uncovered"
            )
        return window, stride


def _starts(length: int, window: int, stride: int) -> list[int]:
    count = math.ceil((length - window) / stride) + 1
    return [min(index * stride, length - window) for index in range(count)]


def _cover(length: int, window: int, stride: int) -> Tensor:
    """Return 1 where a window covers a position, (windows, length)."""
    starts = torch.tensor(_starts(length, window, stride), device="cpu")[:, None]
    position = torch.arange(length, device="cpu")[None, :]
    return ((position >= starts) & (position < starts + window)).float()
