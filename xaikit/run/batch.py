"""The batch: one portion of images and the results about it that methods share.

    logits                        one plain forward
    activations_and_gradients     one forward without a graph in the stem, one backward through the tail
    input_gradients               one forward and one backward

Each result is computed once, on first use; the logits of the first forward are kept.

Shapes: pixels and inputs (n, C, H, W); logits (n, K); activations and gradients (n, C, h, w).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from functools import cached_property, partial
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torch.utils.checkpoint import CheckpointError

from xaikit.foundation.errors import BadInput
from xaikit.foundation.identity import generators
from xaikit.images.fills import Fill, fill_values
from xaikit.images.hashes import image_hashes
from xaikit.model.classifier import Classifier
from xaikit.model.graph import Graph, nodes
from xaikit.model.hooks import Layer, Probe
from xaikit.model.outputs import check_logits
from xaikit.model.target import Target, resolve_target
from xaikit.run.checks import check_activations, check_rows
from xaikit.run.context import Context
from xaikit.run.cuts import Trace
from xaikit.run.gradients import check_graph, gradients, has_checkpoint, moved, trusted
from xaikit.run.placement import Places

T = TypeVar("T")


class Batch:
    """One portion of images and the results about it that methods share; each result is computed once.

    Args:
        classifier: the classifier, borrowed.
        pixels: (n, C, H, W) in [0, 1], on the classifier's device.
        target: the user's target for these images.
        context: seed, portions, precision and counters of the run.
        rows: indices of these images among the user's images, a slice or (n,); None is all of them.
        count: number of the user's images; None is n.
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
        self._user_target = target
        self._logits: Tensor | None = None
        self._activations: dict[Layer, Tensor] = {}
        self._layers: dict[Layer, tuple[Tensor, Tensor]] = {}
        self.traces: dict[Layer | None, Trace] = {}
        self.attention: tuple[list[Tensor], list[Tensor] | None] | None = None  # see attention.py
        self.places = Places(classifier, self.inputs)
        classifier.outline(pixels.shape[-2:])

    def __len__(self) -> int:
        return self.pixels.shape[0]

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the images."""
        return self.pixels.shape[-2], self.pixels.shape[-1]

    @property
    def arithmetic(self) -> torch.dtype:
        """The dtype that the network computes in."""
        return torch.bfloat16 if self.context.precision == "bfloat16" else self.classifier.dtype

    @property
    def logits(self) -> Tensor:
        """(n, K) logits of the unchanged images, detached."""
        if self._logits is None:
            with torch.no_grad():
                self.keep_logits(self.context.forward(self.classifier, self.inputs))
        assert self._logits is not None
        return self._logits

    @cached_property
    def target(self) -> Target:
        """The target, resolved on the unchanged images."""
        return resolve_target(self._user_target, self.logits, self.classifier.labels)

    @cached_property
    def scores(self) -> Tensor:
        """(n,) explained scores of the unchanged images."""
        return self.target.score(self.logits).detach()

    @cached_property
    def probabilities(self) -> Tensor:
        """(n,) probability of each image's class."""
        return self.target.pick(self.classifier.to_probabilities(self.logits))

    @cached_property
    def confidences(self) -> Tensor:
        """(n,) confidence of the network in the target; see `Target.confidence`."""
        return self.target.confidence(self.logits, self.classifier.output)

    @cached_property
    def hashes(self) -> list[str]:
        """Content hash of each image, which seeds its random stream."""
        return image_hashes(self.pixels)

    def at(self, inputs: Tensor, rows: Tensor, classifier: Classifier | None = None) -> Batch:
        """Return a batch of other inputs, each with the target of one of these images.

        Args:
            inputs: (m, C, H, W) in the network's coordinates.
            rows: (m,) index of the image that each input belongs to.
            classifier: the same classifier with other weights, borrowed; None is this one.
        """
        classifier = self.classifier if classifier is None else classifier
        mean, std = self.classifier.mean.to(inputs), self.classifier.std.to(inputs)
        user_rows = torch.arange(self._count, device="cpu")[self._rows][rows.cpu()]
        batch = Batch(classifier, inputs * std + mean, None, self.context, user_rows, self._count)
        batch.inputs, batch.target = inputs, self.target.take(rows)
        batch.places = Places(classifier, inputs)
        return batch

    def own(self, fill: T) -> T:
        """Return these images' rows of fill pixels (N, C, H, W) for the user's N images; any other fill unchanged.

        Raises:
            BadInput: the pixels are for another number of images.
        """
        if not isinstance(fill, Tensor) or fill.ndim != 4 or len(fill) == 1:
            return fill
        if len(fill) != self._count:
            raise BadInput(
                f"fill: expected pixels for 1 or {self._count} images, got {len(fill)}; give one, or one per image"
            )
        return cast("T", fill[self._rows])

    def filled(self, fill: Fill | Tensor, purpose: str) -> Tensor:
        """Return the values of removed pixels in the network's coordinates; see `fill_values`.

        Args:
            fill: name of a fill, or pixels.
            purpose: name of the random stream of a noise fill.
        """
        clf = self.classifier
        return fill_values(clf.normalize, self.pixels, self.own(fill), self.generators(purpose), bounded=clf.bounded)

    def generators(self, purpose: str) -> list[torch.Generator]:
        """Return one CPU generator per image, seeded by the seed, the image's content and `purpose`."""
        return generators(self.context.seed, self.hashes, purpose)

    def activations(self, layer: Layer) -> Tensor:
        """Return a layer's activations (n, C, h, w), at least float32."""
        if layer not in self._activations:
            with torch.no_grad(), self.classifier.probe() as probe:
                tap = probe.record(layer)
                self.places.watch(probe, [tap])
                self.keep_logits(self.context.forward(self.classifier, self.inputs))
            self._activations[layer] = self._maps(layer, tap.activation)
        return self._activations[layer]

    def activations_and_gradients(self, layer: Layer) -> tuple[Tensor, Tensor]:
        """Return a layer's activations and the gradient of the score by them, both (n, C, h, w), at least float32.

        All methods of the batch share one forward without a graph in the stem and one backward through the tail.
        """
        self.attach([layer])
        return self._layers[layer]

    def attach(self, layers: Sequence[Layer]) -> None:
        """Compute the activations and gradients of several layers in one forward and one backward."""
        missing = [layer for layer in layers if layer not in self._layers]
        if not missing:
            return
        for layer, (activation, gradient) in zip(missing, self.cut_at(missing), strict=True):
            self._activations[layer] = self._maps(layer, layer.to_grid(activation.detach()))
            true = trusted(gradient, activation, self.scores, partial(self._trial, layer), f"layer {layer}")
            self._layers[layer] = self._activations[layer], _full(layer.to_grid(true))

    def cut_at(self, layers: Sequence[Layer]) -> list[tuple[Tensor, Tensor | None]]:
        """Return each layer's output and gradient, with a graph that begins at the layers.

        A layer inside a checkpoint cannot begin a graph, or gets no gradient; then the graph begins at the image.
        """
        trace = Trace(self.classifier.outline(self.size).hides)
        with torch.enable_grad(), self.classifier.probe() as probe:
            taps = [probe.attach(layer) for layer in layers]
            self.places.watch(probe, taps)
            with probe.traced(trace.call):
                logits = self.context.forward(self.classifier, self.inputs)
            activations = [tap.activation for tap in taps]
        self.keep_logits(logits.detach())
        score = self.target.score(logits)
        found: list[Tensor | None] = []
        with suppress(CheckpointError):
            found = self.gradients_of(score, activations, trace) if score.requires_grad else []
        if not found or (any(gradient is None for gradient in found) and has_checkpoint(score)):
            return self._watched(layers)
        if len(layers) == 1:  # several layers have parts of the graph between them
            self.traces.setdefault(layers[0], trace)
        return list(zip(activations, found, strict=True))

    def _watched(self, layers: Sequence[Layer]) -> list[tuple[Tensor, Tensor | None]]:
        """Return each layer's output and gradient, with a graph from the image; a checkpoint runs the layers again."""
        trace = Trace(self.classifier.outline(self.size).hides)
        with torch.enable_grad(), self.classifier.probe() as probe:
            watches = [probe.watch(layer) for layer in layers]
            inputs = self.inputs.detach().requires_grad_(True)
            with probe.traced(trace.call):
                logits = self.context.forward(self.classifier, inputs)
            self.gradients_of(self.target.score(logits), [inputs], trace, watched=True)
            self.traces |= dict.fromkeys(layers, trace)
            return [(watch.activation, watch.gradient) for watch in watches]

    def trace(self, layer: Layer | None) -> Trace:
        """Return what a forward shows about the gradient of the score by a layer, or by the images if it is None.

        It is the forward that gave the gradient; for methods that differentiate in another way, one of the first image.
        """
        if layer not in self.traces:
            trace = Trace(self.classifier.outline(self.size).hides)
            with torch.enable_grad(), self.classifier.probe() as probe, suppress(RuntimeError):  # as through NumPy
                inputs = self.inputs[:1].detach()
                if layer is None:
                    inputs.requires_grad_(True)
                else:
                    probe.attach(layer)
                with probe.traced(trace.call):
                    logits = self.context.run(self.classifier, inputs)
                trace.end(nodes(logits, {None}))
            self.traces[layer] = trace
        return self.traces[layer]

    def moved_layer(self, layer: Layer, move: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor | None]:
        """Return the scores and their gradients by a layer whose output is moved."""
        outputs: list[Tensor] = []

        def moved_output(output: Tensor) -> Tensor:
            torch.set_grad_enabled(True)
            outputs.append(move(output.detach()).requires_grad_(True))
            return outputs[-1].clone()

        with torch.enable_grad(), self.classifier.probe() as probe:
            probe.replace(layer, moved_output)
            score = self.target.score(self.context.forward(self.classifier, self.inputs))
        return score, self.gradients_of(score, outputs)[0] if score.requires_grad else None

    def _trial(self, layer: Layer, step: float, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the scores of images `rows` and their gradients by a layer whose output is moved by `step`."""
        score, gradient = self.moved_layer(layer, lambda output: moved(output, step))
        each = gradient is not None and len(gradient) == len(self)
        return score[rows], gradient[rows] if gradient is not None and each else gradient

    def layer_and_logits(
        self, layer: Layer, install: Callable[[Probe], None], replaced: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return a layer's output and the logits (n, K), with their graph from the image on, of a forward by rules.

        Args:
            layer: the layer.
            install: callable that installs the rules on the probe of this forward.
            replaced: callable from the layer's raw output to the one that is used and returned.
        """
        with torch.enable_grad():
            inputs = self.inputs.detach().requires_grad_(True).clone()
            with self.classifier.probe() as probe:
                tap = probe.replace(layer, replaced)
                install(probe)
                logits = self.context.forward(self.classifier, inputs)
                activation = tap.activation
        self.keep_logits(logits.detach())
        self._activations.setdefault(layer, self._maps(layer, layer.to_grid(activation.detach())))
        check_graph(logits)
        return activation, logits

    @cached_property
    def input_gradients(self) -> Tensor:
        """(n, C, H, W) gradient of the score by the inputs in the network's coordinates."""
        return self._trusted(self.inputs, Target.score)[1]

    def input_gradients_anew(self, probe: Probe, graph: Graph, between: Callable[[], object] | None = None) -> Tensor:
        """Return the input gradients without the cache, for callers that have installed rules on a probe.

        Rules may make them zero. If they are zero everywhere, `input_gradients`, read without the rules, tells whether
        the network has a gradient at all.

        Args:
            probe: the probe with the rules.
            graph: the probe's record of hidden operations.
            between: called after the forward and before the backward.
        """
        score, leaf, trace = self._forward(self.inputs, lambda logits: self.target.score(logits), probe)
        trace.end((), hidden=bool(graph.hidden()))
        self.traces[None] = trace
        if between is not None:
            between()
        gradient = self.gradients_of(score, [leaf])[0]
        return torch.zeros_like(self.inputs) if gradient is None else gradient

    def score_gradients(self, inputs: Tensor, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the score (m,) and its gradient (m, C, H, W) at other inputs.

        Args:
            inputs: (m, C, H, W) in the network's coordinates.
            rows: (m,) index of the image that each input belongs to; None if m = n.
        """
        return self._trusted(inputs, Target.score, self.target if rows is None else self.target.take(rows))

    def confidence_gradients(self, inputs: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return `Target.confidence` (m,) and its gradient (m, C, H, W) at other inputs, as in `score_gradients`."""
        output = self.classifier.output
        return self._trusted(inputs, lambda target, logits: target.confidence(logits, output), self.target.take(rows))

    def _trusted(
        self, inputs: Tensor, read: Callable[[Target, Tensor], Tensor], target: Target | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return what `read` takes from the logits, (m,), and its gradient by inputs (m, C, H, W), once it is true.

        Args:
            inputs: (m, C, H, W) in the network's coordinates.
            read: callable from a target and logits to (m,).
            target: the target of each input; None is that of the images, which the same forward may resolve.
        """

        def value(logits: Tensor) -> Tensor:
            return read(self.target if target is None else target, logits)

        if inputs is self.inputs:
            with self.classifier.probe() as probe:
                total, leaf, self.traces[None] = self._forward(inputs, value, probe)
            score, gradient = total.detach(), self.gradients_of(total, [leaf], self.traces[None])[0]
        else:
            score, gradient = self.differentiated(inputs, value)

        def trial(step: float, rows: Tensor) -> tuple[Tensor, Tensor | None]:
            some = (self.target if target is None else target).take(rows)
            return self.differentiated(moved(inputs, step)[rows], lambda logits: read(some, logits))

        return score, trusted(gradient, inputs, score, trial, "the input")

    def differentiated(self, inputs: Tensor, read: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor | None]:
        """Return what `read` takes from the logits of inputs, (m,), and its gradient as it comes, (m, C, H, W)."""
        score, leaf, _ = self._forward(inputs, read)
        return score.detach(), self.gradients_of(score, [leaf])[0]

    def _forward(
        self, inputs: Tensor, read: Callable[[Tensor], Tensor], probe: Probe | None = None
    ) -> tuple[Tensor, Tensor, Trace]:
        """Return what `read` takes from the logits, the leaf of its graph, and what a probe shows about the forward."""
        trace = Trace(self.classifier.outline(self.size).hides)
        leaf = inputs.detach().requires_grad_(True)
        with torch.enable_grad():
            with nullcontext() if probe is None else probe.traced(trace.call):
                logits = self.context.forward(self.classifier, leaf)
            if inputs is self.inputs:
                self.keep_logits(logits.detach())
            return read(logits), leaf, trace

    def scores_of(self, inputs: Tensor, rows: Tensor) -> Tensor:
        """Return the scores (m,) of inputs (m, C, H, W), each for the target of image `rows` (m,)."""
        with torch.no_grad():
            return self.target.take(rows).score(self.context.forward(self.classifier, inputs))

    def probabilities_of(self, inputs: Tensor, rows: Tensor) -> Tensor:
        """Return the probabilities (m,) of inputs (m, C, H, W), each for the class of image `rows` (m,)."""
        with torch.no_grad():
            logits = self.context.forward(self.classifier, inputs)
        return self.target.take(rows).pick(self.classifier.to_probabilities(logits))

    def confidences_of(self, inputs: Tensor, rows: Tensor) -> Tensor:
        """Return `Target.confidence` (m,) of inputs (m, C, H, W), each for the target of image `rows` (m,)."""
        with torch.no_grad():
            logits = self.context.forward(self.classifier, inputs)
        return self.target.take(rows).confidence(logits, self.classifier.output)

    def packed(self, total: int, work: Callable[[Tensor], T], unit: str = "") -> Iterator[tuple[Tensor, T]]:
        """Yield `(indices, work(indices))` over `total` items in full portions, across all images.

        Args:
            total: number of items.
            work: callable that computes one portion from indices (m,), int64 on the classifier's device.
            unit: word for the items in progress reports; "" reports no progress.
        """
        size = self.context.portion(self.classifier, self.size)

        def portion(rows: slice) -> tuple[Tensor, T]:
            indices = torch.arange(rows.start, rows.stop, device=self.pixels.device)
            return indices, work(indices)

        yield from self.context.portions(total, size, portion, unit)

    def pairs(
        self, count: int, work: Callable[[Tensor, Tensor], T], unit: str = "", images: int | None = None
    ) -> Iterator[tuple[Tensor, Tensor, T]]:
        """Yield `(rows, items, work(rows, items))` over all pairs of an image and one of `count` items.

        Args:
            count: number of items for each image, such as masks or steps.
            work: callable that computes one portion from rows (m,) and items (m,).
            unit: word for the items, as in `packed`.
            images: number of images; None is the whole batch.
        """
        total = (len(self) if images is None else images) * count
        for indices, result in self.packed(total, lambda indices: work(indices // count, indices % count), unit):
            yield indices // count, indices % count, result

    def gradients_of(
        self, score: Tensor, tensors: Sequence[Tensor], trace: Trace | None = None, *, watched: bool = False
    ) -> list[Tensor | None]:
        """Return the gradient of the scores by each tensor, or None, and count the pass.

        Those that are `watched` by hooks are not those of a multiple of the score.
        """
        self.context.counters.backwards += len(score)
        check_graph(score)
        operations = list(nodes(score, {None}))
        if trace is not None:
            trace.end(operations)
        return gradients(score, tensors, operations, torch.float32 if watched else self.arithmetic)

    def _maps(self, layer: Layer, activations: Tensor) -> Tensor:
        """Return activations (n, C, h, w) in at least float32.

        Raises:
            BadInput: there is not one row per image, for example because the network cuts the images into parts.
        """
        check_activations(activations, len(self), layer)
        self.check_rows(layer)
        return _full(activations)

    def check_rows(self, layer: Layer | None) -> None:
        """Check that the rows of a layer, or of all layers if it is None, are the images in their order.

        Raises:
            BadInput: the network sorts the images of a batch, so that row i belongs to another image.
        """
        seen = self.classifier.outline(self.size)
        if layer is not None and layer.name in seen.apart:
            raise BadInput(
                f"layer {str(layer)!r}: expected activations of {len(self)} images, got another first axis or parts of "
                "images; choose a layer that sees whole images"
            )
        reordered = seen.rows.reordered
        wrong = sorted(reordered) if layer is None else [layer.name] if layer.name in reordered else []
        if wrong and len(self) > 1:
            raise BadInput(
                f"layer {wrong[0]!r}: expected one row per image, in the order of the images, got other rows (the "
                "network sorts a batch); explain with chunk_size=1, or use a method without layers"
            )

    def keep_logits(self, logits: Tensor) -> None:
        """Store the logits (n, K) of the unchanged images, unless they are already known.

        Raises:
            BadInput: the logits are not finite, or do not have one row per image.
        """
        if self._logits is not None:
            return
        check_rows(logits, len(self))
        check_logits(logits, self.classifier.outline(self.size), self.classifier.output)
        self._logits = logits


def _full(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()
