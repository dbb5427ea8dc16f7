"""A second device without hardware: tensors that say they are on `cuda:0`, though their numbers are on the CPU.

    with second_device():
        classifier = Classifier(network.to(SECOND))

Operators treat the two devices as CUDA does. They refuse tensors of both, except for:
    copy_, which copies between devices
    a CPU tensor without dimensions that an elementwise operator reads
    CPU tensors that index a tensor of the second device

Random numbers without a generator come from the second device's own stream; a CPU generator is refused there.

Torch itself sees the device type `lazy`: it is in every build, and its backward runs in the calling thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["PEAK_BYTES", "SECOND", "second_device"]

SECOND = torch.device("cuda:0")
PEAK_BYTES = 3 * 2**20  # what torch.cuda.max_memory_allocated returns, whatever ran
_SEEN_BY_TORCH = torch.device("lazy:0")
_CPU = torch.device("cpu")
_FROM_DATA = {torch.tensor, torch.as_tensor, torch.asarray}
_INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}
_READS_A_NUMBER = {"index_put", "index_put_", "fill", "fill_", "masked_fill", "masked_fill_"}


class SecondTensor(Tensor):
    """A tensor of the second device; `numbers` is the CPU tensor of its values."""

    numbers: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, numbers: Tensor) -> SecondTensor:
        with torch.inference_mode(numbers.is_inference()):
            return Tensor._make_wrapper_subclass(
                cls,
                numbers.shape,
                strides=numbers.stride(),
                storage_offset=numbers.storage_offset(),
                dtype=numbers.dtype,
                device=_SEEN_BY_TORCH,
            )

    def __init__(self, numbers: Tensor) -> None:
        self.numbers = numbers

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise RuntimeError(f"{func}: expected to run inside second_device(), where {SECOND} exists")

    @property
    def device(self) -> torch.device:
        return _SEEN_BY_TORCH if _Names.inside_torch else SECOND

    @property
    def is_cuda(self) -> bool:
        return self.device == SECOND

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"can't convert {SECOND} device type tensor to numpy. Use Tensor.cpu() first.")

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def new_tensor(self, data: Any, **options: Any) -> Tensor:
        return torch.tensor(data, **{"dtype": self.dtype, "device": SECOND} | options)

    def data_ptr(self) -> int:
        return self.numbers.data_ptr()

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.numbers.untyped_storage()

    def __repr__(self) -> str:
        return f"SecondTensor({self.numbers!r})"


@contextmanager
def second_device() -> Iterator[None]:
    """Let tensors be made on the second device and moved to it and back."""
    operators = _Operators()
    stand_ins: dict[str, Callable[..., Any]] = {
        "device": lambda device: nullcontext(),
        "get_rng_state": lambda device=SECOND: operators.random_state.clone(),
        "manual_seed": operators.seed,
        "max_memory_allocated": lambda device=SECOND: PEAK_BYTES,
        "mem_get_info": lambda device=SECOND: (2**30, 2**30),
        "memory_allocated": lambda device=SECOND: 0,
        "memory_reserved": lambda device=SECOND: 0,
        "reset_peak_memory_stats": lambda device=SECOND: None,
        "set_rng_state": lambda state, device=SECOND: operators.restore(state),
        "synchronize": lambda device=SECOND: None,
    }
    with ExitStack() as stack:
        for name, stand_in in stand_ins.items():
            stack.enter_context(patch.object(torch.cuda, name, stand_in))
        stack.enter_context(_Names())
        stack.enter_context(operators)
        yield


class _Names(TorchFunctionMode):
    """Replaces the second device in arguments by the device that torch sees."""

    inside_torch = False  # while torch's own Python code and backward run, which this mode does not reach

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.device:
            return func(*args, **kwargs)
        seen = {name: _seen(value) for name, value in kwargs.items()}
        if func in _FROM_DATA and seen.get("device") == _SEEN_BY_TORCH:
            return func(*args, **seen | {"device": _CPU}).to(_SEEN_BY_TORCH)
        outside, _Names.inside_torch = _Names.inside_torch, True
        try:
            return func(*map(_seen, args), **seen)
        finally:
            _Names.inside_torch = outside


def _seen(value: Any) -> Any:
    if isinstance(value, str) and value.partition(":")[0] == SECOND.type:
        return _SEEN_BY_TORCH
    return _SEEN_BY_TORCH if isinstance(value, torch.device) and value.type == SECOND.type else value


class _Operators(TorchDispatchMode):
    """Runs each operator on CPU tensors, after it has checked the devices."""

    def __init__(self) -> None:
        super().__init__()
        self.seed(0)

    def seed(self, seed: int) -> None:
        self.random_state = torch.Generator().manual_seed(seed).get_state()

    def restore(self, state: Tensor) -> None:
        self.random_state = state.clone()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if torch.is_inference_mode_enabled():  # operators arrive here before torch has split them into simpler ones
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        name = func.overloadpacket.__name__
        second: dict[int, SecondTensor] = {}  # by the identity of their numbers

        def numbers(value: Any) -> Any:
            if isinstance(value, SecondTensor):
                second[id(value.numbers)] = value
                return value.numbers
            return _CPU if value == _SEEN_BY_TORCH else value

        cpu_args = _each(numbers, args)
        cpu_kwargs = {key: _each(numbers, value) for key, value in kwargs.items()}
        to = kwargs.get("device")
        on_second = bool(second) if to is None else to == _SEEN_BY_TORCH
        if second and name != "copy_":
            _refuse_mixed(func, name, args, kwargs)
        if on_second:
            _refuse_generator((*args, *kwargs.values()))
        drawn = on_second and torch.Tag.nondeterministic_seeded in func.tags
        with self._drawing() if drawn else nullcontext():
            result = func(*cpu_args, **cpu_kwargs)
        if not on_second or (name == "copy_" and not isinstance(args[0], SecondTensor)):
            return result

        def wrapped(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return value
            return second[id(value)] if id(value) in second else SecondTensor(value)

        return _each(wrapped, result)

    @contextmanager
    def _drawing(self) -> Iterator[None]:
        """Let operators without a generator draw from the second device's stream."""
        with torch.random.fork_rng([]):
            torch.set_rng_state(self.random_state)
            yield
            self.random_state = torch.get_rng_state()


def _refuse_mixed(func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raise as CUDA does for a CPU tensor among tensors of the second device."""
    elementwise = torch.Tag.pointwise in func.tags or name in _READS_A_NUMBER
    for place, value in enumerate([*args, *kwargs.values()]):
        if name in _INDEXING and place == 1 and isinstance(args[0], SecondTensor):
            continue
        written = name.endswith("_") and place == 0
        for tensor in _tensors(value):
            if not isinstance(tensor, SecondTensor) and (tensor.ndim > 0 or written or not elementwise):
                raise RuntimeError(
                    "Expected all tensors to be on the same device, but found at least two devices, "
                    f"{SECOND} and cpu! (when running {func})"
                )


def _refuse_generator(values: tuple[Any, ...]) -> None:
    for value in values:
        if isinstance(value, torch.Generator):
            raise RuntimeError(f"Expected a '{SECOND.type}' device type for generator but found '{value.device.type}'")


def _each(change: Callable[[Any], Any], value: Any) -> Any:
    """Apply a function to a value, or to each item of a list or tuple."""
    return type(value)(_each(change, item) for item in value) if isinstance(value, list | tuple) else change(value)


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in _tensors(item)]
    return [value] if isinstance(value, Tensor) else []
