"""Origins: whether hidden code makes some of a forward's tensors, so that no call shows how they depend on the image.

    made        returned by a call that this thread sees
    held        parameters, and tensors that modules hold
    unknown     any other: from scripted code, another thread, torch.func, a gradient taken inside the forward

Unknown tensors that have the same values for two images are constants; otherwise hidden code takes part in the forward.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from xaikit.model.graph import tensors_in
from xaikit.model.torch_functions import Call


class Origins:
    """Where the tensors of one forward come from; `unknown` are those that calls take.

    Args:
        network: the network that runs.
        image: what it takes.
    """

    def __init__(self, network: nn.Module, image: Tensor) -> None:
        self.unknown: list[Tensor] = []
        self._made: WeakValueDictionary[int, Tensor] = WeakValueDictionary()
        self._held = {id(tensor): tensor for tensor in _held(network)}
        self.made(image)

    def made(self, values: Any) -> None:
        """Take what a call returned."""
        self._made.update({id(tensor): tensor for tensor in tensors_in(values)})

    def on_function(self, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Take a call of the forward."""
        self.use((args, kwargs))
        self.made(output)

    def use(self, values: Any) -> None:
        """Take the arguments of a call, or the outputs of the network."""
        for tensor in tensors_in(values):
            known = self._made.get(id(tensor)) is tensor or id(tensor) in self._held
            if not (known or isinstance(tensor, nn.Parameter) or _is_checkpoint(tensor)):
                self.unknown.append(tensor)

    def differ(self, other: Origins) -> bool:
        """Return whether the unknown tensors have other values than in the forward of another image."""
        if len(self.unknown) != len(other.unknown):
            return True
        try:
            return not all(torch.equal(*pair) for pair in zip(self.unknown, other.unknown, strict=True))
        except RuntimeError:  # tensors inside torch.func cannot be compared
            return True


def _held(network: nn.Module) -> Iterator[Tensor]:
    for module in network.modules():
        yield from module.buffers(recurse=False)
        yield from tensors_in({} if hasattr(module, "graph") else vars(module))  # scripted code has no attributes


def _is_checkpoint(tensor: Tensor) -> bool:
    return tensor.grad_fn is not None and tensor.grad_fn.name().startswith("CheckpointFunction")
