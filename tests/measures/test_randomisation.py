"""Randomisation: the network comes back as it was, the order of modules, and methods that do not look at either."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.networks import additive, pictures, small
from xaikit.foundation.errors import BadInput
from xaikit.images.synthetic import draw
from xaikit.measures.base import MEASURES, Subject
from xaikit.measures.randomisation.efficient_parameter_randomisation import (
    EfficientParameterRandomisation,
    histogram_entropy,
)
from xaikit.measures.randomisation.parameter_randomisation import ParameterRandomisation
from xaikit.measures.randomisation.random_logit import RandomLogit
from xaikit.measures.randomisation.randomised import groups, randomised
from xaikit.methods.base import METHODS, Method
from xaikit.model.classifier import Classifier
from xaikit.run.context import Context
from xaikit.zoo.load import load

NAMES = ["parameter-randomisation", "efficient-parameter-randomisation", "random-logit"]


def of(method: Method, target: Any = None, count: int = 3, **changes: Any) -> Subject:
    pixels = pictures(count, method.classifier.channels)
    made = method.attribute(pixels, target)
    return Subject(method.classifier, pixels, made.heatmap(), made.target, method=method, attribution=made, **changes)


@pytest.mark.parametrize("name", NAMES)
def test_the_network_is_not_touched(name: str) -> None:
    classifier = small()
    before = {key: value.clone() for key, value in classifier.network.state_dict().items()}
    places = [parameter.data_ptr() for parameter in classifier.network.parameters()]
    MEASURES.get(name)().compute(of(METHODS.get("grad-cam")(classifier)))
    after = classifier.network.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert places == [parameter.data_ptr() for parameter in classifier.network.parameters()]


def test_modules_go_from_the_logits_down() -> None:
    classifier = load("texture-cnn")
    order = [name for name, module in classifier.network.named_modules() if list(module.parameters(recurse=False))]
    for stages in (1, 2, 3, 6, 100):
        found = groups(classifier, torch.rand(1, 3, 64, 64), stages)
        assert [name for group in found for name in group] == order[::-1]
        assert len(found) == min(stages, len(order))
        assert all(found)
        assert len(found[0]) == (len(order) if stages == 1 else 1)


class Reversed(nn.Module):
    """Modules that run in another order than they are written, one twice and one never."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.unused = nn.Linear(4, 3)
        self.middle = nn.Conv2d(4, 4, 3, padding=1)
        self.stem = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.head(self.middle(self.middle(self.stem(inputs))).mean((2, 3)))


def test_the_order_is_that_of_execution() -> None:
    classifier = Classifier(Reversed(), channels=3)
    assert groups(classifier, pictures(1), 4) == [["head"], ["middle"], ["stem"], ["unused"]]
    assert groups(classifier, pictures(1), 3) == [["head"], ["middle"], ["stem", "unused"]]


def test_one_group_more_is_random_at_each_stage() -> None:
    classifier = small()
    method = METHODS.get("grad-cam")(classifier)
    original, buffers = dict(classifier.network.named_parameters()), dict(classifier.network.named_buffers())
    changed = []
    for bound in randomised(method, pictures(1), 3, seed=0):
        network = bound.classifier.network
        assert network is not classifier.network
        assert all(torch.equal(value, buffers[key]) for key, value in network.named_buffers())
        changed.append({key for key, value in network.named_parameters() if not torch.equal(value, original[key])})
    head, norm, stem = {"5.weight", "5.bias"}, {"2.weight", "2.bias"}, {"0.weight", "0.bias"}
    assert norm & set(original) == norm
    assert changed == [head, head, head | stem]  # the fresh BatchNorm has equal entries, which stay


def test_affine_parameters_of_a_trained_norm_are_drawn() -> None:
    classifier = small()
    norm = classifier.network.get_submodule("2")
    nn.init.normal_(norm.weight, generator=torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    norm.running_mean.add_(0.5)  # type: ignore[union-attr, operator]
    (bound,) = randomised(METHODS.get("grad-cam")(classifier), pictures(1), 1, seed=0)
    drawn = bound.classifier.network.get_submodule("2")
    assert not torch.equal(drawn.weight, norm.weight)  # type: ignore[arg-type]
    assert torch.equal(drawn.running_mean, norm.running_mean)  # type: ignore[arg-type]


def test_drawn_entries_have_the_trained_mean_and_deviation() -> None:
    classifier = Classifier(nn.Sequential(nn.Conv2d(3, 40, 5), nn.AdaptiveAvgPool2d(1), nn.Flatten()), size=9)
    weight = classifier.network.get_submodule("0").weight
    nn.init.normal_(weight, 0.3, 2.0, generator=torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    (bound,) = randomised(METHODS.get("saliency")(classifier), torch.rand(1, 3, 9, 9), 1, seed=0)
    drawn = bound.classifier.network.state_dict()["0.weight"]
    assert float(drawn.mean()) == pytest.approx(0.3, abs=0.1)
    assert float(drawn.std()) == pytest.approx(2.0, abs=0.1)


class Reader(nn.Module):
    """conv -> something that reads weights in its own way -> mean -> head."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.head = nn.Linear(8, 4)
        if how == "list":
            self.weights = nn.ParameterList([nn.Parameter(torch.randn(8, 8, 3, 3)), nn.Parameter(torch.randn(8))])
        elif how == "attention":
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
            nn.init.normal_(self.attention.out_proj.bias)
        elif how == "root":
            self.weight = nn.Parameter(torch.randn(8, 8, 1, 1))
        elif how == "recurrent":
            self.recurrent = nn.GRU(8, 8, batch_first=True)
        else:
            self.middle = nn.Conv2d(8, 8, 3, padding=1)
        if how == "parametrised":
            nn.utils.parametrizations.weight_norm(self.middle)
        if how == "tied":
            self.again = nn.Conv2d(8, 8, 3, padding=1)
            self.again.weight = self.middle.weight
        if how == "unused":
            self.spare = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).relu()
        tokens = x.flatten(2).transpose(1, 2)
        match self.how:
            case "function":
                x = F.conv2d(x, self.middle.weight, self.middle.bias, padding=1)
            case "transposed":
                x = x + (tokens @ self.middle.weight[:, :, 0, 0].T).mT.reshape(x.shape)
            case "list":
                x = F.conv2d(x, self.weights[0], self.weights[1], padding=1)
            case "root":
                x = F.conv2d(x, self.weight)
            case "attention":
                x = self.attention(tokens, tokens, tokens, need_weights=False)[0].mT.reshape(x.shape)
            case "recurrent":
                x = self.recurrent(tokens)[0].mT.reshape(x.shape)
            case "tied":
                x = self.again(self.middle(x).relu())
            case _:
                x = self.middle(x)
        x = x.relu().mean((2, 3))
        return 9 * F.normalize(x) @ F.normalize(self.head.weight).T if self.how == "cosine" else self.head(x)


READERS = [
    *("called", "function", "transposed", "cosine", "attention", "list", "root", "recurrent"),
    *("parametrised", "tied", "unused"),
]


def reader(how: str) -> Classifier:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return Classifier(Reader(how).eval(), size=(9, 7))


@pytest.mark.parametrize("how", READERS)
def test_every_parameter_is_random_in_the_end(how: str) -> None:
    classifier = reader(how)
    original = dict(classifier.network.named_parameters())
    assert len(original) >= 5
    for stages in (1, 3):
        *_, bound = randomised(METHODS.get("saliency")(classifier), pictures(1), stages, seed=0)
        for name, drawn in bound.classifier.network.named_parameters():
            constant = bool((original[name] == original[name].flatten()[0]).all())
            assert torch.equal(drawn, original[name]) == constant, name


@pytest.mark.parametrize("how", READERS)
def test_the_order_is_that_of_the_last_use(how: str) -> None:
    found = [owner for group in groups(reader(how), pictures(1), 100) for owner in group]
    middle = {
        "attention": ["attention", "attention.out_proj"],
        "list": ["weights"],
        "root": [""],
        "recurrent": ["recurrent"],
        "parametrised": ["middle.parametrizations.weight", "middle"],
        "tied": ["again", "middle"],
    }.get(how, ["middle"])
    assert found[0] == "head"
    assert sorted(found[1 : 1 + len(middle)]) == sorted(middle)
    assert found[1 + len(middle) :] == (["stem", "spare"] if how == "unused" else ["stem"])


@pytest.mark.parametrize("how", ["function", "list", "root"])
def test_a_weight_used_by_function_counts_as_one_of_a_module(how: str) -> None:
    """The same function, with the weight in a module: its random network differs from the trained one as much."""
    classifier = reader(how)
    (bound,) = randomised(METHODS.get("saliency")(classifier), pictures(1), 1, seed=0)
    drawn, x = bound.classifier.network, pictures(2)
    with torch.no_grad():
        stem = drawn.get_submodule("stem")(x).relu()
        names = {
            "function": ("middle.weight", "middle.bias"),
            "list": ("weights.0", "weights.1"),
            "root": ("weight", ""),
        }
        weight, bias = (dict(drawn.named_parameters()).get(name) for name in names[how])
        middle = F.conv2d(stem, weight, bias, padding=weight.shape[2] // 2)
        expected = drawn.get_submodule("head")(middle.relu().mean((2, 3)))
        torch.testing.assert_close(bound.classifier(x), expected)
        assert not torch.allclose(expected, classifier(x), atol=1e-2)


class Frozen(nn.Module):
    """Weights in buffers, and one parameter that does nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0)))
        self.spare = nn.Parameter(torch.randn(3, generator=torch.Generator().manual_seed(0)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, self.get_buffer("weight")).relu().mean((2, 3))


@pytest.mark.parametrize("name", ["parameter-randomisation", "efficient-parameter-randomisation"])
def test_a_network_that_stays_trained_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match="expected other logits of Frozen with other parameters, got the same"):
        MEASURES.get(name)().compute(of(METHODS.get("saliency")(Classifier(Frozen()))))
    function = Classifier.from_function(lambda x: x[:, :2, 0, 0] / x[:, :2, 0, 0].sum(1, keepdims=True))
    with pytest.raises(BadInput, match="expected a network with parameters"):
        MEASURES.get(name)().compute(of(METHODS.get("occlusion")(function)))


def last(classifier: Classifier, stages: int, seed: int = 0) -> dict[str, torch.Tensor]:
    *_, bound = randomised(METHODS.get("grad-cam")(classifier), pictures(1), stages, seed)
    return bound.classifier.network.state_dict()


def test_the_last_network_depends_on_the_seed_alone() -> None:
    classifier = small()
    whole, parts, other = last(classifier, 1), last(classifier, 3), last(classifier, 3, seed=1)
    assert all(torch.equal(value, parts[key]) for key, value in whole.items())
    assert not torch.equal(other["0.weight"], whole["0.weight"])


def test_a_layer_given_as_a_module_becomes_that_of_the_copy() -> None:
    classifier = small()
    named = METHODS.get("grad-cam").build(classifier, layer="0")
    given = METHODS.get("grad-cam").build(classifier, layer=classifier.network.get_submodule("0"))
    measure = ParameterRandomisation(stages=2)
    torch.testing.assert_close(measure.compute(of(given)), measure.compute(of(named)))


@pytest.mark.parametrize("name", ["edges", "ones", "center", "random"])
def test_methods_that_ignore_network_and_class(name: str) -> None:
    subject = of(METHODS.get(name)(small()))
    assert ParameterRandomisation().compute(subject).tolist() == [1.0] * 3
    assert RandomLogit().compute(subject).tolist() == [1.0] * 3
    efficient = EfficientParameterRandomisation().compute(subject)
    assert all(math.isnan(one) if name == "ones" else one == 0 for one in efficient.tolist())


@pytest.mark.parametrize("name", ["grad-cam", "integrated-gradients"])
@pytest.mark.slow
def test_methods_that_look_at_the_network_change(name: str) -> None:
    classifier, scene = load("texture-cnn"), draw(4, 5)
    method = METHODS.get(name)(classifier)
    method = type(method)(classifier, steps=8) if name == "integrated-gradients" else method  # type: ignore[call-arg]
    made = method.attribute(scene.pixels, scene.labels)
    subject = Subject(classifier, scene.pixels, made.heatmap(), scene.labels, method=method, attribution=made)
    curve = ParameterRandomisation(stages=3).curve(subject)
    assert curve.shape == (4, 3)
    assert float(curve[:, -1].mean()) < 0.5
    at_end = ParameterRandomisation(stages=3, at="end").compute(subject)
    torch.testing.assert_close(at_end, curve[:, -1])
    torch.testing.assert_close(ParameterRandomisation(stages=3).compute(subject), curve.mean(1))


def test_entropy_of_the_histogram_by_hand() -> None:
    values = torch.tensor([[0.0, 1, 2, 3, 4, 5, 6, 8], [1, 1, 1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0, 1, 1]])
    two = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert histogram_entropy(values, 4).tolist() == pytest.approx([math.log(4), 0.0, two])
    three = torch.tensor([[0.0, 0.0, 1.0, 1.5, 2.0, 2.5, 3.0, 3.0]])
    uneven = -sum(share * math.log(share) for share in (0.25, 0.25, 0.5))
    assert histogram_entropy(three, 3).tolist() == pytest.approx([uneven])
    assert histogram_entropy(torch.tensor([[1.0, torch.nan]]), 4).isnan().all()


def test_efficient_randomisation_is_its_formula() -> None:
    subject = of(METHODS.get("grad-cam")(small()))
    (bound,) = randomised(METHODS.get("grad-cam")(subject.classifier), subject.pixels[:1], 1, seed=0)
    again = bound.attribute(subject.pixels, subject.target)
    before, after = (histogram_entropy(one, 20) for one in (subject.explanation.values, again.values))
    found = EfficientParameterRandomisation(bins=20).compute(subject)
    torch.testing.assert_close(found, (after - before) / before)


def test_other_classes_are_other_and_drawn_from_all() -> None:
    classifier = additive()
    subject = of(METHODS.get("saliency")(classifier), count=60)
    other = RandomLogit().other(subject)
    assert (other != subject.target).all()
    assert {(int(one), int(c)) for one, c in zip(other, subject.target, strict=True)} >= {
        (one, c) for c in subject.target.tolist() for one in range(3) if one != c
    }
    alone = of(METHODS.get("saliency")(classifier), count=2)
    assert RandomLogit().other(alone).tolist() == other[:2].tolist()
    runner_up = RandomLogit("runner-up").other(subject)
    assert torch.equal(runner_up, classifier(subject.pixels).argsort(1, descending=True)[:, 1])


def test_a_class_of_opposite_sign_is_the_opposite_order() -> None:
    """Two classes of one linear network: what speaks for one speaks against the other, to the same amount."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2, bias=False))
    weight = torch.randn(12, generator=torch.Generator().manual_seed(0))
    network[1].weight.data = torch.stack([weight, -weight])
    classifier = Classifier(network, channels=1, size=(3, 4))
    method = METHODS.get("integrated-gradients").build(classifier, steps=2)
    pixels = torch.rand(2, 1, 3, 4, generator=torch.Generator().manual_seed(1))
    made = method.attribute(pixels, 0)
    subject = Subject(classifier, pixels, made.heatmap(), made.target, method=method, attribution=made)
    assert RandomLogit().compute(subject).tolist() == pytest.approx([-1.0, -1.0])


def test_one_output_has_no_other_class() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1))
    subject = of(METHODS.get("saliency")(Classifier(network, output="regression")))
    assert RandomLogit().compute(subject).isnan().all()
    binary = of(METHODS.get("saliency")(Classifier(network, output="binary")))
    assert torch.equal(RandomLogit().other(binary), 1 - binary.target)


def test_without_an_attribution_the_method_is_asked() -> None:
    given = of(METHODS.get("grad-cam")(small()), context=Context())
    asked = Subject(given.classifier, given.pixels, given.maps, given.target, method=given.method)
    torch.testing.assert_close(RandomLogit().compute(asked), RandomLogit().compute(given))


@pytest.mark.parametrize(
    ("measure", "arguments"),
    [
        (ParameterRandomisation, {"stages": 0}),
        (ParameterRandomisation, {"at": "start"}),
        (EfficientParameterRandomisation, {"bins": 1}),
        (RandomLogit, {"against": "worst"}),
    ],
)
def test_parameters_that_do_not_fit_are_refused(measure: Any, arguments: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="expected"):
        measure(**arguments)


class Keeping(nn.Module):
    """Keeps its last features, with their graph."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.kept = nn.Conv2d(3, 4, 3), None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.kept = self.conv(x).relu()
        return self.kept.mean((2, 3))


@pytest.mark.parametrize("name", ["parameter-randomisation", "efficient-parameter-randomisation"])
def test_a_network_that_cannot_be_copied_is_refused_in_one_line(name: str) -> None:
    method = METHODS.get("saliency")(Classifier(Keeping(), mean=0))
    with pytest.raises(BadInput, match=r"copy\.deepcopy can copy, got RuntimeError") as caught:
        MEASURES.get(name)().compute(of(method))
    assert "\n" not in str(caught.value)


class Hidden(nn.Module):
    """A calibrated network (logits scaled and shifted) whose trained part is held in different ways."""

    def __init__(self, how: str) -> None:
        super().__init__()
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
        self.scale, self.shift = nn.Parameter(torch.rand(3) + 0.5), nn.Parameter(torch.rand(3))
        self.mean, self.kept, self.run = torch.rand(1, 3, 1, 1), [], net
        if how == "list":
            self.kept, self.run = [net], nn.Sequential()
        elif how == "closure":
            del self.run
            self.run = lambda x: net(x)  # type: ignore[assignment]
        elif how == "hook":
            self.run = nn.Sequential()
            self.run.register_forward_hook(lambda module, args, output: net(args[0]))
        elif how == "computed once":
            self.kept, self.run = [torch.randn(3, 3, 3, 3)], nn.Sequential()
        elif how == "array":
            weight = np.random.default_rng(0).normal(size=(3, 3, 3, 3)).astype("float32")
            self.run = nn.Sequential()
            self.run.register_forward_hook(lambda module, args, output: F.conv2d(output, torch.from_numpy(weight)))
        elif how == "written":
            self.kept, self.run = [torch.zeros(1, 3)], nn.Sequential(net)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.run(x - self.mean)
        if self.kept and isinstance(self.kept[0], nn.Module):
            x = self.kept[0](x)
        elif self.kept and self.kept[0].ndim == 2:
            x = self.kept[0].copy_(x) * 2
        elif self.kept:
            x = F.conv2d(x, self.kept[0]).relu()
        return self.scale * (x.mean((2, 3)) if x.ndim == 4 else x) + self.shift


@pytest.mark.parametrize("how", ["list", "closure", "hook", "computed once", "array", "registered", "written"])
def test_weights_that_are_not_registered_are_refused(how: str) -> None:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        method = METHODS.get("saliency")(Classifier(Hidden(how).eval(), mean=0))
    if how in ("registered", "written"):  # also a constant for each channel, and a tensor that the forward writes into
        assert len(list(randomised(method, pictures(1), 1, seed=0))) == 1
        return
    with pytest.raises(BadInput, match=r"expected the weights of Hidden as parameters, got a tensor \(\d, 3, 3, 3\)"):
        list(randomised(method, pictures(1), 1, seed=0))


class Caching(nn.Module):
    """Keeps a kernel that it computes from its parameters until it is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 3, 3, 3, generator=torch.Generator().manual_seed(0)))
        self.shift = nn.Parameter(torch.rand(3, generator=torch.Generator().manual_seed(1)))
        self.kept: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.kept = F.normalize(self.weight.detach()) if self.kept is None else self.kept
        return F.conv2d(x, self.kept).relu().mean((2, 3)) + self.shift

    def train(self, mode: bool = True) -> Caching:
        self.kept = None if mode else self.kept
        return super().train(mode)


def test_what_a_network_computed_from_its_parameters_is_computed_again() -> None:
    classifier, pixels = Classifier(Caching().eval(), mean=0), pictures(2)
    before = classifier(pixels)
    for bound in randomised(METHODS.get("saliency")(classifier), pixels[:1], 2, seed=0):
        weight, shift = (bound.classifier.network.get_parameter(name) for name in ("weight", "shift"))
        expected = F.conv2d(pixels, F.normalize(weight)).relu().mean((2, 3)) + shift
        torch.testing.assert_close(bound.classifier(pixels), expected)
    assert torch.equal(classifier(pixels), before)
