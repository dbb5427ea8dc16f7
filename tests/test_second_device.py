"""Every method and measure on a second device: tensors stay there, and the numbers are those of the CPU.

`tests/device.py` emulates the device; test_device.py checks the emulation itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

import xaikit
from tests.device import CPU, NAME, PEAK_BYTES, SECOND, same, second_device
from tests.methods.small import method, network
from tests.networks import DeepNet, GAPNet, bound, heatmaps, images, pictures, small
from xaikit.benchmark.environment import report_environment
from xaikit.benchmark.score import Images, score
from xaikit.foundation.errors import XaikitWarning
from xaikit.measures.base import Subject
from xaikit.model.classifier import Classifier
from xaikit.run.attribution import Attribution
from xaikit.training.train import train
from xaikit.zoo.recipe import Recipe

pytestmark = pytest.mark.slow

COLOUR = torch.tensor([0.2, 0.5, 0.8]).reshape(3, 1, 1)
FILLS = ["mean", "black", "white", "image-mean", "blur", "noise"]
FEW = {
    "extremal-perturbation": {"steps": 2},
    "lime": {"samples": 20, "segments": 6},
    "meaningful-perturbation": {"steps": 3},
    "rise": {"samples": 20},
    "xrai": {"steps": 2},
}


@pytest.fixture(autouse=True)
def _emulated() -> Iterator[None]:
    with second_device():
        yield


class Varied(nn.Module):
    """BatchNorm, both poolings, sums and a concatenation, then global average pooling and one linear map."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.norm.running_mean.fill_(0.1)
        self.norm.running_var.fill_(0.5)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.conv3 = nn.Conv2d(8, 5, 3, padding=1)
        self.fc = nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.norm(self.conv1(x))))
        x = x + F.relu(self.conv2(x)) + 0.1
        x = torch.cat([x, F.avg_pool2d(x, 3, 1, 1)], 1)
        return self.fc(self.conv3(x).relu().mean((2, 3)))


def fitting(name: str, device: torch.device) -> Classifier:
    """Return a network that a method can explain."""
    attends = xaikit.get_method(name).family == "attention"
    return bound(network(name), mean=[0.45] * 3, std=[0.25] * 3).to(device) if attends else varied(device)


def varied(device: torch.device) -> Classifier:
    return bound(Varied(), mean=[0.45] * 3, std=[0.25] * 3).to(device)


def same_attribution(here: Attribution, there: Attribution) -> None:
    for name in ("values", "target", "scores", "probabilities"):
        same(getattr(here, name), getattr(there, name))
    same(here.heatmap(), there.heatmap())
    if here.completeness is not None:
        assert there.completeness is not None
        same(here.completeness, there.completeness)
    assert here.flags == there.flags
    assert here.diagnostics.keys() == there.diagnostics.keys()
    for name, numbers in here.diagnostics.items():
        torch.testing.assert_close(there.diagnostics[name].cpu(), numbers)


@pytest.mark.parametrize("name", xaikit.methods())
def test_methods(name: str) -> None:
    here, there = (
        method(name, fitting(name, device), **FEW.get(name, {})).attribute(images(2).to(device))
        for device in (CPU, SECOND)
    )
    same_attribution(here, there)
    assert here.params == there.params


class CountingNet(DeepNet):
    """A network that reshapes to the number of its inputs, so that a layer cannot hold more rows than those."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).reshape(len(x), -1))


@pytest.mark.parametrize(
    ("name", "params", "network"),
    [
        ("ablation-cam", {}, DeepNet),
        ("ablation-cam", {}, CountingNet),
        ("expected-gradients", {"deviation": 0.1}, DeepNet),
        ("extremal-perturbation", {"steps": 2, "areas": (0.1, 0.3)}, DeepNet),
        ("layer-cam", {"shallower": "conv1"}, GAPNet),
        ("lime", {"segmentation": "grid"}, DeepNet),
        ("lrp", {}, lambda: GAPNet(1)),
        ("relevance-cam", {}, lambda: GAPNet(1)),
        ("occlusion", {"score": "probability"}, lambda: GAPNet(1)),
    ],
)
def test_less_common_ways_of_methods(name: str, params: dict[str, Any], network: Callable[[], nn.Module]) -> None:
    here, there = (method(name, bound(network()).to(device), **params).attribute(images(2)) for device in (CPU, SECOND))
    same_attribution(here, there)
    assert here.params == there.params


@pytest.mark.parametrize("fill", [*FILLS, "inpaint"])
def test_fills_of_methods(fill: str) -> None:
    here, there = (
        method("occlusion", varied(device), fill=fill, window=4).attribute(images(2), [0, 1])
        for device in (CPU, SECOND)
    )
    same_attribution(here, there)


@pytest.mark.parametrize("value_on", [CPU, SECOND])
@pytest.mark.parametrize(
    ("name", "parameter", "value"),
    [
        ("occlusion", "fill", COLOUR),
        ("integrated-gradients", "baseline", COLOUR),
        ("deep-lift", "baseline", COLOUR),
        ("feature-ablation", "segmentation", torch.arange(64).reshape(8, 8) // 16),
    ],
)
def test_tensors_as_parameters(name: str, parameter: str, value: Tensor, value_on: torch.device) -> None:
    here = method(name, varied(CPU), **{parameter: value}).attribute(images(2))
    there = method(name, varied(SECOND), **{parameter: value.to(value_on)}).attribute(images(2))
    same_attribution(here, there)


@pytest.mark.parametrize("name", ["saliency", "occlusion", "lrp"])
@pytest.mark.parametrize(
    "target",
    [
        lambda device: torch.tensor([2, 0], device=device),
        lambda device: xaikit.Contrast(torch.tensor([2, 0], device=device), torch.tensor([1, 1], device="cpu")),
        lambda device: lambda logits: logits[:, 0] - logits[:, 2],
    ],
)
def test_targets(target: Callable[[torch.device], Any], name: str) -> None:
    here, there = (method(name, varied(device)).attribute(images(2), target(device)) for device in (CPU, SECOND))
    same_attribution(here, there)


def test_methods_that_share_passes() -> None:
    names = ["grad-cam", "saliency", "rise", "xrai"]
    here, there = (
        xaikit.attribute_many(
            varied(device), images(2), methods=names, params={"rise": {"samples": 9}, "xrai": {"steps": 2}}
        )
        for device in (CPU, SECOND)
    )
    for name in names:
        same_attribution(here[name], there[name])


def test_an_attribution_becomes_numpy_and_a_file(tmp_path: Path) -> None:
    here, there = (xaikit.attribute(varied(device), images(2), method="saliency") for device in (CPU, SECOND))
    np.testing.assert_allclose(np.asarray(there), np.asarray(here))
    there.save(tmp_path / "saliency.safetensors")
    torch.testing.assert_close(Attribution.load(tmp_path / "saliency.safetensors").values, here.values)
    same(Attribution.join([here[0], here[1]]).values, Attribution.join([there[0], there[1]]).values)


def test_pictures_are_read_to_the_device(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), (255, 128, 0)).save(tmp_path / "picture.png")
    here, there = (varied(device).read(tmp_path / "picture.png") for device in (CPU, SECOND))
    same(here, there)


def test_the_random_states_are_given_back() -> None:
    class Noisy(GAPNet):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(F.dropout(x, 0.5, training=True))

    classifier = bound(Noisy()).to(SECOND)
    before = torch.get_rng_state(), torch.cuda.get_rng_state(SECOND)
    with pytest.warns(XaikitWarning, match="random in eval mode"):
        xaikit.attribute(classifier, images(2), method="saliency")
    assert torch.equal(torch.get_rng_state(), before[0])
    assert torch.equal(torch.cuda.get_rng_state(SECOND), before[1])


def subject(device: torch.device, tensors_on: torch.device) -> Subject:
    """Two random maps and one of ones, with an attribution, masks and a method that explains again."""
    classifier = small(dtype=torch.float64).to(device)
    pixels, masks = pictures(3).double().to(tensors_on), (heatmaps(3, seed=4) > 0).to(tensors_on)
    maps = torch.cat([heatmaps(2), torch.ones(1, 9, 7)]).to(tensors_on)
    target = torch.tensor([1, 2, 0], device=tensors_on)
    explainer = xaikit.get_method("integrated-gradients").build(classifier, steps=3)
    made = replace(explainer.attribute(pixels, target), values=maps)
    return Subject(classifier, pixels, maps, target, explainer, masks, made)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        *((name, {}) for name in xaikit.measures() if name != "peak-memory"),
        ("random-logit", {"against": "runner-up"}),
    ],
)
def test_measures(name: str, params: dict[str, Any]) -> None:
    measure = xaikit.get_measure(name)(**params)
    here = measure.compute(subject(CPU, CPU))
    for tensors_on in (CPU, SECOND):
        there = measure.compute(subject(SECOND, tensors_on))
        assert there.device == CPU
        torch.testing.assert_close(there, here, rtol=1e-9, atol=1e-12, equal_nan=True)


def test_peak_memory_is_what_the_second_device_tells() -> None:
    values = xaikit.get_measure("peak-memory")().compute(subject(SECOND, SECOND))
    assert values.tolist() == [PEAK_BYTES / 2**20] * 3


@pytest.mark.parametrize(
    "switches",
    [
        *({"fill": fill} for fill in FILLS),
        {"fill": COLOUR},
        {"mask": "binary"},
        {"mask": "binary", "fill": "imputed"},
        {"mask": "binary", "ties": "average"},
        {"mask": "binary", "order": "highest"},
        {"threshold": "value", "score": "logit"},
        {"threshold": "otsu"},
    ],
)
def test_keep_curves(switches: dict[str, Any]) -> None:
    here, there = (
        xaikit.keep_curve(
            small(dtype=torch.float64).to(device), pictures(3).double(), heatmaps(3), [0, 1, 2], **switches
        )
        for device in (CPU, SECOND)
    )
    for name in ("thresholds", "y", "o", "floor", "kept", "target", "invalid", "tie_share"):
        assert getattr(there, name).device == CPU
        torch.testing.assert_close(getattr(there, name), getattr(here, name), rtol=1e-9, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("mode", ["fixed", "official"])
def test_calibration(mode: str) -> None:
    here, there = (xaikit.calibrate(varied(device), images(3), images(3)[:, 0], mode=mode) for device in (CPU, SECOND))
    same(here[0], there[0])
    same(here[1], there[1])


def test_concepts() -> None:
    here, there = (xaikit.concepts(varied(device), images(3), 2) for device in (CPU, SECOND))
    assert torch.allclose(there.maps.cpu(), here.maps, atol=1e-5)
    assert torch.allclose(there.scores.cpu(), here.scores, atol=1e-5)


@pytest.mark.parametrize("data_on", [CPU, SECOND])
def test_a_library_and_libra_cam_with_it(data_on: torch.device, tmp_path: Path) -> None:
    def explain(device: torch.device) -> tuple[Any, Attribution]:
        classifier = varied(device)
        pixels = images(12)
        with torch.no_grad():
            labels = classifier(pixels.to(device)).argmax(1)
        library = xaikit.build_library(classifier, [(pixels.to(data_on), labels.to(data_on))], 2)
        library.save(tmp_path / "library.safetensors")
        loaded = xaikit.Library.load(tmp_path / "library.safetensors")
        assert loaded.fingerprint == library.fingerprint
        return library, xaikit.attribute(classifier, pixels[:2], 0, "libra-cam", library=loaded)

    (library, here), (other, there) = explain(CPU), explain(SECOND)
    assert library.fingerprint == other.fingerprint
    assert torch.equal(library.activations, other.activations)
    same_attribution(here, there)


def test_training(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for label in ("lower", "upper"):
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(4):
            grey = draw.integers(0, 255, (16, 16), dtype=np.uint8)
            Image.fromarray(grey).save(tmp_path / "images" / label / f"{number}.png")
    recipe = Recipe.of(
        arch="lenet5",
        data=str(tmp_path / "images"),
        size=16,
        epochs=2,
        batch_size=3,
        masks=0.5,
        flip=0.5,
        class_weights="balanced",
    )
    here, there = (train(recipe, tmp_path / device.type, device=str(device)) for device in (CPU, SECOND))
    assert (here["device"], there["device"]) == ("cpu", "cuda:0")
    assert [step["loss"] for step in there["loss_curve"]] == pytest.approx(
        [step["loss"] for step in here["loss_curve"]]
    )
    first, second = (load_file(tmp_path / device.type / "weights.safetensors") for device in (CPU, SECOND))
    torch.testing.assert_close(first, second)
    loaded = xaikit.load(tmp_path / "cuda", device="cuda:0")
    assert loaded.device == SECOND


def test_scores() -> None:
    masks = torch.zeros(2, 8, 8, dtype=torch.bool)
    masks[:, 2:6, 2:6] = True
    content = Images("noise", ["a.png", "b.png"], images(2), torch.tensor([0, 1]), masks)
    measures = {name: xaikit.get_measure(name)() for name in ("api", "insertion", "pointing-game")}

    def rows(device: torch.device) -> list[dict[str, Any]]:
        classifier = varied(device)
        methods = [method(name, classifier) for name in ("grad-cam", "occlusion")]
        return score(methods, content, measures=measures)

    for here, there in zip(rows(CPU), rows(SECOND), strict=True):
        assert there.keys() == here.keys()
        for column in here.keys() - {"ms", "hardware"}:
            assert there[column] == close(here[column]), column


def close(value: Any) -> Any:
    """Return what compares equal to almost the same numbers, and to nothing but the same texts."""
    floats = isinstance(value, float) or (isinstance(value, list) and value and isinstance(value[0], float))
    return pytest.approx(value, rel=1e-9, abs=1e-12) if floats else value


def test_the_environment_names_the_device() -> None:
    assert report_environment(varied(SECOND))["device"] == f"cuda:0 ({NAME})"
