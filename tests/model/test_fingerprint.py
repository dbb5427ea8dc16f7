"""A fingerprint is that of what the network holds now, however it was written."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import xaikit
from tests import networks
from xaikit.foundation.errors import BadChecksum
from xaikit.measures.base import Subject
from xaikit.model.classifier import Classifier


@pytest.mark.parametrize(
    "change",
    [
        lambda net: net.conv1.weight.data.mul_(2),
        lambda net: net.conv1.weight.detach().numpy().__setitem__(0, 0.5),
        lambda net: setattr(net.conv1.weight, "data", net.conv1.weight.data.flip(0)),
        lambda net: net.conv1.bias.data.copy_(net.conv1.bias.data.roll(1)),
        lambda net: nn.init.zeros_(net.conv2.weight),
    ],
    ids=["data", "numpy", "another storage", "the same sum", "in place"],
)
def test_every_write_changes_it(change: Callable[[nn.Module], object]) -> None:
    classifier = Classifier(networks.seeded(networks.Net), size=8)
    before = classifier.fingerprint
    assert classifier.fingerprint == before
    change(classifier.network)
    assert classifier.fingerprint != before


def test_a_library_of_the_weights_before_is_refused() -> None:
    classifier = Classifier(networks.seeded(networks.Net), size=8)
    images = torch.rand(12, 3, 8, 8).double()
    labels = classifier(images).argmax(1)
    library = xaikit.build_library(classifier, [(images, labels)], 2)
    library.check(classifier, classifier.layer)
    classifier.network.conv1.weight.data.mul_(2)
    with pytest.raises(BadChecksum, match="library: expected one of model"):
        library.check(classifier, classifier.layer)


class Choice(nn.Module):
    """A layer between two linear ones; with a temperature, and a gain that is not saved."""

    def __init__(
        self, act: Any = F.relu, between: nn.Module | None = None, heat: float = 1.0, gain: float = 1.0
    ) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(12, 4), nn.Linear(4, 3)
        self.act, self.between, self.heat, self.calls = act, between or nn.Identity(), heat, 0
        self.register_buffer("gain", torch.tensor(gain), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.head(self.between(self.act(self.stem(x.flatten(1))))) * self.gain / self.heat


def test_the_same_weights_in_another_network_have_another_one() -> None:
    others = [
        *({"act": act} for act in (F.relu, F.gelu, torch.tanh, lambda x: x.clamp(0), lambda x: x.clamp(0, 6))),
        *({"act": partial(F.leaky_relu, negative_slope=slope)} for slope in (0.1, 0.2)),
        *({"between": between} for between in (nn.ReLU(), nn.LeakyReLU(0.1), nn.LeakyReLU(0.2))),
        *({"heat": 2.0}, {"gain": 2.0}),
    ]

    def found() -> list[str]:
        made = [networks.seeded(lambda options=options: Choice(**options)) for options in others]
        classifiers = [Classifier(network, channels=3, size=2, mean=0) for network in made]
        return [classifier.fingerprint for classifier in classifiers if classifier(torch.rand(1, 3, 2, 2)).numel()]

    first = found()
    assert len(set(first)) == len(others)
    assert found() == first  # although the network counts its forwards


class Session:
    """A model behind a function, as one of ONNX: its contents are its own."""

    def __init__(self, weight: float) -> None:
        self.weight = weight

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        return scores(self.weight, pixels)


def scores(weight: float, pixels: np.ndarray) -> np.ndarray:
    return weight * pixels.mean((2, 3))


def through(network: Choice, pixels: np.ndarray) -> np.ndarray:
    return scores(float(network.gain), pixels)  # type: ignore[arg-type]


MAKERS: dict[str, Callable[[float], Any]] = {
    "closure": lambda weight: lambda pixels: scores(weight, pixels),
    "default": lambda weight: lambda pixels, by=weight: scores(by, pixels),
    "partial": lambda weight: partial(scores, weight),
    "tensor": lambda weight: partial(scores, torch.tensor(weight).item()),
    "network": lambda weight: partial(through, networks.seeded(lambda: Choice(gain=weight))),
    "object": Session,
    "method": lambda weight: Session(weight).__call__,
}


@pytest.mark.parametrize("kind", MAKERS)
def test_functions_of_one_factory_are_told_apart(kind: str) -> None:
    def box(weight: float) -> Classifier:
        return Classifier.from_function(MAKERS[kind](weight), gives="logits", size=2)

    first, other = box(1.0), box(2.0)
    assert first.fingerprint == first.fingerprint == copy.deepcopy(first).fingerprint
    assert first.fingerprint != other.fingerprint
    assert (box(1.0).fingerprint == first.fingerprint) == (kind not in ("object", "method"))
    facts: dict[Any, torch.Tensor] = {}
    pixels, target = torch.rand(1, 3, 2, 2), torch.tensor([0])
    for classifier in (first, other):  # a measure of one is not served for the other
        subject = Subject(classifier, pixels, pixels[:, 0], target, image_facts=facts)
        logits = classifier(pixels)
        assert torch.equal(subject.of_images("logits", lambda rows, logits=logits: logits[rows]), logits)
