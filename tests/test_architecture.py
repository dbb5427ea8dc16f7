"""The layers of DESIGN.md, held by a walk over the imports, and what the house has promised about its files."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import xaikit

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "xaikit"
FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = [file for file in FILES if file.name not in ("__init__.py", "__main__.py")]
ROOM_LEVEL = {
    "core": 1,
    "methods": 2,
    "measures": 2,
    "backends": 2,
    "data": 2,
    "zoo": 2,
    "bench": 3,
    "report": 4,
    "cli": 5,
}
FILE_LEVEL = 3  # api.py, explain.py, train.py and what stands beside them


def room(module: str) -> str:
    """Return the first part of a module's name below xaikit."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def level(module: str) -> int:
    """Return the layer of a module of xaikit."""
    return ROOM_LEVEL.get(room(module), FILE_LEVEL)


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


@pytest.mark.parametrize(
    "file", [file for file in FILES if file.name not in ("__init__.py", "__main__.py")], ids=module_name
)
def test_imports_point_down(file: Path) -> None:
    here = module_name(file)
    for target in imports(file):
        if not target.startswith("xaikit.") or target == "xaikit":
            continue
        if room(target) == room(here):
            continue
        assert level(target) <= level(here), f"{here} imports {target} from a higher layer"
        if level(target) == level(here):
            assert level(here) == FILE_LEVEL, f"{here} imports {target} from another room of its layer"


def test_hooks_are_registered_in_the_probe_alone() -> None:
    for file in FILES:
        if file == PACKAGE / "core" / "probe.py":
            continue
        names = {
            node.attr
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            if isinstance(node, ast.Attribute)
        }
        assert not [name for name in names if name.startswith("register_") and name.endswith("_hook")], file


def test_no_python_under_models_and_evaluation() -> None:
    for folder in ("models", "evaluation"):
        assert (ROOT / folder).is_dir()
        assert not list((ROOT / folder).rglob("*.py"))
    for file in FILES:
        assert not {"models", "evaluation"} & {target.split(".")[0] for target in imports(file)}, file


def test_report_needs_no_torch() -> None:
    for file in (PACKAGE / "report").rglob("*.py"):
        assert "torch" not in {target.split(".")[0] for target in imports(file)}, file


def test_public_names_are_complete_and_sorted() -> None:
    assert sorted(xaikit.__all__) == xaikit.__all__
    for name in xaikit.__all__:
        assert getattr(xaikit, name) is not None
    for file in MODULES:
        body = ast.parse(file.read_text(encoding="utf-8")).body
        assigned = {ast.unparse(node.targets[0]): node.value for node in body if isinstance(node, ast.Assign)}
        assert "__all__" in assigned, f"{file}: expected __all__"
        defined = {node.name for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef)} | set(assigned)
        defined |= {ast.unparse(node.target) for node in body if isinstance(node, ast.AnnAssign)}
        defined |= {
            name.asname or name.name for node in body if isinstance(node, ast.ImportFrom) for name in node.names
        }
        missing = set(ast.literal_eval(assigned["__all__"])) - defined
        assert not missing, f"{file}: __all__ names {missing} that it does not define"


def test_importing_xaikit_does_not_import_torch() -> None:
    code = "import sys, xaikit, xaikit.cli.app; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
