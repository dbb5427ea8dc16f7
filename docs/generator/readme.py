"""The README's table of methods, written from the registry: `python -m docs.generator.readme` renews it.

<!-- families -->        one row a family
<!-- /families -->
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import get_args

from docs.generator.entries import own, table
from docs.generator.methods import FAMILIES
from xaikit.foundation.files import write_text
from xaikit.methods.base import METHODS, Family

README = Path(__file__).resolve().parents[2] / "README.md"
_MARKED = re.compile(r"(<!-- families -->\n).*(<!-- /families -->)", re.DOTALL)


def rewritten(text: str) -> str:
    """Return the README with its table as the registry has it now."""
    block = "\n".join(families())
    return _MARKED.sub(lambda found: f"{found[1]}\n{block}\n\n{found[2]}", text)


def families() -> list[str]:
    """Return a table with one row a family."""
    rows = []
    for family in get_args(Family):
        names = sorted(entry.name for entry in own(METHODS) if entry.family == family)
        if names:
            rows.append([family, FAMILIES[family], ", ".join(names)])
    return table(("family", "what its maps show", "methods"), "lll", rows)


def main() -> None:
    """Rewrite the README where it is stale."""
    before = README.read_text(encoding="utf-8")
    after = rewritten(before)
    if after != before:
        write_text(README, after)
    sys.stdout.write(f"README.md: {'rewritten' if after != before else 'fresh'}\n")


if __name__ == "__main__":
    main()
