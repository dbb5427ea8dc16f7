"""The identity of an image: sha256 of its shape and uint8 pixels, or of its float32 pixels if some leave [0, 1]."""

import hashlib

import torch
from torch import Tensor

from xaikit.foundation.identity import tensor_bytes


def image_hashes(pixels: Tensor) -> list[str]:
    """Return the sha256 of each image of `pixels` (N, C, H, W), computed from its uint8 values.

    Images with values outside [0, 1], which a classifier without mean and std accepts, use their float32 values.
    """
    images = pixels.detach().float().cpu()
    shape = str(tuple(images.shape[1:])).encode()
    return [hashlib.sha256(shape + _content(image)).hexdigest() for image in images]


def _content(image: Tensor) -> bytes:
    inside = bool(((image >= 0) & (image <= 1)).all())
    return tensor_bytes((image * 255).round().to(torch.uint8) if inside else image)
