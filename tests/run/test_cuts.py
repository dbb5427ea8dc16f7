"""A part of the forward without a gradient flags the maps that need one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.networks import Activated, GAPNet, bound, images
from tests.networks.disguised import RELUS, Checkpointed, OwnRelu
from tests.networks.variants import seeded
from xaikit.methods.base import METHODS
from xaikit.model.classifier import Classifier
from xaikit.run.cuts import cuts


@torch.no_grad()
def gate(x: Tensor) -> Tensor:
    return torch.sigmoid(x).mean((2, 3), keepdim=True)


CUTTING: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "detached gate": (lambda x: x * torch.sigmoid(x).detach(), "detach"),
    "detached mean": (lambda x: x - x.detach().mean((2, 3), keepdim=True), "detach"),
    "data": (lambda x: x + F.relu(x.data), "__get__"),
    "gate without a graph": (lambda x: x * gate(x), "sigmoid"),
    "rounded branch": (lambda x: x + (x * 8).round() / 8, "round"),
    "scale as a number": (lambda x: x / x.detach().abs().max().item(), "item"),
    "scale as a float": (lambda x: x / float(x.detach().std()), "float"),
    "by NumPy": (lambda x: x + torch.from_numpy(x.detach().numpy()), "numpy"),
    "straight through": (lambda x: x + (x.sign() - x).detach(), "detach"),
}
WHOLE: dict[str, Callable[[Tensor], Tensor]] = RELUS | {
    "sign": torch.sign,
    "blank": lambda x: x + torch.zeros_like(x),
    "own function": OwnRelu.apply,
    "watched": lambda x: x if x.detach().abs().sum() > 0 else -x,
    "largest": lambda x: x.gather(1, x.argmax(1, keepdim=True)).expand_as(x),
}


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("form", list(CUTTING))
def test_a_cut_beside_the_main_path_is_named_and_flagged(form: str, count: int) -> None:
    function, name = CUTTING[form]
    clf, x = bound(Activated(F.relu, lambda x: F.relu(x) + function(x))), images(count)
    found = METHODS.get("saliency")(clf).attribute(x, 1)
    assert all("cut-gradient" in flags for flags in found.flags)
    assert bool(found.values.any())
    assert not METHODS.get("occlusion")(clf).attribute(x, 1).flags[0]
    with clf.borrowed():
        assert name.strip("_") in cuts(clf, x[:1])


@pytest.mark.parametrize("form", list(WHOLE))
def test_a_graph_without_cuts_has_no_flag(form: str) -> None:
    clf = bound(Activated(F.relu, lambda x: F.relu(x) + WHOLE[form](x)))
    for method in (METHODS.get("saliency")(clf), METHODS.get("hires-cam")(clf, layer="conv1")):
        assert method.attribute(images(2), 1).flags == [set()] * 2


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_a_checkpoint_is_no_cut() -> None:
    for reentrant in (False, True):
        clf = Classifier(seeded(lambda kind=reentrant: Checkpointed(kind)).double(), size=8)
        assert METHODS.get("saliency")(clf).attribute(images(2), 1).flags == [set()] * 2


def test_one_forward_is_enough() -> None:
    network = GAPNet()
    clf = bound(network)
    seen: list[int] = []
    network.register_forward_hook(lambda module, args, output: seen.append(len(output)))
    METHODS.get("saliency")(clf).attribute(images(3), 1)
    first = len(seen)
    METHODS.get("saliency")(clf).attribute(images(3), 1)
    assert len(seen) == first + 1
