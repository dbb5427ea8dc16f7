"""torchvision's networks: their own preprocessing, their files' peculiarities, and what happens without a network."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision.models as tv
from PIL import Image
from torch import Tensor, nn

from xaikit.foundation.errors import BadInput, UnknownName
from xaikit.zoo.empty_networks import drawn
from xaikit.zoo.load import load
from xaikit.zoo.sources import torchvision as zoo
from xaikit.zoo.sources.torchvision import from_enum, from_file, weight_names

INPUTS = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
SQUEEZENET = "squeezenet1_0-b66bff10.pth"


def squeezenet(classes: int = 1000) -> nn.Module:
    return drawn(lambda: tv.squeezenet1_0(num_classes=classes))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in the place of torch hub's cache."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("no_proxy", "*")
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """No name resolves; returns what was asked for."""
    asked: list[object] = []

    def refuse(host: object, *args: object, **kwargs: object) -> None:
        asked.append(host)
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return asked


# ---- with the weights' own preprocessing -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["efficientnet_b0", "efficientnet_b1", "mobilenet_v3_small", "regnet_y_400mf", "shufflenet_v2_x0_5"]
)
@pytest.mark.slow
def test_pictures_are_read_as_torchvision_does(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    state = drawn(lambda: tv.get_model(name)).state_dict()
    monkeypatch.setattr(zoo, "_downloaded", lambda name, weights: state)
    classifier = load(name, device="cpu")
    weights = tv.get_model_weights(name).DEFAULT
    for sides in ((500, 333), (200, 301)):
        noise = np.random.default_rng(0).integers(0, 255, (*sides, 3), dtype=np.uint8)
        picture = Image.fromarray(noise)
        ours, theirs = classifier.normalize(classifier.read(picture)), weights.transforms()(picture)[None]
        assert torch.allclose(ours, theirs, atol=1e-5), sides
    assert (classifier.name, classifier.weights) == (name, weights.name)
    assert classifier.labels == weights.meta["categories"]


def test_labels_are_words(offline: list[object]) -> None:
    labels = load("squeezenet1_0", "random").labels
    assert labels is not None
    assert (labels[281], labels[0], len(set(labels))) == ("tabby", "tench", 1000)
    assert offline == []


# ---- downloads -------------------------------------------------------------------------------------------------------


def test_without_network_one_line_names_the_ways_out(
    cache: Path, offline: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BadInput) as caught:
        load("squeezenet1_0")
    assert str(caught.value) == (
        "squeezenet1_0: could not download the weights IMAGENET1K_V1 ([Errno -2] Name or service not known); "
        "give --weights FILE, or use a shipped model: lenet5-digits, texture-cnn, texture-vit"
    )
    assert len(offline) == 1
    assert capsys.readouterr() == ("", "")
    assert list(cache.iterdir()) == []
    assert socket.getdefaulttimeout() is None


def test_a_cached_file_needs_no_network(cache: Path, offline: list[object]) -> None:
    original = squeezenet()
    torch.save(original.state_dict(), cache / SQUEEZENET)
    for weights in (None, "DEFAULT", "IMAGENET1K_V1", "SqueezeNet1_0_Weights.IMAGENET1K_V1"):
        classifier = load("squeezenet1_0", weights, device="cpu")
        assert classifier.weights == "IMAGENET1K_V1"
    assert torch.allclose(classifier.logits(INPUTS), original(INPUTS), atol=1e-5)
    assert offline == []


def test_a_damaged_cached_file_is_named(cache: Path, offline: list[object]) -> None:
    (cache / SQUEEZENET).write_bytes(b"PK")
    with pytest.raises(BadInput, match=re.escape(f"cached weights {cache / SQUEEZENET} are damaged; delete the file")):
        load("squeezenet1_0")


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.startswith("/404"):
            self.send_error(404, "Not Found")
            return
        body = b"not the weights"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


@pytest.mark.parametrize(("folder", "reason"), [("404", "Not Found"), ("200", "invalid hash value")])
def test_an_answer_that_is_not_the_file_is_told_in_one_line(
    cache: Path, server: str, monkeypatch: pytest.MonkeyPatch, folder: str, reason: str
) -> None:
    weights = tv.SqueezeNet1_0_Weights.DEFAULT
    monkeypatch.setattr(weights.value, "url", f"{server}/{folder}/{SQUEEZENET}")
    with pytest.raises(BadInput, match=f"{reason}.*give --weights FILE") as caught:
        load("squeezenet1_0")
    assert "\n" not in str(caught.value)
    assert list(cache.iterdir()) == []
    assert getattr(caught.value.__cause__, "closed", True), "the error holds the connection"


def test_a_server_that_never_answers_is_left(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert zoo._SECONDS == 10
    monkeypatch.setattr(zoo, "_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        weights = tv.SqueezeNet1_0_Weights.DEFAULT
        monkeypatch.setattr(weights.value, "url", f"http://127.0.0.1:{silent.getsockname()[1]}/{SQUEEZENET}")
        with pytest.raises(BadInput, match=r"could not download .*timed out.*give --weights FILE"):
            load("squeezenet1_0")


def test_unknown_and_headless_weights_are_refused(offline: list[object]) -> None:
    with pytest.raises(UnknownName, match="unknown weights 'IMAGENET1K_V9'; did you mean IMAGENET1K_V"):
        load("resnet50", "IMAGENET1K_V9")
    with pytest.raises(BadInput, match="IMAGENET1K_FEATURES of vgg16 has no classifier; use DEFAULT or IMAGENET1K_V1"):
        from_enum("vgg16", "IMAGENET1K_FEATURES")
    assert weight_names("resnet50") == ["DEFAULT", "IMAGENET1K_V1", "IMAGENET1K_V2"]
    assert offline == []


# ---- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("classes", "labelled"), [(1000, True), (7, False), (1, False)])
def test_a_file_says_how_many_classes_there_are(tmp_path: Path, classes: int, labelled: bool) -> None:
    original = squeezenet(classes)
    safetensors.torch.save_file(original.state_dict(), tmp_path / "tuned.safetensors")
    loaded = from_file("squeezenet1_0", tmp_path / "tuned.safetensors")
    assert torch.equal(loaded.network(INPUTS), original(INPUTS))
    assert loaded.network(INPUTS).shape == (2, classes)
    assert (loaded.labels is not None) == labelled
    assert loaded.weights == "tuned.safetensors"


@pytest.mark.parametrize(
    ("name", "size", "short"),
    [("squeezenet1_0", 224, 256), ("efficientnet_b1", 240, 274), ("googlenet", 224, 256), ("mnasnet0_5", 224, 256)],
)
def test_pictures_for_a_file_are_scaled_by_256_over_224_and_cut(name: str, size: int, short: int) -> None:
    resize = from_file(name, "random").resize
    assert (resize.kind, resize.size, resize.short, resize.interpolation) == ("crop", (size, size), short, "bilinear")


def with_old_densenet_keys(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {re.sub(r"(denselayer\d+\.(?:norm|conv))([12]\.)", r"\1.\2", key): value for key, value in state.items()}


def googlenet() -> nn.Module:
    return tv.googlenet(aux_logits=True, init_weights=False, transform_input=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "build", "change"),
    [
        ("densenet121", tv.densenet121, with_old_densenet_keys),
        ("googlenet", googlenet, dict),
        ("mnasnet0_5", tv.mnasnet0_5, dict),
        ("shufflenet_v2_x0_5", tv.shufflenet_v2_x0_5, dict),
    ],
)
def test_files_with_peculiar_keys_compute_the_same(
    tmp_path: Path, name: str, build: Callable[[], nn.Module], change: Callable[[Any], dict[str, Tensor]]
) -> None:
    original = drawn(build)
    state = change(original.state_dict())
    safetensors.torch.save_file(state, tmp_path / "w.safetensors")
    loaded = from_file(name, tmp_path / "w.safetensors")
    assert torch.equal(loaded.network(INPUTS), original(INPUTS))
    if name == "densenet121":
        assert list(state) != list(original.state_dict())
