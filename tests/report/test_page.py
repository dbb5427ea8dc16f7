"""The page: self-contained, escaped, whole, and made without torch."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from tests.report.rows import rows
from xaikit.core.errors import BadInput
from xaikit.report.page import read_rows, render, write_report

EVIL = "<img src=x onerror=alert(1)>.jpg"
RUN = {"title": "A run", "command": "xaikit demo -o 'out & more'", "seed": 3, "environment": {"system": "Linux"}}
VOID = {"meta", "img", "input", "link", "br", "hr"}


class Reader(HTMLParser):
    """Collects tags and text, and checks that what opens closes."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def pictures(tmp_path):
    found = {}
    for image in [*{row["image_id"] for row in rows(8)}, EVIL]:
        files = {}
        for name in ("input", "grad-cam", "saliency"):
            files[name] = tmp_path / f"{len(found)}-{name}.png"
            Image.new("RGB", (200, 150), (len(found) * 20, 90, 40)).save(files[name])
        found[image] = files
    return found


def test_made_from_rows_alone_without_torch(tmp_path):
    (tmp_path / "rows.json").write_text(json.dumps(rows()), encoding="utf-8")
    program = (
        "import sys\n"
        "from xaikit.report.page import read_rows, write_report\n"
        "write_report(sys.argv[2], read_rows(sys.argv[1]), {'title': 'from rows'})\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    subprocess.run(
        [sys.executable, "-W", "error", "-c", program, str(tmp_path / "rows.json"), str(tmp_path / "report.html")],
        check=True,
        cwd=Path(__file__).resolve().parents[2],
        timeout=60,
    )
    assert "from rows" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_nothing_is_fetched(pictures):
    page = render(rows(8), RUN, pictures)
    for tag, attributes in Reader(page).tags:
        assert tag not in {"link", "iframe", "object", "embed", "base"}
        for name in ("src", "href", "srcset", "data", "poster", "action"):
            assert (attributes.get(name) or "data:").startswith("data:"), (tag, attributes)
    assert "url(" not in page
    assert "@import" not in page
    assert not re.search(r"https?://|fetch\(|XMLHttpRequest|import\(", page)
    assert "default-src 'none'" in page


def test_names_appear_as_text(pictures):
    evil = rows(1, image_id=EVIL, target_name="<b>dots</b>", label_name="</script>", params='{"a": "<i>"}')
    evil += rows(1, methods={"<script>alert(2)</script>": "gradient"}, image_id=EVIL, model="<u>", dataset="</table>")
    page = render(evil, RUN | {"title": "<h1>", "environment": {"<x>": "<y>"}}, pictures)
    reader = Reader(page)
    shown = "".join(reader.text)
    for name in (EVIL, "<b>dots</b>", "<script>alert(2)</script>", "</table>", "<h1>", "<y>", "out & more"):
        assert name in shown, name
    assert not any("onerror" in attributes for _, attributes in reader.tags)
    assert page.count("<script") == 3, "two blocks of values and one program"
    assert page.count("</script>") == 3


def test_every_part_is_there(pictures):
    page = render(rows(8), RUN, pictures)
    reader = Reader(page)
    panels = [attributes for tag, attributes in reader.tags if attributes.get("class") == "panel"]
    assert [panel["data-curve"] for panel in panels] == ["api", "apd", "ir", "dr"] * 2
    radios = [attributes for tag, attributes in reader.tags if tag == "input"]
    assert [radio["value"] for radio in radios if "checked" in radio] == ["soft"]
    buttons = [attributes["data-method"] for tag, attributes in reader.tags if tag == "button"]
    assert buttons == ["grad-cam", "libra-cam", "saliency", "ones"]
    text = "".join(reader.text)
    assert "calibrated" not in text
    assert "chooses a threshold by the model" in text
    assert "xaikit demo -o 'out & more'" in text


def test_the_values_behind_the_figures_are_the_curves():
    page = render(rows(), RUN)
    (values,) = re.findall(r'<script type="application/json" class="values">(.*?)</script>', page, re.DOTALL)
    curves = json.loads(values)
    assert set(curves) == {"soft", "binary"}
    assert set(curves["soft"]) == {"api", "apd", "ir", "dr"}
    assert len(curves["binary"]["ir"]["grad-cam"]) == 11
    assert curves["binary"]["ir"]["grad-cam"][0] == 0.0


def test_the_sample_depends_on_the_seed_alone(pictures):
    def shown(page):
        return re.findall(r"<h3>(\S+)", page)

    drawn = rows(8)
    first = shown(render(drawn, RUN, pictures, sample=4))
    assert len(first) == 4
    assert first == shown(render(drawn[::-1], RUN, pictures, sample=4))
    assert first != shown(render(drawn, RUN | {"seed": 4}, pictures, sample=4))
    assert shown(render(drawn, RUN, None)) == []


def test_pictures_are_small_pngs_inside_the_page(pictures):
    page = render(rows(8), RUN, pictures, sample=2)
    uris = re.findall(r'src="(data:image/png;base64,[^"]+)"', page)
    assert len(uris) == 6
    assert all(len(uri) < 20_000 for uri in uris)


def test_models_stand_in_blocks_of_their_own():
    page = render(rows(2) + rows(2, model="other"), RUN)
    assert page.count('<article class="block"') == 2


def test_what_cannot_be_read_is_one_line(tmp_path):
    with pytest.raises(BadInput, match="expected rows as JSON"):
        read_rows(tmp_path / "none.json")
    (tmp_path / "rows.json").write_text('{"a": 1}', encoding="utf-8")
    with pytest.raises(BadInput, match="expected a list of rows"):
        read_rows(tmp_path / "rows.json")
    with pytest.raises(BadInput, match="cannot be written"):
        write_report(tmp_path / "missing" / "report.html", rows(), RUN)
    (tmp_path / "broken.png").write_text("no picture", encoding="utf-8")
    with pytest.raises(BadInput, match="expected a picture"):
        render(rows(1), RUN, {"000.png": {"input": tmp_path / "broken.png"}})
