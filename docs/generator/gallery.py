"""All methods on the same picture, one row a family."""

from __future__ import annotations

from itertools import groupby

from docs.generator.entries import own
from docs.generator.pictures import pictured, png, subject, tiles
from xaikit.images.drawing import Row, Tile
from xaikit.images.reading import to_picture
from xaikit.methods.base import METHODS


def gallery() -> dict[str, str | bytes]:
    """Return the page and its pictures by path."""
    _, scene = subject()
    lines = [
        "# Gallery",
        "",
        "All methods on one drawn picture, whose class is the texture of the shape; all else is a distraction. The",
        "network is the shipped texture-cnn, which has no attention, so that the methods of attention are not here.",
        "Names lead to the method's page, which shows three pictures.",
        "",
    ]
    pages: dict[str, str | bytes] = {}
    entries = sorted(filter(pictured, own(METHODS)), key=lambda entry: (entry.family, entry.name))
    for family, members in groupby(entries, key=lambda entry: entry.family):
        named = list(members)
        shown = [Tile("picture", to_picture(scene.pixels[0]), None)]
        shown += [Tile(entry.name, tiles(entry)[0], None) for entry in named]
        pages[f"gallery-{family}.png"] = png([Row("", shown)], columns=5)
        links = ", ".join(f"[{entry.name}](methods/{entry.name}.md)" for entry in named)
        lines += [
            f"## {family.capitalize()}",
            "",
            links,
            "",
            f"![All {family} methods on one picture](gallery-{family}.png)",
            "",
        ]
    return pages | {"gallery.md": "\n".join(lines)}
