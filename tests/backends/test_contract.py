"""What is asked of other packages' methods: one map an image, the class that was asked for, and nothing left behind."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.methods.test_contract import unchanged
from tests.networks import Failing, FunctionalReluNet, ModularNet, ReusedReluNet
from xaikit.foundation.errors import BadInput
from xaikit.methods.base import METHODS, InputMethod, LayerMethod
from xaikit.model.classifier import Classifier
from xaikit.model.target import Contrast
from xaikit.run.context import Context

pytestmark = pytest.mark.backends

PACKAGES = {"captum": 28, "pytorch-grad-cam": 20, "torchcam": 10, "shap": 2}
"""At least so many methods of each, so that none drops out unnoticed."""

REFUSED = {"captum/layer-lrp": "theirs has no relevance at a ReLU, the layer of this network"}
RANDOM_OR_CLASSLESS = {
    "pytorch-grad-cam/random-cam": "draws its weights",
    "captum/internal-influence": "theirs of one layer before a linear head is the same at each place",
    "captum/lime": "its lasso leaves no feature of this network",
}


def classifier(network: nn.Module) -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.reset_parameters()
    return Classifier(network, mean=[0.5] * 3, std=[0.25] * 3, size=16)


def images(count: int = 3) -> Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def guests(package: str) -> list[str]:
    """Return the names of a package's methods."""
    pytest.importorskip(package.replace("-", "_"), reason="the extra `backends` is not installed")
    return [name for name in METHODS.names(guests=True) if name.startswith(f"{package}/")]


def problems(package: str, check: Callable[[str], None]) -> dict[str, str]:
    """Return what went wrong, by method."""
    found = {}
    for name in guests(package):
        try:
            check(name)
        except (BadInput, AssertionError) as error:
            found[name] = str(error)
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_facts_are_declared(package: str) -> None:
    clf = classifier(ModularNet())

    def check(name: str) -> None:
        kind = METHODS.get(name)
        method = kind.build(clf)
        cost = method.cost((16, 16))
        assert kind.family in ("activation", "gradient", "decomposition", "perturbation")
        assert package.removeprefix("pytorch-") in kind.source
        assert cost.forwards >= 1
        assert ("gradient" in " ".join(kind.needs)) == (cost.backwards > 0)
        assert not set(kind.parameter_names()) & {"model", "target", "method", "seed", "context"}

    assert len(guests(package)) >= PACKAGES[package]
    assert problems(package, check) == {}


@pytest.mark.parametrize("package", PACKAGES)
def test_one_map_an_image_for_the_class_that_was_asked(package: str) -> None:
    clf, x = classifier(ModularNet()), images()

    def check(name: str) -> None:
        method = METHODS.get(name).build(clf)
        found = method.attribute(x, [0, 1, 2])
        assert found.values.shape in ((3, 8, 8), (3, 16, 16))
        assert found.values.isfinite().all()
        assert found.values.dtype == torch.float32
        assert found.target.tolist() == [0, 1, 2]
        assert found.heatmap().shape == (3, 16, 16)
        assert torch.equal(found.values, method.attribute(x, [0, 1, 2]).values)
        other = method.attribute(x, [0, 3, 2]).values
        if name not in RANDOM_OR_CLASSLESS:
            assert torch.allclose(other[[0, 2]], found.values[[0, 2]], atol=1e-5)
            assert torch.allclose(other[1], found.values[1]) != METHODS.get(name).class_specific
        if not method.signed:
            assert float(found.values.min()) >= 0
        if isinstance(method, LayerMethod):
            assert found.layer == "features.5"
        if isinstance(method, InputMethod):
            assert METHODS.get(name).build(clf, channels=True).attribute(x).values.shape == (3, 3, 16, 16)

    assert problems(package, check).keys() == {name for name in REFUSED if name.startswith(package)}


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("left", [None, 1, 2])
def test_nothing_is_left_behind(package: str, left: int | None) -> None:
    """Frozen and trainable weights, gradients of the user's, mixed train modes; also when the network fails."""
    body = ModularNet()
    network = Failing(body)
    clf = classifier(network)
    network.train()
    body.features[0].eval()
    body.fc.weight.requires_grad_(False)
    body.features[4].weight.grad = torch.ones_like(body.features[4].weight)
    clf.outline()

    def check(name: str) -> None:
        method = METHODS.get(name).build(clf)
        with unchanged(network):
            network.left = left
            refusal = ""
            try:
                method.attribute(images(2), [0, 1])
            except BadInput as error:
                refusal = str(error)
            finally:
                network.left = None
            assert "stumbled" in refusal or (left != 1 and not refusal) or name in REFUSED

    assert problems(package, check) == {}


@pytest.mark.parametrize("package", PACKAGES)
def test_targets_that_are_no_class_are_refused(package: str) -> None:
    clf = classifier(ModularNet())

    def check(name: str) -> None:
        for target in (lambda logits: logits[:, 0], Contrast(0, 1)):
            with pytest.raises(BadInput, match=f"{name}: expected a class as target"):
                METHODS.get(name).build(clf).attribute(images(1), target)

    assert problems(package, check) == {}


@pytest.mark.parametrize("name", ["captum/layer-grad-cam", "pytorch-grad-cam/grad-cam", "torchcam/score-cam"])
def test_the_copy_is_freed_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    guests(name.partition("/")[0])
    from xaikit.backends import foreign_method as guest

    alive: list[weakref.ref[nn.Module]] = []
    make = guest.Model.__init__

    def watched(self: nn.Module, batch: object) -> None:
        make(self, batch)
        alive.append(weakref.ref(self.classifier.module))

    monkeypatch.setattr(guest.Model, "__init__", watched)
    method = METHODS.get(name).build(classifier(ModularNet()))
    gc.collect()
    gc.disable()
    try:
        method.attribute(images())
        assert [one() for one in alive] == [None]
    finally:
        gc.enable()


def test_forwards_and_backwards_are_counted() -> None:
    context = Context()
    METHODS.get("captum/saliency").build(classifier(ModularNet())).attribute(images(), context=context)
    assert (context.counters.forwards, context.counters.backwards) == (6, 3)


def test_their_parameters_are_ours_with_near_names() -> None:
    clf = classifier(ModularNet())
    found = METHODS.get("captum/integrated-gradients").build(clf, n_steps=4, quadrature="riemann_middle")
    assert found.attribute(images()).params["n_steps"] == 4
    with pytest.raises(
        BadInput, match="unknown parameter of captum/integrated-gradients 'n_step'; did you mean n_steps"
    ):
        METHODS.get("captum/integrated-gradients").build(clf, n_step=4)


@pytest.mark.parametrize(
    ("name", "layer", "reason"),
    [
        ("captum/deep-lift", None, "more than once in the network"),
        ("captum/lrp", None, "sums and products of activations"),
        ("captum/layer-lrp", "conv2", "sums and products of activations"),
        ("captum/layer-lrp", None, "expected a layer that runs once, got 'relu'"),
        ("pytorch-grad-cam/grad-cam", None, "expected a layer that runs once, got 'relu'"),
        ("torchcam/grad-cam", None, "expected a layer that runs once, got 'relu'"),
    ],
)
def test_what_theirs_cannot_do_is_refused_with_the_reason(name: str, layer: str | None, reason: str) -> None:
    guests(name.partition("/")[0])
    clf = classifier(ReusedReluNet())
    with unchanged(clf.network), pytest.raises(BadInput, match=reason):
        METHODS.get(name).build(clf, layer).attribute(images(1))


def test_half_precision_that_theirs_cannot_do_is_refused() -> None:
    guests("pytorch-grad-cam")
    clf = classifier(ModularNet())
    clf.network.bfloat16()
    with pytest.raises(BadInput, match="BFloat16"):
        METHODS.get("pytorch-grad-cam/grad-cam").build(clf).attribute(images(1))


@pytest.mark.parametrize("name", ["captum/guided-backprop", "captum/deconvolution", "pytorch-grad-cam/guided-backprop"])
def test_guided_backpropagation_past_a_functional_relu_is_flagged(name: str) -> None:
    guests(name.partition("/")[0])
    assert METHODS.get(name).build(classifier(ModularNet())).attribute(images()).flags == [set()] * 3
    assert (
        METHODS.get(name).build(classifier(FunctionalReluNet())).attribute(images()).flags == [{"functional-relu"}] * 3
    )


def test_deep_lift_that_misses_its_promise_is_flagged() -> None:
    """captum sees no ReLU that is a function, so the values do not sum to the difference of the scores."""

    whole = METHODS.get("captum/deep-lift").build(classifier(ModularNet())).attribute(images())
    assert whole.flags == [set()] * 3
    missed = METHODS.get("captum/deep-lift").build(classifier(FunctionalReluNet())).attribute(images())
    assert {"incomplete"} in missed.flags


@pytest.mark.parametrize("package", PACKAGES)
def test_no_image_depends_on_its_neighbours(package: str) -> None:
    clf = classifier(ModularNet())

    def check(name: str) -> None:
        method = METHODS.get(name).build(clf)
        together = method.attribute(images(), [0, 1, 2], seed=5).values
        alone = method.attribute(images()[1:2], [1], seed=5).values
        assert torch.allclose(together[1:2], alone, rtol=1e-3, atol=1e-4 * float(alone.abs().max()) + 1e-12)

    assert problems(package, check).keys() == REFUSED.keys() & set(guests(package))
