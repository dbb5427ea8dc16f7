"""The stream of a keep curve: masked versions of one batch through the network, packed into full portions.

    maps (n, M, H, W) -> cuts -> plan -> work items of all images, maps and levels -> portions -> confidences

What all maps of a batch share is computed once: the target, y, and the floor p_c(b), which is one forward for all
images when the fill is the same for all. No more masked images exist at a time than one portion holds.

Shapes: map q = i * M + m of a block belongs to its image i; confidences float64 on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from xaikit.core.classifier import Classifier
from xaikit.core.context import Context
from xaikit.core.errors import BadInput
from xaikit.core.identity import generators, image_hashes
from xaikit.core.perturb import blend, fill_values, keep
from xaikit.core.target import Target, resolve_target
from xaikit.measures.cut import Cuts, cut
from xaikit.measures.plan import Plan
from xaikit.measures.protocol import KeepProtocol, Score

__all__ = ["Scored", "Stream", "confidence"]

_SORTED_BYTES = 2**28  # of the sorted maps that are held at a time


def confidence(classifier: Classifier, logits: Tensor, target: Target, score: Score = "probability") -> Tensor:
    """Return what is read from the network, (n,), of logits (n, K).

    A callable target is its own confidence; against another class it is the share of the two.
    """
    if target.function is not None:
        return target.score(logits)
    if target.against is not None:
        margin = target.score(logits)
        return margin.sigmoid() if score in ("probability", "sigmoid") else margin
    logit = target.pick(logits)
    if score == "logit" or (score == "log-odds" and classifier.output != "softmax"):
        return logit
    if score == "log-odds":
        return logit - logits.scatter(1, target.index[:, None], -torch.inf).logsumexp(1)
    if score == "sigmoid":
        return logit.sigmoid()
    return target.pick(classifier.to_probabilities(logits))


@dataclass(frozen=True)
class Scored:
    """What was measured of n images and M maps of each.

    Args:
        o: (n, M, T) confidence.
        kept: (n, M, T) share of pixels kept.
        tie_share: (n, M) size of the largest group of equal values over P.
        invalid: (n, M) bool, the map is not finite.
        forwards: (n, M) masked images that went through the network.
        reused: (n, M) values taken over.
        floor: (n,) confidence when everything is removed.
    """

    o: Tensor
    kept: Tensor
    tie_share: Tensor
    invalid: Tensor
    forwards: Tensor
    reused: Tensor
    floor: Tensor


class Stream:
    """One batch under one protocol; used while the network is borrowed.

    Args:
        classifier: borrowed.
        pixels: (N, C, H, W), on the classifier's device.
        target: what the user asked for.
        protocol: how to mask and what to read.
        context: portions, precision, seed, counters.

    Raises:
        BadInput: logits or confidences that are not finite, or a target that does not fit.
    """

    def __init__(
        self, classifier: Classifier, pixels: Tensor, target: Any, protocol: KeepProtocol, context: Context
    ) -> None:
        self.classifier = classifier
        self.pixels = pixels
        self.protocol = protocol
        self.context = context
        self.size = (pixels.shape[-2], pixels.shape[-1])
        classifier.outline(self.size)
        self.portion = context.portion(classifier, self.size)
        logits = self._run(len(pixels), lambda rows: self._forward(classifier.normalize(pixels[rows])))
        if not logits.isfinite().all():
            raise BadInput("model: expected finite logits, got NaN or infinity; check its weights")
        self.target = resolve_target(target, logits, classifier.labels)
        self.y = _result(self._score(logits, self.target))
        self._floor_logits: Tensor | None = None

    def score(self, maps: Sequence[Tensor]) -> Scored:
        """Return what is measured of M maps (N, H, W), a block of images at a time."""
        count = len(self.pixels)
        block = max(1, _SORTED_BYTES // (4 * maps[0][0].numel() * len(maps) * (self.protocol.orders + 4)))
        rows = [slice(start, min(start + block, count)) for start in range(0, count, block)]
        blocks = [self._block(part, torch.stack([one[part] for one in maps], 1)) for part in rows]
        return Scored(*(torch.cat([getattr(one, field.name) for one in blocks]) for field in fields(Scored)))

    def _block(self, rows: slice, maps: Tensor) -> Scored:
        """Measure the images `rows` and their maps (n, M, H, W)."""
        shape, maps = maps.shape[:2], maps.flatten(0, 1)
        invalid = ~maps.isfinite().flatten(1).all(1)
        maps = maps.masked_fill(invalid[:, None, None], 0)
        filled = self._filled(rows)
        floor = self._floor(rows, filled)
        cuts = cut(maps, self.protocol, self._shuffles(rows, shape[1]))
        plan = Plan.of(cuts, invalid, self.protocol)
        values = self._masked(rows, maps, filled, cuts, plan)
        y, floors = (one.repeat_interleave(shape[1]) for one in (self.y[rows], floor))
        return Scored(
            o=plan.complete(values, y, floors).reshape(*shape, -1),
            kept=(1 - cuts.counts.cpu().double() / cuts.ranks.shape[2]).reshape(*shape, -1),
            tie_share=cuts.tie_share.cpu().masked_fill(plan.invalid, torch.nan).reshape(shape),
            invalid=plan.invalid.reshape(shape),
            forwards=plan.forwards.reshape(shape),
            reused=plan.reused.reshape(shape),
            floor=floor,
        )

    def _masked(self, rows: slice, maps: Tensor, filled: Tensor, cuts: Cuts, plan: Plan) -> Tensor:
        """Return the confidence (L,) of the work items of a plan."""
        inputs = self.classifier.normalize(self.pixels[rows])
        target = self.target.take(rows)
        methods, levels = len(maps) // len(inputs), cuts.blank.shape[1]
        items, orders = plan.items.to(maps.device), plan.orders.to(maps.device)

        def work(part: slice) -> Tensor:
            row, level = items[part] // levels, items[part] % levels
            image = row // methods
            masks = keep(cuts.ranks[orders[part], row], cuts.blank[row, level], self.size)
            if self.protocol.mask == "soft":
                masks = maps[row].masked_fill(~masks, 0)
            masked = blend(inputs[image], masks, filled[image] if len(filled) > 1 else filled)
            return self._score(self._forward(masked), target.take(image))

        return _result(self._run(len(items), work, "masked images"))

    def _filled(self, rows: slice) -> Tensor:
        """Return what removed pixels of the images `rows` become, in the network's coordinates."""
        fill = self.protocol.fill
        if isinstance(fill, Tensor):
            count = len(self.pixels)
            if fill.ndim == 4 and len(fill) not in (1, count):
                raise BadInput(f"fill: expected pixels of 1 or {count} images, got {len(fill)}; match the images")
            own = fill.ndim == 4 and len(fill) == count
            return fill_values(self.classifier, self.pixels[rows], fill[rows] if own else fill)
        noise = self._generators(rows, "noise fill") if fill == "noise" else []
        return fill_values(self.classifier, self.pixels[rows], fill, noise)

    def _floor(self, rows: slice, filled: Tensor) -> Tensor:
        """Return the confidence (n,) in the fill alone."""
        fill = self.protocol.fill
        same = (fill.ndim < 4 or len(fill) == 1) if isinstance(fill, Tensor) else fill in ("mean", "black", "white")
        logits = self._floor_logits
        if logits is None:
            images = filled.expand(-1, *self.pixels.shape[1:])
            logits = self._run(len(images), lambda part: self._forward(images[part]))
        self._floor_logits = logits if same else None
        target = self.target.take(rows)
        return _result(self._score(logits.expand(len(target.index), -1), target))

    def _shuffles(self, rows: slice, methods: int) -> Tensor | None:
        """Return permutations (R, n * M, P) of the pixels, the same for all maps of an image; None is row-major."""
        if self.protocol.ties == "index":
            return None
        pixels = self.size[0] * self.size[1]
        drawn = [
            torch.stack([torch.randperm(pixels, generator=one) for one in self._generators(rows, f"ties {order}")])
            for order in range(self.protocol.orders)
        ]
        return torch.stack(drawn).repeat_interleave(methods, 1).to(self.pixels.device)

    def _generators(self, rows: slice, purpose: str) -> list[torch.Generator]:
        return generators(self.context.seed, image_hashes(self.pixels[rows]), purpose)

    def _forward(self, inputs: Tensor) -> Tensor:
        return self.context.forward(self.classifier, inputs)

    def _score(self, logits: Tensor, target: Target) -> Tensor:
        return confidence(self.classifier, logits, target, self.protocol.score)

    def _run(self, total: int, work: Callable[[slice], Tensor], unit: str = "") -> Tensor:
        """Return `work` over `total` items, in portions, as one tensor."""
        parts = list(self.context.portions(total, self.portion, work, unit))
        return torch.cat(parts) if parts else self.pixels.new_zeros(0)


def _result(values: Tensor) -> Tensor:
    """Return confidences as float64 on the CPU; none may be lost from a mean without a word."""
    values = values.cpu().double()
    if not values.isfinite().all():
        raise BadInput("model: expected a finite confidence for every masked image, got NaN or infinity; use float32")
    return values
