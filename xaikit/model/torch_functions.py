"""Sets of torch functions by what they compute: ReLUs, linear maps, poolings, sums, moves.

A network is analysed by the functions it calls, through a module, a function or a method; class names are never used.
Each set holds every form of a function in torch, torch.special, torch.nn.functional and Tensor: `relu`, `relu_` (in
place), `__add__` (an operator), `max_pool2d_with_indices`.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Call = Callable[..., Any]


def named(names: str) -> frozenset[Call]:
    """Return the torch functions of these names, in every form that exists.

    Args:
        names: function names separated by spaces; "add" gives torch.add, Tensor.add, add_ and Tensor.__add__.
    """
    homes = (torch, torch.special, F, Tensor)
    forms = (form for name in names.split() for form in (name, f"{name}_", f"__{name}__", f"{name}_with_indices"))
    functions = (getattr(home, form, None) for form in forms for home in homes)
    return frozenset(function for function in functions if callable(function))


def writes(function: Call) -> bool:
    """Return whether a function writes its result into its first argument: `add_` does, `__rsub__` does not."""
    return function.__name__.endswith("_") and not function.__name__.endswith("__")


def overwrites(function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Return whether a call of an activation writes into its first argument, by its name or by `inplace`."""
    return writes(function) or any(value is True for value in (*args[1:], *kwargs.values()))


RELUS = named("relu")
HARDTANHS = named("hardtanh")
CLAMPS = named("clamp clamp_min")
LEAKY_ACTIVATIONS = named("silu gelu mish hardswish softplus elu selu celu leaky_relu prelu rrelu tanh")
"""Activations with a non-zero output for negative inputs."""
GATES = named("sigmoid expit hardsigmoid tanh softmax")
CLIPS = HARDTANHS | named("relu6 clamp clip softsign")
"""Activations that can be bounded."""
ACTIVATIONS = (
    RELUS
    | HARDTANHS
    | named("relu6 leaky_relu prelu rrelu elu selu celu silu mish gelu hardswish softplus softsign logsigmoid")
    | named("threshold clamp clamp_min clamp_max clip neg positive logit hardshrink softshrink tanhshrink")
    | named("local_response_norm")
)
"""Elementwise functions, except the gates."""

CONVOLUTIONS = named("conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d")
LINEARS = named("linear")
BATCH_NORMS = named("batch_norm")

MEANS = named("mean")
LARGEST = named("amax max maximum")
MEAN_POOLS = named("avg_pool1d avg_pool2d avg_pool3d")
MAX_POOLS = named("max_pool1d max_pool2d max_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d")
ADAPTIVE_POOLS = named("adaptive_avg_pool2d adaptive_max_pool2d")

PLUS = named("add radd iadd")
MINUS = named("sub subtract isub")
REVERSED_MINUS = named("rsub")
PRODUCTS = named("mul multiply rmul imul")
QUOTIENTS = named("div divide true_divide truediv itruediv")

FLATTENS = named("flatten view reshape squeeze")
JOINS = named("cat concat concatenate stack hstack vstack dstack")
PADS: frozenset[Call] = frozenset({F.pad, torch.constant_pad_nd})
DROPOUTS = named("dropout dropout1d dropout2d dropout3d alpha_dropout feature_dropout feature_alpha_dropout")
MOVES = (
    FLATTENS
    | JOINS
    | DROPOUTS
    | named("view_as reshape_as unsqueeze unflatten ravel permute transpose swapaxes swapdims movedim moveaxis t flip")
    | named("roll rot90 chunk split tensor_split unbind narrow select index_select gather take_along_dim getitem")
    | named("expand expand_as repeat repeat_interleave tile broadcast_to contiguous clone detach requires_grad unfold")
    | named("to type type_as float double half bfloat16 cpu cuda pixel_shuffle pixel_unshuffle channel_shuffle")
)
"""Calls that move, copy or select values without changing them."""

BLANKS = named(
    "zeros_like ones_like full_like empty_like rand_like randn_like new_zeros new_ones new_full new_empty new_tensor"
)
"""Calls that take the shape of a tensor, not its values."""

LINEAR_MAPS = named(
    "add sub subtract rsub neg negative positive sum mean cumsum diff "
    "cat concat concatenate stack hstack vstack dstack chunk split tensor_split unbind "
    "getitem setitem select narrow index_select gather take_along_dim flip roll rot90 "
    "flatten unflatten view view_as reshape reshape_as squeeze unsqueeze expand expand_as broadcast_to repeat tile "
    "repeat_interleave permute transpose t swapaxes swapdims movedim moveaxis ravel contiguous clone "
    "copy to float double half bfloat16 type type_as cpu cuda requires_grad "
    "avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d "
    "dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout "
    "pad constant_pad_nd interpolate upsample pixel_shuffle pixel_unshuffle channel_shuffle unfold fold"
)
"""Calls that are linear in the activations among their arguments."""
