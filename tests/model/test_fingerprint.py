"""A fingerprint is that of what the network holds now, however it was written."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import xaikit
from tests import networks
from xaikit.foundation.errors import BadChecksum
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
