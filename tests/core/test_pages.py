"""Pages: taken again inside a block, and everything as glibc would have it behind it."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import xaikit
from xaikit.core import pages

MIB = 2**20
with_glibc = pytest.mark.skipif(pages._HEAP is None, reason="not glibc, or its bounds are the user's")

ALONE = """
import resource, torch
from xaikit.core.pages import kept_pages

def faults(count):
    def one():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(16 * 2**20)  # 64 MiB
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    return min(one() for _ in range(count))

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

outside, before = faults(4), resident()
with kept_pages(torch.device("cpu")):
    inside = faults(20)  # glibc holds back the ends of some blocks first
    held = [torch.ones(2**20) for _ in range(400)] + [torch.ones(16 * 2**20)]
    grown = resident() - before
    del held
behind = resident() - before
print(outside, inside, grown, behind)
"""


class Library:
    """Stands for glibc and writes down what is asked of it."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, ...]] = []

    def mallopt(self, parameter: int, value: int) -> None:
        self.asked.append((parameter, value))

    def malloc_trim(self, pad: int) -> None:
        self.asked.append((pad,))

    def gnu_get_libc_version(self) -> bytes:
        return b"2.36"


KEPT = [(-4, 0), (-1, -1)]
RELEASED = [(-4, 65536), (-3, 32 * MIB), (-1, 64 * MIB)]


def heap(library: Library) -> pages._Heap:
    return pages._Heap(library)  # type: ignore[arg-type]


@with_glibc
def test_pages_are_taken_again_in_the_block_and_given_back_behind_it() -> None:
    said = subprocess.run([sys.executable, "-c", ALONE], check=True, capture_output=True, text=True).stdout
    outside, inside, grown, behind = (int(number) for number in said.split())
    whole = 64 * MIB // 4096
    assert outside >= whole
    assert inside < whole / 100
    assert grown > 1200 * MIB
    assert behind < 300 * MIB


def test_nested_blocks_end_with_the_outer_one() -> None:
    library = Library()
    one = heap(library)
    with one.kept():
        with one.kept():
            pass
        assert library.asked == KEPT + KEPT
    assert library.asked == KEPT + KEPT + RELEASED


def test_overlapping_blocks_of_two_threads_end_with_the_last() -> None:
    library = Library()
    one = heap(library)
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with one.kept():
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=hold)
    with one.kept():
        thread.start()
        assert entered.wait(10)
    assert library.asked == KEPT + KEPT
    leave.set()
    thread.join(10)
    assert library.asked == KEPT + KEPT + RELEASED


def test_an_error_in_the_block_releases_the_pages() -> None:
    library = Library()
    with pytest.raises(ZeroDivisionError), heap(library).kept():
        raise ZeroDivisionError
    assert library.asked == KEPT + RELEASED


@pytest.mark.parametrize(
    ("sizes", "trims"),
    [
        ([5000, 6024], [0]),
        ([5000, 6025, 5100], [1]),
        ([5000, 5600, 5600, 6200, 5100], [0, 1]),  # two blocks together, 600 MiB each
        ([5000, 6600, 6500, 6500, 7500], [1, 0]),  # what the first left was in use
        ([5000, 5500, 2000, 3100, 2100], [0, 1]),  # a network was dropped in between
    ],
)
def test_pages_are_given_back_where_blocks_have_left_more_than_a_gibibyte(
    sizes: list[int], trims: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    library, told = Library(), iter([size * MIB for size in sizes])
    monkeypatch.setattr(pages, "_resident", lambda: next(told))
    one, expected = heap(library), []
    for trim in trims:
        with one.kept():
            pass
        expected += [*KEPT, *RELEASED, *[(0,)] * trim]
    assert library.asked == expected
    assert not list(told)


@with_glibc
def test_a_size_that_cannot_be_read_breaks_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(pages, "_RESIDENT", tmp_path / "none")
    library = Library()
    one = heap(library)
    for _ in range(2):
        with pytest.raises(KeyError), one.kept():
            raise KeyError
    assert library.asked == (KEPT + RELEASED) * 2


def test_a_forked_process_is_outside_its_parents_block(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library()
    one = heap(library)
    with one.kept():
        one._lock.acquire()
        monkeypatch.setattr("os.getpid", lambda: -1)
        one.forked()
        assert library.asked == KEPT + RELEASED
        with one.kept():
            pass
        assert library.asked == (KEPT + RELEASED) * 2
    assert library.asked == (KEPT + RELEASED) * 2


FORKED = """
import os, resource, torch
from xaikit.core.pages import kept_pages

with kept_pages(torch.device("cpu")):
    child = os.fork()
    if child == 0:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(4):
            torch.ones(16 * 2**20)  # 64 MiB
        os._exit(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 4 * 16384)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@with_glibc
def test_a_process_forked_in_a_block_gives_its_tensors_back() -> None:
    said = subprocess.run([sys.executable, "-c", FORKED], check=True, capture_output=True, text=True).stdout
    assert said == "0\n"


@pytest.mark.parametrize(
    ("name", "value"), [("MALLOC_TRIM_THRESHOLD_", "1000"), ("GLIBC_TUNABLES", "glibc.malloc.mmap_max=3")]
)
def test_bounds_that_the_user_has_set_stay(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Library())
    assert pages._heap() is not None
    monkeypatch.setenv(name, value)
    assert pages._heap() is None


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: None) -> None:
        raise TypeError("no handle on the program itself")

    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=print))
    assert pages._heap() is None
    monkeypatch.setattr(ctypes, "CDLL", none)
    assert pages._heap() is None
    monkeypatch.setattr(pages, "_HEAP", None)
    with pages.kept_pages(torch.device("cpu")):
        torch.ones(3)


def test_a_borrowed_network_keeps_pages_on_a_cpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library()
    monkeypatch.setattr(pages, "_HEAP", heap(library))
    classifier = xaikit.Classifier(nn.Sequential(nn.Conv2d(3, 4, 8), nn.Flatten()), size=8)
    with pages.kept_pages(torch.device("meta")):
        assert not library.asked
    with classifier.borrowed(), classifier.borrowed():
        assert library.asked == KEPT
    assert library.asked == KEPT + RELEASED


@with_glibc
def test_other_threads_get_large_tensors_too() -> None:
    sums: list[float] = []
    with pages.kept_pages(torch.device("cpu")):
        threads = [threading.Thread(target=lambda: sums.append(float(torch.ones(25 * MIB).sum()))) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sums == [25 * MIB] * 2
