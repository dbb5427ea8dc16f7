"""All methods on the same picture, one row a family."""

from __future__ import annotations

from itertools import groupby

from docs.generator.entries import own
from docs.generator.pictures import classifier, png, scene, tiles
from xaikit.images.drawing import Row, Tile
from xaikit.images.reading import to_picture
from xaikit.methods.base import METHODS


def gallery() -> dict[str, str | bytes]:
    """Return the page and its pictures by path."""
    lines = [
        "# Gallery",
        "",
        "All methods on one drawn picture, whose class is the texture of the shape; everything else is a distraction.",
        "Names lead to the method's page, which shows three pictures.",
        "",
    ]
    pages: dict[str, str | bytes] = {}
    entries = sorted(own(METHODS), key=lambda entry: (entry.family, entry.name))
    for family, members in groupby(entries, key=lambda entry: entry.family):
        named = list(members)
        shown = [Tile("picture", to_picture(scene().pixels[0]), None)]
        shown += [Tile(entry.name, tiles(entry)[0], None) for entry in named]
        pages[f"gallery-{family}.png"] = png([Row("", shown)], columns=5)
        links = ", ".join(f"[{entry.name}](methods/{entry.name}.md)" for entry in named)
        lines += [
            f"## {family.capitalize()}",
            "",
            f"{links}. The network is the shipped {classifier(family).name}.",
            "",
            f"![All {family} methods on one picture](gallery-{family}.png)",
            "",
        ]
    return pages | {"gallery.md": "\n".join(lines)}
