"""Masked forwards: the network's confidences for masked versions of one batch, packed into full portions.

    maps (n, M, H, W) -> cuts -> plan -> work items of all images, maps and levels -> portions -> confidences

What all curves of a batch share is computed once: the target, y, the order of each map's pixels, and the floor
p_c(b), which takes one forward in total if the fill is the same for all images. At most one portion of masked images
is in memory at a time.

Shapes: map q = i * M + m of a block belongs to image i; confidences are float64 on the CPU.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.foundation.identity import generators
from xaikit.images.fills import blend, fill_values
from xaikit.images.hashes import image_hashes
from xaikit.images.pixel_order import keep
from xaikit.measures.removal.imputation import NOISE, impute
from xaikit.measures.removal.levels import Cuts, SortedMaps, cut
from xaikit.measures.removal.protocol import KeepProtocol
from xaikit.measures.removal.schedule import Plan
from xaikit.model.classifier import Classifier
from xaikit.model.target import Score, Target, resolve_target
from xaikit.run.context import Context

_SORTED_BYTES = 2**28  # memory for the sorted maps of one block


@dataclass(frozen=True)
class Scored:
    """Results for n images with M maps each.

    Args:
        o: (n, M, T) confidence on the masked images.
        kept: (n, M, T) share of pixels kept.
        tie_share: (n, M) size of the largest group of equal values, divided by P.
        invalid: (n, M) bool, True where the map is not finite.
        forwards: (n, M) number of masked images that went through the network.
        reused: (n, M) number of values that needed no forward.
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
    """One batch and its maps; construct and call it only while the classifier is borrowed.

    Args:
        classifier: the borrowed classifier.
        pixels: (N, C, H, W), on the classifier's device.
        maps: M maps (N, H, W) in [0, 1], on the same device.
        target: the target as the user gave it.
        context: portions, precision, seed and counters.
        logits: (N, K) logits of the unchanged images, if known.

    Raises:
        BadInput: logits that are not finite, or an invalid target.
    """

    def __init__(
        self,
        classifier: Classifier,
        pixels: Tensor,
        maps: Sequence[Tensor],
        target: Any,
        context: Context,
        logits: Tensor | None = None,
    ) -> None:
        self.classifier = classifier
        self.pixels = pixels
        self.maps = maps
        self.context = context
        self.size = (pixels.shape[-2], pixels.shape[-1])
        classifier.outline(self.size)
        self.portion = context.portion(classifier, self.size)
        if logits is None:
            logits = self._run(len(pixels), lambda rows: self._forward(classifier.normalize(pixels[rows])))
        self._logits = logits
        if not self._logits.isfinite().all():
            raise BadInput("model: expected finite logits, got NaN or infinity; check its weights")
        self.target = resolve_target(target, self._logits, classifier.labels)
        self._floors: dict[str, Tensor] = {}
        self._held: tuple[Any, SortedMaps] | None = None

    def y(self, score: Score) -> Tensor:
        """Return the confidence (N,) on the unchanged images."""
        return _result(self.target.confidence(self._logits, self.classifier.output, score))

    def measure(self, protocol: KeepProtocol, steps: Sequence[Fraction]) -> Scored:
        """Return the results of all maps at the thresholds `steps`, one block of images at a time.

        Raises:
            BadInput: a fill of the wrong shape, or confidences that are not finite.
        """
        count = len(self.pixels)
        bytes_per_image = 4 * self.size[0] * self.size[1] * len(self.maps) * (2 * protocol.orders + 5)
        size = max(1, _SORTED_BYTES // bytes_per_image)
        blocks = [slice(start, min(start + size, count)) for start in range(0, count, size)]
        results = [_Block(self, rows, protocol).measure(steps) for rows in blocks]
        return Scored(*(torch.cat([getattr(result, field.name) for result in results]) for field in fields(Scored)))

    def sorted(self, rows: slice, maps: Tensor, protocol: KeepProtocol) -> SortedMaps:
        """Return the sorted maps (Q, H, W) of the images `rows`; the last result is cached for the next curve."""
        key = (rows.start, rows.stop, protocol.ties, protocol.orders)
        if self._held is None or self._held[0] != key:
            self._held = key, SortedMaps.of(maps, self._shuffles(rows, protocol))
        return self._held[1]

    def filled(self, rows: slice, protocol: KeepProtocol) -> Tensor:
        """Return the fill of the images `rows` in the network's coordinates; for "imputed", the noise to add."""
        fill, pixels = protocol.fill, self.pixels[rows]
        if isinstance(fill, Tensor):
            count = len(self.pixels)
            if fill.ndim == 4 and len(fill) not in (1, count):
                raise BadInput(f"fill: expected pixels of 1 or {count} images, got {len(fill)}; match the images")
            per_image = fill.ndim == 4 and len(fill) == count
            fill = fill[rows] if per_image else fill
            return fill_values(self.classifier.normalize, pixels, fill, bounded=self.classifier.bounded)
        if fill == "imputed":
            streams = self._generators(rows, "imputation")
            noise = [
                torch.randn(pixels.shape[1:], generator=stream, dtype=torch.float32, device="cpu") for stream in streams
            ]
            return NOISE * torch.stack(noise).to(pixels)
        streams = self._generators(rows, "noise fill") if fill == "noise" else []
        return fill_values(self.classifier.normalize, pixels, fill, streams)

    def floor(self, rows: slice, protocol: KeepProtocol) -> Tensor:
        """Return the confidence (n,) of the images `rows` on the fill alone; for "imputed", on the mean fill."""
        protocol = replace(protocol, fill="mean") if protocol.imputed else protocol
        fill = protocol.fill
        shared = (fill.ndim < 4 or len(fill) == 1) if isinstance(fill, Tensor) else fill in ("mean", "black", "white")
        key = str(protocol.params["fill"]) + ("" if shared else f" {rows}")
        if key not in self._floors:
            images = self.filled(rows, protocol).expand(-1, *self.pixels.shape[1:])
            self._floors[key] = self._run(len(images), lambda part: self._forward(images[part]))
        target = self.target.take(rows)
        logits = self._floors[key].expand(len(target.index), -1)
        return _result(target.confidence(logits, self.classifier.output, protocol.score))

    def score(self, inputs: Tensor, target: Target, protocol: KeepProtocol) -> Tensor:
        """Return the confidence (n,) for inputs in the network's coordinates."""
        return target.confidence(self._forward(inputs), self.classifier.output, protocol.score)

    def run(self, total: int, work: Callable[[slice], Tensor]) -> Tensor:
        """Return the confidences of `total` masked images, computed in portions, as float64 on the CPU."""
        return _result(self._run(total, work, "masked images"))

    def _shuffles(self, rows: slice, protocol: KeepProtocol) -> Tensor | None:
        """Return permutations (R, n * M, P) of the pixels, the same for all maps of an image; None is row-major."""
        if protocol.ties == "index":
            return None
        count = self.size[0] * self.size[1]
        shuffles = []
        for order in range(protocol.orders):
            streams = self._generators(rows, f"ties {order}")
            shuffles.append(torch.stack([torch.randperm(count, generator=stream, device="cpu") for stream in streams]))
        return torch.stack(shuffles).repeat_interleave(len(self.maps), 1).to(self.pixels.device)

    def _generators(self, rows: slice, purpose: str) -> list[torch.Generator]:
        return generators(self.context.seed, image_hashes(self.pixels[rows]), purpose)

    def _forward(self, inputs: Tensor) -> Tensor:
        return self.context.forward(self.classifier, inputs)

    def _run(self, total: int, work: Callable[[slice], Tensor], unit: str = "") -> Tensor:
        """Return the concatenated results of `work` over portions of `total` items."""
        parts = list(self.context.portions(total, self.portion, work, unit))
        return torch.cat(parts) if parts else self.pixels.new_zeros(0)


class _Block:
    """Some images of a stream with all their maps, under one protocol."""

    def __init__(self, stream: Stream, rows: slice, protocol: KeepProtocol) -> None:
        maps = torch.stack([method_maps[rows] for method_maps in stream.maps], 1)
        self.shape = maps.shape[:2]
        maps = maps.flatten(0, 1)
        self.invalid = ~maps.isfinite().flatten(1).all(1)
        self.maps = maps.masked_fill(self.invalid[:, None, None], 0)
        self.stream, self.rows, self.protocol = stream, rows, protocol
        self.sorted = stream.sorted(rows, self.maps, protocol)

    def measure(self, steps: Sequence[Fraction]) -> Scored:
        cuts = cut(self.sorted, self.protocol, steps)
        plan = Plan.of(cuts, self.invalid, self.protocol)
        floor = self.stream.floor(self.rows, self.protocol)
        values = self._masked(cuts, plan)
        y = self.stream.y(self.protocol.score)[self.rows]
        count = self.shape[1]
        o = plan.complete(values, y.repeat_interleave(count), floor.repeat_interleave(count))
        return Scored(
            o=o.reshape(*self.shape, -1),
            kept=(1 - cuts.counts.cpu().double() / cuts.ranks.shape[2]).reshape(*self.shape, -1),
            tie_share=self.sorted.tie_share.cpu().masked_fill(plan.invalid, torch.nan).reshape(self.shape),
            invalid=plan.invalid.reshape(self.shape),
            forwards=plan.forwards.reshape(self.shape),
            reused=plan.reused.reshape(self.shape),
            floor=floor,
        )

    def _masked(self, cuts: Cuts, plan: Plan) -> Tensor:
        """Return the confidence (L,) of the work items of a plan."""
        stream, protocol = self.stream, self.protocol
        inputs = stream.classifier.normalize(stream.pixels[self.rows])
        filled = stream.filled(self.rows, protocol)
        target = stream.target.take(self.rows)
        levels = cuts.blank.shape[1]
        items, orders = plan.items.to(inputs.device), plan.orders.to(inputs.device)

        def work(part: slice) -> Tensor:
            row, level = items[part] // levels, items[part] % levels
            image = row // self.shape[1]
            masks = keep(cuts.ranks[orders[part], row], cuts.blank[row, level], stream.size)
            fill = filled[image] if len(filled) > 1 else filled
            if protocol.imputed:
                masked = impute(inputs[image], masks) + fill * ~masks[:, None]
            elif protocol.mask == "soft":
                masked = blend(inputs[image], self.maps[row].masked_fill(~masks, 0), fill)
            else:
                masked = blend(inputs[image], masks, fill)
            return stream.score(masked, target.take(image), protocol)

        return stream.run(len(items), work)


def _result(values: Tensor) -> Tensor:
    """Return confidences as float64 on the CPU; raise if one is not finite."""
    values = values.cpu().double()
    if not values.isfinite().all():
        raise BadInput("model: expected a finite confidence for every masked image, got NaN or infinity; use float32")
    return values
