"""Folders of images: what is found, in which order, and what is said when nothing is."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest

from xaikit.core.errors import BadInput
from xaikit.data.folder import class_folder, sha256, walk, walk_each


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_folders_are_walked_sorted_and_only_for_images(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "b/2.JPG",
        "b/1.png",
        "a.jpeg",
        "notes.txt",
        ".hidden.png",
        ".cache/x.png",
        "b/c/0.webp",
        "empty/.keep",
    )
    found = [path.relative_to(tmp_path).as_posix() for path in walk([tmp_path])]
    assert found == ["a.jpeg", "b/1.png", "b/2.JPG", "b/c/0.webp"]


def test_named_files_come_in_the_order_given_whatever_their_suffix(tmp_path: Path) -> None:
    touch(tmp_path, "z.dat", "album/a.png")
    assert walk([tmp_path / "z.dat", str(tmp_path / "album")]) == [tmp_path / "z.dat", tmp_path / "album" / "a.png"]


def test_one_bad_path_does_not_stop_the_others(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    (tmp_path / "void").mkdir()
    paths = [tmp_path / "gone.png", tmp_path / "void", tmp_path / "a.png"]
    found = list(walk_each(paths))
    assert [path for path, _ in found] == paths
    assert "got nothing there" in str(found[0][1])
    assert "got none in it" in str(found[1][1])
    assert found[2][1] is None
    with pytest.raises(BadInput, match=r"gone\.png"):
        walk(paths)


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege on Windows")
def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    touch(tmp_path, "real/a.png")
    (tmp_path / "album").mkdir()
    (tmp_path / "album" / "linked").symlink_to(tmp_path / "real")
    (tmp_path / "album" / "loop").symlink_to(tmp_path / "album")
    assert walk([tmp_path / "album"]) == [tmp_path / "album" / "linked" / "a.png"]


def test_class_folders_become_names_and_indices(tmp_path: Path) -> None:
    touch(tmp_path, "dog/b.png", "cat/2.png", "cat/more/1.png", "readme.md")
    classes, samples = class_folder(tmp_path)
    assert classes == ["cat", "dog"]
    assert [(path.name, index) for path, index in samples] == [("2.png", 0), ("1.png", 0), ("b.png", 1)]


def test_class_folders_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="got no folder"):
        class_folder(tmp_path / "gone")
    touch(tmp_path, "a.png")
    with pytest.raises(BadInput, match="one subfolder a class"):
        class_folder(tmp_path)
    touch(tmp_path, "cat/1.png")
    (tmp_path / "dog").mkdir()
    with pytest.raises(BadInput, match="dog"):
        class_folder(tmp_path)


def test_files_are_hashed_by_their_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"bytes")
    assert sha256(tmp_path / "a.png") == hashlib.sha256(b"bytes").hexdigest()
    with pytest.raises(BadInput, match=r"gone\.png"):
        sha256(tmp_path / "gone.png")
