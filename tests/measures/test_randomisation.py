"""Randomisation: the network comes back as it was, the order of modules, and methods that do not look at either."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
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
    assert groups(Classifier(Reversed(), channels=3), pictures(1), 3) == [["head"], ["middle"], ["stem"]]


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
