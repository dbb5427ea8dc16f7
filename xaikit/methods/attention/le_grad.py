"""LeGrad: the gradients by the attention of every layer, each of the score that the head gives that layer's tokens.

    z^l = head(tokens behind block l)                   the score of the class as if l were the last block
    map = mean_l mean_heads mean_t (dz^l / dA^l_ts)^+   for each patch s

In words: The tokens behind each block of a transformer are given to the network's own head. How much the class score it
gives them would rise if more attention were paid to a patch, in the attention of the same block, is what the map shows,
averaged over heads, tokens that pay it, and blocks. The map is coarse and shows support only. Unlike rollout it does
not multiply layers, and the attention weights themselves do not appear. Early blocks count as much as late ones.

A block is the outermost module that runs in one attention and in no other; its output has to be tokens (N, T, D). A
network without such modules, or with a head that takes more than the last block's output, is refused. The refusals of
attention-rollout hold too.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, h, w), the grid of the patches.
Units:  score per share of attention; not normalised.
Source: Bousselham et al., ICCV 2025, arXiv:2404.03214.
Departs from source: nothing; the pooling and the head are the network's own, whatever they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.foundation.memory import out_of_memory
from xaikit.methods.attention.reading import on_image
from xaikit.methods.base import METHODS, Method, Values
from xaikit.model.attention import Attentions
from xaikit.model.hooks import Layer
from xaikit.run.attention import full, tokens_of
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost
from xaikit.run.gradients import gradients


@METHODS.register
@dataclass(frozen=True)
class LeGrad(Method):
    """Mean over layers of the positive part of the gradient of each layer's score by its attention."""

    name = "le-grad"
    family = "attention"
    source = "Bousselham et al., ICCV 2025, arXiv:2404.03214"
    signed = False
    needs = frozenset({"attention", "gradients"})
    passes = Cost(1, 1)

    @property
    def differentiated(self) -> list[Layer | None]:
        """The image, from which on the forward has its graph."""
        return [None]

    def compute(self, batch: Batch) -> Values:
        """Return the mean gradients on the patches, (n, h, w).

        Raises:
            BadInput: the network has no attention of all tokens to each other in every layer, no blocks, or a head that
                does not take the last block's output alone.
        """
        tokens = tokens_of(batch)
        if tokens.blocks is None:
            raise _refusal(batch, "a module around each attention alone, got attentions that share theirs")
        count, layers = len(batch), tokens.layers
        outputs: list[Tensor] = []
        copies: list[Tensor] = []

        def given(output: Tensor) -> Tensor:
            """Return a block's output, or in place of the last block's a copy of each, (layers * n, T, D)."""
            if output.shape[:2] != (count, tokens.count):
                raise _refusal(batch, f"blocks that return tokens ({count}, {tokens.count}, D), got {output.shape}")
            outputs.append(output)
            if len(outputs) < layers:
                return output
            copies.extend(each.detach().requires_grad_(True) for each in outputs)
            return torch.cat(copies)

        with torch.enable_grad(), batch.classifier.probe() as probe:
            seen = Attentions(probe)
            for name in tokens.blocks:
                probe.replace(Layer(name), given)
            inputs = batch.inputs.detach().requires_grad_(True)
            try:
                logits = batch.context.forward(batch.classifier, inputs)
            except RuntimeError as error:
                if out_of_memory(error) or not copies:
                    raise
                raise _refusal(batch, "a head that takes the last block's output alone, got another") from error
            calls = list(seen.calls)
        batch.keep_logits(logits[-count:].detach())
        rows = torch.arange(count, device=logits.device).repeat(layers)
        *slopes, bypass = gradients(batch.target.take(rows).score(logits), [*copies, inputs])
        if bypass is not None:
            raise _refusal(batch, "a head that takes the last block's output alone, got one that reads more")
        batch.context.counters.backwards += count
        total = torch.zeros(count, tokens.count, dtype=torch.float64, device=logits.device)
        for call, output, slope in zip(calls, outputs, slopes, strict=True):
            if slope is not None:
                (gradient,) = torch.autograd.grad(output, [call.output], slope.to(output))
                total += full(call.by_weights(gradient)).relu().mean((1, 2)) / layers
        return on_image(batch, tokens, total.to(full(logits)))


def _refusal(batch: Batch, what: str) -> BadInput:
    return BadInput(f"le-grad: expected {what} in {batch.classifier.name}; use generic-attention")
