"""The search for a mask by gradient descent, of many images and several masks each at once.

    views of the image as mask p shows it            one or several, made by the method, differentiable in p
    objective = sum_views pull * score(view) + penalty(p)
    p <- move(p, d objective / d p)                  `steps` times

One image's masks are searched together, one image after the other: rounding depends on what shares a batch and grows
over hundreds of steps (to the map's whole range for extremal perturbation), so an image must not share one with others.

Shapes: pairs (m,); parameters (m, ...); views and slopes (m, C, H, W); penalties (m,).
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.images.shapes import per_image
from xaikit.run.batch import Batch
from xaikit.run.context import estimate

SearchScore = Literal["logit", "probability"]


class View(NamedTuple):
    """What the network sees of a portion in a step.

    Args:
        inputs: (m, C, H, W) in the network's coordinates.
        pull: (m,) what the score counts for in the objective; above 0 brings it down, below 0 keeps it up.
    """

    inputs: Tensor
    pull: Tensor


class Search(ABC):
    """One portion of pairs on their way.

    Attributes:
        parameters: (m, ...) what is moved.
        score: what the network says that counts.
    """

    parameters: Tensor
    score: SearchScore = "logit"

    @abstractmethod
    def masks(self, parameters: Tensor) -> Tensor:
        """Return the masks (m, H, W) of parameters."""

    @abstractmethod
    def views(self, masks: Tensor, step: int) -> list[View]:
        """Return what the network sees in a step."""

    @abstractmethod
    def penalty(self, parameters: Tensor, masks: Tensor, step: int) -> Tensor:
        """Return what a step's objective holds beside the score, (m,)."""

    @abstractmethod
    def move(self, gradient: Tensor, step: int) -> None:
        """Move the parameters against the objective's gradient."""


Begin = Callable[[Tensor, Tensor], Search]


def search_masks(batch: Batch, copies: int, steps: int, begin: Begin) -> Tensor:
    """Return the masks found for every image, (n, copies, H, W).

    Args:
        batch: of the images.
        copies: masks of each image.
        steps: of the descent.
        begin: makes the search of the pairs of images (m,) and copies (m,).
    """
    total = len(batch) * copies

    def search_image(image: int, places: Tensor) -> Tensor:
        rows, count = torch.full_like(places, image), len(places)
        search = begin(rows, places)
        started = time.perf_counter()
        for step in range(steps):
            _advance(batch, search, rows, step)
            if batch.context.progress is not None:
                done = (image * copies + int(places[0])) * steps + (step + 1) * count
                note = estimate(started, count, total * steps) if step == 0 else ""
                batch.context.progress(done, total * steps, f"search steps{note}")
        with torch.no_grad():
            return search.masks(search.parameters)

    images = [
        torch.cat([masks for _, masks in batch.packed(copies, partial(search_image, image))])
        for image in range(len(batch))
    ]
    return torch.stack(images)


def _advance(batch: Batch, search: Search, rows: Tensor, step: int) -> None:
    """Go one step."""
    with torch.enable_grad():
        parameters = search.parameters.detach().requires_grad_(True)
        masks = search.masks(parameters)
        views = search.views(masks, step)
        penalty = search.penalty(parameters, masks, step)
    slopes = [_slope(batch, view, rows, search.score) for view in views]
    shown = [view.inputs for view in views]
    (gradient,) = torch.autograd.grad([*shown, penalty], parameters, [*slopes, torch.ones_like(penalty)])
    search.move(gradient, step)


def _slope(batch: Batch, view: View, rows: Tensor, score: SearchScore) -> Tensor:
    """Return the gradient (m, C, H, W) of the objective by a view."""
    slope = _score_gradient(batch, view.inputs, rows, score)
    return slope * per_image(view.pull, slope)


def _score_gradient(batch: Batch, inputs: Tensor, rows: Tensor, score: SearchScore) -> Tensor:
    """Return the gradient (m, C, H, W) of the score or probability by the inputs."""
    if score == "logit":
        return batch.score_gradients(inputs, rows)[1]
    with torch.enable_grad():
        inputs = inputs.detach().requires_grad_(True)
        logits = batch.context.forward(batch.classifier, inputs)
        kept = batch.target.take(rows).confidence(logits, batch.classifier.output)
    if not kept.requires_grad:
        raise BadInput(
            "model: expected logits with a gradient, got them without: its forward runs under torch.no_grad; "
            "use a method without gradients, such as occlusion"
        )
    batch.context.counters.backwards += len(rows)
    return torch.autograd.grad(kept.sum(), inputs)[0]
