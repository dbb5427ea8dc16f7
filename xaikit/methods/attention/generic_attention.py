"""Generic attention attribution: attention weights times their gradients, added up over the layers.

    M_l = I + mean_heads (dz_c/dA_l * A_l)^+
    map = r^T (M_L ... M_2 M_1 - I)     r: the tokens that the head reads

In words: The attention of each layer counts as far as the class score rises with it: each weight is multiplied by the
gradient of the score, negative products are dropped, and the heads are averaged. Added to what each token keeps of
itself and multiplied over the layers, this gives how much of each patch the head's token has for this class. The map is
coarse, shows support only, and costs one backward. Evidence against a class does not show.

It is the self-attention rule R <- R + E_h[(grad A * A)^+] R of the paper, started at the identity. The head's tokens
are found as in attention-rollout, which also says what is refused.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, h, w), the grid of the patches.
Units:  score, in the first order; not normalised.
Source: Chefer, Gur & Wolf, ICCV 2021, arXiv:2103.15679.
Departs from source: for a head that reads several tokens their rows are averaged, without what each has of itself by
    the identity alone, which is the same for all; in the row of a class token the two formulas are one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from xaikit.methods.attention.reading import on_image
from xaikit.methods.base import METHODS, Method, Values
from xaikit.model.hooks import Layer
from xaikit.run.attention import attention_gradients, tokens_of
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@METHODS.register
@dataclass(frozen=True)
class GenericAttention(Method):
    """Sum over paths through the layers of the positive part of attention times its gradient."""

    name = "generic-attention"
    family = "attention"
    source = "Chefer, Gur & Wolf, ICCV 2021, arXiv:2103.15679"
    signed = False
    needs = frozenset({"attention", "gradients"})
    passes = Cost(1, 1)

    @property
    def differentiated(self) -> list[Layer | None]:
        """The image, from which on the forward has its graph."""
        return [None]

    def compute(self, batch: Batch) -> Values:
        """Return r^T (M_L ... M_1 - I) on the patches, (n, h, w).

        Raises:
            BadInput: the network has no attention, or one that is not of all tokens to each other in every layer.
        """
        tokens = tokens_of(batch)
        read = tokens.read_by(batch)
        gained = torch.zeros_like(read)
        for weights, gradients in reversed(list(zip(*attention_gradients(batch), strict=True))):
            gained = gained.to(weights) + (read + gained).to(weights) @ (gradients * weights).relu().mean(1)
        return on_image(batch, tokens, gained[:, 0])
