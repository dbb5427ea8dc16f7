"""The page in a real browser: it shows everything, obeys pointer and keys, fits its window and asks for nothing."""

from __future__ import annotations

import random

import pytest
from PIL import Image

from tests.report.browser import browser, requests, show
from tests.report.rows import measures, rows, write_report

pytestmark = pytest.mark.browser

EVIL = "<img src=x onerror=alert(1)>.jpg"
BAD = "<script>alert(2)</script>"
METHODS = {"grad-cam": "activation", "libra-cam": "activation", BAD: "gradient", "ones": "control", "random": "control"}
PAPER = {"width": 1030, "height": 700, "deviceScaleFactor": 1, "mobile": False}  # A4 landscape without its margins
FIGURES = {"api", "apd", "ir", "dr", "tradeoff", "differences", "agreement"}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    stream = random.Random(5)
    drawn = [row | {"measure.srg": stream.random()} for row in rows(12, methods=METHODS)]
    drawn = [row | {"image_id": EVIL} if row["image_id"] == "003.png" else row for row in drawn]
    failed = {"error": f"no luck with {BAD}", "status": "error", "o_soft": [], "o_binary": [], "y": None}
    drawn = [row | failed if (row["image_id"], row["method"]) == ("005.png", "libra-cam") else row for row in drawn]
    pictures = {}
    for place, image in enumerate(dict.fromkeys(row["image_id"] for row in drawn)):
        pictures[image] = {}
        for name in ("input", "evidence", *METHODS):
            file = folder / f"{place}-{len(pictures[image])}.png"
            Image.new("RGB", (64, 64), (place * 20, 90, 40)).save(file)
            pictures[image][name] = file
    run = {"title": f"Test {BAD}", "command": "xaikit benchmark", "seed": 1, "environment": {"system": EVIL}}
    return write_report(
        folder / "report.html", drawn, run, {("drawn", "net"): pictures}, measures=measures(srg="higher"), sample=12
    )


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture
def driver(chromium, page):
    """The browser at the page, which must stay silent and alone whatever a test does."""
    requests(chromium)
    show(chromium, page)
    yield chromium
    assert [entry for entry in chromium.get_log("browser") if entry["level"] == "SEVERE"] == []
    asked = [url for url in requests(chromium) if not url.startswith(("data:", "chrome:"))]  # its own pictures
    assert set(asked) <= {page.as_uri()}


def find(driver, selector):
    return driver.find_element("css selector", selector)


def find_all(driver, selector):
    return driver.find_elements("css selector", selector)


def visible(driver, selector):
    return [one for one in find_all(driver, selector) if one.is_displayed()]


def press(driver, *keys):
    from selenium.webdriver import ActionChains

    ActionChains(driver).send_keys(*keys).perform()


def focused(driver, selector):
    return driver.execute_script("return document.activeElement === document.querySelector(arguments[0])", selector)


def test_every_figure_is_there(driver):
    assert {one.get_attribute("data-figure") for one in visible(driver, "[data-figure]")} == FIGURES
    for figure in visible(driver, "[data-figure] svg"):
        assert figure.size["height"] > 60
        assert figure.get_attribute("aria-label") or figure.get_attribute("aria-hidden")
    assert len(visible(driver, ".panels .line")) == 4 * len(METHODS)
    assert len(visible(driver, ".summary tbody tr:not(.kind)")) == len(METHODS)
    assert len(visible(driver, ".question")) == 1, "the suite has one measure with a direction"
    assert len(visible(driver, "tr.image")) == 12
    assert len(visible(driver, ".first-pictures img")) == 3 * 5, "input, evidence and the maps of three methods"


def test_masks_are_switched_by_pointer_and_by_keys(driver):
    from selenium.webdriver import Keys

    def shown():
        return {one.get_attribute("data-mask") for one in visible(driver, ".panels")}

    assert shown() == {"soft"}
    find(driver, ".switch input[value=binary]").click()
    assert shown() == {"binary"}
    press(driver, Keys.ARROW_LEFT)
    assert shown() == {"soft"}
    assert "map mean" in find(driver, ".reminder[data-mask=soft]").text


def test_methods_are_chosen(driver):
    from selenium.webdriver import Keys

    def shown():
        return {one.get_attribute("data-method") for one in visible(driver, ".panels .line, .tradeoff .point")}

    assert shown() == set(METHODS)
    find(driver, ".legend input[value=libra-cam]").click()
    assert shown() == set(METHODS) - {"libra-cam"}
    press(driver, Keys.SPACE)
    assert shown() == set(METHODS)
    find(driver, "[data-show=methods]").click()
    assert shown() == set(METHODS) - {"ones", "random"}
    find(driver, "[data-show=none]").click()
    assert shown() == set()


def test_a_method_stands_out_while_the_pointer_is_on_it(driver):
    from selenium.webdriver import ActionChains

    label = find(driver, ".legend label:has(input[value=grad-cam])")
    ActionChains(driver).move_to_element(label).perform()
    assert {one.get_attribute("data-method") for one in find_all(driver, ".panels .focus")} == {"grad-cam"}


def test_values_are_read_by_pointer_and_by_keys(driver):
    from selenium.webdriver import ActionChains, Keys

    panel = find(driver, "[data-figure=ir]")
    ActionChains(driver).move_to_element(panel.find_element("css selector", "svg")).perform()
    reading = panel.find_element("css selector", ".reading")
    assert reading.is_displayed()
    assert reading.text.startswith("t = 0.5")
    assert len(reading.find_elements("css selector", "tr")) == len(METHODS)
    assert BAD in reading.text
    driver.execute_script("arguments[0].focus()", panel)
    press(driver, Keys.HOME)
    assert reading.text.startswith("t = 0.0")
    press(driver, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert reading.text.startswith("t = 0.2")
    curves = driver.execute_script("return JSON.parse(document.querySelector('.numbers').textContent).curves.soft.ir")
    assert f"{curves['grad-cam'][0][2]:.3f}" in reading.text
    press(driver, Keys.ESCAPE)
    assert not reading.is_displayed()


def test_another_measure_is_chosen(driver):
    from selenium.webdriver.support.select import Select

    for kind in ("tradeoff", "differences"):
        Select(find(driver, f"select[data-choose={kind}]")).select_by_value("measure.srg")
        (figure,) = visible(driver, f"[data-figure={kind}]")
        assert figure.get_attribute("data-quality") == "measure.srg"


def test_another_reference_moves_the_marks(driver):
    from selenium.webdriver.support.select import Select

    def marks():
        (figure,) = visible(driver, "[data-figure=differences]")
        rows = figure.find_elements("css selector", ".row")
        return {
            row.get_attribute("data-method"): row.find_element("css selector", ".centre").get_attribute("transform")
            for row in rows
            if row.find_element("css selector", ".mark").get_attribute("visibility") != "hidden"
        }

    before = marks()
    assert set(before) == set(METHODS) - {"grad-cam"}
    Select(find(driver, "select[data-choose=reference]")).select_by_visible_text(BAD)
    after = marks()
    assert set(after) == set(METHODS) - {BAD}
    assert all(after[method] != before[method] for method in ("libra-cam", "ones"))
    assert BAD in find(driver, ".told").text


def test_an_image_opens_with_its_maps_and_curves_and_closes(driver):
    from selenium.webdriver import Keys

    find(driver, "tr.image td img").click()
    viewer = find(driver, "dialog.viewer")
    assert viewer.is_displayed()
    assert viewer.find_element("css selector", "h2").text == find(driver, "tr.image .about b").text
    tiles = viewer.find_elements("css selector", ".tiles img")
    assert len(tiles) == 2 + len(METHODS)
    assert all(driver.execute_script("return arguments[0].naturalWidth", tile) > 0 for tile in tiles)
    assert len(viewer.find_elements("css selector", ".own-curves .line")) == 2 * len(METHODS)
    press(driver, Keys.ESCAPE)
    assert not viewer.is_displayed()
    assert focused(driver, "tr.image .open")


def test_images_open_and_turn_by_keys(driver):
    from selenium.webdriver import Keys

    first, second = find_all(driver, "tr.image .about b")[:2]
    driver.execute_script("document.querySelector('tr.image .open').focus()")
    press(driver, Keys.ENTER)
    title = find(driver, "#viewer-title")
    assert title.text == first.text
    press(driver, Keys.ARROW_RIGHT)
    assert title.text == second.text
    for _ in range(8):
        press(driver, Keys.TAB)
        assert driver.execute_script(
            "return document.activeElement === document.body || !!document.activeElement.closest('dialog')"
        )
    find(driver, "[data-close]").click()
    assert not title.is_displayed()
    assert focused(driver, "tr.image .open")


def test_whatever_has_the_focus_is_seen(driver):
    from selenium.webdriver import Keys

    seen = set()
    for _ in range(60):
        press(driver, Keys.TAB)
        kind, outlined = driver.execute_script(
            """const one = document.activeElement, around = [one, one.nextElementSibling, one.closest("label")];
            return [one.tagName, around.some((box) => box && getComputedStyle(box).outlineStyle !== "none")]"""
        )
        if kind != "BODY":
            assert outlined, kind
            seen.add(kind)
    assert {"A", "DIV", "INPUT", "FIGURE", "SELECT", "BUTTON"} <= seen


def test_answer_pictures_and_deciding_columns_are_seen_without_scrolling(driver, page):
    show(driver, page, 1400)
    for selector in (".lead", ".conclusion", ".first-pictures", ".question"):
        assert 0 < find(driver, selector).rect["y"] + find(driver, selector).rect["height"] < 900, selector
    for column in find_all(driver, ".summary thead tr:last-child th")[:4]:
        assert column.rect["x"] + column.rect["width"] < 1400


def test_nothing_is_cut_off_in_print(driver, page):
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PAPER)
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        cut = driver.execute_script(
            """return [...document.querySelectorAll("main *")].filter((one) => one.checkVisibility()
            && one.getBoundingClientRect().right > innerWidth + 1).map((one) => one.outerHTML.slice(0, 200))"""
        )
        assert cut == []
        shown = [len(part.find_elements("css selector", "tbody tr:not(.kind)")) for part in visible(driver, ".summary")]
        assert shown == [len(METHODS)] * 2, "eighteen columns stand in two parts"
        assert {one.get_attribute("data-mask") for one in visible(driver, ".panels")} == {"soft", "binary"}
    finally:
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1600])
def test_the_page_fits_its_window(driver, page, width, scheme):
    show(driver, page, width, scheme)
    wide, inner = driver.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert wide <= inner == width
    background = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (int(background.split("(")[1].split(",")[0]) < 128) == (scheme == "dark")
    find(driver, "tr.image .open").click()
    viewer = find(driver, "dialog.viewer")
    assert viewer.is_displayed()
    assert driver.execute_script("return arguments[0].scrollWidth <= arguments[0].clientWidth", viewer)


def test_readings_stay_inside_a_narrow_window(driver, page):
    from selenium.webdriver import Keys

    show(driver, page, 400)
    panel = find(driver, "[data-figure=api]")
    driver.execute_script("arguments[0].focus()", panel)
    for key in (Keys.HOME, Keys.END):
        press(driver, key)
        left, right = driver.execute_script(
            "const box = arguments[0].querySelector('.reading').getBoundingClientRect(); return [box.left, box.right]",
            panel,
        )
        assert left >= 0
        assert right <= 400


def test_names_are_text(driver):
    text = find(driver, "body").text
    for name in (EVIL, BAD):
        assert name in text
    assert find_all(driver, "[onerror]") == []
    assert all(one.get_attribute("src").startswith("data:") for one in find_all(driver, "img[src]"))
    assert f"no luck with {BAD}" in find(driver, ".excluded").text
