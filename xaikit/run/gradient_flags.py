"""Flags of a gradient: what users should know about the gradient of a score.

    cut-gradient               a part of the forward has no gradient (cuts.py)
    gradient-not-derivative    finite differences differ from what the backward returns (gradients.py)

Finite differences are taken only where Python or hidden code may have given another backward.
"""

import torch
from torch import Tensor

from xaikit.model.hooks import Layer
from xaikit.run.batch import Batch
from xaikit.run.context import Context
from xaikit.run.gradients import departs, leaps


def gradient_flags(batch: Batch, layer: Layer | None) -> list[set[str]]:
    """Return for each image the flags of the gradient of the score by a layer, or by the images if it is None."""
    trace = batch.trace(layer)
    wrong = _departs(batch, layer, trace.hidden) if trace.custom else [False] * len(batch)
    names = {"cut-gradient"} if trace.names else set()
    return [names | ({"gradient-not-derivative"} if departing else set()) for departing in wrong]


def _departs(batch: Batch, layer: Layer | None, hidden: bool) -> list[bool]:
    """Return for each image whether the gradient of the score is not its derivative, in the network's own dtype.

    Hidden code may also round, which only changes over a distance show.
    """
    classifier, target, inputs = batch.classifier, batch.target, batch.inputs
    plain = Batch(classifier, batch.pixels, None, Context())
    plain.inputs, plain.target = inputs, target
    if layer is None:
        tensor, gradient = inputs, plain.differentiated(inputs, target.score)[1]
    else:
        ((tensor, gradient),) = plain.cut_at([layer])

    def score_at(value: Tensor) -> Tensor:
        with torch.no_grad(), classifier.probe() as probe:
            if layer is not None:
                probe.replace(layer, lambda output: value)
            logits = plain.context.run(classifier, inputs if layer is not None else value)
        return target.score(logits)

    def gradient_at(value: Tensor) -> Tensor:
        if layer is None:
            found = plain.differentiated(value, target.score)[1]
        else:
            found = plain.moved_layer(layer, lambda output: value)[1]
        return torch.zeros_like(value) if found is None else found

    gradient = torch.zeros_like(tensor) if gradient is None else gradient
    wrong = departs(gradient, tensor.detach(), score_at, torch.finfo(classifier.dtype).eps)
    if hidden and not bool(wrong.all()):
        wrong |= leaps(tensor.detach(), score_at, gradient_at)
    result: list[bool] = wrong.tolist()
    return result
