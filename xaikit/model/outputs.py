"""The head: what a network returns, and what its outputs mean.

output -> unwrap -> (N, K) -> undo a softmax or sigmoid at the end -> logits (N, K) -> probabilities (N, K)

softmax       one class of K                 p = softmax(z)
sigmoid       each of K for itself           p = sigmoid(z)
binary        one logit z                    shown as the two classes [-z, z], p = sigmoid
regression    K values                       no probabilities
"""

from __future__ import annotations

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
    """Refuse a word that is no head.

    Raises:
        BadInput: neither None nor one of the four.
    """
    if output is not None and output not in get_args(Output):
        raise BadInput(f"output: expected one of {', '.join(get_args(Output))}, got {output!r}; choose one")


def meaning(output: Output | None, seen: Outline, labels: Sequence[str] | None, name: str) -> Output:
    """Return what a network's outputs mean, and warn where it already gives probabilities.

    Args:
        output: what the user says, or None.
        seen: outline of the network.
        labels: names of the classes, or None.
        name: of the network.

    Raises:
        BadInput: softmax over one output, binary over several, or another number of labels than of classes.
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
        raise BadInput(f"labels: expected {expected}, one a class, got {len(labels)}; match the network")
    if _undone(output, ends_in) or (output == "softmax" and ends_in == "log-softmax"):
        instead = "its inverse is explained" if ends_in == "sigmoid" else "log-probabilities are explained"
        warnings.warn(f"{name} already ends in a {ends_in}; {instead} instead of logits", XaikitWarning, stacklevel=4)
    return output


def _undone(output: Output, ends_in: EndsIn) -> bool:
    return (output, ends_in) in (("softmax", "softmax"), ("sigmoid", "sigmoid"), ("binary", "sigmoid"))


def as_logits(outputs: Tensor, output: Output, ends_in: EndsIn) -> Tensor:
    """Undo a softmax or sigmoid that the network ends in, and show one logit as two classes."""
    if _undone(output, ends_in):
        limits = torch.finfo(outputs.dtype)
        outputs = outputs.clamp(limits.tiny, 1 if ends_in == "softmax" else 1 - limits.eps)
        outputs = outputs.log() if ends_in == "softmax" else torch.logit(outputs)
    return torch.cat([-outputs, outputs], 1) if output == "binary" else outputs


def to_probabilities(logits: Tensor, output: Output) -> Tensor:
    """Return probabilities (N, K) of logits (N, K); a regression's values unchanged."""
    if output == "regression":
        return logits
    return logits.softmax(1) if output == "softmax" else logits.sigmoid()


def unwrap_output(output: Any, classes: int | None = None) -> Tensor:
    """Find the logits (N, K) in what a network returns.

    Args:
        output: a tensor; the first entry of a tuple; a dict's or object's logits.
        classes: K, to shape the output of a network that drops axes of length one; None when one image was run.

    Raises:
        BadInput: they cannot be found; the message names what was returned.
    """
    found = output
    if isinstance(found, Mapping):
        keys = list(found)
        known = next((key for key in _LOGIT_KEYS if key in found), keys[0] if len(keys) == 1 else None)
        if known is None:
            raise BadInput(f"model: expected logits, got a dict with {keys}; wrap it to return one of them")
        found = found[known]
    elif isinstance(getattr(found, "logits", None), Tensor):
        found = found.logits
    elif isinstance(found, tuple | list) and found:
        found = found[0]
    if not isinstance(found, Tensor):
        raise BadInput(f"model: expected logits as a tensor, got {type(output).__name__}; wrap it to return (N, K)")
    if found.ndim == 4 and found.shape[2] == found.shape[3] == 1:
        found = found[:, :, 0, 0]
    if found.ndim < 2:
        found = found.reshape(-1, classes) if classes else found.reshape(1, -1)
    if found.ndim != 2 or not found.is_floating_point():
        got = f"{tuple(found.shape)} {found.dtype}"
        raise BadInput(f"model: expected logits (N, K), got {got}; wrap it to return (N, K)")
    return found
