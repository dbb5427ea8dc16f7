"""Folders of images: what is found, in which order, and what is said when nothing is."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from xaikit.foundation.errors import BadInput, XaikitWarning
from xaikit.images.decoding import decode
from xaikit.images.folders import class_folder, sha256, split_folders, walk, walk_each


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
    (tmp_path / "album" / "again").symlink_to(tmp_path / "album" / "linked")
    with pytest.warns(XaikitWarning, match=r"again: a link that leads out of .*album") as caught:
        assert walk([tmp_path / "album"]) == [tmp_path / "album" / "again" / "a.png"]
    assert len(caught) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege on Windows")
def test_links_inside_the_folder_and_a_folder_given_by_a_link_are_silent(tmp_path: Path) -> None:
    touch(tmp_path, "album/deep/a.png")
    (tmp_path / "album" / "near").symlink_to(tmp_path / "album" / "deep")
    (tmp_path / "given").symlink_to(tmp_path / "album")
    assert len(walk([tmp_path / "album"])) == len(walk([tmp_path / "given"])) == 1


@pytest.mark.parametrize(
    "suffix", ["jfif", "jpe", "jp2", "j2k", "mpo", "avif", "heic", "heif", "pnm", "pbm", "JPG", "HEIC", "Jfif"]
)
def test_pictures_of_all_kinds_are_found(tmp_path: Path, suffix: str) -> None:
    touch(tmp_path, f"a.{suffix}", "b.txt", "c.pdf")
    assert walk([tmp_path]) == [tmp_path / f"a.{suffix}"]


def test_class_folders_become_names_and_indices(tmp_path: Path) -> None:
    touch(tmp_path, "dog/b.png", "cat/2.png", "cat/more/1.png", "readme.md")
    classes, samples = class_folder(tmp_path)
    assert classes == ["cat", "dog"]
    assert [(path.name, index) for path, index in samples] == [("2.png", 0), ("1.png", 0), ("b.png", 1)]


def test_class_folders_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="got no folder"):
        class_folder(tmp_path / "gone")
    touch(tmp_path, "a.png")
    with pytest.raises(BadInput, match="one subfolder per class"):
        class_folder(tmp_path)
    touch(tmp_path, "cat/1.png", "dog/1.txt")
    with pytest.raises(BadInput, match="dog"):
        class_folder(tmp_path)


def test_hidden_and_empty_folders_and_those_of_an_archive_are_no_classes(tmp_path: Path) -> None:
    touch(tmp_path, "cat/1.png", "dog/2.png", "__MACOSX/cat/1.png", ".cache/3.png", "empty/.DS_Store")
    (tmp_path / "nothing" / "below").mkdir(parents=True)
    assert class_folder(tmp_path)[0] == ["cat", "dog"]


@pytest.mark.parametrize("names", ["train val test", "Training valid testing", "train validation TEST", "training dev"])
def test_splits_are_known_by_their_usual_names(tmp_path: Path, names: str) -> None:
    touch(tmp_path, *(f"{name}/cat/1.png" for name in names.split()))
    splits = split_folders(tmp_path)
    assert [splits[split].name for split in ("train", "val", "test") if split in splits] == names.split()
    with pytest.raises(BadInput, match="the split"):
        class_folder(tmp_path)


def test_splits_that_cannot_be_told_apart_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "cat/1.png", "dog/1.png")
    assert split_folders(tmp_path) == {}
    touch(tmp_path, "train/1.png")
    with pytest.raises(BadInput, match="no class has this name"):
        split_folders(tmp_path)
    touch(tmp_path, "train/cat/1.png")
    with pytest.warns(XaikitWarning, match="passed over beside them: cat, dog"):
        assert list(split_folders(tmp_path)) == ["train"]
    touch(tmp_path, "training/cat/1.png")
    with pytest.raises(BadInput, match="one folder for train, got train and training"):
        split_folders(tmp_path)


def test_files_are_hashed_by_their_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"bytes")
    assert sha256(tmp_path / "a.png") == hashlib.sha256(b"bytes").hexdigest()
    with pytest.raises(BadInput, match=r"gone\.png"):
        sha256(tmp_path / "gone.png")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
def test_a_pipe_is_named_and_not_waited_for(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    os.mkfifo(tmp_path / "z.png")
    found = list(walk_each([tmp_path, tmp_path / "z.png"]))
    assert [path.name for path, _ in found] == ["a.png", "z.png", "z.png"]
    assert found[0][1] is None
    assert str(found[1][1]).endswith("z.png: expected a picture, got a pipe, a socket or a device; remove it")
    assert "expected a file or a folder, got a pipe" in str(found[2][1])
    with pytest.raises(BadInput, match="expected a picture, got a pipe"):
        decode(tmp_path / "z.png")


def test_what_cannot_be_looked_into_does_not_stop_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.png")
    (tmp_path / "locked").mkdir()
    listed, stat = Path.iterdir, Path.stat

    def iterdir(path: Path) -> Iterator[Path]:
        if path.name == "locked":
            raise PermissionError(13, "Permission denied")
        return listed(path)

    def looked(path: Path, **options: bool) -> os.stat_result:
        if path.parent.name == "locked":
            raise PermissionError(13, "Permission denied")
        return stat(path, **options)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    monkeypatch.setattr(Path, "stat", looked)
    (good, none), (locked, refused), (_, inside) = walk_each([tmp_path, tmp_path / "locked" / "b.png"])
    assert (good.name, none, locked.name) == ("a.png", None, "locked")
    assert "the folder cannot be listed (Permission denied)" in str(refused)
    assert "got no permission to look; check the path" in str(inside)
    with pytest.raises(BadInput, match="expected a picture, got no permission to look"):
        decode(tmp_path / "locked" / "b.png")
