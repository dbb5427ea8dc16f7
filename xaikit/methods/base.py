"""The method: a small frozen object that computes values for a batch, and the engine that runs several methods at once.

    check -> borrow the network -> for each portion: one Batch, shared by all methods -> compute -> join

A method declares its properties on the class and implements `compute(batch) -> Values`; its dataclass fields are its
parameters. Several methods on one batch cost little more than one, because `Batch` computes shared results once.

Shapes: images (N, C, H, W); values (N, h, w), or (N, C, H, W) for methods that keep channels.
"""

from __future__ import annotations

import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from xaikit.foundation.code import is_own
from xaikit.foundation.errors import BadInput, XaikitWarning
from xaikit.foundation.flags import FLAGS
from xaikit.foundation.parameters import Parameters
from xaikit.foundation.registry import Registry
from xaikit.images.reading import Inputs
from xaikit.images.shapes import unit
from xaikit.model.borrow import unchanged
from xaikit.model.classifier import Classifier, check_classifier
from xaikit.model.hooks import Layer
from xaikit.model.target import check_target, target_rows
from xaikit.run.attribution import Answer, Attribution, Reduction, Scale, reduced
from xaikit.run.batch import Batch
from xaikit.run.context import Context, Progress
from xaikit.run.cost import Cost
from xaikit.run.gradient_flags import gradient_flags
from xaikit.run.progress import reported

Family = Literal["activation", "attention", "gradient", "decomposition", "perturbation", "control", "given"]
Need = Literal["activations", "attention", "gradients", "input-gradient", "probabilities", "library"]


@dataclass
class Values:
    """The result of `compute` for one portion.

    Args:
        values: (n, h, w), or (n, C, H, W) before the reduction of an input method.
        completeness: (n,) gap between the sum of the values and the promised total, or None.
        flags: one set per image, or empty.
        params: what the method chose itself, reported with its parameters; a list has one entry per image.
        diagnostics: numbers (n,) per image that help to interpret the values.
        scale: how a heatmap is made of the values, where they are on another scale than the method's.
    """

    values: Tensor
    completeness: Tensor | None = None
    flags: list[set[str]] = field(default_factory=list)
    params: dict[str, Any] = field(default_factory=dict)
    diagnostics: dict[str, Tensor] = field(default_factory=dict)
    scale: Scale | None = None


@dataclass(frozen=True)
class Method(Parameters, ABC):
    """One attribution method bound to a classifier.

    Args:
        classifier: the classifier to explain.
    """

    classifier: Classifier

    name: ClassVar[str]
    family: ClassVar[Family]
    source: ClassVar[str]
    signed: ClassVar[bool] = True
    scale: ClassVar[Scale] = "minmax"
    class_specific: ClassVar[bool] = True
    needs: ClassVar[frozenset[Need]] = frozenset()
    passes: ClassVar[Cost]
    not_parameters = frozenset({"classifier", "layer"})

    @abstractmethod
    def compute(self, batch: Batch) -> Values:
        """Return the values of one portion; the network is borrowed during the call."""

    @property
    def differentiated(self) -> list[Layer | None]:
        """What the score is differentiated by: layers, and None for the image."""
        return [None] if "input-gradient" in self.needs else []

    def cost(self, size: tuple[int, int]) -> Cost:
        """Return the passes for one image of `size` = (H, W); `passes`, unless a method computes them."""
        return self.passes

    def attribute(
        self,
        inputs: Inputs,
        target: Any = None,
        *,
        seed: int = 0,
        chunk_size: int | None = None,
        context: Context | None = None,
        progress: Progress | bool | None = None,
    ) -> Attribution:
        """Return the attribution of a batch.

        Args:
            inputs: pixels (N, C, H, W) in [0, 1], or pictures, as `Classifier.read` takes them.
            target: None (top class), index, label, sequence, tensor, `Contrast` or callable.
            seed: seed of random draws, combined with each image's content.
            chunk_size: largest number of images in one pass; None chooses it by the free memory.
            context: settings of the run, in place of `seed`, `chunk_size` and `progress`.
            progress: True shows a line of progress, False none; None shows it in a terminal after two seconds; or a
                function called as `progress(done, total, unit)`.

        Raises:
            BadInput: the inputs or the target are not valid for the classifier.
        """
        if context is not None:
            return attribute_all([self], inputs, target, context)[0]
        with reported(progress) as report:
            return attribute_all([self], inputs, target, Context(seed, chunk_size, progress=report))[0]

    __call__ = attribute

    def on(self, classifier: Classifier) -> Self:
        """Return the same method bound to another classifier."""
        return replace(self, classifier=classifier)

    @classmethod
    def build(cls, classifier: Classifier, layer: Any = None, **params: Any) -> Method:
        """Return the method with parameters given by name.

        Raises:
            BadInput: an unknown parameter, an invalid value, a layer for a method that has none, or several for one
                that reads one.
        """
        cls.check_names(params)
        if layer is not None:
            if not issubclass(cls, LayerMethod):
                raise BadInput(f"layer: expected none, {cls.name} works on the input, got {layer!r}; omit it")
            several = isinstance(layer, list | tuple)
            params |= cls.several_layers(classifier, list(layer)) if several else {"layer": layer}
        return cls(classifier, **cls.own_layers(classifier, params))

    @classmethod
    def own_layers(cls, classifier: Classifier, params: dict[str, Any]) -> dict[str, Any]:
        """Return the parameters, completed by the layers of the classifier where a method fuses several."""
        return params


@dataclass(frozen=True)
class LayerMethod(Method):
    """A method that reads one layer.

    Args:
        layer: dotted name or module; None is the classifier's target layer.
    """

    layer: str | torch.nn.Module | None = None

    def on(self, classifier: Classifier) -> Self:
        """Return the same method bound to another classifier, at the same layer."""
        return replace(self, classifier=classifier, layer=str(self.place))

    @classmethod
    def several_layers(cls, classifier: Classifier, layers: list[str | torch.nn.Module]) -> dict[str, Any]:
        """Return the parameters for a list of layers; methods that fuse layers override this.

        Raises:
            BadInput: the list does not have one layer.
        """
        if len(layers) != 1:
            raise BadInput(f"layer: expected one, {cls.name} reads one, got {len(layers)}; layer-cam fuses several")
        return {"layer": layers[0]}

    @property
    def place(self) -> Layer:
        """The layer that is read; the default layer is that of the pictures at hand."""
        return self.classifier.resolve_layer(self.layer)

    @property
    def places(self) -> list[Layer]:
        """All layers that are read."""
        return [self.place]

    @property
    def differentiated(self) -> list[Layer | None]:
        """The layer if its gradient is needed, and None if that of the image is."""
        return [*([self.place] if "gradients" in self.needs else []), *super().differentiated]


@dataclass(frozen=True)
class InputMethod(Method):
    """A method whose values have the input's shape.

    Args:
        channels: whether to keep (N, C, H, W) instead of reducing the channels to (N, H, W).
    """

    channels: bool = False
    reduction: ClassVar[Reduction] = "sum"

    def reduce(self, values: Tensor) -> Tensor:
        """Return the values reduced to (n, H, W), or unchanged if channels are kept."""
        return values if self.channels else reduced(values, self.reduction)


_ALIASES = {
    "bp": "saliency",
    "deconvnet": "deconvolution",
    "deep-explainer": "deep-lift-shap",
    "deep-shap": "deep-lift-shap",
    "eb": "excitation-backprop",
    "ebp": "excitation-backprop",
    "eg": "expected-gradients",
    "gbp": "guided-backprop",
    "gig": "guided-integrated-gradients",
    "gradient": "saliency",
    "gradient-explainer": "expected-gradients",
    "gradient-shap": "expected-gradients",
    "gradient-x-input": "input-x-gradient",
    "gradients": "saliency",
    "grad-cam-pp": "grad-cam-plus-plus",
    "grad-times-input": "input-x-gradient",
    "guided-backpropagation": "guided-backprop",
    "guided-ig": "guided-integrated-gradients",
    "blur-ig": "blur-integrated-gradients",
    "ig": "integrated-gradients",
    "input-times-gradient": "input-x-gradient",
    "kernel-explainer": "kernel-shap",
    "layer-grad-cam": "grad-cam",
    "layer-wise-relevance-propagation": "lrp",
    "libra": "libra-cam",
    "partition-explainer": "partition-shap",
    "relevance-propagation": "lrp",
    "rollout": "attention-rollout",
    "sg": "smooth-grad",
    "sgsq": "smooth-grad-squared",
    "shap": "kernel-shap",
    "smooth-grad-sq": "smooth-grad-squared",
    "square-grad": "smooth-grad-squared",
    "vanilla-gradient": "saliency",
    "vanilla-gradients": "saliency",
}
"""Names that people arrive with; case, hyphens and ++ do not matter."""

METHODS: Registry[Method] = Registry("method", "xaikit.methods", guests="xaikit.backends", aliases=_ALIASES)


def attribute_all(methods: Sequence[Method], inputs: Inputs, target: Any, context: Context) -> list[Attribution]:
    """Run several methods on one batch, sharing forwards and backwards.

    Args:
        methods: methods bound to the same classifier.
        inputs: pixels (N, C, H, W) in [0, 1], or pictures, as `Classifier.read` takes them.
        target: the target, as in `Method.attribute`.
        context: settings of the run.

    Returns:
        One attribution per method, in the given order.
    """
    if not methods:
        return []
    classifier = methods[0].classifier
    check_classifier(classifier)
    if not isinstance(context, Context):
        raise BadInput(f"context: expected a Context, got {type(context).__name__}; omit it")
    pictures = classifier.pictures(inputs)
    pixels, count = pictures.pixels, len(pictures.pixels)
    target = check_target(target, count)
    for method in methods:
        check_output(method)
    if not count:
        blank = attribute_all(methods, pixels.new_zeros(1, *pixels.shape[1:]), None, context)
        return [attribution[:0] for attribution in blank]
    halved_before, context.halved = context.halved, False
    order = sorted(range(len(methods)), key=lambda index: _rank(methods[index]))

    def explain(rows: slice) -> list[Attribution]:
        batch = Batch(classifier, pixels[rows], target_rows(target, rows), context, rows, count)
        done = {index: _explain(methods[index], batch) for index in order}
        return [done[index] for index in range(len(methods))]

    with classifier.borrowed(), classifier.looking_at(pixels.shape[-2:]):
        size = context.portion(classifier, (pixels.shape[-2], pixels.shape[-1]))
        portions = list(context.portions(count, size, explain, "explained images" if count > size else ""))
    joined = [
        replace(Attribution.join(parts), images=pixels, frames=pictures.frames, originals=pictures.originals)
        for parts in zip(*portions, strict=True)
    ]
    if context.halved:
        for attribution in joined:
            for flags in attribution.flags:
                flags.add("halved")
    context.halved = context.halved or halved_before
    return joined


def check_output(method: Method) -> None:
    """Check that a method that needs probabilities has a network that gives them.

    Raises:
        BadInput: the network is a regression; the message names the method.
    """
    uses_logits = method.params.get("score") == "logit"
    if "probabilities" in method.needs and not uses_logits and method.classifier.output == "regression":
        raise BadInput(
            f"{method.name}: expected a classifier with probabilities, got a regression; choose another method"
        )


def _rank(method: Method) -> int:
    """Return the position of a method in the run: methods whose results serve most others come first."""
    order: tuple[Need, ...] = ("gradients", "activations")
    return next((index for index, need in enumerate(order) if need in method.needs), len(order))


_FAILURES = {
    "modified by an inplace operation": (
        "one that overwrites a tensor needed in the backward; write x = x + y in place of x += y"
    ),
    "Can't call numpy()": "one that leaves torch for NumPy; use a method without gradients, such as occlusion",
    "torch.utils.checkpoint": "one with torch.utils.checkpoint around the layer; turn it off while explaining",
    "does not require grad and": (
        "one that differentiates inside its forward, where rules cannot act; use a method without rules, such as "
        "integrated-gradients"
    ),
    "functorch transforms": "one that runs inside torch.func, where rules cannot act; use a method without rules",
    "is not implemented": "an operation without a derivative; use a method without gradients, such as occlusion",
}
"""Parts of autograd's messages, and what they mean for the user."""


def _explain(method: Method, batch: Batch) -> Attribution:
    if isinstance(method, LayerMethod):
        batch.check_rows(method.place)
    own = is_own(type(method)) and is_own(type(getattr(method, "inner", method)))
    try:
        with nullcontext() if own else unchanged(batch.classifier.module, method.name):
            begin = _clock(batch)
            result = method.compute(batch)
            seconds = _clock(batch) - begin
    except RuntimeError as error:
        reason = next((reason for text, reason in _FAILURES.items() if text in str(error)), None)
        if reason is None:
            raise
        raise BadInput(f"model: expected a forward that autograd can differentiate, got {reason}") from error
    _check_counts(method, result, len(batch))
    values = result.values.detach()
    values = values if values.dtype == torch.float64 else values.float()
    values = method.reduce(values) if isinstance(method, InputMethod) else values
    flat = values if values.ndim == 3 else values.flatten(2)
    flags = [set(names) for names in result.flags] or [set() for _ in range(len(batch))]
    recorded = any(name.startswith("absorbed_") for name in result.diagnostics)  # relevance takes gates as constants
    for place in [] if recorded else method.differentiated:
        flags = [names | more for names, more in zip(flags, gradient_flags(batch, place), strict=True)]
    seen = batch.classifier.outline()
    shared = ({"random-network"} if seen.random else set()) | ({"mixes-images"} if seen.rows.mixes else set())
    shared |= {"remembers-images"} if seen.rows.remembers else set()
    for names, same, placed in zip(flags, batch.target.against_itself, place_flags(method, batch), strict=True):
        names |= shared | placed | ({"against-itself"} if same else set())
    diagnostics: dict[str, Tensor] = {}
    if len(batch):
        _, constant, invalid = unit(flat)
        for names, *marks in zip(flags, constant.tolist(), invalid.tolist(), strict=True):
            names.update(name for name, mark in zip(("constant", "invalid"), marks, strict=True) if mark)
        spread = flat.flatten(1)
        diagnostics = {
            "minimum": spread.amin(1),
            "maximum": spread.amax(1),
            "positive": (spread > 0).float().mean(1),
        }
    for name in sorted(set().union(*flags) - FLAGS.keys()):
        warnings.warn(
            f"{method.name}: expected flags that are explained, got {name!r}; add it to xaikit.extend.FLAGS",
            XaikitWarning,
            stacklevel=2,
        )
    return Attribution(
        values=values,
        target=batch.target.classes,
        scores=batch.scores,
        probabilities=batch.probabilities,
        method=method.name,
        params={name: _describe(value) for name, value in method.params.items()} | result.params,
        layer=str(method.place) if isinstance(method, LayerMethod) else None,
        size=batch.size,
        scale=result.scale or method.scale,
        target_names=batch.target.names,
        flags=flags,
        completeness=result.completeness,
        diagnostics=diagnostics | result.diagnostics,
        seconds=seconds,
        reduction=method.reduction if isinstance(method, InputMethod) else "sum",
        explained=batch.target,
        signed=method.signed,
        answers=_answers(batch),
        model=batch.classifier.name,
    )


def _answers(batch: Batch) -> tuple[Answer, ...]:
    """Return the network's top class of each image."""
    classifier, top = batch.classifier, batch.logits.argmax(1)
    shares = classifier.to_probabilities(batch.logits).gather(1, top[:, None])[:, 0].tolist()
    regression, labels = classifier.output == "regression", classifier.labels
    return tuple(
        Answer(index, labels[index] if labels else f"class {index}", None if regression else share)
        for index, share in zip(top.tolist(), shares, strict=True)
    )


def place_flags(method: Method, batch: Batch) -> list[set[str]]:
    """Return for each image the flags of the layers that a method reads, if it reads any."""
    if not isinstance(method, LayerMethod):
        return [set() for _ in range(len(batch))]
    collapsed = method.layer is None and method.classifier.outline().collapsed
    layers = dict.fromkeys([*method.places, *(layer for layer in method.differentiated if layer is not None)])
    misplaced = [any(marks) for marks in zip(*(batch.places.misplaced(layer) for layer in layers), strict=True)]
    return [({"earlier-layer"} if collapsed else set()) | ({"misplaced-grid"} if mark else set()) for mark in misplaced]


def _check_counts(method: Method, result: Values, count: int) -> None:
    """Check that a method returned one map, and one of everything else, for each image."""
    if not isinstance(result, Values) or not isinstance(result.values, Tensor) or result.values.is_complex():
        got = type(getattr(result, "values", result)).__name__
        raise BadInput(f"{method.name}: expected Values of a real tensor, got {got}; correct the method")
    shape = tuple(result.values.shape)
    if len(shape) not in (3, 4) or shape[0] != count or 0 in shape[1:]:
        expected = f"({count}, h, w) or ({count}, C, H, W)"
        raise BadInput(f"{method.name}: expected values {expected}, one map per image, got {shape}; correct the method")
    others = {"flags": result.flags or None, "completeness": result.completeness, **result.diagnostics}
    for name, values in others.items():
        if values is not None and len(values) != count:
            raise BadInput(f"{method.name}: {name}: expected {count}, one per image, got {len(values)}")


def _clock(batch: Batch) -> float:
    """Return the time in seconds after the device has finished its work."""
    if batch.pixels.is_cuda:
        torch.cuda.synchronize(batch.pixels.device)
    return time.perf_counter()


def _describe(value: Any) -> Any:
    """Return a parameter in a form that can be saved; sequences become tuples, because a list is per image."""
    if isinstance(value, str | int | float | bool | None):
        return value
    if isinstance(value, tuple | list):
        return tuple(_describe(item) for item in value)
    if isinstance(value, Mapping):
        return str({name: _describe(item) for name, item in value.items()})
    if isinstance(value, Tensor):
        return f"tensor {tuple(value.shape)}"
    return str(getattr(value, "fingerprint", None) or getattr(value, "__name__", None) or value)
