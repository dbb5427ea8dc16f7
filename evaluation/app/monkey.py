"""A page of `xaikit app` under random clicks: `python -m evaluation.app.monkey [SECONDS]`.

Buttons, boxes, lists, sliders and maps are used at random. In the end the networks' weights, modes and hooks are as
they were, no thread has raised, the browser's console has no error, and the page still shows maps.
"""

from __future__ import annotations

import random
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

_ACT = """
const [kind, which, share] = arguments;
const usable = one => one.checkVisibility() && !one.disabled;
const found = [...document.querySelectorAll(`.app ${kind}`)].filter(usable);
const one = found[Math.floor(which * found.length)];
if (!one) return false;
if (one.matches("select")) {
  one.selectedIndex = Math.floor(share * one.options.length);
  one.dispatchEvent(new Event("change"));
} else if (one.matches(".level")) {
  one.value = Math.round(share * one.max);
  one.dispatchEvent(new Event("input"));
} else one.click();
document.getElementById("about").close();
return true;
"""
_KINDS = ("button", "button", "input[type=checkbox]", "select", ".level", ".stack")


def clicked(driver: Any, seconds: float, seed: int) -> int:
    """Use the controls of the page at random for some seconds, and return how many were used."""
    stream, end, count = random.Random(seed), time.monotonic() + seconds, 0
    driver.execute_script("document.getElementById('method-box').open = true")
    while time.monotonic() < end:
        count += driver.execute_script(_ACT, stream.choice(_KINDS), stream.random(), stream.random())
        time.sleep(stream.random() * 0.1)
    return count


def main(seconds: float) -> int:
    """Run the monkey on two networks of the tests, print what it did, and return the exit code."""
    from tests.app.conftest import same, state
    from tests.app.test_browser import App, wait
    from tests.report.browser import browser
    from xaikit.app.start import serving

    problems: list[str] = []
    threading.excepthook = lambda problem: problems.append(repr(problem.exc_value))
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as profile:
        app = App(Path(folder))
        before = [state(classifier) for classifier in app.classifiers]
        with serving(app.open, app.shelf) as (address, _), browser(Path(profile)) as driver:
            driver.get(address)
            wait(driver, "return document.querySelectorAll('.tile[data-state=done]').length === 3")
            count = clicked(driver, seconds, seed=1)
            session = app.sessions[-1]
            session.choose(methods=("grad-cam",), models=(app.models.names[0],))
            settled = session.settle(60)
            wait(driver, "return document.querySelectorAll('.tile[data-state=done]').length === 3")
            problems += [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
        unchanged = all(same(old, state(one)) for old, one in zip(before, app.classifiers, strict=True))
    print(
        f"{count} actions in {seconds:g} s; networks unchanged: {unchanged}; settled: {settled}; problems: {problems}"
    )
    return int(bool(problems) or not (unchanged and settled))


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 120.0))
