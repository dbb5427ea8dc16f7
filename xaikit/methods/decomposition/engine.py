"""The relevance engine: autograd carries relevance instead of gradients.

    forward     every operation computes its usual output; linear maps keep their inputs
    backward    a linear map shares its relevance by the composite's rule, an activation passes it on, a product gives
                it to its signal (signals.py); operations that move values use autograd's own backward, and an
                operation without a rule refuses the relevance that arrives there
    ledger      records the relevance that a step does not pass on

The probe shows operations as function calls, so functional, in-place and reused ones are each seen separately. The
network runs as it is written; BatchNorm and other constants are folded into the maps before them (folding.py).

Source: Bach et al., PLoS ONE 2015.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from math import inf
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import GradientEdge
from torch.utils._pytree import tree_leaves, tree_map

from xaikit.foundation.errors import BadInput
from xaikit.methods.decomposition.balance import Relevance, balance
from xaikit.methods.decomposition.carry import Carry, Refusal, Share, check_path, without_rule
from xaikit.methods.decomposition.centring import Centred, difference
from xaikit.methods.decomposition.composites import Composite
from xaikit.methods.decomposition.folding import Fold, Foldable, Weighted, settle
from xaikit.methods.decomposition.ledger import Ledger
from xaikit.methods.decomposition.operations import (
    CHOICES,
    LINEAR,
    SPREADS,
    Reader,
    Rescaling,
    as_mean,
    is_signal,
    kept,
    scaled_by_constant,
)
from xaikit.methods.decomposition.order import Record, arrange
from xaikit.methods.decomposition.rules import LinearMap
from xaikit.methods.decomposition.severed import Severed
from xaikit.methods.decomposition.signals import (
    Bound,
    Path,
    Step,
    before,
    clip_bound,
    clip_ends,
    constants_cut,
    limit_of,
    present,
    signals_of,
    united,
    values_of,
)
from xaikit.model.calls import Rule
from xaikit.model.graph import Graph
from xaikit.model.hooks import Probe
from xaikit.model.outputs import Output
from xaikit.model.torch_functions import (
    ACTIVATIONS,
    CLIPS,
    GATES,
    MAX_POOLS,
    PADS,
    PRODUCTS,
    QUOTIENTS,
    Call,
    named,
    writes,
)

_CLAMPS = named("clamp clamp_min clamp_max clip")
_MAPS = ("convolution", "dense")


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
        hidden: whether hidden code takes part in the forward, whose values no rule sees.
    """

    def __init__(self, composite: Composite, images: int | None = None, hidden: bool = False) -> None:
        self.composite = composite
        self.ledger = Ledger(images)
        self.maps = 0
        self.without_stem = False
        self._arrived = torch.zeros((), device="cpu")
        self._negated = False
        self._graph: Graph | None = None
        self._severed = Severed()
        self._hidden = hidden
        self._cut = False

    def install(self, probe: Probe) -> None:
        """Register the rules on a probe; the forward must run while the probe is active."""
        self._graph = probe.graph()
        rules: list[tuple[Iterable[Call], Rule]] = [
            *(([function], partial(self._read, reader)) for function, reader in LINEAR.items()),
            (ACTIVATIONS - LINEAR.keys(), partial(self._activation, "pointwise")),
            (GATES, partial(self._activation, "gate")),
            (PRODUCTS, self._product),
            (QUOTIENTS, self._quotient),
            (PADS, self._border),
            (MAX_POOLS if self.composite.max_pool == "mean" else (), partial(self._read, as_mean)),
        ]
        for functions, rule in rules:
            probe.rule(functions, self._severed.watched(constants_cut(rule)))
        probe.otherwise(self._severed.watched(constants_cut(self._otherwise)))

    def _read(self, reader: Reader, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        try:
            reading = reader(function, args, kwargs)
        except BadInput as error:
            return self._refused(error, function, args, kwargs)
        if reading is None:
            return self._otherwise(function, args, kwargs)
        if isinstance(reading, Rescaling):
            return self._rescale(reading, function, args, kwargs)
        found = difference(reading) if reading.step.kind == "sum" else None
        reading = reading if found is None else found.reading
        marks = [present(source) for source in reading.sources]
        reading = replace(reading, step=reading.step.within(marks))
        kind = reading.step.kind
        record: Record = Record(rescales=kind == "sum")
        if found is not None:
            record = Centred(reading.step, found.joint.within(marks), found.axes, reading.sources[0].grad_fn)
        elif kind == "normalisation":
            record = Centred(reading.step, reading.step)
        elif kind in _MAPS:
            record = Weighted(reading)
        step: Step = "move" if function in SPREADS else "joint" if kind == "sum" else "map"
        mark = united(marks) if kind == "sum" else None
        share = self._share(reading.step, record)
        return self._run(share, function, args, kwargs, reading.sources, step=step, record=record, present=mark)

    def _rescale(self, reading: Rescaling, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """Run an operation with constants, which passes relevance on unless its shift absorbs some.

        Before the first map it is the normalisation of the image, which absorbs nothing.
        """
        source = reading.source
        fold = Fold.of(reading, gate=self._severed.among((args, kwargs)))
        fold.follow(reading)
        shape, mark = source.shape, present(source)
        absorbs = self.composite.bias == "absorb" and (fold.shifts or mark is not None)
        values = kept(source) if absorbs and not fold.direct else None

        def share(relevance: Tensor) -> Sequence[Tensor]:
            if self._negates(fold, relevance):
                return (torch.zeros_like(relevance),)
            if absorbs and fold.refused and not fold.first and not fold.joined:
                step = fold.step(fold.outputs() if values is None else values).within([mark])
                if step.bias is not None:
                    return self._by_rule(step, fold, relevance)
            return (relevance.sum_to_size(shape),)

        return self._run(
            share, function, args, kwargs, (source,), step="pointwise", record=fold, present=mark, bound=reading.bound
        )

    def _otherwise(self, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operation that moves values, or one without a rule, which refuses relevance."""
        name = getattr(function, "__name__", str(function))
        if function in CHOICES or name in ("__get__", "__setitem__"):
            return function(*args, **kwargs)
        if name == "register_hook":  # a hook on gradients does not act on relevance
            return function(args[0].detach().requires_grad_(True), *args[1:], **kwargs)
        return self._refused(without_rule(name), function, args, kwargs)

    def _refused(self, error: BadInput, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operation whose backward raises `error` if relevance arrives on its way to the end of the pass."""
        if not any(is_signal(value) for value in tree_leaves((args, kwargs))):
            return function(*args, **kwargs)
        in_place = bool(args) and writes(function)
        output = function(args[0].clone(), *args[1:], **kwargs) if in_place else function(*args, **kwargs)

        def refusing(value: Any) -> Any:
            return (
                Carry.apply(Refusal(error), "map", None, None, inf, inf, value.clone, value)
                if is_signal(value)
                else value
            )

        output = tree_map(refusing, output)
        return args[0].copy_(output) if in_place else output

    def look_at(self, logits: Tensor, end: Tensor | None = None) -> Path:
        """Determine, after the forward, what is folded, and the maps between the logits and the end of the pass.

        The engine does not keep the path and the graph: the nodes refer to the engine.

        Args:
            logits: logits with their graph.
            end: tensor at which relevance is read; None takes the maps that the logits depend on.
        """
        settle(logits)
        path = Path(logits, end)
        self.maps = check_path(path.nodes)
        if self._graph is not None:
            path.refuse_hidden(self._graph, logits)
            self._graph = None
        nodes = Path(logits).nodes
        arrange(nodes)
        self._cut = self._severed.is_summand(nodes) or self._hidden
        return path

    def end_at(self, output: Tensor) -> Tensor:
        """Return a layer's output, at which the pass ends; gradients are on from there."""
        torch.set_grad_enabled(True)
        self.without_stem = not output.requires_grad
        if self.without_stem:
            self._severed.forget()  # the flag `stem-without-graph` tells of branches that bypass the layer
        source = output.detach().requires_grad_(True) if self.without_stem else output

        def share(relevance: Tensor) -> Sequence[Tensor | None]:
            self._arrived = relevance
            return (None,)

        end: Tensor = Carry.apply(share, "move", None, present(output), inf, inf, source.clone, source)
        return end

    def arriving(self, path: Path, logits: Tensor, end: Tensor, start: Tensor) -> Tensor:
        """Return the relevance of `start` (n, K) that arrives at the end of the pass, and record what bypasses it."""
        self._arrived = torch.zeros_like(end)
        edges = [*path.bypasses(), *(GradientEdge(*place) for place in before(end.grad_fn))]
        bypasses = torch.autograd.grad(logits, edges, start.to(logits), retain_graph=True, allow_unused=True)
        for amount in bypasses[:-1]:
            if amount is not None:
                self.ledger.book("bypass", amount)
        return self._arrived

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
        result = balance(values, start.double().sum(1), start.double().abs().sum(1), absorbed)
        cut = torch.full_like(result.size, self._cut, dtype=torch.bool)
        return replace(result, flags=result.flags | {"cut-gradient": cut})

    def _share(self, step: LinearMap, record: Record) -> Share:
        def share(relevance: Tensor) -> Sequence[Tensor | None]:
            if record.is_map and record.first and record.after_rescaling and self.composite.boxed:
                raise BadInput(
                    "z-box: expected a network that is given normalised images, got one that normalises or adds them; "
                    "set the classifier's mean and std instead, or use first='flat'"
                )
            bare = record.step if isinstance(record, Foldable) else step
            bare = bare.without_bias() if self.composite.bias == "zero" else bare
            own = [*self._by_rule(bare, record, relevance)]
            for other, amount in record.taken() if isinstance(record, Weighted) else ():
                other = other.without_bias() if self.composite.bias == "zero" else other
                own = [mine + more for mine, more in zip(own, self._by_rule(other, record, amount), strict=True)]
            shares: list[Tensor | None] = [*own]
            return shares + [None] * (len({part.source for part in step.parts}) - len(shares))

        return share

    def _by_rule(self, step: LinearMap, record: Record, relevance: Tensor) -> Sequence[Tensor]:
        """Share by the composite's rule; a negated pass also negates what follows the last maps, such as their sum."""
        rows = self.ledger.rows(relevance)
        flat = step.kind == "dense" and (rows == len(relevance) if relevance.ndim > 1 else rows == 1)
        kind = "convolution" if step.kind == "dense" and not flat else step.kind
        rule = self.composite.rule(kind, first=record.first, last=record.last)
        return rule(step.negated() if record.last and self._negated else step, relevance, self.ledger)

    def _activation(self, step: Step, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        inputs = args[0] if args else kwargs["input"]
        others = [*args[1:], *(value for name, value in kwargs.items() if name != "input")]
        if any(is_signal(value) for value in others):  # a clamp at another signal selects, as torch.maximum does
            return function(*args, **kwargs) if function in _CLAMPS else self._otherwise(function, args, kwargs)
        if not is_signal(inputs):
            return function(*args, **kwargs)
        share: Share = _unchanged
        bound, mark = None, present(inputs)
        if function in CLIPS | _CLAMPS:
            ends = clip_ends(function, args, kwargs)
            bound = clip_bound(*ends, torch.finfo(inputs.dtype).max) if function in CLIPS else None
            share = self._negated_share(inputs) if ends[1] <= 0 else _unchanged
        output = self._run(share, function, args, kwargs, (inputs,), step=step, present=mark, bound=bound)
        return inputs.copy_(output) if output.is_set_to(inputs) else output  # `inplace` overwrote the inputs

    def _negated_share(self, inputs: Tensor) -> Share:
        """Return how min(x, 0) = -relu(-x) shares relevance: by the negative of the map before it, if there is one."""
        fold = Fold.of(Rescaling("scale", inputs, inputs.detach().new_full((1,), -1)))
        fold.refused = True  # it only finds the map

        def share(relevance: Tensor) -> Sequence[Tensor]:
            return (torch.zeros_like(relevance) if self._negates(fold, relevance) else relevance,)

        return share

    def _negates(self, fold: Fold, relevance: Tensor) -> bool:
        """Give relevance to the map that constants negate, if there is one and the pass does not negate it anyway."""
        negated = fold.part()
        if negated is None or (self._negated and negated[0].last):
            return False
        negated[0].take(negated[1], relevance)
        return True

    def _product(self, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        reading = scaled_by_constant(function, args, kwargs)
        if reading is not None:
            return self._rescale(reading, function, args, kwargs)
        factors = tuple(factor for factor in (*args, *kwargs.values()) if is_signal(factor))
        if not factors:
            return function(*args, **kwargs)
        signals = signals_of(*factors) if len(factors) == 2 else factors

        def share(relevance: Tensor) -> Sequence[Tensor]:
            return [(relevance / len(signals)).sum_to_size(signal.shape) for signal in signals]

        if len(signals) == 2:
            return self._run(share, function, args, kwargs, signals, step="joint", record=Record(rescales=True))
        return self._run(
            share,
            function,
            args,
            kwargs,
            signals,
            step="pointwise",
            record=_gated(signals[0], factors[1] if signals[0] is factors[0] else factors[0]),
            present=present(signals[0]),
        )

    def _quotient(self, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        numerator = args[0] if args else kwargs["input"]
        if not is_signal(numerator) or kwargs.get("rounding_mode") is not None:
            return self._otherwise(function, args, kwargs)
        reading = scaled_by_constant(function, args, kwargs)
        if reading is not None:
            return self._rescale(reading, function, args, kwargs)
        shape = numerator.shape

        def share(relevance: Tensor) -> Sequence[Tensor]:
            return (relevance.sum_to_size(shape),)

        divisor = args[1] if len(args) > 1 else kwargs["other"]
        record, mark = _gated(numerator, divisor.detach().reciprocal()), present(numerator)
        return self._run(share, function, args, kwargs, (numerator,), step="pointwise", record=record, present=mark)

    def _border(self, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        names = ("input", "pad", "mode", "value") if function is F.pad else ("input", "pad", "value")
        options = dict(zip(names, args, strict=False)) | kwargs
        inputs = options.pop("input")
        if not is_signal(inputs):
            return function(*args, **kwargs)
        shape = inputs.shape
        constant = options.get("mode", "constant") == "constant"
        options |= {"value": 0} if constant else {}

        def share(relevance: Tensor) -> Sequence[Tensor]:
            with torch.enable_grad():
                zeros = relevance.new_zeros(shape).requires_grad_(True)
                (inside,) = torch.autograd.grad(function(zeros, **options), zeros, relevance)
            rows = self.ledger.rows(inside)
            self.ledger.book("bias", relevance.reshape(rows, -1).sum(1) - inside.reshape(rows, -1).sum(1))
            return (inside,)

        mark = present(inputs)
        if constant and mark is None:
            mark = torch.ones_like(inputs.detach())
        mark = None if mark is None else function(mark, **options)
        return self._run(share, function, args, kwargs, (inputs,), step="move", present=mark)

    def _run(
        self,
        share: Share,
        function: Call,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        sources: tuple[Tensor, ...],
        *,
        step: Step = "map",
        record: Record | None = None,
        present: Tensor | None = None,
        bound: Bound | None = None,
    ) -> Tensor:
        """Run an operation whose backward shares relevance among `sources` by `share`."""
        plain = tuple(_detached(value) for value in args)
        named = {name: _detached(value) for name, value in kwargs.items()}
        limit, values = limit_of(step, sources, bound), values_of(step, sources)
        output: Tensor = Carry.apply(
            share, step, record, present, limit, values, lambda: function(*plain, **named), *sources
        )
        return output


def _gated(signal: Tensor, gate: Tensor) -> Record:
    """Return the record of a signal times its gate, which is folded into a normalisation before it."""
    return Fold.of(Rescaling("scale", signal, gate.detach()), gate=True)


def _detached(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else value


def _unchanged(relevance: Tensor) -> Sequence[Tensor]:
    return (relevance,)
