"""The graph view: folded BatchNorm equals the original, and the original stays as it is."""

from __future__ import annotations

import copy

import pytest
import torch
import torchvision
from torch import nn

from tests import networks
from xaikit.foundation.errors import BadInput
from xaikit.model.classifier import Classifier
from xaikit.model.folding import fold_batch_norm, trace
from xaikit.run.batch import Batch
from xaikit.run.context import Context

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def randomised(network: nn.Module) -> nn.Module:
    """Give each BatchNorm statistics that a wrong fold would show."""
    stream = torch.Generator().manual_seed(3)
    for module in network.modules():
        if isinstance(module, NORMS):
            module.running_mean.uniform_(-0.2, 0.2, generator=stream)
            module.running_var.uniform_(0.5, 1.5, generator=stream)
            if module.affine:
                with torch.no_grad():
                    module.weight.uniform_(0.8, 1.2, generator=stream)
                    module.bias.uniform_(-0.1, 0.1, generator=stream)
    return network


def left(graph: nn.Module) -> int:
    return sum(isinstance(module, NORMS) for module in graph.modules())


@pytest.mark.parametrize(
    ("name", "norms"), [("resnet18", 0), ("densenet121", 62), ("mobilenet_v2", 0), ("squeezenet1_1", 0)]
)
def test_folding_leaves_the_function_and_the_network_alone(name, norms):
    network = randomised(
        networks.seeded(lambda: getattr(torchvision.models, name)(num_classes=7), torch.float32)
    ).train()
    before = copy.deepcopy(network.state_dict())
    network.eval()
    inputs = networks.images(2, size=64, dtype=torch.float32)
    with torch.no_grad():
        expected = network(inputs)
        network.train()
        graph = fold_batch_norm(trace(network))
        found = graph(inputs)
    assert torch.allclose(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    assert left(graph) == norms
    assert all(module.training for module in network.modules())
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert not any(parameter.requires_grad for parameter in graph.parameters())
    assert network.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


class Flat(nn.Module):
    """Linear and BatchNorm1d, without scale and shift."""

    def __init__(self, **options) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(4, 5), nn.BatchNorm1d(5, **options)

    def forward(self, x):
        return self.norm(self.linear(x))


@pytest.mark.parametrize(("options", "norms"), [({}, 0), ({"affine": False}, 1), ({"track_running_stats": False}, 1)])
def test_linear_maps_and_bare_norms(options, norms):
    network = networks.seeded(lambda: Flat(**options)).eval()
    if network.norm.track_running_stats:
        randomised(network)
    graph = fold_batch_norm(trace(network))
    inputs = networks.images(6, size=2)[:, 0].flatten(1)
    assert left(graph) == norms
    assert torch.allclose(graph(inputs), network(inputs), rtol=0, atol=1e-12)


class Shared(nn.Module):
    """One convolution before two norms, one norm after two convolutions, and an output used twice."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.conv, self.other = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.norm, self.second = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x):
        if self.kind == "convolution":
            return self.second(self.conv(self.norm(self.conv(x))))
        if self.kind == "norm":
            return self.norm(self.other(self.norm(self.conv(x))))
        y = self.conv(x)
        return y + self.norm(y)


@pytest.mark.parametrize("kind", ["convolution", "norm", "output"])
def test_what_is_shared_is_not_folded(kind):
    network = randomised(networks.seeded(lambda: Shared(kind)).eval())
    graph = fold_batch_norm(trace(network))
    assert left(graph) == (2 if kind == "convolution" else 1)
    assert torch.allclose(graph(networks.images()), network(networks.images()), rtol=0, atol=1e-12)


class Branch(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Length(nn.Module):
    def forward(self, x):
        return torch.stack([one * 2 for one in x])


@pytest.mark.parametrize("inner", [Branch, Length])
def test_an_untraceable_network_is_refused_with_the_module(inner):
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Sequential(nn.ReLU(), inner()))
    with pytest.raises(BadInput, match=r"stopped in '1\.1'") as caught:
        trace(network)
    assert "\n" not in str(caught.value)
    with pytest.raises(BadInput, match=f"stopped in '{inner.__name__}'"):
        trace(inner())


def test_a_network_that_cannot_be_copied_is_refused():
    network = nn.Sequential(nn.ReLU())
    network.kept = torch.zeros(1, requires_grad=True) * 2
    with pytest.raises(BadInput, match="stopped in 'Sequential'"):
        trace(network)


def test_reused_and_functional_calls_are_nodes():
    graph = trace(networks.seeded(networks.Reused))
    assert [str(node.target) for node in graph.graph.nodes if node.op == "call_module"].count("relu") == 2
    graph = trace(networks.seeded(networks.Functional))
    assert (
        sum(node.op == "call_function" and node.target is torch.nn.functional.relu for node in graph.graph.nodes) == 2
    )


def folded(clf: Classifier, pixels: torch.Tensor | None = None) -> Classifier:
    """Return the copy that explains some images, or the classifier itself."""
    pixels = networks.images(dtype=clf.dtype) if pixels is None else pixels
    with clf.borrowed():
        return Batch(clf, clf.check(pixels), None, Context()).folded.classifier


def folding() -> Classifier:
    def build() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))

    return Classifier(randomised(networks.seeded(build)).eval(), mean=[0.5] * 3, std=[0.2] * 3, size=8)


def test_the_folded_copy_is_kept_while_nothing_changes():
    clf = folding()
    twin = folded(clf)
    assert twin is not clf
    assert left(twin.network) == 0
    assert folded(clf) is twin
    clf.network.train()
    clf(networks.images())
    clf.network.eval()
    folded_anew = folded(clf)  # the statistics have moved
    assert folded_anew is not twin
    assert torch.allclose(folded_anew(networks.images()), clf(networks.images()), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "change",
    [
        lambda network: network[0].weight.data.mul_(2),  # past the version counter
        lambda network: network[0].weight.data.neg_(),
        lambda network: nn.init.normal_(network[4].weight),
        lambda network: network[1].running_var.add_(1),
        lambda network: network.float(),
        lambda network: network.__setitem__(2, nn.SiLU()),
        lambda network: setattr(network[1], "eps", 0.1),
    ],
)
def test_the_folded_copy_is_made_anew_once_something_changes(change):
    clf = folding()
    twin = folded(clf)
    change(clf.network)
    anew = folded(clf)
    assert anew is not twin
    inputs = networks.images(dtype=clf.dtype)
    assert anew.dtype == clf.dtype
    assert torch.allclose(anew(inputs), clf(inputs), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "build", [networks.Net, lambda: nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(192, 2))]
)
def test_where_nothing_folds_the_classifier_itself_is_used(build):
    clf = Classifier(networks.seeded(build).eval(), size=8)
    assert folded(clf) is clf


def test_where_tracing_fails_the_classifier_itself_is_used():
    class Deciding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = folding().network

        def forward(self, x):
            return self.body(x if x.sum() > 0 else -x)

    clf = Classifier(Deciding().eval(), size=8)
    assert folded(clf) is clf


@pytest.mark.parametrize(
    "change",
    [
        lambda net: setattr(net, "factor", 0.0),
        lambda net: net.factors.__setitem__(0, 0.0),
        lambda net: net.mask.zero_(),
        lambda net: net.mask.data.zero_(),
        lambda net: net.norm.register_forward_hook(lambda module, args, output: 0 * output),
    ],
    ids=["attribute", "list", "tensor", "tensor past the version counter", "hook"],
)
def test_a_copy_follows_attributes_and_hooks(change) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.factor = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), 2.0
            self.factors, self.mask = [1.0], torch.ones(1)

        def forward(self, x):
            return (self.factor * self.factors[0] * self.mask * self.norm(self.conv(x))).mean((2, 3))

    torch.manual_seed(0)
    clf = Classifier(randomised(Scaled()).eval(), size=8)
    pixels = torch.rand(2, 3, 8, 8)
    before = folded(clf, pixels).logits(pixels)
    assert folded(clf, pixels) is folded(clf, pixels)
    change(clf.network)
    assert torch.equal(folded(clf, pixels).logits(pixels), torch.zeros_like(before))
