"""Coordinates: where on the image each value of a tensor lies, followed through one forward.

    image     row i, column j at pixel (i, j)
    keep      elementwise functions and normalisations: the place of the argument that has one
    move      reshape, permute, roll, pad, concatenate, gather, windows: the same call moves the places
    merge     linear maps and reductions: the mean of the places that are merged; none if they span half of the image
    window    convolutions and poolings: the place of the window's centre
    product   matmul, einsum, attention: the factor whose places do not change along the summed axis; of two, the first

Any other call, a custom `autograd.Function` and scripted code give values without a place, NaN, as weights and class
tokens have none. A residual sum gives them that of its other branch. Names of modules do not matter.

Shapes: places are two tensors, row and column in pixels, of the shape of the tensor that they belong to.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_iter, tree_map

from xaikit.model.grids import Grid, grid_of
from xaikit.model.hooks import Probe
from xaikit.model.torch_functions import (
    ACTIVATIONS,
    BATCH_NORMS,
    CONVOLUTIONS,
    DROPOUTS,
    FLATTENS,
    GATES,
    JOINS,
    LEAKY_ACTIVATIONS,
    LINEARS,
    Call,
    named,
    writes,
)

Places: TypeAlias = tuple[Tensor, Tensor]

_FAR = 0.5  # share of the image from which on merged places are no place any more
_STEPS = 0.75  # of the step of a grid: by how much two places that are added may differ
_AMID = 0.25  # share of their width by which the centres of queries and keys may differ
_ROUNDING = 1e-3  # pixels

_SAME = DROPOUTS | named(
    "contiguous clone detach requires_grad to type type_as float double half bfloat16 cpu cuda retain_grad"
)
_KEEPS = (
    _SAME
    | ACTIVATIONS
    | LEAKY_ACTIVATIONS
    | GATES
    | BATCH_NORMS
    | named("add radd iadd sub subtract rsub isub mul multiply rmul imul div divide true_divide truediv itruediv")
    | named("rdiv rtruediv floor_divide pow rpow float_power sqrt rsqrt square exp exp2 expm1 log log1p log2 abs")
    | named("absolute sign reciprocal sin cos erf maximum minimum lerp addcmul addcdiv where masked_fill nan_to_num")
    | named("round floor ceil trunc fmod remainder softmax log_softmax softmin layer_norm group_norm instance_norm")
    | named("rms_norm normalize cumsum hardswish relu6 logsigmoid gumbel_softmax")
) - named("tensor_split")
_MOVES = (
    FLATTENS
    | JOINS
    | named("view_as reshape_as unsqueeze unflatten ravel permute transpose swapaxes swapdims movedim moveaxis t flip")
    | named("roll rot90 chunk split split_with_sizes tensor_split hsplit vsplit unbind narrow select index_select")
    | named("gather take_along_dim getitem setitem expand expand_as repeat repeat_interleave tile broadcast_to")
    | named("scatter index_copy index_put masked_select adjoint fliplr flipud")
    | named("pixel_shuffle pixel_unshuffle channel_shuffle")
    | frozenset({Tensor.unfold, Tensor.T.__get__, Tensor.mT.__get__})  # type: ignore[attr-defined]
)
_RESHAPES: dict[Call, Call] = {Tensor.view: Tensor.reshape, Tensor.view_as: Tensor.reshape_as}
_PADS = frozenset({F.pad, torch.constant_pad_nd})
_REDUCTIONS = named("mean sum amax amin max min logsumexp norm std var median prod")
_POOLS = named("max_pool1d max_pool2d avg_pool1d avg_pool2d")
_ADAPTIVE = named("adaptive_avg_pool1d adaptive_max_pool1d adaptive_avg_pool2d adaptive_max_pool2d")
_RECURRENT = named("lstm gru rnn_tanh rnn_relu")
_MATMULS = named("matmul rmatmul bmm mm")
_EINSUMS = named("einsum")
_ATTENTION = frozenset({F.scaled_dot_product_attention})
_HEADS = frozenset({F.multi_head_attention_forward})
_RESIZES = named("interpolate upsample")
_TRANSPOSED = named("conv_transpose1d conv_transpose2d")


def layouts(network: nn.Module, inputs: Tensor) -> dict[tuple[str, int], Grid]:
    """Return the layout of the output of each module and call whose values are the cells of a grid.

    Layouts that another image does not have, as of tokens sorted by their values, are left out.

    Args:
        network: the network, borrowed and in eval mode.
        inputs: one image (1, C, H, W) in the network's coordinates.
    """
    first, second = (_followed(network, image) for image in (inputs, 0.3 * inputs.flip(-1)))
    return {place: grid for place, grid in first.items() if place in second and grid.equals(second[place])}


def _followed(network: nn.Module, inputs: Tensor) -> dict[tuple[str, int], Grid]:
    with torch.no_grad(), Probe(network) as probe:
        image = inputs.detach().clone()
        coordinates = _Coordinates((inputs.shape[2], inputs.shape[3]))
        coordinates.start(image)
        probe.observe(coordinates.on_module, coordinates.on_function)
        network(image)
    return coordinates.grids()  # after the forward, in which every call would be observed


class _Coordinates:
    """The places of the tensors of one forward, kept as long as the tensor lives."""

    def __init__(self, size: tuple[int, int]) -> None:
        self._size = size
        self._calls: dict[str, int] = {}
        self._places: dict[int, tuple[weakref.ref[Tensor], Places]] = {}
        self._returned: dict[tuple[str, int], Places] = {}

    def start(self, image: Tensor) -> None:
        rows, columns = (torch.arange(length, dtype=torch.float32, device="cpu") for length in self._size)
        self._set(image, (rows[:, None].expand(image.shape), columns.expand(image.shape)))

    def on_module(self, name: str, module: nn.Module, output: Any) -> None:
        call = self._calls.get(name, 0)
        self._calls[name] = call + 1
        places = self._of(output)
        if places is not None and name and output.is_floating_point():
            self._returned[name, call] = places

    def grids(self) -> dict[tuple[str, int], Grid]:
        """Return the layout by module and call; modules that return the same places share it."""
        known: dict[int, Grid | None] = {}
        for places in self._returned.values():
            if id(places) not in known:
                known[id(places)] = grid_of(places, self._size)
        found = {place: known[id(places)] for place, places in self._returned.items()}
        return {place: grid for place, grid in found.items() if grid is not None}

    def on_function(self, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        given = [self._of(value) for value in tree_iter((args, kwargs)) if isinstance(value, Tensor)]
        changed = args[0] if args and (function is Tensor.__setitem__ or writes(function)) else None
        if all(places is None for places in given):
            return
        try:
            found = self._rule(function, args, kwargs, output)
        except (RuntimeError, TypeError, ValueError, IndexError, KeyError):  # a form of the call that is not known
            found = None
        if changed is not None and found is not self._of(changed):
            self._forget(changed)
        outputs = [changed if changed is not None else output]
        if isinstance(output, tuple | list):
            outputs = list(output)
        results = list(found) if isinstance(found, list) else [found]
        for tensor, places in zip(outputs, results + [None] * (len(outputs) - len(results)), strict=False):
            if isinstance(tensor, Tensor):
                self._set(tensor, places if places is not None and places[0].shape == tensor.shape else None)

    def _forget(self, changed: Tensor) -> None:
        """Forget the places of the tensors in one piece of memory, into which other values were written."""
        memory = changed.untyped_storage().data_ptr()
        for reference, _ in list(self._places.values()):
            tensor = reference()
            if tensor is not None and tensor.untyped_storage().data_ptr() == memory:
                self._set(tensor, None)

    def _set(self, tensor: Tensor, places: Places | None) -> None:
        key = id(tensor)
        if places is None:
            self._places.pop(key, None)
            return
        reference = weakref.ref(tensor, lambda _: self._places.pop(key, None))
        self._places[key] = reference, places

    def _of(self, value: Any) -> Places | None:
        entry = self._places.get(id(value)) if isinstance(value, Tensor) else None
        return entry[1] if entry is not None and entry[0]() is value else None

    def _rule(
        self, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> Places | list[Places] | None:
        """Return the places of a call's output, or of each of its outputs; None if they are not known."""
        first = args[0] if args else kwargs.get("input")
        places = self._of(first)
        if function in named("copy"):
            return self._joined([args[1]], args[0])
        if function in _KEEPS:
            return self._joined([*tree_iter((args, kwargs))], output)
        if function in _MOVES:
            return self._moved(function, args, kwargs, first)
        if function in _MATMULS or function in _EINSUMS:
            return self._product(function, args, output)
        if places is None:
            return None
        if function in _ATTENTION and not self._look_round(places, self._of(args[1])):
            return None
        if function in LINEARS or function in _ATTENTION:
            return self._each(places, lambda c, far: _merged(c, -1, far).expand(output.shape))
        if function in _RECURRENT:
            return [self._each(places, lambda c, far: _merged(c, -1, far).expand(output[0].shape))]
        if function in _HEADS:
            return [places]
        if function in CONVOLUTIONS or function in _POOLS:
            return self._windows(function, args, kwargs, output, places)
        if function in _REDUCTIONS:
            return self._reduced(args, kwargs, output, places)
        if function in _PADS:
            pad = args[1] if len(args) > 1 else kwargs["pad"]
            return self._each(places, lambda c, far: F.pad(c, pad, "constant", torch.nan))
        return self._others(function, args, kwargs, output, places)

    def _others(
        self, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any, places: Places
    ) -> Places | None:
        rest = args[1:]
        if function is F.glu:
            return self._each(places, lambda c, far: c.chunk(2, rest[0] if rest else kwargs.get("dim", -1))[0])
        if function is F.unfold:
            return self._each(places, lambda c, far: _blank_zeros(F.unfold(c + 1, *rest, **kwargs)))
        if function in _RESIZES:
            return self._each(
                places, lambda c, far: F.interpolate(_one_channel(c), *rest, **kwargs).expand(output.shape)
            )
        if function in _ADAPTIVE:
            output = output[0] if isinstance(output, tuple) else output
            axes = 1 if "1d" in function.__name__ else 2
            bins = tuple(output.shape[output.ndim - axes :])
            return self._each(places, lambda c, far: _binned(_one_channel(c), bins, far).expand(output.shape))
        return None

    def _each(self, places: Places, rule: Callable[[Tensor, float], Tensor]) -> Places:
        """Apply a rule to the rows and to the columns, with the distance in pixels that is no place any more."""
        rows, columns = (rule(place, _FAR * length) for place, length in zip(places, self._size, strict=True))
        return rows, columns

    def _joined(self, values: list[Any], output: Tensor) -> Places | None:
        """Return the places of an elementwise function, of arguments of the output's shape before those broadcast.

        Of two tensors (1, C, h, w) with different places, the first counts: their axes are the same.
        """
        known = [(value, places) for value in values if (places := self._of(value)) is not None]
        full = [places for value, places in known if value.shape == output.shape]
        joined = full or [self._each(places, lambda c, far: c.expand(output.shape)) for _, places in known]
        result = joined[0] if joined else None
        for other in joined[1:]:
            if result is not None and other is not result:
                rows, columns = (_agreed(a, b) for a, b in zip(result, other, strict=True))
                lost = rows.isnan().sum() > result[0].isnan().sum() or columns.isnan().sum() > result[1].isnan().sum()
                if not (lost and _is_plain(result) and _is_plain(other)):
                    result = rows, columns
        return result

    def _moved(
        self, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any], first: Any
    ) -> Places | list[Places] | None:
        results = []
        for axis in (0, 1):

            def place(value: Any, axis: int = axis) -> Any:
                if not isinstance(value, Tensor) or not value.is_floating_point():
                    return value
                places = self._of(value)
                return (
                    torch.full(value.shape, torch.nan, dtype=torch.float32, device="cpu")
                    if places is None
                    else places[axis]
                )

            own_args, own_kwargs = tree_map(place, (args, kwargs))
            own_args, own_kwargs = tree_map(_on_cpu, (own_args, own_kwargs))
            if function is Tensor.__setitem__ or writes(function):
                own_args = (own_args[0].clone(), *own_args[1:])
            result = _RESHAPES.get(function, function)(*own_args, **own_kwargs)
            results.append(own_args[0] if function is Tensor.__setitem__ else result)
        if isinstance(results[0], Tensor):
            return results[0], results[1]
        return list(zip(*results, strict=True))

    def _product(self, function: Call, args: tuple[Any, ...], output: Tensor) -> Places | None:
        """Return the places of a product of two tensors, those of the factor that keeps them."""
        if function in _EINSUMS:
            equation, *factors = args
            factors = list(factors[0]) if isinstance(factors[0], list | tuple) else factors
            inputs, _, outputs = equation.replace(" ", "").partition("->")
            letters = inputs.split(",")
        else:
            factors = [args[1], args[0]] if function in named("rmatmul") else list(args[:2])
            lead = "abcdefg"[: output.ndim - 2]
            letters = [lead[len(lead) - factors[0].ndim + 2 :] + "yz", lead[len(lead) - factors[1].ndim + 2 :] + "zx"]
            outputs = lead + "yx"
            queries, keys = (self._of(factor) for factor in factors)
            if queries is not None and keys is not None and all(_constant(place, -2) for place in keys):
                turned = self._each(keys, lambda c, far: c.transpose(-2, -1))
                if not self._look_round(queries, turned):
                    return None
        for factor, names in zip(factors, letters, strict=True):
            places = self._of(factor)
            if places is None or len(names) != factor.ndim or "." in outputs:
                continue
            summed = [axis for axis, name in enumerate(names) if name not in outputs]
            if all(_constant(place, axis) for place in places for axis in summed):
                return self._each(places, partial(_spread, names=names, outputs=outputs, shape=output.shape))
        return None

    def _look_round(self, queries: Places, keys: Places | None) -> bool:
        """Return whether queries (..., T, d) lie amid the keys that they attend to, as in self-attention.

        Queries of another part of the image, such as one for the whole image in each window, have other places than
        the values that they collect.
        """
        if keys is None:
            return True
        for query, key in zip(queries, keys, strict=True):
            centres = [place.nanmean((-2, -1)) for place in (query, key)]
            widths = [
                place.nan_to_num(nan=-torch.inf).amax((-2, -1)) - place.nan_to_num(nan=torch.inf).amin((-2, -1))
                for place in (query, key)
            ]
            if bool(((centres[0] - centres[1]).abs() > _AMID * torch.maximum(*widths)).any()):
                return False
        return True

    def _windows(
        self, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any, places: Places
    ) -> Places | list[Places]:
        """Return the places of the centres of a convolution's or a pooling's windows."""
        output = output[0] if isinstance(output, tuple) else output
        convolves = function in CONVOLUTIONS
        axes = (3 if "1d" in function.__name__ else 4) - 2
        names = ["input", "weight", "bias", "stride", "padding", "dilation"]
        if not convolves:
            names = ["input", "kernel_size", "stride", "padding", *(["dilation"] if "max" in function.__name__ else [])]
        given = dict(zip(names, args, strict=False)) | kwargs
        kernel = given["weight"].shape[-axes:] if convolves else _sides(given["kernel_size"], axes)
        stride = given.get("stride")
        steps = _sides(1 if convolves else kernel, axes) if stride in (None, (), []) else _sides(stride, axes)
        dilation = _sides(given.get("dilation", 1), axes)
        reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        padding = given.get("padding", 0)
        if isinstance(padding, str):
            padding = [side // 2 if padding == "same" else 0 for side in reach]
        before = _sides(padding, axes)
        channel = output.ndim - axes - 1

        def centres(c: Tensor, far: float) -> Tensor:
            c = _merged(c, channel, far) if convolves else c
            for axis in range(axes):
                where = torch.arange(output.shape[channel + 1 + axis], dtype=torch.float32, device="cpu")
                if function in _TRANSPOSED:
                    where = (where + before[axis] - reach[axis] / 2) / steps[axis]
                else:
                    where = where * steps[axis] - before[axis] + reach[axis] / 2
                c = _read(c, channel + 1 + axis, where)
            return c.expand(output.shape)

        result = self._each(places, centres)
        return [result] if isinstance(output, tuple) else result

    def _reduced(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any, places: Places
    ) -> Places | list[Places] | None:
        given = kwargs.get("dim", kwargs.get("axis", args[1] if len(args) > 1 else None))
        if isinstance(given, Tensor):
            return self._joined([*args[:2]], output)  # max or min of two tensors
        value = output[0] if isinstance(output, tuple) else output
        if given is None or isinstance(given, str | float):
            return None
        dims = [given] if isinstance(given, int) else list(given)
        axes = sorted(axis % places[0].ndim for axis in dims)

        def merged(c: Tensor, far: float) -> Tensor:
            for axis in axes:
                c = _merged(c, axis, far)
            return c if c.ndim == value.ndim else c.squeeze(axes)

        result = self._each(places, merged)
        return [result] if isinstance(output, tuple) else result


def _on_cpu(value: Any) -> Any:
    return value.cpu() if isinstance(value, Tensor) else value


def _sides(value: Any, axes: int) -> list[int]:
    sides = [value] if isinstance(value, int) else list(value)
    return sides * axes if len(sides) == 1 else sides


def _constant(place: Tensor, axis: int) -> bool:
    """Return whether places do not change along an axis."""
    if place.stride(axis) == 0 or place.shape[axis] == 1:
        return True
    first = place.narrow(axis, 0, 1)
    same = (place - first).abs() <= _ROUNDING
    return bool((same | (place.isnan() & first.isnan())).all())


def _one_channel(place: Tensor) -> Tensor:
    return place.narrow(1, 0, 1) if _constant(place, 1) else place


def _spread(place: Tensor, far: float, names: str, outputs: str, shape: torch.Size) -> Tensor:
    """Return the places of a product of `shape`, by those of a factor that are the same along its summed axes.

    Args:
        place: rows or columns of the factor.
        far: not used here.
        names: a letter for each axis of the factor, as in an einsum.
        outputs: the same for the product.
        shape: shape of the product.
    """
    for axis in reversed(range(place.ndim)):
        if names[axis] not in outputs:
            place = place.select(axis, 0)
    kept = [name for name in names if name in outputs]
    place = place.permute([kept.index(name) for name in outputs if name in kept])
    for axis, name in enumerate(outputs):
        place = place if name in kept else place.unsqueeze(axis)
    return place.expand(shape)


def _is_plain(places: Places) -> bool:
    """Return whether rows lie along the third axis and columns along the fourth, as in (N, C, h, w)."""
    rows, columns = places
    if rows.ndim != 4:
        return False
    return all(_constant(place, axis) for place, axes in ((rows, (1, 3)), (columns, (1, 2))) for axis in axes)


def _merged(place: Tensor, axis: int, far: float) -> Tensor:
    """Return the mean of places along an axis, which is kept with length 1; NaN where they are far apart."""
    if place.shape[axis] == 1 or place.stride(axis) == 0:
        return place.narrow(axis, 0, 1)
    lowest = place.nan_to_num(nan=torch.inf).amin(axis, keepdim=True)
    highest = place.nan_to_num(nan=-torch.inf).amax(axis, keepdim=True)
    mean: Tensor = place.nanmean(axis, keepdim=True)
    return mean.masked_fill(highest - lowest >= far, torch.nan)


def _binned(place: Tensor, bins: tuple[int, ...], far: float) -> Tensor:
    """Return the mean of places in each bin of an adaptive pooling; NaN where they are far apart."""
    pools: dict[int, tuple[Call, Call]] = {
        1: (F.adaptive_avg_pool1d, F.adaptive_max_pool1d),
        2: (F.adaptive_avg_pool2d, F.adaptive_max_pool2d),
    }
    mean, largest = pools[len(bins)]
    span = largest(place, bins) + largest(-place, bins)
    result: Tensor = mean(place, bins)
    return result.masked_fill(span >= far, torch.nan)


def _read(place: Tensor, axis: int, where: Tensor) -> Tensor:
    """Return the places at fractional indices `where` along an axis; one neighbour is enough.

    Indices up to one step outside go on as a line, those further out are the border's.
    """
    last = place.shape[axis] - 1
    left = where.clamp(0, last).floor().clamp(max=max(0, last - 1))
    low, high = (place.index_select(axis, index.long()) for index in (left, (left + 1).clamp(max=last)))
    share = (where.clamp(-1, last + 1) - left).reshape(-1, *[1] * (place.ndim - 1 - axis % place.ndim))
    between = low + share * (high - low)
    return torch.where(between.isnan(), torch.where(low.isnan(), high, low), between)


def _agreed(first: Tensor, second: Tensor) -> Tensor:
    """Return the mean of two places, or the one there is; NaN where they differ by a step of the grid."""
    shape = first.shape
    for axis in range(first.ndim):
        if not first.stride(axis) and not second.stride(axis):
            first, second = first.narrow(axis, 0, 1), second.narrow(axis, 0, 1)
    both = (first + second) / 2
    only = torch.where(first.isnan(), second, first)
    difference = (first - second).abs()
    if not bool((difference > _ROUNDING).any()):
        return only.expand(shape)
    known = torch.unique(first[~first.isnan()])
    step = float(known.diff().clamp_min(_ROUNDING).median()) if len(known) > 1 else 0.0
    agreed = torch.where(both.isnan(), only, both.masked_fill(difference > max(_STEPS * step, _ROUNDING), torch.nan))
    return agreed.expand(shape)


def _blank_zeros(shifted: Tensor) -> Tensor:
    """Return places from places plus one, in which zeros are padding."""
    return torch.where(shifted <= 0, torch.nan, shifted - 1)
