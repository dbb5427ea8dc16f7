"""Progress of a long computation, as one line on standard error.

    None        a line once the work has taken two seconds, if standard error is a terminal
    True        a line from the start, in a notebook or a pipe as well
    False       nothing
    callable    called as progress(done, total, unit) after every portion

The line is rewritten in place and removed at the end: "1,600 of 4,000 forwards, about 40 s left".
"""

import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TextIO

from xaikit.foundation.errors import BadInput
from xaikit.run.context import Progress, duration

_DELAY = 2.0  # seconds of work without a line
_PAUSE = 0.2  # seconds between two lines


class ProgressLine:
    """A progress callback that rewrites one line of a stream.

    Args:
        stream: where the line is written.
        delay: seconds without a line.
    """

    def __init__(self, stream: TextIO, delay: float = 0.0) -> None:
        self._stream = stream
        self._next = time.monotonic() + delay
        self._begins: dict[str, float] = {}
        self._width = 0

    def __call__(self, done: int, total: int, unit: str) -> None:
        """Show that `done` of `total` units are done, if the last line is old enough."""
        now, word = time.monotonic(), unit.partition(", ")[0]
        begin = self._begins.setdefault(word, now)
        if done >= total:
            del self._begins[word]
        if now < self._next:
            return
        self._next = now + _PAUSE
        left = (now - begin) * (total - done) / done if done else 0.0
        self._write(f"{done:,} of {total:,} {word}" + (f", about {duration(left)} left" if left >= 1 else ""))

    def close(self) -> None:
        """Remove the line."""
        if self._width:
            self._write("")
            self._stream.write("\r")
            self._stream.flush()

    def _write(self, text: str) -> None:
        self._stream.write("\r" + text.ljust(self._width))
        self._stream.flush()
        self._width = len(text)


@contextmanager
def reported(progress: Progress | bool | None) -> Iterator[Progress | None]:
    """Yield the progress callback that a user's argument asks for, or None; see the table above.

    Raises:
        BadInput: the argument is none of these.
    """
    if progress is not None and not isinstance(progress, bool) and not callable(progress):
        raise BadInput(f"progress: expected True, False, None or a function, got {progress!r}; omit it")
    if progress is False or (progress is None and not _is_terminal(sys.stderr)):
        yield None
    elif progress is None or progress is True:
        with closing(ProgressLine(sys.stderr, 0.0 if progress else _DELAY)) as line:
            yield line
    else:
        yield progress


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()
