"""The outputs of a network: their format and their meaning.

output -> unwrap -> (N, K) -> undo a final softmax or sigmoid -> logits (N, K) -> probabilities (N, K)

softmax       one class of K                 p = softmax(z)
sigmoid       K independent classes          p = sigmoid(z)
binary        one logit z                    shown as the two classes [-z, z], p = sigmoid
regression    K values                       no probabilities
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from xaikit.foundation.errors import BadInput, XaikitWarning
from xaikit.model.layers import EndsIn, Outline

Output = Literal["softmax", "sigmoid", "binary", "regression"]

_LOGIT_KEYS = ("logits", "out", "output")


def check_output(output: str | None) -> None:
    """Check that `output` is None or one of the four kinds.

    Raises:
        BadInput: it is neither.
    """
    if output is not None and output not in get_args(Output):
        raise BadInput(f"output: expected one of {', '.join(get_args(Output))}, got {output!r}")


def meaning(output: Output | None, seen: Outline, labels: Sequence[str] | None, name: str) -> Output:
    """Return the meaning of a network's outputs, with a warning if the network already returns probabilities.

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
    if _undone(output, ends_in) or (output == "softmax" and ends_in == "log-softmax"):
        instead = "its inverse is explained" if ends_in == "sigmoid" else "log-probabilities are explained"
        warnings.warn(f"{name} already ends in a {ends_in}; {instead} instead of logits", XaikitWarning, stacklevel=4)
    return output


def _undone(output: Output, ends_in: EndsIn) -> bool:
    return (output, ends_in) in (("softmax", "softmax"), ("sigmoid", "sigmoid"), ("binary", "sigmoid"))


def as_logits(outputs: Tensor, output: Output, ends_in: EndsIn) -> Tensor:
    """Return logits (N, K): a final softmax or sigmoid undone, and one logit z expanded to [-z, z]."""
    if _undone(output, ends_in):
        limits = torch.finfo(outputs.dtype)
        outputs = outputs.clamp(limits.tiny, 1 if ends_in == "softmax" else 1 - limits.eps)
        outputs = outputs.log() if ends_in == "softmax" else torch.logit(outputs)
    return torch.cat([-outputs, outputs], 1) if output == "binary" else outputs


def to_probabilities(logits: Tensor, output: Output) -> Tensor:
    """Return probabilities (N, K) of logits (N, K); the values of a regression are returned unchanged."""
    if output == "regression":
        return logits
    return logits.softmax(1) if output == "softmax" else logits.sigmoid()


def unwrap_output(output: Any, classes: int | None = None) -> Tensor:
    """Return the logits (N, K) in a network's output.

    Args:
        output: a tensor, a tuple whose first entry is the logits, or a dict or object with logits.
        classes: K, to restore the shape if the network drops axes of length one; None if one image was run.

    Raises:
        BadInput: there are no logits; the message names what was returned.
    """
    logits = output
    if isinstance(output, Mapping):
        keys = list(output)
        key = next((key for key in _LOGIT_KEYS if key in output), keys[0] if len(keys) == 1 else None)
        if key is None:
            raise BadInput(f"model: expected logits, got a dict with {keys}; wrap it to return one of them")
        logits = output[key]
    elif isinstance(getattr(output, "logits", None), Tensor):
        logits = output.logits
    elif isinstance(output, tuple | list) and output:
        logits = output[0]
    if not isinstance(logits, Tensor):
        raise BadInput(f"model: expected logits as a tensor, got {type(output).__name__}; wrap it to return (N, K)")
    if logits.ndim == 4 and logits.shape[2] == logits.shape[3] == 1:
        logits = logits[:, :, 0, 0]
    if logits.ndim < 2:
        logits = logits.reshape(-1, classes) if classes else logits.reshape(1, -1)
    if logits.ndim != 2 or not logits.is_floating_point():
        got = f"{tuple(logits.shape)} {logits.dtype}"
        raise BadInput(f"model: expected logits (N, K), got {got}; wrap it to return (N, K)")
    return logits
