"""BatchNorm in place: the same numbers, only where nothing else reads the convolution's output, weights read anew."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.core.nets import CLASSES
from xaikit.core.classifier import Classifier
from xaikit.core.in_place import InPlace


class Normed(nn.Module):
    """conv -> norm -> relu -> conv -> norm -> mean -> head, with statistics that are not the unit's."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv1, self.norm1 = nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5)
        self.conv2, self.norm2 = nn.Conv2d(5, 6, 3), nn.BatchNorm2d(6)
        self.head = nn.Linear(6, CLASSES)
        for norm in (self.norm1, self.norm2):
            for values in (norm.running_var, norm.weight.data):
                values.uniform_(0.5, 2)
            for values in (norm.running_mean, norm.bias.data):
                values.normal_()

    def first(self, x: Tensor) -> Tensor:
        return self.norm1(self.conv1(x)).relu()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm2(self.conv2(self.first(x))).mean((2, 3)))


class Shortcut(Normed):
    """The first convolution's output is read again after its norm."""

    def first(self, x: Tensor) -> Tensor:
        made = self.conv1(x)
        return (self.norm1(made) + made).relu()


class Keeping(Normed):
    """The network keeps a convolution's output."""

    def first(self, x: Tensor) -> Tensor:
        self.kept = self.conv1(x)
        return self.norm1(self.kept).relu()


class Doubled(Normed):
    """One norm for two convolutions."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head((self.norm1(self.conv1(x)) + self.norm1(self.conv1(x.flip(3)))).mean((2, 3))[:, [0] * 6])


class Moody(Normed):
    """After the outline's image, the first convolution's output is read again, or its norm is left out."""

    mood = ""

    def first(self, x: Tensor) -> Tensor:
        made = self.conv1(x)
        if self.mood == "skip":
            return made.relu()
        normed = self.norm1(made).relu()
        if self.mood == "split":
            return normed + torch.cat(made.chunk(5, 1), 1)
        return normed + made if self.mood == "add" else normed


class Before(Normed):
    """A norm before the convolution, as in DenseNet."""

    def first(self, x: Tensor) -> Tensor:
        made = self.conv1(x).relu()
        return self.norm1(made) * made


@pytest.fixture(params=[2, float("inf")], ids=["folded", "in place"], autouse=True)
def repaid(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xaikit.core.classifier._LARGE", 0)
    monkeypatch.setattr("xaikit.core.classifier._REPAID", request.param)


@pytest.fixture
def pixels() -> Tensor:
    return torch.rand(3, 3, 12, 12, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("net", "expected"),
    [
        (Normed, {"norm1": ("conv1",), "norm2": ("conv2",)}),
        (Shortcut, {"norm2": ("conv2",)}),
        (Keeping, {"norm2": ("conv2",)}),
        (Doubled, {}),
        (Before, {"norm2": ("conv2",)}),
    ],
)
def test_only_norms_that_alone_read_a_convolution(net, expected, pixels) -> None:
    network = net().double().eval()
    classifier = Classifier(network)
    with torch.no_grad():
        found = classifier.logits(pixels.double())
        assert classifier.outline().in_place == expected
        torch.testing.assert_close(found, network(pixels.double()), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mood", ["skip", "add", "split"])
def test_a_network_that_changes_its_mind_runs_as_it_is_written(mood: str, pixels) -> None:
    network = Moody().double().eval()
    classifier = Classifier(network)
    with torch.no_grad():
        classifier.logits(pixels.double())
        network.mood = mood
        torch.testing.assert_close(classifier.logits(pixels.double()), network(pixels.double()))


def test_it_writes_into_the_convolutions_output(pixels) -> None:
    network = Normed().eval()
    with torch.no_grad(), InPlace(network, {"norm1": ("conv1",)}):
        made = network.conv1(pixels)
        assert network.norm1(made).data_ptr() == made.data_ptr()


def test_a_small_batch_runs_as_it_is_written(pixels, monkeypatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError(args)

    classifier = Classifier(Normed().eval())
    normed = 5 * 10 * 10 + 6 * 8 * 8
    monkeypatch.setattr("xaikit.core.classifier.InPlace", refuse)
    monkeypatch.setattr("xaikit.core.classifier._LARGE", 3 * normed / 2)
    with torch.no_grad():
        classifier.logits(pixels)
        with pytest.raises(AssertionError):
            classifier.logits(torch.cat([pixels, pixels]))


def test_weights_are_read_at_each_call(pixels) -> None:
    network = Normed().eval()
    classifier = Classifier(network)
    with torch.no_grad():
        classifier.logits(pixels)
        network.norm1.bias.data += 1
        network.conv2.weight.data[2] = 0
        network.norm2.running_var.data.mul_(3)
        torch.testing.assert_close(classifier.logits(pixels), network(pixels), rtol=1e-5, atol=1e-6)


def test_a_hooked_convolution_keeps_its_output(pixels) -> None:
    network = Normed().eval()
    classifier = Classifier(network)
    classifier.outline((12, 12))
    seen: list[Tensor] = []
    handle = network.conv1.register_forward_hook(lambda module, args, output: seen.append(output))
    with torch.no_grad():
        classifier.logits(pixels)
        handle.remove()
        assert torch.equal(seen[0], network.conv1(classifier._fit(pixels)))


def test_modules_put_in_the_place_of_others_are_left_alone(pixels) -> None:
    network = Normed().eval()
    classifier = Classifier(network)
    classifier.outline((12, 12))
    network.norm1 = nn.Identity()
    network.conv2 = nn.Sequential(network.conv2, nn.Identity())
    with torch.no_grad():
        torch.testing.assert_close(classifier.logits(pixels), network(pixels))


def test_training_mode_and_graphs_are_left_alone(pixels) -> None:
    network = Normed()
    classifier = Classifier(network.eval())
    classifier.outline((12, 12))
    logits = classifier.logits(pixels)
    logits.sum().backward()
    assert network.conv1.weight.grad is not None
    assert network.norm1.weight.grad is not None
    network.train()
    before = network.norm1.running_mean.clone()
    with torch.no_grad():
        classifier.logits(pixels)
    assert not torch.equal(before, network.norm1.running_mean)


def test_bfloat16_and_autocast_agree_with_the_network(pixels) -> None:
    network = Normed().eval()
    classifier = Classifier(network)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(classifier.logits(pixels), network(pixels).float(), rtol=1e-2, atol=1e-2)
    with torch.no_grad():
        half = Classifier(Normed().bfloat16().eval())
        torch.testing.assert_close(half.logits(pixels), half.network(pixels.bfloat16()).float(), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("kind", ["register_forward_hook", "register_forward_pre_hook"])
def test_what_the_hook_of_a_norm_keeps_stays_as_it_is(kind: str, pixels) -> None:
    network = Normed().eval()
    classifier = Classifier(network)
    classifier.outline((12, 12))
    kept: list[Tensor] = []
    getattr(network.norm1, kind)(lambda module, args, *output: kept.append(args[0]))
    with torch.no_grad():
        classifier.logits(pixels)
        torch.testing.assert_close(kept[0], network.conv1(pixels), rtol=1e-5, atol=1e-6)
