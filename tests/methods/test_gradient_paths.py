"""Integrated gradients, guided and blurred ones: sums along a path from a baseline to the image."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter1d
from torch import Tensor, nn

from tests.networks import DeepNet, GAPNet, LinearNet, bound, images
from xaikit.foundation.errors import BadInput
from xaikit.measures.cost.peak_memory import peak_bytes
from xaikit.methods.base import METHODS
from xaikit.methods.gradient.blur_integrated_gradients import blur_matrix
from xaikit.methods.gradient.integrated_gradients import quadrature_rule
from xaikit.model.classifier import Classifier
from xaikit.run.attribution import Attribution

COLOURS = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]}
PATHS = ["integrated-gradients", "guided-integrated-gradients", "blur-integrated-gradients"]


def explained(name: str, clf: Classifier, x: Tensor, target: Any = 1, seed: int = 0, **params: Any) -> Attribution:
    return METHODS.get(name).build(clf, **params).attribute(x, target, seed=seed)


def promised(clf: Classifier, x: Tensor, start: Tensor, target: int = 1) -> Tensor:
    """Return score(x) - score(start) in the network's coordinates, (N,)."""
    return (clf(x) - clf.logits(start))[:, target].detach()


class Pair(nn.Module):
    """Two networks in one: the sum of their scores."""

    def __init__(self, one: nn.Module, two: nn.Module) -> None:
        super().__init__()
        self.one, self.two = one, two

    def forward(self, x: Tensor) -> Tensor:
        return self.one(x) + self.two(x)


class Symmetric(nn.Module):
    """A score that does not change when the image is turned over its diagonal."""

    def __init__(self) -> None:
        super().__init__()
        self.net = DeepNet()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) + self.net(x.mT)


@pytest.mark.parametrize("steps", [1, 2, 7, 50])
def test_the_rules_are_exact_for_polynomials_of_their_degree(steps: int) -> None:
    for name, degree in (("midpoint", 1), ("gauss-legendre", 2 * steps - 1)):
        points, weights = quadrature_rule(name, steps)
        assert float(weights.sum()) == pytest.approx(1, abs=1e-14)
        for power in range(degree + 1):
            assert float((weights * points**power).sum()) == pytest.approx(1 / (power + 1), rel=1e-12)


@pytest.mark.parametrize("quadrature", ["midpoint", "gauss-legendre"])
@pytest.mark.parametrize("baseline", ["mean", "black", "white", "blur", "noise", "image-mean"])
def test_the_sum_is_the_difference_and_the_gap_says_how_nearly(quadrature: str, baseline: str) -> None:
    clf = bound(DeepNet(), **COLOURS)
    options = {"baseline": baseline, "quadrature": quadrature}
    found = explained("integrated-gradients", clf, images(), **options)
    rough = explained("integrated-gradients", clf, images(), steps=1, **options)
    difference = found.values.sum((1, 2)) - found.completeness
    assert torch.allclose(rough.values.sum((1, 2)) - rough.completeness, difference)
    assert bool((found.completeness.abs() <= 0.01 * difference.abs()).all())
    assert float(found.completeness.abs().sum()) < float(rough.completeness.abs().sum())
    if baseline in ("mean", "black"):
        start = torch.zeros_like(images()) if baseline == "mean" else clf.normalize(torch.zeros_like(images()))
        assert torch.allclose(difference, promised(clf, images(), start))


def test_several_baselines_are_averaged() -> None:
    clf = bound(DeepNet(), **COLOURS)
    names = ("black", "white", "blur")
    singles = [explained("integrated-gradients", clf, images(), steps=5, baseline=name) for name in names]
    found = explained("integrated-gradients", clf, images(), steps=5, baseline=list(names))
    assert torch.allclose(found.values, torch.stack([one.values for one in singles]).mean(0), rtol=1e-10, atol=1e-14)
    gaps = torch.stack([one.completeness for one in singles]).mean(0)
    assert torch.allclose(found.completeness, gaps, rtol=1e-8, atol=1e-12)
    assert found.params["baseline"] == names
    pixels = torch.ones(3, 1, 1, dtype=torch.float64)
    given = explained("integrated-gradients", clf, images(), steps=5, baseline=(0 * pixels, "white", "blur"))
    assert torch.allclose(given.values, found.values)
    assert given.params["baseline"] == ("tensor (3, 1, 1)", "white", "blur")
    twice = explained("integrated-gradients", clf, images(), steps=5, baseline=("noise", "noise"))
    once = explained("integrated-gradients", clf, images(), steps=5, baseline="noise")
    assert not torch.allclose(twice.values, once.values)


def test_steps_adapt_to_each_image() -> None:
    clf = bound(DeepNet(), **COLOURS)
    x = images(6, seed=5)
    found = explained("integrated-gradients", clf, x, baseline="noise")
    used = found.params["steps"]
    difference = found.values.sum((1, 2)) - found.completeness
    for image, steps in enumerate([used] * 6 if isinstance(used, int) else used):
        fixed = explained("integrated-gradients", clf, x, steps=steps, baseline="noise")
        assert torch.allclose(found.values[image], fixed.values[image], rtol=1e-10, atol=1e-14)
        assert steps == 400 or float(found.completeness[image].abs()) <= 0.01 * float(difference[image].abs())


@pytest.mark.parametrize("name", ["integrated-gradients", "guided-integrated-gradients"])
def test_the_axioms(name: str) -> None:
    clf = bound(DeepNet(), **COLOURS)
    x = images()
    x[:, :, 2:4] = 0
    found = explained(name, clf, x, steps=8, baseline="black")
    assert not found.values[:, 2:4].any(), "sensitivity: pixels that equal the baseline"
    assert bool((found.values[:, 4:] != 0).all())
    doubled = bound(nn.Sequential(DeepNet()), **COLOURS)
    doubled.network[0].load_state_dict(clf.network.state_dict())
    with torch.no_grad():
        doubled.network[0].head[0].weight.mul_(4)
        doubled.network[0].head[0].bias.mul_(4)
        doubled.network[0].head[2].weight.div_(4)
    other = explained(name, doubled, x, steps=8, baseline="black")
    assert torch.allclose(other.values, found.values, rtol=1e-9, atol=1e-13), "implementation invariance"
    turned = (images() + images().mT) / 2
    even = explained(name, bound(Symmetric(), memory_format=None), turned, steps=8)  # channels_last rounds x.mT apart
    assert torch.allclose(even.values, even.values.mT, rtol=1e-9, atol=1e-13), "symmetry"


@pytest.mark.parametrize("name", PATHS)
def test_important_directions_add_up_at_any_number_of_steps(name: str) -> None:
    """For three steps the plain weighting misses percents; the sum of changes of the score misses only rounding."""
    clf = bound(DeepNet(), **COLOURS)
    plain = explained(name, clf, images(), steps=3)
    found = explained(name, clf, images(), steps=3, weighting="idgi")
    assert float(plain.completeness.abs().min()) > 1e-3
    assert float(found.completeness.abs().max()) < 1e-12
    assert torch.allclose(found.values.sum((1, 2)), plain.values.sum((1, 2)) - plain.completeness, rtol=1e-10)
    assert found.flags == [set()] * 3


@pytest.mark.parametrize("name", PATHS)
def test_a_step_without_a_gradient_gives_out_nothing_and_is_flagged(name: str) -> None:
    """The score is flat in the first half of the path, but for its jump at the end of it."""

    class Jump(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2))

        def forward(self, x: Tensor) -> Tensor:
            size = x.abs().mean((1, 2, 3))
            return self.weight * torch.stack([torch.where(size > 0.2, 1 + (size - 0.2), 0 * size), 0 * size], 1)

    clf = Classifier(Jump().double(), mean=0, size=8)
    found = explained(name, clf, torch.full((1, 3, 8, 8), 0.5, dtype=torch.float64), 0, steps=4, weighting="idgi")
    assert float(found.completeness) < -0.5
    assert "incomplete" in found.flags[0]


def test_integrated_gradients_are_additive_in_models_and_input_x_gradient_without_biases() -> None:
    one, two = bound(DeepNet(), seed=1), bound(GAPNet(), seed=2)
    both = Classifier(Pair(one.network, two.network), size=8)
    parts = [explained("integrated-gradients", clf, images(), steps=9).values for clf in (one, two)]
    assert torch.allclose(explained("integrated-gradients", both, images(), steps=9).values, sum(parts), rtol=1e-9)
    free = bound(GAPNet(bias=False))
    for quadrature in ("midpoint", "gauss-legendre"):
        found = explained("integrated-gradients", free, images(), steps=3, quadrature=quadrature)
        assert torch.allclose(found.values, explained("input-x-gradient", free, images()).values, rtol=1e-10)


@pytest.mark.parametrize("reach", [0.0, 0.02, 1.0])
def test_guided_paths_of_a_linear_model(reach: float) -> None:
    clf = bound(LinearNet(), **COLOURS)
    weight = clf.network.fc.weight.detach().reshape(4, 3, 8, 8)[1]
    black = clf.normalize(torch.zeros_like(images()))
    expected = (clf.normalize(images()) - black) * weight
    for steps in (1, 2, 30):
        options = {"steps": steps, "reach": reach, "baseline": "black", "channels": True}
        found = explained("guided-integrated-gradients", clf, images(), **options)
        assert torch.allclose(found.values, expected, rtol=1e-9, atol=1e-13)
        assert float(found.completeness.abs().max()) < 1e-10


def test_without_reach_the_guided_path_is_straight() -> None:
    clf = bound(DeepNet(), **COLOURS)
    x, steps = images(), 9
    inputs = clf.normalize(x)
    total = torch.zeros_like(inputs)
    for step in range(steps):
        place = (step / steps * inputs).requires_grad_(True)
        total += torch.autograd.grad(clf.logits(place)[:, 1].sum(), place)[0]
    found = explained("guided-integrated-gradients", clf, x, steps=steps, reach=0, channels=True)
    assert torch.allclose(found.values, inputs * total / steps, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("reach", [0.0, 0.02, 0.3, 1.0])
def test_guided_paths_keep_their_promises(reach: float) -> None:
    """At each step the distance left is what it should be, progress never falls, and the end is the image itself."""
    clf = bound(DeepNet(), **COLOURS)
    x = images(4)
    seen: list[Tensor] = []
    plain = clf.logits
    clf.logits = lambda inputs: (seen.append(inputs.detach().clone()), plain(inputs))[1]  # type: ignore[method-assign]
    found = explained("guided-integrated-gradients", clf, x, steps=10, reach=reach)
    path = torch.cat([one for one in seen if len(one) == 1])  # images run one after another
    inputs = clf.normalize(x)
    distance = inputs.abs().flatten(1).sum(1)
    starts = [step for step, point in enumerate(path) if not point.any()]
    points = torch.stack([path[start : start + 10] for start in starts], 1)
    assert points.shape[:2] == (10, 4)
    for step, point in enumerate(points):
        left = (inputs - point).abs().flatten(1).sum(1)
        assert torch.allclose(left, (1 - step / 10) * distance, rtol=1e-9)
        progress = point / inputs
        assert float(progress.min()) >= step / 10 - reach - 1e-12
        assert float(progress.max()) <= step / 10 + reach + 1e-12
    assert bool(((points[1:] - points[:-1]) * inputs.sign() >= -1e-12).all())
    assert found.completeness is not None


def test_guided_paths_do_not_depend_on_the_batch() -> None:
    """From one colour all inner gradients are equal up to rounding, which differs between batches."""
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 12, 3, padding=1, stride=2))
    network.extend([nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5)])
    clf = Classifier(bound(network).network.float(), [0.4, 0.5, 0.6], [0.2, 0.25, 0.3])
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    whole, single = (explained("guided-integrated-gradients", clf, one, steps=50) for one in (x, x[1:]))
    assert torch.equal(whole.values[1:], single.values)


def test_guided_paths_go_where_the_gradient_is_small_first() -> None:
    clf = bound(DeepNet(), **COLOURS)
    straight = explained("guided-integrated-gradients", clf, images(), steps=40, reach=0, channels=True)
    guided = explained("guided-integrated-gradients", clf, images(), steps=40, reach=1, channels=True)
    assert not torch.allclose(guided.values, straight.values, rtol=0.05)
    same = explained("guided-integrated-gradients", clf, torch.full_like(images(), 0.0), baseline="black", steps=3)
    assert not same.values.any()
    assert all("constant" in flags for flags in same.flags)


def test_pixels_of_equal_gradient_advance_together() -> None:
    """A score that reads one half only: the other half has the gradient zero and goes first, as a whole."""
    clf = bound(DeepNet())
    network = clf.network
    half = nn.Sequential(_Left(), network)
    seen: list[Tensor] = []
    halved = Classifier(half.double(), size=8)
    plain = halved.logits
    halved.logits = lambda inputs: (seen.append(inputs.detach().clone()), plain(inputs))[1]  # type: ignore[method-assign]
    explained("guided-integrated-gradients", halved, torch.ones(1, 3, 8, 8).double(), steps=4, fraction=0.1, reach=1)
    after_one = next(one for one in seen if 0 < float(one.sum()) < 3 * 64)
    assert torch.allclose(after_one[..., 4:], torch.full((), 0.5, dtype=torch.float64))
    assert not after_one[..., :4].any()


class _Left(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[..., :4], (0, 4))


@pytest.mark.parametrize("sigma", [0, 0.3, 1.7, 12])
def test_the_blur_is_scipys(sigma: float) -> None:
    for padding, mode in (("zero", "constant"), ("reflect", "reflect")):
        for length in (5, 8, 31):
            expected = (
                gaussian_filter1d(torch.eye(length).double().numpy(), sigma, axis=0, mode=mode) if sigma else None
            )
            wanted = torch.eye(length).double() if expected is None else torch.from_numpy(expected)
            assert torch.allclose(blur_matrix(length, sigma, padding), wanted, rtol=0, atol=1e-14)


def test_blurred_paths() -> None:
    clf = bound(DeepNet(), **COLOURS)
    name = "blur-integrated-gradients"
    x = images()
    flat = torch.full_like(x, 0.7)
    assert float(explained(name, clf, flat, steps=6, sigma=3, padding="reflect").values.abs().max()) < 1e-12
    assert float(explained(name, clf, flat, steps=6, sigma=3).values.abs().max()) > 1e-3
    assert not explained(name, clf, x, steps=3, sigma=0.05).values.any()
    for padding in ("zero", "reflect"):
        blur = blur_matrix(8, 2.0, padding)
        end = blur @ clf.normalize(x) @ blur.mT
        gaps = []
        for steps in (5, 100):
            found = explained(name, clf, x, steps=steps, sigma=2, padding=padding)
            assert torch.allclose(found.values.sum((1, 2)) - found.completeness, promised(clf, x, end))
            gaps.append(float(found.completeness.abs().max()))
        assert gaps[1] < 0.5 * gaps[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", [*PATHS, "smooth-grad", "var-grad"])
def test_memory_does_not_grow_with_the_path(name: str) -> None:
    clf = bound(GAPNet())
    x = images(3, size=32)
    word = "samples" if name.endswith("grad") else "steps"

    def peak(count: int) -> int:
        method = METHODS.get(name).build(clf, **{word: count})
        gc.collect()  # what earlier tests left would be counted as freed here
        return peak_bytes(lambda: method.attribute(x, 1, chunk_size=3), torch.device("cpu"))

    peak(2)
    assert peak(20) < 1.1 * peak(4)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(BadInput, match="expected none with weighting='idgi', got 'gauss-legendre'; omit it"):
        METHODS.get("integrated-gradients").build(bound(GAPNet()), quadrature="gauss-legendre", weighting="idgi")
    clf = bound(GAPNet())
    for name, params in {
        "integrated-gradients": [
            *({"steps": 0}, {"quadrature": "simpson"}, {"baseline": ()}, {"baseline": ("black", "grey")}),
        ],
        "guided-integrated-gradients": [
            *({"steps": 0}, {"fraction": 0}, {"fraction": 2}, {"reach": -1}, {"reach": 2}, {"baseline": "grey"}),
        ],
        "blur-integrated-gradients": [{"steps": 0}, {"sigma": 0}, {"padding": "wrap"}],
    }.items():
        for wrong in params:
            with pytest.raises(BadInput, match=r"expected .*, got .*"):
                METHODS.get(name).build(clf, **wrong)


class OverItsMaximum(nn.Module):
    """Divides each image by its maximum; a black image is 0 / 0."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x / x.amax((1, 2, 3), keepdim=True)).relu().mean((2, 3)))


@pytest.mark.parametrize("name", ["integrated-gradients", pytest.param("xrai", marks=pytest.mark.slow)])
@pytest.mark.parametrize("count", [1, 3])
def test_a_baseline_without_a_score_is_flagged(name: str, count: int) -> None:
    """The points of the path give finite values, but there is nothing that they could add up to."""
    found = explained(name, bound(OverItsMaximum()), images(count), baseline="black", steps=4)
    assert bool(found.values.isfinite().all())
    assert all("incomplete" in flags for flags in found.flags)
