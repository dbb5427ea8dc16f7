"""The outputs of a network: their format and their meaning.

output -> select -> (N, K) -> the tensor before a final softmax or sigmoid -> logits (N, K) -> probabilities (N, K)

softmax       one class of K                 p = softmax(z)
sigmoid       K independent classes          p = sigmoid(z)
binary        one logit z                    shown as the two classes [-z, z], p = sigmoid
regression    K values                       no probabilities
"""

import warnings
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from xaikit.foundation.errors import BadInput, XaikitWarning
from xaikit.model.ends import EndsIn, Forward, refuse_saturated
from xaikit.model.layers import Outline
from xaikit.model.selection import Selection

Output = Literal["softmax", "sigmoid", "binary", "regression"]


_SUM_TOLERANCE = 0.01
_ANEW = "it was changed: make a new Classifier of it"


def check_output(output: str | None) -> None:
    """Check that `output` is None or one of the four kinds.

    Raises:
        BadInput: it is neither.
    """
    if output is not None and output not in get_args(Output):
        raise BadInput(f"output: expected one of {', '.join(get_args(Output))}, got {output!r}")


def meaning(output: Output | None, seen: Outline, labels: Sequence[str] | None, name: str) -> Output:
    """Return the meaning of a network's outputs, with a warning if it returns, or seems to return, probabilities.

    Args:
        output: the user's choice, or None.
        seen: outline of the network.
        labels: names of the classes, or None.
        name: name of the network.

    Raises:
        BadInput: softmax for one output, binary for several, or the numbers of labels and classes differ.
    """
    classes, ends_in = seen.classes, seen.ends_in
    if output is None:
        output = "binary" if classes == 1 else "sigmoid" if ends_in == "sigmoid" else "softmax"
    if output == "softmax" and classes == 1:
        raise BadInput("output: expected several logits for softmax, got one; use output='binary'")
    if output == "binary" and classes != 1:
        raise BadInput(f"output: expected one logit for binary, got {classes}; use 'sigmoid' or 'softmax'")
    expected = 2 if output == "binary" else classes
    if labels is not None and len(labels) != expected:
        raise BadInput(f"labels: expected {expected}, one per class, got {len(labels)}")
    if _undone(output, ends_in):
        instead = "log-probabilities are" if ends_in != "sigmoid" else "its inverse is"
        warnings.warn(
            f"{name} already ends in a {ends_in}; {instead} explained instead of logits", XaikitWarning, stacklevel=4
        )
    if seen.end.bounded and output != "regression":
        warnings.warn(
            f"{name}: expected logits, got outputs that stay in [0, 1] and follow from no softmax or sigmoid that can "
            "be seen; they are taken as logits. Return the logits, or set output='regression' for plain values",
            XaikitWarning,
            stacklevel=4,
        )
    return output


def _undone(output: Output, ends_in: EndsIn) -> bool:
    if ends_in == "sigmoid":
        return output in ("sigmoid", "binary")
    return output == "softmax" and ends_in in ("softmax", "log-softmax")


def run(network: nn.Module, inputs: Tensor, seen: Outline, output: Output, select: Selection) -> Tensor:
    """Return the logits (N, K) of a network, at least float32: a final softmax or sigmoid undone, one z as [-z, z].

    A network that takes one image at a time, or branches on numbers of the image, runs on each of them.

    Args:
        network: the network.
        inputs: (N, C, H, W) in the network's coordinates, in its dtype.
        seen: outline of the network.
        output: meaning of the logits.
        select: converts the network's output to (N, K).

    Raises:
        BadInput: there are no logits in the output, or none can be told from saturated probabilities.
    """
    if (seen.rows.alone or seen.rows.decides) and len(inputs) > 1:
        images = [image.clone() for image in torch.split(inputs, 1)]  # a network may write into its input
        return torch.cat([run(network, image, seen, output, select) for image in images])
    if _undone(output, seen.ends_in):
        with Forward(seen.end.width) as forward:
            outputs = _as_seen(select(network(inputs), seen.classes), seen)
        before = forward.before(seen.end, outputs)
        logits = _inverse(outputs, seen.ends_in) if before is None else seen.end.logits(_full(before))
    else:
        outputs = _as_seen(select(network(inputs), seen.classes), seen)
        if seen.end.only_bits and output != "regression":
            refuse_saturated(outputs, "sigmoid")
        logits = _full(outputs).clone()  # the network may return the same tensor again, overwritten
    return torch.cat([-logits, logits], 1) if output == "binary" else logits


def _as_seen(outputs: Tensor, seen: Outline) -> Tensor:
    if outputs.shape[1] != seen.classes:
        raise BadInput(f"model: expected {seen.classes} outputs, as at first, got {outputs.shape[1]}; {_ANEW}")
    return outputs


def check_logits(logits: Tensor, seen: Outline, output: Output) -> None:
    """Check that logits (N, K) of a network that ended in none at first are no probabilities of a softmax.

    Raises:
        BadInput: they are.
    """
    if output == "softmax" and seen.ends_in == "logits":
        shares = (logits >= 0).all() & ((logits.sum(1) - 1).abs() < _SUM_TOLERANCE).all()
        if bool(shares & ((seen.outputs.sum(1) - 1).abs() > _SUM_TOLERANCE).any()):
            raise BadInput(f"model: expected logits, as at first, got sums of 1, as of probabilities; {_ANEW}")


def _inverse(outputs: Tensor, ends_in: EndsIn) -> Tensor:
    """Return logits (N, K) by the inverse of a softmax or sigmoid, for outputs that have not saturated."""
    refuse_saturated(outputs, ends_in)
    outputs = _full(outputs)
    shares = outputs.detach().exp() if ends_in == "log-softmax" else outputs.detach()
    outside = (shares < 0) | (shares > 1 + _SUM_TOLERANCE)
    others = (shares.sum(1, keepdim=True) - 1).abs() > _SUM_TOLERANCE if ends_in != "sigmoid" else outside
    if bool((outside | others).any()):
        raise BadInput(f"model: expected outputs of a {ends_in}, as at first, got others; {_ANEW}")
    if ends_in == "log-softmax":
        return outputs.clone()
    limits = torch.finfo(outputs.dtype)
    outputs = outputs.clamp(limits.tiny, 1 if ends_in == "softmax" else 1 - limits.eps)
    return outputs.log() if ends_in == "softmax" else torch.logit(outputs)


def _full(outputs: Tensor) -> Tensor:
    return outputs if outputs.dtype == torch.float64 else outputs.float()


def to_probabilities(logits: Tensor, output: Output) -> Tensor:
    """Return probabilities (N, K) of logits (N, K); the values of a regression are returned unchanged."""
    if output == "regression":
        return logits
    return logits.softmax(1) if output == "softmax" else logits.sigmoid()
