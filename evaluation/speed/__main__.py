"""Runs every contest, or those whose file name contains an argument, and writes evaluation/results/speed/*.json.

    python -m evaluation.speed [NAME ...]        from the root of the repository

A package that is not installed is left out. pixel_flipping.py says how to compare with Quantus, which brings another
OpenCV and therefore needs an environment of its own.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys

import evaluation.speed
from evaluation.speed.record import RESULTS, write


def main(words: list[str]) -> int:
    """Return 0 if every claim was met."""
    met = True
    for module in pkgutil.iter_modules(evaluation.speed.__path__):
        if words and not any(word in module.name for word in words):
            continue
        contests = getattr(importlib.import_module(f"evaluation.speed.{module.name}"), "contests", None)
        outcomes = []
        for contest in contests() if contests else ():
            outcomes.append(contest.run())
            print(*outcomes[-1].lines(), sep="\n", flush=True)
        met = met and all(claim["met"] for outcome in outcomes for claim in outcome.claims)
        if outcomes:
            write(RESULTS / "speed" / f"{module.name}.json", f"python -m evaluation.speed {module.name}", outcomes)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
