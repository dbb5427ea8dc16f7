"""Pictures of every kind lead to the same pixels and maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import xaikit
from xaikit.foundation.errors import BadInput
from xaikit.images.placing import Frame
from xaikit.images.reading import Pictures, Resize
from xaikit.model.classifier import Classifier

ARRAY = np.random.default_rng(0).integers(0, 256, (12, 30, 3), dtype=np.uint8)
FRAME = Frame((12, 30), (0.0, 9.0, 12.0, 21.0))


@pytest.fixture(scope="module")
def clf() -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    return Classifier(network, 0.5, 0.5, size=8, resize=Resize("crop", (8, 8), 8))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "a.png"
    Image.fromarray(ARRAY).save(path)
    return path


@pytest.mark.parametrize("kind", ["path", "string", "pil", "bytes", "floats", "list", "batch", "pictures", "iterator"])
def test_every_kind_gives_the_same_map_and_frame(clf: Classifier, path: Path, kind: str) -> None:
    source: Any = {
        "path": path,
        "string": str(path),
        "pil": Image.fromarray(ARRAY),
        "bytes": ARRAY,
        "floats": ARRAY / 255,
        "list": [path],
        "batch": ARRAY[None],
        "pictures": clf.pictures(path),
        "iterator": iter([path]),
    }[kind]
    pixels = clf.read(path)
    expected = xaikit.attribute(clf, pixels, method="grad-cam")
    found = xaikit.attribute(clf, source, method="grad-cam")
    tolerance = 1 / 255 if kind == "floats" else 0.0  # Pillow rounds bytes along each side that it resizes
    assert found.images is not None
    torch.testing.assert_close(found.images, pixels, rtol=0, atol=tolerance)
    torch.testing.assert_close(found.values, expected.values, rtol=0, atol=5 * tolerance)
    assert found.frames == (FRAME,)
    assert found.originals[0] is not None
    np.testing.assert_array_equal(found.originals[0], ARRAY)
    assert found.overlay().size == (30, 12)
    assert expected.frames == expected.originals == ()


def test_a_list_of_mixed_kinds_is_one_batch(clf: Classifier, path: Path) -> None:
    tensor = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0))
    sources: list[Any] = [path, Image.fromarray(ARRAY), ARRAY, tensor]
    many = xaikit.attribute_many(clf, sources, methods=["grad-cam", "saliency"])
    pixels = torch.cat([clf.read([path] * 3), tensor[None]])
    for name, expected in xaikit.attribute_many(clf, pixels, methods=["grad-cam", "saliency"]).items():
        assert torch.equal(many[name].values, expected.values)
        assert many[name].frames == (FRAME, FRAME, FRAME, None)
        assert many[name].originals[3] is None
        assert many[name][3:].overlay().size == (8, 8)
    assert torch.equal(clf.read(sources), pixels)
    assert torch.equal(clf.read(pixels), pixels)
    assert [found.shape for _, found in clf.read_each(sources)] == [(3, 8, 8)] * 4  # type: ignore[union-attr]
    att = many["grad-cam"]
    assert torch.equal(xaikit.keep_curve(clf, sources, att).o, xaikit.keep_curve(clf, pixels, att).o)
    for key, value in xaikit.measure(clf, sources, att, ["insertion"]).items():
        assert torch.equal(value, xaikit.measure(clf, pixels, att, ["insertion"])[key])


def test_a_stated_range_reaches_deep_pictures_alone(clf: Classifier, path: Path) -> None:
    deep = ARRAY[..., 0].astype(np.uint16) * 16
    found = clf.pictures([deep, path], value_range=(0, 4080))
    torch.testing.assert_close(found.pixels[0], clf.read(ARRAY[..., 0])[0], rtol=0, atol=1 / 255)
    assert torch.equal(found.pixels[1], clf.read(path)[0])
    assert xaikit.attribute(clf, found, method="saliency").frames == (FRAME, FRAME)
    with pytest.raises(BadInput, match=r"value_range: expected \(low, high\)"):
        clf.read(deep, value_range=(1, 0))


def test_a_padded_picture_is_drawn_whole_and_its_fill_is_told(clf: Classifier, path: Path) -> None:
    found = xaikit.attribute(clf, clf.pictures(path, resize="pad"), method="grad-cam")
    assert found.frames == (Frame((12, 30), (-8.0, 0.0, 24.0, 30.0)),)  # 3 of 8 rows
    assert found.overlay().size == (30, 12)
    (note,) = [text.get_text() for text in found.plot().texts if "fill" in text.get_text()]
    assert note.startswith("not shown: the fill around the picture, 62 %")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (3, "image: expected a path, PIL picture, NumPy array or tensor, got int"),
        ([None], "image 0: expected a path, PIL picture, NumPy array or tensor, got NoneType"),
        ({"pixels": ARRAY}, "image: expected a path, PIL picture, NumPy array or tensor, got dict"),
        ([ARRAY, np.zeros((3, 8, 8))], r"image 1: expected an array \(H, W\) or \(H, W, C\), got \(3, 8, 8\); move"),
        ([ARRAY, torch.rand(1, 3, 8, 8)], r"image 1: expected a tensor \(3, H, W\) in a list, got \(1, 3, 8, 8\)"),
        ([torch.zeros(3, 8, 8, dtype=torch.uint8)], "image 0: expected floats in .*, got torch.uint8; divide"),
        ([ARRAY, torch.rand(1, 8, 8)], "image 1: expected 3 channels"),
        ([ARRAY, torch.rand(3, 9, 9)], r"image: expected the first picture's size \(8, 8\), got \(9, 9\)"),
        ([torch.full((3, 8, 8), 200.0)], r"inputs: expected pixels in \[0, 1\], got 200 to 200"),
        ([], "read: expected at least one picture, got none"),
        ("nowhere.png", "nowhere.png: no such file"),
        (torch.rand(3, 8, 8), "add a batch axis"),
    ],
)
def test_what_is_no_picture_is_one_line(clf: Classifier, source: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        xaikit.attribute(clf, source)
    assert "\n" not in str(caught.value)


def test_pictures_need_not_have_originals(clf: Classifier) -> None:
    bare = clf.pictures(torch.rand(2, 3, 8, 8))
    assert bare[1:] == ((), ())
    assert isinstance(bare, Pictures)
    assert len(xaikit.attribute(clf, bare)) == 2
