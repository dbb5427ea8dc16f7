"""The probe against plain autograd, exactly, in float64."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import xaikit
from tests import networks
from xaikit.foundation.errors import BadInput, NoSuchLayer
from xaikit.model.classifier import Classifier
from xaikit.model.hooks import Layer, Probe, parse_layer
from xaikit.model.torch_functions import RELUS
from xaikit.run.batch import Batch
from xaikit.run.context import Context

TARGET = 0


def ordinary(network: nn.Module, inputs, name: str, target: int = TARGET):
    """The layer's output and the score's gradient there, by an ordinary forward with its whole graph."""
    network = copy.deepcopy(network).eval().requires_grad_(True)
    place, _, call = name.partition(":")
    outputs = []

    def keep(module, args, output):
        outputs.append(output)
        return output.clone()

    unwrapped = network.module if isinstance(network, nn.DataParallel) else network
    unwrapped.get_submodule(place).register_forward_hook(keep)
    result = network(inputs)
    logits = result["logits"] if isinstance(result, dict) else getattr(result, "logits", result)
    logits = logits[0] if isinstance(logits, tuple) else logits
    output = outputs[int(call or 0)]
    score = logits[:, target] if logits.shape[1] > 1 else -logits[:, 0]
    return output.detach().clone(), torch.autograd.grad(score.sum(), output)[0]


def explained(classifier: Classifier, inputs, name: str):
    with classifier.borrowed():
        batch = Batch(classifier, inputs, TARGET, Context())
        return batch.activations_and_gradients(parse_layer(name))


@pytest.mark.parametrize("kind", [kind for kind in networks.CLASSIFIERS if kind != "own no_grad"])
def test_gradients_equal_plain_autograd(kind):
    build, layer = networks.CLASSIFIERS[kind]
    network, inputs = networks.seeded(build), networks.images()
    activation, gradient = explained(Classifier(network, memory_format=None), inputs, layer)
    expected_activation, expected_gradient = ordinary(network, inputs, layer)
    assert expected_gradient.abs().max() > 0
    assert torch.equal(activation, expected_activation)
    assert torch.equal(gradient, expected_gradient)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("kind", ["in place", "frozen", "residual inside", "train mode"])
def test_gradients_under_the_users_own_mode(kind, mode):
    build, layer = networks.CLASSIFIERS[kind]
    network = networks.seeded(build)
    expected = ordinary(network, networks.images(), layer)[1]
    classifier = Classifier(network, memory_format=None)
    with mode():
        inputs = classifier.check(networks.images())
        assert torch.equal(explained(classifier, inputs, layer)[1], expected)
        assert not torch.is_grad_enabled()


def test_gradients_of_a_network_that_switches_them_off_in_its_stem():
    network, inputs = networks.seeded(networks.FrozenStem), networks.images()
    for layer in ("conv1", "conv2"):
        expected = ordinary(networks.seeded(networks.Net), inputs, layer)
        found = explained(Classifier(network, memory_format=None), inputs, layer)
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[1], expected[1])


def test_bfloat16_gradients_come_in_float32():
    network, inputs = networks.seeded(networks.Net, torch.bfloat16), networks.images(dtype=torch.float32)
    activation, gradient = explained(Classifier(network, memory_format=None), inputs, "conv1")
    expected = ordinary(network, inputs.bfloat16(), "conv1")[1]
    assert activation.dtype == gradient.dtype == torch.float32
    assert torch.equal(gradient, expected.float())


def test_several_layers_at_once_equal_one_at_a_time():
    network, inputs = networks.seeded(networks.Residual).eval(), networks.images()
    with torch.no_grad(), Probe(network) as probe:
        taps = [probe.attach(Layer(name)) for name in ("conv1", "conv2", "conv3")]
        score = network(inputs)[:, TARGET].sum()
        found = torch.autograd.grad(score, [tap.activation for tap in taps])
    for gradient, name in zip(found, ("conv1", "conv2", "conv3"), strict=True):
        assert torch.equal(gradient, ordinary(network, inputs, name)[1])


def test_stem_has_no_graph_and_weights_no_gradients():
    network, inputs = networks.seeded(networks.Guarded), networks.images()
    with pytest.raises(AssertionError, match="differentiated"):
        torch.autograd.grad(network(inputs).sum(), network.conv1.weight)
    saved, classifier = [], Classifier(Guardless(), memory_format=None)
    classifier.outline(inputs.shape[2:])  # this one forward has a graph, to find the layers
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor) or tensor, lambda tensor: tensor):
        explained(classifier, inputs, "conv2")
    assert saved
    assert not any(tensor.shape[1:2] == (7,) for tensor in saved), "a tensor of the stem was kept for backward"
    explained(Classifier(network, memory_format=None), inputs, "conv2")
    assert all(parameter.grad is None for parameter in network.parameters())


class Guardless(nn.Module):
    """A stem of seven channels, so that its tensors are known by their shape."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 7, 3).double(), nn.Conv2d(7, 6, 3).double()

    def forward(self, x):
        return -(self.conv2(self.conv1(x).sigmoid() ** 2) ** 2).mean((2, 3))


def test_grad_mode_and_hooks_are_gone_after_the_block():
    network = networks.seeded(networks.Net).eval()
    torch.set_grad_enabled(False)
    try:
        with pytest.raises(ZeroDivisionError), Probe(network) as probe:  # noqa: PT012 - the block is what is left
            probe.attach(Layer("conv1"))
            network(networks.images())
            assert torch.is_grad_enabled()
            _ = 1 / 0
        assert not torch.is_grad_enabled()
    finally:
        torch.set_grad_enabled(True)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_a_probe_that_is_never_entered_leaves_no_hook():
    network = networks.Net()
    Probe(network)
    assert not network._forward_pre_hooks


def test_record_is_a_copy_from_before_an_in_place_relu():
    network, inputs = networks.seeded(networks.InPlace).eval(), networks.images()
    with torch.no_grad(), Probe(network) as probe:
        tap = probe.record(Layer("conv1"))
        network(inputs)
        assert torch.equal(tap.activation, F.conv2d(inputs, network.conv1.weight, network.conv1.bias, padding=1))


def test_a_probe_serves_several_forwards():
    network = networks.seeded(networks.Net).eval()
    with torch.no_grad(), Probe(network) as probe:
        tap = probe.record(Layer("conv1"))
        for seed in (1, 2):
            inputs = networks.images(seed=seed)
            network(inputs)
            assert torch.equal(tap.activation, F.conv2d(inputs, network.conv1.weight, network.conv1.bias, padding=1))


def test_follow_takes_the_functional_relu_of_a_layer():
    network, inputs = networks.seeded(networks.FunctionalInPlace).eval(), networks.images()
    layer = Layer("conv2", follow="relu")
    with torch.no_grad(), Probe(network) as probe:
        tap = probe.attach(layer)
        logits = network(inputs)
        (gradient,) = torch.autograd.grad(logits[:, TARGET].sum(), tap.activation)
    assert torch.equal(tap.activation, network.features(inputs))
    expected = network.head.weight[TARGET][None, :, None, None] / 64
    assert torch.allclose(gradient, expected.expand_as(gradient), rtol=0, atol=1e-15)


def test_grid_turns_tokens_into_maps():
    class Tokens(networks.Net):
        def __init__(self):
            super().__init__()
            self.token = nn.Identity()

        def features(self, x):
            tokens = self.token(super().features(x).flatten(2).transpose(1, 2))
            return tokens.transpose(1, 2).unflatten(2, (8, 8))

    network, inputs = networks.seeded(Tokens), networks.images()
    classifier = Classifier(network, size=8, memory_format=None)
    layer = classifier.resolve_layer("token")
    with classifier.borrowed():
        batch = Batch(classifier, inputs, TARGET, Context())
        activation, gradient = batch.activations_and_gradients(layer)
        recorded = Batch(classifier, inputs, TARGET, Context()).activations(layer)
    assert activation.shape == gradient.shape == (3, 6, 8, 8)
    assert torch.equal(activation, network.features(inputs))
    assert torch.equal(recorded, activation)
    with pytest.raises(BadInput, match="expected activations"), classifier.borrowed():
        Batch(classifier, inputs, TARGET, Context()).activations_and_gradients(Layer("token"))


@pytest.mark.parametrize(
    ("build", "name"), [(networks.Net, "conv2"), (networks.Residual, "conv2"), (networks.InPlace, "relu1")]
)
def test_tail_with_an_expanded_batch_equals_full_runs(build, name):
    network, image = networks.seeded(build).eval(), networks.images(1)
    factors = torch.linspace(0, 2, 5, dtype=torch.float64)[:, None, None, None]
    with torch.no_grad(), Probe(network) as probe:
        tap = probe.replace(Layer(name), lambda output: output * factors)
        expanded = network(image)
        assert tap.activation.shape[0] == 5
    full = []
    for factor in factors:
        with torch.no_grad(), Probe(network) as probe:
            probe.replace(Layer(name), lambda output, factor=factor: output * factor)
            full.append(network(image))
    assert expanded.std(0).max() > 0
    assert torch.allclose(expanded, torch.cat(full), rtol=0, atol=1e-14)


class _Guided(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp_min(0)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient.clamp_min(0) * (x > 0)


@pytest.mark.parametrize(
    "build",
    [
        networks.Net,
        networks.InPlace,
        networks.Reused,
        networks.Functional,
        networks.FunctionalInPlace,
        networks.Statement,
    ],
)
def test_guided_relu_by_hand(build):
    network, inputs = networks.seeded(build).eval().requires_grad_(False), networks.images().requires_grad_(True)
    with Probe(network) as probe:
        probe.rule(RELUS, lambda function, args, kwargs: _Guided.apply(args[0]))
        logits = network(inputs)
        (found,) = torch.autograd.grad(logits[:, TARGET].sum(), inputs)
    assert torch.equal(logits, network(inputs.detach()))

    first = F.conv2d(inputs.detach(), network.conv1.weight, network.conv1.bias, padding=1)
    second = F.conv2d(first.clamp_min(0), network.conv2.weight, network.conv2.bias, padding=1)
    back = (network.head.weight[TARGET][None, :, None, None] / 64).expand_as(second)
    back = back.clamp_min(0) * (second > 0)
    back = F.conv_transpose2d(back, network.conv2.weight, padding=1).clamp_min(0) * (first > 0)
    expected = F.conv_transpose2d(back, network.conv1.weight, padding=1)
    plain = torch.autograd.grad(network(inputs)[:, TARGET].sum(), inputs)[0]
    assert torch.allclose(found, expected, rtol=0, atol=1e-15)
    assert not torch.allclose(found, plain, atol=1e-6)


def test_reused_layer_needs_an_index():
    network = networks.seeded(networks.Reused).eval()
    with Probe(network) as probe:
        probe.attach(Layer("relu"))
        with pytest.raises(BadInput, match="several; choose a call as relu:0"):
            network(networks.images())


@pytest.mark.parametrize("layer", [Layer("unused"), Layer("relu", call=7)])
def test_layer_that_is_not_reached_is_refused(layer):
    network = networks.seeded(networks.Reused).eval()
    network.unused = nn.Conv2d(1, 1, 1)
    with torch.no_grad(), Probe(network) as probe:
        tap = probe.attach(layer)
        network(networks.images())
        with pytest.raises(BadInput, match="expected the forward to reach it"):
            _ = tap.activation


def test_unknown_layer_has_near_names():
    with pytest.raises(NoSuchLayer, match="did you mean conv1"), Probe(networks.Net()) as probe:
        probe.attach(Layer("conv_1"))


def test_layer_that_gives_no_tensor_is_refused():
    class Pair(nn.Module):
        def forward(self, x):
            return x, x

    network = nn.Sequential(Pair())
    with Probe(network) as probe:
        probe.record(Layer("0"))
        with pytest.raises(BadInput, match="got tuple; choose a layer inside it"):
            network(networks.images())


def test_layer_by_another_of_its_names():
    network = networks.seeded(networks.Net).eval()
    network.alias = network.conv1
    with torch.no_grad(), Probe(network) as probe:
        tap = probe.record(Layer("alias"))
        network(networks.images())
        assert tap.activation.shape[1] == 5


def test_parse_layer():
    assert parse_layer("layer4") == Layer("layer4")
    assert parse_layer("relu:2") == Layer("relu", 2)
    assert str(Layer("relu", 2)) == "relu:2"
    with pytest.raises(BadInput, match="CALL a number"):
        parse_layer("relu:last")


def test_a_reflected_operator_does_not_write():
    class Reflected(nn.Module):
        def forward(self, x):
            return (1 - x) + (2 / (x + 1)) + 2**x

    network, inputs = Reflected(), networks.images() + 0.5
    seen = []

    def rule(function, args, kwargs):
        seen.append(function.__name__)
        return function(*args, **kwargs)

    before = inputs.clone()
    with Probe(network) as probe:
        probe.rule({torch.Tensor.__rsub__, torch.Tensor.__rdiv__, torch.Tensor.__rpow__}, rule)
        found = network(inputs)
    assert seen == ["__rsub__", "__rdiv__", "__rpow__"]
    assert torch.equal(inputs, before)
    assert torch.equal(found, network(inputs))


def test_forwards_of_other_threads_are_left_alone():
    network, inputs = networks.seeded(networks.Net).eval(), networks.images()
    plain = network(inputs)
    with Probe(network) as probe:
        tap = probe.replace(Layer("conv2"), lambda output: 2 * output)
        changed = network(inputs)
        with ThreadPoolExecutor(1) as pool:
            elsewhere = pool.submit(network, inputs).result()
        assert tap.calls == 1
    assert torch.equal(elsewhere, plain)
    assert not torch.equal(changed, plain)


class PreActivation(nn.Module):
    """A functional ReLU in place of the tensor that the skip reads as well."""

    def __init__(self, rectify) -> None:
        super().__init__()
        self.conv1, self.conv2, self.fc = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 4)
        self.rectify = rectify

    def forward(self, x):
        kept, rectified = self.rectify(self.conv2(self.conv1(x).relu()))
        return self.fc((kept + rectified).mean((2, 3)))


def _as_statement(h):
    nn.functional.relu(h, inplace=True)
    return h, h


@pytest.mark.parametrize(
    "rectify",
    [
        lambda h: (h, nn.functional.relu(h, inplace=True)),
        lambda h: (h, nn.functional.relu(h, True)),
        lambda h: (h, nn.functional.relu(input=h, inplace=True)),
        lambda h: (h, nn.ReLU(True)(h)),
        lambda h: (h, h.relu_()),
        _as_statement,
    ],
)
@pytest.mark.parametrize(
    "method", ["hires-cam", "ablation-cam", "relevance-cam", "layer-excitation-backprop", "eigen-cam"]
)
def test_a_relu_in_place_that_is_the_layer_still_writes(method, rectify):
    def explained(how):
        torch.manual_seed(0)
        network = PreActivation(how).double()
        pixels = torch.rand(2, 3, 16, 16, dtype=torch.float64)
        return xaikit.attribute(Classifier(network), pixels, 0, method), network(pixels)[:, 0]

    found, logits = explained(rectify)
    expected, _ = explained(lambda h: (h.relu(),) * 2)
    assert torch.allclose(found.scores, logits)
    assert torch.allclose(found.values, expected.values, atol=1e-9)


@pytest.mark.parametrize("method", ["relevance-cam", "layer-excitation-backprop", "hires-cam", "ablation-cam"])
@pytest.mark.parametrize("layer", ["bn1", "bn2"])
def test_a_layer_that_is_overwritten_afterwards_is_read_as_it_was(method, layer):
    class Block(nn.Module):
        def __init__(self, inplace):
            super().__init__()
            self.stem, self.conv1, self.conv2 = (nn.Conv2d(a, 8, 3, padding=1) for a in (3, 8, 8))
            self.bn1, self.bn2, self.fc = nn.BatchNorm2d(8), nn.BatchNorm2d(8), nn.Linear(8, 4)
            self.relu, self.inplace = nn.ReLU(inplace), inplace

        def forward(self, x):
            x = self.relu(self.stem(x))
            out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
            if self.inplace:
                out += x
            else:
                out = out + x
            return self.fc(self.relu(out).mean((2, 3)))

    def explained(inplace):
        torch.manual_seed(0)
        network = Block(inplace).double().eval()
        torch.nn.init.uniform_(network.bn1.bias)
        pixels = torch.rand(2, 3, 16, 16, dtype=torch.float64)
        return xaikit.attribute(Classifier(network), pixels, 0, method, layer=layer).values

    assert torch.allclose(explained(True), explained(False), atol=1e-9)
