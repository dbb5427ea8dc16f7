"""Texts for terminals and records."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from xaikit.foundation.texts import printable, shown_command, shown_path, visible


def test_a_name_that_is_no_utf8_can_be_printed() -> None:
    assert printable(Path("caf\udce9.png")) == "caf?.png"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cat.png", "cat.png"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x9b2J", "\\x9b2J"),
        ("one\nxaikit: forged", "one\\nxaikit: forged"),
        ("a\rb", "a\\rb"),
        ("photo\u202egnp.exe", "photo\\u202egnp.exe"),
        ("a\u2028b\u2066c", "a\\u2028b\\u2066c"),
        ("caf\udce9", "caf\\udce9"),
        ("東京 Zürich 👩\u200d🔬 می\u200cخواهم", "東京 Zürich 👩\u200d🔬 می\u200cخواهم"),
    ],
)
def test_what_a_terminal_obeys_is_shown(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_paths_name_no_folder_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert shown_path("photos/a.png") == os.path.join("photos", "a.png")  # noqa: PTH118
    assert shown_path("../a.png") == os.path.join("..", "a.png")  # noqa: PTH118
    assert shown_path(tmp_path / "here" / "photos" / "a.png") == os.path.join("photos", "a.png")  # noqa: PTH118
    assert shown_path(tmp_path / "other" / "photos" / "a.png") == "a.png"
    assert shown_path("/a.png") == "a.png"


def test_commands_name_no_folder_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = [
        "xaikit",
        "explain",
        f"{tmp_path}/my photos",
        "/srv/data/cat.png",
        f"--output={tmp_path}/out",
        "--param",
        "a=1",
    ]
    assert shown_command(words) == "xaikit explain 'my photos' cat.png --output=out --param a=1"
