"""Networks that write into the image they are given are explained as if they did not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import xaikit
from tests import networks

METHODS = {
    "saliency": {},
    "grad-cam": {},
    "guided-backprop": {},
    "smooth-grad": {"samples": 3},
    "integrated-gradients": {"steps": 5},
    "guided-integrated-gradients": {"steps": 5},
    "expected-gradients": {"samples": 3},
    "deep-lift": {},
    "lrp": {},
    "occlusion": {"window": 4},
    "lime": {"samples": 80},
    "xrai": {"steps": 5},
    "meaningful-perturbation": {"steps": 3},
}


def divided(x):
    if x.max() > 1.5:
        x /= 255
    return x


def shifted(x):
    if x.mean() > 1:
        x.sub_(100).mul_(0.01)
    return x


def assigned(x):
    if (x > 1).any():
        x[:, 0] = x[:, 0] / 255
        x[:, 1:] = x[:, 1:] / 300
    return x


def clamped(x):
    torch.clamp(x, 0.0, 120.0, out=x) if not x.requires_grad else x.clamp_(0.0, 120.0)
    return x / 255


WRITTEN = {
    divided: lambda x: x / 255 if x.max() > 1.5 else x,
    shifted: lambda x: (x - 100) * 0.01 if x.mean() > 1 else x,
    assigned: lambda x: torch.cat([x[:, :1] / 255, x[:, 1:] / 300], 1) if (x > 1).any() else x,
    clamped: lambda x: x.clamp(0.0, 120.0) / 255,
}


class Network(nn.Module):
    def __init__(self, prepare) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.prepare = prepare
        self.convolution = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.convolution(self.prepare(x)).relu().mean((2, 3)))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("write", WRITTEN, ids=lambda write: write.__name__)
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.slow
def test_as_without_writing(method, write, count):
    if method in ("deep-lift", "lrp") and write in (assigned, clamped):
        pytest.skip("the rules give the two ways of writing their own relevance")
    if method == "deep-lift":
        pytest.skip("it refuses networks that branch on numbers of each image, see below")
    pixels = (networks.images(count, size=8) * 255).round()
    given = pixels.clone()
    networks_of_two = [Network(write).double(), Network(WRITTEN[write]).double()]
    one, other = (
        xaikit.attribute(xaikit.Classifier(network), pixels, 1, method, **METHODS[method])
        for network in networks_of_two
    )
    assert torch.allclose(one.values, other.values, rtol=1e-9, atol=1e-9 * float(other.values.abs().max()))
    assert one.scores.tolist() == pytest.approx(other.scores.tolist(), rel=1e-12)
    assert one.flags == other.flags
    assert torch.equal(pixels, given)


@pytest.mark.parametrize("write", [divided, shifted], ids=lambda write: write.__name__)
@pytest.mark.parametrize("method", ["deep-lift", "deep-lift-shap"])
def test_images_and_references_that_may_branch_apart_are_refused(method, write):
    pixels = (networks.images(2, size=8) * 255).round()
    with pytest.raises(xaikit.BadInput, match="got one that branches on numbers of each image"):
        xaikit.attribute(xaikit.Classifier(Network(write).double()), pixels, 1, method)


def test_the_classifier_writes_into_no_image():
    pixels = networks.images(2, size=8) * 255
    classifier, given = xaikit.Classifier(Network(divided).double()), pixels.clone()
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            classifier.logits(pixels)
        assert torch.equal(pixels, given)
