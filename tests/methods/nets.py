"""Tiny networks whose attributions can be worked out by hand; float64, seeded."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xaikit.model.classifier import Classifier


class GAPNet(nn.Module):
    """Two convolutions, global average pooling, one linear map: the architecture of CAM."""

    def __init__(self, classes: int = 4, bias: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1, bias=bias)
        self.conv2 = nn.Conv2d(6, 5, 3, stride=2, padding=1, bias=bias)
        self.relu = nn.ReLU()
        self.fc = nn.Linear(5, classes, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.relu(self.conv2(F.relu(self.conv1(x)))).mean((2, 3)))


class FlatNet(nn.Module):
    """One linear map over the flattened activations: their places matter."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 5, 3, stride=2, padding=1), nn.ReLU())
        self.fc = nn.Linear(5 * 4 * 4, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x).flatten(1))


class DeepNet(nn.Module):
    """A nonlinear head after the layer, as VGG has it."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 5, 3, stride=2, padding=1), nn.ReLU())
        self.head = nn.Sequential(nn.Linear(5 * 4 * 4, 8), nn.ReLU(), nn.Linear(8, classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).flatten(1))


class LinearNet(nn.Module):
    """Nothing but a linear map of the pixels."""

    def __init__(self, classes: int = 4, size: int = 8) -> None:
        super().__init__()
        self.fc = nn.Linear(3 * size * size, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1))


class ConvolutionalHead(nn.Module):
    """One channel a class, ReLU, pooling: SqueezeNet's head."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.Conv2d(5, 6, 3, padding=1), nn.ReLU()
        )
        self.classifier = nn.Sequential(nn.Conv2d(6, classes, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x)).flatten(1)


def bound(network: nn.Module, seed: int = 0, **options: object) -> Classifier:
    """Return a float64 classifier with seeded weights, without normalisation unless asked for."""
    stream = torch.Generator().manual_seed(seed)
    network = network.double()
    with torch.no_grad():
        for parameter in network.parameters():
            scale = 1.0 / max(1, parameter[0].numel()) ** 0.5 if parameter.ndim > 1 else 0.3
            parameter.copy_(torch.randn(parameter.shape, generator=stream, dtype=torch.float64) * scale)
    return Classifier(network, size=8, **options)  # type: ignore[arg-type]


def images(count: int = 3, seed: int = 1, size: int = 8) -> Tensor:
    """Return seeded pixels (count, 3, size, size), float64."""
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
