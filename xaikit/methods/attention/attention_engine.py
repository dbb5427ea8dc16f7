"""The rules of AttnLRP: relevance through softmax, products of two signals, and LayerNorm.

    softmax      s = softmax(x)        R_i = x_i (R_i - s_i sum_j R_j)          first-order Taylor expansion at x
    product      O = A V               both factors get half, in proportion to their contributions to 2 O
    LayerNorm    y = norm(x)           R_i = R_i

What the softmax does not pass on is the constant of its expansion; it is recorded as absorbed by biases.

Source: Achtibat et al., ICML 2024, arXiv:2402.05602, propositions 3.1, 3.3 and 3.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.methods.decomposition.engine import Engine
from xaikit.methods.decomposition.operations import LINEAR, Reading, Rescaling, is_signal, kept
from xaikit.methods.decomposition.rules import LinearMap, Part
from xaikit.methods.decomposition.signals import Path, constants_cut, present
from xaikit.model.attention import einsum_opened, opened, written_out
from xaikit.model.hooks import Probe
from xaikit.model.torch_functions import Call, named

_MATMULS = named("matmul bmm mm")
_NORMS = named("layer_norm rms_norm")


class AttentionEngine(Engine):
    """An engine with rules for attention, fused or written out; `products` counts the products of two signals."""

    products = 0

    def install(self, probe: Probe) -> None:
        """Register the rules on a probe; the forward must run while the probe is active."""
        super().install(probe)
        probe.open(F.scaled_dot_product_attention, written_out)
        probe.open(F.multi_head_attention_forward, opened)
        probe.open(torch.einsum, einsum_opened)
        for functions, rule in (
            (named("softmax"), self._softmax),
            (_NORMS, partial(self._activation, "pointwise")),
            (_MATMULS, partial(self._read, self._product_of_signals)),
        ):
            probe.rule(functions, self._severed.watched(constants_cut(rule)))

    def look_at(self, logits: Tensor, end: Tensor | None = None) -> Path:
        """Determine, after the forward, what is folded, as in `Engine`.

        Raises:
            BadInput: the forward had no product of two signals.
        """
        if not self.products:
            raise BadInput("attn-lrp: expected a network with attention, got one in which none is seen; use lrp")
        return super().look_at(logits, end)

    def _softmax(self, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        inputs = args[0] if args else kwargs["input"]
        axis = kwargs.get("dim", args[1] if len(args) > 1 else None)
        if not is_signal(inputs) or axis is None:
            return self._activation("gate", function, args, kwargs)
        values = kept(inputs)

        def share(relevance: Tensor) -> Sequence[Tensor]:
            weights = values.softmax(axis)
            taken = relevance - weights * relevance.sum(axis, keepdim=True)
            own = torch.where(weights > 0, values, 0) * taken  # masked scores are infinite
            self.ledger.book("bias", relevance - own)
            return (own,)

        return self._run(share, function, args, kwargs, (inputs,), step="gate", present=present(inputs))

    def _product_of_signals(
        self, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Reading | Rescaling | None:
        if len(args) != 2 or not is_signal(args[1]):
            return LINEAR[torch.matmul](function, args, kwargs)
        first, second = (kept(factor) for factor in args)
        if not is_signal(args[0]):  # a learned query
            return Reading(LinearMap("convolution", (Part(_before, second, first),)), (args[1],))
        self.products += 1
        parts = Part(_times, first, second), Part(_before, second, first, source=1)
        return Reading(LinearMap("product", parts), (args[0], args[1]))


def _times(x: Tensor, w: Tensor | None) -> Tensor:
    assert w is not None
    return x @ w


def _before(x: Tensor, w: Tensor | None) -> Tensor:
    assert w is not None
    return w @ x
