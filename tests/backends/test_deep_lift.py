"""DeepLIFT and expected gradients against captum and shap: where theirs are sound, and why they are not elsewhere.

Theirs hook modules, one call each. captum takes a stale gradient where a max-pooling follows a ReLU at once; both give
a position that wins several windows of a pooling the share of one. So networks are compared in which each ReLU is a
module of its own, poolings do not overlap and, for captum, something stands between ReLU and pooling.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.backends.cases import Case, case_of
from tests.backends.test_agreement import share_of_range
from tests.backends.test_contract import classifier
from tests.networks import FunctionalReluNet
from xaikit.foundation.errors import BadInput
from xaikit.images.references import draw_references
from xaikit.methods.base import METHODS
from xaikit.model.classifier import Classifier
from xaikit.run.attribution import Attribution

pytestmark = pytest.mark.backends


class Times(nn.Module):
    """Something between a ReLU and a pooling."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 1.0


class Small(nn.Module):
    """convolution -> ReLU -> something -> pooling -> convolution -> ReLU -> mean -> linear."""

    def __init__(self, pool: nn.Module, between: nn.Module) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), between, pool),
            *(nn.Conv2d(6, 5, 3, padding=1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        )
        self.fc = nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x))


def small(pool: nn.Module, between: nn.Module | None = None) -> Case:
    """Return a float64 network with three pictures and a class each."""
    clf = classifier(Small(pool, between or nn.Identity()))
    clf.network.double()
    pixels = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return Case(clf, pixels, torch.tensor([0, 1, 2]), "features.0")


def random_baseline(size: tuple[int, int] = (16, 16)) -> Tensor:
    return torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


def background(case: Case, count: int = 8) -> Tensor:
    return draw_references(count, 3, (case.pixels.shape[2], case.pixels.shape[3])).to(case.pixels)


def explained(case: Case, name: str, **params: object) -> Attribution:
    pytest.importorskip(name.partition("/")[0] if "/" in name else "torch", reason="the extra `backends` is missing")
    return METHODS.get(name).build(case.classifier, **params).attribute(case.pixels, case.target)


def gap(found: Attribution) -> float:
    """Return the largest gap as a share of the difference that is promised."""
    assert found.completeness is not None
    promised = found.values.flatten(1).sum(1) - found.completeness
    return float((found.completeness / promised).abs().max())


def against_captum(case: Case, baseline: Tensor) -> tuple[Attribution, Attribution]:
    theirs = explained(case, "captum/deep-lift", baselines=case.classifier.normalize(baseline))
    return explained(case, "deep-lift", baseline=baseline), theirs


@pytest.mark.parametrize(
    ("pool", "between"), [(nn.AvgPool2d(2), None), (nn.MaxPool2d(2), Times()), (nn.AvgPool2d(2), nn.Sigmoid())]
)
def test_captum_agrees_where_nothing_is_adjacent(pool: nn.Module, between: nn.Module | None) -> None:
    case = small(pool, between)
    if isinstance(between, nn.Sigmoid):
        case.classifier.network.features[1] = nn.AvgPool2d(1)
    ours, theirs = against_captum(case, random_baseline())
    assert share_of_range(ours.values, theirs.values) < 1e-6
    assert gap(ours) < 1e-10


def test_captum_loses_the_sum_where_a_pooling_follows_a_relu_and_ours_does_not() -> None:
    """The documented failure: a stale gradient between adjacent hooks, with a random baseline."""
    ours, theirs = against_captum(small(nn.MaxPool2d(2)), random_baseline())
    assert gap(theirs) > 0.1
    assert gap(ours) < 1e-10
    assert theirs.flags != [set()] * 3


def test_captum_and_shap_lose_the_sum_where_windows_overlap() -> None:
    case = small(nn.MaxPool2d(3, 2), Times())
    ours, theirs = against_captum(case, random_baseline())
    assert gap(theirs) > 0.01
    assert gap(ours) < 1e-10
    assert gap(explained(case, "shap/deep-explainer", check_additivity=False)) > 0.01
    with pytest.raises(BadInput, match="do not sum up to the model's output"):
        explained(case, "shap/deep-explainer")


@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.AvgPool2d(2)])
def test_deep_explainer_agrees_on_sequential_networks(pool: nn.Module) -> None:
    case = small(pool)
    ours = explained(case, "deep-lift-shap", references=background(case))
    theirs = explained(case, "shap/deep-explainer")
    assert share_of_range(ours.values, theirs.values) < 1e-6
    assert gap(ours) < 1e-10
    assert theirs.flags == [set()] * 3


def test_captums_deep_lift_shap_agrees() -> None:
    case = small(nn.MaxPool2d(2), Times())
    ours = explained(case, "deep-lift-shap", references=background(case))
    assert share_of_range(ours.values, explained(case, "captum/deep-lift-shap").values) < 1e-6


def test_deep_explainer_that_misses_its_promise_is_flagged() -> None:
    clf = classifier(FunctionalReluNet())
    case = Case(clf, torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1]), "")
    found = explained(case, "shap/deep-explainer", check_additivity=False)
    assert {"incomplete"} in found.flags


def test_gradient_explainer_is_the_mean_over_numpys_draws() -> None:
    """Theirs at its own random points by plain autograd; float32, in which it makes them."""
    case = small(nn.MaxPool2d(2))
    theirs = explained(case, "shap/gradient-explainer", nsamples=20, rseed=3)
    references, inputs = background(case), case.classifier.normalize(case.pixels)
    references = case.classifier.normalize(references)
    for image, index, found in zip(inputs, case.target, theirs.values, strict=True):
        state = np.random.RandomState(3)
        total = torch.zeros_like(image)
        for _ in range(20):
            start, along = references[state.choice(8)], state.uniform()
            point = (along * image + (1 - along) * start).float().double().requires_grad_(True)
            score = case.classifier.logits(point[None])[0, index]
            total += (image - start) * torch.autograd.grad(score, point)[0] / 20
        assert share_of_range(found[None], total.sum(0)[None]) < 1e-5


@pytest.mark.parametrize(
    ("name", "params"),
    [("shap/gradient-explainer", {"nsamples": 1500}), ("captum/gradient-shap", {"n_samples": 1500, "stdevs": 0.0})],
)
def test_expected_gradients_agree_in_expectation(name: str, params: dict[str, object]) -> None:
    """Independent draws leave an error of about 1 / sqrt(1500) of the spread; ours has less."""
    case = small(nn.AvgPool2d(2))
    ours = explained(case, "expected-gradients", references=background(case), samples=600)
    assert share_of_range(ours.values, explained(case, name, **params).values) < 0.05


# ---- networks with real weights -------------------------------------------------------------------------------------


def remade(case: Case, network: nn.Module) -> Case:
    """Return another form of a case's network with the same weights."""
    plain = case.classifier
    network.load_state_dict(plain.network.state_dict(), strict=True)
    mean, std = plain.mean.flatten().tolist(), plain.std.flatten().tolist()
    clf = Classifier(network.to(plain.dtype), mean=mean, std=std, size=plain.size)
    with torch.no_grad(), clf.borrowed():
        target = clf.logits(clf.normalize(case.pixels)).argmax(1)
    return Case(clf, case.pixels, target, case.layer)


class ReluModules(nn.Module):
    """A CIFAR ResNet with a module for each call of ReLU."""

    def __init__(self, plain: nn.Module) -> None:
        super().__init__()
        self.plain = plain
        self.relus = nn.ModuleList(nn.ReLU() for _ in range(2 * sum(map(len, self.stages())) + 1))

    def stages(self) -> list[nn.Sequential]:
        return [self.plain.layer1, self.plain.layer2, self.plain.layer3]  # type: ignore[list-item]

    def forward(self, x: Tensor) -> Tensor:
        relus = iter(self.relus)
        x = next(relus)(self.plain.bn1(self.plain.conv1(x)))
        for block in (one for stage in self.stages() for one in stage):
            inner = next(relus)(block.bn1(block.conv1(x)))
            x = next(relus)(block.bn2(block.conv2(inner)) + block._shortcut(x))
        return self.plain.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))


@pytest.mark.real
@pytest.mark.parametrize("place", ["cifar-resnet20", "cifar-resnet56"])
def test_cifar_networks_whose_relus_are_modules(place: str, real_data: Path) -> None:
    """In double precision: theirs takes the gradient where |x - x'| < 1e-10 or 1e-6, ours the ratio."""
    plain = case_of(place, 2, dtype=torch.float64)
    clf = plain.classifier
    other = Classifier(
        ReluModules(clf.network), mean=clf.mean.flatten().tolist(), std=clf.std.flatten().tolist(), size=clf.size
    )
    case = Case(other, plain.pixels, plain.target, "")
    baseline = random_baseline((32, 32))
    ours, theirs = against_captum(case, baseline)
    assert gap(ours) < 1e-10
    assert share_of_range(ours.values, theirs.values) < 1e-4
    assert share_of_range(explained(plain, "deep-lift", baseline=baseline).values, ours.values) < 1e-9
    mean = explained(case, "deep-lift-shap", references=background(case, 8))
    assert share_of_range(mean.values, explained(case, "shap/deep-explainer", check_additivity=False).values) < 1e-3


def squeezenet(plain: Case, then: Callable[[nn.Module], nn.Module]) -> Case:
    """Return SqueezeNet 1.0 with its weights and its poolings over 2 x 2 windows that do not overlap."""
    import torchvision

    network = torchvision.models.squeezenet1_0(weights=None)
    made = remade(plain, network)
    for place, one in enumerate(network.features):
        if isinstance(one, nn.MaxPool2d):
            network.features[place] = then(nn.MaxPool2d(2))
    return made


@pytest.mark.real
@pytest.mark.slow
def test_squeezenet_whose_poolings_do_not_overlap(real_data: Path) -> None:
    plain = case_of("squeezenet1_0", 1, 112, dtype=torch.float64)
    assert gap(explained(plain, "deep-lift")) < 1e-9
    apart = squeezenet(plain, lambda pool: nn.Sequential(Times(), pool))
    ours, theirs = against_captum(apart, random_baseline((112, 112)))
    assert gap(ours) < 1e-9
    assert share_of_range(ours.values, theirs.values) < 1e-4
    case = squeezenet(plain, lambda pool: pool)
    mean = explained(case, "deep-lift-shap", references=background(case, 8))
    assert share_of_range(mean.values, explained(case, "shap/deep-explainer", check_additivity=False).values) < 1e-3
