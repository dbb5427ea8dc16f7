"""The layers a user can choose from."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from xaikit.model.classifier import Classifier
from xaikit.zoo.layers import candidates


class Reused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.relu = nn.ReLU()
        self.again = nn.Conv2d(4, 5, 3, stride=2, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(5, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        features = self.relu(self.again(self.relu(self.conv(inputs))))
        return self.head(self.pool(features).flatten(1))


def test_maps_are_listed_in_order_with_kind_shape_calls_and_the_default() -> None:
    found = candidates(Classifier(Reused(), size=8))
    assert [(c.name, c.kind, c.shape, c.calls, c.default) for c in found] == [
        ("conv", "Conv2d", (4, 8, 8), 1, False),
        ("again", "Conv2d", (5, 4, 4), 1, False),
        ("relu", "ReLU", (5, 4, 4), 2, True),
    ]


def test_a_layer_of_the_users_is_the_default() -> None:
    found = candidates(Classifier(Reused(), size=8, layer="conv"))
    assert [c.name for c in found if c.default] == ["conv"]


def test_without_a_default_all_are_listed_and_none_is_marked() -> None:
    class Grid(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, inputs: Tensor) -> Tensor:
            return torch.einsum("nchw->nc", self.conv(inputs))

    found = candidates(Classifier(Grid(), size=8))
    assert [(c.name, c.default) for c in found] == [("conv", False)]
