"""DeepLIFT multipliers (Rescale rule): the change of the score per change of each input.

    M such that  sum((x - x') * M) = score(x) - score(x')

One forward runs the inputs and the x' that they are compared with, [x; x']; one backward propagates multipliers instead
of gradients. Linear operations keep their gradient, all others use a rule of `multiplier_operations`. The probe sees
each call of an operation, so functional, in-place and reused operations are covered. An operation without a rule raises
BadInput where a multiplier arrives at it, because its gradient is not a multiplier and would silently break the sum; in
a branch that the score does not depend on it does not matter.

Shapes: x (m, C, H, W); x' (u, C, H, W), each shared by one or more x; M (m, C, H, W).
Source: Shrikumar, Greenside & Kundaje, ICML 2017, arXiv:1704.02685.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, get_args

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from xaikit.foundation.errors import BadInput
from xaikit.methods.decomposition.signals import constants_cut
from xaikit.methods.gradient.multiplier_operations import RULES
from xaikit.methods.gradient.multiplier_rules import Order, Pairing, activations_in, differs, refusing
from xaikit.model.calls import Rule
from xaikit.model.graph import nodes
from xaikit.model.hooks import Probe
from xaikit.model.target import Target
from xaikit.model.torch_functions import LINEAR_MAPS, named
from xaikit.run.batch import Batch
from xaikit.run.gradients import check_graph, gradients

_SELECTIONS = named("gather take_along_dim setitem")
_WITHOUT_RULES = "use integrated-gradients, which needs no rules"


class Multipliers(NamedTuple):
    """The multipliers and scores of one portion of pairs.

    Args:
        values: (m, C, H, W) multipliers.
        scores: (m,) score of the input x of each pair.
        others: (m,) score of the x' of each pair.
    """

    values: Tensor
    scores: Tensor
    others: Tensor


def pair_multipliers(
    batch: Batch, inputs: Tensor, others: Tensor, rows: Tensor, mates: Tensor | None = None
) -> Multipliers:
    """Return the multipliers between inputs and others; swapping the two gives the same multipliers.

    Args:
        batch: provides the targets and the context.
        inputs: (m, C, H, W) in the network's coordinates.
        others: (u, C, H, W) in the network's coordinates.
        rows: (m,) index of the image in the batch whose target each pair uses.
        mates: (m,) index of the other that each input is compared with; None if all inputs share one.

    Raises:
        BadInput: the score depends on an operation without a rule, or the forward detaches the graph, or it is not
            known which rows belong to which image.
    """
    compared = others if mates is None else others[mates]
    for order in get_args(Order):
        pairing = Pairing(len(inputs), len(others), mates, order)
        result = _pair_multipliers(batch, inputs, others, rows, pairing)
        if pairing.parts <= {1} or _is_exact(result, inputs - compared):
            return result
    raise BadInput(
        "multipliers: expected the parts or views of an image side by side in the first axis, or those of all "
        "images in turn, got neither; use integrated-gradients"
    )


def _is_exact(result: Multipliers, steps: Tensor) -> bool:
    """Return whether the multipliers of steps (m, C, H, W) sum to the difference of the scores, which shows the order.

    Rows that are paired in another order than the network's miss it.
    """
    shares = (steps * result.values).flatten(1)
    difference = result.scores - result.others
    size = shares.abs().sum(1) + result.scores.abs() + result.others.abs()
    return bool(((shares.sum(1) - difference).abs() <= torch.finfo(steps.dtype).eps ** 0.5 * size).all())


def _pair_multipliers(batch: Batch, inputs: Tensor, others: Tensor, rows: Tensor, pairing: Pairing) -> Multipliers:
    """Return the multipliers for rows in the order of a pairing."""
    count, context = len(inputs), batch.context
    if batch.classifier.outline(batch.size).rows.decides:
        raise BadInput(
            "multipliers: expected a network that runs images and references together, got one that branches on "
            "numbers of each image, as `if x.max() > 1`; use integrated-gradients"
        )
    context.counters.forwards += count + len(others)
    context.counters.backwards += count + len(others)
    both = torch.cat([inputs, others]).detach().requires_grad_(True)
    with torch.enable_grad():
        activations = both.clone()
        with batch.classifier.probe() as probe:
            graph = probe.graph()
            _install(probe, pairing, constants_cut)
            logits = context.run(batch.classifier, activations)
            scores, other_scores = _scores(batch.target.take(rows), logits, pairing)
            check_graph(scores)
            graph.before(scores)
            graph.refuse_hidden(nodes(scores, {None}), "multipliers", _WITHOUT_RULES)
            _install(probe, pairing, lambda rule: rule)  # a checkpoint computes again, from copies without a graph
            (multipliers,) = gradients(scores, [both], arithmetic=batch.arithmetic)
            graph.refuse_hidden(None, "multipliers", _WITHOUT_RULES)
    if multipliers is None:
        raise BadInput(
            "multipliers: expected a graph from the image to the score, got none (detached, quantised or outside torch "
            "in between); use a method without gradients, such as occlusion"
        )
    return Multipliers(multipliers[:count], scores.detach(), other_scores.detach())


def _scores(target: Target, logits: Tensor, pairing: Pairing) -> tuple[Tensor, Tensor]:
    """Return the scores of both sides; a callable target is part of the network, so it gets all logits at once."""
    count = pairing.count
    mates = count + (torch.zeros_like(target.index) if pairing.mates is None else pairing.mates)
    if target.function is not None:
        scores = target.score(logits)
        return scores[:count], scores[mates]
    return target.score(logits[:count]), target.score(logits[mates])


def _install(probe: Probe, pairing: Pairing, adapt: Callable[[Rule], Rule]) -> None:
    """Register the rules, each changed by `adapt`, on a probe."""
    for functions, rule in RULES:
        probe.rule(functions, adapt(_where_activations(pairing, rule)))
    probe.otherwise(adapt(partial(_otherwise, pairing)))


def _where_activations(pairing: Pairing, rule: Callable[..., Any]) -> Callable[..., Any]:
    """Return the rule for the probe: skips calls without activations and copies the output of in-place calls back."""

    def call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not activations_in((args, kwargs)):
            return function(*args, **kwargs)
        in_place = bool(kwargs.get("inplace"))
        args = (kwargs["input"], *args) if "input" in kwargs else args
        kwargs = {name: value for name, value in kwargs.items() if name not in ("input", "inplace")}
        try:
            output = rule(pairing, function, args, kwargs)
        except BadInput as error:
            output = refusing(error, function, args, kwargs)
        return args[0].copy_(output) if in_place else output

    return call


def _otherwise(pairing: Pairing, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run a linear operation, or one without a rule, which refuses multipliers."""
    name = getattr(function, "__name__", str(function))
    if name == "__get__" or not activations_in((args, kwargs)):
        return function(*args, **kwargs)
    if function in LINEAR_MAPS:
        if function not in _SELECTIONS or not any(differs(pairing, place) for place in _places((args, kwargs))):
            return function(*args, **kwargs)
        name = f"{name.strip('_')} at places that depend on the image"
    error = BadInput(
        f"multipliers: expected operations with a rule, got {name.strip('_')}; "
        "use integrated-gradients, which needs none"
    )
    return refusing(error, function, args, kwargs)


def _places(values: Any) -> list[Tensor]:
    """Return the masks and indices in a tree of arguments that have several axes, the first that of the images."""
    leaves = [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]
    rows = {len(leaf) for leaf in leaves if leaf.requires_grad and leaf.ndim}
    return [leaf for leaf in leaves if not leaf.is_floating_point() and leaf.ndim > 1 and len(leaf) in rows]
