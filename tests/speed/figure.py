"""A figure: one number that is measured by itself, such as a share of time or of memory.

A contest compares contenders in turn; a figure is what one run shows of itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.speed.contest import Outcome

__all__ = ["Figure"]

Facts = dict[str, Any]


@dataclass
class Figure:
    """One number with a bound.

    Args:
        name: of the figure.
        about: what is done, in one line.
        says: what the number is, in a few words.
        measure: returns the number, and other facts beside it.
        at_least: wanted bound, or None.
        at_most: wanted bound, or None.
    """

    name: str
    about: str
    says: str
    measure: Callable[[], tuple[float, Facts]]
    at_least: float | None = None
    at_most: float | None = None

    def run(self, say: Callable[[str], None]) -> Outcome:
        """Measure and judge."""
        value, facts = self.measure()
        low = self.at_least is None or value >= self.at_least
        high = self.at_most is None or value <= self.at_most
        wanted = f">= {self.at_least:g}" if self.at_least is not None else f"<= {self.at_most:g}"
        text = f"{self.says}: {value:.3f}, wanted {wanted}" + ("" if low and high else "  NOT MET")
        say(f"{self.name}: {self.about}")
        say(f"    {text}")
        for fact, found in facts.items():
            say(f"    {fact}: {found}")
        claim = {"figure": self.says, "value": value, "wanted": wanted, "met": low and high, "text": text}
        return Outcome(self.name, self.about, {}, [claim], facts)
