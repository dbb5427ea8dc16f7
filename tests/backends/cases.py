"""The networks that methods are compared on: three with real weights and photographs, seven with random weights.

A place is a network, or `network:layer`; without a layer the last one before the pooling is meant.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

import xaikit
from tests.conftest import REAL_DATA
from tests.networks import of_torchvision
from xaikit.images.shapes import upsample
from xaikit.model.classifier import Classifier

__all__ = ["CIFAR", "PLAIN", "RANDOM", "REAL", "Case", "case_of", "is_real"]

CIFAR = ("cifar-resnet20", "cifar-resnet56")
REAL = ("squeezenet1_0", *CIFAR)
PLAIN = ("resnet18", "vgg11", "googlenet", "mobilenet_v2", "efficientnet_b0", "convnext_tiny")
RANDOM = (*PLAIN, "densenet121")

_LAYERS = {
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
_WEIGHTS = {
    "squeezenet1_0": ("squeezenet1_0_imagenet.pth", "imagenet/*.jpg"),
    "cifar-resnet20": ("resnet20_cifar10.pth", "cifar10/*/*.jpg"),
    "cifar-resnet56": ("resnet56_cifar10.pth", "cifar10/*/*.jpg"),
}


@dataclass(frozen=True)
class Case:
    """A classifier with pictures, the class of each that is explained, and the layer that is read."""

    classifier: Classifier
    pixels: Tensor
    target: Tensor
    layer: str

    @property
    def ours(self) -> str:
        """Our name of the value that hooks of other packages read: densenet's functional ReLU overwrites it."""
        return {("densenet121", "features"): "features + relu"}.get((self.classifier.name, self.layer), self.layer)


def is_real(place: str) -> bool:
    """Say whether a place is in a network with real weights."""
    return place.partition(":")[0] in REAL


@cache
def case_of(
    place: str, images: int = 3, side: int | None = None, rank: int = 0, dtype: torch.dtype = torch.float32
) -> Case:
    """Return a network with as many pictures.

    Args:
        place: network, or `network:layer`.
        images: how many pictures.
        side: of the pictures; None is the network's own.
        rank: which class is explained, 0 the one of the highest score and -1 the one of the lowest.
        dtype: of weights and pictures.
    """
    network, _, layer = place.partition(":")
    clf, pixels = _real(network, images, dtype) if is_real(place) else _random(network, dtype)
    pixels = upsample(pixels[:images], (side, side)) if side else pixels[:images]
    with clf.borrowed(), torch.no_grad():
        target = clf.logits(clf.normalize(pixels)).argsort(1, descending=True)[:, rank]
    return Case(clf, pixels, target, layer or _LAYERS[network])


@cache
def _real(network: str, images: int, dtype: torch.dtype) -> tuple[Classifier, Tensor]:
    """Return a network with its weights and photographs, spread over the classes."""
    weights, pattern = _WEIGHTS[network]
    clf = xaikit.load(network, weights=REAL_DATA / "weights" / weights, device="cpu")
    files = sorted(REAL_DATA.glob(pattern))
    clf.network.to(dtype)
    return clf, clf.read(files[:: len(files) // images][:images]).to(dtype)


@cache
def _random(network: str, dtype: torch.dtype) -> tuple[Classifier, Tensor]:
    """Return a network with seeded weights, BatchNorm as after training, and two pictures of noise."""
    options = {"init_weights": True, "aux_logits": False} if network == "googlenet" else {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = of_torchvision(network, **options)
        pixels = torch.rand(2, 3, 96, 96)
        for norm in (one for one in module.modules() if isinstance(one, nn.BatchNorm2d)):
            norm.momentum = 1.0
        with torch.no_grad():
            module.train()(pixels)
    clf = Classifier(module.to(dtype), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225], size=96, name=network)
    return clf, pixels.to(dtype)
