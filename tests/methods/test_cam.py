"""CAM knows in numbers whether it applies."""

from __future__ import annotations

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import xaikit
from tests.networks import ConvolutionalHead, DeepNet, FlatNet, GAPNet, bound, images
from xaikit.foundation.errors import BadInput, XaikitWarning
from xaikit.methods.base import METHODS
from xaikit.model.classifier import Classifier
from xaikit.model.target import Contrast


class TwoLinear(nn.Module):
    """MobileNetV3's head: two linear maps with a nonlinearity between; the last has weights that would fit."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)
        self.head = nn.Sequential(nn.Linear(5, 5), nn.Hardswish(), nn.Linear(5, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).relu().mean((2, 3)))


class Normalised(nn.Module):
    """ConvNeXt's head: a LayerNorm between pooling and linear map."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)
        self.norm = nn.LayerNorm(5)
        self.fc = nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.norm(self.conv(x).relu().mean((2, 3))))


@pytest.mark.parametrize("network", [TwoLinear, Normalised, DeepNet, FlatNet])
def test_a_head_that_is_not_linear_after_pooling_is_refused_with_the_reason(network: type[nn.Module]) -> None:
    clf = bound(network())
    with pytest.raises(
        BadInput, match=r"cam: expected a head of global average pooling and one linear map after .*; use"
    ):
        METHODS.get("cam")(clf).attribute(images())


def test_the_reason_says_how_far_the_best_weights_are_off() -> None:
    with pytest.raises(BadInput, match=r"miss the logits by \d+"):
        METHODS.get("cam")(bound(TwoLinear())).attribute(images())
    with pytest.raises(BadInput, match=r"no weights of shape \(4, 5\)"):
        METHODS.get("cam")(bound(FlatNet())).attribute(images())


def test_one_logit_is_seen_from_both_sides() -> None:
    clf = bound(GAPNet(1))
    cam = METHODS.get("cam")(clf)
    positive, negative = cam.attribute(images(), "positive"), cam.attribute(images(), "negative")
    assert torch.allclose(positive.values, -negative.values)
    assert torch.allclose(positive.values.mean((1, 2)) + clf.network.fc.bias.detach(), positive.scores)


def test_a_softmax_inside_the_network_leaves_the_map() -> None:
    plain = bound(GAPNet())
    inside = bound(nn.Sequential(GAPNet(), nn.Softmax(1)))
    with pytest.warns(match="already ends in a softmax"):
        inside.outline()
    expected = METHODS.get("cam")(plain).attribute(images(), 1).values
    inside.network[0].load_state_dict(plain.network.state_dict())
    assert torch.allclose(METHODS.get("cam")(inside).attribute(images(), 1).values, expected)


def test_a_layer_asked_for_is_taken_at_its_word() -> None:
    clf = bound(ConvolutionalHead())
    with pytest.raises(BadInput, match=r"after 'features\.0'"):
        METHODS.get("cam")(clf, layer="features.0").attribute(images())
    found = METHODS.get("cam")(clf).attribute(images())
    assert found.layer == "classifier.1"


def test_a_class_map_of_one_logit_speaks_for_both_classes() -> None:
    clf = bound(ConvolutionalHead(1))
    zero, one = (METHODS.get("cam").build(clf).attribute(images(), target) for target in (0, 1))
    assert torch.allclose(one.values.mean((1, 2)), one.scores)
    assert torch.equal(zero.values, -one.values)
    contrast = METHODS.get("cam").build(clf).attribute(images(), Contrast(1, 0))
    assert torch.allclose(contrast.values, 2 * one.values)


@pytest.mark.parametrize("end", [nn.LogSoftmax(1), nn.Softmax(1)])
def test_ablation_sees_the_softmax_that_a_network_ends_in(end: nn.Module) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", XaikitWarning)
        clf = bound(GAPNet(end=end))
        ablation = METHODS.get("ablation-cam").build(clf, layer="relu")
        by_class, by_function = ablation.attribute(images(), 1), ablation.attribute(images(), lambda z: z[:, 1])
        contrast = ablation.attribute(images(), Contrast(1, 0))
    assert torch.allclose(by_class.values, by_function.values, atol=1e-12)
    assert contrast.params["path"] == "closed-form"


@pytest.mark.parametrize("biases", [(2000.0,) * 4, (0.0, 0.0, -1e4, -1e4)])
def test_a_large_bias_does_not_hide_that_the_head_is_another(biases):
    class Head(nn.Module):
        def __init__(self, pool):
            super().__init__()
            self.conv, self.fc, self.pool = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 4), pool

        def forward(self, x):
            return self.fc(self.pool(self.conv(x).relu()))

    def made(pool, dtype):
        torch.manual_seed(0)
        network = Head(pool).to(dtype)
        network.fc.bias.data.copy_(torch.tensor(biases))
        return network, torch.rand(2, 3, 16, 16, dtype=dtype)

    network, pixels = made(lambda h: h.amax((2, 3)), torch.float64)
    with pytest.raises(BadInput, match="miss the logits"):
        xaikit.attribute(Classifier(network), pixels, 0, "cam")
    assert xaikit.attribute(Classifier(network), pixels, 0, "ablation-cam").params["path"] != "closed-form"
    for dtype in (torch.float32, torch.float64):
        network, pixels = made(lambda h: h.mean((2, 3)), dtype)
        means = xaikit.attribute(Classifier(network), pixels, 0, "cam").values.mean((1, 2))
        promised = network(pixels)[:, 0].double() - biases[0]
        assert torch.allclose(means.double(), promised, atol=1e-3 if dtype == torch.float32 else 1e-9)


class Penalised(nn.Module):
    """Pooling and one linear map, minus a penalty for weak features, which is zero for the images at hand."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.fc, self.least = nn.Conv2d(3, 6, 3), nn.Linear(6, 4), 0.0

    def strength(self, maps: Tensor) -> Tensor:
        return maps.mean((2, 3)).sum(1, keepdim=True)

    def tail(self, maps: Tensor) -> Tensor:
        return self.fc(maps.mean((2, 3))) - 3 * F.relu(self.least - self.strength(maps)) * torch.arange(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(F.relu(self.conv(x)))


def test_a_head_that_is_linear_for_the_images_only_has_no_closed_form() -> None:
    network, x = Penalised().double(), torch.rand(2, 3, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        maps = F.relu(network.conv(x))
        network.least = 0.99 * float(network.strength(maps).min())
        kept = 1 - torch.eye(6, dtype=torch.float64)[:, None, :, None, None]
        drops = torch.stack([(network.tail(maps) - network.tail(maps * one))[:, 2] for one in kept], 1)
    found = xaikit.attribute(xaikit.Classifier(network, size=8), x, 2, "ablation-cam")
    assert found.params["path"] == "tail"
    assert torch.allclose(found.values, torch.einsum("nk,nkhw->nhw", drops, maps).relu(), rtol=0, atol=1e-9)
