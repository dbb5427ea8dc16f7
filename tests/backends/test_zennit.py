"""zennit behind our interface: agreement with our LRP, what it cannot do, and nothing left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.backends.cases import case_of, is_real
from tests.backends.pairs import Pair
from tests.backends.table_zennit import ZENNIT
from tests.backends.test_agreement import share_of_range
from tests.backends.test_contract import classifier, images
from tests.methods.test_contract import unchanged
from tests.networks import FunctionalReluNet, ModularNet, ReusedReluNet
from xaikit.foundation.errors import BadInput
from xaikit.methods.base import METHODS

pytestmark = pytest.mark.backends


@pytest.fixture(autouse=True, scope="module")
def zennit() -> None:
    pytest.importorskip("zennit", reason="the extra `backends` is missing")


RELEVANCE = ("epsilon-plus", "epsilon-plus-flat", "epsilon-alpha2-beta1", "epsilon-gamma-box", "excitation-backprop")
GRADIENTS = ("guided-backprop", "deconv-net", "beta-smooth")


def cases() -> list[Any]:
    """Return every pair by a readable name."""
    return [
        pytest.param(
            pair,
            pair.places[0],
            id=f"{pair.theirs}@{pair.places[0]}-{pair.params['bias']}",
            marks=[pytest.mark.real] if is_real(pair.places[0]) else [],
        )
        for pair in ZENNIT
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("pair", "place"), cases())
def test_agreement(pair: Pair, place: str, request: pytest.FixtureRequest) -> None:
    if is_real(place):
        request.getfixturevalue("real_data")
    case = case_of(place, pair.images, dtype=pair.dtype)
    ours, theirs = (
        METHODS.get(name).build(case.classifier, **params).attribute(case.pixels, case.target)
        for name, params in ((pair.ours, pair.params), (pair.theirs, pair.their_params))
    )
    assert share_of_range(ours.values, theirs.values) <= pair.tolerance


@pytest.mark.real
@pytest.mark.parametrize("layer", ["features.9", "features.11", "features.12"])
def test_a_walk_to_a_layer_is_theirs_through_the_rest_of_the_network(layer: str, real_data: Path) -> None:
    from zennit.composites import ExcitationBackprop

    case = case_of("squeezenet1_0", 3)
    found = METHODS.get("layer-excitation-backprop").build(case.classifier, layer).attribute(case.pixels, case.target)
    network, cut = case.classifier.network, int(layer.partition(".")[2]) + 1
    after = torch.nn.Sequential(*network.features[cut:], *network.classifier, torch.nn.Flatten())
    with torch.no_grad():
        activations = network.features[:cut](case.classifier.normalize(case.pixels))
    with ExcitationBackprop(zero_params="bias").context(after) as changed:
        activations = activations.requires_grad_(True)
        logits = changed(activations)
        start = torch.nn.functional.one_hot(case.target, logits.shape[1]).to(logits)
        (walk,) = torch.autograd.grad(logits, activations, start)
    assert share_of_range(found.values, walk.sum(1)) <= 1e-4


@pytest.mark.parametrize("name", [*RELEVANCE, *GRADIENTS])
def test_it_runs_and_leaves_nothing_behind(name: str) -> None:
    network = ModularNet()
    clf = classifier(network)
    clf.outline()
    with unchanged(network):
        found = METHODS.get(f"zennit/{name}").build(clf).attribute(images(), [0, 1, 2])
    assert found.values.shape == (3, 16, 16)
    assert found.values.isfinite().all()
    if name in RELEVANCE[:-1]:
        zero = METHODS.get(f"zennit/{name}").build(clf, zero_params=["bias"]).attribute(images(), [0, 1, 2])
        assert torch.allclose(zero.values.sum((1, 2)), zero.scores, rtol=0.05)


@pytest.mark.parametrize("name", RELEVANCE)
def test_sums_that_it_does_not_see_are_refused(name: str) -> None:
    with pytest.raises(BadInput, match="got 1 of them in ReusedReluNet, where zennit's relevance is not conserved"):
        METHODS.get(f"zennit/{name}").build(classifier(ReusedReluNet())).attribute(images(1))


def test_relus_that_it_does_not_see_are_flagged() -> None:
    found = METHODS.get("zennit/guided-backprop").build(classifier(FunctionalReluNet())).attribute(images(2))
    assert found.flags == [{"functional-relu"}] * 2
