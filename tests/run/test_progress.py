"""Progress: who sees it, and that every long method reports it."""

from __future__ import annotations

import io
import sys
from contextlib import suppress
from typing import Any

import pytest

import xaikit
from tests.methods.small import SMALL
from tests.networks import DeepNet, GAPNet, bound, images
from xaikit.foundation.errors import BadInput
from xaikit.methods.base import METHODS
from xaikit.run import progress as progress_module
from xaikit.run.context import Context, duration
from xaikit.run.progress import ProgressLine, reported

SLOW = {"samples": 40, "segmentation": "grid", "segments": 4}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress_module, "time", clock)
    return clock


def test_a_line_is_rewritten_in_place_and_removed(clock: Clock) -> None:
    stream = io.StringIO()
    line = ProgressLine(stream)
    line(0, 4000, "forwards")
    clock.now += 10
    line(1000, 4000, "forwards, about 40 s")
    line(1001, 4000, "forwards")  # too soon after the last
    clock.now += 10
    line(4000, 4000, "forwards")
    line.close()
    first, second, last = "0 of 4,000 forwards", "1,000 of 4,000 forwards, about 30 s left", "4,000 of 4,000 forwards"
    blank = " " * len(last)
    assert stream.getvalue() == f"\r{first}\r{second}\r{last.ljust(len(second))}\r{blank}\r"


def test_a_second_computation_of_the_same_unit_has_its_own_clock(clock: Clock) -> None:
    stream = io.StringIO()
    line = ProgressLine(stream)
    for begin in (0, 100):
        clock.now = 1000.0 + begin
        line(1, 10, "search steps")
        clock.now += 9
        line(4, 10, "search steps")
        assert stream.getvalue().endswith("4 of 10 search steps, about 10 s left")
        clock.now += 9
        line(10, 10, "search steps")


@pytest.mark.parametrize(
    ("seconds", "text"), [(1, "1 s"), (44, "40 s"), (89, "90 s"), (91, "2 min"), (5399, "90 min"), (5401, "2 h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_terminal_shows_a_line_after_two_seconds(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with reported(None) as report:
        assert report is not None
        clock.now += 1.9
        report(1, 3, "forwards")
        assert terminal.getvalue() == ""
        clock.now += 0.2
        report(2, 3, "forwards")
        assert "2 of 3 forwards" in terminal.getvalue()
    assert terminal.getvalue().endswith(" \r")


def test_pipes_stay_silent_unless_asked(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = io.StringIO()
    monkeypatch.setattr(sys, "stderr", pipe)
    with reported(None) as report:
        assert report is None
    with reported(True) as report:
        assert report is not None
        report(1, 3, "forwards")
    assert "1 of 3 forwards" in pipe.getvalue()
    monkeypatch.setattr(sys, "stderr", None)  # as in a program without a console
    with reported(None) as report:
        assert report is None


def test_false_is_silent_in_a_terminal_and_nonsense_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    with reported(False) as report:
        assert report is None
    with pytest.raises(BadInput, match="progress: expected True, False, None or a function, got 'yes'"):
        xaikit.attribute(bound(GAPNet()), images(1), progress="yes")  # type: ignore[arg-type]


def test_the_line_is_removed_when_the_work_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with suppress(RuntimeError), reported(True) as report:
        assert report is not None
        report(1, 3, "forwards")
        raise RuntimeError
    assert terminal.getvalue().endswith(" \r")


def long_methods() -> list[str]:
    clf = bound(GAPNet())
    costs = {name: METHODS.get(name).build(clf).cost((16, 16)) for name in METHODS.names()}
    return [name for name, cost in costs.items() if cost.forwards + cost.backwards >= 20]


@pytest.mark.parametrize("name", long_methods())
def test_every_long_method_reports(name: str) -> None:
    told: list[tuple[int, int, str]] = []

    def progress(*step: Any) -> None:
        told.append(step)

    kind = METHODS.get(name)
    params = SMALL.get(name, {}) | {key: value for key, value in SLOW.items() if key in kind.parameter_names()}
    if name == "sobol":
        params["samples"] = 8
    xaikit.attribute(bound(GAPNet()), images(1, size=16), method=name, chunk_size=2, progress=progress, **params)
    assert len(told) > 1
    assert told[-1][0] == told[-1][1]
    assert all(0 < done <= total for done, total, _ in told)
    assert all(unit for *_, unit in told)


@pytest.mark.parametrize("name", ["score-cam", "ablation-cam", "libra-cam"])
def test_methods_with_a_pass_per_channel_or_reference_report(name: str) -> None:
    told: list[Any] = []
    clf = bound(DeepNet())
    METHODS.get(name).build(clf).attribute(images(2), chunk_size=2, progress=lambda *step: told.append(step))
    assert len(told) > 1


def test_a_batch_of_many_images_reports_them() -> None:
    told: list[tuple[int, int, str]] = []
    clf, x = bound(GAPNet()), images(5)
    names = ["grad-cam", "saliency"]
    xaikit.attribute_many(clf, x, methods=names, chunk_size=2, progress=lambda *step: told.append(step))
    assert told == [(2, 5, "explained images"), (4, 5, "explained images"), (5, 5, "explained images")]
    told.clear()
    context = Context(chunk_size=2)
    xaikit.attribute(clf, x, context=context, progress=lambda *step: told.append(step))
    assert told == [], "a context has its own progress"
