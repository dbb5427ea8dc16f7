"""The page in real Chromium: what it shows is what the library computes, and nothing that is done breaks it."""

from __future__ import annotations

import json
import re
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import xaikit
from evaluation.app.monkey import clicked
from tests.app.conftest import SIDE, network, same, state
from tests.app.test_pictures import HOSTILE, png
from tests.cli.conftest import draw
from tests.report.browser import browser, requests

pytest.importorskip("nicegui", reason="nicegui is not installed; see the extra app")

from xaikit.app.cache import Cache
from xaikit.app.models import Models, of_classifiers
from xaikit.app.pictures import Shelf
from xaikit.app.session import Choice, Session
from xaikit.app.start import serving
from xaikit.app.tasks import LEVELS

pytestmark = [
    pytest.mark.browser,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of the server's packages
    pytest.mark.filterwarnings("ignore:End of file reached"),  # pydicom's, of a cut file
    pytest.mark.filterwarnings("ignore:.*torch.distributed.reduce_op"),  # NiceGUI looks at every object for its server
]

EVIL = "<img src=x onerror=alert(1)>.png"
OWL = 2  # the class whose label is markup


class App:
    """A server with two networks and three pictures, in this process."""

    def __init__(self, root: Path) -> None:
        for name in ("uploads", "cache"):
            (root / name).mkdir()
        self.files = [draw(root / "photos" / name, place, SIDE) for place, name in enumerate(("a.png", "b.png", EVIL))]
        self.classifiers = [network(0), network(1)]
        self.models = Models(of_classifiers(self.classifiers))
        self.shelf = Shelf(self.files, root / "uploads")
        self.cache = Cache(root / "cache")
        self.sessions: list[Session] = []

    def open(self) -> Session:
        choice = Choice(self.shelf.pictures()[0].id, (self.models.names[0],), methods=("grad-cam",))
        self.sessions.append(Session(self.models, self.shelf, self.cache, choice))
        return self.sessions[-1]


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    return App(tmp_path_factory.mktemp("app"))


@pytest.fixture(scope="module")
def chromium(app, tmp_path_factory):
    with serving(app.open, app.shelf) as (address, _), browser(tmp_path_factory.mktemp("profile")) as driver:
        driver.address = address
        driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "deny"})
        yield driver
    for session in app.sessions:
        session.close()
        assert session.join()


@pytest.fixture
def page(chromium):
    """The page with its first maps; whatever a test does, it must stay silent and alone."""
    requests(chromium)
    size(chromium, 1600)
    chromium.get(chromium.address)
    wait(chromium, "return document.querySelectorAll('.tile[data-state=done]').length === 3")
    settled(chromium)
    yield chromium
    assert [entry["message"] for entry in chromium.get_log("browser") if entry["level"] == "SEVERE"] == []
    own = re.compile(r"(http|ws)://127\.0\.0\.1:\d+/|data:|chrome:|file:|about:")
    assert [url for url in requests(chromium) if not own.match(url)] == []
    assert chromium.execute_script("return document.querySelectorAll('.app [onerror], .app img[src=x]').length") == 0


def size(driver, width, scheme="light"):
    metrics = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def wait(driver, script, *arguments, seconds=20.0):
    """Wait until a script returns something true, and return it."""
    end = time.monotonic() + seconds
    while not (value := driver.execute_script(script, *arguments)):
        assert time.monotonic() < end, (
            f"never true: {script}\n{driver.execute_script('return document.body.innerText')}"
        )
        time.sleep(0.03)
    return value


def settled(driver):
    """Wait until every tile has its map and its curve."""
    wait(
        driver,
        "return document.querySelectorAll('.tile').length && [...document.querySelectorAll('.tile')].every(one => "
        "one.dataset.state === 'done') && document.querySelectorAll('.numbers tbody tr').length === "
        "document.querySelectorAll('.tile').length && [...document.querySelectorAll('.numbers td')].every(one => "
        "one.textContent !== '…')",
    )


def find(driver, selector):
    return driver.find_element("css selector", selector)


def click(driver, key):
    """Click what has a key, as soon as it is there."""
    found = 'document.querySelector(`[data-key="${arguments[0]}"]:enabled`)'
    wait(driver, f"const one = {found}; one?.click(); return Boolean(one)", key)


def select(driver, key, value):
    script = 'const one = document.querySelector(`[data-key="${arguments[0]}"]`); one.value = arguments[1]; '
    driver.execute_script(script + "one.dispatchEvent(new Event('change'))", key, value)


def numbers(driver, place=0):
    """The table of a network: method -> texts of confidence, API, APD, IR, DR."""
    rows = driver.execute_script(
        "return [...document.querySelectorAll(`#threshold${arguments[0]} .numbers tbody tr`)].map(row => "
        "[row.querySelector('input').value, ...[...row.querySelectorAll('td')].map(cell => cell.textContent)])",
        place,
    )
    return {name: cells for name, *cells in rows}


def expected(classifier, file, target, method, level, mask="soft"):
    """The same texts, computed by the library."""
    attribution = xaikit.attribute(classifier, file, target, method)
    curve = xaikit.keep_curve(classifier, file, attribution, levels=LEVELS, mask=mask)
    o = float(curve.o[0, level])
    values = [curve.gains(), curve.drops(), curve.ups(), curve.downs()]
    shown = f"{100 * o:.{2 if 0 < o < 0.001 else 1}f} %"
    return [shown, *(f"{float(value[0, level]):.3f}" for value in values)]


def level(driver, value):
    slider = find(driver, "#threshold0 .level")
    driver.execute_script(
        "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))", slider, value
    )
    wait(driver, "return document.querySelector('#threshold0 .kept').dataset.level === String(arguments[0])", value)


def test_the_numbers_are_those_of_the_library(page, app):
    classifier, file = app.classifiers[0], app.files[0]
    own = int(classifier(classifier.read(file)).argmax())
    for method in ("saliency", "lrp"):
        click(page, f"method {method}")
    wait(page, "return document.querySelectorAll('.tile').length === 5")
    settled(page)
    for steps in (0, 7, LEVELS):
        level(page, steps)
        shown = numbers(page)
        assert set(shown) == {"grad-cam", "saliency", "lrp", "random-grid", "edges"}
        for method, texts in shown.items():
            assert texts == expected(classifier, file, own, method, steps), method
    other = next(index for index in range(3) if index != own)
    click(page, f"class 0 {other}")
    wait(
        page,
        "return document.querySelector('.bar-row.chosen .label').textContent === arguments[0]",
        classifier.labels[other],
    )
    settled(page)
    level(page, 5)
    assert numbers(page)["saliency"] == expected(classifier, file, other, "saliency", 5)
    select(page, "mask", "binary")
    wait(page, "return tab.shared.mask === 'binary'")
    settled(page)
    assert numbers(page)["grad-cam"] == expected(classifier, file, other, "grad-cam", 5, "binary")


def test_the_kept_picture_is_the_one_that_was_measured_and_a_step_is_quick(page, app):
    classifier, file = app.classifiers[0], app.files[0]
    level(page, 8)
    shown = page.execute_script(
        "const one = document.querySelector('#threshold0 .kept'); "
        "return [...one.getContext('2d').getImageData(0, 0, one.width, one.height).data]"
    )
    pixels = classifier.read(file)
    heat = xaikit.attribute(classifier, file, None, "grad-cam").heatmap()[0]
    order = heat.flatten().argsort(stable=True)
    kept = heat.clone()
    kept.view(-1)[order[: heat.numel() * 8 // LEVELS]] = 0
    masked = kept * pixels[0] + (1 - kept) * classifier.mean[0]
    drawn = np.array(shown, np.float64).reshape(SIDE, SIDE, 4)[..., :3]
    assert np.abs(drawn - 255 * masked.permute(1, 2, 0).numpy()).max() < 2.5
    times = []
    for step in range(LEVELS + 1):
        level(page, step)
        times.append(float(find(page, "#threshold0 .kept").get_attribute("data-milliseconds")))
    assert max(times) < 100


def test_a_contrast_and_a_pixel(page, app):
    classifier, file = app.classifiers[0], app.files[0]
    own = int(classifier(classifier.read(file)).argmax())
    other = next(index for index in range(3) if index != own)
    click(page, f"against 0 {other}")
    wait(page, "return document.querySelector('.explained').textContent.includes(' against ')")
    settled(page)
    level(page, 4)
    assert numbers(page)["grad-cam"] == expected(classifier, file, xaikit.Contrast(own, other), "grad-cam", 4)
    stack = find(page, ".tile[data-method=edges] .stack")
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", stack)
    stack.click()
    shown = wait(page, "return document.querySelector('.tile[data-method=edges] .here')?.textContent")
    edges = xaikit.attribute(classifier, file, None, "edges").maps[0]
    across, down = page.execute_script("return tab.sections.column0.place")
    assert abs(across - 0.5) < 0.02
    assert abs(down - 0.5) < 0.02
    assert shown == f"here: {float(edges[int(down * SIDE), int(across * SIDE)]):.3g}"
    page.execute_script("document.querySelector('.tile[data-method=edges] .info').click()")
    assert "Sobel" in wait(
        page, "return document.getElementById('about').open && document.getElementById('about').innerText"
    )


def test_a_running_method_is_cancelled_and_run_again(page, app):
    before = state(app.classifiers[0])
    click(page, "method extremal-perturbation")
    tile = ".tile[data-method=extremal-perturbation]"
    wait(page, f"return document.querySelector('{tile}[data-state=running] progress')?.value > 0")
    begin = time.monotonic()
    click(page, "cancel 0 extremal-perturbation")
    wait(page, f"return document.querySelector('{tile}[data-state=cancelled]')")
    assert time.monotonic() - begin < 1
    session = app.sessions[-1]
    while session.running is not None:
        assert time.monotonic() - begin < 1
        time.sleep(0.01)
    assert same(before, state(app.classifiers[0]))
    assert "cancelled" in find(page, tile).text
    click(page, "cancel 0 extremal-perturbation")  # now it says "run"
    wait(page, f"return document.querySelector('{tile}[data-state=running]')")
    click(page, "method extremal-perturbation")
    settled(page)


def test_two_networks_side_by_side_explain_the_same_class(page, app):
    select(page, "second", app.models.names[1])
    wait(page, "return document.querySelectorAll('.column .tile[data-state=done]').length === 6")
    settled(page)
    level(page, 6)
    own = int(app.classifiers[0](app.classifiers[0].read(app.files[0])).argmax())
    for place, classifier in enumerate(app.classifiers):
        assert numbers(page, place)["grad-cam"] == expected(classifier, app.files[0], own, "grad-cam", 6)


def test_what_is_taken_away(page, app, tmp_path):
    files = {}
    for kind in ("png", "npz", "safetensors", "json", "page"):
        files[kind] = bytes(
            page.execute_async_script(
                "const done = arguments[1]; fetch(document.getElementById(`get-${arguments[0]}`).href)"
                ".then(answer => answer.arrayBuffer()).then(content => done([...new Uint8Array(content)]))",
                kind,
            )
        )
    assert files["png"].startswith(b"\x89PNG")
    (tmp_path / "maps.npz").write_bytes(files["npz"])
    attribution = xaikit.attribute(app.classifiers[0], app.files[0], None, "grad-cam")
    with np.load(tmp_path / "maps.npz") as maps:
        np.testing.assert_allclose(maps[f"{app.models.names[0]}/grad-cam"], attribution.values[0], rtol=1e-5)
    results = json.loads(files["json"])
    assert [record["method"] for record in results["records"]] == ["grad-cam", "random-grid", "edges"]
    assert str(app.files[0].parent) not in files["json"].decode() + files["page"].decode()
    exported = tmp_path / "page.html"
    exported.write_bytes(files["page"])
    page.get(exported.as_uri())
    wait(page, "return shared.all.length && document.querySelector('.kept').dataset.level === '0'")
    page.execute_script(
        "document.querySelector('.level').value = 9; document.querySelector('.level').dispatchEvent(new Event('input'))"
    )
    wait(page, "return document.querySelector('.kept').dataset.level === '9'")
    own = int(attribution.target[0])
    shown = page.execute_script(
        "return [...document.querySelectorAll('.numbers tbody tr:first-child td')].map(one => one.textContent)"
    )
    assert shown == expected(app.classifiers[0], app.files[0], own, "grad-cam", 9)


def test_hostile_uploads_end_in_one_line_and_good_ones_are_shown(page, app, tmp_path):
    upload = find(page, "#files")
    for name, content in HOSTILE.items():
        (tmp_path / name).write_bytes(content)
        upload.send_keys(str(tmp_path / name))
        told = wait(
            page,
            "const text = document.getElementById('notice').textContent; return text.startsWith(arguments[0]) && text",
            f"{name}:",
        )
        assert "\n" not in told
        assert str(tmp_path) not in told
    good = tmp_path / "<b>new & good.png"
    good.write_bytes(png(SIDE))
    upload.send_keys(str(good))
    wait(page, "return document.querySelector('.original img')?.alt.startsWith(arguments[0])", good.name)
    settled(page)
    assert page.execute_script("return document.querySelectorAll('.app b').length") == 0


def test_keys_lead_through_pictures_and_thresholds(page, app):
    from selenium.webdriver import ActionChains, Keys

    def press(key):
        ActionChains(page).send_keys(key).perform()

    find(page, "h1").click()
    press(Keys.ARROW_RIGHT)
    wait(page, "return document.querySelector('.original img')?.alt.startsWith('b.png')")
    press(Keys.ARROW_RIGHT)
    wait(page, "return document.querySelector('.original img')?.alt.startsWith(arguments[0])", EVIL)
    press(Keys.ARROW_LEFT)
    wait(page, "return document.querySelector('.original img')?.alt.startsWith('b.png')")
    settled(page)
    for _ in range(3):
        press(Keys.ARROW_UP)
    press(Keys.ARROW_DOWN)
    wait(page, "return document.querySelector('#threshold0 .kept').dataset.level === '2'")


UNREADABLE = """
const channel = value => { value /= 255; return value <= .04045 ? value / 12.92 : ((value + .055) / 1.055) ** 2.4; };
const parse = colour => (colour.match(/[\\d.]+/g) ?? [0, 0, 0, 0]).map(Number);
const light = ([r, g, b]) => .2126 * channel(r) + .7152 * channel(g) + .0722 * channel(b);
const behind = node => {
  for (; node; node = node.parentElement) {
    const colour = parse(getComputedStyle(node).backgroundColor);
    if (colour.length < 4 || colour[3] > .99) return colour;
  }
  return [255, 255, 255];
};
const bad = [];
for (const node of document.querySelectorAll('.app *')) {
  const own = [...node.childNodes].some(child => child.nodeType === 3 && child.textContent.trim());
  if (!own || !node.checkVisibility() || node.closest(':disabled, .unseen, .skip, option')) continue;
  const style = getComputedStyle(node), svg = node.ownerSVGElement;
  const pair = [light(parse(svg ? style.fill : style.color)), light(behind(node))].sort((a, b) => b - a);
  const ratio = (pair[0] + .05) / (pair[1] + .05);
  const about = `${node.className.baseVal ?? node.className} ${node.textContent.slice(0, 30)}`;
  if (ratio < 4.5) bad.push(`${about} ${ratio.toFixed(2)}`);
}
for (const image of document.querySelectorAll('.app img:not([alt])')) bad.push(`no alt: ${image.className}`);
for (const one of document.querySelectorAll('.app button, .app input, .app select')) {
  const names = [one.textContent, one.getAttribute('aria-label'), one.closest('label')?.textContent];
  const named = names.some(name => name?.trim()) || one.querySelector('img')?.alt;
  if (!named) bad.push(`no name: ${one.outerHTML.slice(0, 80)}`);
}
return bad;
"""


def test_it_fits_and_can_be_read_in_light_and_dark(page):
    page.execute_script("document.querySelectorAll('details').forEach(one => one.open = true)")
    for width in (400, 1000, 1600):
        for scheme in ("light", "dark"):
            size(page, width, scheme)
            assert page.execute_script(UNREADABLE) == [], (width, scheme)
            assert page.execute_script("return document.documentElement.scrollWidth <= window.innerWidth"), width


def test_random_clicks_leave_the_networks_as_they_were(page, app):
    before = [state(classifier) for classifier in app.classifiers]
    problems: list[str] = []
    hook, threading.excepthook = threading.excepthook, lambda problem: problems.append(str(problem.exc_value))
    try:
        assert clicked(page, 10.0, seed=3) >= 50
    finally:
        threading.excepthook = hook
    session = app.sessions[-1]
    session.choose(methods=("grad-cam",), models=(app.models.names[0],))
    assert session.settle(30)
    assert not problems
    assert all(same(old, state(classifier)) for old, classifier in zip(before, app.classifiers, strict=True))
    settled(page)
