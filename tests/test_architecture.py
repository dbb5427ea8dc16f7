"""Which room may import which, held by a walk over the imports, and other promises about the files."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import xaikit
from xaikit import extend

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "xaikit"
FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = [file for file in FILES if file.name not in ("__init__.py", "__main__.py")]
_CORE = ("foundation", "images", "model", "run")
_PARTS = ("methods", "measures", "zoo", "extend", "backends")
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "foundation": (),
    "images": ("foundation",),
    "model": ("foundation", "images"),  # a classifier reads pictures
    "run": ("foundation", "images", "model"),
    "methods": _CORE,
    "measures": _CORE,
    "zoo": _CORE,
    "extend": (*_CORE, "methods", "measures"),
    "backends": (*_CORE, "methods", "extend"),
    "core": ("foundation", "methods"),  # former addresses
    "api": (*_CORE, *_PARTS),
    "training": (*_CORE, *_PARTS, "api"),
    "explaining": (*_CORE, *_PARTS, "api"),
    "benchmark": (*_CORE, *_PARTS, "api"),
    "report": ("foundation", "images", "measures", "benchmark"),
    "runs": (*_CORE, *_PARTS, "api", "training", "explaining", "benchmark", "report"),
    "app": (*_CORE, *_PARTS, "api", "training", "explaining", "benchmark", "report", "runs"),
    "cli": (*_CORE, *_PARTS, "api", "training", "explaining", "benchmark", "report", "runs", "app"),
}
"""The rooms that each room may import; the order of the keys has no cycle."""


def room(module: str) -> str:
    """Return the first part of a module's name below xaikit."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def module_name(file: Path) -> str:
    """Return the dotted name of a source file."""
    return ".".join(file.relative_to(ROOT).with_suffix("").parts)


def imports(file: Path) -> Iterator[str]:
    """Yield every module that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield node.module or ""


def test_the_rooms_have_an_order() -> None:
    rooms = list(MAY_IMPORT)
    assert {room(module_name(file)) for file in MODULES} == set(rooms)
    for place, (name, below) in enumerate(MAY_IMPORT.items()):
        assert set(below) <= set(rooms[:place]), name


@pytest.mark.parametrize("file", MODULES, ids=module_name)
def test_imports_point_down(file: Path) -> None:
    """Holds for imports inside functions and for types as well."""
    here = module_name(file)
    for target in imports(file):
        if target.startswith("xaikit.") and room(target) != room(here):
            assert room(target) in MAY_IMPORT[room(here)], f"{here} imports {target}"
    if room(here) == "report":
        without_torch = {"xaikit.benchmark.rows", "xaikit.benchmark.manifest", "xaikit.measures.removal.api_apd_ir_dr"}
        above = {target for target in imports(file) if room(target) in ("benchmark", "measures")}
        assert above <= without_torch, f"{here} imports {above}"


def test_no_file_is_longer_than_a_reader_can_hold() -> None:
    for file in FILES:
        assert len(file.read_text(encoding="utf-8").splitlines()) <= 500, file
    assert len((PACKAGE / "model" / "classifier.py").read_text(encoding="utf-8").splitlines()) <= 350


def test_hooks_are_registered_in_one_file() -> None:
    for file in FILES:
        if file == PACKAGE / "model" / "hooks.py":
            continue
        names = {
            node.attr
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            if isinstance(node, ast.Attribute)
        }
        assert not [name for name in names if name.startswith("register_") and name.endswith("_hook")], file


def test_no_python_under_models_and_only_scripts_under_evaluation() -> None:
    assert not list((ROOT / "models").rglob("*.py"))
    scripts = (ROOT / "evaluation").rglob("*.py")
    places = {file.relative_to(ROOT / "evaluation").parts[0] for file in scripts}
    assert places == {"app", "gpu", "scale", "speed", "table.py"}
    for file in FILES:
        assert not {"models", "evaluation"} & {target.split(".")[0] for target in imports(file)}, file


def test_report_needs_no_torch() -> None:
    for file in (PACKAGE / "report").rglob("*.py"):
        assert "torch" not in {target.split(".")[0] for target in imports(file)}, file


def test_public_names_are_complete_and_sorted() -> None:
    """The names of `xaikit` and `xaikit.extend` are public; anything else is internal and may change."""
    for module in (xaikit, extend):
        assert sorted(module.__all__) == module.__all__ or module is extend
        for name in module.__all__:
            assert getattr(module, name) is not None


def test_importing_xaikit_imports_neither_torch_nor_matplotlib() -> None:
    code = "import sys, xaikit, xaikit.cli.app; sys.exit(bool({'torch', 'matplotlib', 'pandas'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
