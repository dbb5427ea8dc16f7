"""The page: self-contained, escaped, whole, and made without torch."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from tests.report.rows import aggregate, measures, paired_differences, render, rows, write_report, write_summaries
from xaikit.foundation.errors import BadInput, XaikitWarning
from xaikit.report.numbers.aggregate import summaries
from xaikit.report.numbers.columns import COLUMNS
from xaikit.report.page.gallery import choose

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


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder, found = tmp_path_factory.mktemp("pictures"), {}
    for image in [*{row["image_id"] for row in rows(8)}, EVIL]:
        files = {}
        for name in ("input", "evidence", "grad-cam", "saliency"):
            files[name] = folder / f"{len(found)}-{name}.png"
            Image.new("RGB", (200, 150), (len(found) * 20, 90, 40)).save(files[name])
        found[image] = files
    return {("drawn", "net"): found, ("</table>", "<u>"): found}


@pytest.fixture(scope="module")
def page(pictures):
    return render(rows(8), RUN, pictures)


@pytest.mark.slow
def test_made_from_rows_alone_without_torch(tmp_path):
    (tmp_path / "rows.json").write_text(json.dumps(rows()), encoding="utf-8")
    program = (
        "import json, pathlib, sys\n"
        "from tests.report.rows import write_report\n"
        "rows = json.loads(pathlib.Path(sys.argv[1]).read_text(encoding='utf-8'))\n"
        "write_report(pathlib.Path(sys.argv[2]), rows, {'title': 'from rows'})\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    subprocess.run(
        [sys.executable, "-W", "error", "-c", program, str(tmp_path / "rows.json"), str(tmp_path / "report.html")],
        check=True,
        cwd=Path(__file__).resolve().parents[2],
        timeout=60,
    )
    assert "from rows" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_nothing_is_fetched(page):
    for tag, attributes in Reader(page).tags:
        assert tag not in {"link", "iframe", "object", "embed", "base"}
        for name in ("src", "href", "srcset", "data", "poster", "action"):
            assert (attributes.get(name) or "#").startswith(("data:", "#")), (tag, attributes)
    assert "url(" not in page
    assert "@import" not in page
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|fetch\(|XMLHttpRequest|import\(", page)
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


def test_no_character_is_obeyed_instead_of_shown(pictures, tmp_path):
    name = "a\x1b[31m\u202egnp.exe"
    hostile = rows(2, methods={name: "gradient", "b": "gradient"}, model=name, dataset=name, target_name=name)
    write_report(tmp_path / "report.html", hostile, RUN | {"title": name, "environment": {name: name}})
    write_summaries(tmp_path, hostile)
    for file in tmp_path.rglob("*.*"):
        text = file.read_text(encoding="utf-8")
        assert "\x1b" not in text, file
        assert "\u202e" not in text, file


def test_every_part_is_there(page):
    reader = Reader(page)
    figures = [attributes["data-figure"] for _, attributes in reader.tags if "data-figure" in attributes]
    assert figures[:8] == ["api", "apd", "ir", "dr"] * 2
    assert figures.count("tradeoff") == figures.count("differences") >= 10
    assert figures[-1] == "agreement"
    inputs = [attributes for tag, attributes in reader.tags if tag == "input"]
    assert [one["value"] for one in inputs if one["type"] == "radio" and "checked" in one] == ["soft"]
    boxes = [one["value"] for one in inputs if one["type"] == "checkbox" and "checked" in one]
    assert boxes == ["grad-cam", "libra-cam", "saliency", "ones"]
    text = "".join(reader.text)
    assert "chooses a threshold by the model" in text
    assert "xaikit demo -o 'out & more'" in text
    ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [attributes["href"] for tag, attributes in reader.tags if tag == "a"]
    assert {link.removeprefix("#") for link in links} <= set(ids)


def test_the_first_screen_has_question_answer_and_three_pictures(page):
    start = page[: page.index("95&nbsp;% intervals from resampling")]
    text = "".join(Reader(page).text)
    question = "Which of 3 attribution methods shows best what net uses in 8 images of drawn?"
    answer = "KeepAUC (soft masks)"
    assert text.index("A run") < text.index(question) < text.index(answer) < text.index("grad-cam")
    assert start.count('<img src="data:image/webp;base64,') == 3 * 4, "input, evidence and the two maps that are drawn"
    assert "confidence in the explained class is 0." in start
    assert "1 control is made without the network (ones)" in start


def test_both_questions_stand_above_the_summary(page):
    text = "".join(Reader(page).text)
    for sentence in ("brightness alone is rewarded", "only their order counts"):
        assert 0 < text.index(sentence) < text.index("95\xa0% intervals from resampling")
    assert page.count('<th scope="col">map mean</th>') == 2


def numbers(page):
    (found,) = re.findall(r'<script type="application/json" class="numbers">(.*?)</script>', page, re.DOTALL)
    return json.loads(found)


def test_the_values_behind_the_figures_are_the_curves():
    curves = numbers(render(rows(), RUN))["curves"]
    assert set(curves) == {"soft", "binary"}
    assert set(curves["soft"]) == {"api", "apd", "ir", "dr"}
    values, low, high = curves["binary"]["ir"]["grad-cam"]
    assert len(values) == len(low) == len(high) == 11
    assert values[0] == 0.0
    assert all(a <= b <= c for a, b, c in zip(low, values, high, strict=True))


def test_the_values_behind_the_differences_are_those_of_every_pair():
    drawn = rows(6)
    pairs = numbers(render(drawn, RUN))["pairs"]["apd"]
    results = aggregate(drawn)
    (apd,) = [column for column in COLUMNS if column.key == "apd"]
    for (earlier, later), one in zip(combinations(results, 2), pairs, strict=True):
        mean, low, high, p, reverse, better, worse = one
        found = {one.method: one for one in paired_differences(results, earlier.method, apd)}[later.method]
        assert mean == pytest.approx(later.scalars["apd"] - earlier.scalars["apd"], rel=0.01, abs=1e-9)
        assert (low, high, p) == pytest.approx((found.low, found.high, found.p), rel=0.05), "two or three digits"
        opposite = {one.method: one for one in paired_differences(results, later.method, apd)}[earlier.method]
        assert reverse == pytest.approx(opposite.p, rel=0.05)
        assert (better, worse) == pytest.approx((found.better, found.worse), rel=0.05)


@pytest.mark.slow
def test_a_page_that_would_be_too_large_shows_less_and_says_so(monkeypatch, pictures):
    whole = render(rows(8), RUN, pictures, sample=8)
    assert "To stay below" not in whole
    monkeypatch.setattr("xaikit.report.page.page._LARGEST", len(whole.encode()) - 1)
    smaller = render(rows(8), RUN, pictures, sample=8)
    assert len(smaller) < len(whole)
    assert "shows at most 6 images of a kind and the figures and ranks of 16 measures" in "".join(Reader(smaller).text)
    assert smaller.count('class="open"') == 6
    monkeypatch.setattr("xaikit.report.page.page._LARGEST", 0)
    least = render(rows(8), RUN, pictures, sample=8)
    assert least.count('class="open"') == 0
    assert least.count('data-figure="tradeoff"') == len(numbers(least)["pairs"]) == 1
    assert least.count("<img ") == 3 * 4, "the first screen stays"


@pytest.mark.slow
def test_the_sample_depends_on_the_seed_alone(pictures):
    def shown(page):
        return re.findall(r'aria-label="open (\S+)"', page)

    drawn = rows(8)
    first = shown(render(drawn, RUN, pictures, sample=4))
    assert len(first) == len(set(first)) == 7, "four are drawn, three stand at quantiles"
    assert first == shown(render(drawn[::-1], RUN, pictures, sample=4))
    assert first != shown(render(drawn, RUN | {"seed": 4}, pictures, sample=4))
    assert shown(render(drawn, RUN, None)) == []


def test_images_stand_at_the_quantiles_of_the_leader():
    drawn = rows(40)
    choices = choose(summaries(drawn)["drawn", "net"], seed=0, sample=6)
    sample = [one.image_id for one in choices if one.reason == "sample"]
    quantiles = {one.reason: one for one in choices if one.reason != "sample"}
    assert len(sample) == 6
    assert list(quantiles) == ["worst", "5 %", "median", "95 %", "best"]
    assert not {one.image_id for one in quantiles.values()} & set(sample)
    areas = {
        method: [np.trapezoid(row["o_binary"], dx=0.1) for row in drawn if row["method"] == method]
        for method in ("grad-cam", "libra-cam", "saliency")
    }
    leader = max(areas, key=lambda method: np.mean(areas[method]))
    assert {one.method for one in quantiles.values()} == {leader}
    assert {one.measure for one in quantiles.values()} == {"KeepAUC (binary masks)"}
    assert float(quantiles["worst"].value) == pytest.approx(min(areas[leader]), abs=5e-4)
    assert float(quantiles["best"].value) == pytest.approx(max(areas[leader]), abs=5e-4)


def test_quantiles_are_of_the_measure_that_decides_and_worst_is_worst():
    drawn = [row | {"measure.q": float(row["image_id"][:3])} for row in rows(21, methods={"a": "gradient"})]
    choices = choose(summaries(drawn)["drawn", "net"], 0, 2, measures(q="lower"))
    quantiles = {one.reason: (one.image_id, one.measure, one.value) for one in choices if one.reason != "sample"}
    assert quantiles["worst"] == ("020.png", "q", "20.0")
    assert quantiles["best"] == ("000.png", "q", "0.0")


def test_pictures_are_small_and_inside_the_page(pictures):
    page = render(rows(8), RUN, pictures, sample=8)
    uris = re.findall(r'src="(data:image/webp;base64,[^"]+)"', page)
    assert len(uris) == (8 + 3) * 4, "eight in the gallery, three on the first screen"
    assert all(len(uri) < 20_000 for uri in uris)


def test_a_damaged_picture_is_named_and_the_page_is_without_it(pictures, tmp_path):
    (damaged := tmp_path / "a.png").write_bytes(b"no picture")
    found = {image: dict(files) for image, files in pictures["drawn", "net"].items()}
    found[rows(8)[0]["image_id"]] |= {"input": damaged, "grad-cam": damaged}
    with pytest.warns(XaikitWarning, match=r"a\.png: expected a PNG .* the report is without it"):
        page = render(rows(8), RUN, {("drawn", "net"): found}, sample=8)
    gallery = page[page.index('<table class="gallery">') :]
    assert gallery.count('src="data:image/webp;base64,') == 8 * 4 - 2


def test_what_failed_stands_with_its_reason():
    failed = [row | {"error": "no <luck>"} if row["method"] == "saliency" else row for row in rows(3)]
    page = render(failed, RUN)
    assert "no &lt;luck&gt;" in page
    assert "every image and method is in the means" not in page
    assert "every image and method is in the means" in render(rows(3), RUN)


@pytest.mark.slow
def test_the_page_stays_small_where_every_image_fails_for_its_own_reason():
    drawn = rows(400)
    failed = [row | {"error": f"{row['image_id']}: no luck"} if row["method"] == "saliency" else row for row in drawn]
    page = render(failed, RUN)
    assert page.count(": no luck") == 100
    assert "300 further reasons are in the rows" in page
    assert len(page) < 3e6


def test_figures_are_written_as_files(tmp_path, pictures):
    write_report(tmp_path / "report.html", rows(8) + rows(2, model="../other"), RUN, pictures)
    names = sorted(file.name for file in (tmp_path / "figures").iterdir())
    kinds = ["agreement", "cost", "curves-binary", "curves-soft", "differences"]
    assert names == [f"{model}-drawn-{kind}.svg" for model in ("net", "other") for kind in kinds]
    for file in (tmp_path / "figures").iterdir():
        assert ET.parse(file).getroot().tag.endswith("svg")


@pytest.mark.slow
def test_models_stand_in_blocks_of_their_own_after_the_cross_table(pictures):
    found = dict.fromkeys((("drawn", "net"), ("drawn", "other")), pictures["drawn", "net"])
    page = render(rows(4) + rows(4, model="other"), RUN, found)
    assert page.count('<article class="block"') == 2
    cross = page[: page.index('<article class="block"')]
    assert "Which of 3 attribution methods shows best what 2 models use in drawn?" in cross
    assert re.findall(r'<th scope="col">(net|other)</th>', cross) == ["net", "other"] * 2, "soft and binary masks"
    assert cross.count('<img src="data:image/webp;base64,') == 3 * 4
    assert '<h2 class="title">net on drawn</h2>' in page
    assert '<h2 class="title">' not in render(rows(4), RUN)


def test_a_single_method_is_asked_about_by_its_name_and_shown_with_what_its_file_says():
    about = {"meaning": "A <map>.", "formula": "map = a\n    + b", "source": "Somebody, 1999"}
    page = render(rows(1, methods={"cam": "activation"}), RUN | {"methods": {"cam": about}})
    assert "How well does cam show what net uses in 1 image of drawn?" in page
    assert "without the network" not in page
    assert 'data-figure="tradeoff"' in page
    assert "A &lt;map&gt;.<pre" in page
    assert "map = a<br>    + b<br></pre><small>Somebody, 1999</small>" in page


def test_what_cannot_be_read_is_one_line(tmp_path):
    with pytest.raises(BadInput, match="cannot be written"):
        write_report(tmp_path / "missing" / "report.html", rows(), RUN)


def test_a_run_in_which_all_failed_is_a_report():
    page = render(rows(2, error="no luck", y=None, o_soft=[], o_binary=[]), RUN)
    assert "no luck" in page
    assert "every image and method is in the means" not in page
