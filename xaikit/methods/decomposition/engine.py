"""The relevance engine: autograd carries relevance instead of gradients.

    forward     every operation computes what it always does; linear maps keep what they were given
    backward    a linear map shares its relevance by the composite's rule, an activation hands it on, a product gives it
                to its signal; moving values about is left to autograd, which does just that
    ledger      what a step does not hand on is booked

Operations are seen through the probe as function calls, so functional, in-place and reused ones are met one by one. The
network runs as its folded copy (core/graph.py) where BatchNorm can be folded, else as it is.

    found, = relevance(batch, composite, lambda: [start])
    found.values.sum() + sum(found.absorbed) = start.sum()

Source: Bach et al., PLoS ONE 2015.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.methods.base import Values
from xaikit.methods.decomposition.composites import Composite
from xaikit.methods.decomposition.ledger import Ledger, Reason
from xaikit.methods.decomposition.operations import CHOICES, LINEAR, SUMS, Reader, Reading, as_mean
from xaikit.model.hooks import Layer, Probe
from xaikit.model.outputs import Output
from xaikit.model.torch_functions import ACTIVATIONS, GATES, JOINS, MAX_POOLS, PADS, PRODUCTS, QUOTIENTS, Call
from xaikit.run.batch import Batch

Share = Callable[[Tensor], Sequence[Tensor | None]]
_NUMBERED = ("convolution", "dense")
_UNBALANCED = 0.01


@dataclass(frozen=True)
class Relevance:
    """What one start became.

    Args:
        values: (n, C, H, W), at least float32.
        promised: (n,) sum of the start.
        size: (n,) sum of the start's absolute values.
        absorbed: what did not arrive, by reason, (n,).
        gap: (n,) sum of the values less the start's.
        balanced: (n,) whether gap and absorbed cancel to 1 % of the start.
    """

    values: Tensor
    promised: Tensor
    size: Tensor
    absorbed: dict[Reason, Tensor]
    gap: Tensor
    balanced: Tensor


def relevance(batch: Batch, composite: Composite, starts: Callable[[], Sequence[Tensor]]) -> list[Relevance]:
    """Carry start vectors (n, K) from the logits to the image.

    Args:
        batch: of the images.
        composite: rule of each map.
        starts: gives one or several once the logits are known.

    Raises:
        BadInput: an operation that has no rule, a softmax at the end, or a network that cuts its graph.
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
    given = list(starts())
    found = []
    for start in given:
        passes = engine.passes(start, batch.classifier.output)
        values = torch.zeros_like(inputs)
        for one in passes:
            batch.context.counters.backwards += len(batch)
            last = one is passes[-1] and start is given[-1]
            values += _gradient(logits, inputs, engine.begun(one), keep=not last)
        found.append(engine.balanced(values, start))
    return found


def relevance_at(batch: Batch, layer: Layer, composite: Composite, start: Callable[[], Tensor]) -> Relevance:
    """Carry a start vector (n, K) from the logits to a layer, the values (n, C, h, w).

    What goes round the layer, through a skip connection or another branch, gets its share and is booked as `bypass`.

    Args:
        batch: of the images.
        layer: where it ends.
        composite: rule of each map.
        start: is asked once the logits are known.

    Raises:
        BadInput: an operation after the layer that has no rule, a softmax at the end, or a network that cuts its graph.
    """
    _check_end(batch)
    network = batch.classifier.module
    constants = frozenset(_memory(one) for one in (*network.parameters(), *network.buffers()))
    engine = Engine(composite, len(batch), constants)

    def starts(logits: Tensor) -> Iterator[Tensor]:
        engine.look_at(logits)
        if composite.last is not None and not engine.maps:
            raise BadInput(f"layer {layer}: expected a linear map after it, got none; choose an earlier layer")
        return map(engine.begun, engine.passes(start(), batch.classifier.output))

    values = batch.carried_back(layer, engine.install, starts)
    return engine.balanced(values, start())


def _check_end(batch: Batch) -> None:
    """Refuse a network whose outputs are no sum of what came before them."""
    end = batch.classifier.outline().ends_in
    if end in ("softmax", "log-softmax"):
        raise BadInput(f"relevance: expected a network that ends in logits, got one with a {end}; give it without")


def _gradient(logits: Tensor, inputs: Tensor, start: Tensor, *, keep: bool) -> Tensor:
    values = None
    if logits.requires_grad:
        (values,) = torch.autograd.grad(logits, inputs, start.to(logits), retain_graph=keep, allow_unused=True)
    if values is None:
        raise BadInput(
            "relevance: expected a network in which the image reaches the logits with a graph, got one without: part "
            "of it runs under torch.no_grad; use a method without gradients, such as occlusion"
        )
    return values if values.dtype == torch.float64 else values.float()


def _balanced(values: Tensor, promised: Tensor, size: Tensor, absorbed: dict[Reason, Tensor]) -> Relevance:
    gap = values.flatten(1).sum(1).double() - promised
    missing = gap + sum(absorbed.values())
    return Relevance(values, promised, size, absorbed, gap, missing.abs() <= _UNBALANCED * size)


def promising(found: Relevance, promised: float) -> Relevance:
    """Return relevance whose rules promise another sum than the start's."""
    return _balanced(found.values, torch.full_like(found.promised, promised), found.size, found.absorbed)


def accounted(found: Relevance) -> Values:
    """Return relevance with its books."""
    return Values(
        found.values,
        completeness=found.gap.to(found.values.dtype),
        flags=[set() if even else {"unbalanced"} for even in found.balanced.tolist()],
        diagnostics={
            "promised": found.promised,
            **{f"absorbed_{reason}": amount for reason, amount in found.absorbed.items()},
        },
    )


def start_at_the_score(batch: Batch) -> Tensor:
    """Return each logit times the score's gradient there, (n, K): the explained logit at its class, else zero."""
    with torch.enable_grad():
        logits = batch.logits.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(batch.target.score(logits).sum(), logits)
    return logits.detach() * gradient


class _Carry(torch.autograd.Function):
    """An operation that hands its relevance back to its sources by a share."""

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
        BadInput: an operation written as an `autograd.Function`, of which nobody knows what it computes.
    """
    waiting: list[Any] = [logits.grad_fn]
    seen: set[Any] = {None}
    found = []
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        waiting += [before for before, _ in node.next_functions]
        if isinstance(getattr(node, "number", None), int):
            found.append(node.number)
        elif isinstance(node, torch.autograd.function.BackwardCFunction) and not hasattr(node, "share"):
            name = type(node).__name__.removesuffix("Backward")
            raise BadInput(
                f"relevance: expected operations that have a rule, got the autograd.Function {name}; use another "
                "method, or a layer after it"
            )
    return found


class Pass(NamedTuple):
    """One backward.

    Args:
        start: (n, K).
        negated: whether the last map's outputs change their signs.
    """

    start: Tensor
    negated: bool


class Engine:
    """The rules of one forward and its ledger.

    Args:
        composite: rule of each map.
        images: of the batch; None takes them from what is booked.
        constants: where the memory of the network's parameters and buffers begins, for a pass that ends at a layer:
            any other tensor without a graph went round that layer. None for a pass to the image.
    """

    def __init__(
        self, composite: Composite, images: int | None = None, constants: frozenset[int] | None = None
    ) -> None:
        self.composite = composite
        self.ledger = Ledger(images)
        self.maps = 0
        self._constants = constants
        self._begun = 0
        self._normalises = False
        self._ends = (0, 0)
        self._negated = False
        self._gates: dict[int, Tensor] = {}

    def install(self, probe: Probe) -> None:
        """Put the rules on a probe, for a forward inside its block."""
        probe.rule(LINEAR, self._linear)
        probe.rule(ACTIVATIONS, self._activation)
        probe.rule(GATES, self._gate)
        probe.rule(PRODUCTS, self._product)
        probe.rule(QUOTIENTS, self._quotient)
        probe.rule(PADS, self._border)
        probe.rule(JOINS, self._join)
        if self.composite.max_pool == "mean":
            probe.rule(MAX_POOLS, self._mean)
        probe.observe(None, _refuse_unknown)

    def _linear(self, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = self._with_bypasses(args) if function in SUMS else args
        return self._read(LINEAR[function], function, given, kwargs)

    def _mean(self, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self._read(as_mean, function, args, kwargs)

    def _read(self, reader: Reader, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        reading = reader(function, args, kwargs)
        if reading is None:
            output = function(*args, **kwargs)
            _refuse_unknown(function, args, kwargs, output)
            return output
        number = None
        if reading.step.kind in _NUMBERED:
            number, self._begun = self._begun, self._begun + 1
        return self._carried(self._share(reading, number), function, args, kwargs, reading.sources, number)

    def look_at(self, logits: Tensor) -> None:
        """Find out, after the forward, which maps are the first and the last that the logits depend on."""
        numbers = _numbers(logits)
        self.maps = len(numbers)
        self._ends = (min(numbers, default=0), max(numbers, default=0))

    def passes(self, start: Tensor, output: Output) -> list[Pass]:
        """Return what to carry back one by one, whose sum is `start`; at least one.

        Where one logit stands for two classes, each class has its own: the first is the logit of the negated last map.

        Args:
            start: (n, K).
            output: what the logits mean.
        """
        if output != "binary":
            return [Pass(start, negated=False)]
        by_class = [
            Pass(torch.where(torch.tensor(one, device=start.device), start, 0), negated=one[0])
            for one in ([True, False], [False, True])
        ]
        return [one for one in by_class if bool(one.start.any())] or by_class[:1]

    def begun(self, one: Pass) -> Tensor:
        """Return the start (n, K) of a pass that is carried back next."""
        self._negated = one.negated
        return one.start

    def balanced(self, values: Tensor, start: Tensor) -> Relevance:
        """Return what a start (n, K) became, values (n, C, H, W), with its books, and begin them anew."""
        absorbed = {reason: one.to(values.device) for reason, one in self.ledger.absorbed(len(values)).items()}
        return _balanced(values, start.double().sum(1), start.double().abs().sum(1), absorbed)

    def _share(self, reading: Reading, number: int | None) -> Share:
        step, ahead = reading.step, self._is_ahead()
        moves = step.kind in ("scale", "shift")
        self._normalises |= ahead and moves

        def share(given: Tensor) -> Sequence[Tensor]:
            first, last = (number == end for end in self._ends)
            if first and self.composite.boxed and self._normalises:
                raise BadInput(
                    "z-box: expected a network that is given normalised images, got one that normalises them itself; "
                    "give mean and std to the classifier instead, or use first='flat'"
                )
            rule = self.composite.rule(step.kind, first=first, last=last)
            bare = step.without_bias() if self.composite.bias == "zero" or (ahead and moves) else step
            if bare.kind in ("scale", "shift") and bare.bias is None:
                return (given,)
            return rule(bare.negated() if last and self._negated else bare, given, self.ledger)

        return share

    def _is_ahead(self) -> bool:
        """Say whether no map has read the image yet: a scale or shift there is its normalisation, and hands all on."""
        return self._constants is None and self._begun == 0

    def _activation(self, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        inputs = args[0] if args else kwargs["input"]
        if not inputs.requires_grad:
            return function(*args, **kwargs)
        if kwargs.get("inplace"):
            with torch.no_grad():
                function(inputs.detach(), *args[1:], **kwargs)
            return inputs
        return self._carried(_whole, function, args, kwargs, (inputs,))

    def _gate(self, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        output = self._activation(function, args, kwargs)
        self._gates[id(output)] = output
        return output

    def _product(self, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        args = self._with_bypasses(args)
        self._normalises |= self._is_ahead()
        factors = [one for one in (args[0], args[1] if len(args) > 1 else kwargs["other"]) if _is_signal(one)]
        if not factors:
            return function(*args, **kwargs)
        signals = self._signals(factors)

        def share(given: Tensor) -> Sequence[Tensor]:
            return [(given / len(signals)).sum_to_size(one.shape) for one in signals]

        return self._carried(share, function, args, kwargs, signals)

    def _signals(self, factors: list[Tensor]) -> tuple[Tensor, ...]:
        """Return the factors that get relevance: not the gate, which is bounded or the smaller one."""
        ungated = [one for one in factors if id(one) not in self._gates]
        if 0 < len(ungated) < len(factors):
            return tuple(ungated)
        largest = max(one.numel() for one in factors)
        return tuple(one for one in factors if one.numel() == largest)

    def _quotient(self, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        args = self._with_bypasses(args)
        if not _is_signal(args[0]):
            output = function(*args, **kwargs)
            _refuse_unknown(function, args, kwargs, output)
            return output
        self._normalises |= self._is_ahead()
        return self._carried(_whole, function, args, kwargs, (args[0],))

    def _border(self, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        inputs = args[0] if args else kwargs["input"]
        if not _is_signal(inputs):
            return function(*args, **kwargs)
        shape, rest = inputs.shape, args[1:]

        def share(given: Tensor) -> Sequence[Tensor]:
            with torch.enable_grad():
                place = given.new_zeros(shape).requires_grad_(True)
                (inside,) = torch.autograd.grad(function(place, *rest, **kwargs), place, given)
            rows = inside.shape[0]
            self.ledger.book("bias", given.reshape(rows, -1).sum(1) - inside.reshape(rows, -1).sum(1))
            return (inside,)

        return self._carried(share, function, args, kwargs, (inputs,))

    def _join(self, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not args:
            return function(**kwargs)
        return function(self._with_bypasses(tuple(args[0])), *args[1:], **kwargs)

    def _with_bypasses(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return arguments in which what went round the layer takes its share beside the signal, and books it."""
        signal = next((one for one in args if _is_signal(one)), None)
        if self._constants is None or signal is None:
            return args
        return tuple(self._booked(one, signal) if self._bypasses(one, signal) else one for one in args)

    def _bypasses(self, one: Any, signal: Tensor) -> bool:
        return (
            isinstance(one, Tensor)
            and not one.requires_grad
            and one.ndim == signal.ndim
            and one.shape[:1] == signal.shape[:1]
            and _memory(one) not in (self._constants or ())
        )

    def _booked(self, one: Tensor, signal: Tensor) -> Tensor:
        def share(given: Tensor) -> Sequence[Tensor | None]:
            self.ledger.book("bypass", given)
            return (None,)

        found: Tensor = _Carry.apply(share, None, lambda: one.detach(), signal)
        return found

    def _carried(
        self,
        share: Share,
        function: Call,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        sources: tuple[Tensor, ...],
        number: int | None = None,
    ) -> Tensor:
        plain = tuple(one.detach() if isinstance(one, Tensor) else one for one in args)
        named = {name: one.detach() if isinstance(one, Tensor) else one for name, one in kwargs.items()}
        found: Tensor = _Carry.apply(share, number, lambda: function(*plain, **named), *sources)
        return found


def _memory(tensor: Tensor) -> int:
    """Return where the memory of a tensor, and of every view of it, begins."""
    return tensor.untyped_storage().data_ptr()


def _whole(given: Tensor) -> Sequence[Tensor]:
    return (given,)


def _is_signal(value: Any) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


def _refuse_unknown(function: Call, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
    """Refuse an operation that mixes values by no rule, rather than let autograd's gradient pass for relevance."""
    outputs = output if isinstance(output, tuple | list) else [output]
    if function in CHOICES or not any(_is_signal(one) for one in outputs):
        return
    name = getattr(function, "__name__", str(function))
    if name != "__get__":
        raise BadInput(
            f"relevance: expected operations that have a rule, got {name}; use another method, or a layer after it"
        )
