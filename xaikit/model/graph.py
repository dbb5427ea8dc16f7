"""The autograd graph of a forward: its nodes, and the operations in it that no function call shows.

    before a call     nodes behind its arguments that are not known yet are hidden
    after a call      nodes behind its result are known

Scripted functions, an `autograd.Function`, compiled code and other threads add nodes without a call of a torch function
that this thread sees, so rules for functions cannot act on them. Reentrant checkpoints are not named: their operations
show in the backward.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor

from xaikit.foundation.errors import BadInput

_SHOWN_ELSEWHERE = (
    "AccumulateGrad",
    "CheckpointFunctionBackward",
    "AsStridedBackward",
    "CopySlices",
    "CopyBackwards",
    "AliasBackward",
    "CloneBackward",
)
"""Leaves, reentrant checkpoints, copies, and nodes that autograd adds for views of tensors written in place."""


class Graph:
    """The nodes met so far, and those among them that no function call added, with their names."""

    def __init__(self) -> None:
        self._known: set[Any] = {None}
        self._hidden: dict[Any, str] = {}

    def before(self, arguments: Any) -> None:
        """Take the arguments of a call."""
        for node in nodes(arguments, self._known):
            name = str(node.name()).rpartition("::")[2].rstrip("0123456789")
            if not name.startswith(_SHOWN_ELSEWHERE):
                self._hidden[node] = name.removesuffix("Backward")

    def after(self, result: Any) -> None:
        """Take the result of a call, or of a forward whose hidden operations are known."""
        for _ in nodes(result, self._known):
            pass

    def hidden(self, among: Iterable[Any] | None = None) -> list[str]:
        """Return the names of the hidden operations that were met; `among` are the nodes that count, by default all."""
        found = self._hidden if among is None else [node for node in among if node in self._hidden]
        return sorted({self._hidden[node] for node in found})

    def refuse_hidden(self, among: Iterable[Any] | None, name: str, remedy: str) -> None:
        """Raise BadInput if there are hidden operations, then forget them.

        Args:
            among: the nodes that count, None for all.
            name: what needs function calls, for the message.
            remedy: what to do instead.
        """
        hidden = self.hidden(among)
        if hidden:
            raise BadInput(
                f"{name}: expected torch functions, got {', '.join(hidden)} inside scripted code, compiled code, an "
                f"autograd.Function or another thread; {remedy}"
            )
        self._hidden.clear()


def nodes(values: Any, known: set[Any]) -> Iterator[Any]:
    """Yield the nodes of the graph behind some tensors, and add them to `known`, behind which nothing is searched.

    Args:
        values: a tensor, or tensors inside sequences and mappings.
        known: nodes met before, and None.
    """
    waiting = [tensor.grad_fn for tensor in tensors_in(values)]
    while waiting:
        node: Any = waiting.pop()
        if node not in known:
            known.add(node)
            waiting += [before for before, _ in node.next_functions]
            yield node


def tensors_in(values: Any) -> Iterator[Tensor]:
    """Yield the tensors in a value, also inside sequences and mappings."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, tuple | list):
        for value in values:
            yield from tensors_in(value)
    elif isinstance(values, dict):
        yield from tensors_in(list(values.values()))
