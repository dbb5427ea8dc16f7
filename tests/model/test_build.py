"""A network that is changed after its first use is looked at again, or refused."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xaikit.api import attribute
from xaikit.foundation.errors import BadInput, XaikitWarning
from xaikit.model.classifier import Classifier


class Changing(nn.Module):
    """What it does follows plain attributes, and `settings`, in which nobody looks."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Linear(6, 4)
        self.shares, self.drop, self.calls, self.size = False, 0.0, 0, (0, 0)
        self.width: int | None = None
        self.end: Callable[[Tensor], Tensor] | None = None
        self.settings = SimpleNamespace(shares=False, drop=0.0)

    def forward(self, x: Tensor) -> Tensor:
        self.calls, self.width, self.size = self.calls + 1, x.shape[-1], (x.shape[2], x.shape[3])
        z = self.head(F.dropout(F.relu(self.norm(self.conv(x))).mean((2, 3)), max(self.drop, self.settings.drop)))
        z = z if self.end is None else self.end(z)
        return z.softmax(1) if self.shares or self.settings.shares else z


def one_logit(net: Changing) -> None:
    net.head = nn.Linear(6, 1)


def more_logits(net: Changing) -> None:
    net.head = nn.Linear(6, 7)


def softmax_behind(net: Changing) -> None:
    net.head = nn.Sequential(net.head, nn.Softmax(1))  # type: ignore[assignment]


def batch_statistics(net: Changing) -> None:
    net.norm = nn.BatchNorm2d(6, track_running_stats=False)


def set_to(name: str, value: object) -> Callable[[Changing], None]:
    return lambda net: setattr(net, name, value)


def made(change: Callable[[Changing], None] | None = None) -> Changing:
    torch.manual_seed(0)
    net = Changing().eval()
    if change is not None:
        change(net)
    return net


CHANGES: dict[str, tuple[Callable[[Changing], None] | None, Callable[[Changing], None]]] = {
    "one logit": (None, one_logit),
    "more logits": (None, more_logits),
    "softmax behind": (None, softmax_behind),
    "softmax on": (None, set_to("shares", value=True)),
    "softmax off": (set_to("shares", value=True), set_to("shares", value=False)),
    "a function": (set_to("end", torch.neg), set_to("end", lambda z: z.log_softmax(1))),
    "dropout on": (None, set_to("drop", 0.5)),
    "batch statistics": (None, batch_statistics),
}
X = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", list(CHANGES))
def test_a_changed_network_is_explained_as_a_new_one(name: str) -> None:
    before, change = CHANGES[name]
    net = made(before)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", XaikitWarning)
        clf = Classifier(net, mean=0.5)
        attribute(clf, X, 0)
        torch.manual_seed(1)
        change(net)
        found = attribute(clf, X, 0, "saliency")
        expected = attribute(Classifier(net, mean=0.5), X, 0, "saliency")
    assert found.flags == expected.flags
    assert found.flags[0] or torch.allclose(found.values, expected.values)
    assert found.flags[0] or torch.allclose(found.probabilities, expected.probabilities)


def test_a_network_that_was_not_changed_is_looked_at_once() -> None:
    net = made()
    clf = Classifier(net, mean=0.5)
    attribute(clf, X, 0, "saliency")
    for training in (False, True):
        net.train(training)
        calls = net.calls
        assert attribute(clf, X, 0, "saliency").values.shape == (2, 8, 8)
        assert net.calls == calls + 1


def test_a_copy_of_a_classifier_is_looked_at_when_it_changes() -> None:
    net = made()
    clf = Classifier(net, mean=0.5)
    attribute(clf, X, 0, "saliency")
    other = copy.deepcopy(clf)
    calls = other.network.calls
    attribute(other, X, 0, "saliency")
    assert other.network.calls == calls + 1
    more_logits(other.network)
    assert attribute(other, X, 6, "saliency").flags == [set()] * 2
    assert (other.classes, clf.classes) == (7, 4)


def test_dropout_that_no_attribute_of_a_module_shows_is_warned_of_and_flagged() -> None:
    net = made()
    clf = Classifier(net, mean=0.5, name="mine")
    assert not attribute(clf, X, 0, "saliency").flags[0]
    net.settings.drop = 0.5
    with pytest.warns(XaikitWarning, match="mine is random in eval mode"):
        assert attribute(clf, X, 0, "saliency").flags == [{"random-network"}] * 2
    assert attribute(clf, X, 0, "saliency").flags == [{"random-network"}] * 2  # a second warning fails the test


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (
            None,
            lambda net: setattr(net.settings, "shares", True),
            "expected logits, as at first, got sums of 1, as of probabilities",
        ),
        (
            lambda net: setattr(net.settings, "shares", True),
            lambda net: setattr(net.settings, "shares", False),
            "expected outputs of a softmax, as at first, got others",
        ),
        (
            None,
            lambda net: setattr(net.head, "weight", nn.Parameter(torch.ones(3, 6))) or setattr(net.head, "bias", None),
            "expected 4 outputs, as at first, got 3",
        ),
    ],
)
def test_outputs_of_another_meaning_are_refused(
    before: Callable[[Changing], None] | None, after: Callable[[Changing], None], message: str
) -> None:
    net = made(before)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", XaikitWarning)
        clf = Classifier(net, mean=0.5)
        attribute(clf, X, 0, "saliency")
    after(net)
    with pytest.raises(BadInput, match=message + "; it was changed: make a new Classifier of it") as told:
        attribute(clf, X, 0, "saliency")
    assert "\n" not in str(told.value)
