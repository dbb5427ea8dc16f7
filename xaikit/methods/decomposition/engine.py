"""The relevance engine: autograd carries relevance instead of gradients.

    forward     every operation computes its usual output; linear maps keep their inputs
    backward    a linear map shares its relevance by the composite's rule, an activation passes it on, a product gives
                it to its signal; operations that move values use autograd's own backward
    ledger      records the relevance that a step does not pass on

The probe shows operations as function calls, so functional, in-place and reused ones are each seen separately. The
network runs as its folded copy (model/folding.py) where BatchNorm can be folded, else unchanged.

    result, = relevance(batch, composite, lambda: [start])
    result.values.sum() + sum(result.absorbed) = start.sum()

Source: Bach et al., PLoS ONE 2015.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.methods.base import Values
from xaikit.methods.decomposition.composites import Composite
from xaikit.methods.decomposition.ledger import Ledger, Reason
from xaikit.methods.decomposition.operations import CHOICES, LINEAR, SUMS, Reader, Reading, as_mean, is_signal
from xaikit.model.hooks import Layer, Probe
from xaikit.model.outputs import Output
from xaikit.model.torch_functions import ACTIVATIONS, GATES, JOINS, MAX_POOLS, PADS, PRODUCTS, QUOTIENTS, Call
from xaikit.run.batch import Batch

Share = Callable[[Tensor], Sequence[Tensor | None]]
_NUMBERED = ("convolution", "dense")
_UNBALANCED = 0.01


@dataclass(frozen=True)
class Relevance:
    """The result of propagating one start.

    Args:
        values: relevance (n, C, H, W), at least float32.
        promised: sum that the values should have, (n,); by default the sum of the start.
        size: sum of the start's absolute values, (n,).
        absorbed: relevance that did not arrive, (n,) per reason.
        gap: sum of the values minus `promised`, (n,).
        balanced: whether gap and absorbed cancel to within 1 % of `size`, (n,).
    """

    values: Tensor
    promised: Tensor
    size: Tensor
    absorbed: dict[Reason, Tensor]
    gap: Tensor
    balanced: Tensor


def relevance(batch: Batch, composite: Composite, starts: Callable[[], Sequence[Tensor]]) -> list[Relevance]:
    """Return the relevance at the image for each start vector at the logits.

    Args:
        batch: images to explain.
        composite: rule of each map.
        starts: called once the logits are known; returns one or several start vectors (n, K).

    Raises:
        BadInput: an operation has no rule, the network ends in a softmax, or part of it runs without a graph.
    """
    _check_end(batch)
    view = batch.folded.classifier
    engine = Engine(composite, len(batch))
    inputs = batch.inputs.detach().requires_grad_(True)
    with torch.enable_grad(), view.probe() as probe:
        engine.install(probe)
        logits = batch.context.forward(view, inputs.clone())
    if view is batch.classifier:
        batch.keep_logits(logits.detach())
    engine.look_at(logits)
    vectors = list(starts())
    results = []
    for start in vectors:
        passes = engine.passes(start, batch.classifier.output)
        values = torch.zeros_like(inputs)
        for backward in passes:
            batch.context.counters.backwards += len(batch)
            last = backward is passes[-1] and start is vectors[-1]
            values += _gradient(logits, inputs, engine.begin(backward), keep=not last)
        results.append(engine.balanced(values, start))
    return results


def relevance_at(batch: Batch, layer: Layer, composite: Composite, start: Callable[[], Tensor]) -> Relevance:
    """Return the relevance (n, C, h, w) at a layer for a start vector at the logits.

    Branches that bypass the layer, such as skip connections, get their share, recorded as `bypass`.

    Args:
        batch: images to explain.
        layer: layer at which the pass ends.
        composite: rule of each map.
        start: called once the logits are known; returns the start vector (n, K).

    Raises:
        BadInput: an operation after the layer has no rule, the network ends in a softmax, or part of it runs without
            a graph.
    """
    _check_end(batch)
    network = batch.classifier.module
    constants = frozenset(_memory(tensor) for tensor in (*network.parameters(), *network.buffers()))
    engine = Engine(composite, len(batch), constants)

    def starts(logits: Tensor) -> Iterator[Tensor]:
        engine.look_at(logits)
        if composite.last is not None and not engine.maps:
            raise BadInput(f"layer {layer}: expected a linear map after it, got none; choose an earlier layer")
        return map(engine.begin, engine.passes(start(), batch.classifier.output))

    values = batch.carried_back(layer, engine.install, starts)
    return engine.balanced(values, start())


def _check_end(batch: Batch) -> None:
    """Refuse a network that ends in a softmax: its outputs cannot be shared among the inputs of the last map."""
    end = batch.classifier.outline().ends_in
    if end in ("softmax", "log-softmax"):
        raise BadInput(f"relevance: expected a network that ends in logits, got one with a {end}; give it without")


def _gradient(logits: Tensor, inputs: Tensor, start: Tensor, *, keep: bool) -> Tensor:
    values = None
    if logits.requires_grad:
        (values,) = torch.autograd.grad(logits, inputs, start.to(logits), retain_graph=keep, allow_unused=True)
    if values is None:
        raise BadInput(
            "relevance: expected a network with a graph from the image to the logits, got one that runs partly under "
            "torch.no_grad; use a method without gradients, such as occlusion"
        )
    return values if values.dtype == torch.float64 else values.float()


def _balanced(values: Tensor, promised: Tensor, size: Tensor, absorbed: dict[Reason, Tensor]) -> Relevance:
    gap = values.flatten(1).sum(1).double() - promised
    missing = gap + sum(absorbed.values())
    return Relevance(values, promised, size, absorbed, gap, missing.abs() <= _UNBALANCED * size)


def promising(result: Relevance, promised: float) -> Relevance:
    """Return the relevance with another promised sum, for rules that do not preserve the sum of the start."""
    return _balanced(result.values, torch.full_like(result.promised, promised), result.size, result.absorbed)


def accounted(result: Relevance) -> Values:
    """Return values with the gap, the promised sum, the absorbed amounts and the flag `unbalanced`."""
    return Values(
        result.values,
        completeness=result.gap.to(result.values.dtype),
        flags=[set() if balanced else {"unbalanced"} for balanced in result.balanced.tolist()],
        diagnostics={
            "promised": result.promised,
            **{f"absorbed_{reason}": amount for reason, amount in result.absorbed.items()},
        },
    )


def start_at_the_score(batch: Batch) -> Tensor:
    """Return each logit times the gradient of the score, (n, K): for a class, its logit there and zero elsewhere."""
    with torch.enable_grad():
        logits = batch.logits.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(batch.target.score(logits).sum(), logits)
    return logits.detach() * gradient


class _Carry(torch.autograd.Function):
    """An operation whose backward shares relevance among its sources."""

    @staticmethod
    def forward(ctx: Any, share: Share, number: int | None, compute: Callable[[], Tensor], *sources: Tensor) -> Tensor:
        ctx.share, ctx.number = share, number
        return compute()

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, None, *ctx.share(relevance)


def _numbers(logits: Tensor) -> list[int]:
    """Return the numbers of the maps that logits depend on.

    Raises:
        BadInput: the graph contains a custom `autograd.Function`, whose computation is unknown.
    """
    waiting: list[Any] = [logits.grad_fn]
    seen: set[Any] = {None}
    numbers = []
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        waiting += [before for before, _ in node.next_functions]
        if isinstance(getattr(node, "number", None), int):
            numbers.append(node.number)
        elif isinstance(node, torch.autograd.function.BackwardCFunction) and not hasattr(node, "share"):
            name = type(node).__name__.removesuffix("Backward")
            raise BadInput(
                f"relevance: expected operations that have a rule, got the autograd.Function {name}; use another "
                "method, or a layer after it"
            )
    return numbers


class Pass(NamedTuple):
    """One backward.

    Args:
        start: start vector (n, K).
        negated: whether the outputs of the last map change sign.
    """

    start: Tensor
    negated: bool


class Engine:
    """The rules of one forward and its ledger.

    Args:
        composite: rule of each map.
        images: number of images in the batch; None is the length of each recorded amount.
        constants: addresses of the network's parameters and buffers, for a pass that ends at a layer: any other tensor
            without a graph bypassed that layer. None for a pass to the image.
    """

    def __init__(
        self, composite: Composite, images: int | None = None, constants: frozenset[int] | None = None
    ) -> None:
        self.composite = composite
        self.ledger = Ledger(images)
        self.maps = 0
        self._constants = constants
        self._count = 0
        self._normalises = False
        self._ends = (0, 0)
        self._negated = False
        self._gates: dict[int, Tensor] = {}

    def install(self, probe: Probe) -> None:
        """Register the rules on a probe; the forward must run while the probe is active."""
        probe.rule(LINEAR, self._linear)
        probe.rule(ACTIVATIONS, self._activation)
        probe.rule(GATES, self._gate)
        probe.rule(PRODUCTS, self._product)
        probe.rule(QUOTIENTS, self._quotient)
        probe.rule(PADS, self._border)
        probe.rule(JOINS, self._join)
        if self.composite.max_pool == "mean":
            probe.rule(MAX_POOLS, partial(self._read, as_mean))
        probe.observe(None, _refuse_unknown)

    def _linear(self, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        args = self._with_bypasses(args) if function in SUMS else args
        return self._read(LINEAR[function], function, args, kwargs)

    def _read(self, reader: Reader, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        reading = reader(function, args, kwargs)
        if reading is None:
            output = function(*args, **kwargs)
            _refuse_unknown(function, args, kwargs, output)
            return output
        number = None
        if reading.step.kind in _NUMBERED:
            number, self._count = self._count, self._count + 1
        return self._run(self._share(reading, number), function, args, kwargs, reading.sources, number)

    def look_at(self, logits: Tensor) -> None:
        """Determine, after the forward, the first and last map that the logits depend on."""
        numbers = _numbers(logits)
        self.maps = len(numbers)
        self._ends = (min(numbers, default=0), max(numbers, default=0))

    def passes(self, start: Tensor, output: Output) -> list[Pass]:
        """Return the passes, at least one, whose starts sum to `start`.

        A single logit of two classes needs a pass per class; the first class is the logit of the negated last map.

        Args:
            start: start vector (n, K).
            output: meaning of the logits.
        """
        if output != "binary":
            return [Pass(start, negated=False)]
        by_class = [
            Pass(torch.where(torch.tensor(columns, device=start.device), start, 0), negated=columns[0])
            for columns in ([True, False], [False, True])
        ]
        return [backward for backward in by_class if bool(backward.start.any())] or by_class[:1]

    def begin(self, backward: Pass) -> Tensor:
        """Prepare the rules for a pass and return its start (n, K)."""
        self._negated = backward.negated
        return backward.start

    def balanced(self, values: Tensor, start: Tensor) -> Relevance:
        """Return the result (n, C, H, W) of a start (n, K) with its absorbed amounts, and clear the ledger."""
        absorbed = {reason: amount.to(values.device) for reason, amount in self.ledger.absorbed(len(values)).items()}
        return _balanced(values, start.double().sum(1), start.double().abs().sum(1), absorbed)

    def _share(self, reading: Reading, number: int | None) -> Share:
        step, ahead = reading.step, self._is_ahead()
        rescales = step.kind in ("scale", "shift")
        self._normalises |= ahead and rescales

        def share(relevance: Tensor) -> Sequence[Tensor]:
            first, last = (number == end for end in self._ends)
            if first and self.composite.boxed and self._normalises:
                raise BadInput(
                    "z-box: expected a network that is given normalised images, got one that normalises them itself; "
                    "set the classifier's mean and std instead, or use first='flat'"
                )
            rule = self.composite.rule(step.kind, first=first, last=last)
            bare = step.without_bias() if self.composite.bias == "zero" or (ahead and rescales) else step
            if bare.kind in ("scale", "shift") and bare.bias is None:
                return (relevance,)
            return rule(bare.negated() if last and self._negated else bare, relevance, self.ledger)

        return share

    def _is_ahead(self) -> bool:
        """Return whether no map has run yet: a scale or shift is then the image's normalisation."""
        return self._constants is None and self._count == 0

    def _activation(self, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        inputs = args[0] if args else kwargs["input"]
        if not inputs.requires_grad:
            return function(*args, **kwargs)
        if kwargs.get("inplace"):
            with torch.no_grad():
                function(inputs.detach(), *args[1:], **kwargs)
            return inputs
        return self._run(_unchanged, function, args, kwargs, (inputs,))

    def _gate(self, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        output = self._activation(function, args, kwargs)
        self._gates[id(output)] = output
        return output

    def _product(self, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        args = self._with_bypasses(args)
        self._normalises |= self._is_ahead()
        other = args[1] if len(args) > 1 else kwargs["other"]
        factors = [factor for factor in (args[0], other) if is_signal(factor)]
        if not factors:
            return function(*args, **kwargs)
        signals = self._signals(factors)

        def share(relevance: Tensor) -> Sequence[Tensor]:
            return [(relevance / len(signals)).sum_to_size(signal.shape) for signal in signals]

        return self._run(share, function, args, kwargs, signals)

    def _signals(self, factors: list[Tensor]) -> tuple[Tensor, ...]:
        """Return the factors that get relevance: all but the gate, which is the bounded or the smaller factor."""
        signals = [factor for factor in factors if id(factor) not in self._gates]
        if 0 < len(signals) < len(factors):
            return tuple(signals)
        largest = max(factor.numel() for factor in factors)
        return tuple(factor for factor in factors if factor.numel() == largest)

    def _quotient(self, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        args = self._with_bypasses(args)
        if not is_signal(args[0]):
            output = function(*args, **kwargs)
            _refuse_unknown(function, args, kwargs, output)
            return output
        self._normalises |= self._is_ahead()
        return self._run(_unchanged, function, args, kwargs, (args[0],))

    def _border(self, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        inputs = args[0] if args else kwargs["input"]
        if not is_signal(inputs):
            return function(*args, **kwargs)
        shape, rest = inputs.shape, args[1:]

        def share(relevance: Tensor) -> Sequence[Tensor]:
            with torch.enable_grad():
                zeros = relevance.new_zeros(shape).requires_grad_(True)
                (inside,) = torch.autograd.grad(function(zeros, *rest, **kwargs), zeros, relevance)
            rows = inside.shape[0]
            self.ledger.book("bias", relevance.reshape(rows, -1).sum(1) - inside.reshape(rows, -1).sum(1))
            return (inside,)

        return self._run(share, function, args, kwargs, (inputs,))

    def _join(self, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not args:
            return function(**kwargs)
        return function(self._with_bypasses(tuple(args[0])), *args[1:], **kwargs)

    def _with_bypasses(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the arguments with each tensor that bypassed the layer wrapped to record its share."""
        signal = next((value for value in args if is_signal(value)), None)
        if self._constants is None or signal is None:
            return args
        return tuple(self._recorded(value, signal) if self._bypasses(value, signal) else value for value in args)

    def _bypasses(self, value: Any, signal: Tensor) -> bool:
        return (
            isinstance(value, Tensor)
            and not value.requires_grad
            and value.ndim == signal.ndim
            and value.shape[:1] == signal.shape[:1]
            and _memory(value) not in (self._constants or ())
        )

    def _recorded(self, bypass: Tensor, signal: Tensor) -> Tensor:
        def share(relevance: Tensor) -> Sequence[Tensor | None]:
            self.ledger.book("bypass", relevance)
            return (None,)

        output: Tensor = _Carry.apply(share, None, lambda: bypass.detach(), signal)
        return output

    def _run(
        self,
        share: Share,
        function: Call,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        sources: tuple[Tensor, ...],
        number: int | None = None,
    ) -> Tensor:
        """Run an operation whose backward shares relevance among `sources` by `share`."""
        plain = tuple(_detached(value) for value in args)
        named = {name: _detached(value) for name, value in kwargs.items()}
        output: Tensor = _Carry.apply(share, number, lambda: function(*plain, **named), *sources)
        return output


def _detached(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else value


def _memory(tensor: Tensor) -> int:
    """Return the address of a tensor's memory, which its views share."""
    return tensor.untyped_storage().data_ptr()


def _unchanged(relevance: Tensor) -> Sequence[Tensor]:
    return (relevance,)


def _refuse_unknown(function: Call, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
    """Refuse an operation without a rule: autograd would return its gradient, not relevance."""
    outputs = output if isinstance(output, tuple | list) else [output]
    if function in CHOICES or not any(is_signal(value) for value in outputs):
        return
    name = getattr(function, "__name__", str(function))
    if name != "__get__":
        raise BadInput(
            f"relevance: expected operations that have a rule, got {name}; use another method, or a layer after it"
        )
