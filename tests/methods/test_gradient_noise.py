"""SmoothGrad, its square and VarGrad: moments of a method's values under noise."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.networks import DeepNet, GAPNet, LinearNet, bound, images
from xaikit.foundation.errors import BadInput, UnknownName
from xaikit.methods.base import METHODS
from xaikit.model.classifier import Classifier
from xaikit.run.attribution import Attribution

NOISY = ["smooth-grad", "smooth-grad-squared", "var-grad"]


def explained(name: str, clf: Classifier, x: Tensor, target: Any = 1, seed: int = 0, **params: Any) -> Attribution:
    return METHODS.get(name).build(clf, **params).attribute(x, target, seed=seed)


def test_a_linear_model_has_no_variance() -> None:
    clf = bound(LinearNet())
    x = images()
    weight = clf.network.fc.weight.detach().reshape(4, 3, 8, 8)[1].expand_as(x)
    options = {"samples": 5, "channels": True}
    assert torch.allclose(explained("smooth-grad", clf, x, **options).values, weight, rtol=1e-14)
    assert torch.allclose(explained("smooth-grad-squared", clf, x, **options).values, weight**2, rtol=1e-14)
    assert not explained("var-grad", clf, x, **options).values.any()


def test_the_square_is_variance_plus_squared_mean() -> None:
    clf = bound(DeepNet())
    options = {"samples": 6, "level": 0.5, "channels": True}
    mean = explained("smooth-grad", clf, images(), **options).values
    square = explained("smooth-grad-squared", clf, images(), **options).values
    variance = explained("var-grad", clf, images(), **options, estimate="biased").values
    assert float(variance.max()) > 0
    assert torch.allclose(square, variance + mean**2, rtol=1e-10, atol=1e-14)


def test_one_sample_without_noise_is_the_gradient() -> None:
    clf = bound(DeepNet())
    plain = explained("saliency", clf, images(), channels=True)
    assert torch.equal(explained("smooth-grad", clf, images(), samples=1, level=0, channels=True).values, plain.values)


def test_the_noise_depends_on_seed_and_image_and_is_not_shared() -> None:
    clf = bound(DeepNet())
    x = images(1)
    first = explained("smooth-grad", clf, x, samples=3).values
    assert torch.equal(first, explained("smooth-grad", clf, x, samples=3).values)
    assert not torch.allclose(first, explained("smooth-grad", clf, x, samples=3, seed=1).values)
    twice = explained("smooth-grad", clf, torch.cat([x, x]), samples=3).values
    assert torch.allclose(twice[0], twice[1])
    noise = [one.samples for one in (METHODS.get("smooth-grad").build(clf), METHODS.get("var-grad").build(clf))]
    assert noise == [50, 50]


def test_a_quadratic_score_has_a_known_variance() -> None:
    """score = x' Q x with symmetric Q: the gradient at x + e is 2 Q (x + e), of variance 4 sigma^2 diag(Q Q)."""

    class Quadratic(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(12, 12))

        def forward(self, x: Tensor) -> Tensor:
            flat = x[:, :, :2, :2].flatten(1)
            return torch.stack([(flat @ (self.weight + self.weight.T) * flat).sum(1) / 2, flat.sum(1)], 1)

    clf = bound(Quadratic())
    x = images(1)
    q = (clf.network.weight + clf.network.weight.T).detach() / 2
    sigma = 0.2 * float(x.max() - x.min())
    samples = 4000
    options = {"samples": samples, "level": 0.2, "channels": True}
    expected, variance = 2 * x[:, :, :2, :2].flatten(1) @ q, 4 * sigma**2 * (q @ q).diagonal()
    mean = explained("smooth-grad", clf, x, 0, **options).values[:, :, :2, :2].flatten(1)
    assert float(((mean - expected) / (variance / samples).sqrt()).abs().max()) < 4
    found = explained("var-grad", clf, x, 0, **options).values[:, :, :2, :2].flatten(1)
    assert float((found / variance - 1).abs().max()) < 4 * (2 / samples) ** 0.5


def test_the_standard_error_shrinks_with_the_root_of_the_samples() -> None:
    clf = bound(DeepNet())
    x = images(1)
    options = {"level": 0.5, "channels": True}
    target = explained("smooth-grad", clf, x, **options, samples=4000, seed=99).values

    def error(samples: int) -> float:
        found = [explained("smooth-grad", clf, x, **options, samples=samples, seed=seed).values for seed in range(8)]
        return float((torch.stack(found) - target).square().mean().sqrt())

    assert 3 < error(8) / error(128) < 5.5


@pytest.mark.parametrize("name", NOISY)
def test_another_method_may_be_wrapped(name: str) -> None:
    clf = bound(GAPNet())
    x = images()
    cam = explained(name, clf, x, samples=4, base="grad-cam", base_params={"layer": "conv1"})
    assert cam.values.shape == (3, 8, 8)
    assert cam.params["base"] == "grad-cam"
    assert cam.params["base_layer"] == "conv1"
    own = explained(name, clf, x, samples=4, base="hires-cam")
    assert own.values.shape == (3, 4, 4)
    assert own.heatmap().shape == (3, 8, 8)
    path = explained(name, clf, x, samples=4, base="integrated-gradients", base_params={"steps": 2}, channels=True)
    assert path.values.shape == (3, 3, 8, 8)
    for size in (1, 5):
        again = METHODS.get(name).build(clf, samples=4, base="hires-cam").attribute(x, 1, chunk_size=size)
        assert torch.allclose(again.values, own.values, rtol=1e-12)


def test_wrapped_without_noise_is_the_method_itself() -> None:
    clf = bound(DeepNet(), mean=[0.4, 0.5, 0.6], std=[0.2, 0.25, 0.3])
    x = images()
    for base, params in (
        ("input-x-gradient", {}),
        ("occlusion", {"window": 4}),
        ("integrated-gradients", {"steps": 3}),
    ):
        found = explained("smooth-grad", clf, x, samples=2, level=0, base=base, base_params=params)
        assert torch.allclose(found.values, explained(base, clf, x, **params).values, rtol=1e-10, atol=1e-14)


def test_pixels_given_for_every_image_stay_with_it_under_noise() -> None:
    clf, x = bound(DeepNet()), images()
    own = images(6, seed=9)[3:]
    given = {"base": "integrated-gradients", "base_params": {"steps": 2, "baseline": own}, "samples": 3}
    assert "tensor (3, 3, 8, 8)" in METHODS.get("smooth-grad").build(clf, **given).attribute(x).params["base_params"]
    for size in (1, 2, None):
        found = METHODS.get("smooth-grad").build(clf, **given).attribute(x, 1, chunk_size=size)
        for place in range(3):
            one = given | {"base_params": {"steps": 2, "baseline": own[place]}}
            alone = METHODS.get("smooth-grad").build(clf, **one).attribute(x[place : place + 1], 1)
            assert torch.allclose(found.values[place], alone.values[0], rtol=1e-10)


def test_a_base_that_needs_probabilities_is_refused_for_a_regression() -> None:
    clf = Classifier(GAPNet(1).double(), output="regression", size=8)
    with pytest.raises(BadInput, match="score-cam: expected a classifier with probabilities, got a regression"):
        METHODS.get("smooth-grad").build(clf, base="score-cam", samples=2).attribute(images())


def test_what_does_not_fit_is_refused() -> None:
    clf = bound(GAPNet())
    for name in NOISY:
        for wrong in ({"samples": 0}, {"level": -1}, {"base": "smooth-grad"}):
            with pytest.raises(BadInput, match=r"expected .*, got .*;"):
                METHODS.get(name).build(clf, **wrong)
        with pytest.raises(UnknownName, match="did you mean grad-cam"):
            METHODS.get(name).build(clf, base="grad-camera")
        with pytest.raises(BadInput, match="unknown parameter of integrated-gradients 'step'"):
            METHODS.get(name).build(clf, base="integrated-gradients", base_params={"step": 3})
    with pytest.raises(BadInput, match="expected at least 2"):
        METHODS.get("var-grad").build(clf, samples=1)
    with pytest.raises(BadInput, match="estimate"):
        METHODS.get("var-grad").build(clf, estimate="best")


class Gated(nn.Module):
    """A gate by SiLU before a ReLU, with biases: several methods flag it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Conv2d(3, 6, 3), nn.SiLU(), nn.Conv2d(6, 6, 3), nn.ReLU())
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean((2, 3)))


@pytest.mark.parametrize("noisy", NOISY)
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(
    ("base", "params", "flag"),
    [
        ("guided-backprop", {}, "not-only-relu"),
        ("deconvolution", {}, "not-only-relu"),
        ("guided-grad-cam", {}, "not-only-relu"),
        ("expected-gradients", {"samples": 2}, "default-references"),
        ("deep-lift-shap", {}, "default-references"),
        ("integrated-gradients", {"steps": 1}, "incomplete"),
        ("lrp", {}, "relevance-lost"),
        ("libra-cam", {}, "default-library"),
        ("grad-cam-plus-plus", {"layer": "features.0"}, "negative-activations"),
    ],
)
def test_the_flags_of_the_base_method_are_kept(noisy: str, count: int, base: str, params: Any, flag: str) -> None:
    clf = Classifier(Gated().double(), mean=0)
    alone = explained(base, clf, images(count), **params)
    assert all(flag in names for names in alone.flags)
    noised = explained(noisy, clf, images(count), base=base, base_params=params, samples=2, level=1e-6)
    assert noised.flags == alone.flags


def test_a_flag_of_one_copy_of_one_image_is_that_image_s_alone() -> None:
    """Grad-CAM++ on a layer whose activations are negative for noise below one half only."""
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 4)).double()
    nn.init.constant_(network[0].weight, 1.0)
    nn.init.constant_(network[0].bias, -1.5)
    x = torch.stack([torch.rand(3, 8, 8, dtype=torch.float64) * 0.01 + base for base in (0.9, 0.45, 0.9)])
    options = {"base": "grad-cam-plus-plus", "base_params": {"layer": "0"}, "samples": 3, "level": 0.1}
    found = explained("smooth-grad", Classifier(network, mean=0), x, **options).flags
    assert ["negative-activations" in names for names in found] == [False, True, False]
