"""Cached attributions: one file for each map, named by everything it depends on, so that new measures reuse it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from xaikit.benchmark.score import Run
from xaikit.benchmark.store import Store
from xaikit.foundation.errors import BadInput
from xaikit.run.attribution import Attribution

_COSTS = ("bench.ms", "bench.forwards", "bench.backwards")
_HARDWARE = "bench.hardware"


class Remembered:
    """The cached attributions of a batch of images.

    Args:
        store: the store that holds them.
        names: for each method, the name of the map of each image.
    """

    def __init__(self, store: Store, names: Mapping[str, Sequence[str]]) -> None:
        self.store = store
        self.names = names

    def recall(self, method: str) -> Run | None:
        """Return the cached run of a method on all images, or None if a map is missing or damaged."""
        files = [self.store.map_file(name) for name in self.names[method]]
        if not all(file.is_file() for file in files):
            return None
        loaded = [self._load(file) for file in files]
        parts = [part for part in loaded if part is not None]
        if len(parts) < len(files):
            return None
        ms, forwards, backwards = (
            sum(float(part.diagnostics[name][0]) for part in parts) / len(parts) for name in _COSTS
        )
        places = {str(part.params.get(_HARDWARE, "")) for part in parts}
        without_costs = [
            replace(
                part,
                diagnostics={name: value for name, value in part.diagnostics.items() if name not in _COSTS},
                params={name: value for name, value in part.params.items() if name != _HARDWARE},
            )
            for part in parts
        ]
        return Run(Attribution.join(without_costs), ms, forwards, backwards, " and ".join(sorted(places)))

    def _load(self, file: Path) -> Attribution | None:
        try:
            return Attribution.load(file)
        except BadInput as error:
            self.store.set_aside(file, "its map is computed again", error)
            return None

    def remember(self, method: str, run: Run) -> None:
        """Save the attribution of each image together with its cost."""
        values = (run.ms, run.forwards, run.backwards)
        costs = {key: torch.tensor([value], dtype=torch.float64) for key, value in zip(_COSTS, values, strict=True)}
        for index, name in enumerate(self.names[method]):
            attribution = run.attribution[index : index + 1]
            file = self.store.map_file(name)
            file.parent.mkdir(parents=True, exist_ok=True)
            replace(
                attribution,
                diagnostics=attribution.diagnostics | costs,
                params=attribution.params | {_HARDWARE: run.hardware},
            ).save(file)
