"""The end of a network: a softmax, log-softmax or sigmoid, and the tensor z before it.

    softmax, log-softmax      outputs p or log p of z         logits = log p = z - logsumexp z
    sigmoid                   outputs p = sigmoid(z)          logits = z
    some classes of either    outputs p_c                     logits = log p_c - log (1 - p_c)

Where p rounds to 0 or 1, the outputs do not tell what z was, and their gradient is zero. Therefore z is taken from the
forward itself, and is verified in every forward:

1. the input of the last softmax, log_softmax or sigmoid call whose result holds the values of the outputs, whatever
   moved them afterwards (squeeze, indexing, a dict, another dtype);
2. for an end written out by hand, the last tensor from which the outputs follow, compared on the scale of the logits.

Where no such tensor is found, the logits are the inverse of the outputs, and gradients of saturated ones are refused.

Outputs in [0, 1] that neither sum to 1 nor follow from a sigmoid are taken as logits; if images far outside the usual
range change them, but do not drive them out of [0, 1], a warning says so.

Shapes: outputs (N, K); z of N * width values, with width = K unless the outputs are some of the classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode, handle_torch_function, has_torch_function

from xaikit.foundation.errors import BadInput
from xaikit.model.torch_functions import Call, named, writes

EndsIn = Literal["logits", "softmax", "log-softmax", "sigmoid"]

_HEADS: dict[Call, EndsIn] = {
    **dict.fromkeys(named("softmax"), "softmax"),
    **dict.fromkeys(named("log_softmax"), "log-softmax"),
    **dict.fromkeys(named("sigmoid expit"), "sigmoid"),
}
_SURE = 36.0  # logits between the largest class and the rest, where float64 still tells 1 - p from 0
_SATURATED_STEPS = 32  # rounding steps from p to 0 or 1 within which a gradient of p is mostly rounding
_ROUNDING_STEPS = 4


@dataclass(frozen=True)
class End:
    """The end of a network.

    Args:
        kind: meaning of the outputs.
        head: the function that gives them; "softmax" for a sigmoid that is one class of a softmax.
        width: number of values of the function per image.
        columns: the values that are outputs; None for all.
        only_bits: whether the outputs of the first image were only 0 and 1, as of saturated probabilities.
        bounded: whether outputs that are taken as logits stay in [0, 1], as probabilities do.
    """

    kind: EndsIn
    head: EndsIn
    width: int
    columns: tuple[int, ...] | None = None
    only_bits: bool = False
    bounded: bool = False

    def logits(self, z: Tensor) -> Tensor:
        """Return the logits (N, K) for the tensor before the end, (N, width)."""
        if self.kind in ("softmax", "log-softmax"):
            return log_probabilities(z)
        if self.columns is None:
            return z
        return torch.stack([self._odds(z, column) for column in self.columns], 1)

    def _odds(self, z: Tensor, column: int) -> Tensor:
        """Return log p - log (1 - p) of one class, (N,)."""
        if self.head == "sigmoid":
            return z[:, column]
        others = [other for other in range(self.width) if other != column]
        return z[:, column] - z[:, others].logsumexp(1)


class _HeadCall(NamedTuple):
    """One call of a softmax, log_softmax or sigmoid, and the versions of its tensors then."""

    kind: EndsIn
    before: Tensor
    result: Tensor
    versions: tuple[int, int]


class Forward(TorchFunctionMode):
    """The tensors of one forward among which the one before the end is sought.

    Args:
        width: number of values per image of the tensors to keep; None keeps all tensors, for one image.
    """

    def __init__(self, width: int | None = None) -> None:
        super().__init__()
        self._width = width
        self._calls: list[_HeadCall] = []
        self._results: list[Tensor] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        kind = _HEADS.get(func)
        before = (args[0] if args else kwargs.get("input")) if kind is not None else None
        if before is not None and writes(func):
            before = before.clone()
        result = func(*args, **kwargs)
        if isinstance(result, Tensor) and result.is_floating_point() and self._fits(result):
            if kind is None or before is None:
                self._results.append(result)
            else:
                self._calls.append(_HeadCall(kind, before, result, (_version(before), _version(result))))
        return result

    def _fits(self, result: Tensor) -> bool:
        if self._width is None:
            return True
        return result.ndim > 0 and result.numel() in (len(result) * self._width, self._width)

    def end(self, outputs: Tensor) -> End:
        """Return the end of a network for its outputs (1, K) of one image."""
        classes = outputs.shape[1]
        for call in reversed(self._heads):
            if call.result.numel() == classes and _same(call.result, outputs):
                return End(call.kind, call.kind, classes)
            columns = _columns(call.result, outputs)
            if columns is not None and call.kind != "log-softmax":
                return End("sigmoid", call.kind, call.result.numel(), columns)
        kind = _by_values(outputs)
        if kind != "sigmoid" or self._by_hand(kind, outputs) is not None:
            return End(kind, kind, classes)
        only_bits = bool(((outputs == 0) | (outputs == 1)).all() & (outputs == 1).any())
        return End("logits", "logits", classes, only_bits=only_bits)

    def before(self, end: End, outputs: Tensor) -> Tensor | None:
        """Return the tensor before the end, (N, width), for outputs (N, K); None if it is not found."""
        count = len(outputs)
        size = count * end.width
        calls = [call for call in self._heads if call.kind == end.head and call.result.numel() == size]
        calls = [call for call in calls if _same(_part(call.result, end, count), outputs)]
        calls = [call for call in calls if _memory(call.result) == _memory(outputs)] or calls
        if calls and all(torch.equal(call.before, calls[-1].before) for call in calls[:-1]):
            return _shaped(calls[-1].before, (count, end.width))
        return self._by_hand(end.kind, outputs) if end.columns is None else None

    @property
    def _heads(self) -> list[_HeadCall]:
        """The calls whose tensors were not written into afterwards."""
        return [call for call in self._calls if (_version(call.before), _version(call.result)) == call.versions]

    def _by_hand(self, kind: EndsIn, outputs: Tensor) -> Tensor | None:
        candidates = (result for result in reversed(self._results) if result.numel() == outputs.numel())
        return next((_shaped(z, outputs.shape) for z in candidates if _explains(kind, z, outputs)), None)


def _shaped(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    return tensor if tensor.shape == torch.Size(shape) else tensor.reshape(shape)


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


def _part(result: Tensor, end: End, count: int) -> Tensor:
    rows = result.detach().reshape(count, end.width)
    return rows if end.columns is None else rows[:, list(end.columns)]


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _same(first: Tensor, second: Tensor) -> bool:
    """Return whether two tensors of one number of values have the same ones, up to a clipping of probabilities."""
    rounding = _tolerance(second)
    first, second = (tensor.detach().double().flatten() for tensor in (first, second))
    return torch.allclose(first, second, rtol=_ROUNDING_STEPS * torch.finfo(torch.float32).eps, atol=rounding)


def _tolerance(outputs: Tensor) -> float:
    return 1e-5 if outputs.dtype in (torch.float32, torch.float64) else 1e-2


def _columns(result: Tensor, outputs: Tensor) -> tuple[int, ...] | None:
    """Return where the outputs (1, K) stand in a longer vector, or None if not each of them stands there once."""
    if result.numel() <= outputs.numel() or result.numel() != max(result.shape):
        return None
    equal = outputs.double().reshape(-1, 1) == result.double().reshape(1, -1)
    return tuple(equal.int().argmax(1).tolist()) if bool((equal.sum(1) == 1).all()) else None


def _by_values(outputs: Tensor) -> EndsIn:
    """Return the kind that the values (1, K) of the outputs suggest; for one in [0, 1], "sigmoid"."""
    values, several, tolerance = outputs.double(), outputs.shape[1] > 1, _tolerance(outputs)
    within = (values > 0) & (values < 1)
    if several and bool((values >= 0).all() & within.any()) and abs(float(values.sum()) - 1) < tolerance:
        return "softmax"
    if several and abs(float(values.exp().sum()) - 1) < tolerance:
        return "log-softmax"
    return "sigmoid" if bool(((values >= 0) & (values <= 1)).all()) else "logits"


def _explains(kind: EndsIn, z: Tensor, outputs: Tensor) -> bool:
    """Return whether outputs (N, K) follow from z on the scale of logits, by values of every image that still tell."""
    limits = torch.finfo(outputs.dtype)
    z, values = z.detach().double().reshape(outputs.shape), outputs.detach().double()
    rounding = _ROUNDING_STEPS * limits.eps * (1 + z.abs().amax(1, keepdim=True))
    if kind == "sigmoid":
        rest = 1 - values
        tells = (values > limits.tiny) & (rest > _SATURATED_STEPS * limits.eps)
        error = (z - (values / rest).log()).abs() - _ROUNDING_STEPS * limits.eps / rest
        enough = tells.any(1)
    else:
        logarithms = values if kind == "log-softmax" else values.log()
        tells = logarithms > (-torch.inf if kind == "log-softmax" else values.new_tensor(limits.tiny).log())
        error = (z - z.logsumexp(1, keepdim=True) - logarithms).abs()
        enough = tells.sum(1) > 1
    return bool((enough & ((error <= rounding) | ~tells).all(1)).all())


def refuse_saturated(outputs: Tensor, kind: EndsIn) -> None:
    """Refuse a gradient of probabilities (N, K) that have saturated and whose logits are not known.

    Raises:
        BadInput: the outputs require a gradient, and a probability is 1 (or, for a sigmoid, 0) up to rounding.
    """
    if not outputs.requires_grad:
        return
    values = outputs.detach()
    values = values.exp() if kind == "log-softmax" else values
    near = _SATURATED_STEPS * torch.finfo(values.dtype).eps
    saturated = values > 1 - near
    saturated = saturated | (values < torch.finfo(values.dtype).tiny) if kind == "sigmoid" else saturated
    rows = saturated.any(1).nonzero().flatten().tolist()
    if rows:
        raise BadInput(
            f"model: expected logits, got a probability of image {rows[0]} that rounds to 0 or 1, without a gradient, "
            f"and found no tensor before the {kind}; return the logits instead"
        )


def log_probabilities(z: Tensor) -> Tensor:
    """Return log softmax (N, K) of z (N, K), whose gradient keeps its direction where a probability rounds to 1.

    For the largest class, log p = logsigmoid(z - logsumexp of the others). Where 1 - p is too small even for float64,
    log p (which is then 0 to within 1e-12) goes on as a line. A class at -inf has the smallest probability of the
    dtype. Rules on a network's functions see a single call of this function.
    """
    if has_torch_function((z,)):
        result: Tensor = handle_torch_function(log_probabilities, (z,), z)
        return result
    top = z.detach().argmax(1, keepdim=True)
    margin = z.gather(1, top) - z.scatter(1, top, -torch.inf).logsumexp(1, keepdim=True)
    near = margin.clamp(max=_SURE)
    slope = float(torch.tensor(-_SURE, dtype=torch.float64).sigmoid())
    largest = F.logsigmoid(near) + slope * (margin - near)
    smallest = float(torch.tensor(torch.finfo(z.dtype).tiny, dtype=torch.float64).log())
    return z.log_softmax(1).scatter(1, top, largest).masked_fill(z == -torch.inf, smallest)
