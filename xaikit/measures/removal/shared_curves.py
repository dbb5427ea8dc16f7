"""Shared removal curves: all curves of the maps of one batch, with each level measured only once.

    insertion     lowest pixels first, fill mean or blur   o_j at j / J, area        = binary keep curve = LeRF
    deletion      highest pixels first, fill mean          o_j at j / J, area        = MoRF
    road          both orders, imputed
    api ... dr    lowest first, soft or binary

The curves of one family differ only in their number of levels. floor(P j / J) depends only on the fraction j / J, so
that 50 levels contain 10 levels and the second curve is free. Curves of all families share the order of the pixels, y
and the floor; all maps share the portions.

Shapes: pixels (N, C, H, W); maps (N, H, W) in [0, 1]; confidences (N, M, T) float64 on the CPU.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.images.reading import Inputs
from xaikit.images.shapes import check_maps
from xaikit.measures.base import Subject
from xaikit.measures.removal.curve import KeepCurve
from xaikit.measures.removal.masked_forwards import Scored, Stream
from xaikit.measures.removal.protocol import KeepProtocol
from xaikit.model.classifier import Classifier, check_classifier
from xaikit.run.context import Context

_MAPS = "maps"


@dataclass
class _Family:
    """The levels measured so far under protocols that differ only in their number of levels."""

    o: dict[Fraction, Tensor] = field(default_factory=dict)
    kept: dict[Fraction, Tensor] = field(default_factory=dict)
    last: Scored | None = None

    def add(self, steps: list[Fraction], scored: Scored) -> None:
        for level, step in enumerate(steps):
            self.o[step], self.kept[step] = scored.o[..., level], scored.kept[..., level]
        self.last = scored


class Removals:
    """The removal curves of several methods' maps of the same images.

    Args:
        classifier: the model.
        inputs: pixels (N, C, H, W) in [0, 1].
        maps: maps (N, H, W) in [0, 1], by the method's name.
        target: None (top class), index, label, sequence, tensor, `Contrast` or callable.
        context: seed, portions, precision and counters.
        logits: (N, K) logits of the unchanged images, if known.

    Raises:
        BadInput: missing inputs or maps, or inputs, maps or a target that do not match the classifier or each other.
    """

    def __init__(
        self,
        classifier: Classifier,
        inputs: Inputs,
        maps: Mapping[str, Tensor],
        target: Any,
        context: Context,
        logits: Tensor | None = None,
    ) -> None:
        check_classifier(classifier)
        pixels = classifier.check(inputs)
        if not len(pixels) or not maps:
            raise BadInput(f"curves: expected images and maps, got {len(pixels)} images and {len(maps)} sets of maps")
        widest = _widest(pixels.dtype, classifier.dtype)
        logits = logits if pixels.dtype == widest else None
        pixels = pixels.to(widest)
        self._names = list(maps)
        self._families: dict[str, _Family] = {}
        self._curves: dict[str, dict[str, KeepCurve]] = {}
        checked = [_checked(values, pixels, name) for name, values in maps.items()]
        with classifier.borrowed(), torch.no_grad():
            self._stream = Stream(classifier, pixels, checked, target, context, logits)

    def curves(self, protocol: KeepProtocol) -> dict[str, KeepCurve]:
        """Return each map's curve under a protocol, by name; levels measured before are reused.

        Raises:
            BadInput: a fill of the wrong shape, or confidences that are not finite.
        """
        key = protocol.hash
        if key not in self._curves:
            self._curves[key] = self._measured(protocol)
        return self._curves[key]

    def _measured(self, protocol: KeepProtocol) -> dict[str, KeepCurve]:
        stream = self._stream
        family = self._families.setdefault(protocol.family, _Family())
        steps = [step for step in protocol.steps if step not in family.o]
        forwards = torch.zeros(len(stream.pixels), len(self._names), dtype=torch.int64, device="cpu")
        reused = forwards + len(protocol.steps) - len(steps)
        if steps:
            with stream.classifier.borrowed(), torch.no_grad():
                family.add(steps, fresh := stream.measure(protocol, steps))
            forwards, reused = fresh.forwards, reused + fresh.reused
        scored = family.last
        assert scored is not None
        o, kept = (torch.stack([levels[step] for step in protocol.steps], -1) for levels in (family.o, family.kept))
        y, floor = stream.y(protocol.score), scored.floor
        return {
            name: KeepCurve(
                thresholds=protocol.thresholds,
                y=y.clone(),
                o=o[:, index].clone(),
                floor=floor.clone(),
                kept=kept[:, index].clone(),
                target=stream.target.index.cpu(),
                invalid=scored.invalid[:, index].clone(),
                tie_share=scored.tie_share[:, index].clone(),
                protocol=protocol,
                forwards=int(forwards[:, index].sum()),
                reused=int(reused[:, index][~scored.invalid[:, index]].sum()),
                halved=stream.context.halved,
            )
            for index, name in enumerate(self._names)
        }


def curve(subject: Subject, protocol: KeepProtocol) -> KeepCurve:
    """Return a subject's curve under a protocol."""

    def removals() -> Removals:
        maps = {_MAPS: subject.maps}
        return Removals(subject.classifier, subject.pixels, maps, subject.explained, subject.context, subject.logits)

    return subject.shared("removals", removals).curves(protocol)[_MAPS]


def _checked(maps: Tensor, pixels: Tensor, name: str) -> Tensor:
    """Return maps on the images' device, float32 at least; raise for other shapes and values outside [0, 1]."""
    check_maps(maps, pixels, name)
    finite = maps[maps.isfinite()]
    if finite.numel() and (finite.amin() < 0 or finite.amax() > 1):
        raise BadInput(
            f"{name}: expected values in [0, 1], got {float(finite.amin()):.3g} to {float(finite.amax()):.3g}; "
            "attribution.heatmap() scales them"
        )
    return maps.detach().to(pixels.device, _widest(maps.dtype))


def _widest(*types: torch.dtype) -> torch.dtype:
    """Return the floating type, float32 at least, to which all types promote."""
    widest = torch.float32
    for dtype in types:
        widest = torch.promote_types(widest, dtype)
    return widest
