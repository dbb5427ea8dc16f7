"""Addresses: the calls of a forward that may move values to other places before a layer.

    convolutions, poolings, normalisations, elementwise functions     keep places, unless their padding is larger than
                                                                      their windows
    any other call that returns a tensor                              its name, numbers and slices, the shapes it takes,
                                                                      and the values of indices

Two forwards with the same addresses move values alike. Calls in scripted code, and matrix products whose factors depend
on the image (attention), do not show where they move values.

A forward without such calls that takes no number out of torch moves no values, whatever the image.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from xaikit.model.hooks import Layer, Tap
from xaikit.model.torch_functions import (
    ACTIVATIONS,
    ADAPTIVE_POOLS,
    BATCH_NORMS,
    CLIPS,
    CONVOLUTIONS,
    DROPOUTS,
    GATES,
    JOINS,
    LEAKY_ACTIVATIONS,
    MAX_POOLS,
    MEAN_POOLS,
    MEANS,
    MINUS,
    PLUS,
    PRODUCTS,
    QUOTIENTS,
    RELUS,
    REVERSED_MINUS,
    Call,
    named,
)

Entry: TypeAlias = tuple[Any, ...]
Entries: TypeAlias = tuple[Entry, ...]

_LEAVE = named("item tolist numpy array bool int float complex index format contains equal allclose is_nonzero")
_WINDOWS = CONVOLUTIONS | MEAN_POOLS | (MAX_POOLS - ADAPTIVE_POOLS)
_KEEP = (
    RELUS
    | ACTIVATIONS
    | LEAKY_ACTIVATIONS
    | CLIPS
    | GATES
    | BATCH_NORMS
    | ADAPTIVE_POOLS
    | MEANS
    | DROPOUTS
    | PLUS
    | MINUS
    | REVERSED_MINUS
    | PRODUCTS
    | QUOTIENTS
    | named("layer_norm group_norm instance_norm rms_norm normalize softmax log_softmax sum amax amin std var norm pow")
    | named(
        "sqrt rsqrt square exp log abs where masked_fill contiguous clone detach to float double half bfloat16 type"
    )
    | named("eq ne lt le gt ge logical_and logical_or logical_not interpolate upsample requires_grad cpu cuda")
)
_GRIDS = frozenset({F.grid_sample, torch.grid_sampler, torch.grid_sampler_2d})
_OF_CONVOLUTIONS = ("input", "weight", "bias", "stride", "padding", "dilation")
_OF_POOLS = ("input", "kernel_size", "stride", "padding")
_FITS = 0.1  # share of its input by which a convolution may begin outside of it
_MOST = 64  # values of an index that are kept


def address(function: Call, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Entry | None:
    """Return the address of a call that may move values, else None."""
    if function in _KEEP:
        return None
    result = args[0] if function is Tensor.__setitem__ else output
    first = result[0] if isinstance(result, tuple | list) and result else result
    if not isinstance(first, Tensor) or (function in _WINDOWS and _fits(function, args, kwargs)):
        return None
    if function in JOINS and (args[1:2] == (1,) or kwargs.get("dim") == 1):
        return None
    return (function.__name__, *_described((args, kwargs), function in _GRIDS))


def moves(function: Call, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> bool:
    """Return whether a call may move values, or takes numbers out of torch by which the network's code may do so."""
    leaves = function in _LEAVE and not isinstance(output, Tensor)
    return leaves or address(function, args, kwargs, output) is not None


class Addresses:
    """The calls before each of some layers in one forward.

    Args:
        taps: taps of the layers, which show when a layer is reached.
    """

    def __init__(self, taps: Sequence[Tap]) -> None:
        self._taps = taps
        self._found: dict[Layer, list[Entry]] = {tap.layer: [] for tap in taps}

    def on_function(self, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Take a call of the forward."""
        waiting = [tap for tap in self._taps if not tap.reached]
        entry = address(function, args, kwargs, output) if waiting else None
        if entry is not None:
            for tap in waiting:
                self._found[tap.layer].append(entry)

    def of(self, layer: Layer) -> Entries:
        """Return the calls before a layer."""
        return tuple(self._found[layer])


def same(entries: Entries, of_one: Entries, count: int) -> bool:
    """Return whether the calls of a forward of `count` images are those of a forward of one."""
    if len(entries) != len(of_one):
        return False
    return all(
        len(many) == len(one) and all(a == b or _times(a, b, count) for a, b in zip(many, one, strict=True))
        for many, one in zip(entries, of_one, strict=True)
    )


def _times(many: Any, one: Any, count: int) -> bool:
    return isinstance(many, int) and isinstance(one, int) and many == one * count


def _fits(function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Return whether the windows of a convolution or pooling begin in its input, up to a tenth of it."""
    names = _OF_CONVOLUTIONS if function in CONVOLUTIONS else _OF_POOLS
    given = dict(zip(names, args, strict=False)) | kwargs
    padding = given.get("padding", 0)
    if isinstance(padding, str):
        return True
    kernel = given["weight"].shape[2:] if "weight" in given else _sides(given["kernel_size"])
    spans = [(side - 1) * step for side, step in zip(kernel, _sides(given.get("dilation", 1)), strict=False)]
    lengths = given["input"].shape[2:]
    return all(
        pad <= span / 2 + 1 + _FITS * length for pad, span, length in zip(_sides(padding), spans, lengths, strict=False)
    )


def _sides(value: Any) -> list[int]:
    return [value] * 2 if isinstance(value, int) else [*value, *value][:2] if len(value) == 1 else list(value)


def _described(values: Any, with_floats: bool) -> list[Any]:
    """Return the numbers, names and shapes in a tree of arguments, and the values of its indices."""
    if isinstance(values, Tensor):
        found: list[Any] = [*values.shape]
        if with_floats or not (values.is_floating_point() or values.is_complex()):
            numbers = values.detach().flatten().double()
            found.append(tuple(numbers[:: max(1, len(numbers) // _MOST)].tolist()))
            found.append(float(numbers.sum()) if not with_floats else None)
        return found
    if isinstance(values, dict):
        values = list(values.items())
    if isinstance(values, tuple | list):
        return [part for value in values for part in _described(value, with_floats)]
    if isinstance(values, slice):
        return _described((values.start, values.stop, values.step), with_floats)
    if isinstance(values, torch.Size):
        return list(values)
    if values is None or isinstance(values, int | float | str | bool):
        return [values]
    return [str(type(values).__name__)]
