"""Networks whose attributions can be worked out by hand; `bound` makes a float64 classifier with seeded weights."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.networks.variants import CLASSES, unchanged
from xaikit.model.classifier import Classifier


class GAPNet(nn.Module):
    """Two convolutions, global average pooling, one linear map: the architecture of CAM."""

    def __init__(self, classes: int = CLASSES, bias: bool = True, end: Callable[[Tensor], Tensor] = unchanged) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1, bias=bias)
        self.conv2 = nn.Conv2d(6, 5, 3, stride=2, padding=1, bias=bias)
        self.relu = nn.ReLU()
        self.fc = nn.Linear(5, classes, bias=bias)
        self.end = end

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.fc(self.relu(self.conv2(F.relu(self.conv1(x)))).mean((2, 3))))


class GraphlessNet(GAPNet):
    """Cuts its own graph: its scores have no gradient."""

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


class FlatNet(nn.Module):
    """One linear map over the flattened activations: their positions matter."""

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 5, 3, stride=2, padding=1), nn.ReLU())
        self.fc = nn.Linear(5 * 4 * 4, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x).flatten(1))


class DeepNet(nn.Module):
    """A nonlinear head after the layer, as VGG has it."""

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 5, 3, stride=2, padding=1), nn.ReLU())
        self.head = nn.Sequential(nn.Linear(5 * 4 * 4, 8), nn.ReLU(), nn.Linear(8, classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).flatten(1))


class LinearNet(nn.Module):
    """A linear map of the pixels, without a convolution."""

    def __init__(self, classes: int = CLASSES, size: int = 8) -> None:
        super().__init__()
        self.fc = nn.Linear(3 * size * size, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1))


class CellNet(LinearNet):
    """Reads one cell of a 4 x 4 grid, row 1 and column 2, and the first cell faintly."""

    def __init__(self, faint: float = 0.0) -> None:
        super().__init__()
        self.faint = faint

    def forward(self, x: Tensor) -> Tensor:
        seen = torch.zeros_like(x)
        seen[:, :, 2:4, 4:6] = x[:, :, 2:4, 4:6]
        seen[:, :, :2, :2] = self.faint * x[:, :, :2, :2]
        return super().forward(seen)


class HiddenNet(nn.Module):
    """One hidden ReLU layer: every rule at a ReLU has a closed form."""

    def __init__(self, hidden: int = 7) -> None:
        super().__init__()
        self.into = nn.Linear(3 * 8 * 8, hidden)
        self.out = nn.Linear(hidden, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.relu(self.into(x.flatten(1))))


class ConvolutionalHead(nn.Module):
    """One channel a class, ReLU, pooling: SqueezeNet's head."""

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.Conv2d(5, 6, 3, padding=1), nn.ReLU()
        )
        self.classifier = nn.Sequential(nn.Conv2d(6, classes, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x)).flatten(1)


class Activated(nn.Module):
    """Two convolutions, with any operation after each of them."""

    def __init__(self, first: Callable[[Tensor], Tensor], second: Callable[[Tensor], Tensor] = F.relu) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(4, 5, 3, padding=1)
        self.fc = nn.Linear(5, CLASSES)
        self.first, self.second = first, second

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.second(self.conv2(self.first(self.conv1(x)))).mean((2, 3)))


class InPlaceSum(nn.Module):
    """A sum in place on the input of a convolution, whose tensor came out of `rectify`."""

    def __init__(self, rectify: Callable[[Tensor], Tensor] = torch.relu) -> None:
        super().__init__()
        self.stem, self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, CLASSES)
        self.rectify = rectify

    def block(self, x: Tensor) -> Tensor:
        x += self.conv(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.rectify(self.block(self.rectify(self.stem(x)))).mean((2, 3)))


def bound(network: nn.Module, seed: int = 0, **options: object) -> Classifier:
    """Return a float64 classifier with seeded weights, without normalisation unless asked for."""
    stream = torch.Generator().manual_seed(seed)
    network = network.double()
    with torch.no_grad():
        for parameter in network.parameters():
            scale = 1.0 / max(1, parameter[0].numel()) ** 0.5 if parameter.ndim > 1 else 0.3
            parameter.copy_(torch.randn(parameter.shape, generator=stream, dtype=torch.float64) * scale)
    return Classifier(network, size=8, **options)  # type: ignore[arg-type]
