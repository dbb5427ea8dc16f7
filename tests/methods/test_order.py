"""First and last maps are those of the graph: neither the order of the calls nor an unused branch changes a map."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.networks import bound, images
from xaikit.foundation.errors import BadInput
from xaikit.methods.base import METHODS
from xaikit.model.classifier import Classifier

METHODS_WITH_ENDS: list[tuple[str, dict[str, Any]]] = [
    ("lrp", {}),
    ("lrp", {"composite": "epsilon-gamma-box"}),
    ("lrp", {"composite": "epsilon-alpha2-beta1-flat"}),
    ("rap", {}),
    ("contrastive-lrp", {"opposite": "weights"}),
    ("excitation-backprop", {"variant": "contrastive"}),
]


class Parts(nn.Module):
    """Stems, a trunk and heads, which a function puts together."""

    def __init__(self, forward: Callable[[Parts, Tensor], Tensor], classes: int = 4) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 5, padding=2)
        self.trunk, self.side = nn.Conv2d(4, 5, 3, padding=1), nn.Conv2d(3, 4, 1)
        self.left, self.right, self.deep = nn.Linear(5, classes), nn.Linear(5, classes), nn.Linear(5, 5)
        self.spatial = nn.Conv2d(5, classes, 1)
        self.written = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.written(self, x)

    def features(self, h: Tensor) -> Tensor:
        return F.relu(self.trunk(F.relu(h)))

    def head(self, h: Tensor) -> Tensor:
        out: Tensor = self.left(self.features(h).mean((2, 3)))
        return out


def classifier_of(form: Callable[[Parts, Tensor], Tensor]) -> Classifier:
    return bound(Parts(form), seed=3)


def values_of(classifier: Classifier, x: Tensor, name: str, params: dict[str, Any], target: int = 1) -> Tensor:
    return METHODS.get(name).build(classifier, **params).attribute(x, target).values


def runs(methods: list[tuple[str, dict[str, Any]]]) -> list[tuple[int, str, dict[str, Any]]]:
    """Return each method with three images, and the first also with one image."""
    return [(1, *methods[0]), *((3, name, params) for name, params in methods)]


def assert_close(found: Tensor, expected: Tensor, tolerance: float = 1e-8) -> None:
    assert torch.allclose(found, expected, rtol=0, atol=tolerance * max(float(expected.abs().max()), 1e-6))


def _a_first(net: Parts, x: Tensor) -> Tensor:
    u = net.a(x)
    v = net.b(x)
    return net.head(u + v)


def _b_first(net: Parts, x: Tensor) -> Tensor:
    v = net.b(x)
    u = net.a(x)
    return net.head(u + v)


def _joined(*order: str) -> Callable[[Parts, Tensor], Tensor]:
    def forward(net: Parts, x: Tensor) -> Tensor:
        streams = {name: getattr(net, name)(x) for name in order}
        return net.head(F.relu(streams["a"]) - F.relu(streams["b"]) + streams["side"])

    return forward


def _heads(*order: str) -> Callable[[Parts, Tensor], Tensor]:
    def forward(net: Parts, x: Tensor) -> Tensor:
        features = net.features(net.a(x))
        inputs = {"left": lambda: features.mean((2, 3)), "right": lambda: F.relu(net.deep(features.amax((2, 3))))}
        outputs = {name: getattr(net, name)(inputs[name]()) for name in order}
        return outputs["left"] + outputs["right"]

    return forward


def _normalised_after(net: Parts, x: Tensor) -> Tensor:
    u = net.a(x)
    return net.head(u + net.b((x - 0.4) / 0.3))


def _normalised_before(net: Parts, x: Tensor) -> Tensor:
    v = net.b((x - 0.4) / 0.3)
    return net.head(net.a(x) + v)


SWAPPED = {
    "two stems": (_a_first, _b_first),
    "three stems": (_joined("a", "b", "side"), _joined("side", "b", "a")),
    "two heads of different depth": (_heads("left", "right"), _heads("right", "left")),
    "a stream that normalises": (_normalised_before, _normalised_after),
}


@pytest.mark.parametrize("form", SWAPPED)
def test_the_order_of_the_calls_does_not_matter(form: str) -> None:
    classifiers = [classifier_of(forward) for forward in SWAPPED[form]]
    for count, name, params in runs(METHODS_WITH_ENDS):
        if form == "a stream that normalises" and params.get("composite") == "epsilon-gamma-box":
            continue
        found, expected = (values_of(classifier, images(count), name, params) for classifier in classifiers)
        assert_close(found, expected)
        assert expected.any() or name == "excitation-backprop"  # whose walk ends at heads with a negative output


@pytest.mark.parametrize("flipped", [(3,), (2, 3)])
def test_a_network_of_mirrored_views_has_mirrored_maps(flipped: tuple[int, ...]) -> None:
    classifier = classifier_of(lambda net, x: net.head(net.a(x)) + net.head(net.a(x.flip(flipped))))
    for count, name, params in runs(METHODS_WITH_ENDS):
        x = images(count)
        found, expected = (values_of(classifier, pixels, name, params) for pixels in (x, x.flip(flipped)))
        assert_close(found, expected.flip([axis - 1 for axis in flipped]))


def _plain(net: Parts, x: Tensor) -> Tensor:
    return net.head(net.a((x - 0.4) / 0.3))


UNUSED: dict[str, Callable[[Parts, Tensor], Any]] = {
    "convolution": lambda net, x: net.side(x),
    "linear layer": lambda net, x: net.left(x.flatten(1)[:, :5]),
    "stem of the same weights": lambda net, x: net.a(x),
    "whole network": lambda net, x: net.head(net.b(x)),
}


@pytest.mark.parametrize("unused", UNUSED)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_branch_that_the_logits_do_not_depend_on_changes_nothing(unused: str, when: str) -> None:
    def with_branch(net: Parts, x: Tensor) -> Tensor:
        if when == "before":
            UNUSED[unused](net, x)
        logits = _plain(net, x)
        if when == "after":
            UNUSED[unused](net, x)
        return logits

    classifiers = [classifier_of(form) for form in (with_branch, _plain)]
    for count, name, params in runs([("lrp", {}), ("rap", {}), ("lrp", {"composite": "epsilon"})]):
        found, expected = (values_of(classifier, images(count), name, params) for classifier in classifiers)
        assert_close(found, expected)
    with pytest.raises(BadInput, match="z-box: expected a network that is given normalised images"):
        values_of(classifiers[0], images(), "lrp", {"composite": "epsilon-gamma-box"})


@pytest.mark.parametrize(
    "stem",
    [lambda x: F.layer_norm(x, x.shape[1:]), lambda x: x + x.flip(3), lambda x: x / (1 + x.mean((1, 2, 3), True))],
)
def test_z_box_is_refused_where_anything_changes_the_range_of_the_image(stem: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(BadInput, match="z-box: expected a network that is given normalised images"):
        values_of(
            classifier_of(lambda net, x: net.head(net.a(stem(x)))), images(), "lrp", {"composite": "epsilon-gamma-box"}
        )


def test_z_box_only_looks_at_what_lies_before_the_first_map() -> None:
    def scaled_elsewhere(net: Parts, x: Tensor) -> Tensor:
        return net.head(net.a(x) * (1 + x.mean((1, 2, 3), keepdim=True)))

    assert values_of(classifier_of(scaled_elsewhere), images(), "lrp", {"composite": "epsilon-gamma-box"}).any()


def _logit(net: Parts, form: str, features: Tensor) -> Tensor:
    """Return the logit (n, 1), or both logits (n, 2), of heads whose last maps are written as `form`."""
    pooled = features.mean((2, 3))
    written: dict[str, Callable[[], Tensor]] = {
        "one head": lambda: net.left(pooled),
        "two heads": lambda: net.left(pooled) + net.right(features.amax((2, 3))),
        "heads of different depth": lambda: net.left(pooled) - net.right(F.relu(net.deep(pooled))),
        "a convolution and a pooling": lambda: net.spatial(features).mean((2, 3)),
    }
    return written[form]()


@pytest.mark.parametrize("form", ["one head", "two heads", "heads of different depth", "a convolution and a pooling"])
@pytest.mark.parametrize("target", [0, 1])
def test_one_logit_of_two_classes_equals_both_logits_written_out(form: str, target: int) -> None:
    single = Parts(lambda net, x: _logit(net, form, net.features(net.a(x))), classes=1)
    double = Parts(lambda net, x: _logit(net, form, net.features(net.a(x))), classes=2)
    binary = bound(single, seed=3, output="binary")
    softmax = bound(double, seed=3)
    state = single.state_dict()
    for name in ("left", "right", "spatial"):
        for part in ("weight", "bias"):
            value = state[f"{name}.{part}"]
            state[f"{name}.{part}"] = torch.cat([-value, value])
    double.load_state_dict(state)
    assert torch.allclose(torch.cat([-single(images()), single(images())], 1), double(images()))
    methods = [*METHODS_WITH_ENDS, ("excitation-backprop", {}), ("lrp", {"composite": "z-plus"})]
    for count, name, params in runs(methods):
        found, expected = (values_of(clf, images(count), name, params, target) for clf in (binary, softmax))
        # the stabiliser follows the mean of the outputs, and a contrast is the difference of two similar maps
        assert_close(found, expected, 1e-3 if name == "contrastive-lrp" else 1e-6)
