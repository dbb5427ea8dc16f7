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
from typing import Any, NamedTuple

import torch
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.methods.decomposition.signals import constants_cut
from xaikit.methods.gradient.multiplier_operations import RULES
from xaikit.methods.gradient.multiplier_rules import Pairing, activations_in, refusing
from xaikit.model.target import Target
from xaikit.model.torch_functions import named
from xaikit.run.batch import Batch, check_graph

_LINEAR = named(
    "add sub subtract rsub neg negative positive sum mean cumsum diff "
    "cat concat concatenate stack hstack vstack dstack chunk split tensor_split unbind "
    "getitem setitem select narrow index_select gather take_along_dim flip roll rot90 "
    "flatten unflatten view view_as reshape reshape_as squeeze unsqueeze expand expand_as broadcast_to repeat tile "
    "repeat_interleave permute transpose t swapaxes swapdims movedim moveaxis ravel contiguous clone "
    "copy to float double half bfloat16 type type_as cpu cuda requires_grad "
    "avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d "
    "dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout "
    "pad constant_pad_nd interpolate upsample pixel_shuffle pixel_unshuffle channel_shuffle unfold fold"
)


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
        BadInput: the score depends on an operation without a rule, or the forward detaches the graph.
    """
    count, context = len(inputs), batch.context
    context.counters.forwards += count + len(others)
    context.counters.backwards += count + len(others)
    pairing = Pairing(count, len(others), mates)
    both = torch.cat([inputs, others]).detach().requires_grad_(True)
    with torch.enable_grad():
        activations = both.clone()
        with batch.classifier.probe() as probe:
            for functions, rule in RULES:
                probe.rule(functions, constants_cut(_where_activations(pairing, rule)))
            probe.otherwise(constants_cut(_otherwise))
            logits = context.run(batch.classifier, activations)
            scores, other_scores = _scores(batch.target.take(rows), logits, pairing)
    check_graph(scores)
    (multipliers,) = torch.autograd.grad(scores.sum(), both)
    return Multipliers(multipliers[:count], scores.detach(), other_scores.detach())


def _scores(target: Target, logits: Tensor, pairing: Pairing) -> tuple[Tensor, Tensor]:
    """Return the scores of both sides; a callable target is part of the network, so it gets all logits at once."""
    count = pairing.count
    mates = count + (torch.zeros_like(target.index) if pairing.mates is None else pairing.mates)
    if target.function is not None:
        scores = target.score(logits)
        return scores[:count], scores[mates]
    return target.score(logits[:count]), target.score(logits[mates])


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


def _otherwise(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run a linear operation, or one without a rule, which refuses multipliers."""
    name = getattr(function, "__name__", str(function))
    if function in _LINEAR or name == "__get__" or not activations_in((args, kwargs)):
        return function(*args, **kwargs)
    error = BadInput(
        f"multipliers: expected operations with a rule, got {name.strip('_')}; "
        "use integrated-gradients, which needs none"
    )
    return refusing(error, function, args, kwargs)
