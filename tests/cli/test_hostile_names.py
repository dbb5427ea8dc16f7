"""Names that would act on a terminal, and plug-ins that print: standard output and error stay what they are."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Command, draw
from xaikit.cli.lines import say, tell
from xaikit.cli.terminal import print_table
from xaikit.foundation.texts import visible

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows allows no such names")

HOSTILE = ["\x1b[31mred", "\x1b]0;title\x07", "a\nxaikit: all is well", "b\rc", "\x9b2J", "x\u202egnp", "del\x7f"]
OBEYED = "\x1b\x07\r\x9b\u202e\x7f"


def harmless(text: str) -> bool:
    return not set(text) & set(OBEYED)


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("options", [[], ["--verbose"], ["--json"]], ids=str)
@pytest.mark.slow
def test_a_picture_of_that_name(explain: Command, tmp_path: Path, name: str, options: list[str]) -> None:
    draw(tmp_path / "album" / f"{name}.png")
    (tmp_path / "album" / f"{name} broken.png").write_bytes(b"")
    done = explain(tmp_path / "album", *options)
    assert done.code == 1
    assert harmless(done.out)
    assert harmless(done.err)
    assert all(line.startswith("xaikit: /") for line in done.err.splitlines())
    if options == ["--json"]:
        first, _ = sorted(json.loads(done.out)["records"], key=lambda record: "error" in record)
        assert Path(first["file"]).name == f"{name}.png"


@pytest.mark.parametrize("name", HOSTILE)
def test_other_names_of_that_kind(run: Command, photo: Path, tmp_path: Path, name: str) -> None:
    for arguments in (
        ["explain", tmp_path / f"{name}.png"],
        ["explain", photo, "--model", name],
        ["explain", photo, "--model", "texture-cnn", "--method", name],
        ["explain", photo, "--model", "texture-cnn", "--plugin", f"{name}.py"],
        ["explain", photo, "--model", "texture-cnn", "--weights", f"{name}.pth"],
        ["layers", name],
        ["report", tmp_path / name],
        [name],
    ):
        done = run(*arguments)
        assert done.code == 2
        assert harmless(done.line)


def test_a_traceback_is_harmless_as_well(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: object, **options: object) -> None:
        raise RuntimeError(HOSTILE[0])

    monkeypatch.setattr("xaikit.api.load", fails)
    done = run("layers", "resnet18", "--debug")
    assert "Traceback" in done.err
    assert harmless(done.err)


def test_every_command_prints_through_these_functions() -> None:
    for file in (Path(__file__).parents[2] / "xaikit" / "cli").glob("*.py"):
        if file.name not in ("lines.py", "app.py"):
            assert "typer.echo(" not in file.read_text(encoding="utf-8"), file.name


def test_lines_and_tables(capsys: pytest.CaptureFixture[str]) -> None:
    for name in HOSTILE:
        say(name)
        tell(name)
        print_table(["name"], [[name]])
    captured = capsys.readouterr()
    assert harmless(captured.out + captured.err)
    assert captured.err.count("\n") == len(HOSTILE)
    assert all(visible(name) in captured.out for name in HOSTILE)


PRINTING = """
from dataclasses import dataclass
from xaikit.extend import METHODS, Cost, InputMethod, Values
print("imported")
@METHODS.register
@dataclass(frozen=True)
class Loud(InputMethod):
    name, family, source = "tests-loud", "control", "here"
    def compute(self, batch):
        print("computed")
        return Values(batch.pixels)
    def cost(self, size):
        return Cost(1, 0)
"""


@pytest.mark.slow
def test_a_plugin_that_prints_leaves_json_alone(explain: Command, run: Command, photo: Path, tmp_path: Path) -> None:
    from xaikit.methods.base import METHODS

    plugin = tmp_path / "loud.py"
    plugin.write_text(PRINTING, encoding="utf-8")
    try:
        done = explain(photo, "--plugin", plugin, "--method", "tests-loud", "--json")
        listed = run("list", "methods", "--plugin", plugin, "--json")
    finally:
        METHODS._entries.pop("tests-loud", None)
    assert done.code == 0
    assert [record["method"] for record in json.loads(done.out)["records"]] == ["tests-loud"]
    assert done.err.split() == ["imported", "computed"]
    assert "tests-loud" in [row["name"] for row in json.loads(listed.out)]
    assert listed.err.strip() == "imported"


def test_a_run_that_explains_nothing_leaves_the_folder(explain: Command, photo: Path, tmp_path: Path) -> None:
    assert explain(photo).code == 0
    before = {file: file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file()}
    (tmp_path / "broken.png").write_bytes(b"no picture")
    done = explain(tmp_path / "broken.png", "--json")
    assert done.code == 2
    assert "broken.png" in done.line
    assert "error" in json.loads(done.out)["records"][0]
    assert {file: file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file()} == before
