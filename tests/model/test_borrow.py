"""A borrowed network comes back as it was."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

import xaikit
from tests import networks
from tests.run.methods import Activation
from xaikit.foundation.errors import XaikitWarning
from xaikit.methods.base import attribute_all
from xaikit.model.borrow import borrowing, unwrapped
from xaikit.model.classifier import Classifier
from xaikit.run.context import Context


def state(network: nn.Module):
    return {
        "training": [module.training for module in network.modules()],
        "required": [parameter.requires_grad for parameter in network.parameters()],
        "gradients": [id(parameter.grad) for parameter in network.parameters()],
        "gradient values": [None if p.grad is None else p.grad.clone() for p in network.parameters()],
        "identity": [id(one) for one in (*network.parameters(), *network.buffers())],
        "values": [one.detach().clone() for one in network.state_dict().values()],
        "strides": [one.stride() for one in network.state_dict().values()],
        "dtypes": [(one.dtype, one.device) for one in network.state_dict().values()],
        "hooks": [
            (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in network.modules()
        ],
        "attributes": [sorted(vars(module)) for module in network.modules()],
        "torch": torch.get_rng_state(),
        "numpy": [*np.random.get_state()[1:3]],  # noqa: NPY002 - the user's own state: words, and the next one's place
        "python": hash(random.getstate()),
    }


def same(one, other) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    if isinstance(one, list):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return one == other


def changed(before, after) -> list[str]:
    return [name for name in before if not same(before[name], after[name])]


def mixed() -> nn.Module:
    """Train and eval modules, frozen and free weights, with and without gradients."""
    network = networks.seeded(networks.Stochastic, torch.float32)
    network.norm.eval()
    network.conv1.weight.requires_grad_(False)
    network.conv2.weight.grad = torch.full_like(network.conv2.weight, 3)
    return network


def disturb(network: nn.Module) -> None:
    """Do what a careless method or network would do."""
    torch.rand(3)
    np.random.rand(3)  # noqa: NPY002 - on purpose
    random.random()
    network.norm.running_mean += 1
    network.norm.num_batches_tracked.data.add_(1)
    network.norm.running_var = network.norm.running_var * 2
    network.head.bias.grad = torch.ones(networks.CLASSES)
    network.dropout.train()


@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_everything_is_given_back(error):
    network = mixed()
    classifier = Classifier(network, memory_format=None)
    before = state(network)
    try:
        with classifier.borrowed() as lent:
            assert lent is network
            assert not any(module.training for module in network.modules())
            assert not any(parameter.requires_grad for parameter in network.parameters())
            disturb(network)
            assert {"torch", "numpy", "python", "values", "identity", "gradients"} <= set(
                changed(before, state(network))
            )
            if error is not None:
                raise error
    except (RuntimeError, KeyboardInterrupt):
        assert error is not None
    assert changed(before, state(network)) == []


def test_nested_gives_back_once_at_the_end():
    network = mixed()
    classifier = Classifier(network, memory_format=None)
    before = state(network)
    with classifier.borrowed():
        with pytest.raises(ValueError, match="inside"), classifier.borrowed():
            raise ValueError("inside")
        assert not any(module.training for module in network.modules())
        disturb(network)
    assert changed(before, state(network)) == []
    with classifier.borrowed():
        assert not network.training


def test_an_untouched_buffer_is_not_written():
    """A write would make a graph of the user's, which keeps the buffer, unusable."""
    network = networks.seeded(networks.Stochastic, torch.float32).eval()
    loss = network(networks.images(dtype=torch.float32)).sum()
    with Classifier(network, memory_format=None).borrowed():
        network(networks.images(dtype=torch.float32))
    loss.backward()
    assert network.conv1.weight.grad is not None


def test_modes_inside_and_after():
    classifier = Classifier(networks.Net())
    with torch.inference_mode():
        with classifier.borrowed():
            assert torch.is_grad_enabled()
            assert not torch.is_inference_mode_enabled()
        assert torch.is_inference_mode_enabled()
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("memory_format", [torch.channels_last, None])
def test_construction_and_the_first_forward_change_nothing(memory_format):
    network, images = mixed(), torch.rand(2, 3, 8, 8)
    before = state(network)
    classifier = Classifier(network, memory_format=memory_format)
    classifier.outline()
    with classifier.borrowed():
        classifier(images)
    assert changed(before, state(network)) == []


def test_unwrapped_finds_the_module_inside():
    network = networks.Net()
    assert unwrapped(nn.DataParallel(network)) is network
    compiled = nn.Module()
    compiled._orig_mod = nn.DataParallel(network)
    assert unwrapped(compiled) is network


def test_threads_take_turns():
    classifier = Classifier(networks.seeded(networks.Net, torch.float32))
    images = networks.images(8, dtype=torch.float32)
    alone = [attribute_all([Activation(classifier, "conv2")], one[None], 1, Context())[0].values for one in images]

    def explained(place):
        torch.set_num_threads(1)
        return attribute_all([Activation(classifier, "conv2")], images[place : place + 1], 1, Context())[0].values

    with ThreadPoolExecutor(4) as threads:
        for _ in range(5):
            assert all(map(torch.equal, threads.map(explained, range(len(images))), alone))


def test_one_lock_a_network_however_it_is_wrapped():
    network = networks.seeded(networks.Net, torch.float32)
    assert borrowing(network) is borrowing(nn.DataParallel(network))
    assert borrowing(network) is not borrowing(networks.seeded(networks.Net, torch.float32))


@pytest.mark.parametrize("name", ["conv1.weight", "head.bias"])
def test_what_cannot_be_given_back_stops_nothing_else(name):
    """A parameter that became an inference tensor cannot require a gradient again."""
    network = mixed()
    network.conv1.weight.requires_grad_(True)
    before = state(network)
    borrowed = Classifier(network, memory_format=None).borrowed()
    borrowed.__enter__()
    disturb(network)
    with torch.inference_mode():
        network.get_parameter(name).data = network.get_parameter(name).data.clone()
    with pytest.raises(RuntimeError, match="inference"):
        borrowed.__exit__(None, None, None)
    assert changed(before, state(network)) == ["required"]
    lost = [one for one, parameter in network.named_parameters() if not parameter.requires_grad]
    assert lost == [name]


class Scaled(nn.DataParallel):
    def forward(self, x):
        return super().forward(x) * torch.tensor([1.0, -1.0, 2.0, 1.0, 1.0, 1.0], dtype=x.dtype)[: networks.CLASSES]


class Called(nn.DataParallel):
    def __call__(self, x):
        return -super().__call__(x)


class Named(nn.DataParallel):
    """Hands on the attributes of the network, as many do."""

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.module, name)


def hooked(network: nn.Module) -> nn.Module:
    wrapper = nn.DataParallel(network)
    wrapper.register_forward_hook(lambda module, inputs, output: -output)
    return wrapper


def hooked_before(network: nn.Module) -> nn.Module:
    wrapper = nn.DataParallel(network)
    wrapper.register_forward_pre_hook(lambda module, inputs: (inputs[0] * 0.5,))
    return wrapper


def patched(network: nn.Module) -> nn.Module:
    wrapper = nn.DataParallel(network)
    wrapper.forward = lambda x: network(x) * 3
    return wrapper


def compiled(network: nn.Module) -> nn.Module:
    wrapper = torch.compile(network, backend="eager")
    wrapper.register_forward_hook(lambda module, inputs, output: -output)
    return wrapper


@pytest.mark.parametrize(
    "wrap", [Scaled, Called, hooked, hooked_before, patched, pytest.param(compiled, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("count", [1, 3])
def test_what_a_wrapper_does_itself_is_explained(wrap, count):
    network, pixels = networks.seeded(networks.Net).eval(), networks.images(count)
    wrapper = wrap(network)
    with torch.no_grad():
        right = wrapper(pixels)[:, 1]
    assert not torch.allclose(right, network(pixels)[:, 1])
    classifier = Classifier(wrapper, mean=0)
    assert classifier.module is wrapper
    assert borrowing(wrapper) is borrowing(network)
    for method in ("saliency", "grad-cam"):
        found = xaikit.attribute(classifier, pixels, 1, method)
        assert torch.allclose(found.scores, right, rtol=1e-12)
    x = pixels.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(wrapper(x)[:, 1].sum(), x)
    assert torch.allclose(xaikit.attribute(classifier, pixels, 1, "saliency", channels=True).values, gradient)


@pytest.mark.parametrize("wrap", [nn.DataParallel, Named, lambda net: torch.compile(net, backend="eager")])
def test_a_wrapper_that_only_runs_a_network_is_left_out(wrap):
    network = networks.seeded(networks.Net).eval()
    assert unwrapped(wrap(network)) is network
    assert unwrapped(nn.DataParallel(wrap(network))) is network


class Averaged(nn.Module):
    """Runs the average of its weights in eval mode, as its own `train()` decides."""

    def __init__(self) -> None:
        super().__init__()
        self.live, self.average = nn.Linear(48, 3), nn.Linear(48, 3)
        self.current = self.live

    def train(self, mode: bool = True) -> Averaged:
        super().train(mode)
        self.current = self.live if mode else self.average
        return self

    def forward(self, x):
        return self.current(x.flatten(1))


def test_a_network_in_training_mode_with_a_train_of_its_own_is_warned_of():
    network, x = Averaged().train(), torch.rand(1, 3, 4, 4)
    with pytest.warns(XaikitWarning, match="a train\\(\\) of its own in Averaged"):
        Classifier(network, mean=0.5).outline((4, 4))
    assert (network.training, network.current) == (True, network.live)
    network.eval()
    scores = xaikit.attribute(Classifier(network, mean=0.5), x, 0, "saliency").scores  # a warning fails the test
    assert torch.allclose(scores, network(x - 0.5)[:, 0])
