"""The methods on a real network and real photographs: Libra-CAM does what the paper says it does."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from torch import Tensor

import xaikit
from xaikit.methods.activation.reference_library import Library
from xaikit.model.classifier import Classifier
from xaikit.run.attribution import Attribution

pytestmark = [pytest.mark.real, pytest.mark.slow]

EXPLAINED = 16


@pytest.fixture(scope="module")
def clf(real_data: Path) -> Classifier:
    return xaikit.load("squeezenet1_0", weights=real_data / "weights" / "squeezenet1_0_imagenet.pth")


@pytest.fixture(scope="module")
def photographs(clf: Classifier, real_data: Path) -> tuple[Tensor, Tensor]:
    with (real_data / "imagenet" / "labels.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    pixels = clf.read([real_data / "imagenet" / row["file"] for row in rows])
    return pixels, torch.tensor([int(row["class_index"]) for row in rows])


@pytest.fixture(scope="module")
def library(clf: Classifier, photographs: tuple[Tensor, Tensor]) -> Library:
    pixels, labels = (part[40:] for part in photographs)
    return xaikit.build_library(clf, zip(pixels.split(20), labels.split(20), strict=True))


@pytest.fixture(scope="module")
def both(clf: Classifier, photographs: tuple[Tensor, Tensor], library: Library) -> dict[str, Attribution]:
    return xaikit.attribute_many(
        clf,
        photographs[0][:EXPLAINED],
        methods=["grad-cam", "libra-cam"],
        params={"libra-cam": {"library": library}},
    )


def test_libra_cam_beats_grad_cam_on_masked_confidence(
    clf: Classifier, photographs: tuple[Tensor, Tensor], both: dict[str, Attribution]
) -> None:
    """Measured on 40 photographs: IR .200 (grad-cam 0), APD .314 (.659), API .029 (.000), area .294 (.186)."""
    pixels = photographs[0][:EXPLAINED]
    curves = {name: xaikit.keep_curve(clf, pixels, found.heatmap(), found.target) for name, found in both.items()}
    libra, grad = curves["libra-cam"], curves["grad-cam"]
    assert libra.ir()[0] > grad.ir()[0] + 0.05
    assert libra.api()[0] > grad.api()[0] + 0.005
    assert libra.apd()[0] < grad.apd()[0] - 0.15
    assert libra.auc().mean() > grad.auc().mean() + 0.04


def test_the_gain_is_one_of_brightness_too(both: dict[str, Attribution]) -> None:
    """Its maps keep more of the image: the mean of the map must stand beside every soft figure."""
    libra, grad = (both[name].heatmap().mean() for name in ("libra-cam", "grad-cam"))
    assert libra > 1.5 * grad


def test_activation_maps_find_the_object(clf: Classifier, photographs: tuple[Tensor, Tensor]) -> None:
    """Cutting out the brightest fifth of the picture costs far more confidence than cutting a random fifth."""
    pixels, labels = photographs
    sure = (clf.probabilities(pixels[:EXPLAINED]).argmax(1) == labels[:EXPLAINED]).nonzero()[:, 0]
    pixels = pixels[sure]
    many = xaikit.attribute_many(clf, pixels, methods=["cam", "grad-cam", "hires-cam", "random-grid"])
    kept = {}
    for name, found in many.items():
        curve = xaikit.keep_curve(clf, pixels, 1 - found.heatmap(), found.target, levels=5, mask="binary")
        kept[name] = float((curve.o[:, 1] / curve.y).mean())
    for name in ("cam", "grad-cam", "hires-cam"):
        assert kept[name] < 0.6 * kept["random-grid"]
