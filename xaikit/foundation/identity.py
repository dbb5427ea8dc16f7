"""Identity: short hashes of values, and random streams that depend only on a seed, content and purpose.

    value      sha256 of canonical JSON (sorted keys, no spaces)
    stream     blake2b(seed, content, purpose) -> 63 bits -> a CPU generator

The hash of an image is in images/hashes.py, that of a network in model/fingerprint.py.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

SCHEMA_VERSION = 1


def canonical_json(value: Any) -> str:
    """Return the canonical JSON text of a value: sorted keys, no spaces.

    Tensors and arrays become dtype, shape and a hash of their content, sets sorted lists, other objects their `str`.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=_serialised, ensure_ascii=False)


def _serialised(value: Any) -> Any:
    if isinstance(value, Tensor):
        return f"{value.dtype}{tuple(value.shape)}:{hashlib.sha256(tensor_bytes(value)).hexdigest()[:16]}"
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{value.shape}:{hashlib.sha256(value.tobytes()).hexdigest()[:16]}"
    if isinstance(value, np.generic):
        return value.item()
    return sorted(value, key=str) if isinstance(value, set | frozenset) else str(value)


def tensor_bytes(tensor: Tensor) -> bytes:
    """Return the bytes of a tensor's elements in row-major order, for any dtype, device and strides."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def fingerprint(value: Any) -> str:
    """Return 16 hexadecimal digits that identify a JSON-like value."""
    return hashlib.sha256(canonical_json(value).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def stream_seed(seed: int, *parts: str) -> int:
    """Return a 63-bit seed that depends only on `seed` and the strings `parts`."""
    text = "\x1f".join([str(seed), *parts]).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


def generator(seed: int, *parts: str) -> torch.Generator:
    """Return a CPU generator for the stream of `seed` and `parts`; draw on the CPU, then move to the device."""
    return torch.Generator().manual_seed(stream_seed(seed, *parts))


def generators(seed: int, contents: Sequence[str], purpose: str) -> list[torch.Generator]:
    """Return one generator per image, from the seed, the content hash of the image and the purpose."""
    return [generator(seed, content, purpose) for content in contents]
