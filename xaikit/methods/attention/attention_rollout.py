"""Attention rollout: the attention of all layers, multiplied, as if each layer did nothing but mix tokens.

    M_l = normalised rows of (fuse_heads A_l + I)
    map = r^T M_L ... M_2 M_1           r: the tokens that the head reads

In words: In each layer of a transformer every token takes part of the others, as the attention weights say, and keeps
itself by the residual connection. Multiplying these shares over all layers gives how much of each patch arrives in the
token that the head reads. It is coarse, costs one forward and knows no class: every class gets the same map. Values of
tokens, the other parts of a layer and whether a token speaks for or against something are left out.

The head's tokens are those on which the logits depend after the last attention: the class token, a class and a
distillation token, or all of a mean. Other networks than those whose tokens meet in attention alone, all with all, are
refused.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, h, w), the grid of the patches.
Units:  share of a token, 0 to 1; with class tokens and registers the shares of all tokens sum to 1.
Source: Abnar & Zuidema, ACL 2020, arXiv:2005.00928.
Departs from source: "max" and "min", for which the paper has no name, are of the field's code; for a head that reads
    several tokens their rows are averaged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from xaikit.methods.attention.reading import on_image
from xaikit.methods.base import METHODS, Method, Values
from xaikit.run.attention import attention_weights, tokens_of
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@METHODS.register
@dataclass(frozen=True)
class AttentionRollout(Method):
    """Product over layers of the attention weights with their residual connections.

    Args:
        fusion: how the heads of a layer are joined: their mean, maximum or minimum.
    """

    fusion: Literal["mean", "max", "min"] = "mean"

    name = "attention-rollout"
    family = "attention"
    source = "Abnar & Zuidema, ACL 2020, arXiv:2005.00928"
    signed = False
    class_specific = False
    needs = frozenset({"attention"})
    passes = Cost(1, 0)

    def compute(self, batch: Batch) -> Values:
        """Return r^T M_L ... M_1 on the patches, (n, h, w).

        Raises:
            BadInput: the network has no attention, or one that is not of all tokens to each other in every layer.
        """
        fusions: dict[str, Callable[[Tensor, int], Tensor]] = {"mean": torch.mean, "max": torch.amax, "min": torch.amin}
        tokens = tokens_of(batch)
        row = tokens.read_by(batch)
        for weights in reversed(attention_weights(batch)):
            fused = fusions[self.fusion](weights, 1)
            share = fused + torch.eye(tokens.count, dtype=fused.dtype, device=fused.device)
            row = row.to(share) @ (share / share.sum(-1, keepdim=True))
        return on_image(batch, tokens, row[:, 0])
