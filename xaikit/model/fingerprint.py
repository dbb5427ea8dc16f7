"""The identity of a network: a hash of its weights, its buffers and its settings.

    sha256 of sorted (name, dtype, shape, bytes) of the state dict and of the buffers that are not saved
              the modules as they print themselves: kinds, strides, paddings, ...
              plain numbers with a fraction, and functions, that a module holds

It is computed from the contents each time, so every write changes it, even `weight.data.mul_(2)`. Integers and flags
that a module holds and does not print are not part of it, because forwards count and note sizes in them; neither is the
source of the modules (foundation/code.py).

A function is identified by its code and by all values that it uses: arguments, closure, globals, the object it belongs
to. A value without contents that can be compared, such as a session of ONNX, is identified by a name that the caller
gives it.
"""

import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
from torch import Tensor, fx, jit, nn

from xaikit.foundation.code import is_installed
from xaikit.foundation.identity import canonical_json, fingerprint, tensor_bytes

_SETTINGS = (float, FunctionType, BuiltinFunctionType, MethodType, functools.partial, jit.ScriptFunction)
_WRITTEN = "_torchdynamo_orig_callable"  # where torch.compile keeps the function that it compiled


def model_fingerprint(network: nn.Module) -> str:
    """Return 16 hexadecimal digits that identify a network, independent of the file that its weights came from."""
    return _Contents("").of_network(network)


def function_identity(function: Callable[..., Any], opaque: str) -> str:
    """Return 16 hexadecimal digits that identify a function.

    Args:
        function: any callable.
        opaque: identity of the values whose contents cannot be compared.
    """
    return fingerprint(_Contents(opaque).of(function))


class _Contents:
    """The contents of values, each followed once.

    Args:
        opaque: identity of the values whose contents cannot be compared.
    """

    def __init__(self, opaque: str) -> None:
        self._opaque = opaque
        self._seen: list[Any] = []

    def of_network(self, network: nn.Module) -> str:
        """Return the hash of a network's tensors and settings."""
        self._seen.append(network)
        digest = hashlib.sha256()
        for name, content in sorted({**dict(network.named_buffers()), **network.state_dict()}.items()):
            if isinstance(content, Tensor):
                digest.update(f"{name}|{content.dtype}|{tuple(content.shape)}|".encode() + tensor_bytes(content))
            else:
                digest.update(f"{name}|{canonical_json(content)}|".encode())
        digest.update(canonical_json([repr(network), list(self._settings(network))]).encode())
        return digest.hexdigest()[:16]

    def of(self, value: Any) -> Any:
        """Return what identifies a value, as JSON."""
        if value is None or isinstance(value, bool | int | float | str | Tensor | np.ndarray | np.generic):
            return canonical_json(value)
        for number, known in enumerate(self._seen):
            if value is known:
                return f"value {number}"
        if isinstance(value, nn.Module):
            return self.of_network(value)
        name = f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '')}"
        if isinstance(value, ModuleType):
            return value.__name__
        if isinstance(value, type | BuiltinFunctionType):
            return name
        if isinstance(value, jit.ScriptFunction):
            return str(value.code)
        if isinstance(value, set | frozenset):
            return sorted(canonical_json(self.of(entry)) for entry in value)
        self._seen.append(value)
        if isinstance(value, Mapping):
            return [[self.of(key), self.of(entry)] for key, entry in value.items()]
        if isinstance(value, list | tuple):
            return [self.of(entry) for entry in value]
        if isinstance(value, functools.partial):
            return [self.of(value.func), self.of(value.args), self.of(value.keywords)]
        if isinstance(value, MethodType):
            return [self.of(value.__func__), self.of(value.__self__)]
        if not isinstance(value, FunctionType):
            return self._opaque
        if hasattr(value, _WRITTEN):
            return self.of(getattr(value, _WRITTEN))
        if value.__module__ != "__main__" and is_installed(value.__module__):  # the version of the package tells
            return [name, [self.of(held) for held in _held(value)]]
        names = sorted(_names(value.__code__) & value.__globals__.keys())
        used = [[name, self.of(value.__globals__[name])] for name in names]
        return [_code(value.__code__), [self.of(held) for held in _held(value)], used]

    def _settings(self, network: nn.Module) -> Iterator[Any]:
        """Yield numbers with a fraction and functions that the modules hold, and the code of scripted ones."""
        for name, module in network.named_modules():
            if isinstance(module, jit.ScriptModule | fx.GraphModule):
                yield [name, str(module.code)]
                continue
            written = getattr(type(module).forward, _WRITTEN, None)
            for key, value in sorted(vars(module).items()):
                bypassed = written is not None and getattr(value, "__func__", None) is written
                if isinstance(value, _SETTINGS) and not key.startswith("_") and not bypassed:
                    yield [name, key, self.of(value)]


def _held(function: FunctionType) -> list[Any]:
    """Return the closure and the defaults of a function."""
    cells = []
    for cell in function.__closure__ or ():
        try:
            cells.append(cell.cell_contents)
        except ValueError:  # a name that is not yet bound
            cells.append(None)
    return [*cells, *(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]


def _names(code: CodeType) -> set[str]:
    """Return the global names in a function's code and in the functions inside it."""
    return set(code.co_names).union(*(_names(value) for value in code.co_consts if isinstance(value, CodeType)))


def _code(code: CodeType) -> list[Any]:
    constants = [_code(value) if isinstance(value, CodeType) else repr(value) for value in code.co_consts]
    return [code.co_code.hex(), list(code.co_names), constants]
