"""How far a run is: forwards done of those that were declared, and units of all.

A forward counts when it is done, also in the middle of a unit; a finished chunk counts as declared.
"""

from collections.abc import Sequence

from xaikit.benchmark.plan import Chunk
from xaikit.benchmark.rows import Row
from xaikit.run.context import Counters, Progress


class Advance:
    """Reports the forwards of a run.

    Args:
        progress: called with the number of forwards done, their total, and the units in words; or None.
    """

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._total = self._finished = self._current = self._shown = 0.0
        self._units = self._written = 0

    def expect(self, chunks: Sequence[Chunk], units: int) -> None:
        """Add the chunks of one model, which has `units` units."""
        self._total += sum(chunk.cost.forwards for chunk in chunks)
        self._units += units
        self._written += units - sum(map(len, chunks))

    def counters(self) -> Counters:
        """Return counters whose forwards are reported at once."""
        return _Told(self)

    def forwards(self, count: int) -> None:
        """Report forwards of the chunk under way."""
        self._current += count
        self._report()

    def written(self, rows: Sequence[Row]) -> None:
        """Report rows that are on disk."""
        self._written += len(rows)
        self._report()

    def finished(self, chunk: Chunk) -> None:
        """Report a finished chunk."""
        self._finished, self._current = self._finished + chunk.cost.forwards, 0.0
        self._report()

    def _report(self) -> None:
        if self._progress is not None and self._total:
            self._shown = max(self._shown, min(self._finished + self._current, self._total))
            self._progress(
                round(self._shown), round(self._total), f"forwards, {self._written:,} of {self._units:,} units"
            )


class _Told(Counters):
    """Counters that report every forward."""

    def __init__(self, advance: Advance) -> None:
        self._advance, self._forwards = advance, 0
        self.backwards = 0

    @property
    def forwards(self) -> int:
        """Number of images sent through the network."""
        return self._forwards

    @forwards.setter
    def forwards(self, count: int) -> None:
        self._advance.forwards(count - self._forwards)
        self._forwards = count
