"""What a thing is, as a short hash: images, models, parameters; and random streams that depend on nothing else.

    image      sha256 of shape and uint8 pixels; of the floats where they leave [0, 1]
    model      sha256 of sorted (name, dtype, shape, bytes) of the state dict, buffers included
    value      sha256 of canonical JSON (sorted keys, no spaces)
    stream     blake2b(seed, content, purpose) -> 64 bits -> a CPU generator

Used alike by result rows, results.json and the reference library of Libra-CAM.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

__all__ = [
    "SCHEMA_VERSION",
    "canonical_json",
    "fingerprint",
    "generator",
    "generators",
    "image_hashes",
    "model_fingerprint",
    "stream_seed",
]

SCHEMA_VERSION = 1


def canonical_json(value: Any) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces.

    Tensors and arrays become type, shape and a hash of their content, sets sorted lists, other objects their `str`.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=_plain, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return f"{value.dtype}{tuple(value.shape)}:{hashlib.sha256(_bytes(value)).hexdigest()[:16]}"
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{value.shape}:{hashlib.sha256(value.tobytes()).hexdigest()[:16]}"
    if isinstance(value, np.generic):
        return value.item()
    return sorted(value, key=str) if isinstance(value, set | frozenset) else str(value)


def _bytes(tensor: Tensor) -> bytes:
    """Return a tensor's elements in row-major order, whatever its type, device and strides."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def fingerprint(value: Any) -> str:
    """Return 16 hexadecimal digits that name a JSON-like value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:16]


def image_hashes(pixels: Tensor) -> list[str]:
    """Return one sha256 per image of `pixels` (N, C, H, W), taken of its uint8 values.

    An image that leaves [0, 1], which a classifier without mean and std may take, is hashed by its float32 values.
    """
    images = pixels.detach().float().cpu()
    shape = str(tuple(images.shape[1:])).encode()
    return [hashlib.sha256(shape + _content(image)).hexdigest() for image in images]


def _content(image: Tensor) -> bytes:
    inside = bool(((image >= 0) & (image <= 1)).all())
    return _bytes((image * 255).round().to(torch.uint8) if inside else image)


def model_fingerprint(network: nn.Module) -> str:
    """Return 16 hexadecimal digits of the weights and buffers, whatever file they came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        if isinstance(tensor, Tensor):
            digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode() + _bytes(tensor))
        else:
            digest.update(f"{name}|{canonical_json(tensor)}|".encode())
    return digest.hexdigest()[:16]


def stream_seed(seed: int, *parts: str) -> int:
    """Return a 63-bit seed that depends on `seed` and the texts `parts` alone."""
    text = "\x1f".join([str(seed), *parts]).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


def generator(seed: int, *parts: str) -> torch.Generator:
    """Return a CPU generator for the stream named by `seed` and `parts`; draw on it, then move to the device."""
    return torch.Generator().manual_seed(stream_seed(seed, *parts))


def generators(seed: int, contents: Sequence[str], purpose: str) -> list[torch.Generator]:
    """Return one generator per image, from the seed, the image's content and the purpose."""
    return [generator(seed, content, purpose) for content in contents]
