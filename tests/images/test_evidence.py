"""Evidence from masks, boxes and COCO annotations, each against a mask that is known to the pixel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from xaikit.foundation.errors import BadInput
from xaikit.images.evidence import find_evidence

HEIGHT, WIDTH = 6, 8
TEXT = "833000f0"
SQUARE = np.zeros((HEIGHT, WIDTH), np.uint8)
SQUARE[2:5, 1:4] = 255


def lengths(mask: np.ndarray[Any, Any]) -> list[int]:
    """Run lengths down the columns, beginning with those of 0."""
    flat = np.concatenate([[0], mask.T.ravel() > 0])
    ends = [*np.flatnonzero(np.diff(flat)).tolist(), mask.size]
    return [ends[0], *np.diff(ends).tolist()]


def compressed(lengths: list[int]) -> str:
    """COCO's text of run lengths, written with numbers in base 32."""
    numbers = [*lengths[:3], *(now - before for before, now in zip(lengths[1:], lengths[3:], strict=False))]
    text = ""
    for number in numbers:
        digits = 1
        while not -(32**digits) // 2 <= number < 32**digits // 2:
            digits += 1
        for place in range(digits):
            digit = number % 32**digits // 32**place % 32
            text += chr(48 + digit + (32 if place < digits - 1 else 0))
    return text


def coco(folder: Path, annotation: dict[str, Any], **image: Any) -> Path:
    file = folder / "all.json"
    content = {
        "images": [{"id": 7, "file_name": "cats/a.jpg", **image}, {"id": 8, "file_name": "b.jpg"}],
        "annotations": [{"id": 1, "image_id": 7, **annotation}],
    }
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


@pytest.mark.parametrize(
    "annotation",
    [
        {"bbox": [1, 2, 3, 3]},
        {"bbox": [0, 0, 1, 1], "segmentation": [[1, 2, 4, 2, 4, 5, 1, 5]]},
        {"segmentation": {"size": [HEIGHT, WIDTH], "counts": lengths(SQUARE)}},
        {"segmentation": []} | {"bbox": [1.2, 2.0, 2.7, 2.5]},
    ],
    ids=["box", "polygon", "run lengths", "a box that touches pixels"],
)
def test_annotations_are_their_masks(tmp_path: Path, annotation: dict[str, Any]) -> None:
    found = find_evidence(coco(tmp_path, annotation), ["cats/a.jpg", "b.jpg"])
    assert list(found) == ["cats/a.jpg"]
    np.testing.assert_array_equal(found["cats/a.jpg"].mask(HEIGHT, WIDTH), SQUARE)


@pytest.mark.parametrize("seed", range(4))
def test_compressed_run_lengths_are_their_masks(tmp_path: Path, seed: int) -> None:
    mask = np.kron(np.random.default_rng(seed).random((4, 5)) > 0.5, np.ones((17, 23))).astype(np.uint8) * 255
    segmentation = {"size": [68, 115], "counts": compressed(lengths(mask))}
    found = find_evidence(coco(tmp_path, {"segmentation": segmentation}, height=68, width=115), ["cats/a.jpg"])
    np.testing.assert_array_equal(found["cats/a.jpg"].mask(68, 115), mask)


def test_the_compressed_text_of_pycocotools(tmp_path: Path) -> None:
    """What pycocotools 2.0.11 encodes for the square."""
    segmentation = {"size": [HEIGHT, WIDTH], "counts": TEXT}
    found = find_evidence(coco(tmp_path, {"segmentation": segmentation}), ["cats/a.jpg"])
    np.testing.assert_array_equal(found["cats/a.jpg"].mask(HEIGHT, WIDTH), SQUARE)


def test_boxes_of_a_picture_are_joined(tmp_path: Path) -> None:
    file = tmp_path / "boxes.csv"
    file.write_text("file,left,top,right,bottom,note\na.png,1,2,3,5,x\na.png,3,2,4,5,y\nb.png,0,0,1,1,z\n", "utf-8")
    found = find_evidence(file, ["a.png"])
    np.testing.assert_array_equal(found["a.png"].mask(HEIGHT, WIDTH), SQUARE)
    before = found["a.png"].content
    file.write_text("file,left,top,right,bottom\na.png,1,2,3,5\n", "utf-8")
    assert find_evidence(file, ["a.png"])["a.png"].content != before


def test_a_mask_lies_under_the_name_of_its_picture(tmp_path: Path) -> None:
    (tmp_path / "cats").mkdir()
    Image.fromarray(SQUARE // 255).save(tmp_path / "cats" / "a.png")
    found = find_evidence(tmp_path, ["cats/a.jpg", "a.jpg"])
    assert list(found) == ["cats/a.jpg"]
    np.testing.assert_array_equal(found["cats/a.jpg"].mask(HEIGHT, WIDTH), SQUARE)
    with pytest.raises(BadInput, match=r"a\.png: expected a mask of 9x8, its picture's size, got 6x8"):
        found["cats/a.jpg"].mask(9, 8)


@pytest.mark.parametrize(
    ("annotation", "image", "message"),
    [
        ({"bbox": [1, 2, 9, 1]}, {}, "expected boxes inside the picture of 6x8, got 1, 2, 10, 3"),
        ({"bbox": [1, 2, 3, 3]}, {"height": 8, "width": 6}, "expected an image of 6x8, its picture's size, got 8x6"),
        ({"segmentation": {"size": [8, 6], "counts": [48]}}, {}, r"size \[8, 6\] and 48 pixels for a picture of 6x8"),
        ({"segmentation": {"size": [6, 8], "counts": [3, 4]}}, {}, r"size \[6, 8\] and 7 pixels for a picture of 6x8"),
        ({"segmentation": {"size": [6, 8], "counts": "zz"}}, {}, "expected polygons or run lengths, got size"),
        ({"segmentation": [[1, 2, 3]]}, {}, "expected polygons or run lengths"),
    ],
)
def test_annotations_of_another_picture_are_one_line(
    tmp_path: Path, annotation: dict[str, Any], image: dict[str, Any], message: str
) -> None:
    found = find_evidence(coco(tmp_path, annotation, **image), ["cats/a.jpg"])
    with pytest.raises(BadInput, match=message) as caught:
        found["cats/a.jpg"].mask(HEIGHT, WIDTH)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "a.csv",
            "file,left,top,right\na.png,1,2,3\n",
            "columns file, left, top, right and bottom, got none of 'bottom'",
        ),
        ("a.csv", "file,left,top,right,bottom\na.png,1,2,x,4\n", "could not convert string to float: 'x'"),
        ("a.csv", "file,left,top,right,bottom\na.png,1,2\n", "line 2 with other cells"),
        ("a.csv", "file,left,top,right,bottom\nb.png,1,2,3,4\n", "names of the pictures, such as a.png, got none"),
        ("a.json", "[]", "expected COCO annotations"),
        ("a.json", '{"images": [], "annotations": [{}]}', "expected COCO annotations"),
        ("a.json", "{", "expected COCO annotations"),
        ("a.txt", "", "expected a folder of masks, a .csv of boxes or a .json of COCO"),
        ("none.csv", None, "got nothing there"),
    ],
)
def test_files_of_another_form_are_one_line(tmp_path: Path, name: str, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match=message) as caught:
        find_evidence(tmp_path / name, ["a.png"])
    assert "\n" not in str(caught.value)
