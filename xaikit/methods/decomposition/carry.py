"""The nodes that carry relevance: operations whose backward shares relevance by a rule, and those that refuse it."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.methods.decomposition.order import Record
from xaikit.methods.decomposition.signals import Step, carries

Share = Callable[[Tensor], Sequence[Tensor | None]]


class Carry(torch.autograd.Function):
    """An operation whose backward shares relevance among its sources.

    Its node keeps `share`, `step`, `record`, `present`, `size`, `limit` and `values`; see signals.py.
    """

    @staticmethod
    def forward(
        ctx: Any,
        share: Share,
        step: Step,
        record: Record | None,
        present: Tensor | None,
        limit: float,
        values: float,
        compute: Callable[[], Tensor],
        *sources: Tensor,
    ) -> Tensor:
        """Return what `compute` returns, a function of the sources."""
        output = compute()
        ctx.share, ctx.step, ctx.record, ctx.present, ctx.size = share, step, record, present, output.numel()
        ctx.limit, ctx.values = limit, min(values, ctx.size)
        return output

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor | None, ...]:
        """Return the relevance of each source."""
        return None, None, None, None, None, None, None, *ctx.share(relevance)


class Refusal:
    """The share of an operation without a rule: raises `error` for relevance on its way to the end of the pass."""

    def __init__(self, error: BadInput) -> None:
        self.error = error
        self.on_path = False

    def __call__(self, relevance: Tensor) -> Sequence[Tensor]:
        """Return no relevance, unless some arrives on the path."""
        if self.on_path and bool((relevance != 0).any()):
            raise self.error
        return (torch.zeros_like(relevance),)


def check_path(nodes: Iterable[Any]) -> int:
    """Return the number of maps among the nodes of a path, whose operations without a rule then refuse relevance.

    Raises:
        BadInput: one of them is a custom `autograd.Function`, whose computation is unknown.
    """
    maps = 0
    for node in nodes:
        record = getattr(node, "record", None)
        maps += record is not None and record.is_map
        if isinstance(getattr(node, "share", None), Refusal):
            node.share.on_path = True
        elif isinstance(node, torch.autograd.function.BackwardCFunction) and not carries(node):
            raise without_rule(f"the autograd.Function {type(node).__name__.removesuffix('Backward')}")
    return maps


def without_rule(operation: str) -> BadInput:
    """Return the error for an operation that has no rule."""
    return BadInput(
        f"relevance: expected operations that have a rule, got {operation}; use another method, or a layer after it"
    )
