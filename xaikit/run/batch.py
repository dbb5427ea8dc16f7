"""The batch: one portion of images and everything that methods share about it.

    logits                        one plain forward
    activations_and_gradients     one forward without a graph in the stem, one backward through the tail
    input_gradients               one forward and one backward

Each fact is computed once, whoever asks first; the logits of any of them serve all.

Shapes: pixels and inputs (n, C, H, W); logits (n, K); activations and gradients (n, C, h, w).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.foundation.identity import generators
from xaikit.images.fills import Fill, fill_values
from xaikit.images.hashes import image_hashes
from xaikit.model.classifier import Classifier
from xaikit.model.folding import folded_copies
from xaikit.model.hooks import Layer, Probe
from xaikit.model.target import Target, resolve_target
from xaikit.run.context import Context

T = TypeVar("T")

_SAME_LOGITS = 1e-4  # of the largest logit
_REPAID = 12  # passes an image from which a folded copy and its check cost less than they save
_ROUNDING_STEPS = 8  # of the arithmetic, where that is coarser


class Batch:
    """One portion of images and everything that methods share about it; each fact is computed once.

    Args:
        classifier: borrowed.
        pixels: (n, C, H, W) in [0, 1], on the classifier's device.
        target: what the user asked for, for these images.
        context: seed, portions, precision, counters.
        rows: which of the user's images these are, a slice or (n,); None: all.
        count: how many images the user gave.
    """

    def __init__(
        self,
        classifier: Classifier,
        pixels: Tensor,
        target: Any,
        context: Context,
        rows: slice | Tensor | None = None,
        count: int | None = None,
    ) -> None:
        self.classifier = classifier
        self._rows = slice(None) if rows is None else rows
        self._count = len(pixels) if count is None else count
        self.pixels = pixels
        self.context = context
        self.inputs = classifier.normalize(pixels)
        self._asked = target
        self._logits: Tensor | None = None
        self._activations: dict[Layer, Tensor] = {}
        self._layers: dict[Layer, tuple[Tensor, Tensor]] = {}
        classifier.outline(pixels.shape[-2:])

    def __len__(self) -> int:
        return self.pixels.shape[0]

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the images."""
        return self.pixels.shape[-2], self.pixels.shape[-1]

    @property
    def arithmetic(self) -> torch.dtype:
        """The type that the network computes in."""
        return torch.bfloat16 if self.context.precision == "bfloat16" else self.classifier.dtype

    @property
    def logits(self) -> Tensor:
        """(n, K) of the unchanged images, detached."""
        if self._logits is None:
            with torch.no_grad():
                self.keep_logits(self.context.forward(self.classifier, self.inputs))
        assert self._logits is not None
        return self._logits

    @cached_property
    def target(self) -> Target:
        """What is explained, resolved on the unchanged images."""
        return resolve_target(self._asked, self.logits, self.classifier.labels)

    @cached_property
    def scores(self) -> Tensor:
        """(n,) the explained score of the unchanged images."""
        return self.target.score(self.logits).detach()

    @cached_property
    def probabilities(self) -> Tensor:
        """(n,) probability of each image's class."""
        return self.target.pick(self.classifier.to_probabilities(self.logits))

    @cached_property
    def confidences(self) -> Tensor:
        """(n,) what stands for the score in probabilities: `Target.confidence`."""
        return self.target.confidence(self.logits, self.classifier.output)

    @cached_property
    def hashes(self) -> list[str]:
        """Content of each image, the root of its random stream."""
        return image_hashes(self.pixels)

    def on(self, classifier: Classifier) -> Batch:
        """Return a batch of the same images and targets on another form of the network."""
        batch = Batch(classifier, self.pixels, None, self.context, self._rows, self._count)
        batch.inputs, batch.target = self.inputs, self.target
        return batch

    @cached_property
    def folded(self) -> Batch:
        """The same images on the network's copy with BatchNorm folded, or this batch where no copy gives its logits."""
        least = max(_SAME_LOGITS, _ROUNDING_STEPS * torch.finfo(self.arithmetic).eps)
        for copied in folded_copies(self.classifier):
            batch = self.on(copied)
            difference = (batch.logits - self.logits).abs().amax(1)
            if bool((difference <= least * self.logits.abs().amax(1)).all()):
                return batch
        return self

    def folded_for(self, passes: int) -> Batch:
        """Return `folded` for at least so many passes an image that they repay the copy, or this batch.

        A pass takes a fifth less time on a CPU. In float32 rounding moves some path points across a kink of the
        network: on cifar-resnet20 single pixels move by 2e-4 of the range, 1e-5 on average; in float64 nothing moves.
        """
        exact = self.arithmetic in (torch.float32, torch.float64)
        return self.folded if exact and passes >= _REPAID else self

    def at(self, inputs: Tensor, rows: Tensor) -> Batch:
        """Return a batch of other inputs, each with the target and all else that belongs to one of these images.

        Args:
            inputs: (m, C, H, W) in the network's coordinates.
            rows: (m,) which image of the batch each belongs to.
        """
        mean, std = (one.to(inputs) for one in (self.classifier.mean, self.classifier.std))
        users = torch.arange(self._count, device="cpu")[self._rows][rows.cpu()]
        batch = Batch(self.classifier, inputs * std + mean, None, self.context, users, self._count)
        batch.inputs, batch.target = inputs, self.target.take(rows)
        return batch

    def own(self, given: T) -> T:
        """Return what belongs to these images of pixels (N, C, H, W), one for each of the user's N; all else as it is.

        Raises:
            BadInput: pixels of another number of images.
        """
        if not isinstance(given, Tensor) or given.ndim != 4 or len(given) == 1:
            return given
        if len(given) != self._count:
            raise BadInput(
                f"fill: expected pixels for 1 or {self._count} images, got {len(given)}; give one, or one an image"
            )
        return cast("T", given[self._rows])

    def filled(self, fill: Fill | Tensor, purpose: str) -> Tensor:
        """Return what removed pixels become, in the network's coordinates; see `fill_values`.

        Args:
            fill: by name, or pixels.
            purpose: names the random stream of a noise fill.
        """
        return fill_values(self.classifier.normalize, self.pixels, self.own(fill), self.generators(purpose))

    def generators(self, purpose: str) -> list[torch.Generator]:
        """Return one CPU generator per image, from the seed, the image's content and `purpose`."""
        return generators(self.context.seed, self.hashes, purpose)

    def activations(self, layer: Layer) -> Tensor:
        """Return a layer's activations (n, C, h, w), at least float32."""
        if layer not in self._activations:
            with torch.no_grad(), self.classifier.probe() as probe:
                tap = probe.record(layer)
                self.keep_logits(self.context.forward(self.classifier, self.inputs))
            self._activations[layer] = _full(tap.activation)
        return self._activations[layer]

    def activations_and_gradients(self, layer: Layer) -> tuple[Tensor, Tensor]:
        """Return a layer's activations and the score's gradient there, both (n, C, h, w), at least float32.

        One forward without a graph in the stem and one backward through the tail, for all methods of the batch.
        """
        self.attach([layer])
        return self._layers[layer]

    def attach(self, layers: Sequence[Layer]) -> None:
        """Take activations and gradients of several layers in one forward and one backward."""
        missing = [layer for layer in layers if layer not in self._layers]
        if not missing:
            return
        with torch.enable_grad(), self.classifier.probe() as probe:
            taps = [probe.attach(layer) for layer in missing]
            logits = self.context.forward(self.classifier, self.inputs)
            activations = [tap.activation for tap in taps]
        self.keep_logits(logits.detach())
        gradients = self._gradients(self.target.score(logits), activations)
        for layer, activation, gradient in zip(missing, activations, gradients, strict=True):
            self._activations[layer] = _full(layer.to_grid(activation.detach()))
            self._layers[layer] = self._activations[layer], _full(layer.to_grid(gradient))

    def carried_back(
        self, layer: Layer, install: Callable[[Probe], None], starts: Callable[[Tensor], Iterable[Tensor]]
    ) -> Tensor:
        """Return what rules carry from the logits to a layer, (n, C, h, w), at least float32.

        Args:
            layer: where it ends.
            install: puts the rules on the probe of this forward.
            starts: gives start vectors (n, K) for the logits with their graph; what they become is summed.
        """
        with torch.enable_grad(), self.classifier.probe() as probe:
            tap = probe.attach(layer)
            install(probe)
            logits = self.context.forward(self.classifier, self.inputs)
            activation = tap.activation
        self.keep_logits(logits.detach())
        self._activations.setdefault(layer, _full(layer.to_grid(activation.detach())))
        check_graph(logits)
        carried = torch.zeros_like(activation)
        for start in starts(logits):
            self.context.counters.backwards += len(self)
            carried = carried + torch.autograd.grad(logits, activation, start.to(logits), retain_graph=True)[0]
        return _full(layer.to_grid(carried))

    @cached_property
    def input_gradients(self) -> Tensor:
        """(n, C, H, W) gradient of the score by the image in the network's coordinates."""
        return self.input_gradients_anew()

    def input_gradients_anew(self) -> Tensor:
        """Return the same by a forward and backward of its own, for who has put rules on the network."""
        inputs = self.inputs.detach().requires_grad_(True)
        logits = self.context.forward(self.classifier, inputs)
        self.keep_logits(logits.detach())
        return self._gradients(self.target.score(logits), [inputs])[0]

    def score_gradients(self, inputs: Tensor, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the score (m,) and its gradient (m, C, H, W) at other inputs.

        Args:
            inputs: (m, C, H, W) in the network's coordinates.
            rows: (m,) which image of the batch each belongs to; None where m = n.
        """
        target = self.target if rows is None else self.target.take(rows)
        inputs = inputs.detach().requires_grad_(True)
        score = target.score(self.context.forward(self.classifier, inputs))
        return score.detach(), self._gradients(score, [inputs])[0]

    def scores_of(self, inputs: Tensor, rows: Tensor) -> Tensor:
        """Return the score (m,) at inputs (m, C, H, W), each for the target of image `rows` (m,)."""
        with torch.no_grad():
            return self.target.take(rows).score(self.context.forward(self.classifier, inputs))

    def probabilities_of(self, inputs: Tensor, rows: Tensor) -> Tensor:
        """Return the probability (m,) at inputs (m, C, H, W), each of the class of image `rows` (m,)."""
        with torch.no_grad():
            logits = self.context.forward(self.classifier, inputs)
        return self.target.take(rows).pick(self.classifier.to_probabilities(logits))

    def confidences_of(self, inputs: Tensor, rows: Tensor) -> Tensor:
        """Return `Target.confidence` (m,) at inputs (m, C, H, W), each for the target of image `rows` (m,)."""
        with torch.no_grad():
            logits = self.context.forward(self.classifier, inputs)
        return self.target.take(rows).confidence(logits, self.classifier.output)

    def packed(self, total: int, work: Callable[[Tensor], T], unit: str = "") -> Iterator[tuple[Tensor, T]]:
        """Yield `(places, work(places))` over `total` items in full portions, whichever image they belong to.

        Args:
            total: number of items.
            work: computes one portion from places (m,), int64 on the classifier's device.
            unit: word for the items, with which progress is reported.
        """
        size = self.context.portion(self.classifier, self.size)

        def portion(rows: slice) -> tuple[Tensor, T]:
            places = torch.arange(rows.start, rows.stop, device=self.pixels.device)
            return places, work(places)

        yield from self.context.portions(total, size, portion, unit)

    def pairs(
        self, count: int, work: Callable[[Tensor, Tensor], T], unit: str = "", images: int | None = None
    ) -> Iterator[tuple[Tensor, Tensor, T]]:
        """Yield `(rows, items, work(rows, items))` over all pairs of an image and one of `count` items.

        Args:
            count: items for each image, such as masks or steps.
            work: computes one portion from rows (m,) and items (m,).
            unit: as in `packed`.
            images: how many images; None is all of the batch.
        """
        total = (len(self) if images is None else images) * count
        for places, found in self.packed(total, lambda places: work(places // count, places % count), unit):
            yield places // count, places % count, found

    def _gradients(self, score: Tensor, by: Sequence[Tensor]) -> list[Tensor]:
        self.context.counters.backwards += len(score)
        check_graph(score)
        found = torch.autograd.grad(score.sum(), by, allow_unused=True)
        return [
            torch.zeros_like(one) if gradient is None else gradient for one, gradient in zip(by, found, strict=True)
        ]

    def keep_logits(self, logits: Tensor) -> None:
        """Remember the logits (n, K) of the unchanged images, if none are known yet.

        Raises:
            BadInput: they are not finite, or not one row an image.
        """
        if self._logits is not None:
            return
        if len(logits) != len(self):
            raise BadInput(
                f"model: expected logits ({len(self)}, K) for {len(self)} images, got {tuple(logits.shape)}; it mixes "
                "the images of a batch"
            )
        bad = (~logits.isfinite()).any(1).nonzero().flatten().tolist()
        if bad:
            raise BadInput(f"model: expected finite logits, got NaN or infinity for image {bad[0]}; check its weights")
        self._logits = logits


def check_graph(score: Tensor) -> None:
    """Refuse a score that autograd knows nothing of, rather than call its gradient zero."""
    if not score.requires_grad:
        raise BadInput(
            "model: expected a score with a gradient, got one without: its forward runs under torch.no_grad, or its "
            "output or the target is not differentiable; use a method without gradients, such as occlusion"
        )


def _full(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()
