"""The identity of a network: a hash of the contents of its weights and buffers.

    sha256 of sorted (name, dtype, shape, bytes) of the state dict

It is computed from the contents each time, so every write changes it, even `weight.data.mul_(2)`.
"""

import hashlib
from collections.abc import Callable
from types import CodeType
from typing import Any

from torch import Tensor, nn

from xaikit.foundation.identity import canonical_json, tensor_bytes


def model_fingerprint(network: nn.Module) -> str:
    """Return 16 hexadecimal digits that identify the weights and buffers, independent of the file they came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        if isinstance(tensor, Tensor):
            digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode() + tensor_bytes(tensor))
        else:
            digest.update(f"{name}|{canonical_json(tensor)}|".encode())
    return digest.hexdigest()[:16]


def function_identity(function: Callable[..., Any]) -> Any:
    """Return what identifies a function: its code, and the values that it takes from around it.

    Other callables are identified by their `str`.
    """
    code = getattr(function, "__code__", None)
    if code is None:
        return str(function)
    around = getattr(function, "__globals__", {})
    cells = [cell.cell_contents for cell in getattr(function, "__closure__", None) or ()]
    values = [*cells, *(getattr(function, "__defaults__", None) or ())]
    values += [around[name] for name in code.co_names if isinstance(around.get(name), Tensor | int | float | str)]
    return {"code": _code(code), "values": [_value(value) for value in values]}


def _code(code: CodeType) -> list[Any]:
    constants = [_code(value) if isinstance(value, CodeType) else repr(value) for value in code.co_consts]
    return [code.co_code.hex(), list(code.co_names), constants]


def _value(value: Any) -> Any:
    return model_fingerprint(value) if isinstance(value, nn.Module) else canonical_json(value)
