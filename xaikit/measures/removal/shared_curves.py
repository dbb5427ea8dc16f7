"""Removals: every curve of some maps of one batch, each level measured once whoever asks for it.

    insertion     lowest pixels first, fill mean or blur   o_j at j / J, area        = binary keep curve = LeRF
    deletion      highest pixels first, fill mean          o_j at j / J, area        = MoRF
    road          both orders, imputed
    api ... dr    lowest first, soft or binary

Curves of one family differ in their levels alone: 10 levels are among 50, because floor(P j / J) depends on the
fraction j / J only, so that the second curve costs nothing. Curves of all families share the order of the pixels, y
and the floor; all maps share the portions.

Shapes: pixels (N, C, H, W); maps (N, H, W) in [0, 1]; confidences (N, M, T) float64 on the CPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.images.shapes import check_maps
from xaikit.measures.base import Subject
from xaikit.measures.removal.curve import KeepCurve
from xaikit.measures.removal.masked_forwards import Scored, Stream
from xaikit.measures.removal.protocol import KeepProtocol
from xaikit.model.classifier import Classifier, check_classifier
from xaikit.run.context import Context

_SHARED = "removals"


@dataclass
class _Family:
    """The levels measured so far under one protocol but for its levels."""

    o: dict[Fraction, Tensor] = field(default_factory=dict)
    kept: dict[Fraction, Tensor] = field(default_factory=dict)
    last: Scored | None = None

    def add(self, steps: list[Fraction], scored: Scored) -> None:
        for place, step in enumerate(steps):
            self.o[step], self.kept[step] = scored.o[..., place], scored.kept[..., place]
        self.last = scored


class Removals:
    """The curves of several methods' maps of the same images.

    Args:
        classifier: the model.
        inputs: pixels (N, C, H, W) in [0, 1].
        maps: (N, H, W) in [0, 1] by the method's name.
        target: None (top class), index, label, sequence, tensor, `Contrast` or callable.
        context: seed, portions, precision and counters.
        logits: (N, K) of the unchanged images, if they are known.

    Raises:
        BadInput: inputs, maps or target that do not fit, or none.
    """

    def __init__(
        self,
        classifier: Classifier,
        inputs: Tensor,
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
        checked = [_checked(one, pixels, name) for name, one in maps.items()]
        with classifier.borrowed(), torch.no_grad():
            self._stream = Stream(classifier, pixels, checked, target, context, logits)

    def curves(self, protocol: KeepProtocol) -> dict[str, KeepCurve]:
        """Return each map's curve under a protocol, by name; what was measured before is taken over.

        Raises:
            BadInput: a fill that does not fit, or confidences that are not finite.
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
        taken = forwards + len(protocol.steps) - len(steps)
        if steps:
            with stream.classifier.borrowed(), torch.no_grad():
                family.add(steps, fresh := stream.measure(protocol, steps))
            forwards, taken = fresh.forwards, taken + fresh.reused
        scored = family.last
        assert scored is not None
        o, kept = (torch.stack([one[step] for step in protocol.steps], -1) for one in (family.o, family.kept))
        y, floor = stream.y(protocol.score), scored.floor
        return {
            name: KeepCurve(
                thresholds=protocol.thresholds,
                y=y.clone(),
                o=o[:, place].clone(),
                floor=floor.clone(),
                kept=kept[:, place].clone(),
                target=stream.target.index.cpu(),
                invalid=scored.invalid[:, place].clone(),
                tie_share=scored.tie_share[:, place].clone(),
                protocol=protocol,
                forwards=int(forwards[:, place].sum()),
                reused=int(taken[:, place][~scored.invalid[:, place]].sum()),
                halved=stream.context.halved,
            )
            for place, name in enumerate(self._names)
        }


def curve(subject: Subject, protocol: KeepProtocol) -> KeepCurve:
    """Return a subject's curve under a protocol."""
    removals, name = subject.shared(_SHARED, lambda: (_of(subject, {"maps": subject.maps}), "maps"))
    return removals.curves(protocol)[name]


def together(subjects: Mapping[str, Subject]) -> None:
    """Let subjects of the same images, by the method's name, measure their curves together from now on.

    Args:
        subjects: of one classifier, with the same pixels, target and context; none asked for a curve yet.

    Raises:
        BadInput: inputs, maps or target that do not fit, or none.
    """
    if not subjects:
        raise BadInput("subjects: expected at least one, got none; give one a method")
    removals = _of(next(iter(subjects.values())), {name: one.maps for name, one in subjects.items()})
    for name, one in subjects.items():
        one.shared(_SHARED, lambda name=name: (removals, name))  # type: ignore[misc]


def _of(subject: Subject, maps: Mapping[str, Tensor]) -> Removals:
    """Return the curves of maps of a subject's images, with the logits that other measures of it know."""
    classifier, pixels = subject.classifier, subject.pixels
    return Removals(classifier, pixels, maps, subject.target, subject.context, subject.logits)


def _checked(maps: Tensor, pixels: Tensor, name: str) -> Tensor:
    """Return maps on the images' device, float32 at least; refuse other shapes and values outside [0, 1]."""
    check_maps(maps, pixels, name)
    finite = maps[maps.isfinite()]
    if finite.numel() and (finite.amin() < 0 or finite.amax() > 1):
        raise BadInput(
            f"{name}: expected values in [0, 1], got {float(finite.amin()):.3g} to {float(finite.amax()):.3g}; "
            "attribution.heatmap() scales them"
        )
    return maps.detach().to(pixels.device, _widest(maps.dtype))


def _widest(*types: torch.dtype) -> torch.dtype:
    """Return the floating type, float32 at least, that holds all of them."""
    widest = torch.float32
    for one in types:
        widest = torch.promote_types(widest, one)
    return widest
