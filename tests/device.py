"""A second device without hardware: its tensors say `cuda:0`, and their numbers are on the CPU.

    with second_device():
        classifier = Classifier(network.to(SECOND))

Operators treat the two devices as CUDA does. They refuse tensors of both, except for:
    copy_, which copies between devices
    a CPU tensor without dimensions that an elementwise operator reads
    CPU tensors that index a tensor of the second device

Random numbers without a generator come from the second device's own stream; a CPU generator is refused there.

Torch itself sees the device type `lazy`: every build knows it, and its backward runs in the calling thread.
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

__all__ = ["CPU", "NAME", "PEAK_BYTES", "SECOND", "same", "second_device"]

CPU = torch.device("cpu")
SECOND = torch.device("cuda:0")
NAME = "a second device"  # what torch.cuda.get_device_name returns
PEAK_BYTES = 3 * 2**20  # what torch.cuda.max_memory_allocated returns, whatever ran
_SEEN_BY_TORCH = torch.device("lazy:0")
_NAMES_A_DEVICE = (str, torch.device)
_FROM_DATA = {torch.tensor, torch.as_tensor, torch.asarray}
_INDEXING = {"index", "index_put", "index_put_"}
_READS_A_NUMBER = {"index_put", "index_put_", "fill", "fill_", "masked_fill", "masked_fill_"}


class SecondTensor(Tensor):
    """A tensor of the second device; `numbers` is the CPU tensor of its values."""

    numbers: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, numbers: Tensor) -> SecondTensor:
        strides, offset = numbers.stride(), numbers.storage_offset()
        about = {"strides": strides, "storage_offset": offset, "dtype": numbers.dtype, "device": _SEEN_BY_TORCH}
        with torch.inference_mode(numbers.is_inference()):
            return Tensor._make_wrapper_subclass(cls, numbers.shape, **about)

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

    @property
    def data(self) -> Tensor:
        return Tensor.data.__get__(self)

    @data.setter
    def data(self, value: SecondTensor) -> None:
        Tensor.data.__set__(self, value)
        self.numbers = value.numbers

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.numbers.untyped_storage()

    def __repr__(self) -> str:
        return f"SecondTensor({self.numbers!r})"


@contextmanager
def second_device() -> Iterator[None]:
    """Let tensors be made on the second device, and moved to it and back."""
    operators = _Operators()
    stand_ins: dict[str, Callable[..., Any]] = {
        "device": lambda device: nullcontext(),
        "get_device_name": lambda device=SECOND: NAME,
        "get_rng_state": lambda device=SECOND: operators.random_state.clone(),
        "manual_seed": operators.seed,
        "max_memory_allocated": lambda device=SECOND: PEAK_BYTES,
        "mem_get_info": lambda device=SECOND: (2**30, 2**30),
        "memory_allocated": lambda device=SECOND: 0,
        "memory_reserved": lambda device=SECOND: 0,
        "reset_peak_memory_stats": lambda device=SECOND: None,
        "set_rng_state": lambda state, device=SECOND: setattr(operators, "random_state", state.clone()),
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

    inside_torch = False  # while torch's own Python code and its backward run, whose calls do not come here

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.device:
            return func(*args, **kwargs)
        kwargs = {name: _seen(value) for name, value in kwargs.items()}
        if func in _FROM_DATA and kwargs.get("device") == _SEEN_BY_TORCH:
            return func(*args, **kwargs | {"device": "cpu"}).to(_SEEN_BY_TORCH)
        outside, _Names.inside_torch = _Names.inside_torch, True
        try:
            return func(*map(_seen, args), **kwargs)
        finally:
            _Names.inside_torch = outside


def _seen(value: Any) -> Any:
    """Return the device that torch sees for the second device, and any other value as it is."""
    if isinstance(value, _NAMES_A_DEVICE) and str(value).partition(":")[0] == SECOND.type:
        return _SEEN_BY_TORCH
    return value


class _Operators(TorchDispatchMode):
    """Runs each operator on CPU tensors, after it has checked the devices."""

    def __init__(self) -> None:
        super().__init__()
        self.seed(0)

    def seed(self, seed: int) -> None:
        self.random_state = torch.Generator().manual_seed(seed).get_state()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if torch.is_inference_mode_enabled():  # operators come here before torch has split them into simpler ones
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        values = list(_flat([args, *kwargs.values()]))
        wrappers = {id(value.numbers): value for value in values if isinstance(value, SecondTensor)}
        here = bool(wrappers) if kwargs.get("device") is None else kwargs["device"] == _SEEN_BY_TORCH
        if not wrappers and not here:
            return func(*args, **kwargs)
        if wrappers and func.overloadpacket.__name__ != "copy_":
            _refuse_mixed(func, args, kwargs)
        if here and any(isinstance(value, torch.Generator) for value in values):
            raise RuntimeError(f"Expected a '{SECOND.type}' device type for generator but found 'cpu'")
        with self._drawing() if here and torch.Tag.nondeterministic_seeded in func.tags else nullcontext():
            result = func(*_each(_on_cpu, args), **{name: _each(_on_cpu, value) for name, value in kwargs.items()})

        def wrapped(value: Any) -> Any:
            if id(value) in wrappers or not isinstance(value, Tensor):
                return wrappers.get(id(value), value)
            return SecondTensor(value)

        return _each(wrapped, result) if here else result

    @contextmanager
    def _drawing(self) -> Iterator[None]:
        """Let operators without a generator draw from the second device's stream."""
        with torch.random.fork_rng([]):
            torch.set_rng_state(self.random_state)
            yield
            self.random_state = torch.get_rng_state()


def _refuse_mixed(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raise as CUDA does for CPU tensors next to tensors of the second device."""
    name = func.overloadpacket.__name__
    reads_numbers = torch.Tag.pointwise in func.tags or name in _READS_A_NUMBER
    for position, value in enumerate([*args, *kwargs.values()]):
        indices = position == 1 and name in _INDEXING
        written = position == 0 and name.endswith("_")
        for tensor in _flat([value]):
            if not isinstance(tensor, Tensor) or isinstance(tensor, SecondTensor) or indices:
                continue
            if tensor.ndim > 0 or written or not reads_numbers:
                raise RuntimeError(
                    "Expected all tensors to be on the same device, but found at least two devices, "
                    f"{SECOND} and cpu! (when running {func})"
                )


def _on_cpu(value: Any) -> Any:
    if isinstance(value, SecondTensor):
        return value.numbers
    return torch.device("cpu") if isinstance(value, torch.device) and value == _SEEN_BY_TORCH else value


def _each(change: Callable[[Any], Any], value: Any) -> Any:
    """Apply a function to a value, or to each item of a list or tuple."""
    return type(value)(_each(change, item) for item in value) if isinstance(value, list | tuple) else change(value)


def _flat(values: Any) -> Iterator[Any]:
    """Yield the items of nested lists and tuples."""
    for value in values:
        if isinstance(value, list | tuple):
            yield from _flat(value)
        else:
            yield value


def same(here: Tensor, there: Tensor) -> None:
    """Assert that one tensor is on the CPU, the other on the second device, and that their numbers are equal."""
    assert here.device == CPU
    assert there.device == SECOND
    torch.testing.assert_close(there.cpu(), here, rtol=1e-9, atol=1e-12)
