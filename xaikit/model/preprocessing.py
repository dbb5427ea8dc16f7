"""Checks and conversions of a classifier's arguments: network, mean and std, labels, size and resize."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from xaikit.foundation.errors import BadInput
from xaikit.images.reading import ReadPolicy, Resize, resize_policy
from xaikit.model.borrow import borrow, tensors


def check_network(network: object) -> None:
    """Check that a network is a module with ordinary weights.

    Raises:
        BadInput: it is not a module, or its weights are not there yet or were created in inference mode.
    """
    if not isinstance(network, nn.Module):
        raise BadInput(f"network: expected a torch.nn.Module, got {type(network).__name__}; wrap a function in one")
    weights = [*network.named_parameters(), *network.named_buffers()]
    lazy = next((name for name, tensor in weights if is_lazy(tensor)), None)
    if lazy is not None:
        raise BadInput(
            f"network: expected weights with values, got the lazy {lazy!r}; run the network once on an image"
        )
    if any(tensor.is_inference() for tensor in (*network.parameters(), *network.buffers())):
        raise BadInput("network: expected ordinary weights, got inference tensors; load it outside inference_mode()")


def per_channel(values: Any, channels: int, default: float, name: str) -> list[float]:
    """Return one number per channel.

    Args:
        values: one number per channel, one for all channels, or None for the default.
        channels: number of channels.
        default: number used if `values` is None.
        name: "mean" (numbers in [0, 1]) or "std" (numbers above 0).

    Raises:
        BadInput: the count does not match, or a number is outside the interval.
    """
    numbers = default if values is None else values
    numbers = numbers.tolist() if hasattr(numbers, "tolist") else numbers
    numbers = list(numbers) if isinstance(numbers, Sequence) else [numbers]
    numbers = numbers * channels if len(numbers) == 1 else numbers
    if len(numbers) != channels or not all(isinstance(number, int | float) for number in numbers):
        raise BadInput(f"{name}: expected {channels} numbers, one per channel, got {values}")
    if (name == "std" and min(numbers) <= 0) or (name == "mean" and not 0 <= min(numbers) <= max(numbers) <= 1):
        interval = "in [0, 1]" if name == "mean" else "above 0"
        raise BadInput(f"{name}: expected numbers {interval}, got {values}; pixels are in [0, 1], not in [0, 255]")
    return [float(number) for number in numbers]


def first_channels(network: nn.Module, size: Sequence[int] | int | None = None) -> int:
    """Return the number of channels that a network takes.

    It is that of the first 2-D convolution, or 3 if there is none. Where that is neither 1 nor 3, as behind a step that
    moves pixels into channels, it is tried whether the network runs on so many, and otherwise on 3 or 1.

    Args:
        network: the network.
        size: input size (H, W), or the side of a square; None tries 64 x 64.
    """
    first = next((module.in_channels for module in network.modules() if isinstance(module, nn.Conv2d)), 3)
    sides = input_size(size) or (64, 64)
    tried = (first, 3, 1) if first not in (1, 3) else ()
    return next((channels for channels in tried if _runs(network, (1, channels, *sides))), first)


def _runs(network: nn.Module, shape: tuple[int, ...]) -> bool:
    weight = next((tensor for tensor in tensors(network) if tensor.is_floating_point()), torch.empty(0))
    with borrow(network, weight.device), torch.no_grad():
        try:
            network(torch.full(shape, 0.5).to(weight))
        except Exception:  # noqa: BLE001 - a network may refuse an image by any error
            return False
    return True


def class_names(labels: Any) -> list[str]:
    """Return the class names as a list, from an iterable or a dictionary by class index.

    Raises:
        BadInput: `labels` is anything else.
    """
    if isinstance(labels, Mapping) and set(labels) == set(range(len(labels))):
        labels = [labels[index] for index in range(len(labels))]
    if isinstance(labels, str | Mapping) or not isinstance(labels, Iterable):
        raise BadInput(f"labels: expected a name for each class, got {labels!r}; give a list of names")
    return [str(label) for label in labels]


def input_size(size: Sequence[int] | int | None) -> tuple[int, int] | None:
    """Return a size as (H, W), from (H, W) or the side of a square; None stays None.

    Raises:
        BadInput: `size` is anything else.
    """
    if size is None:
        return None
    both = (size, size) if isinstance(size, int) else tuple(size)
    if len(both) != 2 or not all(isinstance(side, int) and side > 0 for side in both):
        raise BadInput(f"size: expected (H, W) or one side, got {size}; for example size=(224, 224)")
    return both[0], both[1]


def own_resize(resize: Resize | ReadPolicy | None, size: tuple[int, int] | None, mean: Tensor) -> Resize:
    """Return `resize`; by default it squashes pictures to `size`, or keeps their native size if `size` is None.

    Raises:
        BadInput: `resize` is neither a `Resize` nor "squash", "pad" or "native".
    """
    fill = tuple(mean.flatten().tolist())
    if resize in ("squash", "pad", "native"):
        return resize_policy(resize, Resize("squash", size), fill)
    if resize is not None and not isinstance(resize, Resize):
        raise BadInput(f"resize: expected a Resize, squash, pad or native, got {resize!r}; leave it out to squash")
    resize = resize or Resize("native" if size is None else "squash", size)
    return replace(resize, fill=fill) if resize.kind == "pad" and not resize.fill else resize
