"""Files: whole or not at all."""

from __future__ import annotations

import json

import pytest

from xaikit.foundation.errors import BadInput
from xaikit.foundation.files import atomic, output_directory, package_data, write_json, write_text


def test_a_write_replaces_the_old_file_and_leaves_nothing_else(tmp_path):
    target = tmp_path / "a.json"
    target.write_text("old")
    with atomic(target) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".json"
        assert temporary.name.startswith(".")
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_the_old_file_stays_whole_when_the_block_raises(tmp_path, error):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(error), atomic(target) as temporary:  # noqa: PT012 - half a write is the point
        temporary.write_text("ne")
        raise error
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_missing_folder_is_told_before_anything_is_written(tmp_path):
    with pytest.raises(BadInput, match="cannot be written"), atomic(tmp_path / "missing" / "a"):
        pytest.fail("the block must not run")


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    with atomic(tmp_path / "a") as one, atomic(tmp_path / "a") as other:
        assert one != other
        one.write_text("1")
        other.write_text("2")
    assert (tmp_path / "a").read_text() == "1"


@pytest.mark.parametrize("parent", ["missing", "file.txt"])
def test_a_place_that_cannot_be_written_is_one_line(tmp_path, parent):
    (tmp_path / "file.txt").write_text("")
    with pytest.raises(BadInput, match="cannot be written") as caught:
        write_text(tmp_path / parent / "a.txt", "text")
    assert "\n" not in str(caught.value)


def test_json_has_no_nan_and_keeps_letters(tmp_path):
    value = {"nan": float("nan"), "list": [float("inf"), (1.5, -float("inf"))], "name": "Zürich", "true": True}
    write_json(tmp_path / "a.json", value)
    text = (tmp_path / "a.json").read_bytes().decode("utf-8")
    assert json.loads(text) == {"nan": None, "list": [None, [1.5, None]], "name": "Zürich", "true": True}
    assert "Zürich" in text
    assert text.endswith("}\n")


def test_output_directory_is_made_and_left_empty(tmp_path):
    made = output_directory(tmp_path / "a" / "b")
    assert made.is_dir()
    assert list(made.iterdir()) == []


def test_output_directory_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    for place in ("file", "file/below"):
        with pytest.raises(BadInput, match="choose another with -o"):
            output_directory(tmp_path / place)


def test_shipped_finds_the_models():
    assert package_data("models/texture-cnn").is_dir()
