"""Reading ahead: the pictures of the next chunks are decoded while this process computes.

    by_thread       a thread decodes one chunk ahead
    by_processes    process p of n decodes the chunks p, p + n, p + 2n, ..., one chunk ahead each

Each process has a pipe of its own, and no third process holds an end of it. When a process dies, its end closes: the
next read fails at once, even in the middle of a picture, and the rest of its chunks is decoded in this process. When
this process dies, the others find their end closed and stop. A queue shared by several processes, as in torch's
DataLoader and in process pools, does not end in the middle of a picture: its reader would wait for ever.
"""

import multiprocessing
import signal
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from multiprocessing.connection import Connection

import torch

from xaikit.benchmark.dataset import Content, Picture, Reader

_SPAWN = multiprocessing.get_context("spawn")
_PATIENCE = 5.0  # seconds in which a process ends after its pipe has closed

Portion = Sequence[Picture]
Contents = Generator[list[Content], None, None]
Notice = Callable[[str], None]


def by_thread(read: Reader, portions: Sequence[Portion]) -> Contents:
    """Yield the decoded pictures of each portion, in order; a thread decodes one portion ahead."""
    with ThreadPoolExecutor(max_workers=1) as executor:
        pending = executor.submit(read, portions[0])
        for portion in portions[1:]:
            contents, pending = pending.result(), executor.submit(read, portion)
            yield contents
        yield pending.result()


def by_processes(read: Reader, portions: Sequence[Portion], count: int, notice: Notice) -> Contents:
    """Yield the decoded pictures of each portion, in order; each process decodes one portion ahead.

    Args:
        read: decodes pictures.
        portions: pictures of each portion.
        count: number of processes.
        notice: called with one line for each process that ends before its work is done.
    """
    with ExitStack() as stack:
        processes = [
            stack.enter_context(closing(_Process(read, portions[place::count], notice)))
            for place in range(min(count, len(portions)))
        ]
        for index in range(len(portions)):
            yield processes[index % len(processes)].next_contents()


class _Process:
    """A process that decodes portions one after another; if it dies, this process decodes the rest.

    Args:
        read: decodes pictures.
        portions: pictures of each portion.
        notice: called with one line if the process dies.
    """

    def __init__(self, read: Reader, portions: Sequence[Portion], notice: Notice) -> None:
        self._read, self._notice = read, notice
        self._left = list(reversed(portions))
        self._connection, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_serve, args=(theirs, read), daemon=True)
        self._alive = True
        try:
            with closing(theirs):
                self._process.start()
            self._request()
        except OSError:
            self._lost()

    def next_contents(self) -> list[Content]:
        """Return the decoded pictures of the next portion."""
        portion = self._left.pop()
        if self._alive:
            try:
                contents: list[Content] = self._connection.recv()
            except (EOFError, OSError):
                self._lost()
            else:
                self._request()
                return contents
        return self._read(portion)

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        if self._process.pid is not None:
            self._process.terminate()
            self._process.join(_PATIENCE)

    def _request(self) -> None:
        """Let the process decode the next portion; a process that has died is noticed when its answer is read."""
        if self._left:
            with suppress(OSError):
                self._connection.send(self._left[-1])

    def _lost(self) -> None:
        self._alive = False
        how = "it could not be started"
        if self._process.pid is not None:
            self._process.join(_PATIENCE)
            how = _ending(self._process.exitcode)
        self._notice(f"a process that decodes pictures ended ({how}); its pictures are decoded in this process")


def _serve(connection: Connection, read: Reader) -> None:
    """Answer each portion that arrives with its decoded pictures, until the other end closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that computes; it ends this one
    torch.set_num_threads(1)
    with suppress(EOFError, OSError):
        while True:
            connection.send(read(connection.recv()))


def _ending(code: int | None) -> str:
    """Return how a process ended, from its exit code: -N after the signal N."""
    if code is None:
        return "it no longer answers"
    try:
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    except ValueError:
        return f"killed by signal {-code}"
