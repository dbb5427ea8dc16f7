"""FullGrad of networks that are not piecewise linear: the implicit biases of their calls."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.vision_transformer import VisionTransformer

from tests.networks import bound, images
from xaikit.methods.activation.implicit_bias import implicit_bias
from xaikit.methods.base import METHODS
from xaikit.model.classifier import Classifier


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (torch.sigmoid, lambda x: x.sigmoid() - x * x.sigmoid() * (1 - x.sigmoid())),
        (F.silu, lambda x: -(x**2) * x.sigmoid() * (1 - x.sigmoid())),
        (lambda x: torch.add(x, 2.5), lambda x: torch.full_like(x, 2.5)),
        (lambda x: torch.mul(x, x[:1]), lambda x: -x * x[:1]),
        (lambda x: F.relu6(9 * x), lambda x: torch.where(9 * x > 6, 6.0, 0.0)),
        (lambda x: F.normalize(x, dim=1), lambda x: x / x.norm(dim=1, keepdim=True)),
        (lambda x: torch.cat([x, torch.ones(1, 3, 4)], 0), lambda x: torch.cat([0 * x, torch.ones(1, 3, 4)], 0)),
    ],
    ids=["sigmoid", "silu", "constant", "product", "relu6", "normalize", "token"],
)
def test_the_constant_term_of_calls(call: Callable[[Tensor], Tensor], expected: Callable[[Tensor], Tensor]) -> None:
    x = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)).double()
    found = implicit_bias(call, (x.clone().requires_grad_(True),), {})
    assert found is not None
    assert torch.allclose(found, expected(x).double(), atol=1e-12)


@pytest.mark.parametrize(
    "call",
    [F.relu, lambda x: F.leaky_relu(x, 0.1), lambda x: x * 3, lambda x: x @ torch.ones(4, 2).double(), torch.abs],
)
def test_calls_without_a_constant_have_none(call: Callable[[Tensor], Tensor]) -> None:
    assert implicit_bias(call, (torch.randn(2, 3, 4).double().requires_grad_(True),), {}) is None
    assert implicit_bias(torch.sigmoid, (torch.randn(2, 3),), {}) is None


def _vit() -> nn.Module:
    network = VisionTransformer(16, 4, 2, 2, 12, 24, num_classes=4)
    nn.init.normal_(network.heads.head.weight)
    return network


def _convnext() -> nn.Module:
    return ConvNeXt([CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 1)], layer_scale=0.5, num_classes=4)


class Gated(nn.Module):
    """Squeeze-and-excitation, a position embedding, an instance normalisation, and writes in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gate, self.norm = nn.Conv2d(3, 6, 3), nn.Linear(6, 6), nn.GroupNorm(2, 6)
        self.place, self.fc = nn.Parameter(torch.randn(6, 14, 14)), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x += self.place
        x = F.silu(x, inplace=True)
        x = x * self.gate(x.mean((2, 3))).sigmoid()[:, :, None, None]
        x[:, 0] = 0.5
        return self.fc(F.hardswish(self.norm(x), True).mean((2, 3)))


@pytest.mark.parametrize(
    "build",
    [pytest.param(_vit, marks=pytest.mark.slow), pytest.param(_convnext, marks=pytest.mark.slow), Gated],
)
def test_the_contributions_add_up_to_the_score(build: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    clf = Classifier(build().double().eval(), mean=[0.4, 0.5, 0.6], std=[0.2, 0.25, 0.3], size=16)
    x = images(2, size=16)
    found = METHODS.get("full-grad")(clf).attribute(x, [1, 3])
    assert float(found.scores.abs().min()) > 1e-3
    assert float((found.completeness / found.scores).abs().max()) < 1e-10
    assert found.flags == [set()] * 2
    for image in range(2):
        alone = METHODS.get("full-grad")(clf).attribute(x[image : image + 1], [1, 3][image])
        assert torch.allclose(alone.values[0], found.values[image], rtol=1e-9)


class Written(nn.Module):
    """The same function with calls that write into their argument, or without."""

    def __init__(self, *, in_place: bool) -> None:
        super().__init__()
        self.conv, self.fc, self.in_place = nn.Conv2d(3, 6, 3), nn.Linear(6, 4), in_place

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.in_place:
            x += 0.5
            F.silu(x, inplace=True)
            x.sigmoid_()
        else:
            x = F.silu(x + 0.5).sigmoid()
        return self.fc(x.mean((2, 3)))


def test_a_call_in_place_contributes_what_another_does() -> None:
    found, expected = (
        METHODS.get("full-grad")(bound(Written(in_place=way), seed=1)).attribute(images(2), 1) for way in (True, False)
    )
    assert torch.allclose(found.values, expected.values, rtol=1e-10)
    assert float(found.completeness.abs().max()) < 1e-12
