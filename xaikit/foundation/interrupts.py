"""Signals that end a process: one way to stop a run, whoever asks.

    stoppable        SIGTERM and SIGHUP raise KeyboardInterrupt, as Ctrl-C does, until the block has ended
    uninterrupted    SIGINT, SIGTERM and SIGHUP wait until the block has ended

Python handles signals in the main thread only; in another thread both do nothing.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_TERMINATE = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
_ALL = (signal.SIGINT, *_TERMINATE)


@contextmanager
def stoppable() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGTERM and SIGHUP; signals that are ignored or handled already stay as they are."""
    with _handled([number for number in _TERMINATE if signal.getsignal(number) is signal.SIG_DFL], _interrupt):
        yield


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Delay Ctrl-C, SIGTERM and SIGHUP until the block has ended; ignored signals stay ignored."""
    received: list[int] = []
    waiting = [number for number in _ALL if signal.getsignal(number) not in (signal.SIG_IGN, None)]
    with _handled(waiting, lambda number, frame: received.append(number)):
        yield
    if received:
        signal.raise_signal(received[0])


@contextmanager
def _handled(numbers: list[int], handler: Any) -> Iterator[None]:
    """Set a handler for signals in a block, if this is the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
