"""The one scorer under all perturbation methods: what the network says of an image under many masks.

    (image, mask) pairs of the whole batch -> full portions -> m * x + (1 - m) * b -> score of the image's target

A mask is made when its portion is due and forgotten with it, so memory does not grow with the number of masks. Portions
are halved when memory runs out. The network runs in inference mode, in the context's precision.

    of_masks        masks (m, H, W) in [0, 1] by a function of (image, item)
    of_coalitions   segments on or off: true keeps a segment, z[:, segments] is the mask

fill "segment-mean" and "inpaint" stand beside the fills of core/perturb.py; the latter rounds masks to 0 and 1.

Shapes: inputs (N, C, H, W); masks (m, H, W); segments (N, H, W); coalitions (count, M) bool an image; scores (count,).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from xaikit.images.fills import Fill, inpainted, segment_mean
from xaikit.run.batch import Batch

PlainFill = Literal["mean", "black", "white", "image-mean", "blur", "noise", "inpaint"]
"""What removed pixels become where there are no segments."""
MaskedFill = Literal["mean", "black", "white", "image-mean", "blur", "noise", "inpaint", "segment-mean"]
Score = Literal["logit", "probability"]
Masks = Callable[[Tensor, Tensor], Tensor]


class Scorer:
    """Scores masked images of one batch.

    Args:
        batch: the images, their targets and the context.
        fill: what removed pixels become: a fill by name, or pixels that broadcast to the images.
        score: "logit" is the explained score, "probability" that of the class, or what stands for it (`Target`).
        segments: (N, H, W), for coalitions and for the fill "segment-mean".
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
        """(n,) the score of the unchanged images."""
        return self.batch.confidences if self._score == "probability" else self.batch.scores

    def of_masks(self, counts: int | Sequence[int], masks: Masks, unit: str = "forwards") -> list[Tensor]:
        """Return the scores (count,) of each image under its masks.

        Args:
            counts: how many masks each image has, or one number for all.
            masks: gives masks (m, H, W) in [0, 1] of items (m,) for images `rows` (m,); 1 keeps a pixel.
            unit: word for the pairs, with which progress is reported.
        """
        each = [counts] * len(self.batch) if isinstance(counts, int) else list(counts)
        device = self._inputs.device
        rows = torch.repeat_interleave(torch.arange(len(each), device="cpu"), torch.tensor(each, device="cpu")).to(
            device
        )
        items = torch.cat([torch.arange(count, device="cpu") for count in each]).to(device)

        def scored(places: Tensor) -> Tensor:
            return self.at(rows[places], masks(rows[places], items[places]))

        found = self.clean.new_zeros(len(rows))
        for places, scores in self.batch.packed(len(rows), scored, unit):
            found[places] = scores.to(found)
        return list(torch.split(found, each))

    def of_coalitions(self, coalitions: Sequence[Tensor], unit: str = "forwards") -> list[Tensor]:
        """Return the scores (count,) of each image for its coalitions (count, M), true where a segment is kept."""
        assert self.segments is not None
        segments = self.segments.flatten(1)
        most = max(one.shape[0] for one in coalitions), max(one.shape[1] for one in coalitions)
        table = torch.zeros(len(coalitions), *most, dtype=torch.bool, device="cpu")
        for image, one in enumerate(coalitions):
            table[image, : one.shape[0], : one.shape[1]] = one
        table = table.to(segments.device)

        def kept(rows: Tensor, items: Tensor) -> Tensor:
            return table[rows, items].gather(1, segments[rows]).reshape(-1, *self.batch.size)

        return self.of_masks([len(one) for one in coalitions], kept, unit)

    def of_image(self, row: int, masks: Tensor) -> Tensor:
        """Return the scores (k,) of one image under a few masks (k, H, W) that are there already."""
        rows = torch.full((len(masks),), row, device=self._inputs.device)
        masks = masks.to(rows.device)
        found = [
            scores for _, scores in self.batch.packed(len(rows), lambda places: self.at(rows[places], masks[places]))
        ]
        return torch.cat(found)

    def at(self, rows: Tensor, masks: Tensor) -> Tensor:
        """Return the scores (m,) of images `rows` (m,), each under its mask (m, H, W)."""
        score_of = self.batch.confidences_of if self._score == "probability" else self.batch.scores_of
        with torch.inference_mode():
            return score_of(self.masked(rows, masks), rows)

    def masked(self, rows: Tensor, masks: Tensor) -> Tensor:
        """Return images `rows` (m,) under masks (m, H, W), in the network's coordinates (m, C, H, W)."""
        if self._inpaints:
            pixels = self.batch.pixels[rows]
            return self.batch.classifier.normalize(inpainted(pixels, masks > 0.5))
        images = self._inputs[rows]
        weights = masks[:, None].to(images.dtype)
        return images.mul_(weights) if self._fills is None else torch.lerp(self._fills[rows], images, weights)
