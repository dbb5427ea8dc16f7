"""Implicit bias: the constant term of a torch call in first-order form, the bias of FullGrad for calls without one.

    y = J x + b,  b = f(x) - J x        x all arguments of the call that depend on the image, J its Jacobian at x

    GELU, SiLU, sigmoid     b = f(x) - x f'(x), element by element
    LayerNorm, GroupNorm    b close to the whole output, which does not change with the scale of x
    a product               b = -x_1 x_2;  attention likewise
    a sum with a constant   b is the constant, as of a position embedding or a class token

J x is the derivative of u^T J x by u, so that a call needs a second derivative. ReLU, max-pooling and linear maps
without a constant have no bias.

Source: Srinivas & Fleuret, NeurIPS 2019, section 3.1, arXiv:1905.00780, for functions that are not piecewise linear.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._pytree import tree_leaves, tree_map

from xaikit.model.attention import written_out
from xaikit.model.torch_functions import JOINS, MAX_POOLS, MEAN_POOLS, MEANS, MOVES, RELUS, named

Call = Callable[..., Any]

_ROUNDING_STEPS = 64  # of the output's dtype: smaller constants are rounding

UNBIASED = (
    RELUS
    | MAX_POOLS
    | MEAN_POOLS
    | MEANS
    | named("leaky_relu prelu sum adaptive_avg_pool2d requires_grad size dim numel")
    | (MOVES - JOINS)
)
"""Calls that are linear, or linear piece by piece, without a constant."""


def depends(values: Any) -> bool:
    """Return whether a tensor in a tree of arguments depends on the image; weights do not require a gradient."""
    return any(isinstance(leaf, Tensor) and leaf.requires_grad for leaf in tree_leaves(values))


def implicit_bias(function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """Return f(x) - J x of a call, in the shape of its output (the first one of several); None where it has none.

    A call without a second derivative has none, either: what it contributes is missing in the sum.
    """
    if function in UNBIASED or function.__name__ in ("__get__", "__set__") or not depends((args, kwargs)):
        return None
    leaves: list[Tensor] = []

    def leaf(value: Any) -> Any:
        if not (isinstance(value, Tensor) and value.requires_grad):
            return value
        leaves.append(value.detach().requires_grad_(True))
        return leaves[-1].clone()  # the call may write into it

    try:
        with torch.enable_grad(), saved_tensors_hooks(_itself, _itself):  # a checkpoint around it keeps nothing
            args, kwargs = tree_map(leaf, (args, kwargs))
            result = _differentiable(function)(*args, **kwargs)
            output = args[0] if result is None else result[0] if isinstance(result, tuple) else result
            if not depends(output):
                return None
            along = torch.zeros_like(output, requires_grad=True)
            pulled = torch.autograd.grad(output, leaves, along, create_graph=True, allow_unused=True)
            products = [(share * at).sum() for share, at in zip(pulled, leaves, strict=True) if share is not None]
            (slope,) = torch.autograd.grad(torch.stack(products).sum(), along, allow_unused=True)
    except (NotImplementedError, RuntimeError, TypeError):
        return None
    bias = output.detach() if slope is None else output.detach() - slope
    rounding = _ROUNDING_STEPS * torch.finfo(bias.dtype).eps * output.detach().abs().max()
    return bias if bool((bias.abs() > rounding).any()) else None


def _itself(tensor: Tensor) -> Tensor:
    return tensor


def _differentiable(function: Call) -> Call:
    """Return a function with the same output that has a second derivative; fused attention has none."""
    if function is F.scaled_dot_product_attention:
        return lambda *args, **kwargs: written_out(args, kwargs)
    if function is F.multi_head_attention_forward:
        return lambda *args, **kwargs: function(*args, **(kwargs | {"need_weights": True}))
    return function
