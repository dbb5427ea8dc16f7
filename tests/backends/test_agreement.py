"""Our methods against other packages' on real and on random networks, as the table of pairs states it.

Where the table says that maps differ, the test demands that without the formula they are further apart than the
tolerance, so that no explanation outlives what it explains.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import xaikit
from tests.backends.cases import case_of, is_real
from tests.backends.pairs import Pair
from tests.backends.table import PAIRS, WITHOUT_OURS, WITHOUT_PEER
from xaikit.images.shapes import unit, upsample
from xaikit.methods.base import METHODS, LayerMethod

pytestmark = pytest.mark.backends


def cases() -> list[Any]:
    """Return every pair at each of its places, by readable names."""
    found: list[Any] = []
    seen: set[str] = set()
    for pair in PAIRS:
        for place in pair.places:
            name = f"{pair.ours}={pair.theirs}@{place}" + " lowest class" * bool(pair.rank)
            name += f": {pair.differs}" if name in seen else ""
            seen.add(name)
            found.append(pytest.param(pair, place, id=name, marks=[pytest.mark.real] if is_real(place) else []))
    return found


def share_of_range(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference as a share of each map's range."""
    assert found.shape == expected.shape
    difference = (found.double() - expected.double()).abs().flatten(1).amax(1)
    span = expected.double().flatten(1).amax(1) - expected.double().flatten(1).amin(1)
    assert (span > 0).all(), "a constant map compares nothing"
    return float((difference / span).max())


@pytest.mark.parametrize(("pair", "place"), cases())
def test_agreement(pair: Pair, place: str, request: pytest.FixtureRequest) -> None:
    package(pair.theirs)
    if is_real(place):
        request.getfixturevalue("real_data")
    case = case_of(place, pair.images, pair.side, pair.rank, pair.dtype)

    def explained(name: str, layer: str, target: Any, params: Any) -> xaikit.Attribution:
        kind = METHODS.get(name)
        method = kind.build(case.classifier, layer if issubclass(kind, LayerMethod) else None, **params)
        return method.attribute(case.pixels, target)

    ours = explained(pair.ours, pair.layer or case.ours, pair.score or case.target, pair.params)
    theirs = explained(pair.theirs, case.layer, case.target, pair.their_params)
    error = share_of_range(pair.formula(ours.values, case), pair.their_formula(theirs.values, case))
    plain = share_of_range(ours.heatmap(), theirs.heatmap())
    request.node.user_properties += [("share of range", error), ("heatmaps", plain)]
    if pair.own is not None:
        assert share_of_range(pair.own(ours.values, case), ours.values) <= pair.tolerance
    assert error <= pair.tolerance
    assert (plain > pair.tolerance) == bool(pair.differs), f"heatmaps differ by {plain:.2g} of the range"


@pytest.mark.real
@pytest.mark.parametrize(("network", "shallow"), [("cifar-resnet20", "layer2"), ("squeezenet1_0", "features.7")])
def test_fusion_of_layers(network: str, shallow: str, real_data: Any) -> None:
    """torchcam scales each map with its smallest value too and raises the deepest as well; ours is the paper's."""
    package("torchcam/layer-cam")
    from torchcam.methods import LayerCAM

    case = case_of(network)

    def explained(name: str, layer: str, **params: Any) -> Tensor:
        method = METHODS.get(name).build(case.classifier, layer, **params)
        return method.attribute(case.pixels, case.target).values

    maps = [explained("layer-cam", layer) for layer in (shallow, case.layer)]
    scaled = [explained("torchcam/layer-cam", layer, normalized=True) for layer in (shallow, case.layer)]
    theirs = LayerCAM.fuse_cams(scaled)
    size = (theirs.shape[1], theirs.shape[2])
    raised = [upsample(torch.tanh(2 * unit(one)[0]), size) for one in maps]
    assert share_of_range(torch.maximum(*raised), theirs) <= 1e-4

    ours = explained("layer-cam", case.layer, shallower=shallow)
    shares = [one / one.amax((1, 2), keepdim=True) for one in maps]
    paper = torch.maximum(upsample(torch.tanh(2 * shares[0]), size), upsample(shares[1], size))
    assert share_of_range(paper, ours) <= 1e-6
    assert share_of_range(ours, theirs) > 1e-4


@pytest.mark.real
@pytest.mark.parametrize("base", ["grad-cam", "layer-cam"])
@pytest.mark.parametrize(("network", "finer"), [("cifar-resnet20", "layer2"), ("squeezenet1_0", "features.7")])
def test_product_of_layers(network: str, finer: str, base: str, real_data: Any) -> None:
    package("pytorch-grad-cam/refine-cam")
    from pytorch_grad_cam import GradCAM, LayerCAM, RefineCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    case = case_of(network)
    theirs = RefineCAM(
        case.classifier.network,
        [case.classifier.network.get_submodule(layer) for layer in (finer, case.layer)],
        base_method={"grad-cam": GradCAM, "layer-cam": LayerCAM}[base],
    )
    classes = [ClassifierOutputTarget(int(index)) for index in case.target]
    expected = torch.from_numpy(theirs(case.classifier.normalize(case.pixels), classes))
    ours = METHODS.get("refine-cam").build(case.classifier, case.layer, shallower=finer, base=base)
    assert share_of_range(ours.attribute(case.pixels, case.target).heatmap(), expected) <= 1e-4


def test_no_activation_method_is_left_out() -> None:
    """Each of ours and of theirs stands in the table or has a reason why not; equal names always stand in it."""
    for theirs in ("captum/", "pytorch-grad-cam/", "torchcam/"):
        package(theirs)
    activation = [name for name in METHODS.names(guests=True) if METHODS.get(name).family == "activation"]
    native = {name for name in activation if "/" not in name}
    guests = set(activation) - native
    compared = {(pair.ours, pair.theirs) for pair in PAIRS if pair.ours in native}
    assert {ours for ours, _ in compared} | WITHOUT_PEER.keys() == native
    assert {theirs for _, theirs in compared} | WITHOUT_OURS.keys() == guests
    namesakes = {(name.partition("/")[2], name) for name in guests if name.partition("/")[2] in native}
    assert namesakes <= compared
    assert not {ours for ours, _ in compared} & WITHOUT_PEER.keys()
    assert not {theirs for _, theirs in compared} & WITHOUT_OURS.keys()


def package(name: str) -> None:
    """Skip where another package is not installed."""
    pytest.importorskip(name.partition("/")[0].replace("-", "_"), reason="the extra `backends` is missing")
