"""Many gradients are taken on the copy with BatchNorm folded, unless that is another function."""

from __future__ import annotations

import pytest
import torch

from tests import networks
from xaikit.methods.base import METHODS, Method
from xaikit.model.classifier import Classifier
from xaikit.run import batch as batches
from xaikit.run.batch import Batch
from xaikit.run.context import Context

MANY = {
    "integrated-gradients": {"steps": 14},
    "guided-integrated-gradients": {"steps": 14},
    "blur-integrated-gradients": {"steps": 14, "sigma": 3},
    "smooth-grad": {"samples": 14},
    "var-grad": {"samples": 14},
}


def method(name: str, clf: Classifier) -> Method:
    return METHODS.get(name).build(clf, channels=True, **MANY[name])


def batch(clf: Classifier) -> Batch:
    return Batch(clf, networks.images(), [0, 1, 2], Context())


@pytest.mark.parametrize("name", MANY)
def test_the_values_are_those_of_the_network(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clf = Classifier(networks.seeded(networks.Stochastic), size=8)
    with clf.borrowed():
        assert batch(clf).folded_for(14).classifier is not clf
    found = method(name, clf).attribute(networks.images(), [0, 1, 2])
    monkeypatch.setattr(batches, "_REPAID", 1000)
    expected = method(name, clf).attribute(networks.images(), [0, 1, 2])
    assert float(expected.values.abs().max()) > 0
    assert torch.allclose(found.values, expected.values, rtol=1e-9, atol=1e-12)


def test_few_passes_half_precision_and_networks_without_batch_norm_stay_as_they_are() -> None:
    clf = Classifier(networks.seeded(networks.Stochastic), size=8)
    plain = Classifier(networks.seeded(networks.Net), size=8)
    half = Classifier(networks.seeded(networks.Stochastic, torch.float32).to(torch.bfloat16), size=8)
    for one, passes in ((clf, 11), (plain, 100), (half, 100)):
        with one.borrowed():
            assert batch(one).folded_for(passes).classifier is one


def test_a_network_whose_hooks_change_its_scores_is_not_replaced() -> None:
    clf = Classifier(networks.seeded(networks.Stochastic), size=8)
    with clf.borrowed():
        assert batch(clf).folded_for(100).classifier is not clf
    clf.network.conv1.register_forward_hook(lambda module, args, output: output * 2)
    with clf.borrowed():
        assert batch(clf).folded_for(100).classifier is clf
