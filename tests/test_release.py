"""What is published: a small wheel that holds models and suites, and a source archive that builds."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path
from zipfile import ZipFile

import pytest

import xaikit

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_wheel_and_source_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hatchling.build import build_sdist, build_wheel

    monkeypatch.chdir(ROOT)
    wheel, source = tmp_path / build_wheel(str(tmp_path)), tmp_path / build_sdist(str(tmp_path))
    assert wheel.stat().st_size < 2 * 1024**2
    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (about,) = (name for name in names if name.endswith("METADATA"))
        assert f"Version: {xaikit.__version__}" in archive.read(about).decode()
    assert {"xaikit/py.typed", "xaikit/package_data/suites/demo.toml"} <= names
    models = {"lenet5-digits", "texture-cnn", "texture-vit"}
    assert {f"xaikit/package_data/models/{name}/weights.safetensors" for name in models} <= names
    assert not [name for name in names if name.startswith(("tests", "docs", "evaluation"))]
    with tarfile.open(source) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "mkdocs.yml", "docs/pages/index.md", "CITATION.cff", "tests/test_release.py"} <= held


def test_the_version_is_that_of_citation_and_changes() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.*)$", citation, re.MULTILINE) == [xaikit.__version__]
    assert f"## {xaikit.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
