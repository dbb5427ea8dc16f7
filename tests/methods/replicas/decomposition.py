"""Decomposition methods, derived a second time: each map as a dense matrix, each rule as a sum over its entries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.methods.replicas import close, replicates
from tests.networks import DeepNet, GAPNet, LinearNet, bound, images
from xaikit.methods.base import METHODS
from xaikit.methods.decomposition.composites import POSITIVE
from xaikit.methods.decomposition.engine import Engine
from xaikit.model.classifier import Classifier
from xaikit.run.attribution import Attribution

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
COMPOSITES = {
    "zero": ("zero", "zero", ""),
    "epsilon": ("epsilon", "epsilon", ""),
    "z-plus": ("z-plus", "z-plus", ""),
    "alpha-beta": ("alpha-beta", "alpha-beta", ""),
    "gamma": ("gamma", "gamma", ""),
    "epsilon-plus": ("z-plus", "epsilon", ""),
    "epsilon-plus-flat": ("z-plus", "epsilon", "flat"),
    "epsilon-alpha2-beta1": ("alpha-beta", "epsilon", ""),
    "epsilon-alpha2-beta1-flat": ("alpha-beta", "epsilon", "flat"),
    "epsilon-gamma-box": ("gamma", "epsilon", "z-box"),
}
WALK = {"walk": ("walk", "walk", "")}


@dataclass
class Dense:
    """A map y = W x + b of flat inputs x (n, J), with what each entry of x can be."""

    kind: str
    weight: Tensor
    bias: Tensor
    inputs: Tensor
    low: Tensor | None = None
    high: Tensor | None = None


def as_matrix(function: nn.Module, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return the matrix and the bias of a module, from what it makes of one basis vector after the other."""
    size = int(torch.tensor(shape).prod())
    with torch.no_grad():
        bias = function(torch.zeros(1, *shape, dtype=torch.float64)).flatten()
        basis = torch.eye(size, dtype=torch.float64).reshape(size, *shape)
        return (function(basis).flatten(1) - bias).T, bias


def dense_maps(clf: Classifier, pixels: Tensor) -> list[Dense]:
    """Return the maps of a GAPNet or DeepNet in the order of the forward."""
    network, x = clf.network, clf.normalize(pixels)
    low, high = (clf.normalize(torch.full_like(pixels[:1], end)).flatten() for end in (0.0, 1.0))
    if isinstance(network, GAPNet):
        steps = [("convolution", network.conv1), ("convolution", network.conv2)]
        steps += [("pool", nn.AvgPool2d(4)), ("dense", nn.Sequential(nn.Flatten(), network.fc))]
    else:
        steps = [("convolution", network.features[0])]
        steps += [("dense", nn.Sequential(nn.Flatten(), network.head[0])), ("dense", network.head[2])]
    found = []
    for place, (kind, module) in enumerate(steps):
        weight, bias = as_matrix(module, tuple(x.shape[1:]))
        found.append(Dense(kind, weight, bias, x.flatten(1), low, high))
        with torch.no_grad():
            x = module(x)
        x = x.relu() if kind != "pool" and place + 1 < len(steps) else x
    return found


def shares(step: Dense, rule: str, relevance: Tensor, bias: str) -> Tensor:
    """Hand relevance (n, I) back through a map, entry by entry of its matrix."""
    weight, inputs = step.weight, step.inputs
    given = weight * inputs[:, None, :]
    offset = step.bias if bias == "absorb" else torch.zeros_like(step.bias)
    if rule in ("zero", "epsilon"):
        return divided(given, offset, relevance, 0.0 if rule == "zero" else 1e-6)
    if rule in ("z-plus", "walk"):
        return divided(given.clamp_min(0), offset.clamp_min(0), relevance, 0.0 if rule == "walk" else 1e-9)
    if rule == "alpha-beta":
        positive = divided(given.clamp_min(0), offset.clamp_min(0), relevance, 1e-9)
        return 2 * positive - divided(given.clamp_max(0), offset.clamp_max(0), relevance, 1e-9)
    if rule == "gamma":
        output = given.sum(2) + step.bias
        up = divided(given + 0.25 * given.clamp_min(0), offset + 0.25 * offset.clamp_min(0), relevance * (output > 0))
        down = divided(given + 0.25 * given.clamp_max(0), offset + 0.25 * offset.clamp_max(0), relevance * (output < 0))
        return up + down
    zero = torch.zeros_like(offset)
    if rule == "z-box":
        box = given - step.low * weight.clamp_min(0) - step.high * weight.clamp_max(0)
        return divided(box, zero, relevance)
    even = (weight != 0).double() if rule == "flat" else weight.square()
    return divided(even.expand_as(given), zero, relevance, 1e-9)


def divided(given: Tensor, offset: Tensor, relevance: Tensor, share: float = 1e-6) -> Tensor:
    total = given.sum(2) + offset
    steady = total + torch.where(total >= 0, 1, -1) * share * total.abs().mean(1, keepdim=True)
    ratios = torch.where(total[:, :, None] == 0, 0, given / torch.where(steady == 0, 1, steady)[:, :, None])
    return (ratios * relevance[:, :, None]).sum(1)


def carried(maps: list[Dense], composite: str, bias: str, start: Tensor, first: str = "") -> Tensor:
    """Hand a start vector (n, K) back to the image."""
    convolution, dense, own_first = (COMPOSITES | WALK)[composite]
    relevance = start
    for place, step in reversed(list(enumerate(maps))):
        rule = dense if step.kind == "dense" else convolution
        if place == 0 and (first or own_first):
            rule = first or own_first
        if step.kind == "pool":
            rule = composite if composite in ("zero", "walk") else "epsilon"
        relevance = shares(step, rule, relevance, bias)
    return relevance.reshape(-1, 3, 8, 8)


def balanced(found: Attribution, tolerance: float = 1e-9) -> None:
    """Assert that the books hold: what arrived and what was absorbed are what was promised."""
    assert found.completeness is not None
    absorbed = sum(amount for name, amount in found.diagnostics.items() if name.startswith("absorbed_"))
    promised = found.diagnostics["promised"]
    assert float((found.completeness + absorbed).abs().max()) <= tolerance * max(1.0, float(promised.abs().max()))
    assert not any("unbalanced" in flags for flags in found.flags)


def chosen(clf: Classifier, pixels: Tensor, index: Tensor) -> Tensor:
    return F.one_hot(index, 4) * clf(pixels).detach()


@replicates("lrp")
def _by_dense_matrices() -> None:
    index = torch.tensor([2, 0, 1])
    for network in (GAPNet(), DeepNet()):
        clf, x = bound(network, mean=MEAN, std=STD, seed=5), images()
        maps, start = dense_maps(clf, x), chosen(clf, x, index)
        for composite in COMPOSITES:
            for bias in ("absorb", "zero"):
                found = METHODS.get("lrp").build(clf, composite=composite, bias=bias, channels=True).attribute(x, index)
                close(found, carried(maps, composite, bias, start), 1e-9)
                balanced(found)
                assert torch.allclose(found.diagnostics["promised"], found.scores)
        found = METHODS.get("lrp").build(clf, first="w-squared", channels=True).attribute(x, index)
        close(found, carried(maps, "epsilon-plus-flat", "absorb", start, "w-squared"), 1e-9)


@replicates("lrp")
def _rule_zero_is_input_times_gradient() -> None:
    for network in (GAPNet(), DeepNet(), LinearNet()):
        clf, x = bound(network, mean=MEAN, std=STD, seed=2), images()
        inputs = clf.normalize(x).requires_grad_(True)
        (gradient,) = torch.autograd.grad(clf.logits(inputs)[:, 1].sum(), inputs)
        expected = (inputs * gradient).detach()
        zero = METHODS.get("lrp").build(clf, composite="zero", channels=True).attribute(x, 1)
        close(zero, expected)
        gaps = []
        for epsilon in (1e-3, 1e-6, 1e-9):
            lrp = METHODS.get("lrp").build(clf, composite="epsilon", epsilon=epsilon, channels=True)
            gaps.append(float((lrp.attribute(x, 1).values - expected).abs().max()))
        assert gaps[0] > 100 * gaps[1] > 1e4 * gaps[2] > 0


@replicates("lrp")
def _rules_meet_at_their_ends() -> None:
    clf, x = bound(GAPNet(), seed=5), images()

    def lrp(**params: object) -> Tensor:
        return METHODS.get("lrp").build(clf, channels=True, bias="zero", **params).attribute(x).values

    close(lrp(composite="alpha-beta", alpha=1.0), lrp(composite="z-plus"))
    close(lrp(composite="gamma", gamma=0.0), lrp(composite="epsilon"), 1e-5)
    close(lrp(composite="gamma", gamma=1e9), lrp(composite="z-plus"), 1e-4)  # its stabiliser is 1e-6 of z
    assert float(lrp(composite="z-plus").min()) >= 0
    assert float(lrp(composite="z-plus", first="z-box").min()) >= 0
    close(lrp(convolution="z-plus", dense="z-plus", composite="epsilon"), lrp(composite="z-plus"))


@replicates("lrp")
def _a_contrast_starts_at_both_logits() -> None:
    from xaikit.model.target import Contrast

    clf, x = bound(DeepNet(), seed=2), images()
    lrp = METHODS.get("lrp").build(clf, composite="epsilon-plus")
    both = lrp.attribute(x, Contrast(1, 3))
    close(both, lrp.attribute(x, 1).values - lrp.attribute(x, 3).values)
    balanced(both)


@replicates("contrastive-lrp")
def _difference_of_two_dense_passes() -> None:
    index = torch.tensor([2, 0, 1])
    for network in (GAPNet(), DeepNet()):
        clf, x = bound(network, seed=5), images()
        maps, start = dense_maps(clf, x), chosen(clf, x, index)
        others = (1 - F.one_hot(index, 4)) * start.sum(1, keepdim=True) / 3
        own, dual = (carried(maps, "z-plus", "zero", one) for one in (start, others))
        signed = carried(maps, "z-plus", "zero", start - others)
        close(own - dual, signed)
        plain = METHODS.get("contrastive-lrp").build(clf, balance="start", channels=True).attribute(x, index)
        close(plain, signed, 1e-9)
        balanced(plain)
        ratio = own.sum((1, 2, 3)) / dual.sum((1, 2, 3))
        expected = own - ratio[:, None, None, None] * dual
        even = METHODS.get("contrastive-lrp").build(clf, channels=True).attribute(x, index)
        close(even, expected, 1e-9)
        assert float(even.values.sum((1, 2, 3)).abs().max()) < 1e-12
        positive = METHODS.get("contrastive-lrp").build(clf, part="positive").attribute(x, index)
        close(positive, expected.sum(1).clamp_min(0), 1e-9)


@replicates("contrastive-lrp")
def _opposite_of_negated_weights() -> None:
    clf, x, index = bound(DeepNet(), seed=5), images(), torch.tensor([2, 0, 1])
    maps, start = dense_maps(clf, x), chosen(clf, x, index)
    own = carried(maps, "z-plus", "zero", start)
    maps[-1].weight = -maps[-1].weight
    dual = carried(maps, "z-plus", "zero", start)
    ratio = own.sum((1, 2, 3)) / dual.sum((1, 2, 3))
    found = METHODS.get("contrastive-lrp").build(clf, opposite="weights", channels=True).attribute(x, index)
    close(found, own - ratio[:, None, None, None] * dual, 1e-9)


@replicates("softmax-gradient-lrp")
def _starts_at_the_gradient_of_the_probability() -> None:
    for network in (GAPNet(), DeepNet()):
        clf, x, index = bound(network, seed=5), images(), torch.tensor([2, 0, 1])
        logits = clf(x).detach().requires_grad_(True)
        probability = logits.softmax(1).gather(1, index[:, None]).sum()
        (start,) = torch.autograd.grad(probability, logits)
        assert float(start.sum(1).abs().max()) < 1e-15
        found = METHODS.get("softmax-gradient-lrp").build(clf, channels=True).attribute(x, index)
        close(found, carried(dense_maps(clf, x), "z-plus", "zero", start), 1e-9)
        balanced(found)


@replicates("softmax-gradient-lrp")
def _a_certain_class_still_has_a_map() -> None:
    clf, x = bound(DeepNet(), seed=5), images()
    sure = METHODS.get("softmax-gradient-lrp")(clf).attribute(x).heatmap()
    with torch.no_grad():
        clf.network.head[2].weight.mul_(1e4)
        clf.network.head[2].bias.mul_(1e4)
    assert torch.equal(clf.probabilities(x).amax(1), torch.ones(3, dtype=torch.float64))
    certain = METHODS.get("softmax-gradient-lrp")(clf).attribute(x)
    assert not any(certain.flags)
    assert float((certain.heatmap() - sure).abs().mean()) < 0.5


@replicates("rap")
def _by_dense_matrices_and_the_shift() -> None:
    index = torch.tensor([2, 0, 1])
    for network, form in ((GAPNet(), "released"), (DeepNet(), "released"), (DeepNet(), "convolution")):
        clf, x = bound(network, mean=MEAN, std=STD, seed=5), images()
        maps, relevance = dense_maps(clf, x), chosen(clf, x, index)
        inputs = clf.normalize(x).flatten(1)
        for place, step in reversed(list(enumerate(maps))):
            given = step.weight * step.inputs[:, None, :]
            above, below = given.clamp_min(0), given.clamp_max(0).abs()
            p, n, r = above.sum(2, keepdim=True), below.sum(2, keepdim=True), relevance[:, :, None]
            if place + 1 == len(maps):
                relevance = (given.abs() / (p + n) * r).sum(1)
            elif place == 0:
                low, high = inputs.amin(1, keepdim=True)[:, None], inputs.amax(1, keepdim=True)[:, None]
                box = given - low * step.weight.clamp_min(0) - high * step.weight.clamp_max(0)
                relevance = divided(box, torch.zeros_like(step.bias), relevance)
            elif step.kind == "pool":
                relevance = shares(step, "epsilon", relevance, "zero")
            else:
                plus, minus = r.clamp_min(0), r.clamp_max(0)
                first = above / p * plus + below / (p + n) * (plus + minus)
                released = step.kind == "dense" and form == "released"
                second = above / p * minus if released else below / n * minus
                carry = (first.nan_to_num(0) + second.nan_to_num(0)).sum(1)
                live = (carry != 0).double()
                shift = (carry.sum(1) - relevance.sum(1)) / live.sum(1)
                relevance = carry - live * shift[:, None]
                assert float(relevance.amin()) < 0
        found = METHODS.get("rap").build(clf, dense=form, channels=True).attribute(x, index)
        close(found, relevance.reshape(3, 3, 8, 8), 1e-8)
        balanced(found)
        scores = found.scores
        assert torch.allclose(found.values.sum((1, 2, 3)) + found.diagnostics["absorbed_stabiliser"], scores)


@replicates("excitation-backprop")
def _is_a_random_walk() -> None:
    index = torch.tensor([2, 0, 1])
    for network in (GAPNet(), DeepNet()):
        clf, x = bound(network, seed=5), images()
        maps, walk = dense_maps(clf, x), F.one_hot(index, 4).double()
        for step in reversed(maps):
            excited = step.weight.clamp_min(0) * step.inputs[:, None, :]
            shares_of = (excited / excited.sum(2, keepdim=True)).nan_to_num(0)
            walk = (shares_of * walk[:, :, None]).sum(1)
        found = METHODS.get("excitation-backprop").build(clf, channels=True).attribute(x, index)
        close(found, walk.reshape(3, 3, 8, 8))
        balanced(found)
        assert float(found.values.min()) >= 0
        assert torch.allclose(found.values.sum((1, 2, 3)) + found.diagnostics["absorbed_dead"], torch.ones(3).double())
        plus = METHODS.get("lrp").build(clf, composite="z-plus", bias="zero", epsilon=0, channels=True)
        close(plus.attribute(x, index), found.values * found.scores[:, None, None, None], 1e-5)


@replicates("excitation-backprop")
def _contrast_with_the_negated_class() -> None:
    clf, x, index = bound(DeepNet(), seed=5), images(), torch.tensor([2, 0, 1])
    maps, start = dense_maps(clf, x), F.one_hot(index, 4).double()
    excited = carried(maps, "walk", "zero", start)
    maps[-1].weight = -maps[-1].weight
    expected = excited - carried(maps, "walk", "zero", start)
    found = METHODS.get("excitation-backprop").build(clf, variant="contrastive").attribute(x, index)
    close(found, expected.sum(1).clamp_min(0), 1e-9)
    assert float(expected.sum((1, 2, 3)).abs().max()) < 1e-12
    assert found.completeness is not None
    assert float(found.completeness.abs().max()) < 1e-12


@replicates("layer-excitation-backprop")
def _is_a_random_walk_to_the_layer() -> None:
    index = torch.tensor([2, 0, 1])
    for network in (GAPNet(), DeepNet()):
        clf, x = bound(network, seed=5), images()
        maps, start = dense_maps(clf, x), F.one_hot(index, 4).double()
        after = [place for place, step in enumerate(maps) if step.kind != "convolution"]
        tail = maps[after[0] :]
        walk = start
        for step in reversed(tail):
            walk = shares(step, "walk", walk, "zero")
        found = METHODS.get("layer-excitation-backprop")(clf).attribute(x, index)
        close(found, walk.reshape(3, 5, 4, 4).sum(1))
        balanced(found)
        assert float(found.values.min()) >= 0
        assert torch.allclose(found.values.sum((1, 2)) + found.diagnostics["absorbed_dead"], torch.ones(3).double())
        opposite = start
        tail[-1].weight = -tail[-1].weight
        for step in reversed(tail):
            opposite = shares(step, "walk", opposite, "zero")
        contrast = (walk - opposite).reshape(3, 5, 4, 4).sum(1).clamp_min(0)
        close(METHODS.get("layer-excitation-backprop").build(clf, variant="contrastive").attribute(x, index), contrast)


class Branching(nn.Module):
    """A branch round which the stem's output goes: added, concatenated or gated by it."""

    def __init__(self, join: Callable[[Tensor, Tensor], Tensor], channels: int = 4) -> None:
        super().__init__()
        self.stem, self.branch = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.after, self.fc, self.join = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(channels, 4), join

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        joined = self.join(x, self.after(F.relu(self.branch(x))))
        return self.fc(F.relu(joined).mean((2, 3)))


BRANCHING = [
    Branching(lambda x, y: x + F.relu(y)),
    Branching(lambda x, y: F.relu(y) - x),
    Branching(lambda x, y: F.relu(y) / (1 + x)),
    Branching(lambda x, y: torch.cat([x, F.relu(y)], 1), 8),
    Branching(lambda x, y: x * torch.sigmoid(y)),
    Branching(lambda x, y: x * F.relu(y)),
]


def caught(clf: Classifier, pixels: Tensor, name: str, start: Tensor) -> Tensor:
    """Return the walk (n, C, h, w) from a start to the image, caught where it comes through a module's output."""
    seen: list[Tensor] = []
    engine = Engine(POSITIVE, len(pixels))
    handle = clf.network.get_submodule(name).register_forward_hook(lambda module, args, output: seen.append(output))
    inputs = clf.normalize(pixels).requires_grad_(True).clone()
    with clf.borrowed(), torch.enable_grad(), clf.probe() as probe:
        engine.install(probe)
        logits = clf.logits(inputs)
        engine.look_at(logits)
        (walk,) = torch.autograd.grad(logits, seen[-1], start.to(logits), allow_unused=True)
    handle.remove()
    return torch.zeros_like(seen[-1]) if walk is None else walk


@replicates("layer-excitation-backprop")
def _is_what_the_walk_to_the_image_brings_there() -> None:
    index = torch.tensor([2, 0, 1])
    passing = []
    for network in BRANCHING:
        clf, x = bound(network, seed=1), images()
        for layer in ("stem", "branch", "after"):
            expected = caught(clf, x, layer, F.one_hot(index, 4)).sum(1)
            found = METHODS.get("layer-excitation-backprop").build(clf, layer).attribute(x, index)
            assert torch.allclose(found.values, expected, atol=1e-12)
            balanced(found)
            passing.append(float(found.diagnostics["absorbed_bypass"].sum()))
    assert sum(passed > 0 for passed in passing) >= 8


class Pooled(nn.Module):
    """A convolution, a pooling of each window and a linear map."""

    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        self.conv, self.pool = nn.Conv2d(3, 5, 3, padding=1), pool
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(80, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(F.relu(self.conv(x))))


@replicates("lrp")
def _max_pooling_is_shared_by_its_winner_or_as_a_mean() -> None:
    clf, x, index = bound(Pooled(nn.MaxPool2d(2)), seed=5), images(), torch.tensor([2, 0, 1])
    network, inputs = clf.network, clf.normalize(x)
    with torch.no_grad():
        before = F.relu(network.conv(inputs))
        windows = before.unfold(2, 2, 2).unfold(3, 2, 2).flatten(4)
        pooled = windows.amax(4)
    weight, bias = as_matrix(network.head, (5, 4, 4))
    start = chosen(clf, x, index)
    after = shares(Dense("dense", weight, bias, pooled.flatten(1)), "epsilon", start, "zero").reshape(3, 5, 4, 4)
    winner = F.one_hot(windows.argmax(4), 4).double()
    mean = (windows / windows.sum(4, keepdim=True)).nan_to_num(0)
    matrix, offset = as_matrix(network.conv, (3, 8, 8))
    for max_pool, portion in (("winner", winner), ("mean", mean)):
        spread = (after[..., None] * portion).reshape(3, 5, 4, 4, 2, 2).permute(0, 1, 2, 4, 3, 5).reshape(3, -1)
        expected = shares(Dense("convolution", matrix, offset, inputs.flatten(1)), "z-plus", spread, "zero")
        lrp = METHODS.get("lrp").build(clf, composite="epsilon-plus", bias="zero", max_pool=max_pool, channels=True)
        found = lrp.attribute(x, index)
        close(found, expected.reshape(3, 3, 8, 8), 1e-5)
        balanced(found)


@replicates("lrp")
def _max_pooling_as_a_mean_for_every_kind_of_window() -> None:
    index = torch.tensor([2, 0, 1])
    for pool in (nn.AdaptiveMaxPool2d(4), nn.MaxPool2d(3, 2, 1), nn.MaxPool2d(2, ceil_mode=True)):
        clf, x = bound(Pooled(pool), seed=5), images()
        by_winner, by_mean = (
            METHODS.get("lrp").build(clf, composite="z-plus", bias="zero", max_pool=one).attribute(x, index)
            for one in ("winner", "mean")
        )
        balanced(by_mean)
        assert torch.allclose(by_mean.values.sum((1, 2)), by_winner.values.sum((1, 2)), rtol=1e-5)
        assert not torch.allclose(by_mean.values, by_winner.values, rtol=1e-2)
