"""Gradients by one backward, and the check that a gradient of zero is true.

    gradients    d sum(score) / d tensor for several tensors, also through checkpoints
    trusted      zeros are returned only where the score does not change with the tensor, or where it is flat here but
                 not elsewhere (a dead ReLU); otherwise an operation without a derivative lies between the two
    leaps        whether f(x + v) - f(x - v) differs from the integral of g . v between them: a function with jumps
    departs      whether a gradient g is not the derivative: g . v differs from (f(x + s v) - f(x - s v)) / 2 s

The backward is `torch.autograd.backward`: reentrant checkpoints refuse `torch.autograd.grad`, and rules that are
installed on the network act on what a checkpoint computes again.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.model.graph import nodes

_STEPS = (0.1, 1.0)  # how far the check moves a tensor, in its standard deviations
_ROOTS = (3, 2, 4)  # of the rounding step: how far finite differences move a tensor, in its standard deviations
_DIRECTIONS = 3
_SCALES = (2.0**12, 2.0**6)  # of the score in float16
_LEAP, _STOPS = 0.1, 8  # how far, and at how many gradients, an integral over a gradient goes
_DEPARTS = 0.2  # share of the change of the score that a gradient may miss at the best step

Trial = Callable[[float, Tensor], tuple[Tensor, Tensor | None]]


def gradients(
    score: Tensor,
    tensors: Sequence[Tensor],
    operations: Iterable[Any] | None = None,
    arithmetic: torch.dtype = torch.float32,
) -> list[Tensor | None]:
    """Return the gradient of the sum of the score by each tensor; None where autograd does not lead to it.

    In float16, small gradients underflow. There the backward is that of a multiple of the score, of the largest that
    does not overflow, and the gradients are float32.

    Args:
        score: (n,) with a graph.
        tensors: tensors that require a gradient. The `.grad` of every tensor stays as it was.
        operations: the nodes of the score's graph, if they are known.
        arithmetic: dtype that the network computes in.
    """
    found = nodes(score, {None}) if operations is None else operations
    leaves = [node.variable for node in found if node.name().endswith("AccumulateGrad")]
    before = [leaf.grad for leaf in leaves]
    for tensor in tensors:
        tensor.retain_grad()
    try:
        for scale in _SCALES if arithmetic == torch.float16 else ():
            scaled = _backward(score, tensors, leaves, scale)
            if all(gradient is None or bool(gradient.isfinite().all()) for gradient in scaled):
                return [None if gradient is None else gradient.float() / scale for gradient in scaled]
        return _backward(score, tensors, leaves)
    finally:
        for tensor in tensors:
            tensor.grad = None
        for leaf, gradient in zip(leaves, before, strict=True):
            leaf.grad = gradient


def _backward(
    score: Tensor, tensors: Sequence[Tensor], leaves: Sequence[Tensor], scale: float | None = None
) -> list[Tensor | None]:
    """Return the gradients of the sum of the score by tensors, times `scale`, after which a backward may follow."""
    for tensor in (*leaves, *tensors):
        tensor.grad = None
    total = score.sum()
    factor = None if scale is None else torch.full_like(total, scale)
    torch.autograd.backward(total, factor, retain_graph=scale is not None)
    return [tensor.grad for tensor in tensors]


def has_checkpoint(score: Tensor) -> bool:
    """Return whether the score depends on a reentrant checkpoint."""
    return any(node.name().startswith("CheckpointFunction") for node in nodes(score, {None}))


def check_graph(score: Tensor) -> None:
    """Check that autograd can differentiate the score, whose gradient would otherwise be taken as zero."""
    if not score.requires_grad:
        raise BadInput(
            "model: expected a score with a gradient, got one without (the forward runs under torch.no_grad or in a "
            "reentrant checkpoint, or the output or target is not differentiable); use a method without gradients, "
            "such as occlusion"
        )


def trusted(gradient: Tensor | None, tensor: Tensor, score: Tensor, trial: Trial, name: str) -> Tensor:
    """Return the gradient, in which an image has zeros only where they are its true gradient.

    Args:
        gradient: gradient of the score by `tensor`, or None.
        tensor: (n, ...) the input, or the output of a layer; other numbers of rows are checked as one.
        score: (n,) score.
        trial: returns the scores (k,) and their gradients (k, ...), or None, of the images `rows` (k,), after
            `moved(tensor, step)` took the tensor's place.
        name: name of the tensor, for the message.

    Raises:
        BadInput: the score of an image changes with the tensor, but its gradient is zero at every value that was
            tried; or the tensor does not lead to the score at all.
    """
    count = len(score)
    flat = ~_alive(gradient, count, each=len(tensor) == count).to(score.device)
    rows = flat.nonzero().flatten()
    changes = torch.zeros_like(rows, dtype=torch.bool)
    for step in _STEPS if len(rows) else ():
        other, other_gradient = trial(step, rows)
        alive = _alive(other_gradient, len(rows), each=len(tensor) == count).to(rows.device)
        changes = (changes | _differ(other.detach(), score.detach()[rows]))[~alive]
        rows = rows[~alive]
        if not len(rows):
            break
    if bool(changes.any()):
        raise BadInput(
            f"model: expected a gradient of the score by {name}, got zero for {int(changes.sum())} of {count} images, "
            "though the score changes with it (detached, rounded, quantised or outside torch in between); use a method "
            "without gradients, such as occlusion"
        )
    if gradient is not None:
        return gradient
    if len(rows) == count:
        raise BadInput(f"model: expected a score that depends on {name}, got one that does not; choose another layer")
    return torch.zeros_like(tensor)


def _alive(gradient: Tensor | None, count: int, *, each: bool) -> Tensor:
    """Return which of `count` images have a gradient other than zero, (count,) bool; together if not `each`."""
    if gradient is None:
        return torch.zeros(count, dtype=torch.bool, device="cpu")
    return gradient.reshape(count, -1).any(1) if each else gradient.any().expand(count)


def departs(gradient: Tensor, tensor: Tensor, score_at: Callable[[Tensor], Tensor], rounding: float) -> Tensor:
    """Return whether a gradient is not the derivative of the score, (n,) bool.

    Finite differences along random directions are compared at several steps. At kinks and by rounding a derivative
    misses the change of the score at some of them; another gradient misses it at all.

    Args:
        gradient: (n, ...) gradient of the score by `tensor`.
        tensor: (n, ...) input, or output of a layer.
        score_at: callable from a value of the tensor to the score (n,).
        rounding: rounding step of the network's arithmetic.
    """
    least = gradient.new_full((len(gradient),), float("inf"), dtype=torch.float64)
    for root in _ROOTS:
        missed, size = torch.zeros_like(least), torch.zeros_like(least)
        for direction in _directions(tensor):
            move = rounding ** (1 / root) * _deviation(tensor) * direction
            change = (score_at(tensor + move) - score_at(tensor - move)).double() / 2
            promised = (gradient * move).flatten(1).double().sum(1)
            missed += (change - promised).abs()
            size += torch.maximum(change.abs(), promised.abs())
        least = torch.minimum(least, torch.where(size > 0, missed / size, 0))
        if not bool((least > _DEPARTS).any()):
            break
    return least > _DEPARTS


def leaps(tensor: Tensor, score_at: Callable[[Tensor], Tensor], gradient_at: Callable[[Tensor], Tensor]) -> Tensor:
    """Return whether the score changes otherwise than its gradient says along the way, (n,) bool.

    Args:
        tensor: (n, ...) input, or output of a layer.
        score_at: callable from a value of the tensor to the score (n,).
        gradient_at: callable from a value of the tensor to the gradient of the score (n, ...).
    """
    missed = torch.zeros(len(tensor), dtype=torch.float64, device=tensor.device)
    size = torch.zeros_like(missed)
    for direction in _directions(tensor):
        move = _LEAP * _deviation(tensor) * direction
        change = (score_at(tensor + move) - score_at(tensor - move)).double()
        promised = torch.zeros_like(change)
        for stop in range(_STOPS):
            gradient = gradient_at(tensor + ((2 * stop + 1) / _STOPS - 1) * move)
            promised += (gradient * move).flatten(1).double().sum(1) * 2 / _STOPS
        missed += (change - promised).abs()
        size += torch.maximum(change.abs(), promised.abs())
    return missed > _DEPARTS * size


def _directions(tensor: Tensor) -> Tensor:
    generator = torch.Generator("cpu").manual_seed(0)
    return torch.randn(_DIRECTIONS, 1, *tensor.shape[1:], generator=generator, device="cpu").to(tensor)


def _deviation(tensor: Tensor) -> Tensor:
    """Return each row's standard deviation, 1 where it is 0, in a shape to broadcast."""
    deviation = tensor.flatten(1).std(1, correction=0).reshape(-1, *[1] * (tensor.ndim - 1))
    return torch.where(deviation > 0, deviation, torch.ones_like(deviation))


def moved(tensor: Tensor, step: float) -> Tensor:
    """Return a tensor plus uniform noise from 0 to 2 * `step` of each row's standard deviation, the same for each."""
    generator = torch.Generator("cpu").manual_seed(0)
    noise = torch.rand(1, *tensor.shape[1:], generator=generator, dtype=torch.float32, device="cpu").to(tensor) * 2
    return tensor + step * noise * _deviation(tensor)


def _differ(first: Tensor, second: Tensor) -> Tensor:
    """Return where scores (n,) differ by more than rounding, (n,) bool."""
    tolerance = torch.finfo(first.dtype).eps ** 0.5
    differs: Tensor = (first - second).abs() > tolerance * (first.abs() + second.abs())
    return differs
