"""Uploads: bounded, read by the one reader, kept in the temporary folder, and refused in one line."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from xaikit.app.pictures import MOST_BYTES, Shelf, thumbnail, without_folders
from xaikit.foundation.errors import BadInput


def png(side: int = 8, value: int = 90) -> bytes:
    stream = BytesIO()
    Image.fromarray(np.full((side, side, 3), value, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


BOMB = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 20_000, 10_000, 8, 2, 0, 0, 0))
BOMB += chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
HOSTILE = {
    "empty.png": b"",
    "text.png": b"no picture at all",
    "page.html": b"<script>alert(1)</script>",
    "drawing.svg": b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
    "cut.png": png()[:40],
    "broken.png": png().replace(b"IDAT", b"IDAX"),
    "bomb.png": BOMB,
    "values.npy": b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,), }" + b" " * 60 + b"\n",
    "scan.dcm": b"\0" * 128 + b"DICM" + b"\xff" * 40,
    "archive.jpg": b"PK\x03\x04" + b"\0" * 64,
    "postscript.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n(/etc/passwd) run\n",
}


@pytest.fixture
def shelf(tmp_path):
    return Shelf([], tmp_path)


@pytest.mark.filterwarnings("ignore:End of file reached")  # pydicom's, of the cut file
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * name.endswith(".dcm")) for name in HOSTILE]
)
def test_a_hostile_upload_is_refused_in_one_line_and_leaves_nothing(shelf, tmp_path, name):
    with pytest.raises(BadInput) as refusal:
        shelf.add(name, HOSTILE[name])
    text = str(refusal.value)
    assert name in text
    assert str(tmp_path) not in text
    assert "\n" not in text
    assert not list(tmp_path.iterdir())
    assert len(shelf) == 0


def test_an_upload_stays_in_the_folder_whatever_its_name(shelf, tmp_path):
    for place, name in enumerate(("../../up.png", "/etc/passwd.png", "C:\\a\\b.png", "<img src=x>.png", "x" * 999)):
        picture = shelf.add(name, png(value=place))
        assert picture.path.parent == tmp_path
        assert "/" not in picture.name
        assert "\\" not in picture.name
        assert len(picture.name) <= 80
    assert shelf.add("again.png", png(value=0)) == shelf.pictures()[0]


def test_an_upload_is_bounded(shelf):
    with pytest.raises(BadInput, match="32 MB"):
        shelf.add("large.png", b"\0" * (MOST_BYTES + 1))


def test_a_thumbnail_is_small_and_grey_for_what_cannot_be_read(shelf, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"nothing")
    good, bad = shelf.add("good.png", png(500)), Shelf([tmp_path / "bad.png"], tmp_path).pictures()[0]
    for picture in (good, bad):
        assert max(Image.open(BytesIO(thumbnail(picture))).size) <= 112


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/anna/my files/cat.jpg: the picture is damaged", "cat.jpg: the picture is damaged"),
        ("cannot read '/tmp/a/b.pth'; give ./c/d", "cannot read 'b.pth'; give ./c/d"),
        ("expected a and/or b", "expected a and/or b"),
    ],
)
def test_no_folder_of_the_server_is_shown(text, shown):
    assert without_folders(text) == shown
