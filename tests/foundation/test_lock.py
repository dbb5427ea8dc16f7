"""One run writes to a folder, or several shards of one suite; what a killed one left behind stops nobody."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from xaikit.benchmark.run import run
from xaikit.benchmark.suite import Suite
from xaikit.foundation.errors import BadInput
from xaikit.foundation.files import write_json
from xaikit.foundation.lock import held
from xaikit.report.numbers.read import read_benchmark

FEW = {
    "models": ["texture-cnn"],
    "data": {"kind": "synthetic", "count": 4},
    "methods": ["saliency"],
    "controls": [],
    "measures": ["api"],
    "levels": 2,
    "batch": 2,
    "threads": 1,
}


def lock(folder: Path, **changed) -> Path:
    """Write the lock of another process, by default of one that lives: the one that started this one."""
    started = Path(f"/proc/{os.getppid()}/stat")
    other = {
        "host": platform.node(),
        "pid": os.getppid(),
        "started": started.read_text().rpartition(")")[2].split()[19] if started.exists() else "",
        "began": "2026-01-01 00:00 UTC",
        "task": "another",
        "shard": None,
    }
    (folder / "running").mkdir(parents=True, exist_ok=True)
    file = folder / "running" / "other.json"
    write_json(file, other | changed)
    return file


def test_two_runs_in_one_folder_are_refused(tmp_path):
    other = lock(tmp_path)
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / ".0123.tmp.parquet").write_bytes(b"half a file of the other run")
    with pytest.raises(BadInput, match=rf"a whole run of another task by process {os.getppid()} on .* since 2026-"):
        run(Suite.of(**FEW), tmp_path)
    assert (tmp_path / "rows" / ".0123.tmp.parquet").exists(), "it is the other's"
    assert [file.name for file in (tmp_path / "running").iterdir()] == ["other.json"]
    other.unlink()
    assert run(Suite.of(**FEW), tmp_path).computed == 4
    assert not (tmp_path / "running").exists()
    assert not list((tmp_path / "rows").glob(".*"))


@pytest.mark.parametrize(
    "dead",
    [{"pid": 2**22 + 1}, {"started": "1"}],
    ids=["no such process", "its number is used again"],
)
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="this system has no /proc")
def test_the_lock_of_a_dead_process_is_removed(tmp_path, dead):
    other = lock(tmp_path, **dead)
    with held(tmp_path, "mine", None):
        assert not other.exists()


def test_another_host_is_asked_for(tmp_path):
    lock(tmp_path, host="elsewhere", pid=2**22 + 1)
    with (
        pytest.raises(BadInput, match=r"on elsewhere since .*; if it has died, remove running/other\.json"),
        held(tmp_path, "mine", None),
    ):
        pass


def test_what_is_no_lock_is_one_line(tmp_path):
    lock(tmp_path).write_text("[]", encoding="utf-8")
    with pytest.raises(BadInput, match=r"other\.json: expected the lock of a run"), held(tmp_path, "mine", None):
        pass


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        (("a", (0, 3)), ("a", (1, 3)), True),
        (("a", (0, 3)), ("a", (0, 3)), False),
        (("a", (0, 3)), ("a", (3, 3)), False),
        (("a", (0, 3)), ("a", (1, 2)), False),
        (("a", (0, 3)), ("b", (1, 3)), False),
        (("a", (0, 3)), ("a", None), False),
        (("a", None), ("a", (0, 3)), False),
        (("a", None), ("a", None), False),
    ],
)
def test_different_shards_of_one_suite_run_together(tmp_path, first, second, together):
    with ExitStack() as stack:
        stack.enter_context(held(tmp_path, *first))
        if together:
            stack.enter_context(held(tmp_path, *second))
        else:
            with pytest.raises(BadInput, match="wait for it or choose another output"):
                stack.enter_context(held(tmp_path, *second))


def test_what_a_kill_left_half_written_stops_nobody(tmp_path):
    lock(tmp_path, pid=2**22 + 1).rename(tmp_path / "running" / ".0123.tmp.json")
    (tmp_path / "running" / ".4567.tmp.json").write_bytes(b"")
    with held(tmp_path, "mine"):
        pass


def test_shards_that_start_and_end_together_do_not_refuse_each_other(tmp_path):
    """The last one to end removes the folder that the next one has just made."""
    count, together = 4, threading.Barrier(4)

    def start_often(shard: int) -> int:
        together.wait()
        for _ in range(25):
            with held(tmp_path, "mine", (shard, count)):
                pass
        return 25

    with ThreadPoolExecutor(count) as threads:
        assert sum(threads.map(start_often, range(count))) == 100


def test_a_suite_is_the_same_wherever_its_files_lie(tmp_path):
    suites = [
        Suite.of(**(FEW | {"data": {"kind": "images", "path": tmp_path / place / "data"}, "levels": levels}))
        for place, levels in (("a", 2), ("b", 2), ("a", 3))
    ]
    assert suites[0].id == suites[1].id != suites[2].id


@pytest.mark.slow
def test_two_suites_started_together_lose_nothing(tmp_path):
    program = (
        "import json, sys\n"
        "from xaikit.benchmark.run import run\n"
        "from xaikit.benchmark.suite import Suite\n"
        "from xaikit.foundation.errors import BadInput\n"
        "sys.stdin.readline()\n"
        "try:\n"
        "    run(Suite.of(**json.loads(sys.argv[1])), sys.argv[2])\n"
        "except BadInput as error:\n"
        "    sys.exit(f'refused: {error}')\n"
    )
    suites = [FEW | {"methods": [name], "data": {"kind": "synthetic", "count": 8}} for name in ("saliency", "grad-cam")]
    children = [
        subprocess.Popen(
            [sys.executable, "-c", program, json.dumps(suite), str(tmp_path)],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for suite in suites
    ]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    errors = [child.communicate(timeout=120)[1] for child in children]
    for suite, child, error in zip(suites, children, errors, strict=True):
        if child.returncode:
            assert error.startswith("refused: "), error
            assert run(Suite.of(**suite), tmp_path).computed == 8
    assert {row["method"] for row in read_benchmark(tmp_path).rows} == {"saliency", "grad-cam"}
    assert len(read_benchmark(tmp_path).rows) == 16
