"""The target: the score of each image that is explained.

    index      z_c                 the logit of class c
    contrast   z_c - z_c'          the logit of c against c'
    callable   f(z)                any function of the logits (N, K) -> (N,)

A target is resolved once, before anything else, into tensors with a name and a hash.

Shapes: logits (N, K); index (N,) int64; scores (N,).
"""

from __future__ import annotations

import operator
import re
import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from xaikit.foundation.errors import BadInput, UnknownName, XaikitError, XaikitWarning
from xaikit.foundation.identity import fingerprint
from xaikit.foundation.memory import out_of_memory
from xaikit.model.outputs import Output, to_probabilities

_FAILURES = (RuntimeError, TypeError, ValueError, LookupError, AttributeError, AssertionError)
_REMEDY = "return one score for each of any number of rows; for classes give an index, or one per image as a sequence"

ScoreFunction = Callable[[Tensor], Tensor]
Score = Literal["probability", "logit", "log-odds", "sigmoid"]
"""The quantity used as the network's confidence."""


@dataclass(frozen=True)
class Contrast:
    """Explain one class against another: the score is the difference of their logits.

    Args:
        target: the explained class: index, label, sequence or tensor; None is the top class.
        against: the class it is compared with, another one: index, label, sequence or tensor; None is the runner-up.
    """

    target: Any = None
    against: Any = None


@dataclass(frozen=True, eq=False)
class Target:
    """A resolved target, which functions take wherever they take a target.

    Args:
        index: (N,) int64, the explained class of each image; for a callable, the top class.
        against: (N,) int64, the class each is compared with, or None.
        function: the callable, or None.
        names: name of the target for each image.
    """

    index: Tensor
    against: Tensor | None = None
    function: ScoreFunction | None = None
    names: tuple[str, ...] = field(default=())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Target) and self.keys == other.keys and self.names == other.names

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, rows: Tensor | slice) -> Target:
        return self.take(rows)

    @classmethod
    def of(cls, target: Tensor | Target) -> Target:
        """Return the resolved target for class indices (N,), or for itself."""
        return target if isinstance(target, Target) else cls(target)

    @classmethod
    def join(cls, parts: Sequence[Target]) -> Target:
        """Return the target of the images of all parts, which are of one kind."""
        against = [part.against for part in parts if part.against is not None]
        return replace(
            parts[0],
            index=torch.cat([part.index for part in parts]),
            against=torch.cat(against) if against else None,
            names=tuple(name for part in parts for name in part.names),
        )

    @property
    def classes(self) -> Tensor:
        """(N,) int64, the explained classes; -1 for a callable, which explains none."""
        return self.index if self.function is None else torch.full_like(self.index, -1)

    @property
    def keys(self) -> list[Hashable]:
        """One value per image that identifies its target in this process."""
        against = [None] * len(self) if self.against is None else self.against.tolist()
        function = None if self.function is None else _Identity(self.function)
        return [(index, other, function) for index, other in zip(self.index.tolist(), against, strict=True)]

    def to(self, device: torch.device) -> Target:
        """Return the target with its indices on a device."""
        return replace(
            self, index=self.index.to(device), against=None if self.against is None else self.against.to(device)
        )

    def score(self, logits: Tensor) -> Tensor:
        """Return the explained score (N,) of logits (N, K); differentiable.

        Raises:
            BadInput: a callable fails, or does not return one score per row.
        """
        if self.function is not None:
            return _called(self.function, logits)
        score = logits.gather(1, self.index[:, None])[:, 0]
        if self.against is None:
            return score
        return score - logits.gather(1, self.against[:, None])[:, 0]

    @property
    def against_itself(self) -> list[bool]:
        """Whether each image's class is compared with itself."""
        return [False] * len(self) if self.against is None else (self.index == self.against).tolist()

    def require_class(self, method: str) -> None:
        """Check that the target is a class, for a method that cannot explain a contrast or a callable.

        Raises:
            BadInput: the target is a contrast or a callable; the message names the method.
        """
        if self.function is not None or self.against is not None:
            raise BadInput(f"{method}: expected a class as target, got {self.names[0]}; give an index")

    def pick(self, values: Tensor) -> Tensor:
        """Return each image's entry (N,) for its class from values (N, K), such as probabilities."""
        return values.gather(1, self.index[:, None])[:, 0]

    def confidence(self, logits: Tensor, output: Output, score: Score = "probability") -> Tensor:
        """Return the network's confidence (N,) in the target; differentiable.

        For a class it is the probability. For a contrast it is sigmoid(z_c - z_c'), the probability of c in a choice
        between the two: unlike p_c - p_c' it lies in [0, 1], does not depend on other classes, and is never 0 / 0 in a
        ratio. The two classes of one logit z, shown as [-z, z], are that choice: it is sigmoid(z). For a callable it
        is the callable's value.

        Args:
            logits: (N, K) logits.
            output: meaning of the logits.
            score: "probability", "logit", "log-odds" against all other classes, or "sigmoid" of the logit.

        Raises:
            BadInput: the network is a regression, and anything but its value is asked for.
        """
        margin = self.score(logits)
        if self.function is not None:
            return margin
        if output == "regression" and score != "logit":
            raise BadInput(
                f"score: expected a classifier with probabilities, got a regression, which has no {score}; "
                "give score='logit' to keep_curve, or a callable as target"
            )
        if self.against is not None:
            margin = margin / 2 if output == "binary" else margin
            return margin.sigmoid() if score in ("probability", "sigmoid") else margin
        if score == "probability":
            return self.pick(to_probabilities(logits, output))
        if score == "log-odds" and output == "softmax":
            return margin - logits.scatter(1, self.index[:, None], -torch.inf).logsumexp(1)
        return margin.sigmoid() if score == "sigmoid" else margin

    def take(self, rows: Tensor | slice) -> Target:
        """Return the target of the images `rows`; a row may repeat."""
        indices = range(len(self.index))[rows] if isinstance(rows, slice) else rows.tolist()
        names = tuple(self.names[row] for row in indices) if self.names else ()
        return replace(
            self, index=self.index[rows], against=None if self.against is None else self.against[rows], names=names
        )

    @property
    def hash(self) -> str:
        """16 hexadecimal digits that identify the target."""
        against = None if self.against is None else self.against.tolist()
        function = None if self.function is None else _function_name(self.function)
        return fingerprint({"index": self.index.tolist(), "against": against, "function": function})


class _Identity:
    """A key for an object itself, equal or hashable or not; it keeps the object alive."""

    def __init__(self, held: Any) -> None:
        self._held = held

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and other._held is self._held

    def __hash__(self) -> int:
        return id(self._held)


def lost(logits: Tensor) -> Tensor:
    """Stand for a callable target that was not saved with its attribution.

    Raises:
        BadInput: always.
    """
    raise BadInput("target: expected the callable that was explained, which a file does not keep; pass it as target")


def _function_name(function: ScoreFunction) -> list[str]:
    """Identify a callable by module, name and code, the same in every process."""
    named = function if hasattr(function, "__qualname__") else type(function)
    code = getattr(function, "__code__", None)
    constants = [] if code is None else [repr(value) for value in code.co_consts if not hasattr(value, "co_code")]
    return [named.__module__, named.__qualname__, "" if code is None else code.co_code.hex(), *constants]


def check_target(target: Any, count: int) -> Any:
    """Return the target with arrays and tensors converted to plain numbers.

    Raises:
        BadInput: a sequence does not have one entry for each of the `count` images, or indices are not integers.
    """
    if isinstance(target, Contrast):
        return Contrast(check_target(target.target, count), check_target(target.against, count))
    if isinstance(target, Target):
        if len(target) != count:
            raise BadInput(f"target: expected that of {count} images, got that of {len(target)}; give their own")
        return target
    if isinstance(target, Tensor) and (target.is_floating_point() or target.dtype == torch.bool):
        raise BadInput(f"target: expected class indices as integers, got {target.dtype}; use target.long()")
    if hasattr(target, "tolist"):
        target = target.tolist()
    if _one_per_image(target) and len(target) != count:
        raise BadInput(f"target: expected {count} entries, one per image, got {len(target)}; give one or {count}")
    return target


def target_rows(target: Any, rows: slice) -> Any:
    """Return the part of a checked target for the images `rows`."""
    if isinstance(target, Contrast):
        return Contrast(target_rows(target.target, rows), target_rows(target.against, rows))
    if isinstance(target, Target):
        return target.take(rows)
    return target[rows] if _one_per_image(target) else target


def _one_per_image(target: Any) -> bool:
    return isinstance(target, Sequence) and not isinstance(target, str)


def resolve_target(target: Any, logits: Tensor, labels: Sequence[str] | None = None) -> Target:
    """Return the `Target` of a batch for the user's target.

    Args:
        target: None (top class), int, label, sequence of these, int tensor, `Contrast`, a callable
            `logits (N, K) -> (N,)` that scores each row on its own, the `Target` of an attribution of the same images,
            or an object with an int `category`. A label is matched by its whole text, then by whole words, then by a
            part; a string of digits that is not a label is an index.
        logits: (N, K) logits of the unchanged images.
        labels: names of the K classes, if known.

    Raises:
        BadInput: an index out of range, a wrong count, an ambiguous label, a class against itself, or a callable that
            does not return (N,).
        UnknownName: a label that matches no class.
    """
    count = len(logits)
    if isinstance(target, Target):
        return _checked(check_target(target, count), logits)
    if isinstance(target, Contrast):
        index = _indices(target.target, logits, labels)
        against = _runner_up(logits, index) if target.against is None else _indices(target.against, logits, labels)
        _check_against(index, against, labels, chosen=target.target is not None)
        names = tuple(
            f"{_name(c, labels)} against {_name(d, labels)}"
            for c, d in zip(index.tolist(), against.tolist(), strict=True)
        )
        return Target(index, against, names=names)
    if callable(target) and not hasattr(target, "category"):
        _check_function(target, logits)
        name = getattr(target, "__name__", type(target).__name__)
        return Target(logits.argmax(1), function=target, names=(name,) * count)
    index = _indices(target, logits, labels)
    return Target(index, names=tuple(_name(c, labels) for c in index.tolist()))


def _check_against(index: Tensor, against: Tensor, labels: Sequence[str] | None, *, chosen: bool) -> None:
    """Check that no class is compared with itself; warn where an image's top class is, which depends on the image.

    Raises:
        BadInput: a class that the user chose is compared with itself.
    """
    same = index[index == against]
    if not len(same):
        return
    name = _name(int(same[0]), labels)
    got = f"target: expected two classes to compare, got {name} against itself"
    if chosen:
        raise BadInput(f"{got}; give another class, or None for the runner-up")
    warnings.warn(f"{got} for {len(same)} images, whose scores are 0", XaikitWarning, stacklevel=2)


def _checked(target: Target, logits: Tensor) -> Target:
    """Return a resolved target on the device of the logits (N, K).

    Raises:
        BadInput: it is of another model: its classes are not among the K.
    """
    if target.function is not None:
        _check_function(target.function, logits)
        return replace(target, index=logits.argmax(1))
    for indices in (target.index, target.against):
        if indices is not None and len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < logits.shape[1]:
            raise BadInput(f"target: expected classes from 0 to {logits.shape[1] - 1}, got {indices.tolist()}")
    return target.to(logits.device)


def _check_function(function: ScoreFunction, logits: Tensor) -> None:
    """Check that a callable scores each row on its own: the same among more rows, and in another place.

    Methods give it the rows of many masked or noisy copies of an image at once. Of the other rows one is smaller
    and three are larger, so that no least, middle, mean or largest row stays what it was.
    """
    score = _called(function, logits)
    if not len(logits):
        return
    step = logits.abs().max() + 1
    more = torch.cat([logits + by * step for by in (1, 0, -2, 3, 4)])
    among = _called(function, more, "that scores each row on its own")[len(logits) : 2 * len(logits)]
    rounding = 1e-4 * float(score.detach().abs().max().nan_to_num(posinf=0))
    if not torch.allclose(among, score, rtol=1e-4, atol=rounding, equal_nan=True):
        raise BadInput(
            f"target: expected a callable that scores each row on its own, got one whose score of a row depends on the "
            f"other rows; {_REMEDY}"
        )


def _called(function: ScoreFunction, logits: Tensor, wanted: str | None = None) -> Tensor:
    """Return the scores (N,) that a callable gives the logits (N, K), which it may overwrite.

    Args:
        function: the callable.
        logits: (N, K).
        wanted: what it is expected to do, for the message; None is its shapes.
    """
    expected = f"target: expected a callable {wanted or f'{tuple(logits.shape)} -> ({len(logits)},)'}"
    try:
        score = function(logits.clone())
    except _FAILURES as error:
        if isinstance(error, XaikitError) or out_of_memory(error):
            raise
        reason = " ".join(str(error).split())
        raise BadInput(f"{expected}, got {type(error).__name__}: {reason}; {_REMEDY}") from error
    if not isinstance(score, Tensor):
        raise BadInput(f"{expected}, got {type(score).__name__}; {_REMEDY}")
    if tuple(score.shape) != (len(logits),) or not score.is_floating_point():
        raise BadInput(f"{expected}, got {tuple(score.shape)} {score.dtype} for {len(logits)} rows; {_REMEDY}")
    return score


def _indices(target: Any, logits: Tensor, labels: Sequence[str] | None) -> Tensor:
    count, classes = logits.shape
    if target is None:
        return logits.argmax(1)
    target = check_target(target, count)
    entries = target if _one_per_image(target) else [target] * count
    values = [_index(entry, classes, labels) for entry in entries]
    return torch.tensor(values, dtype=torch.int64, device=logits.device)


def _index(target: Any, classes: int, labels: Sequence[str] | None) -> int:
    target = getattr(target, "category", target)
    if isinstance(target, str):
        return _from_label(target, classes, labels)
    index = _integer(target)
    if index is None:
        kind = type(target).__name__
        raise BadInput(f"target: expected a class index, label, sequence, tensor or callable, got {kind}")
    if not 0 <= index < classes:
        remedy = "; a callable has no class: give the callable, or the attribution itself" if index == -1 else ""
        raise BadInput(f"target: expected a class from 0 to {classes - 1}, got {index}{remedy}")
    return index


def _integer(value: Any) -> int | None:
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None


def _from_label(label: str, classes: int, labels: Sequence[str] | None) -> int:
    wanted = _plain(label)
    exact = [index for index, known in enumerate(labels or ()) if _plain(known) == wanted]
    if not exact and re.fullmatch("-?[0-9]+", wanted):
        return _index(int(wanted), classes, labels)
    if not labels:
        raise BadInput(
            f"target: got the label {label!r}, but the model has no labels; give an index from 0 to {classes - 1}"
        )
    whole = re.compile(rf"\b{re.escape(wanted)}\b")
    words = [index for index, known in enumerate(labels) if whole.search(_plain(known))]
    matches = exact or words or [index for index, known in enumerate(labels) if wanted in _plain(known)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        shown = ", ".join(f"{index} {labels[index]!r}" for index in matches[:4]) + (", ..." if len(matches) > 4 else "")
        raise BadInput(f"target: {label!r} matches {len(matches)} labels ({shown}); give the index")
    raise UnknownName("label", label, labels, f"give an index from 0 to {len(labels) - 1}")


def _plain(label: str) -> str:
    return label.casefold().replace("_", " ").strip()


def _name(index: int, labels: Sequence[str] | None) -> str:
    return labels[index] if labels else f"class {index}"


def _runner_up(logits: Tensor, index: Tensor) -> Tensor:
    if logits.shape[1] < 2:
        raise BadInput("target: a contrast needs two classes, got a model with one; give an index instead")
    return logits.scatter(1, index[:, None], -torch.inf).argmax(1)
