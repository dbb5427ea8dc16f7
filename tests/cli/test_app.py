"""The frame of the command line: help, version, errors, and how fast it starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer

from tests.cli.conftest import Command
from xaikit import __version__
from xaikit.__main__ import main
from xaikit.foundation.errors import XaikitWarning

COMMANDS = ("explain", "help", "layers", "library", "list", "train")


def test_help_needs_nothing_slow() -> None:
    code = (
        "import sys; from xaikit.cli.app import main; code = main(['--help']); "
        "print('SLOW', sorted({'torch', 'numpy', 'cv2', 'PIL', 'pydantic', 'torchvision'} & set(sys.modules)), code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "SLOW [] 0"
    assert all(name in done.stdout for name in COMMANDS)


def test_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "xaikit", "--version"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == f"xaikit {__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(run: Command, name: str) -> None:
    done = run(name, "--help")
    assert (done.code, done.err) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [(["explian"], "explain"), (["explain"], "PATH"), (["list", "animals"], "methods"), (["layers"], "MODEL")],
)
def test_usage_errors_are_one_line(run: Command, arguments: list[str], expected: str) -> None:
    done = run(*arguments)
    assert done.code == 2
    assert expected in done.line


def test_an_unexpected_error_is_one_line_and_debug_shows_it(
    run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise RuntimeError("first\nsecond")

    monkeypatch.setattr("xaikit.api.load", broken)
    done = run("layers", "resnet18")
    assert done.code == 2
    assert done.line == "xaikit: RuntimeError: first second (--debug shows where)"
    shown = run("layers", "resnet18", "--debug")
    assert shown.code == 2
    assert "Traceback (most recent call last)" in shown.err
    assert shown.err.rstrip().endswith(done.line)


def test_code_that_exits_does_not_end_as_a_success(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def exits(*arguments: object, **options: object) -> None:
        raise SystemExit(0)

    monkeypatch.setattr("xaikit.api.load", exits)
    done = run("layers", "resnet18")
    assert (done.code, done.line) == (2, "xaikit: SystemExit: 0 (--debug shows where)")


def test_an_interrupt_is_one_line(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("xaikit.api.load", interrupted)
    done = run("layers", "resnet18")
    assert done.code == 130
    assert done.err.strip() == "xaikit: interrupted"


def test_an_interrupt_while_the_command_line_is_imported_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> int:
        raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "xaikit.cli.app", SimpleNamespace(main=interrupted))
    assert main() == 130
    assert capsys.readouterr().err == "xaikit: interrupted\n"


def test_our_warnings_are_one_line_and_others_are_silent(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    import warnings

    def warns(*arguments: object, **options: object) -> None:
        warnings.warn("of somebody else", UserWarning, stacklevel=1)
        warnings.warn("of ours", XaikitWarning, stacklevel=1)
        raise typer.Exit(0)

    monkeypatch.setattr("xaikit.api.load", warns)
    assert run("layers", "resnet18").line == "xaikit: of ours"


@pytest.mark.slow
def test_a_closed_pipe_is_no_failure() -> None:
    program = "import sys; from xaikit.cli.app import main; sys.stdout.reconfigure(line_buffering=True); main()"
    command = f"{sys.executable} -c '{program}' benchmark --help | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr == ""
