"""The selection: what of a network's output are the logits.

    output -> select (key, attribute, index or callable) -> tensor -> (N, K)

None takes a tensor as it is, `.logits` of an object, the key logits, out or output of a dict, and the first entry of a
tuple, unless it is a map (N, C, H, W) beside an entry (N, K).

    segmentation, over the image       select=lambda out: out["out"].mean((2, 3))
    over a region, mask (H, W) bool    select=lambda out: out["out"][..., mask].mean(-1)
    over the predicted mask            mask = network(x)["out"][0].argmax(0) == 12, fixed, then as over a region
    (features, logits)                 select=1
    {"pred": ..., "features": ...}     select="pred"
    likeness of embeddings (N, D)      select=lambda out: F.cosine_similarity(out, reference)[:, None] and
                                       output="regression"
    detector with scores (N, A, K)     select=lambda out: out[1].amax(1)
"""

import secrets
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from xaikit.foundation.errors import BadInput, XaikitError
from xaikit.foundation.memory import out_of_memory
from xaikit.model.fingerprint import function_identity

Select = str | int | Callable[[Any], Tensor]

_LOGIT_KEYS = ("logits", "out", "output")
_FAILURES = (RuntimeError, TypeError, ValueError, LookupError, AttributeError, AssertionError)


class Selection:
    """Converts a network's output to logits (N, K).

    Args:
        select: key of a dict, name of an attribute, index into a tuple or list, or a callable from the output to
            (N, K); None finds the logits.

    Raises:
        BadInput: `select` is anything else.
    """

    def __init__(self, select: Select | None = None) -> None:
        if select is not None and (isinstance(select, bool) or not (isinstance(select, str | int) or callable(select))):
            raise BadInput(f"select: expected a key, an index or a callable, got {type(select).__name__} {select!r}")
        self._select = select
        self._opaque = secrets.token_hex(8)

    def __call__(self, output: Any, classes: int | None = None) -> Tensor:
        """Return the logits (N, K) in a network's output.

        Args:
            output: what the network returned.
            classes: K, to restore the shape if axes of length one were dropped; None if one image was run.

        Raises:
            BadInput: there are no logits; the message names what there is.
        """
        found = _found(output) if self._select is None else self._selected(output)
        source = "model" if self._select is None else "select"
        if not isinstance(found, Tensor):
            raise BadInput(
                f"{source}: expected logits as a tensor, got {described(found)}; set select= to the key, index or "
                "callable that gives (N, K)"
            )
        if found.ndim == 4 and found.shape[2] == found.shape[3] == 1:
            found = found[:, :, 0, 0]
        if found.ndim < 2:
            found = found.reshape(-1, classes) if classes else found.reshape(1, -1)
        if found.ndim != 2 or not found.is_floating_point():
            raise BadInput(
                f"{source}: expected logits (N, K), got {tuple(found.shape)} {found.dtype}; set select= to what gives "
                f"(N, K){_reduction(self._select, output, found)}"
            )
        return found

    @property
    def identity(self) -> Any:
        """What identifies the selection in a fingerprint; a callable by its code and the values it uses."""
        return function_identity(self._select, self._opaque) if callable(self._select) else self._select

    def _selected(self, output: Any) -> Any:
        select = self._select
        try:
            if callable(select):
                return select(output)
            if isinstance(output, Mapping):
                return output[select]
            if isinstance(select, str) and not isinstance(output, Tensor):
                return getattr(output, select)
            if isinstance(select, int) and isinstance(output, tuple | list):
                return output[select]
        except _FAILURES as error:
            if isinstance(error, XaikitError) or out_of_memory(error):
                raise
            reason = " ".join(str(error).split())
            raise BadInput(
                f"select: expected it to fit the network's output, {described(output)}, got {type(error).__name__}: "
                f"{reason}; give the key, index or callable that does"
            ) from error
        raise BadInput(f"select: expected an output that has {select!r}, got {described(output)}; give what it has")


def _found(output: Any) -> Any:
    if isinstance(output, Mapping):
        keys = list(output)
        key = next((key for key in _LOGIT_KEYS if key in output), keys[0] if len(keys) == 1 else None)
        if key is None:
            raise BadInput(f"model: expected logits, got a dict with {keys}; choose one of them: select={keys[0]!r}")
        return output[key]
    if isinstance(getattr(output, "logits", None), Tensor):
        return output.logits
    if not isinstance(output, tuple | list) or not output:
        return output
    widths = {entry.shape[1] for entry in output if isinstance(entry, Tensor) and entry.ndim == 2}
    first = output[0]
    if widths and isinstance(first, Tensor) and first.ndim > 2:
        raise BadInput(
            f"model: expected logits, got {described(output)}; say which entry they are, for example "
            f"select={len(output) - 1}"
        )
    return first


def described(output: Any) -> str:
    """Return what a network's output is in a few words, such as "a dict with out (1, 21, 64, 64)"."""
    if isinstance(output, Tensor):
        return f"a tensor {tuple(output.shape)}"
    if isinstance(output, Mapping):
        return f"a dict with {', '.join(_entry(str(key), value) for key, value in output.items())}"
    if isinstance(output, tuple | list):
        entries = (str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__ for value in output)
        return f"a {type(output).__name__} of {', '.join(entries) or 'nothing'}"
    return type(output).__name__


def _entry(key: str, value: Any) -> str:
    return f"{key} {tuple(value.shape)}" if isinstance(value, Tensor) else key


def _reduction(select: Select | None, output: Any, found: Tensor) -> str:
    """Return an example that averages (N, K, H, W) over the image, or nothing for other shapes."""
    if found.ndim != 4 or callable(select):
        return ""
    key = select
    if isinstance(output, Mapping) and key is None:
        key = next(key for key, value in output.items() if value is found)
    elif isinstance(output, tuple | list) and key is None:
        key = 0
    place = "" if key is None else f"[{key!r}]" if isinstance(output, Mapping | tuple | list) else f".{key}"
    return f", such as select=lambda out: out{place}.mean((2, 3))"
