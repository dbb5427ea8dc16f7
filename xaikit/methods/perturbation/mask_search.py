"""Gradient descent on masks, shared by the methods that optimise a mask.

    views of the image under mask p                  one or several, made by the method, differentiable in p
    objective = sum_views pull * score(view) + penalty(p)
    p <- move(p, d objective / d p)                  `steps` times

All masks of one image are searched together, but images one after another: rounding depends on the other rows of a
batch and grows over hundreds of steps (for extremal perturbation to the full range of the map).

Shapes: m (image, mask) pairs; parameters (m, ...); views and gradients (m, C, H, W); penalties (m,).
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from xaikit.images.shapes import per_image
from xaikit.run.batch import Batch
from xaikit.run.context import estimate

_FIRST_DECAY, _SECOND_DECAY, _TINY = 0.9, 0.999, 1e-8

SearchScore = Literal["logit", "probability"]


class View(NamedTuple):
    """One input of the network in a step.

    Args:
        inputs: (m, C, H, W) in the network's coordinates.
        pull: (m,) weight of the score in the objective; a positive weight lowers the score, a negative raises it.
    """

    inputs: Tensor
    pull: Tensor


class Search(ABC):
    """The state of the search for one portion of (image, mask) pairs.

    Attributes:
        parameters: (m, ...) parameters of the masks.
        score: output of the network in the objective: "logit" or "probability".
    """

    parameters: Tensor
    score: SearchScore = "logit"

    @abstractmethod
    def masks(self, parameters: Tensor) -> Tensor:
        """Return the masks (m, H, W) of parameters."""

    @abstractmethod
    def views(self, masks: Tensor, step: int) -> list[View]:
        """Return the inputs of the network in a step."""

    @abstractmethod
    def penalty(self, parameters: Tensor, masks: Tensor, step: int) -> Tensor:
        """Return the terms of a step's objective other than the score, (m,)."""

    @abstractmethod
    def move(self, gradient: Tensor, step: int) -> None:
        """Update the parameters with the gradient of the objective."""


class Adam:
    """Steps of Adam (decays 0.9 and 0.999) for parameters that are updated by a search.

    Args:
        parameters: (m, ...) their values before the first step.
        rate: size of a step.
    """

    def __init__(self, parameters: Tensor, rate: float) -> None:
        self._mean, self._square, self._rate = torch.zeros_like(parameters), torch.zeros_like(parameters), rate

    def move(self, gradient: Tensor, step: int) -> Tensor:
        """Return what step 0, 1, ... subtracts from the parameters."""
        self._mean = _FIRST_DECAY * self._mean + (1 - _FIRST_DECAY) * gradient
        self._square = _SECOND_DECAY * self._square + (1 - _SECOND_DECAY) * gradient.square()
        mean = self._mean / (1 - _FIRST_DECAY ** (step + 1))
        square = self._square / (1 - _SECOND_DECAY ** (step + 1))
        return self._rate * mean / (square.sqrt() + _TINY)


Begin = Callable[[Tensor, Tensor], Search]


def search_masks(batch: Batch, copies: int, steps: int, begin: Begin) -> Tensor:
    """Return the optimised masks of every image, (n, copies, H, W).

    Args:
        batch: the images.
        copies: number of masks per image.
        steps: number of gradient steps.
        begin: makes the search for the pairs of images `rows` (m,) and masks `copies` (m,).
    """
    total = len(batch) * copies

    def search_image(image: int, indices: Tensor) -> Tensor:
        rows, count = torch.full_like(indices, image), len(indices)
        search = begin(rows, indices)
        started = time.perf_counter()
        for step in range(steps):
            _advance(batch, search, rows, step)
            if batch.context.progress is not None:
                done = (image * copies + int(indices[0])) * steps + (step + 1) * count
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
    """Do one step of the search."""
    with torch.enable_grad():
        parameters = search.parameters.detach().requires_grad_(True)
        masks = search.masks(parameters)
        views = search.views(masks, step)
        penalty = search.penalty(parameters, masks, step)
    gradients = [
        _score_gradient(batch, view.inputs, rows, search.score) * per_image(view.pull, view.inputs) for view in views
    ]
    inputs = [view.inputs for view in views]
    (gradient,) = torch.autograd.grad([*inputs, penalty], parameters, [*gradients, torch.ones_like(penalty)])
    search.move(gradient, step)


def _score_gradient(batch: Batch, inputs: Tensor, rows: Tensor, score: SearchScore) -> Tensor:
    """Return the gradient (m, C, H, W) of the score or the probability with respect to the inputs."""
    gradients = batch.score_gradients if score == "logit" else batch.confidence_gradients
    return gradients(inputs, rows)[1]
