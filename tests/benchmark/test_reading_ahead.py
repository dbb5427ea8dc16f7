"""Pictures are decoded in other processes; what a process that dies leaves undone is decoded here."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.benchmark.test_run import ASKED, assert_same, rows
from xaikit.benchmark import run as running
from xaikit.benchmark.dataset import Content, Picture, Sample
from xaikit.benchmark.engines import local, reading_ahead
from xaikit.benchmark.engines.reading_ahead import by_processes, by_thread
from xaikit.benchmark.suite import Suite
from xaikit.foundation.errors import BadInput, MissingExtra, UnknownName, XaikitError

PORTIONS = [[Picture(f"{number}", "", place=number), Picture(f"{number}b", "", place=-number)] for number in range(9)]
SLOW_START = 60.0  # seconds in which a process certainly starts on a busy machine
unix = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")


class Read:
    """Stands for a reader: a picture of its place's value, 4 MB large, so that a pipe never holds a whole one."""

    def __call__(self, pictures: Sequence[Picture]) -> list[Content]:
        return [Sample(torch.full((1, 1000, 1000), float(picture.place))) for picture in pictures]


class ReadNothing(Read):
    """A reader that ends its process, but not the one of the test."""

    def __call__(self, pictures: Sequence[Picture]) -> list[Content]:
        if multiprocessing.parent_process() is not None:
            os._exit(3)
        return super().__call__(pictures)


class ReadErrors(Read):
    """A reader whose pictures cannot be read, each for another reason."""

    def __call__(self, pictures: Sequence[Picture]) -> list[Content]:
        return [
            [BadInput("a"), UnknownName("b", "c", []), MissingExtra("d", "e")][picture.place % 3]
            for picture in pictures
        ]


def places(contents: Any) -> list[list[float]]:
    return [[float(sample.pixels[0, 0, 0]) for sample in content] for content in contents]


EXPECTED = [[float(number), float(-number)] for number in range(9)]


def killed(processes: Sequence[Any]) -> None:
    for process in processes:
        os.kill(process.pid, signal.SIGKILL)


def test_a_thread_gives_all_portions_in_order() -> None:
    assert places(by_thread(Read(), PORTIONS)) == EXPECTED  # type: ignore[arg-type]


@unix
def test_processes_that_die_at_their_start_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    started, notices = [], list[str]()
    start = reading_ahead._SPAWN.Process.start

    def start_and_kill(process: Any) -> None:
        start(process)
        started.append(process)
        os.kill(process.pid, signal.SIGKILL)

    monkeypatch.setattr(reading_ahead._SPAWN.Process, "start", start_and_kill)
    begin = time.monotonic()
    assert places(by_processes(Read(), PORTIONS, 2, notices.append)) == EXPECTED  # type: ignore[arg-type]
    assert time.monotonic() - begin < 10
    line = "a process that decodes pictures ended (killed by SIGKILL); its pictures are decoded in this process"
    assert notices == [line, line]
    assert not any(process.is_alive() for process in started)


def test_processes_that_cannot_be_started_are_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(process: Any) -> None:
        raise OSError("no more processes")

    notices = list[str]()
    monkeypatch.setattr(reading_ahead._SPAWN.Process, "start", start)
    assert places(by_processes(Read(), PORTIONS, 3, notices.append)) == EXPECTED  # type: ignore[arg-type]
    assert len(notices) == 3
    assert "it could not be started" in notices[0]


@pytest.mark.slow
@unix
@pytest.mark.parametrize("count", [1, 2])
def test_a_process_killed_in_the_middle_of_a_picture_is_noticed(count: int) -> None:
    """Its pipe is full, so the kill cuts a message; the others go on."""
    notices = list[str]()
    contents = by_processes(Read(), PORTIONS, count, notices.append)  # type: ignore[arg-type]
    first = [next(contents) for _ in range(2)]
    children = multiprocessing.active_children()
    assert len(children) == count
    time.sleep(1.0)  # each is at its next picture, or has filled its pipe with it
    killed(children[:1])
    begin = time.monotonic()
    assert places([*first, *contents]) == EXPECTED
    assert time.monotonic() - begin < 10
    assert len(notices) == 1
    assert "SIGKILL" in notices[0]
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_a_process_that_ends_itself_is_noticed() -> None:
    notices = list[str]()
    assert places(by_processes(ReadNothing(), PORTIONS, 1, notices.append)) == EXPECTED  # type: ignore[arg-type]
    assert len(notices) == 1
    assert "exit code 3" in notices[0]


@pytest.mark.slow
def test_what_cannot_be_read_arrives_as_it_was_raised() -> None:
    notices = list[str]()
    contents = [*by_processes(ReadErrors(), PORTIONS[:3], 1, notices.append)]  # type: ignore[arg-type]
    assert [type(error) for content in contents for error in content[:1]] == [BadInput, UnknownName, MissingExtra]
    expected = [str(error) for portion in PORTIONS[:3] for error in ReadErrors()(portion)]
    assert [str(error) for content in contents for error in content] == expected
    assert all(isinstance(error, XaikitError) for content in contents for error in content)
    assert not notices


@pytest.mark.slow
@unix
def test_a_run_goes_on_without_its_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite, notices = Suite.of(**(ASKED | {"data": {"kind": "synthetic", "count": 8, "seed": 3}})), list[str]()
    running.run(suite, tmp_path / "whole")
    work = local.Worker.work

    def work_and_kill(worker: Any, chunk: Any, contents: Any, counters: Any) -> Any:
        killed(multiprocessing.active_children())
        return work(worker, chunk, contents, counters)

    monkeypatch.setattr(local, "readers", lambda pictures, busy: 2)
    monkeypatch.setattr(local.Worker, "work", work_and_kill)
    running.run(suite, tmp_path / "killed", chunk=1, notice=notices.append)
    assert_same(rows(tmp_path / "killed"), rows(tmp_path / "whole"))
    assert sum("killed by SIGKILL" in line for line in notices) == 2


@pytest.mark.slow
@unix
def test_no_process_outlives_the_one_that_started_it() -> None:
    program = (
        "import multiprocessing, time\n"
        "from tests.benchmark.test_reading_ahead import PORTIONS, Read\n"
        "from xaikit.benchmark.engines.reading_ahead import by_processes\n"
        "if __name__ == '__main__':\n"
        "    contents = by_processes(Read(), PORTIONS, 2, print)\n"
        "    next(contents), next(contents)\n"
        "    print(*[child.pid for child in multiprocessing.active_children()], flush=True)\n"
        "    time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        children = [int(pid) for pid in parent.stdout.readline().split()]
        parent.kill()
    assert len(children) == 2
    deadline = time.monotonic() + 10
    while any(map(is_running, children)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(is_running, children))


def is_running(pid: int) -> bool:
    """Return whether a process runs; one that has ended and was not waited for does not."""
    state = Path(f"/proc/{pid}/stat")
    try:
        return state.read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
