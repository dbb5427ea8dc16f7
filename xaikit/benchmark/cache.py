"""Kept attributions: one file for each map, named by everything it depends on, so that new measures reuse it."""

from dataclasses import replace

import torch

from xaikit.benchmark.score import Run
from xaikit.benchmark.store import Store
from xaikit.foundation.errors import BadInput
from xaikit.run.attribution import Attribution

_COSTS = ("bench.ms", "bench.forwards", "bench.backwards", "bench.batch")
_HARDWARE = "bench.hardware"


def recall(store: Store, name: str) -> Run | None:
    """Return the kept run of a map, or None if there is none or it is damaged."""
    file = store.map_file(name)
    if not file.is_file():
        return None
    try:
        kept = Attribution.load(file)
    except BadInput as error:
        store.set_aside(file, "its map is computed again", error)
        return None
    if any(cost not in kept.diagnostics for cost in _COSTS):
        return None
    ms, forwards, backwards, batch = (float(kept.diagnostics[cost][0]) for cost in _COSTS)
    attribution = replace(
        kept,
        diagnostics={name: value for name, value in kept.diagnostics.items() if name not in _COSTS},
        params={name: value for name, value in kept.params.items() if name != _HARDWARE},
    )
    return Run(attribution, ms, forwards, backwards, str(kept.params.get(_HARDWARE, "")), int(batch))


def remember(store: Store, name: str, run: Run) -> None:
    """Keep the attribution of one image together with its cost."""
    values = (run.ms, run.forwards, run.backwards, run.batch)
    costs = {key: torch.tensor([value], dtype=torch.float64) for key, value in zip(_COSTS, values, strict=True)}
    file = store.map_file(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    attribution = run.attribution
    replace(
        attribution,
        diagnostics=attribution.diagnostics | costs,
        params=attribution.params | {_HARDWARE: run.hardware},
    ).save(file)
