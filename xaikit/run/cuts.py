"""Cuts: the parts of a forward through which the score depends on the image, but which have no gradient.

    y = x + f(x).detach()        the gradient of y is that of x alone

A forward with a graph shows every call. A call cuts if it takes numbers that depend on the image and returns others
without a graph (`detach`, a function under `torch.no_grad`), writes them into a tensor without a graph, rounds them,
takes them out of torch, or changes a tensor behind its graph's back. Only numbers that come back into the graph count:
a mask x > 0 is constant almost everywhere, as is sign(x) times a size of x, and a network without any graph is refused
elsewhere. The same holds for all choices: masks, indices and integers, and floats made of them alone. They may be a
factor or select, but a sum with them is rounded.

Where the backward may not be the derivative, gradients.py compares: after Python code in it (a hook, an
`autograd.Function`), with tensors that hooks pack for it, and where hidden code takes part (origins.py: scripted code,
other threads).
"""

from collections.abc import Iterable
from enum import Flag, auto
from functools import reduce
from inspect import getattr_static
from operator import or_
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import disable_saved_tensors_hooks

from xaikit.model.calls import Rule
from xaikit.model.graph import tensors_in
from xaikit.model.paths import is_custom
from xaikit.model.torch_functions import BLANKS, MINUS, PLUS, PRODUCTS, QUOTIENTS, REVERSED_MINUS, Call, named, writes

_ROUND = named("round floor ceil trunc fix frac remainder mod fmod floor_divide floordiv")
_SIGNS = named("sign sgn")
_ARRAYS = named("tolist numpy array dlpack")
_LEAVES_TORCH = _ARRAYS | named("item float int")
_WRITERS = named("setitem iadd isub imul itruediv idiv ifloordiv ipow imod")
_COPIES_SIGNS = named("copysign")
_WEIGHS = PRODUCTS | named("matmul rmatmul mm bmm einsum")
_SUMS = PLUS | MINUS | REVERSED_MINUS
_TAKES_SHAPE = named("to type_as expand_as view_as reshape_as")
"""Calls that take the values of their first argument only."""
_ABOUT_GRADIENTS = frozenset({getattr_static(Tensor, "grad_fn").__get__}) | named(
    "register_hook fake_quantize_per_tensor_affine fake_quantize_per_channel_affine"
)
"""Calls that give the backward something else than the derivative, or may: a hook, a straight-through rounding."""


class _Kind(Flag):
    """What a tensor without a graph is made of."""

    NONE = 0
    CHOICES = auto()
    NUMBERS = auto()


class Trace:
    """What one forward shows about its gradient.

    `names`: the functions that cut the graph. `custom`: whether its backward runs Python or hidden code, or reads
    tensors by it. The tensors that depend on the image without a graph are known by their storage, which they share
    with views of them; they are kept alive during the forward, so that an address identifies one storage.

    Args:
        hidden: whether hidden code takes part in the forward.
    """

    def __init__(self, hidden: bool) -> None:
        self.names: set[str] = set()
        self.custom = self.hidden = hidden
        self._cut: dict[int, tuple[Tensor, str, _Kind]] = {}
        self._signs: dict[int, Tensor] = {}
        self._shared: set[int] = set()

    def end(self, operations: Iterable[Any], hidden: bool = False) -> None:
        """Take the operations of the forward's graph, or whether any of them are hidden, and let its tensors go."""
        self.custom |= hidden
        for node in operations:
            name = node.name()
            self.custom |= (is_custom(node) and not name.startswith("CheckpointFunction")) or "CppNode" in name
        for tensors in (self._cut, self._signs, self._shared):
            tensors.clear()

    def call(self, compute: Rule, func: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Compute a call of the forward by `compute(func, args, kwargs)`."""
        self.custom |= func in _ABOUT_GRADIENTS
        given = args[:1] if func in _TAKES_SHAPE else (args, kwargs)
        arguments = list(tensors_in(given))
        signals = [tensor for tensor in arguments if tensor.requires_grad]
        severed = self._severed(arguments) if self._cut else []
        if func in BLANKS or not (signals or severed):
            return compute(func, args, kwargs)
        self.custom = self.custom or _are_packed()
        versions = [] if torch.is_grad_enabled() else [tensor._version for tensor in signals]
        if self._signs:
            self._use_signs(func, signals)
        output = compute(func, args, kwargs)
        name = func.__name__.strip("_")
        if versions and versions != [tensor._version for tensor in signals]:
            self.names.add(name)
        kinds = reduce(or_, (kind for _, _, kind in severed), _Kind.NUMBERS if signals else _Kind.NONE)
        if func in _LEAVES_TORCH and not isinstance(output, Tensor):
            counts = kinds == _Kind.CHOICES and func not in _ARRAYS
            self.names.update({name} if not counts else ())
        written = [args[:1] if writes(func) or func in _WRITERS else (), kwargs.get("out")]
        for tensor in tensors_in(written):
            self.names.update({name} if not tensor.requires_grad and _place(tensor) in self._shared else ())
        for tensor in tensors_in([output, *written]):
            if tensor.requires_grad:
                self._use(func, severed, max((signal.numel() for signal in signals), default=0))
                rounds = func in _ROUND or kwargs.get("rounding_mode") is not None
                self.names.update({name} if rounds else ())
                copies = func in _COPIES_SIGNS and not args[0].requires_grad
                self._signs.update({id(tensor): tensor} if func in _SIGNS or copies else {})
            else:
                numbers = tensor.is_floating_point() or tensor.is_complex()
                origin = severed[0][1] if severed else name
                self._cut.setdefault(_place(tensor), (tensor, origin, kinds if numbers else _Kind.CHOICES))
                self._shared.update({_place(tensor)} & {_place(signal) for signal in signals})
        return output

    def _severed(self, arguments: list[Tensor]) -> list[tuple[Tensor, str, _Kind]]:
        """Return some of the arguments that are cut off, each with the name of the function that cut it."""
        found = [(tensor, self._cut.get(_place(tensor))) for tensor in arguments if not tensor.requires_grad]
        return [(tensor, cut[1], cut[2]) for tensor, cut in found if cut is not None]

    def _use(self, func: Call, severed: list[tuple[Tensor, str, _Kind]], size: int) -> None:
        """Take a call of signals, of which the largest has `size` values, with severed tensors."""
        for tensor, name, kind in severed:
            if _Kind.CHOICES in kind:
                floats = tensor.is_floating_point()
                weighs = func in _WEIGHS or (func in QUOTIENTS and tensor.numel() < size)
                cuts = not weighs if floats else func in _SUMS
                cuts |= func in _WEIGHS and tensor.dtype != torch.bool and bool((tensor.abs() > 1).any())
                self.names.update({name} if cuts else ())
            self.names.update({name} if _Kind.NUMBERS in kind else ())

    def _use_signs(self, func: Call, signals: list[Tensor]) -> None:
        """Take a use of signs: as a factor of a tensor of their shape they are a mask, else a rounding."""
        signs = [tensor for tensor in signals if id(tensor) in self._signs]
        others = [tensor for tensor in signals if id(tensor) not in self._signs]
        masks = func in PRODUCTS and any(other.shape == sign.shape for sign in signs for other in others)
        self.names.update({"sign"} if signs and not masks else ())


def _are_packed() -> bool:
    """Return whether hooks pack what calls save for the backward: then they cannot be disabled."""
    try:
        with disable_saved_tensors_hooks("packed"):
            return False
    except RuntimeError:
        return True


def _place(tensor: Tensor) -> int:
    try:
        return tensor.untyped_storage().data_ptr()
    except (NotImplementedError, RuntimeError):  # inside torch.func
        return id(tensor)
