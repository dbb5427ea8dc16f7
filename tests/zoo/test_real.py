"""Real weights on real pictures reach the accuracy that is known of them."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from xaikit.model.classifier import Classifier
from xaikit.zoo.load import load

pytestmark = pytest.mark.real


def top_classes(classifier: Classifier, files: list[Path]) -> list[int]:
    found: list[int] = []
    with torch.inference_mode():
        for start in range(0, len(files), 50):
            found += classifier(classifier.read(files[start : start + 50])).argmax(1).tolist()
    return found


def test_squeezenet_names_58_of_100_photographs(real_data: Path) -> None:
    with (real_data / "imagenet" / "labels.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    classifier = load("squeezenet1_0", real_data / "weights" / "squeezenet1_0_imagenet.pth", device="cpu")
    assert (classifier.layer, classifier.weights) == ("features.12", "squeezenet1_0_imagenet.pth")
    assert classifier.layers()["features.12"] == (512, 13, 13)
    found = top_classes(classifier, [real_data / "imagenet" / row["file"] for row in rows])
    right = sum(index == int(row["class_index"]) for index, row in zip(found, rows, strict=True))
    assert abs(right - 58) <= 1  # one photograph may tip over between processors
    assert classifier.labels is not None
    same = sum(classifier.labels[int(row["class_index"])].lower() == row["class_name"].lower() for row in rows)
    assert same == len(rows)


@pytest.mark.parametrize(("depth", "known"), [(20, 487), (56, 502)])
def test_cifar_resnets_name_487_and_502_of_600_images(real_data: Path, depth: int, known: int) -> None:
    """81.2 % and 83.7 %, by Pillow, OpenCV and torchvision.io alike; the README of the data says 80 % and 82 %.

    No other reading of the shortcut comes as high: zero maps all before or all after give 9 to 18 %, averaging in the
    place of subsampling 79.2 and 80.2 %, the odd rows and columns 77.5 and 78.5 %.
    """
    folders = sorted(path for path in (real_data / "cifar10").iterdir() if path.is_dir())
    files = [(index, file) for index, folder in enumerate(folders) for file in sorted(folder.glob("*.jpg"))]
    classifier = load(f"cifar-resnet{depth}", real_data / "weights" / f"resnet{depth}_cifar10.pth", device="cpu")
    assert classifier.labels == [folder.name for folder in folders]
    assert classifier.layers()[classifier.layer] == (64, 8, 8)
    found = top_classes(classifier, [file for _, file in files])
    right = sum(index == label for index, (label, _) in zip(found, files, strict=True))
    assert len(files) == 600
    assert abs(right - known) <= 3  # images that may tip over between processors
