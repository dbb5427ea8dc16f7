"""The attention of a batch: the weights of every layer, their gradients, and which tokens are the image.

    weights       one forward; A (n, heads, T, T) of each layer
    gradients     the same forward with its graph, and one backward: d score / d A
    tokens        one forward and a few backwards of one image, once for each network and size of image

Methods that follow weights from layer to layer are right only where all that tokens exchange goes through attention
that is seen, and all layers attend to the same tokens. So a token of the last layer, with the gradient cut at every
attention, may depend on no pixels but those of the same token in the first layer. Windows and pooled tokens are refused
by their shapes, convolutions between tokens and attention in hidden code by this test.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.foundation.identity import generator
from xaikit.model.attention import Attention, Attentions
from xaikit.model.classifier import Classifier
from xaikit.model.function import BlackBox, Scripted
from xaikit.model.grids import Grid
from xaikit.model.hooks import Layer, cut
from xaikit.model.layers import Outline
from xaikit.run.cuts import Trace
from xaikit.run.gradients import check_graph

if TYPE_CHECKING:
    from xaikit.run.batch import Batch

_SEEN: WeakKeyDictionary[Outline, Tokens] = WeakKeyDictionary()
_OTHER = "use a method that reads a layer or the input, such as grad-cam or integrated-gradients"


@dataclass(frozen=True, eq=False)
class Tokens:
    """The tokens that the attention of a network runs over.

    Args:
        layers: number of attention layers.
        count: number of tokens T.
        layer: a layer with these tokens.
        grid: its grid: which of the tokens are cells of the image.
        read: (T,) share of each token in what the head reads: 1 for a class token, equal shares for a mean.
        blocks: name of the module of each layer that holds its attention alone, with its residual sums; or None.
    """

    layers: int
    count: int
    layer: Layer
    grid: Grid
    read: Tensor
    blocks: tuple[str, ...] | None

    def read_by(self, batch: Batch) -> Tensor:
        """Return `read` as a row (n, 1, T) of each image, float64 on the batch's device."""
        return self.read.to(batch.inputs.device).expand(len(batch), 1, -1)

    def cells(self, values: Tensor) -> Tensor:
        """Return values (n, T) of tokens as maps (n, h, w) of those that are cells of the image."""
        return values[:, self.grid.order.to(values.device)].reshape(len(values), *self.grid.size)


def tokens_of(batch: Batch) -> Tokens:
    """Return the tokens of a batch's network, as one image has shown them.

    Raises:
        BadInput: there is no attention, or it is not one of all tokens of the image to each other in every layer.
    """
    outline = batch.classifier.outline(batch.size)
    if outline not in _SEEN:
        _SEEN[outline] = _found(batch.classifier, batch, outline)
    return _SEEN[outline]


def attention_weights(batch: Batch) -> list[Tensor]:
    """Return A (n, heads, T, T) of each layer, at least float32, from one forward that methods share."""
    if batch.attention is None:
        tokens = tokens_of(batch)
        with torch.no_grad(), batch.classifier.probe() as probe:
            seen = Attentions(probe)
            batch.places.watch(probe, [probe.record(tokens.layer)])
            batch.keep_logits(batch.context.forward(batch.classifier, batch.inputs))
        batch.attention = _checked(seen.calls, len(batch), tokens), None
    return batch.attention[0]


def attention_gradients(batch: Batch) -> tuple[list[Tensor], list[Tensor]]:
    """Return A (n, heads, T, T) of each layer, and the gradient of the score by it, at least float32."""
    if batch.attention is None or batch.attention[1] is None:
        tokens, trace = tokens_of(batch), Trace(batch.classifier.outline(batch.size).hides)
        with torch.enable_grad(), batch.classifier.probe() as probe:
            seen = Attentions(probe)
            batch.places.watch(probe, [probe.record(tokens.layer)])
            inputs = batch.inputs.detach().requires_grad_(True)
            with probe.traced(trace.call):
                logits = batch.context.forward(batch.classifier, inputs)
            calls = list(seen.calls)  # a checkpoint calls them again in the backward
        batch.keep_logits(logits.detach())
        weights = _checked(calls, len(batch), tokens)
        found = batch.gradients_of(batch.target.score(logits), [call.output for call in calls], trace)
        batch.traces[None] = trace
        batch.attention = (
            weights,
            [
                torch.zeros_like(each) if gradient is None else full(call.by_weights(gradient))
                for call, gradient, each in zip(calls, found, weights, strict=True)
            ],
        )
    assert batch.attention[1] is not None
    return batch.attention[0], batch.attention[1]


def full(tensor: Tensor) -> Tensor:
    """Return a tensor in at least float32."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _checked(calls: Sequence[Attention], count: int, tokens: Tokens) -> list[Tensor]:
    """Return the weights of each layer.

    Raises:
        BadInput: the batch has other attention than one image has shown.
    """
    heads = [call.weights.unsqueeze(1) if call.weights.ndim == 3 else call.weights for call in calls]
    shape = (tokens.count, tokens.count)
    if len(heads) != tokens.layers or any(len(each) != count or each.shape[2:] != shape for each in heads):
        got = ", ".join(str(tuple(each.shape)) for each in heads[:3])
        raise BadInput(
            f"model: expected {tokens.layers} attentions of {tokens.count} tokens for {count} images, got "
            f"{len(heads)} of shapes {got}; explain with chunk_size=1"
        )
    return [full(each) for each in heads]


def _found(classifier: Classifier, batch: Batch, outline: Outline) -> Tokens:
    module = classifier.module
    if isinstance(module, BlackBox | Scripted):
        raise BadInput(module.refusal("layers"))
    with torch.enable_grad(), classifier.probe() as probe:
        seen = Attentions(probe)
        inputs = batch.inputs[:1].detach().requires_grad_(True)
        logits = batch.context.run(classifier, inputs)
        calls = list(seen.calls)
    name = classifier.name
    if not calls:
        raise BadInput(f"model: expected a network with attention, got {name}, in which none is seen; {_OTHER}")
    check_graph(logits)
    if not all(call.output.requires_grad for call in calls):
        raise BadInput(
            f"model: expected attention with a gradient, got {name} with one under torch.no_grad, in a reentrant "
            f"checkpoint or in an autograd.Function; turn that off, or {_OTHER}"
        )
    shapes = list(dict.fromkeys(tuple(call.weights.shape) for call in calls))
    count = shapes[0][-1]
    if any(len(shape) not in (3, 4) or shape[0] != 1 or shape[-2:] != (count, count) for shape in shapes):
        raise BadInput(
            f"model: expected attention of all tokens to each other in every layer, got {name} with weights of shapes "
            f"{', '.join(map(str, shapes[:3]))} for one image (windows, pooled tokens, no axis of heads); {_OTHER}"
        )
    layer, grid = _layer(outline, count, name)
    read = _read(logits, calls[-1])
    cells = len(grid.order)
    missed = any(shape[-1] == count or shape == (cells, cells) for shape in seen.missed)
    if read is None or missed or not _meet_in_attention(inputs, logits, calls, grid, read, outline.hides):
        raise BadInput(
            f"model: expected tokens that meet in attention alone, got {name}, in which they also mix otherwise "
            f"(convolutions between tokens, weights that are no plain softmax, or code that is not seen); {_OTHER}"
        )
    return Tokens(len(calls), count, layer, grid, read.double() / read.sum(), _blocks(calls))


def _layer(outline: Outline, count: int, name: str) -> tuple[Layer, Grid]:
    """Return a layer whose output is `count` tokens, with its grid, which is that of all such layers.

    Raises:
        BadInput: there is none, or they have several.
    """
    found = {
        f"{grid.size} {grid.order.tolist()}": (Layer(*place, grid=grid), grid)
        for place, grid in outline.grids.items()  # the last layer is taken, as the first may be attention alone
        if grid.channels == (2,) and grid.shape[0] == count
    }
    if len(found) != 1:
        raise BadInput(
            f"model: expected {count} tokens with one grid on the image, got {len(found)} grids in {name}; {_OTHER}"
        )
    return next(iter(found.values()))


def _read(logits: Tensor, last: Attention) -> Tensor | None:
    """Return which tokens of the last attention (T,) bool the logits depend on, or None if on none."""
    weights = torch.randn(logits.shape, generator=generator(0, "attention"), device="cpu").to(logits)
    (gradient,) = torch.autograd.grad(logits, [last.output], weights, retain_graph=True, allow_unused=True)
    if gradient is None or not bool(gradient.any()):
        return None
    return _rows(gradient)


def _meet_in_attention(
    inputs: Tensor, logits: Tensor, calls: Sequence[Attention], grid: Grid, read: Tensor, hides: bool
) -> bool:
    """Return whether tokens exchange nothing but through the attention that was seen.

    With gradients cut at every attention, some tokens of the last layer, one cell and those that are no cells, depend
    on the outputs of earlier layers and on pixels as far as the same tokens do in the first layer, and no further. A
    head that reads the cells may, in hidden code, do so by another attention.
    """
    order, count = grid.order, len(read)
    cell = torch.zeros(count, dtype=torch.bool, device="cpu").index_fill(0, order[len(order) // 3], True)
    others = torch.ones(count, dtype=torch.bool, device="cpu").index_fill(0, order, False)
    if hides and bool((read.cpu() & ~others).any()):
        return False
    with ExitStack() as stack:
        caught = [stack.enter_context(cut(call.output)) for call in calls]

        def pixels(tensor: Tensor, tokens: Tensor) -> Tensor:
            """Return the pixels (H, W) bool that tokens (T,) bool of a tensor (..., T, d) depend on."""
            noise = torch.randn(tensor.shape, generator=generator(0, "tokens"), device="cpu").to(tensor)
            kept = noise * tokens.to(tensor.device)[:, None]
            (gradient,) = torch.autograd.grad(tensor, [inputs], kept, retain_graph=True, allow_unused=True)
            return torch.zeros_like(inputs[0, 0], dtype=torch.bool) if gradient is None else gradient[0].any(0)

        first, last = calls[0].values, calls[-1].values
        for tokens in (others, cell):
            seen = pixels(first, tokens)
            for gradients in caught:
                gradients.clear()
            further = pixels(last, tokens) & ~seen
            rows = [_rows(gradient).cpu() & ~tokens for gradients in caught for gradient in gradients]
            if bool(further.any()) or any(bool(row.any()) for row in rows):
                return False
        reached = pixels(logits[..., None], torch.ones(logits.shape[1], dtype=torch.bool, device="cpu"))
        return not bool((reached & ~pixels(first, read)).any())


def _rows(gradient: Tensor) -> Tensor:
    """Return which tokens (T,) bool of a gradient (..., T, d) are not zero."""
    return (gradient != 0).transpose(-2, -1).flatten(0, -2).any(0)


def _blocks(calls: Sequence[Attention]) -> tuple[str, ...] | None:
    """Return for each attention the outermost module that was running in it and in no other one."""
    blocks = []
    for call in calls:
        others = {name for other in calls if other is not call for name in other.inside}
        own = [name for name in call.inside if name not in others]
        if not own or not own[0]:
            return None
        blocks.append(own[0])
    return tuple(blocks)
