"""A contest runs its contenders in turn, round after round, and judges the ratios of their times.

    ratio(a, b) = median over rounds of seconds(a) / seconds(b)        claimed to be at most a bound

A ratio within one round is compared, because the machine's speed drifts over minutes. The order is drawn again in every
round, because the contender before leaves the caches cold or full. The first round warms up and does not count.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch

__all__ = ["OURS", "Claim", "Contest", "Figure", "Outcome", "Work", "limits"]

OURS = "xaikit"
Work = Callable[[], object]


@dataclass(frozen=True)
class Claim:
    """The claim that one contender takes at most `at_most` times as long as another."""

    name: str
    other: str
    at_most: float


@dataclass
class Outcome:
    """Results of a contest or figure, ready for JSON; `seconds` are medians by contender."""

    name: str
    about: str
    seconds: dict[str, float]
    claims: list[dict[str, Any]]
    facts: dict[str, Any] = field(default_factory=dict)

    def lines(self) -> Iterable[str]:
        """Yield the outcome as text."""
        yield f"{self.name}: {self.about}"
        yield from (f"    {name:34s} {seconds:9.4f} s" for name, seconds in self.seconds.items())
        yield from (f"    {claim['text']}" for claim in self.claims)
        yield from (f"    {fact}: {value}" for fact, value in self.facts.items())


def limits(contenders: Iterable[str]) -> list[Claim]:
    """Return the usual claims: xaikit takes at most 1.10 of bare passes and is ahead of every other contender."""
    return [Claim(OURS, name, 1.10 if name.startswith("bare") else 1.0) for name in contenders if name != OURS]


@dataclass
class Contest:
    """Contenders that do the same work.

    Args:
        name: of the contest.
        about: the work, in one line.
        contenders: by name; "xaikit", bare passes of the network (their names start with "bare") and other packages.
        claims: None makes the usual ones, see `limits`.
        facts: other measured values, such as peak memory.
        rounds: most rounds that count.
        seconds: no round starts after this time; a contest that takes longer counts its first round.
    """

    name: str
    about: str
    contenders: dict[str, Work]
    claims: list[Claim] | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    rounds: int = 11
    seconds: float = 60.0

    def run(self) -> Outcome:
        """Run all rounds and judge the claims."""
        order, rounds, begin = random.Random(self.name), list[dict[str, float]](), time.perf_counter()
        while not rounds or (len(rounds) <= self.rounds and time.perf_counter() - begin < self.seconds):
            names = order.sample(list(self.contenders), len(self.contenders))
            rounds.append({name: _seconds(self.contenders[name]) for name in names})
        counted = rounds[1:] or rounds
        medians = {name: statistics.median(times[name] for times in counted) for name in self.contenders}
        claims = limits(self.contenders) if self.claims is None else self.claims
        return Outcome(self.name, self.about, medians, [_judged(claim, counted) for claim in claims], self.facts)


@dataclass
class Figure:
    """One number with an upper bound, measured without contenders, such as the growth of memory.

    Args:
        name: of the figure.
        about: the work, in one line.
        meaning: what the number is, in a few words.
        measure: returns the number, and facts to print beside it.
        at_most: upper bound.
    """

    name: str
    about: str
    meaning: str
    measure: Callable[[], tuple[float, dict[str, Any]]]
    at_most: float

    def run(self) -> Outcome:
        """Measure and judge."""
        value, facts = self.measure()
        met = value <= self.at_most
        text = f"{self.meaning}: {value:.3f}, wanted <= {self.at_most:g}" + ("" if met else "  NOT MET")
        claim = {"figure": self.meaning, "value": value, "at_most": self.at_most, "met": met, "text": text}
        return Outcome(self.name, self.about, {}, [claim], facts)


def _judged(claim: Claim, rounds: list[dict[str, float]]) -> dict[str, Any]:
    ratios = [times[claim.name] / times[claim.other] for times in rounds]
    ratio = statistics.median(ratios)
    met = ratio <= claim.at_most
    text = f"{claim.name} takes {ratio:.3f} of {claim.other} ({min(ratios):.3f} to {max(ratios):.3f})"
    text += f", wanted <= {claim.at_most:g}" + ("" if met else "  NOT MET")
    return {
        "name": claim.name,
        "other": claim.other,
        "ratio": ratio,
        "at_most": claim.at_most,
        "met": met,
        "text": text,
    }


def _seconds(work: Work) -> float:
    _wait()
    begin = time.perf_counter()
    work()
    _wait()
    return time.perf_counter() - begin


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
