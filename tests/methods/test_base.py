"""The method and the engine that runs several on one batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests import networks
from tests.run.methods import Activation, Gradient, LayerGradient
from xaikit.foundation.errors import BadInput, NoSuchLayer, XaikitWarning
from xaikit.foundation.flags import FLAGS
from xaikit.methods.base import METHODS, attribute_all
from xaikit.model.classifier import Classifier
from xaikit.model.target import Contrast
from xaikit.run.context import Context
from xaikit.run.cost import Cost

LABELS = ["cat", "dog", "cow", "owl"]


@pytest.fixture
def classifier():
    return Classifier(networks.seeded(networks.Stochastic, torch.float32), labels=LABELS, layer="conv2")


def pixels(count: int = 5):
    return networks.images(count, dtype=torch.float32)


def near(one, other):
    return torch.allclose(one, other, rtol=0, atol=1e-4 * float(other.abs().max()))


def test_attribution_says_everything(classifier):
    found = LayerGradient(classifier).attribute(pixels(), "dog")
    logits = classifier.network.eval()(pixels())
    assert found.target.tolist() == [1] * 5
    assert found.target_names == ("dog",) * 5
    assert torch.allclose(found.scores, logits[:, 1], atol=1e-6)
    assert torch.allclose(found.probabilities, logits.softmax(1)[:, 1], atol=1e-6)
    assert (found.method, found.layer, found.size, found.params) == ("layer-gradient", "conv2", (8, 8), {"power": 1.0})
    assert torch.equal(found.diagnostics["maximum"], found.values.amax((1, 2)))
    assert torch.equal(found.diagnostics["minimum"], found.values.amin((1, 2)))
    assert torch.equal(found.diagnostics["positive"], (found.values > 0).float().mean((1, 2)))
    assert LayerGradient(classifier)(pixels(), "dog").values.equal(found.values)


def test_methods_share_their_work_and_keep_their_order(classifier):
    context = Context()
    methods = [Activation(classifier), LayerGradient(classifier), LayerGradient(classifier, power=2.0)]
    together = attribute_all(methods, pixels(), None, context)
    assert [one.method for one in together] == ["activation", "layer-gradient", "layer-gradient"]
    assert (context.counters.forwards, context.counters.backwards) == (5, 5)
    for method, found in zip(methods, together, strict=True):
        assert torch.equal(found.values, method.attribute(pixels()).values)
    assert attribute_all([], pixels(), None, context) == []


@pytest.mark.parametrize(
    "target",
    [
        None,
        2,
        "owl",
        [0, 1, 2, 3, 0],
        np.array([0, 1, 2, 3, 0]),
        Contrast([0, 1, 2, 3, 0], [3, 2, 1, 0, 3]),
        lambda z: z[:, 0] ** 2,
    ],
)
@pytest.mark.parametrize("chunk", [1, 2])
def test_portions_equal_the_whole(classifier, target, chunk):
    for method in (LayerGradient(classifier), Gradient(classifier, noise=0.1)):
        whole = method.attribute(pixels(), target)
        parts = method.attribute(pixels(), target, chunk_size=chunk)
        assert near(parts.values, whole.values)
        assert torch.equal(parts.target, whole.target)
        assert parts.target_names == whole.target_names
        assert parts.params == whole.params
        assert len(parts.flags) == 5


@pytest.mark.parametrize("chunk", [None, 1, 2])
@pytest.mark.parametrize("count", [4, 6])
@pytest.mark.parametrize("make", [list, np.array, torch.tensor])
def test_a_target_of_another_length_is_refused_at_any_portion(classifier, make, count, chunk):
    with pytest.raises(BadInput, match=f"expected 5 entries, one per image, got {count}"):
        LayerGradient(classifier).attribute(pixels(), make([0] * count), chunk_size=chunk)


def test_the_seed_and_the_image_decide_the_noise(classifier):
    method = Gradient(classifier, noise=1.0)
    base = method.attribute(pixels()).values
    assert torch.equal(method.attribute(pixels()).values, base)
    assert near(method.attribute(pixels().flip(0)).values.flip(0), base)
    assert not near(method.attribute(pixels(), seed=1).values, base)


@pytest.mark.parametrize("target", [None, 1, [], torch.zeros(0, dtype=torch.long)])
def test_no_image_at_all(classifier, target):
    for method in (LayerGradient(classifier), Gradient(classifier, channels=True)):
        found = method.attribute(pixels(0), target)
        assert len(found) == 0
        assert found.values.shape[1:] == method.attribute(pixels(1)).values.shape[1:]
        assert found.heatmap().shape == (0, 8, 8)
        assert found.flags == []


def test_no_image_for_a_network_that_cannot_take_none():
    network = networks.seeded(lambda: networks.Net(end=lambda z: z.view(z.shape[0], 2, -1).flatten(1)), torch.float32)
    assert len(LayerGradient(Classifier(network)).attribute(pixels(0))) == 0


@pytest.mark.parametrize("error", [RuntimeError("midway"), KeyboardInterrupt()])
def test_a_network_that_raises_comes_back(error):
    network = networks.seeded(networks.Raising, torch.float32).train()
    classifier = Classifier(network)
    LayerGradient(classifier, "conv1").attribute(pixels())
    network.error = error
    random = torch.get_rng_state()
    with pytest.raises(type(error)):
        LayerGradient(classifier, "conv1").attribute(pixels())
    assert all(module.training for module in network.modules())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.is_grad_enabled()


def test_reductions(classifier):
    kept = Gradient(classifier, channels=True).attribute(pixels())
    assert kept.values.shape == (5, 3, 8, 8)
    assert torch.equal(Gradient(classifier).attribute(pixels()).values, kept.values.sum(1))
    for reduction, expected in [("max-abs", kept.values.abs().amax(1)), ("mean", kept.values.mean(1))]:
        kind = type("Reduced", (Gradient,), {"reduction": reduction})
        assert torch.equal(kind(classifier).attribute(pixels()).values, expected)


def test_build_refuses_with_near_names(classifier):
    assert LayerGradient.parameter_names() == ["power"]
    assert LayerGradient.build(classifier, layer="conv1", power=2.0).attribute(pixels()).layer == "conv1"
    with pytest.raises(BadInput, match="did you mean power"):
        LayerGradient.build(classifier, powr=2.0)
    with pytest.raises(BadInput, match="gradient works on the input"):
        Gradient.build(classifier, layer="conv1")
    with pytest.raises(NoSuchLayer, match="conv1"):
        LayerGradient.build(classifier, layer="conv_1").attribute(pixels())


def test_a_method_that_needs_probabilities_refuses_a_regression():
    classifier = Classifier(networks.seeded(networks.Net, torch.float32), output="regression", layer="conv2")
    assert LayerGradient(classifier).attribute(pixels(), 0).values.shape == (5, 8, 8)
    with pytest.raises(BadInput, match="got a regression; choose another method"):
        Gradient(classifier).attribute(pixels(), 0)


def test_one_logit_has_two_sides():
    classifier = Classifier(networks.seeded(lambda: networks.Net(1), torch.float32), layer="conv2")
    positive = LayerGradient(classifier).attribute(pixels(), "positive")
    negative = LayerGradient(classifier).attribute(pixels(), "negative")
    assert torch.equal(positive.values, -negative.values)
    assert torch.allclose(positive.probabilities + negative.probabilities, torch.ones(5))
    assert LayerGradient(classifier).attribute(pixels()).target.tolist() == (positive.scores > 0).long().tolist()


def test_params_that_are_objects_are_described(classifier):
    found = Gradient(classifier, background=torch.zeros(2, 3)).attribute(pixels())
    assert found.params["background"] == "tensor (2, 3)"
    assert found.params["drawn"] == 8


def test_flags_of_a_dead_layer(classifier):
    with torch.no_grad():
        classifier.network.head.weight.zero_()
    found = LayerGradient(classifier).attribute(pixels())
    assert found.flags == [{"constant"}] * 5
    assert not found.heatmap().any()


def test_cost_in_words():
    assert str(Cost(2, 0.5)) == "2 f + 0.5 b"
    assert str(Cost(0, 0)) == "0"


def test_a_flag_without_an_explanation_is_warned_of(classifier, monkeypatch):
    monkeypatch.delitem(FLAGS, "constant")
    with pytest.warns(XaikitWarning, match="ones: expected flags that are explained, got 'constant'; add it"):
        METHODS.get("ones")(classifier).attribute(pixels(1))
