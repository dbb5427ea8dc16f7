"""Pages: in a borrowed network on a CPU, a tensor takes the memory that another has left.

    glibc, as it is    what exceeds 32 MiB is mapped for itself and unmapped when freed; the heap's free end is trimmed
    in the block       everything comes from the heap, and nothing is given back
    behind it          glibc's own bounds again; what blocks have left is given back if it may exceed `_SPARE`

A page taken anew costs a fault, which also fills it with zeros: up to a sixth of a pass of 8 images through VGG-16 and
up to half of its LRP. Other C libraries, and a process whose environment sets these bounds, are left alone.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import torch

__all__ = ["kept_pages"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # parameters of mallopt, as malloc.h numbers them
_LARGEST_MMAP_THRESHOLD = 32 * 2**20  # where glibc's moving bound ends, and the trimming bound at twice that
_MOST_MMAPS = 65536  # glibc's default
_NEVER = -1  # glibc's word for it
_SPARE = 2**30  # bytes that blocks may leave to the next one
_RESIDENT = Path("/proc/self/statm")  # its second number: pages in memory
_CALLED = ("gnu_get_libc_version", "mallopt", "malloc_trim")  # the first tells glibc from others
_SET_BY_USER = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_TOP_PAD_")


class _Heap:
    """glibc's allocator, and how many blocks hold its pages now."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self._lock = threading.Lock()
        self._blocks = 0
        self._process = os.getpid()
        self._settled = sys.maxsize  # bytes of the process where nothing, or little, was left to take again

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep pages for the time of the block, and of others that overlap it."""
        process = self._process
        with self._lock:
            self._blocks += 1
        try:
            self._settled = min(self._settled, _resident())
            self._library.mallopt(_MMAP_MAX, 0)
            self._library.mallopt(_TRIM_THRESHOLD, _NEVER)
            yield
        finally:
            if process == self._process:
                self._leave()

    def forked(self) -> None:
        """Begin anew in a forked process; the blocks of its parent, and a lock held there, end in the parent."""
        if self._blocks:
            self._restore()
        self._lock = threading.Lock()
        self._blocks = 0
        self._process = os.getpid()

    def _leave(self) -> None:
        with self._lock:
            self._blocks -= 1
            if self._blocks:
                return
            self._restore()
        if _resident() - self._settled > _SPARE:
            self._library.malloc_trim(0)
            self._settled = _resident()

    def _restore(self) -> None:
        self._library.mallopt(_MMAP_MAX, _MOST_MMAPS)
        self._library.mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
        self._library.mallopt(_TRIM_THRESHOLD, 2 * _LARGEST_MMAP_THRESHOLD)


def _resident() -> int:
    """Return the bytes of the process that are in memory; 0 where they cannot be read, as when files run out."""
    try:
        return int(_RESIDENT.read_text().split()[1]) * mmap.PAGESIZE
    except OSError:
        return 0


def _heap() -> _Heap | None:
    """Return glibc's allocator, or None where there is another or where the user has set its bounds."""
    if any(name in os.environ for name in _SET_BY_USER) or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return None
    try:
        library = ctypes.CDLL(None)
        present = _RESIDENT.exists() and all(hasattr(library, name) for name in _CALLED)
    except (OSError, TypeError):  # a platform without a handle on its own program
        return None
    return _Heap(library) if present else None


_HEAP = _heap()
if _HEAP is not None:
    os.register_at_fork(after_in_child=_HEAP.forked)


def kept_pages(device: torch.device) -> AbstractContextManager[None]:
    """Return a block in which tensors on `device` take each other's pages; blocks may nest and overlap."""
    return nullcontext() if _HEAP is None or device.type != "cpu" else _HEAP.kept()
