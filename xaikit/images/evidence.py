"""The evidence of pictures: a folder of masks, boxes in a CSV file, or COCO annotations.

    photos/cats/a.jpg     masks/cats/a.png                    the mask of the same name; all but black is evidence
    boxes.csv             file,left,top,right,bottom          pixels of the upright picture; its lines are joined
    annotations.json      COCO: polygons and run lengths, or boxes where an annotation has none; all are joined

Names in files are the paths of the pictures below their folder. Shapes: masks (H, W) uint8, 255 on the evidence.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from xaikit.foundation.errors import BadInput
from xaikit.foundation.files import kind_of
from xaikit.foundation.identity import fingerprint
from xaikit.foundation.texts import named
from xaikit.images.decoding import decode
from xaikit.images.folders import sha256, walk
from xaikit.images.tables import read_table

Mask = np.ndarray[Any, np.dtype[np.uint8]]
_COLUMNS = {"file": str, "left": float, "top": float, "right": float, "bottom": float}
_COCO = "COCO annotations, with images that have id and file_name, and annotations that have image_id"


class Evidence(ABC):
    """The evidence of one picture, which is not read yet."""

    file: Path

    @property
    @abstractmethod
    def content(self) -> str:
        """What identifies the evidence.

        Raises:
            BadInput: its file cannot be read.
        """

    @abstractmethod
    def mask(self, height: int, width: int) -> Mask:
        """Return the mask (height, width) of the picture.

        Raises:
            BadInput: it cannot be read, or is not of the picture's size.
        """


@dataclass(frozen=True)
class MaskFile(Evidence):
    """A picture of the same size, where every value but black is evidence."""

    file: Path

    @property
    def content(self) -> str:
        """The hash of the file."""
        return sha256(self.file)

    def mask(self, height: int, width: int) -> Mask:
        """Return the mask of the picture."""
        found = decode(self.file, 1)
        assert not isinstance(found, tuple)
        if found.size != (width, height):
            wide, high = found.size
            raise BadInput(f"{self.file}: expected a mask of {height}x{width}, its picture's size, got {high}x{wide}")
        return np.uint8(255) * (np.asarray(found) > 0)


@dataclass(frozen=True)
class Boxes(Evidence):
    """Boxes: left, top, right and bottom in pixels; a pixel that a box touches is evidence."""

    file: Path
    boxes: tuple[tuple[float, float, float, float], ...]

    @property
    def content(self) -> str:
        """The hash of the boxes."""
        return fingerprint(self.boxes)

    def mask(self, height: int, width: int) -> Mask:
        """Return the mask of the picture."""
        mask = np.zeros((height, width), np.uint8)
        for left, top, right, bottom in self.boxes:
            if not (0 <= left < right <= width and 0 <= top < bottom <= height):
                box = f"{left:g}, {top:g}, {right:g}, {bottom:g}"
                raise BadInput(f"{self.file}: expected boxes inside the picture of {height}x{width}, got {box}")
            mask[int(top) : ceil(bottom), int(left) : ceil(right)] = 255
        return mask


@dataclass(frozen=True)
class CocoMask(Evidence):
    """Annotations of COCO: JSON of the segmentation or the box of each."""

    file: Path
    shapes: tuple[str, ...]
    height: int | None
    width: int | None

    @property
    def content(self) -> str:
        """The hash of the annotations."""
        return fingerprint([self.height, self.width, self.shapes])

    def mask(self, height: int, width: int) -> Mask:
        """Return the mask of the picture."""
        if None not in (self.height, self.width) and (self.height, self.width) != (height, width):
            got = f"{self.height}x{self.width}"
            raise BadInput(f"{self.file}: expected an image of {height}x{width}, its picture's size, got {got}")
        mask = np.zeros((height, width), np.uint8)
        for shape in map(json.loads, self.shapes):
            if "bbox" in shape:
                left, top, wide, high = shape["bbox"]
                found = Boxes(self.file, ((left, top, left + wide, top + high),)).mask(height, width)
            else:
                found = _segment(shape["segmentation"], height, width, self.file)
            mask = np.maximum(mask, found)
        return mask


def find_evidence(source: Path, pictures: Sequence[str]) -> dict[str, Evidence]:
    """Return the evidence of pictures by their name; those without any are not in it.

    Args:
        source: folder of masks, CSV file of boxes, or JSON file of COCO annotations.
        pictures: paths of the pictures below their folder.

    Raises:
        BadInput: the source does not exist, is of another form, or has evidence of none of the pictures.
    """
    if source.is_dir():
        found = _in_folder(source, pictures)
    elif source.suffix.lower() == ".csv":
        found = _boxes(source)
    elif source.suffix.lower() == ".json":
        found = _coco(source)
    else:
        raise BadInput(
            f"{source}: expected a folder of masks, a .csv of boxes or a .json of COCO, got {kind_of(source)}"
        )
    known = {name: found[name] for name in pictures if name in found}
    if not known:
        raise BadInput(f"{source}: expected masks with the names of the pictures, such as {pictures[0]}, got none")
    return known


def _in_folder(folder: Path, pictures: Sequence[str]) -> dict[str, Evidence]:
    files = {named(path.relative_to(folder).with_suffix("").as_posix()): path for path in walk([folder])}
    stems = {name: name.rpartition(".")[0] for name in pictures}
    return {name: MaskFile(files[stem]) for name, stem in stems.items() if stem in files}


def _boxes(file: Path) -> dict[str, Evidence]:
    boxes: dict[str, list[Any]] = {}
    for name, *box in read_table(file, _COLUMNS):
        boxes.setdefault(name, []).append(tuple(box))
    return {name: Boxes(file, tuple(found)) for name, found in boxes.items()}


def _coco(file: Path) -> dict[str, Evidence]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        shapes: dict[Any, list[str]] = {}
        for annotation in content["annotations"]:
            key = "segmentation" if annotation.get("segmentation") else "bbox"
            shapes.setdefault(annotation["image_id"], []).append(json.dumps({key: annotation[key]}))
        images = {named(one["file_name"]): one for one in content["images"]}
        return {
            name: CocoMask(file, tuple(shapes[one["id"]]), one.get("height"), one.get("width"))
            for name, one in images.items()
            if one["id"] in shapes
        }
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise BadInput(f"{file}: expected {_COCO}, got {error!r}") from error


def _segment(segmentation: Any, height: int, width: int, file: Path) -> Mask:
    """Return the mask of polygons, of which a pixel is part when its centre is, or of run lengths down the columns.

    pycocotools draws the outlines of polygons otherwise: 1 % of the pixels differ. Of run lengths that end early it
    returns what the memory holds; here they are refused.
    """
    try:
        if isinstance(segmentation, dict):
            return _of_lengths(segmentation, height, width)
        return _of_polygons(segmentation, height, width)
    except (ValueError, LookupError, TypeError) as error:
        raise BadInput(f"{file}: expected polygons or run lengths, got {error}") from error


def _of_polygons(polygons: Any, height: int, width: int) -> Mask:
    from skimage.draw import polygon

    mask = np.zeros((height, width), np.uint8)
    for corners in polygons:
        x, y = np.asarray(corners, np.float64).reshape(-1, 2).T - 0.5
        mask[polygon(y, x, mask.shape)] = 255  # type: ignore[no-untyped-call]
    return mask


def _of_lengths(segmentation: dict[str, Any], height: int, width: int) -> Mask:
    counts = segmentation["counts"]
    lengths = _lengths(counts) if isinstance(counts, str) else counts
    if segmentation["size"] != [height, width] or sum(lengths) != height * width or min(lengths) < 0:
        raise ValueError(f"size {segmentation['size']} and {sum(lengths)} pixels for a picture of {height}x{width}")
    values = np.arange(len(lengths)) % 2 * 255
    return np.repeat(values.astype(np.uint8), lengths).reshape(width, height).T


def _lengths(text: str) -> list[int]:
    """Return the run lengths of COCO's text.

    A character is six bits above 48: five bits of a number, the lowest first, and whether more follow; the last bit of
    the last character is the sign. From the fourth number on, each is the difference to the number two before.
    """
    lengths: list[int] = []
    value, shift = 0, 0
    for code in (ord(character) - 48 for character in text):
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:
            if code & 16:
                value -= 1 << shift
            lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
            value, shift = 0, 0
    return lengths
