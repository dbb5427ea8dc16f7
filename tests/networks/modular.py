"""Networks for packages that read modules: those that they can run on, and one that hides a ReLU."""

import torch
from torch import Tensor, nn

from tests.networks.variants import CLASSES


class ModularNet(nn.Module):
    """A network that other packages can run on: every operation is a module of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 5, 3, padding=1),
            nn.ReLU(inplace=True),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.drop(self.pool(self.features(x)).flatten(1)))


class FunctionalReluNet(ModularNet):
    """A ReLU that is a function, which other packages do not see."""

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(self.features(x) - 0.1).mean((2, 3)))


class ReusedReluNet(nn.Module):
    """A sum of activations and one ReLU that runs twice, as residual networks have them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv1(x))
        return self.fc(self.pool(self.relu(x + self.conv2(x))).flatten(1))
