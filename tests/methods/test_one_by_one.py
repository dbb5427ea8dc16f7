"""Networks that take one image at a time, or run on each image by itself, are explained image by image."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.networks import bound, images
from xaikit.foundation.errors import BadInput
from xaikit.methods.base import METHODS


class Written(nn.Module):
    """Two convolutions and a head, run as `forward_of` writes it."""

    def __init__(self, forward_of: Callable[[Written, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv1, self.conv2, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 6, 1), nn.Linear(6, 4)
        self.forward_of = forward_of

    def features(self, x: Tensor) -> Tensor:
        return F.relu(self.conv2(F.relu(self.conv1(x))))

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_of(self, x)


def _batched(net: Written, x: Tensor) -> Tensor:
    return net.fc(net.features(x).mean((2, 3)))


def _viewed(net: Written, x: Tensor) -> Tensor:
    return net.fc(net.features(x).mean((2, 3)).view(6)).view(1, -1)


def _reshaped(net: Written, x: Tensor) -> Tensor:
    return net.fc(net.features(x).mean((2, 3)).reshape(1, -1)[:, :6])


def _first(net: Written, x: Tensor) -> Tensor:
    return net.fc(net.features(x)[0].mean((1, 2)))[None]


def _averaging(net: Written, x: Tensor) -> Tensor:
    return _batched(net, x).mean(0, keepdim=True)


def _looping(net: Written, x: Tensor) -> Tensor:
    return torch.cat([net.fc(net.features(image[None]).mean((2, 3))) for image in x])


WAYS = {"view": _viewed, "reshape": _reshaped, "index": _first, "loop": _looping}

FAST: dict[str, dict[str, object]] = {
    "smooth-grad": {"samples": 3},
    "score-cam": {},
    "relevance-cam": {},
    "full-grad": {},
}
OTHERS: dict[str, dict[str, object]] = {
    "integrated-gradients": {"steps": 4},
    "expected-gradients": {"references": 2},
    "occlusion": {"window": 8},
    "rise": {"samples": 8},
    "lime": {"samples": 9, "segmentation": "grid", "segments": 4},
    "feature-ablation": {},
    "ablation-cam": {},
    "grad-cam": {},
    "layer-excitation-backprop": {},
    "lrp": {},
    "guided-backprop": {},
}


@pytest.mark.parametrize("methods", [FAST, pytest.param(OTHERS, marks=pytest.mark.slow)], ids=["fast", "others"])
@pytest.mark.parametrize("way", WAYS)
def test_images_are_explained_one_by_one(way: str, methods: dict[str, dict[str, object]]) -> None:
    written, batched = (bound(Written(forward), seed=2, mean=0.5, std=0.25) for forward in (WAYS[way], _batched))
    assert torch.allclose(written(images(3)), batched(images(3)), atol=1e-9)
    for name, params in methods.items():
        for count in (1, 2):
            found, expected = (
                METHODS.get(name).build(clf, **params).attribute(images(count), 1) for clf in (written, batched)
            )
            scale = float(expected.values.abs().max())
            assert torch.allclose(found.values, expected.values, rtol=0, atol=1e-5 * scale), name
            assert found.flags == expected.flags, name


def test_a_mean_over_the_batch_is_that_of_each_image() -> None:
    averaging, batched = (bound(Written(forward), seed=2) for forward in (_averaging, _batched))
    found, expected = (METHODS.get("grad-cam").build(clf).attribute(images(2), 1) for clf in (averaging, batched))
    assert torch.allclose(found.values, expected.values, atol=1e-9)


@pytest.mark.parametrize("way", ["view", "reshape", "index", "loop"])
def test_pairs_of_images_are_refused_in_one_line(way: str) -> None:
    classifier = bound(Written(WAYS[way]), seed=2)
    with pytest.raises(BadInput, match=r"expected activations of 2 images.*use integrated-gradients"):
        METHODS.get("deep-lift").build(classifier).attribute(images(2), 1)


def _channels_last(net: Written, x: Tensor) -> Tensor:
    h = F.relu(net.conv1(x)).permute(0, 2, 3, 1)
    h = F.relu(F.linear(h, net.conv2.weight[:, :, 0, 0], net.conv2.bias))
    return net.fc(h.mean((1, 2)))


def _convolutional_head(net: Written, x: Tensor) -> Tensor:
    pooled = net.features(x).mean((2, 3), keepdim=True)
    return F.conv2d(pooled, net.fc.weight[:, :, None, None], net.fc.bias).flatten(1)


@pytest.mark.parametrize("forward", [_channels_last, _convolutional_head])
@pytest.mark.parametrize("scaling", ["layer", "channel"])
def test_full_grad_of_a_linear_layer_is_that_of_a_convolution(
    forward: Callable[[Written, Tensor], Tensor], scaling: str
) -> None:
    written, plain = (bound(Written(run), seed=2, mean=0.5, std=0.25) for run in (forward, _batched))
    for count in (1, 3):
        found, expected = (
            METHODS.get("full-grad").build(clf, scaling=scaling).attribute(images(count), 1) for clf in (written, plain)
        )
        assert torch.allclose(found.values, expected.values, atol=1e-6)
        assert found.completeness is not None
        assert float(found.completeness.abs().max()) < 1e-6
