"""README and documentation tell the truth: code, commands, links, table and picture are tried as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.main import get_command

import xaikit as library
from docs.generator.methods import uses
from docs.generator.readme import README, rewritten
from tests.docs.pages import PAGES, ROOT, blocks, commands, shell, words
from tests.methods.small import classifier
from tests.networks import GAPNet, bound
from xaikit.cli.app import app
from xaikit.cli.app import main as xaikit
from xaikit.methods.base import METHODS
from xaikit.zoo.architectures.cifar_resnet import CifarResNet

TEXT = README.read_text(encoding="utf-8")
LINKED = [*PAGES, *sorted((ROOT / "evaluation" / "protocols").glob("*.md"))]
COLOURS = {"tabby": (200, 60, 40), "teapot": (40, 60, 200)}
ORDER = ["train", "evaluate", "library", "benchmark", "report"]
"""What makes the folders that other commands read."""
COMMANDS = sorted(
    dict.fromkeys(command for page in PAGES for command in commands(page)),
    key=lambda command: ORDER.index(words(command)[0]) if words(command)[0] in ORDER else len(ORDER),
)
PLUGINS = [block for page in PAGES for block in blocks(page) if block.file]


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with everything that the examples name."""
    pictures = tmp_path / "demos" / "pictures"
    pictures.mkdir(parents=True)
    (pictures / "dots.png").write_bytes((ROOT / "demos" / "pictures" / "dots.png").read_bytes())
    for block in PLUGINS:
        (tmp_path / block.file).write_text(block.text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def give_photographs(stage: Path) -> None:
    """Write pictures of two classes that are learnt at once, and weights of the networks that the pages name."""
    stream = np.random.default_rng(0)
    for label, colour in COLOURS.items():
        (stage / "photos" / label).mkdir(parents=True)
        for place in range(3):
            pixels = np.clip(stream.normal(colour, 20.0, (32, 32, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(stage / "photos" / label / f"{place}.jpg")
    Image.fromarray(pixels).save(stage / "cat.jpg")
    Image.fromarray(np.arange(1024, dtype=np.uint16).reshape(32, 32) * 4).save(stage / "scan.png")
    from torchvision.models import squeezenet1_0

    torch.save(squeezenet1_0().state_dict(), stage / "squeezenet.pth")
    torch.save(CifarResNet(20, 10).state_dict(), stage / "resnet20.pth")


@pytest.mark.slow
def test_the_table_is_that_of_the_registry() -> None:
    assert rewritten(TEXT) == TEXT, "README.md is stale; run python -m docs.generator.readme"


def test_a_stale_table_is_found() -> None:
    assert rewritten(TEXT.replace(", grad-cam,", ", gradcam,", 1)) == TEXT


def test_the_readme_is_read_to_its_end() -> None:
    assert len(TEXT) < 9000


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if page.stem != "coming-from"], ids=lambda page: page.stem)
def test_python_runs_as_printed(stage: Path, page: Path) -> None:
    run_page(page)


@pytest.mark.slow
@pytest.mark.backends
@pytest.mark.filterwarnings("ignore")  # those of the other packages
def test_maps_of_other_packages_are_the_same(stage: Path) -> None:
    run_page(ROOT / "docs" / "pages" / "coming-from.md")


def run_page(page: Path) -> None:
    code = "\n".join(block.text for block in blocks(page) if block.language == "python" and not block.file)
    exec(compile(code, page.name, "exec"), {"__name__": page.stem})


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_have_options_that_exist(command: str) -> None:
    group = get_command(app)
    with group.make_context("xaikit", words(command)) as context:
        name, chosen, rest = group.resolve_command(context, words(command))  # type: ignore[attr-defined]
        assert chosen is not None
        chosen.make_context(name, rest, parent=context)


@pytest.mark.slow
def test_commands_run_as_printed(stage: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Networks that would be downloaded take random weights, training is short, and one picture a class explained."""
    give_photographs(stage)
    for command in COMMANDS:
        if words(command)[0] == "explain":
            for other in stage.glob("photos/*/[!0].jpg"):
                other.unlink()
        if "--plugin" not in command and words(command)[0] not in ("app", "demo"):  # they have tests of their own
            code = xaikit(as_tested(words(command)))
            assert code == 0, f"{command}: {capsys.readouterr().err}"
    written = stage / "out"
    assert (written / "panels").is_dir()
    assert (written / "tabby" / "results.json").is_file()
    assert (written / "trained" / "weights.safetensors").is_file()


def as_tested(given: list[str]) -> list[str]:
    """Return a command without its download, with little training, and without a server."""
    if given[0] == "train":
        return [*given, "--epochs", "3", "--from-scratch"]
    if given[0] == "app":  # one picture on a small network, written instead of served
        small = {"photos": "demos/pictures/dots.png", "out/trained": "texture-cnn"}
        shown = [small.get(word, word) for word in given]
        return shown if "--export" in given else [*shown, "--export", "page.html"]
    model = given[given.index("--model") + 1] if "--model" in given else "resnet50"
    downloads = given[0] == "explain" and "--weights" not in given and model in ("resnet50", "mobilenet_v3_large")
    return [*given, "--weights", "random"] if downloads else given


@pytest.mark.slow
def test_the_plugin_runs_as_printed(stage: Path) -> None:
    """In a process of its own, as its method would stay in the registry of this one."""
    given = [words(command) for command in COMMANDS if "--plugin" in command]
    assert given
    for arguments in given:
        subprocess.run([sys.executable, "-m", "xaikit", *arguments], check=True, capture_output=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::xaikit.foundation.errors.XaikitWarning")  # of maps of random weights
def test_the_examples_of_each_method_run_as_printed(stage: Path) -> None:
    Image.effect_noise((8, 8), 60).convert("RGB").save("cat.jpg")
    without_attention = bound(GAPNet())
    for name in METHODS.names():
        if "/" not in name:
            python, command = uses(name)
            clf = classifier(name) if METHODS.get(name).family == "attention" else without_attention
            made: dict[str, Any] = {"xaikit": library, "clf": clf}
            exec(python, made)
            assert made["attribution"].method == name
            assert words(command)[:2] == ["explain", "cat.jpg"]
            assert words(command)[-2:] == ["--method", name]
    assert xaikit([*words(uses("grad-cam")[1]), "--model", "texture-cnn"]) == 0


def test_the_example_of_a_method_is_short() -> None:
    (plugin,) = PLUGINS
    assert len(plugin.text.splitlines()) <= 25


def test_make_targets_exist() -> None:
    targets = re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    named = {line.split()[1] for page in PAGES for line in shell(page) if line.startswith("make ")}
    assert {"demo", "test"} <= named <= set(targets)


@pytest.mark.parametrize("page", LINKED, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in local_links(page.read_text(encoding="utf-8")):
        generated = re.fullmatch(r"(\.\./)?((methods|measures)/[\w-]+\.md|assets/panel\.png|gallery\.md)", link)
        assert generated or (page.parent / link).exists(), f"{page.name}: {link}"


def local_links(text: str) -> Iterator[str]:
    for link in re.findall(r"\]\(([^)#\s]+)", text):
        if not link.startswith("http"):
            yield link


def test_the_picture_is_what_its_command_draws(stage: Path) -> None:
    (command,) = re.findall(r"Made by\n`(xaikit .*?)`", TEXT)
    assert xaikit(words(command)) == 0
    drawn, shown = (
        np.asarray(Image.open(file), dtype=float)
        for file in (stage / "out" / "panels" / "dots.png", ROOT / "demos" / "pictures" / "panel.png")
    )
    assert drawn.shape == shown.shape
    assert np.abs(drawn - shown).mean() < 0.5, "run the command, look at out/panels/dots.png, and copy it"


def test_pictures_are_small() -> None:
    for picture in (ROOT / "demos" / "pictures").iterdir():
        assert picture.stat().st_size < 200_000, picture
