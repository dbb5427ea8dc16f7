"""Layers of tokens and of channels last in other packages' methods: they agree with ours, or are refused."""

from __future__ import annotations

import pytest
import torch

import xaikit
from tests.networks.tokens import ChannelsLast, Tokens, seeded
from xaikit.foundation.errors import BadInput

pytestmark = pytest.mark.backends

SIZE = (16, 24)
CASES = {
    "registers": (lambda: Tokens(SIZE, before=3, after=1), "blocks.2.norm1"),
    "windows": (lambda: Tokens(SIZE, reads="mean", order="windows"), "norm"),
    "channels last": (ChannelsLast, "last"),
}


def explained(build, method: str, layer: str) -> torch.Tensor:
    pixels = torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(1))
    classifier = xaikit.Classifier(seeded(build).float(), size=SIZE, mean=0)
    return xaikit.attribute(classifier, pixels, 1, method, layer=layer).values


@pytest.mark.parametrize(("build", "layer"), CASES.values(), ids=CASES)
@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("torchcam/grad-cam", "grad-cam"),
        ("torchcam/layer-cam", "layer-cam"),
        ("captum/layer-gradient-x-activation", "hires-cam"),
    ],
)
def test_raw_maps_agree(theirs, ours, build, layer):
    expected = explained(build, ours, layer)
    assert torch.allclose(explained(build, theirs, layer), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("build", "layer"), CASES.values(), ids=CASES)
@pytest.mark.parametrize("name", ["grad-cam", "layer-cam"])
def test_maps_of_pytorch_grad_cam_agree_at_the_picture_s_size(name, build, layer):
    cv2 = pytest.importorskip("cv2", reason="pytorch-grad-cam resizes with it")
    found = explained(build, f"pytorch-grad-cam/{name}", layer)
    for values, expected in zip(found, explained(build, name, layer), strict=True):
        resized = torch.from_numpy(cv2.resize((expected / expected.amax()).numpy(), SIZE[::-1]))
        assert torch.corrcoef(torch.stack([values.flatten(), resized.flatten()]))[0, 1] > 0.999


@pytest.mark.parametrize("method", ["pytorch-grad-cam/ablation-cam", "captum/layer-grad-cam"])
def test_methods_that_take_maps_only_are_refused(method):
    build, layer = CASES["registers"]
    with pytest.raises(BadInput, match=rf"{method}: expected a layer with outputs \(N, C, h, w\), got \(28, 12\)"):
        explained(build, method, layer)
