"""Relevance of a batch: one forward by the rules of the engine, then a backward for each start.

    result, = relevance(batch, composite, lambda: [start])
    result.values.sum() + sum(result.absorbed) = start.sum()

The relevance at a layer is the relevance at the image, read where it passes the layer; what passes other branches is
recorded. Where a tensor on the way has other rows than the images (a loop over the images, views or positions in the
first axis), the network runs for each image by itself: its tensors then belong to that image, whatever their axes are.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.methods.decomposition.balance import Relevance, joined
from xaikit.methods.decomposition.composites import Composite
from xaikit.methods.decomposition.engine import Engine
from xaikit.methods.decomposition.ledger import MixedRows
from xaikit.model.hooks import Layer
from xaikit.run.batch import Batch
from xaikit.run.gradients import has_checkpoint


def relevance(
    batch: Batch, composite: Composite, starts: Callable[[], Sequence[Tensor]], rules: Callable[..., Engine] = Engine
) -> list[Relevance]:
    """Return the relevance at the image for each start vector at the logits.

    Args:
        batch: images to explain.
        composite: rule of each map.
        starts: called once the logits are known; returns one or several start vectors (n, K).
        rules: returns the engine, from the arguments of `Engine`.

    Raises:
        BadInput: an operation has no rule, the network ends in a softmax, or part of it runs without a graph.
    """
    _check_end(batch)
    try:
        return _relevance(batch, composite, starts, rules)
    except MixedRows:
        vectors = list(starts())
    parts = [
        _relevance(_alone(batch, image), composite, partial(_rows_of, vectors, image), rules)
        for image in range(len(batch))
    ]
    return [joined(results) for results in zip(*parts, strict=True)]


def _alone(batch: Batch, image: int) -> Batch:
    """Return the batch of one image."""
    return batch.at(batch.inputs[image : image + 1], torch.tensor([image], device=batch.inputs.device))


def _rows_of(vectors: Sequence[Tensor], image: int) -> list[Tensor]:
    return [vector[image : image + 1] for vector in vectors]


def _relevance(
    batch: Batch, composite: Composite, starts: Callable[[], Sequence[Tensor]], rules: Callable[..., Engine]
) -> list[Relevance]:
    engine = rules(composite, len(batch), batch.classifier.outline(batch.size).hides)
    inputs = batch.inputs.detach().requires_grad_(True)
    with torch.enable_grad():
        signal = inputs.clone()
        with batch.classifier.probe() as probe:
            engine.install(probe)
            logits = batch.context.forward(batch.classifier, signal)
    batch.keep_logits(logits.detach())
    if not logits.requires_grad:
        raise _without_graph()
    engine.look_at(logits, inputs)
    vectors = list(starts())
    results = []
    for start in vectors:
        passes = engine.passes(start, batch.classifier.output)
        values = torch.zeros_like(inputs)
        for backward in passes:
            batch.context.counters.backwards += len(batch)
            last = backward is passes[-1] and start is vectors[-1]
            values += _gradient(logits, inputs, engine.begin(backward), keep=not last)
        results.append(engine.balanced(values, start))
    return results


def relevance_at(batch: Batch, layer: Layer, composite: Composite, start: Callable[[], Tensor]) -> Relevance:
    """Return the relevance (n, C, h, w) at a layer for a start vector at the logits.

    Branches that bypass the layer, such as skip connections, get their share, recorded as `bypass`.

    Args:
        batch: images to explain.
        layer: layer at which the pass ends.
        composite: rule of each map.
        start: called once the logits are known; returns the start vector (n, K).

    Raises:
        BadInput: an operation after the layer has no rule, the network ends in a softmax, or part of it runs without
            a graph.
    """
    _check_end(batch)
    try:
        return _relevance_at(batch, layer, composite, start)
    except MixedRows:
        vector = start()
    parts = [
        _relevance_at(_alone(batch, image), layer, composite, partial(vector.__getitem__, slice(image, image + 1)))
        for image in range(len(batch))
    ]
    return joined(parts)


def _relevance_at(batch: Batch, layer: Layer, composite: Composite, start: Callable[[], Tensor]) -> Relevance:
    engine = Engine(composite, len(batch), batch.classifier.outline(batch.size).hides)
    activation, logits = batch.layer_and_logits(layer, engine.install, engine.end_at)
    path = engine.look_at(logits, activation)
    if not path.leads_to_end and has_checkpoint(logits):
        raise BadInput(f"layer {layer}: expected a layer outside reentrant checkpoints, got one inside; choose another")
    if composite.last is not None and not engine.maps:
        raise BadInput(f"layer {layer}: expected a linear map after it, got none; choose an earlier layer")
    vector = start()
    values = torch.zeros_like(activation)
    for backward in engine.passes(vector, batch.classifier.output):
        batch.context.counters.backwards += len(batch)
        values = values + engine.arriving(path, logits, activation, engine.begin(backward))
    values = layer.to_grid(values)
    result = engine.balanced(values if values.dtype == torch.float64 else values.float(), vector)
    hidden = torch.full_like(result.size, engine.without_stem, dtype=torch.bool)
    return replace(result, flags=result.flags | {"stem-without-graph": hidden})


def _check_end(batch: Batch) -> None:
    """Refuse a network that ends in a softmax: its outputs cannot be shared among the inputs of the last map."""
    end = batch.classifier.outline().ends_in
    if end in ("softmax", "log-softmax"):
        raise BadInput(f"relevance: expected a network that ends in logits, got one with a {end}; give it without")


def _gradient(logits: Tensor, inputs: Tensor, start: Tensor, *, keep: bool) -> Tensor:
    (values,) = torch.autograd.grad(logits, inputs, start.to(logits), retain_graph=keep, allow_unused=True)
    if values is None:
        raise _without_graph()
    return values if values.dtype == torch.float64 else values.float()


def _without_graph() -> BadInput:
    return BadInput(
        "relevance: expected a network with a graph from the image to the logits, got one that runs partly under "
        "torch.no_grad; use a method without gradients, such as occlusion"
    )


def start_at_the_score(batch: Batch) -> Tensor:
    """Return each logit times the gradient of the score, (n, K): for a class, its logit there and zero elsewhere."""
    with torch.enable_grad():
        logits = batch.logits.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(batch.target.score(logits).sum(), logits)
    return logits.detach() * gradient
