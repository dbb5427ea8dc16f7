"""The rows of methods that differentiate the score by the input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from tests.backends.cases import CIFAR
from tests.backends.moved_inputs import (
    captums_noise,
    captums_points,
    midpoints,
    moments,
    our_noise,
    plain_gradient,
    summed_at,
)
from tests.backends.pairs import Pair

__all__ = ["GRADIENT_METHODS"]

RELU_MODULES = ("squeezenet1_0", "resnet18", "vgg11")
RELU_FUNCTIONS = (*CIFAR, "googlenet", "mobilenet_v2")
CHANNELS = {"channels": True}
MIDDLE = {"n_steps": 6, "quadrature": "riemann_middle"}
LEGENDRE = {"n_steps": 6, "quadrature": "gausslegendre"}
BILINEAR = {"interpolate_mode": "bilinear"}

PLAIN = [
    Pair("saliency", "captum/saliency"),
    Pair("saliency", "captum/saliency", params=CHANNELS, their_params={"abs": False} | CHANNELS),
    Pair("input-x-gradient", "captum/input-x-gradient"),
]

RECTIFIED = [
    Pair("guided-backprop", "captum/guided-backprop", RELU_MODULES),
    # In double: theirs runs image by image, whose float32 rounding crosses kinks of vgg11.
    Pair("guided-backprop", "pytorch-grad-cam/guided-backprop", RELU_MODULES, dtype=torch.float64),
    Pair("deconvolution", "captum/deconvolution", ("resnet18", "vgg11")),
    Pair("guided-grad-cam", "captum/guided-grad-cam", RELU_MODULES, their_params=BILINEAR),
    *(
        Pair(
            ours,
            theirs,
            RELU_FUNCTIONS,
            formula=plain_gradient,
            differs="sees no functional ReLU and no ReLU6, so that the plain gradient remains",
            dtype=torch.float64,  # theirs runs image by image, whose float32 rounding crosses kinks on some CPUs
        )
        for ours, theirs in (
            ("guided-backprop", "captum/guided-backprop"),
            ("guided-backprop", "pytorch-grad-cam/guided-backprop"),
            ("deconvolution", "captum/deconvolution"),
        )
    ),
]

PATHS = [
    Pair("integrated-gradients", "captum/integrated-gradients", CIFAR, params={"steps": 6}, their_params=MIDDLE),
    Pair(
        "integrated-gradients",
        "captum/integrated-gradients",
        ("squeezenet1_0",),
        params={"steps": 6},
        their_params=MIDDLE,
        images=2,
        formula=summed_at(captums_points, 6),
        own=summed_at(midpoints, 6),
        differs="float32 points miss the middle by a unit in the last place, across kinks of max-pooling",
    ),
    Pair(
        "integrated-gradients",
        "captum/integrated-gradients",
        params={"steps": 6, "quadrature": "gauss-legendre"},
        their_params=LEGENDRE,
        images=2,
    ),
]


def _noisy(ours: str, kind: str, theirs: str, params: Mapping[str, Any]) -> Pair:
    """Return the row of a moment under noise: theirs at their noise, ours at ours, by one formula."""
    return Pair(
        ours,
        "captum/noise-tunnel",
        params={"samples": 4, "level": 0.1} | CHANNELS | params,
        their_params={"nt_type": theirs, "nt_samples": 4, "stdevs": 0.3} | CHANNELS,
        images=2,
        formula=moments(kind, captums_noise, 4, 0.3),
        own=moments(kind, our_noise, 4, 0.1),
        differs="draws with a strength that knows nothing of the image",
    )


NOISE = [
    _noisy("smooth-grad", "mean", "smoothgrad", {}),
    _noisy("smooth-grad-squared", "mean square", "smoothgrad_sq", {}),
    _noisy("var-grad", "variance", "vargrad", {"estimate": "biased"}),
]

GRADIENT_METHODS = [*PLAIN, *RECTIFIED, *PATHS, *NOISE]
