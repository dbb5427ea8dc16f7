"""The documentation builds strictly, and its pages ask for nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from docs.generator.entries import typeset
from docs.generator.messages import refusals
from tests.docs.pages import ROOT
from tests.report.browser import browser, requests

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "-q", "-d", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_every_method_and_measure_has_its_page(site: Path) -> None:
    import xaikit

    for folder, names in (("methods", xaikit.methods()), ("measures", xaikit.measures())):
        pages = {page.stem for page in (site / folder).glob("*.html")} - {"index"}
        assert pages == {name for name in names if "/" not in name}
    page = (site / "methods" / "grad-cam.html").read_text(encoding="utf-8")
    assert 'class="formula"' in page
    assert "torchcam/grad-cam" in page
    assert (site / "methods" / "grad-cam.png").stat().st_size < 200_000


def test_no_page_names_a_script_picture_or_font_of_another_host(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.findall(r'<(?:script|img|link|iframe)[^>]*(?:src|href)="https?://(?!127)[^"]*"', text), page


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    """The site as a server on this machine gives it out."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.browser
def test_pages_are_quiet_in_a_browser(address: str, tmp_path: Path) -> None:
    with browser(tmp_path) as driver:
        for name in ("index", "methods/grad-cam", "gallery", "network"):
            driver.get(f"{address}/{name}.html")
            assert driver.find_elements("tag name", "h1")
        assert [line for line in driver.get_log("browser") if line["level"] == "SEVERE"] == []
        asked = [url for url in requests(driver) if not url.startswith(("data:", "blob:", "chrome:"))]
        assert len(asked) > 4
        assert all(url.startswith(address) for url in asked)


def test_formulas_are_typeset() -> None:
    found = typeset("map = relu(sum_k alpha_k d score / d A_k <= B^2)")
    assert "∑<sub>k</sub> α<sub>k</sub> ∂score / ∂A<sub>k</sub> ≤ B<sup>2</sup>" in found


def test_messages_are_those_of_the_code() -> None:
    messages = refusals("model")
    assert any(message.startswith("model: expected logits, as at first") for message in messages)
    assert messages == sorted(set(messages), key=str.lower)
