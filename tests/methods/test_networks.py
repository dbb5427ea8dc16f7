"""Every method on every kind of network that users bring: the same weights give the same map, however they are run."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from tests import networks
from tests.methods.small import marked, method
from tests.networks import GAPNet, bound, images
from xaikit.methods.base import METHODS, attribute_all
from xaikit.model.classifier import Classifier
from xaikit.run.context import Context

pytestmark = pytest.mark.usefixtures("kept_regions")

NAMES = [name for name in METHODS.names() if METHODS.get(name).family not in ("control", "attention")]
VARIANTS: dict[str, Callable[[], nn.Module]] = {
    "in place": networks.InPlace,
    "reused": networks.Reused,
    "reused in place": lambda: networks.Reused(inplace=True),
    "functional": networks.Functional,
    "functional in place": networks.FunctionalInPlace,
    "statement": networks.Statement,
    "frozen": networks.frozen,
    "data parallel": networks.parallel,
}


@pytest.mark.parametrize("name", marked(NAMES))
@pytest.mark.slow
def test_the_same_weights_give_the_same_map(name: str) -> None:
    x = networks.images(2)
    expected = method(name, Classifier(networks.seeded(networks.Net), size=8)).attribute(x, [0, 1])
    for variant, build in VARIANTS.items():
        found = method(name, Classifier(networks.seeded(build), size=8)).attribute(x, [0, 1])
        assert torch.allclose(found.scores, expected.scores), variant
        assert torch.allclose(found.values, expected.values, atol=1e-12), variant


@pytest.mark.parametrize("name", marked(NAMES))
def test_train_mode_does_not_matter(name: str) -> None:
    network = networks.seeded(networks.Stochastic)
    evaluated = copy.deepcopy(network).eval()
    x = networks.images(2)
    expected = method(name, Classifier(evaluated, size=8)).attribute(x, 1).values
    assert torch.equal(method(name, Classifier(network.train(), size=8)).attribute(x, 1).values, expected)


@pytest.mark.parametrize("name", marked(NAMES))
def test_the_callers_grad_mode_and_autocast_do_not_matter(name: str) -> None:
    one = method(name, Classifier(networks.seeded(networks.InPlace), size=8))
    x = networks.images(2)
    expected = one.attribute(x).values
    for mode in (torch.no_grad(), torch.inference_mode(), torch.autocast("cpu", torch.bfloat16)):
        with mode:
            found = one.attribute(x).values
        assert torch.equal(found, expected)


@pytest.mark.parametrize("name", marked([name for name in NAMES if name != "cam"]))
@pytest.mark.slow
def test_branches_and_gates(name: str) -> None:
    x = networks.images(2)
    for network in (networks.Residual, networks.Concat, networks.SqueezeExcite):
        clf = Classifier(networks.seeded(network), layer="conv2", size=8)
        found = method(name, clf).attribute(x)
        assert found.values.isfinite().all(), network
        assert torch.equal(found.scores, clf(x).amax(1).detach()), network


BY_SMALL_DROPS = [name for name in NAMES if METHODS.get(name).family == "perturbation"] + [
    "group-cam",
    "poly-cam",
    "recipro-cam",
]


@pytest.mark.parametrize("name", [name for name in NAMES if name not in BY_SMALL_DROPS])
def test_a_bfloat16_network_gives_nearly_the_same_map(name: str) -> None:
    """Perturbation is left out: the drops of this small network are below the rounding of its bfloat16 logits."""
    exact = Classifier(networks.seeded(networks.Net, torch.float32), size=8)
    coarse = Classifier(networks.seeded(networks.Net, torch.float32).to(torch.bfloat16), size=8)
    x = networks.images(dtype=torch.float32)
    target = exact(x).argmax(1)
    expected = method(name, exact).attribute(x, target).heatmap().flatten(1)
    found = method(name, coarse).attribute(x, target)
    assert found.values.dtype == torch.float32
    similar = torch.nn.functional.cosine_similarity(found.heatmap().flatten(1), expected)
    assert float(similar.min()) > 0.9


@pytest.mark.parametrize("name", marked(NAMES))
def test_running_out_of_memory_halves_the_portion_and_keeps_the_answer(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clf = bound(GAPNet())
    x = images(3)
    expected = method(name, clf).attribute(x)
    plain = Classifier.logits

    def small(clf: Classifier, inputs: Tensor) -> Tensor:
        if len(inputs) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return plain(clf, inputs)

    monkeypatch.setattr(Classifier, "logits", small)
    found = method(name, clf).attribute(x, chunk_size=3)
    assert torch.allclose(found.values, expected.values, atol=1e-4 * float(expected.values.abs().max()))
    assert all("halved" in flags for flags in found.flags)


@cache
def torchvision_network(name: str) -> torch.nn.Module:
    """Return a network of torchvision with random weights; methods leave it as it is."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        options = {"init_weights": False} if name == "googlenet" else {}
        return networks.of_torchvision(name, num_classes=10, **options)


@pytest.mark.slow
@pytest.mark.parametrize(
    "network", ["resnet18", "vgg11", "densenet121", "googlenet", "mobilenet_v2", "efficientnet_b0", "convnext_tiny"]
)
def test_torchvision_networks(network: str) -> None:
    clf = Classifier(torchvision_network(network), mean=[0.5] * 3, std=[0.25] * 3, size=64)
    names = [name for name in NAMES if METHODS.get(name).family == "activation"]
    if network in ("vgg11", "convnext_tiny"):
        with pytest.raises(ValueError, match="cam: expected a head of global average pooling"):
            method("cam", clf).attribute(torch.rand(2, 3, 64, 64))
        names.remove("cam")
    methods = [method(name, clf) for name in names]
    few = [one for one in methods if one.cost((64, 64)).forwards <= (700 if network == "resnet18" else 100)]
    for found in attribute_all(few, torch.rand(2, 3, 64, 64), None, Context()):
        assert found.values.isfinite().all(), found.method
        assert found.heatmap().shape == (2, 64, 64), found.method


def test_six_methods_share_one_forward_and_one_backward() -> None:
    clf = bound(GAPNet())
    context = Context()
    names = [
        "grad-cam",
        "grad-cam-plus-plus",
        "xgrad-cam",
        "hires-cam",
        "layer-cam",
        "eigen-cam",
        "cam",
        "ablation-cam",
    ]
    attribute_all([method(name, clf) for name in names], images(4), None, context)
    assert (context.counters.forwards, context.counters.backwards) == (4, 4)
