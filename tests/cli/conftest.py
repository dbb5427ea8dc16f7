"""Images, and the command line as a function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xaikit.cli.app import main


@dataclass(frozen=True)
class Outcome:
    """What one run of the command line gave."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The one line on standard error."""
        assert "Traceback" not in self.err
        assert self.err.count("\n") == 1, self.err
        return self.err.strip()


Command = Callable[..., Outcome]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Command:
    """The command line, in this process."""

    def call(*arguments: str | Path) -> Outcome:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call


@pytest.fixture
def explain(run: Command, tmp_path: Path) -> Command:
    """`xaikit explain` with the shipped network, writing to tmp_path/out."""
    return lambda *arguments: run("explain", *arguments, "--model", "texture-cnn", "-o", tmp_path / "out")


def draw(path: Path, seed: int = 0, side: int = 64) -> Path:
    """Write a picture of random blocks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    blocks = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(blocks).resize((side, side), Image.Resampling.NEAREST).save(path)
    return path


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A picture that can be read."""
    return draw(tmp_path / "photo.png")
