"""What every method promises, over the registry: shapes, determinism, batch independence, and nothing left behind."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import nn

from tests.methods.small import classifier, marked, method, network
from tests.networks import Failing, GAPNet, GraphlessNet, InPlaceSum, bound, images
from tests.run.test_batch import NamedDevices
from xaikit.foundation.errors import BadInput
from xaikit.methods.base import METHODS, InputMethod, LayerMethod, attribute_all
from xaikit.run.context import Context

pytestmark = pytest.mark.usefixtures("kept_regions")

NAMES = METHODS.names()


@pytest.mark.parametrize("name", NAMES)
def test_facts_are_declared(name: str) -> None:
    kind = METHODS.get(name)
    assert kind.name == name
    assert kind.family in ("activation", "attention", "gradient", "decomposition", "perturbation", "control")
    assert kind.source
    assert kind.__module__.rsplit(".", 1)[1] == name.replace("-", "_")
    cost = method(name, classifier(name)).cost((224, 224))
    assert cost.forwards >= 1
    assert ("gradient" in " ".join(kind.needs)) == (cost.backwards > 0)


@pytest.mark.parametrize("name", NAMES)
def test_the_module_opens_with_formula_shapes_and_source(name: str) -> None:
    text = __import__("importlib").import_module(METHODS.get(name).__module__).__doc__
    assert text is not None
    for word in ("\n    ", "Shapes:", "Source:"):
        assert word in text


@pytest.mark.parametrize("name", marked(NAMES))
def test_shapes_and_finite(name: str) -> None:
    clf = classifier(name)
    x = images(3)
    found = method(name, clf).attribute(x)
    assert found.values.shape[0] == 3
    assert found.values.ndim == 3
    assert found.values.isfinite().all()
    if issubclass(METHODS.get(name), InputMethod):
        assert found.values.shape == (3, 8, 8)
    heatmap = found.heatmap()
    assert heatmap.shape == (3, 8, 8)
    assert 0 <= float(heatmap.min()) <= float(heatmap.max()) <= 1
    assert found.heatmap((20, 30)).shape == (3, 20, 30)
    assert found.target.dtype == torch.int64
    assert torch.equal(found.target, clf(x).argmax(1))
    assert torch.allclose(found.scores, clf(x).amax(1).detach())
    assert torch.allclose(found.probabilities, clf.probabilities(x).amax(1).detach())
    assert not found.values.requires_grad
    if not METHODS.get(name).signed:
        assert float(found.values.min()) >= 0
    if issubclass(METHODS.get(name), LayerMethod):
        assert found.layer
    if issubclass(METHODS.get(name), InputMethod):
        assert method(name, clf, channels=True).attribute(x).values.ndim in (3, 4)


@pytest.mark.parametrize("name", marked(NAMES))
def test_same_seed_same_map_and_batch_equals_singles(name: str) -> None:
    clf = classifier(name)
    x = images(3)
    one = method(name, clf)
    batch = one.attribute(x)
    assert torch.equal(batch.values, one.attribute(x).values)
    span = float(batch.values.max() - batch.values.min())
    for i in range(3):
        assert torch.allclose(one.attribute(x[i : i + 1]).values[0], batch.values[i], atol=1e-4 * span)
    for size in (1, 2):
        assert torch.allclose(one.attribute(x, chunk_size=size).values, batch.values, atol=1e-4 * span)
    order = torch.tensor([2, 0, 1])
    assert torch.allclose(one.attribute(x[order]).values, batch.values[order], atol=1e-4 * span)


@pytest.mark.parametrize("name", NAMES)
def test_another_target_changes_only_its_image(name: str) -> None:
    clf = classifier(name)
    x = images(3)
    first = method(name, clf).attribute(x, [0, 1, 0])
    second = method(name, clf).attribute(x, [3, 1, 3])
    assert torch.equal(first.values[1], second.values[1])
    assert torch.equal(first.values[::2], second.values[::2]) != METHODS.get(name).class_specific


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_batch_gives_an_empty_attribution(name: str) -> None:
    found = method(name, classifier(name)).attribute(images(3)[:0])
    assert len(found) == 0
    assert found.heatmap().shape == (0, 8, 8)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.slow
def test_nothing_is_left_behind(name: str) -> None:
    """Whether the network runs through or fails in its first, second or fifth forward."""
    for left in (None, 0, 1, 4):
        body = network(name)
        whole = Failing(nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5), body))
        clf = bound(whole)
        whole.train()
        first, second, *_, last = (part for part in body.modules() if isinstance(part, nn.Conv2d | nn.Linear))
        first.eval()
        last.weight.requires_grad_(False)
        second.weight.grad = torch.ones_like(second.weight)
        clf.outline()
        passes = 2 * method(name, clf).cost((8, 8)).forwards
        with unchanged(whole):
            whole.left = left
            if left is None or left >= passes:
                method(name, clf).attribute(images(2))
            else:
                with pytest.raises(RuntimeError, match="stumbled"):
                    method(name, clf).attribute(images(2), chunk_size=1)
            whole.left = None


@contextmanager
def unchanged(network: nn.Module) -> Iterator[None]:
    """Assert that a block leaves a network and the global random states as they were."""
    state = {name: value.clone() for name, value in network.state_dict().items()}
    training = [module.training for module in network.modules()]
    required = [parameter.requires_grad for parameter in network.parameters()]
    gradients = [parameter.grad for parameter in network.parameters()]
    modules = list(network.modules())
    attributes = [set(vars(module)) for module in modules]
    random_states = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    yield
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert training == [module.training for module in network.modules()]
    assert required == [parameter.requires_grad for parameter in network.parameters()]
    assert all(now is before for now, before in zip([p.grad for p in network.parameters()], gradients, strict=True))
    assert modules == list(network.modules())
    assert attributes == [set(vars(module)) for module in modules]
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    assert not any(getattr(module, kind) for module in modules for kind in hooks)
    assert torch.equal(torch.get_rng_state(), random_states[0])
    assert all(map(np.array_equal, np.random.get_state(), random_states[1]))  # noqa: NPY002
    assert random.getstate() == random_states[2]


def test_methods_on_one_batch_share_forward_and_backward() -> None:
    clf = bound(GAPNet())
    names = ["cam", "center", "hires-cam", "grad-cam", "ones"]
    context = Context()
    together = attribute_all([method(name, clf) for name in names], images(4), None, context)
    assert (context.counters.forwards, context.counters.backwards) == (4, 4)
    for name, found in zip(names, together, strict=True):
        assert found.method == name
        assert torch.equal(found.values, method(name, clf).attribute(images(4)).values)


def test_unknown_parameters_and_layers_are_refused_with_near_names() -> None:
    clf = bound(GAPNet())
    with pytest.raises(BadInput, match="unknown parameter of occlusion 'windw'; did you mean window"):
        METHODS.get("occlusion").build(clf, windw=3)
    with pytest.raises(BadInput, match="saliency works on the input"):
        METHODS.get("saliency").build(clf, layer="conv1")
    for name, params in {
        "occlusion": [{"window": 0}, {"stride": 0}, {"fill": "grey"}, {"score": "loss"}],
        "integrated-gradients": [{"steps": 0}, {"baseline": "grey"}],
        "libra-cam": [{"calibrate": "best"}, {"order": "last"}, {"references": 0}, {"library": 5}],
        "random-grid": [{"grid": 0}],
    }.items():
        for wrong in params:
            with pytest.raises(BadInput, match=r"expected .*, got .*"):
                METHODS.get(name).build(clf, **wrong)
    with pytest.raises(BadInput, match="uncovered"):
        METHODS.get("occlusion").build(clf, window=2, stride=3).attribute(images(1))


def test_parameters_of_another_type_are_refused() -> None:
    clf = bound(GAPNet())
    for name, params in {
        "integrated-gradients": [{"steps": 2.5}, {"baseline": np.zeros(3)}],
        "occlusion": [{"window": (4, 4)}, {"stride": "wide"}],
        "saliency": [{"channels": "perhaps"}],
        "libra-cam": [{"references": 2.5}, {"library": 5}],
        "layer-cam": [{"gamma": "x"}, {"shallower": 5}],
    }.items():
        for wrong in params:
            with pytest.raises(BadInput, match=rf"{name}: {next(iter(wrong))}: expected .*, got "):
                METHODS.get(name).build(clf, **wrong)
    assert METHODS.get("occlusion").build(clf, window="4").params["window"] == 4


def test_a_network_that_cuts_its_own_graph_is_refused_where_gradients_are_needed() -> None:
    clf = bound(GraphlessNet())
    for name in ("saliency", "integrated-gradients", "full-grad"):
        with pytest.raises(BadInput, match="expected a score with a gradient"):
            method(name, clf).attribute(images(1))
    assert float(method("grad-cam", clf).attribute(images(2)).values.max()) > 0


@pytest.mark.parametrize("name", NAMES)
def test_no_tensor_is_made_on_the_default_device(name: str) -> None:
    one, pixels = method(name, classifier(name)), images(2)
    one.attribute(pixels, 1)
    with NamedDevices():
        one.attribute(pixels, 1)


@pytest.mark.parametrize("name", ["saliency", "integrated-gradients", "full-grad", "guided-backprop"])
def test_a_forward_that_overwrites_what_its_backward_needs_is_told_in_one_line(name: str) -> None:
    with pytest.raises(BadInput, match=r"got one that overwrites .*; write x = x \+ y in place of x \+= y") as caught:
        method(name, bound(InPlaceSum())).attribute(images(), 1)
    assert "\n" not in str(caught.value)
