"""The identity of an image: sha256 of its shape and uint8 pixels, or of its floats where they leave [0, 1]."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from xaikit.foundation.identity import tensor_bytes


def image_hashes(pixels: Tensor) -> list[str]:
    """Return one sha256 per image of `pixels` (N, C, H, W), taken of its uint8 values.

    An image that leaves [0, 1], which a classifier without mean and std may take, is hashed by its float32 values.
    """
    images = pixels.detach().float().cpu()
    shape = str(tuple(images.shape[1:])).encode()
    return [hashlib.sha256(shape + _content(image)).hexdigest() for image in images]


def _content(image: Tensor) -> bytes:
    inside = bool(((image >= 0) & (image <= 1)).all())
    return tensor_bytes((image * 255).round().to(torch.uint8) if inside else image)
