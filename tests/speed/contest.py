"""A contest: contenders in turn, round after round, and the median of each round's ratio.

    ratio(a, b) = median over rounds of seconds(b) / seconds(a)        how many times a is faster than b

The machine's speed drifts, so times of different minutes mean little; a ratio within one round means something. The
order is drawn anew each round, because who runs after a contender that leaves the memory cold or the caches full pays
for it; and each contender runs once before it counts.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from xaikit.measures.cost.peak_memory import peak_bytes as watched_peak

__all__ = ["Claim", "Contest", "Outcome", "peak_bytes"]


@dataclass(frozen=True)
class Claim:
    """One figure that a contest must show.

    Args:
        fast: contender whose speed is claimed.
        slow: contender it is compared with.
        at_least: wanted ratio seconds(slow) / seconds(fast), or None.
        at_most: wanted bound of seconds(fast) / seconds(slow), or None.
    """

    fast: str
    slow: str
    at_least: float | None = None
    at_most: float | None = None


@dataclass
class Outcome:
    """What a contest showed, ready for JSON."""

    name: str
    about: str
    seconds: dict[str, float]
    claims: list[dict[str, Any]]
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass
class Contest:
    """Contenders that do the same work.

    Args:
        name: of the contest.
        about: what is done, in one line.
        contenders: by name.
        claims: figures to show.
        rounds: counted rounds.
        warm: whether each contender runs once before it counts; not where one run takes minutes.
        facts: other measured figures, such as peak memory.
    """

    name: str
    about: str
    contenders: dict[str, Callable[[], object]]
    claims: list[Claim]
    rounds: int = 11
    warm: bool = True
    facts: dict[str, Any] = field(default_factory=dict)

    def run(self, say: Callable[[str], None]) -> Outcome:
        """Run all rounds and return medians and ratios."""
        names = list(self.contenders)
        times: dict[str, list[float]] = {name: [] for name in names}
        for name in names if self.warm else ():
            self.contenders[name]()
        draw = random.Random(self.name)
        for _ in range(self.rounds):
            for name in draw.sample(names, len(names)):
                times[name].append(_seconds(self.contenders[name]))
        medians = {name: statistics.median(values) for name, values in times.items()}
        claims = [self._judge(claim, times) for claim in self.claims]
        say(f"{self.name}: {self.about}")
        for name, median in medians.items():
            say(f"    {name:34s} {median:9.4f} s")
        for claim in claims:
            say(f"    {claim['text']}")
        for fact, value in self.facts.items():
            say(f"    {fact}: {value}")
        return Outcome(self.name, self.about, medians, claims, self.facts)

    def _judge(self, claim: Claim, times: dict[str, list[float]]) -> dict[str, Any]:
        ratios = [slow / fast for fast, slow in zip(times[claim.fast], times[claim.slow], strict=True)]
        low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
        if claim.at_least is not None:
            met, wanted = middle >= claim.at_least, f">= {claim.at_least:g}"
            text = f"{claim.fast} against {claim.slow}: {middle:.2f}x faster ({low:.2f} to {high:.2f}), wanted {wanted}"
            value = middle
        else:
            assert claim.at_most is not None
            value = 1 / middle
            met, wanted = value <= claim.at_most, f"<= {claim.at_most:g}"
            text = f"{claim.fast} takes {value:.3f} of {claim.slow} ({1 / high:.3f} to {1 / low:.3f}), wanted {wanted}"
        return {
            "fast": claim.fast,
            "slow": claim.slow,
            "ratio": value,
            "wanted": wanted,
            "met": met,
            "text": text + ("" if met else "  NOT MET"),
        }


def _seconds(work: Callable[[], object]) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    begin = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def peak_bytes(work: Callable[[], object]) -> int:
    """Return the most bytes that tensors held above the start while `work` ran."""
    return watched_peak(work, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
