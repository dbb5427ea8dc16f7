"""Gradients at other inputs, summed as a paper says: at our path points and noise, or at another package's.

Each formula leaves the values it is given aside and computes what they must be from the case.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tests.backends.cases import Case
from tests.backends.formulas import Formula
from xaikit.foundation.identity import generator
from xaikit.images.hashes import image_hashes
from xaikit.run.batch import Batch
from xaikit.run.context import Context

__all__ = ["captums_noise", "captums_points", "midpoints", "moments", "our_noise", "plain_gradient", "summed_at"]

Points = Callable[[int], list[float]]
Noise = Callable[[Case, int, float], Tensor]


def midpoints(steps: int) -> list[float]:
    """The middle of each of `steps` equal parts of [0, 1]."""
    return [(step + 0.5) / steps for step in range(steps)]


def captums_points(steps: int) -> list[float]:
    """captum's `riemann_middle`: the same, each rounded to float32."""
    from captum.attr._utils.approximation_methods import approximation_parameters

    points: list[float] = approximation_parameters("riemann_middle")[1](steps)
    return points


def summed_at(points: Points, steps: int) -> Formula:
    """Integrated gradients from the mean colour as a sum over chosen points, summed over channels."""

    def formula(values: Tensor, case: Case) -> Tensor:
        inputs = case.classifier.normalize(case.pixels)
        total = sum(_gradients(case, point * inputs) for point in points(steps))
        return (inputs * total / steps).sum(1)

    return formula


def plain_gradient(values: Tensor, case: Case) -> Tensor:
    """The gradient, summed over channels: what remains of guided backpropagation where no ReLU is seen."""
    return _gradients(case, case.classifier.normalize(case.pixels)).sum(1)


def our_noise(case: Case, samples: int, level: float) -> Tensor:
    """Noise (samples, n, C, H, W) of a stream for each copy, in proportion to the image's range."""
    inputs = case.classifier.normalize(case.pixels)
    spread = inputs.flatten(1).amax(1) - inputs.flatten(1).amin(1)
    drawn = [
        torch.randn(inputs.shape[1:], generator=generator(0, content, "noise", str(copy)))
        for copy in range(samples)
        for content in image_hashes(case.pixels)
    ]
    return level * spread.reshape(-1, 1, 1, 1) * torch.stack(drawn).reshape(samples, *inputs.shape)


def captums_noise(case: Case, samples: int, strength: float) -> Tensor:
    """Noise (samples, n, C, H, W) of one strength, the same for every image, whose stream begins anew."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = torch.normal(0, torch.full((samples, *case.pixels.shape[1:]), strength))
    return drawn[:, None].expand(samples, *case.pixels.shape)


def moments(kind: str, noise: Noise, samples: int, strength: float) -> Formula:
    """The mean, mean square or variance (n, C, H, W) of gradients under noise."""

    def formula(values: Tensor, case: Case) -> Tensor:
        inputs = case.classifier.normalize(case.pixels)
        found = torch.stack([_gradients(case, inputs + one).double() for one in noise(case, samples, strength)])
        if kind == "variance":
            return found.var(0, correction=0)
        return found.mean(0) if kind == "mean" else (found**2).mean(0)

    return formula


def _gradients(case: Case, inputs: Tensor) -> Tensor:
    """Return the gradient of the class's logit at inputs (n, C, H, W)."""
    batch = Batch(case.classifier, case.pixels, case.target, Context())
    with case.classifier.borrowed():
        return batch.score_gradients(inputs)[1]
