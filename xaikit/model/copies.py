"""A copy of a classifier whose parameters are then changed; refused where the copy would keep weights as they are.

    copy.deepcopy -> two forwards -> unregistered weights: tensors used in both with the same values, neither
                                     parameters, buffers nor results of the forward

A backbone in a plain list or in the closure of a function or hook, and weights computed once, are such tensors.
A tensor that is no `nn.Parameter` counts only as a matrix or kernel: a network may hold the mean of its inputs.

Networks that keep what they compute from their parameters (attention biases of LeViT) forget it when they are trained;
`forget` leaves and enters evaluation for that.

What it cannot see: weights inside scripted or compiled code, packed weights, and those of another library.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from xaikit.foundation.errors import BadInput
from xaikit.model.classifier import Classifier


@dataclass
class _Use:
    """A tensor that no call of the forward returned.

    Args:
        tensor: the tensor; holding it keeps its memory from being used for another one.
        values: its values in the first forward.
        function: name of the function that takes it.
    """

    tensor: Tensor
    values: Tensor
    function: str


def copied(classifier: Classifier, image: Tensor, purpose: str, remedy: str) -> Classifier:
    """Return a copy of a classifier whose weights are all parameters or buffers.

    Args:
        classifier: the classifier to copy.
        image: (1, C, H, W) in [0, 1]; the forwards are of it and of image / 2.
        purpose: what the copy is for, which begins the message.
        remedy: what the user can do instead, which ends it.

    Raises:
        BadInput: the network cannot be copied, has no parameters, or uses weights that are not registered; the message
            gives their shape and the function that uses them.
    """
    try:
        other = copy.deepcopy(classifier)
    except (RuntimeError, TypeError) as error:  # such as a tensor with a graph, or a lock, that a module keeps
        reason = " ".join(str(error).split())
        raise BadInput(
            f"{purpose}: expected a network that copy.deepcopy can copy, got {type(error).__name__}: {reason}; "
            f"remove what it keeps, or {remedy}"
        ) from error
    if not any(True for _ in other.module.parameters()):
        raise BadInput(f"{purpose}: expected a network with parameters, got {classifier.name} without; {remedy}")
    first = _uses(other, image)
    forget(other.module)
    again = _uses(other, image / 2)
    for place, use in first.items():
        if place in again and torch.equal(use.tensor, use.values):
            raise BadInput(
                f"{purpose}: expected the weights of {classifier.name} as parameters, got a tensor "
                f"{tuple(use.tensor.shape)} for {use.function} that is not registered; register it or its module (a "
                f"constant as a buffer), or {remedy}"
            )
    return other


def forget(network: nn.Module) -> None:
    """Leave and enter evaluation, at which networks forget what they computed from their parameters."""
    network.train()
    network.eval()


def _uses(classifier: Classifier, image: Tensor) -> dict[int, _Use]:
    """Return the tensors that a forward uses and does not make, by the address of their memory."""
    uses: dict[int, _Use] = {}
    with classifier.borrowed(), torch.no_grad(), classifier.probe() as probe:
        inputs = classifier.normalize(classifier.check(image))
        known = {_place(tensor): tensor for tensor in [*classifier.parameters(), *classifier.buffers(), inputs]}

        def on_function(function: Callable[..., Any], args: Any, kwargs: Any, output: Any) -> None:
            for leaf in tree_leaves((args, kwargs)):
                if _is_weight(leaf) and _place(leaf) not in known and _place(leaf) not in uses:
                    uses[_place(leaf)] = _Use(leaf, leaf.detach().clone(), getattr(function, "__name__", str(function)))
            for leaf in tree_leaves(output):
                if isinstance(leaf, Tensor) and _place(leaf) not in uses:
                    known[_place(leaf)] = leaf  # kept, so that no other tensor takes its memory

        probe.observe(None, on_function)
        classifier.logits(inputs)
    return uses


def _is_weight(leaf: Any) -> bool:
    if not isinstance(leaf, Tensor) or not (leaf.is_floating_point() or leaf.is_complex()) or leaf.numel() < 2:
        return False
    return isinstance(leaf, nn.Parameter) or leaf.squeeze().ndim > 1


def _place(tensor: Tensor) -> int:
    """Return the address of a tensor's memory; a tensor without one, such as a sparse one, is its own place."""
    try:
        return tensor.untyped_storage().data_ptr()
    except (NotImplementedError, RuntimeError):
        return id(tensor)
