"""The scorer of all perturbation methods: scores of a batch's images under many masks.

    (image, mask) pairs of the whole batch -> full portions -> m * x + (1 - m) * b -> score of the image's target

Each portion builds its own masks, so memory does not grow with the number of masks. Portions are halved when memory
runs out. The network runs without gradients, in the context's precision; what it keeps stays an ordinary tensor.

    of_masks        masks (m, H, W) in [0, 1], given as a function of (image, item)
    of_coalitions   segments on or off: true keeps a segment, z[:, segments] is the mask

Scores that differ by their rounding alone count as equal, so that a map is not made of it.

The fills "segment-mean" and "inpaint" add to those of images/fills.py; "inpaint" rounds masks to 0 and 1.

Shapes: inputs (N, C, H, W); masks (m, H, W); segments (N, H, W); coalitions (count, M) bool per image; scores (count,).
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from xaikit.images.fills import Fill, inpainted, segment_mean
from xaikit.run.batch import Batch

PlainFill = Literal["mean", "black", "white", "image-mean", "blur", "noise", "inpaint"]
"""Fills that need no segments."""
MaskedFill = Literal["mean", "black", "white", "image-mean", "blur", "noise", "inpaint", "segment-mean"]
Score = Literal["logit", "probability"]
Masks = Callable[[Tensor, Tensor], Tensor]
_ROUNDING_STEPS = 8  # largest difference of equal scores, in rounding steps of the largest


class Scorer:
    """Scores masked images of one batch.

    Args:
        batch: the images, their targets and the context.
        fill: content of removed pixels: the name of a fill, or pixels that broadcast to the images.
        score: "logit" is the explained score, "probability" is the class probability (`Target.confidence`).
        segments: (N, H, W) segment numbers, needed for coalitions and the fill "segment-mean".
    """

    def __init__(
        self, batch: Batch, fill: MaskedFill | Tensor = "mean", score: Score = "logit", segments: Tensor | None = None
    ) -> None:
        self.batch = batch
        self.segments = segments
        self._score: Score = score
        self._inpaints = not isinstance(fill, Tensor) and fill == "inpaint"
        self._inputs = batch.inputs
        filled = self._filled(fill)
        self._fills = filled.expand(len(batch), -1, -1, -1) if bool(filled.any()) else None

    def _filled(self, fill: MaskedFill | Tensor) -> Tensor:
        batch = self.batch
        if isinstance(fill, Tensor) or fill not in ("segment-mean", "inpaint"):
            plain: Fill | Tensor = fill  # type: ignore[assignment]
            return batch.filled(plain, "fill")
        if fill == "inpaint":
            return batch.inputs.new_zeros(1, 1, 1, 1)
        assert self.segments is not None
        return batch.classifier.normalize(segment_mean(batch.pixels, self.segments))

    @cached_property
    def clean(self) -> Tensor:
        """(n,) score of each unchanged image."""
        return self.batch.confidences if self._score == "probability" else self.batch.scores

    def of_masks(self, counts: int | Sequence[int], masks: Masks, unit: str = "forwards") -> list[Tensor]:
        """Return the scores (count,) of each image under its masks, all equal if they differ by rounding alone.

        Args:
            counts: number of masks of each image, or one number for all images.
            masks: returns the masks (m, H, W) in [0, 1] of items (m,) for images `rows` (m,); 1 keeps a pixel.
            unit: name of the pairs in progress reports.
        """
        counts = [counts] * len(self.batch) if isinstance(counts, int) else list(counts)
        device = self._inputs.device
        rows = torch.cat([torch.full((count,), row, device="cpu") for row, count in enumerate(counts)]).to(device)
        items = torch.cat([torch.arange(count, device="cpu") for count in counts]).to(device)

        def score(pairs: Tensor) -> Tensor:
            return self.at(rows[pairs], masks(rows[pairs], items[pairs]))

        scores = self.clean.new_zeros(len(rows))
        for pairs, portion in self.batch.packed(len(rows), score, unit):
            scores[pairs] = portion.to(scores)
        return [_settled(own, clean) for own, clean in zip(torch.split(scores, counts), self.clean, strict=True)]

    def of_coalitions(self, coalitions: Sequence[Tensor], unit: str = "forwards") -> list[Tensor]:
        """Return the scores (count,) of each image for its coalitions (count, M), true where a segment is kept."""
        assert self.segments is not None
        segments = self.segments.flatten(1)
        largest = [max(sides) for sides in zip(*(kept.shape for kept in coalitions), strict=True)]
        table = torch.zeros(len(coalitions), *largest, dtype=torch.bool, device="cpu")
        for image, kept in enumerate(coalitions):
            table[image, : kept.shape[0], : kept.shape[1]] = kept
        table = table.to(segments.device)

        def masks(rows: Tensor, items: Tensor) -> Tensor:
            return table[rows, items].gather(1, segments[rows]).reshape(-1, *self.batch.size)

        return self.of_masks([len(kept) for kept in coalitions], masks, unit)

    def of_image(self, row: int, masks: Tensor) -> Tensor:
        """Return the scores (k,) of one image under masks (k, H, W)."""
        rows = torch.full((len(masks),), row, device=self._inputs.device)
        masks = masks.to(rows.device)
        portions = self.batch.packed(len(rows), lambda items: self.at(rows[items], masks[items]))
        return torch.cat([scores for _, scores in portions])

    def at(self, rows: Tensor, masks: Tensor) -> Tensor:
        """Return the scores (m,) of images `rows` (m,) under masks (m, H, W)."""
        score_of = self.batch.confidences_of if self._score == "probability" else self.batch.scores_of
        with torch.no_grad():
            return score_of(self.masked(rows, masks), rows)

    def masked(self, rows: Tensor, masks: Tensor) -> Tensor:
        """Return images `rows` (m,) under masks (m, H, W), in the network's coordinates (m, C, H, W)."""
        if self._inpaints:
            pixels = self.batch.pixels[rows]
            return self.batch.classifier.normalize(inpainted(pixels, masks > 0.5))
        images = self._inputs[rows]
        weights = masks[:, None].to(images.dtype)
        return images.mul_(weights) if self._fills is None else torch.lerp(self._fills[rows], images, weights)


def rounding(scores: Tensor) -> Tensor:
    """Return the largest difference between scores (...) that may be rounding alone, a number."""
    return _ROUNDING_STEPS * torch.finfo(scores.dtype).eps * scores.abs().amax()


def _settled(scores: Tensor, clean: Tensor) -> Tensor:
    """Return scores (count,), as the clean score or the first of them if they differ by rounding alone."""
    for first in (scores[:1], clean[None]) if len(scores) else ():
        together = torch.cat([scores, first])
        scores = torch.where(together.amax() - together.amin() <= rounding(together), first, scores)
    return scores
