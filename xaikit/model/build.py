"""The build of a network: its modules and their plain attributes, by which a later change is noticed.

A head that is replaced, a softmax or dropout that is switched on: what was seen in the first forward holds no longer.
Weights are no part of it, nor hooks and the flag `training`, which a run in another thread may have set, nor what a
forward sets itself, such as counters and sizes.
"""

from collections.abc import Sequence
from types import BuiltinFunctionType, FunctionType
from typing import Any

from torch import nn

from xaikit.model.borrow import WRITTEN

_PLAIN = (bool, int, float, str, type(None), FunctionType, BuiltinFunctionType)
_OF_TORCH = frozenset(vars(nn.Module()))
_FAILURES = (RuntimeError, TypeError, ValueError)  # of comparing tensors and arrays

Facts = dict[tuple[int, str], Any]


class Build:
    """The build of one network after it was looked at.

    Args:
        network: the network.
        before: its facts before it was looked at; those that changed are set by its forward.
        old: its build when it was looked at earlier, or None.
    """

    def __init__(self, network: nn.Module, before: Facts, old: "Build | None" = None) -> None:
        after = facts(network)
        self._own = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
        self._own |= set() if old is None else old._own
        self._facts = self._fixed(after)
        self._keep(list(network.modules()))

    def __getstate__(self) -> dict[str, Any]:
        """Leave the attributes out of copies, because some cannot be copied; the facts are enough."""
        return vars(self) | {"_parts": []}

    def is_of(self, network: nn.Module) -> bool:
        """Return whether a network is still built like this."""
        modules = list(network.modules())
        if len(modules) == len(self._parts) and self._same(modules):
            return True
        if self._fixed(facts(network)) != self._facts:
            return False
        self._keep(modules)
        return True

    def _keep(self, modules: Sequence[nn.Module]) -> None:
        self._parts = [(module, dict(vars(module))) for module in modules]

    def _same(self, modules: Sequence[nn.Module]) -> bool:
        """Return whether all attributes are the same, which is quick to see."""
        try:
            return all(
                module is part and vars(module) == attributes
                for module, (part, attributes) in zip(modules, self._parts, strict=True)
            )
        except _FAILURES:
            return False

    def _fixed(self, found: Facts) -> Facts:
        return {key: value for key, value in found.items() if key not in self._own}


def facts(network: nn.Module) -> Facts:
    """Return the class and the plain attributes of each module, by its place and their name.

    A compiled function stands as it was before, as which it runs while the network is borrowed.
    """
    return {
        (place, name): getattr(value, WRITTEN, value)
        for place, module in enumerate(network.modules())
        for name, value in [("", type(module)), *vars(module).items()]
        if not name or (type(value) in _PLAIN and name not in _OF_TORCH)
    }
