"""A gradient of zero is returned where it is the derivative, and refused where autograd cannot see the derivative."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.methods.small import method
from tests.networks import Activated, GAPNet, bound, images, seeded
from tests.networks.disguised import Checkpointed, OwnRelu
from xaikit.foundation.errors import BadInput
from xaikit.methods.base import METHODS
from xaikit.model.classifier import Classifier
from xaikit.run.gradients import departs, gradients

BY_GRADIENT = [
    "saliency",
    "input-x-gradient",
    "integrated-gradients",
    "smooth-grad",
    "grad-cam",
    "hires-cam",
    "layer-cam",
]
BY_GRADIENT += ["full-grad", "guided-backprop", "deconvolution", "lrp", "deep-lift", "meaningful-perturbation"]


def layered(name: str, clf: Classifier) -> dict[str, str]:
    return {"layer": "conv1"} if name.endswith("-cam") else {}


def by_numpy(x: Tensor) -> Tensor:
    return torch.from_numpy(np.maximum(x.detach().numpy(), 0))


def by_numpy_undetached(x: Tensor) -> Tensor:
    return torch.from_numpy(np.maximum(x.numpy(), 0))


@torch.no_grad()
def without_graph(x: Tensor) -> Tensor:
    return F.relu(x)


def one_hot(x: Tensor) -> Tensor:
    return F.one_hot(x.argmax(1), x.shape[1]).permute(0, 3, 1, 2).to(x.dtype)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("name", BY_GRADIENT)
@pytest.mark.parametrize(
    "inside",
    [
        lambda x: F.relu(x.detach()),
        lambda x: (F.relu(x) * 16).round() / 16,
        lambda x: F.relu(x).mul(16).floor().div(16),
        lambda x: torch.sign(x),
        lambda x: (x > 0).to(x.dtype),
        one_hot,
        by_numpy,
        by_numpy_undetached,
        without_graph,
    ],
    ids=["detach", "round", "floor", "sign", "step", "argmax", "numpy", "numpy of a graph", "no_grad"],
)
@pytest.mark.slow
def test_a_cut_in_the_middle_is_refused_in_one_line(inside: Callable[[Tensor], Tensor], name: str, count: int) -> None:
    clf = bound(Activated(F.relu, inside))
    with torch.no_grad():
        assert float((clf(images(count)) - clf(images(count, seed=2))).abs().max()) > 1e-4
    with pytest.raises(BadInput) as told:
        method(name, clf, **layered(name, clf)).attribute(images(count), 1)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["occlusion", "rise", "score-cam"])
def test_perturbation_explains_a_network_with_a_cut(name: str) -> None:
    clf = bound(Activated(F.relu, lambda x: (F.relu(x) * 64).round() / 64))
    assert bool(method(name, clf, **layered(name, clf)).attribute(images(2), 1).values.any())


@pytest.mark.parametrize("name", ["saliency", "grad-cam", "hires-cam", "integrated-gradients", "smooth-grad", "lrp"])
def test_a_quantised_network_is_refused(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = torch.ao.quantization.quantize_dynamic(seeded(GAPNet, torch.float32).eval(), {nn.Linear})
        clf = Classifier(net, size=8, layer="conv2")
        with pytest.raises(BadInput):
            METHODS.get(name)(clf).attribute(images(2).float(), 1)
        assert bool(method("occlusion", clf).attribute(images(2).float(), 1).values.any())


@pytest.mark.parametrize("name", ["saliency", "grad-cam", "hires-cam", "integrated-gradients", "full-grad"])
def test_dead_relus_have_a_gradient_of_zero(name: str) -> None:
    """At black every ReLU is off, but not elsewhere: zero is the derivative."""
    clf = bound(Activated(F.relu, F.relu))
    with torch.no_grad():
        clf.network.conv1.bias.zero_()
        clf.network.conv2.bias.zero_()
    dark = torch.zeros(1, 3, 8, 8, dtype=torch.float64)
    place = dark.clone().requires_grad_(True)
    assert not torch.autograd.grad(clf(place)[0, 1], place)[0].any()
    params = {"baseline": "black"} if name == "integrated-gradients" else {}
    found = method(name, clf, **layered(name, clf), **params).attribute(dark, 1)
    assert not found.values.any()
    assert "constant" in found.flags[0]


def test_a_constant_network_and_a_layer_without_influence_have_a_gradient_of_zero() -> None:
    clf = bound(GAPNet())
    with torch.no_grad():
        clf.network.fc.weight.zero_()
    for name in ("saliency", "hires-cam"):
        assert METHODS.get(name)(clf).attribute(images(2), 1).flags == [{"constant"}] * 2

    class Side(GAPNet):
        def forward(self, x: Tensor) -> Tensor:
            return self.fc(F.relu(self.conv2(F.relu(self.conv1(x)))).mean((2, 3))) + 0 * self.relu(x).sum()

    found = METHODS.get("hires-cam")(bound(Side()), layer="relu").attribute(images(2), 1)
    assert found.flags == [{"constant"}] * 2


def test_a_layer_that_is_detached_behind_is_refused_though_the_score_has_a_gradient() -> None:
    class Cut(GAPNet):
        def forward(self, x: Tensor) -> Tensor:
            first = F.relu(self.conv1(x))
            return self.fc(self.relu(self.conv2(first)).detach().mean((2, 3)) + first.mean((2, 3))[:, :5])

    clf = Classifier(seeded(Cut), size=8)
    for name in ("hires-cam", "grad-cam"):
        with pytest.raises(BadInput, match="gradient of the score by layer conv2, got zero for 2 of 2 images, though"):
            METHODS.get(name)(clf, layer="conv2").attribute(images(2), 1)


def test_a_layer_beside_the_score_is_refused() -> None:
    class Beside(GAPNet):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            first = F.relu(self.conv1(x))
            return self.fc(first.mean((2, 3))[:, :5]), self.relu(self.conv2(first))

    clf = Classifier(seeded(Beside), size=8, layer="conv1")
    for name in ("hires-cam", "layer-cam"):
        with pytest.raises(BadInput, match="expected a score that depends on layer relu, got one that does not"):
            METHODS.get(name)(clf, layer="relu").attribute(images(2), 1)


def test_gradients_equal_autograd_and_leave_no_trace() -> None:
    leaf = torch.rand(3, 4, dtype=torch.float64, requires_grad=True)
    other = torch.ones(4, dtype=torch.float64, requires_grad=True)
    other.grad = torch.full((4,), 7.0, dtype=torch.float64)
    middle = leaf.sin() * other
    score = middle.square().sum(1)
    found = gradients(score, [leaf, middle])
    score = (middle := leaf.sin() * other).square().sum(1)
    expected = torch.autograd.grad(score.sum(), [leaf, middle])
    assert all(torch.equal(first, second) for first, second in zip(found, expected, strict=True))
    assert leaf.grad is None
    assert torch.equal(other.grad, torch.full((4,), 7.0, dtype=torch.float64))
    apart = torch.rand(2, requires_grad=True)
    assert gradients(leaf.sum(1), [apart]) == [None]


class Bright(Activated):
    """Another second activation for bright images."""

    def __init__(self, inside: Callable[[Tensor], Tensor]) -> None:
        super().__init__(F.relu)
        self.inside = inside

    def forward(self, x: Tensor) -> Tensor:
        bright = (x.mean((1, 2, 3)) > 5)[:, None, None, None]
        features = self.conv2(F.relu(self.conv1(x)))
        return self.fc(torch.where(bright, self.inside(features), F.relu(features)).mean((2, 3)))


BY_CHANCE: dict[str, Callable[[Tensor], Tensor]] = {
    "detached": lambda x: F.relu(x.detach()),
    "rounded": lambda x: (F.relu(x) * 64).round() / 64,
    "one hot": one_hot,
    "by numpy": by_numpy,
    "without a graph": without_graph,
}


@pytest.mark.parametrize("order", [(0, 1), (1, 0, 0)])
@pytest.mark.parametrize(
    "name", ["saliency", "grad-cam", "integrated-gradients", "smooth-grad", "guided-backprop", "expected-gradients"]
)
@pytest.mark.parametrize("inside", list(BY_CHANCE))
def test_an_image_without_a_gradient_is_refused_beside_others_as_alone(
    inside: str, name: str, order: tuple[int, ...]
) -> None:
    clf, both = bound(Bright(BY_CHANCE[inside])), [images(1), images(1) + 9]
    few: dict[str, dict[str, Any]] = {
        "smooth-grad": {"samples": 2, "level": 1e-6},
        "integrated-gradients": {"steps": 4},
        "expected-gradients": {"samples": 4},
    }
    options = few.get(name, layered(name, clf))
    one = METHODS.get(name).build(clf, **options)
    assert bool(one.attribute(both[0], 1).values.any())
    with pytest.raises(BadInput, match=r"expected a .*gradient"):
        one.attribute(both[1], 1)
    with pytest.raises(BadInput, match=r"expected a .*gradient"):
        one.attribute(torch.cat([both[index] for index in order]), 1)


@pytest.mark.parametrize("name", ["saliency", "grad-cam", "input-x-gradient", "guided-backprop"])
def test_a_dead_image_has_a_map_of_zeros_alone_and_beside_others(name: str) -> None:
    clf = bound(Activated(F.relu))
    with torch.no_grad():
        clf.network.conv1.weight.abs_()
        clf.network.conv1.bias.fill_(-0.3)
    live, dead = images(1), torch.zeros(1, 3, 8, 8, dtype=torch.float64)
    dead[:, :, 2, 2] = 0.01
    one = METHODS.get(name).build(clf, **layered(name, clf))
    alone = [one.attribute(x, 1).values for x in (live, dead)]
    assert bool(alone[0].any())
    assert not bool(alone[1].any())
    assert torch.allclose(one.attribute(torch.cat([live, dead]), 1).values, torch.cat(alone), rtol=1e-12)


# ---- backwards that are not the derivative --------------------------------------------------------------------------


def with_backward(change: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return the identity as an autograd.Function whose backward changes the gradient."""

    class Custom(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            return change(gradient)

    return Custom.apply


def hooked(change: Callable[[Tensor], Tensor | None]) -> Callable[[Tensor], Tensor]:
    def function(x: Tensor) -> Tensor:
        if x.requires_grad:
            x.register_hook(change)
        return F.relu(x)

    return function


def hooked_node(change: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def function(x: Tensor) -> Tensor:
        x = F.relu(x)
        if x.grad_fn is not None:
            x.grad_fn.register_hook(lambda inputs, outputs: (change(inputs[0]),))
        return x

    return function


def module_hooked(change: Callable[[Tensor], Tensor | None], pre: bool = False) -> nn.Module:
    module = nn.ReLU()

    def hook(module: nn.Module, gradients: Any, outputs: Any = None) -> Any:
        changed = change(gradients[0])
        return None if changed is None else (changed,)

    (module.register_full_backward_pre_hook if pre else module.register_full_backward_hook)(hook)
    return module


def old_hooked(change: Callable[[Tensor], Tensor]) -> nn.Module:
    module = nn.ReLU()
    module.register_backward_hook(lambda module, inputs, outputs: (change(inputs[0]),))
    return module


def quantised(x: Tensor) -> Tensor:
    return torch.fake_quantize_per_tensor_affine(x.float(), 0.5, 0, -8, 7).to(x.dtype)


WRONG: dict[str, Callable[[], Callable[[Tensor], Tensor]]] = {
    "reversed": lambda: with_backward(torch.neg),
    "scaled": lambda: with_backward(lambda g: 0.3 * g),
    "guided": lambda: with_backward(lambda g: g.clamp(min=0)),
    "stopped": lambda: lambda x: F.relu(x) + with_backward(torch.zeros_like)(x.square()),
    "hook that clips": lambda: hooked(lambda g: g.clamp(-1e-4, 1e-4)),
    "hook that doubles": lambda: hooked(lambda g: 2 * g),
    "hook on the node": lambda: hooked_node(torch.neg),
    "hook of a module": lambda: module_hooked(lambda g: g.clamp(min=0)),
    "hook before a module": lambda: module_hooked(lambda g: 3 * g, pre=True),
    "old hook of a module": lambda: old_hooked(torch.neg),
    "fake quantisation": lambda: lambda x: F.relu(x) + 4 * quantised(x),
}
RIGHT: dict[str, Callable[[], Callable[[Tensor], Tensor]]] = {
    "own function": lambda: OwnRelu.apply,
    "identity by function": lambda: with_backward(lambda g: g),
    "hook that looks": lambda: hooked(lambda g: None),
    "hook of a module that looks": lambda: module_hooked(lambda g: None),
}


@pytest.mark.filterwarnings("ignore:Using a non-full backward hook", "ignore:Full backward hook")
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("form", [*WRONG, *RIGHT])
@pytest.mark.slow
def test_a_backward_that_is_not_the_derivative_is_flagged(form: str, count: int) -> None:
    for dtype in (torch.float64, torch.float32):
        clf = Classifier(seeded(lambda: Activated({**WRONG, **RIGHT}[form]()), dtype), size=8)
        for name in ("saliency", "integrated-gradients", "hires-cam", "grad-cam"):
            found = method(name, clf, **layered(name, clf)).attribute(images(count, dtype=dtype), 1)
            assert ["gradient-not-derivative" in flags for flags in found.flags] == [form in WRONG] * count
        found = METHODS.get("occlusion")(clf).attribute(images(count, dtype=dtype), 1)
        assert found.flags == [set()] * count


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpoint_gives_the_derivative(reentrant: bool) -> None:
    clf = Classifier(seeded(lambda: Checkpointed(reentrant)).double(), size=8)
    for name in ("saliency", "hires-cam"):
        assert method(name, clf).attribute(images(2), 1).flags == [set()] * 2


@pytest.mark.parametrize("name", ["lrp", "rap", "contrastive-lrp", "excitation-backprop"])
def test_a_hook_on_gradients_does_not_act_on_relevance(name: str) -> None:
    plain, clf = bound(Activated(F.relu)), bound(Activated(hooked(torch.zeros_like)))
    expected, found = (METHODS.get(name)(one).attribute(images(2), 1) for one in (plain, clf))
    assert torch.allclose(found.values, expected.values, rtol=0, atol=1e-12)
    assert found.flags == expected.flags


def test_finite_differences_tell_a_derivative_at_kinks_and_in_any_unit() -> None:
    weights = torch.randn(40, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for dtype in (torch.float64, torch.float32):
        for unit in (1e-6, 1.0, 1e6):
            x = torch.linspace(-1, 1, 36, dtype=dtype).reshape(3, 12) * unit

            def score(x: Tensor) -> Tensor:
                return torch.relu(x @ weights.to(x).T).sum(1)

            place = x.clone().requires_grad_(True)
            (true,) = torch.autograd.grad(score(place).sum(), place)
            rounding = torch.finfo(dtype).eps
            assert not departs(true, x, score, rounding).any()
            assert departs(-true, x, score, rounding).all()
            assert departs(torch.zeros_like(true), x, score, rounding).all()
            mixed = torch.stack([true[0], 2 * true[1], true[2]])
            assert departs(mixed, x, score, rounding).tolist() == [False, True, False]
            flat = torch.zeros_like(true)
            assert not departs(flat, x, lambda x: x.new_ones(len(x)), rounding).any()


class Factored(nn.Module):
    """Convolution, pooling and a factor, after which float16 gradients underflow, or overflow if they are scaled."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.conv, self.head, self.factor = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 3), factor

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).relu().mean((2, 3))) * self.factor


@pytest.mark.parametrize("factor", [3e-4, 30.0, pytest.param(3000.0, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["saliency", "guided-backprop", "grad-cam", "deep-lift"])
def test_float16_gradients_are_those_of_float64(name: str, factor: float) -> None:
    half = seeded(lambda: Factored(factor), torch.float16).eval()
    pixels = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    found, expected = (
        METHODS.get(name)
        .build(Classifier(network, mean=0.5, std=0.25), layer="conv" if name == "grad-cam" else None)
        .attribute(pixels, 0)
        for network in (half, copy.deepcopy(half).double())
    )
    assert not any(found.flags)
    scale = expected.values.abs().amax((1, 2), keepdim=True)
    torch.testing.assert_close(found.values.double() / scale, expected.values / scale, rtol=0, atol=0.02)
