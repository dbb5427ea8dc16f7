"""What MkDocs calls: the generated pages join the written ones, with their places in the menu."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from docs.generator.gallery import gallery
from docs.generator.inserts import filled
from docs.generator.measures import measure_pages
from docs.generator.methods import method_pages

_PAGES: dict[str, str | bytes] = {}


def on_config(config: MkDocsConfig, **_: Any) -> MkDocsConfig:
    """Add the generated pages to the menu."""
    _PAGES["assets/panel.png"] = Path("demos/pictures/panel.png").read_bytes()
    _PAGES.update(method_pages() | measure_pages() | gallery())
    menu: list[dict[str, list[Any]]] = config.nav  # type: ignore[assignment]
    for section in menu:
        for title, pages in section.items():
            folder = f"{title.lower()}/"
            pages += [name for name in _PAGES if name.startswith(folder) and name.endswith(".md") and name not in pages]
    return config


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """Add the generated pages and pictures."""
    for name, content in _PAGES.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill the marks of a written page."""
    return filled(markdown)
