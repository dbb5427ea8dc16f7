"""The pages that users read, and the code in them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs" / "pages").glob("*.md"))]


class Block(NamedTuple):
    """A block of code: its language, the file that it names, its text."""

    language: str
    file: str
    text: str


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(*found)
        for found in re.findall(r'^```(\w+)(?: title="(\S+)")?\n(.*?)^```$', text, re.MULTILINE | re.DOTALL)
    ]


def shell(page: Path) -> list[str]:
    """Return the lines of a page's shell blocks, without comments."""
    lines = [line for block in blocks(page) if block.language == "bash" for line in block.text.splitlines()]
    return [line.partition("  #")[0].strip() for line in lines]


def commands(page: Path) -> list[str]:
    """Return the xaikit commands of a page."""
    return [line for line in shell(page) if line.startswith("xaikit ")]


def words(command: str) -> list[str]:
    """Return the arguments of a command."""
    return shlex.split(command)[1:]
