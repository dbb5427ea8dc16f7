"""load: one door to every model."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import safetensors.torch
import torch

from xaikit.foundation.errors import BadInput, NoSuchLayer, UnknownName
from xaikit.foundation.files import package_data
from xaikit.zoo import load as loading
from xaikit.zoo.architectures.cifar_resnet import CIFAR10_LABELS, CifarResNet
from xaikit.zoo.catalogue import KnownModel, models
from xaikit.zoo.empty_networks import drawn
from xaikit.zoo.load import load, resolve_device


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize(
    ("name", "layer", "size", "channels", "classes"),
    [
        ("texture-cnn", "features.11", 64, 3, 6),
        pytest.param("texture-vit", "encoder.layers.encoder_layer_3.ln_1", 64, 3, 6, marks=pytest.mark.slow),
        ("lenet5-digits", "features.5", 32, 1, 10),
    ],
)
def test_shipped_networks_load(name: str, layer: str, size: int, channels: int, classes: int) -> None:
    classifier = load(name)
    assert (classifier.name, classifier.weights) == (name, "weights.safetensors")
    assert (classifier.layer, classifier.size, classifier.channels) == (layer, (size, size), channels)
    assert classifier.labels is not None
    assert len(classifier.labels) == classifier.classes == classes
    assert classifier.fingerprint == load(package_data(f"models/{name}")).fingerprint
    assert classifier.resize.kind == "squash"
    assert not classifier.network.training


@pytest.mark.slow
@pytest.mark.parametrize("depth", [20, 32, 44, 56, 110])
def test_cifar_networks_load_from_a_file(tmp_path: Path, depth: int) -> None:
    name, original = f"cifar-resnet{depth}", drawn(lambda: CifarResNet(depth))
    state = {f"module.{key}": value for key, value in original.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "w.pth")
    classifier = load(name, tmp_path / "w.pth", device="cpu")
    assert (classifier.name, classifier.weights, classifier.layer) == (name, "w.pth", "layer3")
    assert classifier.labels == list(CIFAR10_LABELS)
    assert (classifier.resize.kind, classifier.resize.size) == ("squash", (32, 32))
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    assert torch.allclose(classifier(pixels), original((pixels - mean) / std), atol=1e-5)


def test_a_cifar_network_of_other_classes_has_no_labels(tmp_path: Path) -> None:
    safetensors.torch.save_file(drawn(lambda: CifarResNet(20, 100)).state_dict(), tmp_path / "w.safetensors")
    classifier = load("cifar-resnet20", tmp_path / "w.safetensors")
    assert (classifier.classes, classifier.labels) == (100, None)


def test_a_cifar_network_without_weights_says_what_to_give() -> None:
    with pytest.raises(BadInput) as caught:
        load("cifar-resnet20")
    assert str(caught.value) == (
        "cifar-resnet20: expected weights from a file, got none; "
        "give --weights FILE, or use a shipped model: lenet5-digits, texture-cnn, texture-vit"
    )


@pytest.mark.parametrize("name", ["texture-cnn", "cifar-resnet20", "squeezenet1_1"])
@pytest.mark.slow
def test_random_weights_repeat_and_leave_the_global_generator(name: str) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    one, other = load(name, "random"), load(name, "random")
    assert torch.equal(torch.get_rng_state(), before)
    assert one.fingerprint == other.fingerprint
    assert one.weights == "random"


def test_what_the_user_says_goes_before_what_is_known() -> None:
    classifier = load(
        "cifar-resnet20",
        "random",
        layer="layer2",
        output="sigmoid",
        labels=list("abcdefghij"),
        size=48,
        mean=[0.5] * 3,
        std=[0.25] * 3,
        device="cpu",
    )
    assert (classifier.layer, classifier.output, classifier.size) == ("layer2", "sigmoid", (48, 48))
    assert classifier.labels == list("abcdefghij")
    assert classifier.mean.flatten().tolist() == [0.5] * 3
    assert classifier.std.flatten().tolist() == [0.25] * 3


def test_another_size_keeps_the_share_that_is_cut_away() -> None:
    resize = load("squeezenet1_1", "random", size=112).resize
    assert (resize.size, resize.short) == ((112, 112), 128)


def test_the_catalogue_may_override_the_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {**models(), "cifar-resnet20": KnownModel("cifar-resnet20", "cifar", 32, layer="layer2")}
    monkeypatch.setattr(loading, "models", lambda: known)
    assert load("cifar-resnet20", "random").layer == "layer2"
    assert load("cifar-resnet20", "random", layer="layer1").layer == "layer1"


def test_a_known_name_goes_before_a_folder_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("cifar-resnet20").mkdir()
    assert load("cifar-resnet20", "random").layer == "layer3"
    with pytest.raises(BadInput, match=r"expected recipe.toml in it"):
        load("./cifar-resnet20/")


def test_a_trained_folder_is_a_model_name_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for file in ("recipe.toml", "weights.safetensors"):
        (folder / file).write_bytes((package_data("models/lenet5-digits") / file).read_bytes())
    monkeypatch.chdir(folder)
    for name in (folder, str(folder), ".", Path("../mine")):
        classifier = load(name)
        assert (classifier.name, classifier.labels) == ("mine", [str(digit) for digit in range(10)])


@pytest.mark.parametrize(
    ("name", "near"),
    [("resnt50", "resnet50"), ("texture_cnn", "texture-cnn"), ("cifar-resnet21", "cifar-resnet20"), ("VGG16", "vgg16")],
)
def test_an_unknown_name_has_near_ones(name: str, near: str) -> None:
    with pytest.raises(UnknownName, match=rf"unknown model '{name}'; did you mean .*\b{near}\b") as caught:
        load(name)
    assert str(caught.value).count(f" {near} ") + str(caught.value).count(f" {near}?") == 1


def test_a_file_in_the_place_of_a_model_says_where_it_belongs(tmp_path: Path) -> None:
    (tmp_path / "w.pth").touch()
    with pytest.raises(BadInput, match=r"got the file .*w\.pth; give a name, and --weights .*w\.pth"):
        load(tmp_path / "w.pth")


@pytest.mark.parametrize("name", ["texture-cnn", "cifar-resnet20", "squeezenet1_1"])
def test_weights_that_are_neither_a_name_nor_a_file(name: str) -> None:
    with pytest.raises(UnknownName, match="unknown weights 'IMAGENET21K'"):
        load(name, "IMAGENET21K")
    with pytest.raises(BadInput, match=r"weights: nowhere.w\.pth: no such file"):
        load(name, "nowhere/w.pth")
    with pytest.raises(BadInput, match=r"weights: w\.safetensors: no such file"):
        load(name, "w.safetensors")


def test_weights_of_another_network_for_a_shipped_one(tmp_path: Path) -> None:
    safetensors.torch.save_file(drawn(lambda: CifarResNet(20)).state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(BadInput, match=r"expected those of texture-cnn, got .*; give weights of texture-cnn"):
        load("texture-cnn", tmp_path / "w.safetensors")


def test_an_unknown_layer_has_near_ones() -> None:
    with pytest.raises(NoSuchLayer, match="no layer 'layer9' in the network; did you mean layer"):
        load("cifar-resnet20", "random", layer="layer9")


def test_auto_is_the_gpu_where_there_is_one() -> None:
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert resolve_device("auto").type == load("texture-cnn").device.type == expected
    assert resolve_device("cpu") == resolve_device(torch.device("cpu")) == torch.device("cpu")


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta", "cpu:x", ""])
def test_a_device_that_is_not_there_is_refused(device: str) -> None:
    with pytest.raises(BadInput, match=rf"device: expected one of auto, cpu.*, got '{device}'"):
        load("texture-cnn", device=device)
