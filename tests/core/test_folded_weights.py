"""Folded weights: the network's own numbers, whatever is written into it, and only where nothing else would notice."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.core.test_in_place import Before, Doubled, Normed, Shortcut
from xaikit.core.classifier import Classifier
from xaikit.core.folded_weights import fold
from xaikit.core.in_place import InPlace


class Wide(Normed):
    """Convolutions of more than 4,096 weights, one with a bias and one without."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 60, 3), nn.BatchNorm2d(60)
        self.conv2 = nn.Conv2d(60, 6, 5, bias=False)
        self.norm1.running_var.uniform_(0.5, 2)
        self.norm1.running_mean.normal_()


class Tied(Normed):
    """Two convolutions with one weight and a norm each."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3)
        self.conv2.weight = self.conv1.weight
        self.norm1, self.norm2, self.head = nn.BatchNorm2d(3), nn.BatchNorm2d(3), nn.Linear(3, self.head.out_features)


@pytest.fixture(autouse=True)
def every_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xaikit.core.classifier._LARGE", 0)


@pytest.fixture
def pixels() -> Tensor:
    return torch.rand(3, 3, 12, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def classifier(net: type[nn.Module]) -> Classifier:
    found = Classifier(net().double().eval().requires_grad_(False))
    found.outline((12, 12))
    return found


def folded(clf: Classifier) -> set[str]:
    """Return the norms that are folded now."""
    seen = clf.outline()
    names = {id(module): name for name, module in clf.network.named_modules()}
    return {names[id(one.norm)] for one in fold(clf.network, seen.in_place, seen.calls).values()}


def agrees(clf: Classifier, pixels: Tensor) -> bool:
    with torch.no_grad():
        return torch.allclose(clf.logits(pixels), clf.network(pixels), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("net", "expected"),
    [(Normed, {"norm1", "norm2"}), (Wide, {"norm1", "norm2"}), (Shortcut, {"norm2"}), (Doubled, set()), (Tied, set())],
)
def test_what_is_folded_gives_the_networks_numbers(net: type[nn.Module], expected: set[str], pixels: Tensor) -> None:
    clf = classifier(net)
    assert folded(clf) == expected
    assert agrees(clf, pixels)


def test_a_folded_norm_does_nothing(pixels: Tensor) -> None:
    clf = classifier(Normed)
    seen = clf.outline()
    with torch.no_grad():
        expected = clf.network.norm1(clf.network.conv1(pixels))
        with InPlace(clf.network, {}, fold(clf.network, seen.in_place, seen.calls)) as mode:
            made = clf.network.conv1(pixels)
            same = clf.network.norm1(made)
            clf.network.norm2(clf.network.conv2(same))
    assert not mode.misread
    assert same.data_ptr() == made.data_ptr()
    torch.testing.assert_close(made, expected, rtol=1e-12, atol=1e-12)


def swap(weight: Tensor) -> None:
    """Exchange two neighbouring weights, which changes neither their sum nor their norm."""
    flat = weight.permute(0, 2, 3, 1).reshape(-1)
    flat[[7, 8]] = flat[[8, 7]]


@pytest.mark.parametrize(
    "write",
    [
        lambda net: net.conv1.weight.data.mul_(2),
        lambda net: net.conv2.weight.data[3, 2, 1, 1].add_(0.1),
        lambda net: net.conv2.weight.data[-1, -1, -1, -1].add_(0.1),
        lambda net: swap(net.conv2.weight.data),
        lambda net: net.conv1.bias.numpy().__iadd__(1),
        lambda net: net.norm1.running_mean.data.add_(1),
        lambda net: net.norm2.running_var.data.mul_(3),
        lambda net: net.norm1.weight.data.neg_(),
        lambda net: net.norm2.bias.data.add_(0.5),
        lambda net: setattr(net.norm1, "eps", 0.5),
        lambda net: net.load_state_dict({name: one + 0.1 for name, one in net.state_dict().items()}),
        lambda net: setattr(net, "conv2", nn.Conv2d(60, 6, 5).double().requires_grad_(False)),
        lambda net: setattr(net, "norm1", nn.Identity()),
    ],
)
def test_whatever_is_written_is_seen(write: Callable[[nn.Module], object], pixels: Tensor) -> None:
    clf = classifier(Wide)
    pixels = pixels.repeat(4, 1, 1, 1)
    with torch.no_grad():
        before = clf.logits(pixels)
        write(clf.network)
        assert agrees(clf, pixels)
        assert not torch.allclose(clf.logits(pixels), before, rtol=1e-6)


@pytest.mark.parametrize("kind", ["register_forward_hook", "register_forward_pre_hook"])
def test_a_hooked_norm_sees_its_own_input(kind: str, pixels: Tensor) -> None:
    clf = classifier(Normed)
    seen: list[Tensor] = []
    getattr(clf.network.norm1, kind)(lambda module, args, *output: seen.append(args[0].clone()))
    with torch.no_grad():
        clf.logits(pixels)
        if kind == "register_forward_pre_hook":
            torch.testing.assert_close(seen[0], clf.network.conv1(pixels))
    assert folded(clf) == {"norm2"}


def test_a_norm_in_training_mode_is_left_alone(pixels: Tensor) -> None:
    clf = classifier(Normed)
    clf.network.norm1.train()
    assert folded(clf) == {"norm2"}


def test_small_batches_half_precision_and_autocast_do_not_repay_it(
    pixels: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[object] = []
    monkeypatch.setattr("xaikit.core.classifier.fold", lambda *args: calls.append(args) or {})
    clf, half = classifier(Wide), Classifier(Normed().bfloat16().eval())
    with torch.no_grad():
        half.logits(pixels)
        clf.logits(pixels)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            clf.logits(pixels.repeat(4, 1, 1, 1))
        assert not calls
        clf.logits(pixels.repeat(2, 1, 1, 1))
        assert len(calls) == 1


def test_a_norm_before_the_convolution_is_not_folded_and_copies_do_not_travel(pixels: Tensor) -> None:
    clf = classifier(Before)
    assert folded(clf) == {"norm2"}
    size = len(pickle.dumps(clf))
    assert agrees(clf, pixels)
    assert len(pickle.dumps(clf)) == size


def test_a_graph_through_the_weights_or_the_image_is_the_networks_own(pixels: Tensor) -> None:
    clf = classifier(Normed)
    inputs = pixels.clone().requires_grad_(True)
    found = torch.autograd.grad(clf.logits(inputs)[:, 0].sum(), inputs)[0]
    expected = torch.autograd.grad(clf.network(inputs)[:, 0].sum(), inputs)[0]
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("memory_format", [torch.channels_last, None])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 2, "padding": 1, "bias": False},
        {"dilation": 2, "groups": 2},
        {"padding": "same"},
        {"padding": (2, 1), "padding_mode": "circular", "groups": 4},
    ],
)
def test_packed_for_onednn_they_give_the_same_at_every_size(
    options: dict[str, object], memory_format: torch.memory_format | None
) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(4, 8, 3, **options), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.LazyLinear(4))
    network(torch.rand(8, 4, 12, 12))
    clf = Classifier(network.eval().requires_grad_(False), size=12, channels=4, memory_format=memory_format)
    assert folded(clf) == {"1"}
    for count in (8, 1, 3, 20):
        inputs = torch.randn(count, 4, 12, 12)
        with torch.no_grad():
            torch.testing.assert_close(clf.logits(inputs), network(inputs), rtol=1e-5, atol=1e-6)
    broken = torch.full((8, 4, 12, 12), torch.nan)
    with torch.no_grad():
        assert clf.logits(broken).isnan().all()


def test_they_are_laid_out_for_the_batch_at_hand_whatever_ran_before(monkeypatch: pytest.MonkeyPatch) -> None:
    operators = torch.ops.mkldnn
    if not hasattr(operators, "_reorder_convolution_weight"):
        pytest.skip("this torch is built without oneDNN")
    plain, shapes = operators._reorder_convolution_weight, []

    def watched(*args: object) -> Tensor:
        shapes.append(args[-1])
        return plain(*args)

    monkeypatch.setattr(operators, "_reorder_convolution_weight", watched)
    network = nn.Sequential(nn.Conv2d(4, 8, 3, groups=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 8))
    clf = Classifier(network.append(nn.Flatten()).eval().requires_grad_(False), size=10, channels=4)
    monkeypatch.setattr("xaikit.core.classifier._REPAID", 0)
    for count in (1, 8, 3, 8, 1):
        inputs = torch.randn(count, 4, 10, 10)
        with torch.no_grad():
            torch.testing.assert_close(clf.logits(inputs), network(inputs), rtol=1e-5, atol=1e-6)
    assert shapes == [[1, 4, 10, 10], [8, 4, 10, 10], [1, 4, 10, 10]]


def test_without_onednn_they_run_as_they_are(pixels: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    clf = Classifier(Normed().eval().requires_grad_(False))
    with torch.no_grad():
        torch.testing.assert_close(clf.logits(pixels.float()), clf.network(pixels.float()), rtol=1e-5, atol=1e-6)
