"""The balance of a pass: relevance that arrived, relevance that was absorbed, and what the start promised.

    gap = sum(values) - promised        balanced: gap + sum(absorbed) = 0

Flags: `unbalanced` where this sum is off by more than 1 % of the start; `relevance-lost` where biases, stabilisers and
dead outputs absorbed more than 90 % of the start, so that the map shows a small rest; `stem-without-graph` where the
network computes a layer without a graph, so that branches which bypass it count as constants; `cut-gradient` where a
summand that depends on the image has no graph, so that it counts as a bias.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from xaikit.methods.base import Values
from xaikit.methods.decomposition.ledger import Reason

_UNBALANCED = 0.01
_LOST = 0.9


@dataclass(frozen=True)
class Relevance:
    """The result of propagating one start.

    Args:
        values: relevance (n, C, H, W), at least float32.
        promised: sum that the values should have, (n,); by default the sum of the start.
        size: sum of the start's absolute values, (n,).
        absorbed: relevance that did not arrive, (n,) per reason.
        gap: sum of the values minus `promised`, (n,).
        flags: what users should know, (n,) bool per name.
    """

    values: Tensor
    promised: Tensor
    size: Tensor
    absorbed: dict[Reason, Tensor]
    gap: Tensor
    flags: dict[str, Tensor]


def balance(values: Tensor, promised: Tensor, size: Tensor, absorbed: dict[Reason, Tensor]) -> Relevance:
    """Return the result of a pass from its values, the promised sum, the size of the start and the absorbed amounts."""
    gap = values.flatten(1).sum(1).double() - promised
    missing = gap + sum(absorbed.values())
    lost = sum((amount for reason, amount in absorbed.items() if reason != "bypass"), torch.zeros_like(size))
    flags = {"unbalanced": ~(missing.abs() <= _UNBALANCED * size), "relevance-lost": lost.abs() > _LOST * size}
    return Relevance(values, promised, size, absorbed, gap, flags)


def joined(parts: Sequence[Relevance]) -> Relevance:
    """Return the relevance of several batches as that of one."""
    first = parts[0]

    def several(read: Callable[[Relevance], dict[Any, Tensor]]) -> dict[Any, Tensor]:
        return {name: torch.cat([read(part)[name] for part in parts]) for name in read(first)}

    return Relevance(
        torch.cat([part.values for part in parts]),
        torch.cat([part.promised for part in parts]),
        torch.cat([part.size for part in parts]),
        several(lambda part: part.absorbed),
        torch.cat([part.gap for part in parts]),
        several(lambda part: part.flags),
    )


def promising(result: Relevance, promised: float) -> Relevance:
    """Return the relevance with another promised sum, for rules that do not preserve the sum of the start."""
    other = balance(result.values, torch.full_like(result.promised, promised), result.size, result.absorbed)
    return replace(other, flags=result.flags | {"unbalanced": other.flags["unbalanced"]})


def accounted(result: Relevance) -> Values:
    """Return values with the gap, the promised sum, the absorbed amounts and the flags."""
    flags: list[set[str]] = [set() for _ in result.values]
    for name, marks in result.flags.items():
        for names, mark in zip(flags, marks.tolist(), strict=True):
            names.update({name} if mark else ())
    return Values(
        result.values,
        completeness=result.gap.to(result.values.dtype),
        flags=flags,
        diagnostics={
            "promised": result.promised,
            **{f"absorbed_{reason}": amount for reason, amount in result.absorbed.items()},
        },
    )
