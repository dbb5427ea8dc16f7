"""Cuts: the parts of a forward through which the score depends on the image, but which have no gradient.

    y = x + f(x).detach()        the gradient of y is that of x alone

A forward with a graph shows every call. A call cuts if it takes numbers that depend on the image and returns others
without a graph (`detach`, a function under `torch.no_grad`), writes them into a tensor without a graph, rounds them,
takes them out of torch, or changes a tensor behind its graph's back. Only numbers that come back into the graph count:
a mask x > 0 is constant almost everywhere, as is sign(x) times a size of x, and a network without any graph is refused
elsewhere. Scripted code and an `autograd.Function` hide their cuts.

A backward in Python code (a hook, an `autograd.Function`), or from tensors that hooks pack for it, may not be the
derivative; gradients.py compares.
"""

from collections.abc import Iterable
from inspect import getattr_static
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import disable_saved_tensors_hooks

from xaikit.model.calls import Rule
from xaikit.model.graph import tensors_in
from xaikit.model.paths import is_custom
from xaikit.model.torch_functions import BLANKS, PRODUCTS, Call, named, writes

_ROUND = named("round floor ceil trunc fix frac remainder mod fmod floor_divide floordiv")
_SIGNS = named("sign sgn")
_LEAVES_TORCH = named("item tolist numpy array float int")
_WRITERS = named("setitem iadd isub imul itruediv idiv ifloordiv ipow imod")
_TO_INTEGERS = named("int long short to type")
_TAKES_SHAPE = named("to type_as expand_as view_as reshape_as")
"""Calls that take the values of their first argument only."""
_ABOUT_GRADIENTS = frozenset({getattr_static(Tensor, "grad_fn").__get__}) | named(
    "register_hook fake_quantize_per_tensor_affine fake_quantize_per_channel_affine"
)
"""Calls that give the backward something else than the derivative, or may: a hook, a straight-through rounding."""


class Trace:
    """What one forward shows about its gradient.

    `names`: the functions that cut the graph. `custom`: whether its backward runs Python code, or reads tensors by it.
    The tensors that depend on the image without a graph are known by their storage, which they share with views of
    them; they are kept alive during the forward, so that an address identifies one storage.
    """

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.custom = False
        self._cut: dict[int, tuple[Tensor, str]] = {}
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
        if func in _LEAVES_TORCH and not isinstance(output, Tensor):
            self.names.add(name)
        written = [args[:1] if writes(func) or func in _WRITERS else (), kwargs.get("out")]
        for tensor in tensors_in(written):
            self.names.update({name} if not tensor.requires_grad and _place(tensor) in self._shared else ())
        for tensor in tensors_in([output, *written]):
            if tensor.requires_grad:
                self.names.update(severed)
                self.names.update({name} if func in _ROUND else ())
                self._signs.update({id(tensor): tensor} if func in _SIGNS else {})
            elif tensor.is_floating_point() or (func in _TO_INTEGERS and tensor.dtype != torch.bool):
                self._cut.setdefault(_place(tensor), (tensor, severed[0] if severed else name))
                self._shared.update({_place(tensor)} & {_place(signal) for signal in signals})
        return output

    def _severed(self, arguments: list[Tensor]) -> list[str]:
        """Return the names of the functions that cut some of the arguments off."""
        places = [_place(tensor) for tensor in arguments if not tensor.requires_grad]
        return [self._cut[place][1] for place in places if place in self._cut]

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
    return tensor.untyped_storage().data_ptr()
