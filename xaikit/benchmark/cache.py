"""Kept attributions: one file a map, named by what it depends on, so that a new measure never explains again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from xaikit.benchmark.score import Run
from xaikit.benchmark.store import Store
from xaikit.run.attribution import Attribution

_COSTS = ("bench.ms", "bench.forwards", "bench.backwards")


class Remembered:
    """The attributions of some images in a store.

    Args:
        store: where they are.
        names: by method, one name of a map an image.
    """

    def __init__(self, store: Store, names: Mapping[str, Sequence[str]]) -> None:
        self.store = store
        self.names = names

    def recall(self, method: str) -> Run | None:
        """Return what is kept of all images, or None where one is missing."""
        files = [self.store.map_file(name) for name in self.names[method]]
        if not all(file.is_file() for file in files):
            return None
        parts = [Attribution.load(file) for file in files]
        ms, forwards, backwards = (
            sum(float(part.diagnostics[name][0]) for part in parts) / len(parts) for name in _COSTS
        )
        kept = [
            replace(part, diagnostics={name: one for name, one in part.diagnostics.items() if name not in _COSTS})
            for part in parts
        ]
        return Run(Attribution.join(kept), ms, forwards, backwards)

    def remember(self, method: str, run: Run) -> None:
        """Keep each image's attribution, with what it cost."""
        costs = (run.ms, run.forwards, run.backwards)
        for place, name in enumerate(self.names[method]):
            one = run.attribution[place : place + 1]
            spent = {key: torch.tensor([cost], dtype=torch.float64) for key, cost in zip(_COSTS, costs, strict=True)}
            file = self.store.map_file(name)
            file.parent.mkdir(parents=True, exist_ok=True)
            replace(one, diagnostics=one.diagnostics | spent).save(file)
