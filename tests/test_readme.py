"""The README tells the truth: its tables, code, commands, links and picture are tried as they stand."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from typer.main import get_command

from tests.readme import ROOT, rewritten
from xaikit.cli.app import app
from xaikit.cli.app import main as xaikit
from xaikit.zoo.architectures.cifar_resnet import CifarResNet

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "evaluation" / "protocols").glob("*.md"))]
COLOURS = {"tabby": (200, 60, 40), "teapot": (40, 60, 200)}


class Block(NamedTuple):
    language: str
    file: str
    text: str


BLOCKS = [Block(*found) for found in re.findall(r"^```(\w+) ?(\S*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)]
SHELL = [line.partition("  #")[0].strip() for b in BLOCKS if b.language == "bash" for line in b.text.splitlines()]
COMMANDS = [line for line in SHELL if line.startswith("xaikit ")]


def words(command: str) -> list[str]:
    return shlex.split(command)[1:]


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with everything that the README's examples name."""
    pictures = tmp_path / "demos" / "pictures"
    pictures.mkdir(parents=True)
    (pictures / "dots.png").write_bytes((ROOT / "demos" / "pictures" / "dots.png").read_bytes())
    for block in BLOCKS:
        if block.file:
            (tmp_path / block.file).write_text(block.text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def give_photographs(stage: Path) -> None:
    """Write pictures of two classes that are learnt at once, and weights of the networks that the README names."""
    stream = np.random.default_rng(0)
    for label, colour in COLOURS.items():
        (stage / "photos" / label).mkdir(parents=True)
        for place in range(5):
            pixels = np.clip(stream.normal(colour, 20.0, (32, 32, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(stage / "photos" / label / f"{place}.jpg")
    Image.fromarray(pixels).save(stage / "cat.jpg")
    from torchvision.models import squeezenet1_0

    torch.save(squeezenet1_0().state_dict(), stage / "squeezenet.pth")
    torch.save(CifarResNet(20, 10).state_dict(), stage / "resnet20.pth")


@pytest.mark.slow
def test_the_tables_are_those_of_the_registries() -> None:
    assert rewritten(README) == README, "README.md is stale; run python -m tests.readme"


def test_a_stale_table_is_found() -> None:
    assert rewritten(README.replace("[grad-cam](", "[gradcam](", 1)) == README


@pytest.mark.slow
def test_python_runs_as_printed(stage: Path) -> None:
    code = "\n".join(block.text for block in BLOCKS if block.language == "python" and not block.file)
    names: dict[str, object] = {"__name__": "readme"}
    exec(compile(code, "README.md", "exec"), names)
    assert names["heatmap"].shape == (1, 64, 64)  # type: ignore[attr-defined]
    assert "default-library" not in names["att"].flags[0]  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_have_options_that_exist(command: str) -> None:
    group = get_command(app)
    with group.make_context("xaikit", words(command)) as context:
        name, chosen, rest = group.resolve_command(context, words(command))  # type: ignore[attr-defined]
        assert chosen is not None
        chosen.make_context(name, rest, parent=context)


@pytest.mark.slow
def test_commands_run_as_printed(stage: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the README's order; networks that would be downloaded take random weights, and training is short."""
    give_photographs(stage)
    for command in COMMANDS:
        if "--plugin" not in command:
            code = xaikit(as_tested(words(command)))
            assert code == 0, f"{command}: {capsys.readouterr().err}"
    written = stage / "out"
    assert (written / "panels").is_dir()
    assert (written / "tabby" / "results.json").is_file()
    assert (written / "trained" / "weights.safetensors").is_file()


def as_tested(given: list[str]) -> list[str]:
    """Return a command without its download, and with little training."""
    if given[0] == "train":
        return [*given, "--epochs", "8", "--from-scratch"]
    model = given[given.index("--model") + 1] if "--model" in given else "resnet50"
    downloads = given[0] == "explain" and "--weights" not in given and model in ("resnet50", "mobilenet_v3_large")
    return [*given, "--weights", "random"] if downloads else given


@pytest.mark.slow
def test_the_plugin_runs_as_printed(stage: Path) -> None:
    """In a process of its own, as its method would stay in the registry of this one."""
    commands = [words(command) for command in COMMANDS if "--plugin" in command]
    assert commands
    for given in commands:
        subprocess.run([sys.executable, "-m", "xaikit", *given], check=True, capture_output=True)


def test_the_example_of_a_method_is_short() -> None:
    (plugin,) = [block.text for block in BLOCKS if block.file]
    assert len(plugin.splitlines()) <= 25


def test_make_targets_exist() -> None:
    targets = re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    named = [line.split()[1] for line in SHELL if line.startswith("make ")]
    assert named == ["demo", "test"]
    assert set(named) <= set(targets)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = list(local_links(page.read_text(encoding="utf-8")))
    assert links
    for link in links:
        assert (page.parent / link).exists(), f"{page.name}: {link}"


def local_links(text: str) -> Iterator[str]:
    for link in re.findall(r"\]\(([^)#\s]+)", text):
        if not link.startswith("http"):
            yield link


def test_the_picture_is_what_its_command_draws(stage: Path) -> None:
    (command,) = re.findall(r"Made by\n`(xaikit .*?)`", README)
    assert xaikit(words(command)) == 0
    drawn, shown = (
        np.asarray(Image.open(file), dtype=float)
        for file in (stage / "out" / "panels" / "dots.png", ROOT / "demos" / "pictures" / "panel.png")
    )
    assert drawn.shape == shown.shape
    assert np.abs(drawn - shown).mean() < 0.5, "run the command, look at out/panels/dots.png, and copy it"


def test_pictures_are_small() -> None:
    for picture in (ROOT / "demos" / "pictures").iterdir():
        assert picture.stat().st_size < 400_000, picture
