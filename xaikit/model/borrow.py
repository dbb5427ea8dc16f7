"""Borrowing: run a network in eval mode without weight gradients, then restore it exactly.

    save state -> eval, weights frozen; gradients on, autocast and inference mode off -> the block -> restore

Restored, also after an exception: the training flag of each module, `requires_grad` and `.grad` of each parameter, the
values and identity of each buffer, and the global random states of torch, NumPy and Python.

Eval mode is the flag alone: a `train()` of a network's own, which may switch or merge weights, is not called, because
nothing could undo it exactly. A network in training mode that has one is warned of.

Hooks and modes belong to the network, so only one thread borrows it at a time; others wait for the `borrowing` lock.
"""

import random
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from types import MethodType
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import numpy as np
import torch
from torch import Tensor, nn

from xaikit.foundation.errors import BadInput, XaikitWarning

WRITTEN = "_torchdynamo_orig_callable"  # where a compiled function keeps the one it compiled
_PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_LOCKS: WeakKeyDictionary[nn.Module, threading.RLock] = WeakKeyDictionary()
_LOCKS_LOCK = threading.Lock()
_BORROWED: WeakSet[nn.Module] = WeakSet()


def borrowing(network: nn.Module) -> threading.RLock:
    """Return the re-entrant lock of a network; a wrapped network and its inner module share one lock."""
    while (inner := _wrapped(network)) is not None:
        network = inner
    with _LOCKS_LOCK:
        return _LOCKS.setdefault(network, threading.RLock())


def unwrapped(network: nn.Module) -> nn.Module:
    """Return the module inside DataParallel, DistributedDataParallel or torch.compile, if the wrapper does no more.

    A wrapper with hooks, or of a class with a forward of its own, is a network itself.
    """
    while (inner := _wrapped(network)) is not None and _only_wraps(network):
        network = inner
    return network


def _wrapped(network: nn.Module) -> nn.Module | None:
    """Return the module inside a wrapper, or None for any other network."""
    inner = network.module if isinstance(network, _PARALLEL) else getattr(network, "_orig_mod", None)
    return inner if isinstance(inner, nn.Module) else None


def _only_wraps(network: nn.Module) -> bool:
    if any(getattr(network, hooks) for hooks in _HOOKS):
        return False
    kind = next((kind for kind in _PARALLEL if isinstance(network, kind)), None)
    if kind is None:
        return type(network).__module__.startswith("torch.")  # of torch.compile
    own, calls = type(network), (kind.forward, kind.__call__)
    return "forward" not in vars(network) and (own.forward, own.__call__) == calls


@contextmanager
def borrow(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Prepare a network for explanation and restore it afterwards; a nested call does nothing.

    Args:
        network: the network to run, wrapped or not.
        device: device of the network; the random state of a GPU is restored as well.
    """
    with borrowing(network):
        if network in _BORROWED:
            yield
            return
        _BORROWED.add(network)
        try:
            with _prepared(network, device):
                yield
        finally:
            _BORROWED.discard(network)


@contextmanager
def _prepared(network: nn.Module, device: torch.device) -> Iterator[None]:
    modules = list(network.modules())
    modes = [(module, getattr(module, "training", None)) for module in modules]  # frozen TorchScript has no such flag
    parameters = [(parameter, parameter.requires_grad, parameter.grad) for parameter in network.parameters()]
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(device.type, enabled=False),
        _random_states(device),
        ExitStack() as at_end,  # runs all that it holds, also if one of them fails, and raises at the end
    ):
        compiled = _Compiled(modules)
        at_end.callback(compiled.restore)
        at_end.callback(_Buffers(modules).restore)
        for parameter, required, gradient in parameters:
            at_end.callback(_give_back, parameter, "requires_grad", required)
            at_end.callback(_give_back, parameter, "grad", gradient)
        for module, training in modes:
            if training is not None:
                at_end.callback(_give_back, module, "training", training)
        compiled.bypass()
        _warn_of_own_train(module for module, training in modes if training)
        for module, training in modes:
            if training:
                module.training = False
        for parameter, required, _ in parameters:
            if required:
                parameter.requires_grad_(False)
        yield


@contextmanager
def unchanged(network: nn.Module, name: str) -> Iterator[None]:
    """Run a block of somebody else's code; the network and torch are afterwards as they were before.

    Given back are the network's weights, and torch's default dtype and number of threads.

    Raises:
        BadInput: the block changed a weight; the message names whose it is.
    """
    dtype, threads = torch.get_default_dtype(), torch.get_num_threads()
    before = {key: (owner, owner.detach().clone()) for key, owner in network.named_parameters()}
    try:
        yield
    finally:
        torch.set_default_dtype(dtype)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        now = dict(network.named_parameters())
        changed = [key for key, (owner, value) in before.items() if not _is_same(now.get(key), owner, value)]
        with torch.no_grad():
            for key in changed:
                owner, value = before[key]
                if owner.shape == value.shape:
                    owner.copy_(value)
                else:
                    owner.data = value
                module, _, own = key.rpartition(".")
                network.get_submodule(module)._parameters[own] = owner
    if changed:
        raise BadInput(f"{name}: expected the network's weights as they were, got other ones; compute on a copy")


def _is_same(now: nn.Parameter | None, owner: nn.Parameter, value: Tensor) -> bool:
    if now is not owner or owner.shape != value.shape:
        return False
    equal: Tensor = (owner == value) | (owner.isnan() & value.isnan())
    return bool(equal.all())


def _warn_of_own_train(training: Iterable[nn.Module]) -> None:
    """Warn of modules in training mode whose own `train()` may do more than set the flag."""
    for module in training:
        if not str(getattr(module.train, "__module__", "")).startswith("torch."):
            warnings.warn(
                f"network: expected eval mode, got training mode and a train() of its own in {type(module).__name__}: "
                "only the flag `training` is set while explaining; call network.eval() before if that does more",
                XaikitWarning,
                stacklevel=6,
            )
            return


def _give_back(owner: nn.Module | nn.Parameter, name: str, value: Any) -> None:
    if getattr(owner, name) is not value:
        setattr(owner, name, value)


@contextmanager
def _random_states(device: torch.device) -> Iterator[None]:
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the user's own state
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002 - the user's own state


class _Compiled:
    """The compiled functions of a network, which neither hooks nor rules see into; they run as they were written.

    `torch.compile` returns a function that keeps the one it compiled; as an attribute of a module, in its `forward` (a
    compiled module) or in its class. `module.compile()` keeps the compiled call in the module.
    """

    def __init__(self, modules: list[nn.Module]) -> None:
        plain = [module for module in modules if not isinstance(module, torch.jit.ScriptModule)]
        self._calls = [(module, module._compiled_call_impl) for module in plain if module._compiled_call_impl]
        self._attributes: list[tuple[dict[str, Any], str, Any, Any]] = []
        for module in plain:
            own = vars(module)
            for name, value in {"forward": type(module).forward, **own}.items():
                written = getattr(value, WRITTEN, None) if callable(value) else None
                if written is not None:
                    bound = written if name in own else MethodType(written, module)
                    self._attributes.append((own, name, own.get(name), bound))

    def bypass(self) -> None:
        for module, _ in self._calls:
            module._compiled_call_impl = None
        for own, name, _, written in self._attributes:
            own[name] = written

    def restore(self) -> None:
        for module, call in self._calls:
            module._compiled_call_impl = call
        for own, name, compiled, _ in self._attributes:
            if compiled is None:
                del own[name]
            else:
                own[name] = compiled


class _Buffers:
    """The buffers of a network. Those of one dtype are saved and compared as one flat tensor, in one GPU operation."""

    def __init__(self, modules: list[nn.Module]) -> None:
        buffers = [
            (module, name, buffer)
            for module in modules
            for name, buffer in (
                module.named_buffers(recurse=False)
                if isinstance(module, torch.jit.ScriptModule)
                else module._buffers.items()
            )
        ]
        self._owners = [owner for owner in buffers if not isinstance(owner[0], torch.jit.ScriptModule)]
        self._groups: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
        for buffer in {id(buffer): buffer for _, _, buffer in buffers if buffer is not None}.values():
            self._groups.setdefault((buffer.dtype, buffer.device), []).append(buffer.detach())
        self._before = {kind: _flat(group) for kind, group in self._groups.items()}

    def restore(self) -> None:
        """Restore the buffers that changed, and only those."""
        for module, name, buffer in self._owners:
            if module._buffers.get(name) is not buffer:
                module._buffers[name] = buffer
        for kind, group in self._groups.items():
            before = self._before[kind]
            if torch.equal(_flat(group), before):
                continue
            for buffer, old in zip(group, torch.split(before, [buffer.numel() for buffer in group]), strict=True):
                if not torch.equal(buffer.reshape(-1), old):
                    buffer.copy_(old.view_as(buffer))


def _flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def draws(device: torch.device) -> list[Tensor]:
    """Return the states of torch's own generators, which differ once numbers were drawn from them."""
    return [torch.random.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def tensors(network: nn.Module) -> Iterator[Tensor]:
    """Yield the parameters and buffers of a network."""
    yield from network.parameters()
    yield from network.buffers()
