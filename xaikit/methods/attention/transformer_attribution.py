"""Transformer attribution: relevance of the attention weights times their gradients, multiplied over the layers.

    R_l   relevance that arrives at A_l, started at 1 for the class
    M_l = I + mean_heads (dz_c/dA_l * R_l)^+
    map = r^T (M_L ... M_2 M_1 - I)     r: the tokens that the head reads

In words: The class is passed back through the transformer by relevance rules of positive contributions. In each layer,
the relevance that the attention weights get is multiplied by the gradient of the class score, negative products are
dropped, and the heads are averaged. Added to what each token keeps of itself and multiplied over the layers, this gives
how much of each patch the head's token has for the class. The map is coarse and shows support only. Generic-attention
is the same without relevance rules, and simpler.

Relevance: linear maps share by rule z-plus without biases; softmax, LayerNorm and GELU pass all on; of a product of two
signals each factor gets half; of a sum, both get shares by their contributions, brought to the relevance that arrived:
share u times sign(sum u) sum R / (|sum u| + |sum v|). The refusals of attention-rollout hold.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, h, w), the grid of the patches.
Units:  score per share of attention, times relevance that is 1 at the class; not normalised.
Source: Chefer, Gur & Wolf, CVPR 2021, arXiv:2012.09838.
Departs from source: class tokens and registers are constants, whose share of a sum is passed on; for a head that reads
    several tokens their rows are averaged, without the identity; stabilisers are 1e-9 of the mean output.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.methods.attention.attention_engine import AttentionEngine
from xaikit.methods.attention.reading import on_image
from xaikit.methods.base import METHODS, Method, Values
from xaikit.methods.decomposition.composites import Composite
from xaikit.methods.decomposition.ledger import Ledger
from xaikit.methods.decomposition.operations import is_signal
from xaikit.methods.decomposition.propagation import relevance
from xaikit.methods.decomposition.rules import ONE_SIGN, LinearMap, epsilon, z_plus
from xaikit.methods.decomposition.signals import present
from xaikit.model.hooks import Layer
from xaikit.model.torch_functions import Call
from xaikit.run.attention import attention_gradients, tokens_of
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@METHODS.register
@dataclass(frozen=True)
class TransformerAttribution(Method):
    """Sum over paths through the layers of the positive part of the attention's relevance times its gradient."""

    name = "transformer-attribution"
    family = "attention"
    source = "Chefer, Gur & Wolf, CVPR 2021, arXiv:2012.09838"
    signed = False
    needs = frozenset({"attention", "gradients"})
    passes = Cost(2, 3)

    @property
    def differentiated(self) -> list[Layer | None]:
        """The image, from which on the forward has its graph."""
        return [None]

    def compute(self, batch: Batch) -> Values:
        """Return r^T (M_L ... M_1 - I) on the patches, (n, h, w).

        Raises:
            BadInput: the network has no attention, or one that is not of all tokens to each other in every layer, or an
                operation (named) has no rule.
        """
        tokens = tokens_of(batch)
        _, gradients = attention_gradients(batch)
        read = tokens.read_by(batch)
        gained = torch.zeros_like(read)
        for gradient, arrived in reversed(list(zip(gradients, self._relevance(batch, gradients), strict=True))):
            gained = gained.to(gradient) + (read + gained).to(gradient) @ (gradient * arrived).relu().mean(1)
        return on_image(batch, tokens, gained[:, 0])

    def _relevance(self, batch: Batch, like: Sequence[Tensor]) -> list[Tensor]:
        """Return the relevance that arrives at the attention weights of each layer, of the shapes of tensors `like`."""
        engines: list[_Catching] = []

        def engine(*options: Any) -> _Catching:
            engines.append(_Catching(*options))
            return engines[-1]

        def start() -> list[Tensor]:
            with torch.enable_grad():
                logits = batch.logits.detach().requires_grad_(True)
                return [*torch.autograd.grad(batch.target.score(logits).sum(), logits)]

        composite = Composite(convolution=z_plus, dense=z_plus, mean=_normalised, bias="zero")
        relevance(batch, composite, start, engine)
        done = engines if len(engines) == 1 else engines[1:]  # after one of all images, one of each
        found = [torch.cat([one.arrived[layer] for one in done]) for layer in sorted(done[0].arrived)]
        if [each.shape for each in found] != [each.shape for each in like]:
            raise BadInput(
                f"{self.name}: expected {len(like)} softmaxes, those of attention, got {len(found)} in "
                f"{batch.classifier.name}; use generic-attention"
            )
        return found


class _Catching(AttentionEngine):
    """An engine whose softmaxes pass relevance on, and keep what `arrived` at each, by its number in the forward."""

    def __init__(self, *options: Any) -> None:
        super().__init__(*options)
        self.arrived: dict[int, Tensor] = {}
        self._softmaxes = 0

    def _softmax(self, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        inputs = args[0] if args else kwargs["input"]
        if not is_signal(inputs):
            return function(*args, **kwargs)
        number, self._softmaxes = self._softmaxes, self._softmaxes + 1

        def share(relevance: Tensor) -> Sequence[Tensor]:
            before = self.arrived.get(number)
            self.arrived[number] = relevance if before is None else before + relevance
            return (relevance,)

        return self._run(share, function, args, kwargs, (inputs,), step="gate", present=present(inputs))


def _normalised(step: LinearMap, relevance: Tensor, ledger: Ledger) -> list[Tensor]:
    """Share by signed contributions; those of two sources are brought to the relevance of each image."""
    shares = epsilon(step, relevance, ledger, ONE_SIGN)
    if len(shares) != 2:
        return shares
    rows = ledger.rows(relevance)
    total, *sums = (values.reshape(rows, -1).sum(1) for values in (relevance, *shares))
    size = sums[0].abs() + sums[1].abs()
    factor = torch.where(size > 0, total / size, 0)
    return [
        (share.reshape(rows, -1) * (factor * own.sign())[:, None]).reshape(share.shape)
        for share, own in zip(shares, sums, strict=True)
    ]
