"""Multipliers: how much of a difference in the score each difference in the input accounts for, by DeepLIFT's Rescale.

    M such that  sum((x - x') * M) = score(x) - score(x')

One forward takes the inputs and what they are compared with, [x; x'], and one backward carries multipliers instead of
gradients: linear operations hand them on as they are, all others by a rule of `multiplier_operations`. The probe sees
operations call by call, so functional, in-place and reused ones are all met; one that has no rule is refused by name,
because its gradient would pass for a multiplier and the sum would be lost.

Shapes: x (m, C, H, W); x' (u, C, H, W), of which several x may share one; M (m, C, H, W).
Source: Shrikumar, Greenside & Kundaje, ICML 2017, arXiv:1704.02685.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.methods.gradient.multiplier_operations import RULES
from xaikit.methods.gradient.multiplier_rules import Pairing, activations_in
from xaikit.model.hooks import Probe
from xaikit.model.target import Target
from xaikit.model.torch_functions import named
from xaikit.run.batch import Batch, check_graph

_LINEAR = named(
    "add sub subtract rsub neg negative positive sum mean cumsum diff "
    "cat concat concatenate stack hstack vstack dstack chunk split tensor_split unbind "
    "getitem setitem select narrow index_select gather take_along_dim flip roll rot90 "
    "flatten unflatten view view_as reshape reshape_as squeeze unsqueeze expand expand_as broadcast_to repeat tile "
    "repeat_interleave permute transpose t swapaxes swapdims movedim moveaxis ravel contiguous clone "
    "to float double half bfloat16 type type_as cpu cuda requires_grad "
    "avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d "
    "dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout "
    "pad interpolate upsample pixel_shuffle pixel_unshuffle channel_shuffle unfold fold"
)


class Multipliers(NamedTuple):
    """What one portion of pairs gives.

    Args:
        values: (m, C, H, W) the multipliers.
        scores: (m,) of the first of each pair.
        others: (m,) of the second.
    """

    values: Tensor
    scores: Tensor
    others: Tensor


def pair_multipliers(
    batch: Batch, inputs: Tensor, others: Tensor, rows: Tensor, mates: Tensor | None = None
) -> Multipliers:
    """Return the multipliers between inputs and what they are compared with; they are the same both ways.

    Args:
        batch: of the images, for targets and context.
        inputs: (m, C, H, W) in the network's coordinates.
        others: (u, C, H, W).
        rows: (m,) the image of the batch whose target counts for each pair.
        mates: (m,) which of the others each input is compared with; None where all share one.

    Raises:
        BadInput: an operation without a rule, or a network that cuts its own graph.
    """
    count, context = len(inputs), batch.context
    context.counters.forwards += count + len(others)
    context.counters.backwards += count + len(others)
    pairing = Pairing(len(inputs), len(others), mates)
    both = torch.cat([inputs, others]).detach().requires_grad_(True)
    with torch.enable_grad(), batch.classifier.probe() as probe:
        _install(probe, pairing)
        logits = context.run(batch.classifier, both)
        scores, compared = _scores(batch.target.take(rows), logits, pairing, count)
    check_graph(scores)
    (found,) = torch.autograd.grad(scores.sum(), both)
    return Multipliers(found[:count], scores.detach(), compared.detach())


def _scores(target: Target, logits: Tensor, pairing: Pairing, count: int) -> tuple[Tensor, Tensor]:
    """Return the scores of both sides; a callable is part of the network, so it meets all logits at once."""
    mates = torch.zeros_like(target.index) if pairing.mates is None else pairing.mates[:count]
    mates = pairing.count + mates
    if target.function is not None:
        scores = target.score(logits)
        return scores[:count], scores[mates]
    return target.score(logits[:count]), target.score(logits[mates])


def _install(probe: Probe, pairing: Pairing) -> None:
    for functions, rule in RULES:
        probe.rule(functions, _where_activations(pairing, rule))
    probe.observe(None, _refuse_unknown)


def _where_activations(pairing: Pairing, rule: Callable[..., Any]) -> Callable[..., Any]:
    """Return a rule for the probe, which leaves alone calls on constants and writes back what is done in place."""

    def call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not activations_in((args, kwargs)):
            return function(*args, **kwargs)
        in_place = bool(kwargs.get("inplace"))
        args = (kwargs["input"], *args) if "input" in kwargs else args
        kwargs = {name: value for name, value in kwargs.items() if name not in ("input", "inplace")}
        output = rule(pairing, function, args, kwargs)
        return args[0].copy_(output) if in_place else output

    return call


def _refuse_unknown(function: Callable[..., Any], args: Any, kwargs: Any, output: Any) -> None:
    """Refuse an operation that changes activations by no rule."""
    if function in _LINEAR or not activations_in(output):
        return
    if function.__name__ != "__get__":
        raise BadInput(
            f"multipliers: expected operations with a rule, got {function.__name__.strip('_')}; "
            "use integrated-gradients, which needs none"
        )
