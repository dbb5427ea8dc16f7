"""Mean, size, crop and labels from a transform, timm's configuration or transformers' image processor."""

from __future__ import annotations

import csv
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import transforms as v1
from torchvision.models import ResNet18_Weights, SqueezeNet1_0_Weights, squeezenet1_0
from torchvision.transforms import v2

from tests.networks import Net, images, seeded
from xaikit import attribute
from xaikit.foundation.errors import BadInput, XaikitWarning
from xaikit.images.reading import Resize
from xaikit.model.classifier import Classifier

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
NORMALIZE = v1.Normalize(MEAN, STD)


def net(**facts: Any) -> nn.Module:
    network = seeded(Net, torch.float32).eval()
    for name, value in facts.items():
        setattr(network, name, value)
    return network


def picture(width: int = 90, height: int = 70) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def to_float() -> v2.Compose:
    return v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])


@pytest.mark.parametrize(
    "transform",
    [
        v1.Compose([v1.Resize(40), v1.CenterCrop(32), v1.ToTensor(), NORMALIZE]),
        v1.Compose([v1.Resize((24, 32), v1.InterpolationMode.BICUBIC), v1.ToTensor(), NORMALIZE]),
        v2.Compose([v2.Resize(36), v2.CenterCrop((32, 24)), *to_float().transforms]),
        ResNet18_Weights.IMAGENET1K_V1.transforms(),
    ],
)
def test_a_transform_of_torchvision_prepares_the_same_pixels(transform: Any) -> None:
    clf = Classifier(net(), transform=transform)
    found, expected = clf.normalize(clf.read(picture())), transform(picture())[None]
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) < 0.03  # torchvision resizes 8 bits, or tensors, in rounded steps


def test_without_a_size_pictures_stay_as_they_are() -> None:
    clf = Classifier(net(), transform=to_float())
    assert torch.allclose(clf.normalize(clf.read(picture())), to_float()(picture())[None], atol=1e-5)


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ([v1.Resize(40), v1.RandomCrop(32), v1.ToTensor(), NORMALIZE], "got RandomCrop"),
        ([v1.Resize((32, 32)), v1.ToTensor()], "expected Normalize in it, got none"),
        ([v1.CenterCrop(32), v1.ToTensor(), NORMALIZE], "expected Resize before CenterCrop, got none"),
        ([v1.Resize(32), v1.ToTensor(), NORMALIZE], r"expected CenterCrop after Resize\(32\)"),
        ([v1.CenterCrop(32), v1.Resize(40), v1.ToTensor(), NORMALIZE], "got Resize"),
        ([v1.ToTensor(), NORMALIZE, v1.ToTensor()], "got ToTensor"),
        ([v1.Resize((40, 40)), v1.CenterCrop(32), v1.ToTensor(), NORMALIZE], "expected Resize of the short side"),
        ([lambda image: image], "got <function"),
    ],
)
def test_a_transform_that_cannot_be_read_names_what_is_missing(steps: list[Any], reason: str) -> None:
    with pytest.raises(BadInput, match=f"^transform: .*{reason}") as told:
        Classifier(net(), transform=v1.Compose(steps))
    assert "\n" not in str(told.value)


def test_what_is_given_replaces_what_is_missing() -> None:
    clf = Classifier(net(), MEAN, STD, 32, transform=v1.Compose([v1.Resize(40), v1.ToTensor()]))
    assert clf.mean.flatten().tolist() == pytest.approx(MEAN)
    assert clf.resize == Resize("squash", (32, 32))


TIMM = {"input_size": (3, 32, 32), "crop_pct": 0.9, "interpolation": "bicubic", "mean": MEAN, "std": STD}


def test_the_configuration_of_timm() -> None:
    clf = Classifier(net(pretrained_cfg=TIMM | {"label_names": list("abcd")}, num_classes=4))
    assert clf.mean.flatten().tolist() == pytest.approx(MEAN)
    assert clf.std.flatten().tolist() == pytest.approx(STD)
    assert clf.size == (32, 32)
    assert clf.resize == Resize("crop", (32, 32), 35, "bicubic")
    assert clf.labels == list("abcd")
    padded = Classifier(net(pretrained_cfg=TIMM), resize="pad").resize
    assert (padded.kind, padded.size, padded.interpolation) == ("pad", (32, 32), "bicubic")
    assert padded.fill == pytest.approx(MEAN)
    steps = v1.Compose([v1.Resize(40), v1.CenterCrop(32), v1.ToTensor(), NORMALIZE])
    squashed = Classifier(net(), transform=steps, resize="squash").resize
    assert squashed == Resize("squash", (32, 32))


def test_what_is_given_comes_before_the_configuration() -> None:
    clf = Classifier(net(pretrained_cfg=TIMM), 0.5, size=16, labels=list("wxyz"))
    assert clf.mean.flatten().tolist() == [0.5] * 3
    assert clf.std.flatten().tolist() == [1.0] * 3
    assert clf.resize == Resize("squash", (16, 16))
    assert clf.labels == list("wxyz")


def test_a_configuration_of_other_channels_gives_no_mean() -> None:
    clf = Classifier(net(pretrained_cfg=TIMM | {"mean": (0.5,), "std": (0.5,)}))
    assert not clf.bounded


def test_a_crop_of_timm_that_is_not_known_is_told() -> None:
    with pytest.warns(XaikitWarning, match=r"timm's mode 'border' to 32x32 of 90%.*they are squashed"):
        Classifier(net(pretrained_cfg=TIMM | {"crop_mode": "border"}))


@pytest.mark.slow
def test_a_network_and_its_transform_of_timm() -> None:
    timm = pytest.importorskip("timm")
    network = timm.create_model("resnet18", pretrained=False)
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=network))
    alone, given = Classifier(network), Classifier(network, transform=transform)
    for clf in (alone, given):
        found = clf.normalize(clf.read(picture(300, 260)))
        assert float((found - transform(picture(300, 260))[None]).abs().max()) < 0.03
    assert alone.labels == given.labels
    assert (alone.labels or [])[0] == "tench"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ViTImageProcessor", "ConvNextImageProcessor"])
def test_a_network_of_transformers_and_the_processor_beside_its_weights(kind: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    sizes: dict[str, Any] = {"embedding_size": 8, "hidden_sizes": [8, 8], "depths": [1, 1]}
    config = transformers.ResNetConfig(**sizes, id2label={0: "cat", 1: "dog", 2: "owl"})
    transformers.ResNetForImageClassification(config).save_pretrained(tmp_path)
    size = {"height": 48, "width": 40} if kind.startswith("ViT") else {"shortest_edge": 56}
    processor = getattr(transformers, kind)(size=size, image_mean=list(MEAN), image_std=list(STD))
    processor.save_pretrained(tmp_path)
    network = transformers.ResNetForImageClassification.from_pretrained(tmp_path)
    expected = processor(picture(), return_tensors="pt")["pixel_values"]
    for clf in (Classifier(network), Classifier(network, transform=processor)):
        found = clf.normalize(clf.read(picture()))
        assert found.shape == expected.shape
        assert float((found - expected).abs().max()) < 0.05
        assert clf.labels == ["cat", "dog", "owl"]
        assert torch.allclose(clf(clf.read(picture())), network.eval()(found).logits, atol=1e-4)


def test_labels_without_names_are_none() -> None:
    config = SimpleNamespace(id2label={index: f"LABEL_{index}" for index in range(4)})
    assert Classifier(net(config=config)).labels is None
    config = SimpleNamespace(id2label=dict(enumerate("abcd")))
    assert Classifier(net(config=config)).labels == list("abcd")


def test_pictures_for_a_network_of_which_nothing_is_known_are_warned_of_once() -> None:
    clf = Classifier(net())
    with pytest.warns(XaikitWarning, match=r"neither mean nor std is known.*0\.485.*or transform=") as told:
        clf.read(picture())
    assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clf.read(picture())
        clf(images(1, dtype=torch.float32))
        Classifier(net(), mean=0).read(picture())


def test_pixels_between_0_and_1_are_warned_of_like_pictures() -> None:
    clf, pixels = Classifier(net()), images(2, dtype=torch.float32)
    with pytest.warns(XaikitWarning, match="neither mean nor std is known") as told:
        attribute(clf, pixels, 0, "saliency")
    assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attribute(clf, pixels, 0, "saliency")
        attribute(Classifier(net()), 4 * pixels - 2, 0, "saliency")  # normalised by the user
        attribute(Classifier(net(), std=1), pixels, 0, "saliency")


@pytest.mark.real
def test_the_real_squeezenet_is_right_more_often_with_its_transform(real_data: Path) -> None:
    network = squeezenet1_0().eval()
    weights = real_data / "weights" / "squeezenet1_0_imagenet.pth"
    network.load_state_dict(torch.load(weights, weights_only=True))
    with (real_data / "imagenet" / "labels.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))[::3]
    paths = [real_data / "imagenet" / row["file"] for row in rows]
    classes = torch.tensor([int(row["class_index"]) for row in rows])
    transform = SqueezeNet1_0_Weights.IMAGENET1K_V1.transforms()
    bare = Classifier(network, resize=Resize("crop", (224, 224), 256))
    with pytest.warns(XaikitWarning, match="neither mean nor std is known"):
        without = int((bare(bare.read(paths)).argmax(1) == classes).sum())
    clf = Classifier(network, transform=transform)
    found = int((clf(clf.read(paths)).argmax(1) == classes).sum())
    assert (len(classes), found, without) == (34, 22, 13)
