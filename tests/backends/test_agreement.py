"""Our methods against other packages' on real and on random networks: a table of pairs, each with what turns one into
the other.

A new method is one `Pair` a counterpart. Where maps differ, `differs` says why, `formula` (of ours) or `their_formula`
(of theirs) proves it, and the test demands that without the formula the heatmaps are further apart than the tolerance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

import xaikit
from tests.backends.formulas import (
    Case,
    Formula,
    as_it_is,
    class_map,
    cropped_at_the_border,
    overwritten_in_place,
    post_processed,
    rectified,
)
from tests.conftest import REAL_DATA
from xaikit.core.classifier import Classifier
from xaikit.core.method import METHODS, LayerMethod

pytestmark = pytest.mark.backends

CIFAR = ("cifar-resnet20", "cifar-resnet56")
REAL = ("squeezenet1_0", *CIFAR)
PLAIN = ("resnet18", "vgg11", "googlenet", "mobilenet_v2", "efficientnet_b0", "convnext_tiny")
RANDOM = (*PLAIN, "densenet121")
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Pair:
    """One of ours and one of theirs on some networks.

    Args:
        ours: registry name.
        theirs: registry name.
        networks: names in `LAYERS`.
        params: of ours.
        their_params: of theirs.
        formula: what makes our values theirs.
        their_formula: what makes their values ours, where the formula cannot be turned round.
        differs: why the heatmaps differ; empty where they agree.
        layer: for ours, instead of the network's in `LAYERS`.
        images: how many pictures.
        dtype: of the arithmetic.
        tolerance: largest difference, as a share of the map's range.
    """

    ours: str
    theirs: str
    networks: tuple[str, ...] = REAL
    params: Mapping[str, Any] = field(default_factory=dict)
    their_params: Mapping[str, Any] = field(default_factory=dict)
    formula: Formula = as_it_is
    their_formula: Formula = as_it_is
    differs: str = ""
    layer: str | None = None
    images: int = 3
    dtype: torch.dtype = torch.float32
    tolerance: float = TOLERANCE


PAIRS = [
    Pair("grad-cam", "pytorch-grad-cam/grad-cam", (*REAL, *PLAIN), formula=post_processed),
    Pair("grad-cam", "torchcam/grad-cam", (*REAL, *RANDOM)),
    Pair("grad-cam", "captum/layer-grad-cam", (*REAL, *PLAIN), their_params={"relu_attributions": True}),
    Pair("grad-cam", "captum/layer-grad-cam", CIFAR, their_formula=rectified, differs="signed unless told otherwise"),
    Pair(
        "grad-cam",
        "captum/layer-grad-cam",
        ("densenet121",),
        their_params={"relu_attributions": True},
        layer="features.norm5",
    ),
    Pair(
        "grad-cam",
        "pytorch-grad-cam/grad-cam",
        ("densenet121",),
        formula=overwritten_in_place,
        differs="activations after and gradients before the functional ReLU",
    ),
    Pair("hires-cam", "captum/layer-gradient-x-activation"),
    Pair("hires-cam", "pytorch-grad-cam/hires-cam", CIFAR, formula=post_processed, differs="rectifies"),
    Pair("hires-cam", "pytorch-grad-cam/hires-cam", ("squeezenet1_0",), formula=post_processed),
    Pair("cam", "torchcam/cam", CIFAR, their_params={"fc_layer": "linear"}),
    Pair(
        "cam",
        "torchcam/cam",
        ("squeezenet1_0",),
        their_params={"fc_layer": "classifier.1"},
        their_formula=class_map,
        differs="leaves out bias and ReLU of a convolutional head",
    ),
    Pair("saliency", "captum/saliency"),
    Pair(
        "integrated-gradients",
        "captum/integrated-gradients",
        CIFAR,
        params={"steps": 6},
        their_params={"n_steps": 6, "quadrature": "riemann_middle"},
    ),
    # In double precision: captum's path points are float32 midpoints that miss ours by one unit in the last place, and
    # where such a point lies on a kink of a pooling the gradient jumps (5e-4 of the range at most, 2e-6 in the mean).
    Pair(
        "integrated-gradients",
        "captum/integrated-gradients",
        ("squeezenet1_0",),
        params={"steps": 6},
        their_params={"n_steps": 6, "quadrature": "riemann_middle"},
        images=2,
        dtype=torch.float64,
    ),
    Pair(
        "occlusion",
        "captum/occlusion",
        CIFAR,
        params={"window": 8, "stride": 4},
        their_params={"sliding_window_shapes": (3, 8, 8), "strides": (3, 4, 4)},
    ),
    Pair(
        "occlusion",
        "captum/occlusion",
        ("squeezenet1_0",),
        params={"window": 56, "stride": 42},
        their_params={"sliding_window_shapes": (3, 56, 56), "strides": (3, 42, 42)},
        images=2,
    ),
    Pair(
        "occlusion",
        "captum/occlusion",
        CIFAR,
        params={"window": 10, "stride": 6},
        their_params={"sliding_window_shapes": (3, 10, 10), "strides": (3, 6, 6)},
        formula=cropped_at_the_border(10, 6),
        differs="crops the last window at the border",
    ),
]

LAYERS = {
    "squeezenet1_0": "features.12",
    "cifar-resnet20": "layer3",
    "cifar-resnet56": "layer3",
    "resnet18": "layer4",
    "vgg11": "features.20",
    "densenet121": "features",
    "googlenet": "inception5b",
    "mobilenet_v2": "features.18",
    "efficientnet_b0": "features.8",
    "convnext_tiny": "features.7",
}
WEIGHTS = {
    "squeezenet1_0": ("squeezenet1_0_imagenet.pth", "imagenet/*.jpg"),
    "cifar-resnet20": ("resnet20_cifar10.pth", "cifar10/*/*.jpg"),
    "cifar-resnet56": ("resnet56_cifar10.pth", "cifar10/*/*.jpg"),
}


def cases() -> list[Any]:
    """Return every pair with each of its networks, by readable names."""
    found: list[Any] = []
    seen: set[str] = set()
    for pair in PAIRS:
        for network in pair.networks:
            name = f"{pair.ours}={pair.theirs}@{network}"
            name += f": {pair.differs}" if name in seen else ""
            seen.add(name)
            found.append(pytest.param(pair, network, id=name, marks=[pytest.mark.real] if network in REAL else []))
    return found


@cache
def real_case(network: str, images: int, dtype: torch.dtype) -> Case:
    """Return a network with its weights and as many photographs, spread over the classes."""
    weights, pattern = WEIGHTS[network]
    clf = xaikit.load(network, weights=REAL_DATA / "weights" / weights, device="cpu")
    files = sorted(REAL_DATA.glob(pattern))
    clf.network.to(dtype)
    return Case(clf, clf.read(files[:: len(files) // images][:images]).to(dtype), LAYERS[network])


@cache
def random_case(network: str) -> Case:
    """Return a network with seeded weights, BatchNorm as after training, and two pictures of noise."""
    options = {"init_weights": True, "aux_logits": False} if network == "googlenet" else {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module: nn.Module = torchvision.models.get_model(network, weights=None, **options)
        pixels = torch.rand(2, 3, 96, 96)
        for norm in (one for one in module.modules() if isinstance(one, nn.BatchNorm2d)):
            norm.momentum = 1.0
        with torch.no_grad():
            module.train()(pixels)
    clf = Classifier(module, mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225], size=96, name=network)
    return Case(clf, pixels, LAYERS[network])


def share_of_range(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference as a share of each map's range."""
    assert found.shape == expected.shape
    difference = (found.double() - expected.double()).abs().flatten(1).amax(1)
    span = expected.double().flatten(1).amax(1) - expected.double().flatten(1).amin(1)
    assert (span > 0).all(), "a constant map compares nothing"
    return float((difference / span).max())


@pytest.mark.parametrize(("pair", "network"), cases())
def test_agreement(pair: Pair, network: str, request: pytest.FixtureRequest) -> None:
    pytest.importorskip(pair.theirs.partition("/")[0].replace("-", "_"), reason="the extra `backends` is missing")
    if network in REAL:
        request.getfixturevalue("real_data")
        case = real_case(network, pair.images, pair.dtype)
    else:
        case = random_case(network)

    def explained(name: str, layer: str, params: Mapping[str, Any]) -> xaikit.Attribution:
        kind = METHODS.get(name)
        return kind.build(case.classifier, layer if issubclass(kind, LayerMethod) else None, **params).attribute(
            case.pixels
        )

    ours = explained(pair.ours, pair.layer or case.layer, pair.params)
    theirs = explained(pair.theirs, case.layer, pair.their_params)
    error = share_of_range(pair.formula(ours.values, case), pair.their_formula(theirs.values, case))
    plain = share_of_range(ours.heatmap(), theirs.heatmap())
    request.node.user_properties += [("share of range", error), ("heatmaps", plain)]
    assert error <= pair.tolerance
    assert (plain > pair.tolerance) == bool(pair.differs), f"heatmaps differ by {plain:.2g} of the range"
