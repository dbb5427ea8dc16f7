"""What a training in a folder starts from, and what it must not overwrite.

    empty                     a new run
    checkpoint.pt             the unfinished run goes on, if it is of the same recipe, data and versions
    weights.safetensors       the run is finished: it is left as it is, or more epochs extend it

An extension starts with the best weights, a new optimiser and a learning rate that rises and falls once more;
`restarts` in its recipe says after which epochs, so that the recipe repeats the whole run.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from xaikit.foundation.errors import BadInput
from xaikit.training.checkpoint import Checkpoint, Plan, TrainingState, read_checkpoint
from xaikit.zoo.recipe import Recipe

CHECKPOINT, WEIGHTS, METRICS, RECIPE = "checkpoint.pt", "weights.safetensors", "metrics.json", "recipe.toml"


@dataclass(frozen=True)
class Finished:
    """A finished run: its plan and metrics."""

    plan: Plan
    metrics: dict[str, Any]


def start(plan: Plan, output: Path, device: torch.device, overwrite: bool) -> Plan | Checkpoint | Finished:
    """Return the plan of a new run, the checkpoint of the one that goes on, or the finished run of this plan.

    Args:
        plan: the run that was asked for.
        output: its folder.
        device: device of the checkpoint's tensors.
        overwrite: whether a finished run, or an unfinished one of another plan, is replaced.

    Raises:
        BadInput: the folder holds a run that would be lost.
    """
    file = output / CHECKPOINT
    finished = _finished(output)
    if file.is_file():
        saved = read_checkpoint(file, device)
        if saved is not None and (saved.plan == plan or (not overwrite and _extends(saved.plan, plan))):
            return saved
        if overwrite:
            file.unlink()
        elif finished is None or finished.plan != replace(plan, restarts=finished.plan.restarts):
            raise BadInput(
                f"{file}: expected an unfinished run of this recipe, data and versions, got another; "
                "use another output folder, or replace it with --overwrite"
            )
    if finished is None or overwrite:
        return plan
    if finished.plan.run != plan.run:
        raise BadInput(
            f"{output}: expected a folder without a finished run, got one of another recipe, data or versions; use "
            "another output folder, or replace it with --overwrite"
        )
    if finished.plan.epochs > plan.epochs:
        raise BadInput(
            f"{output}: expected at least the {finished.plan.epochs} epochs of the finished run, got {plan.epochs}; "
            "use another output folder, or replace it with --overwrite"
        )
    return finished if finished.plan.epochs == plan.epochs else _extension(finished, plan, output, device)


def _extends(saved: Plan, plan: Plan) -> bool:
    """Return whether an unfinished run is the extension that was asked for."""
    return replace(saved, restarts=plan.restarts) == plan and saved.restarts[: len(plan.restarts)] == plan.restarts


def _finished(output: Path) -> Finished | None:
    if not (output / WEIGHTS).is_file() or not (output / METRICS).is_file():
        return None
    try:
        recipe = Recipe.read(output / RECIPE)
        metrics = json.loads((output / METRICS).read_text(encoding="utf-8"))
        return Finished(Plan(metrics["run"], recipe.epochs, recipe.restarts), metrics)
    except (BadInput, ValueError, LookupError, TypeError):  # another version wrote it
        return Finished(Plan("", 0, ()), {})


def _extension(finished: Finished, plan: Plan, output: Path, device: torch.device) -> Checkpoint:
    metrics, weights = finished.metrics, load_file(output / WEIGHTS, device=str(device))
    best = metrics["history"][metrics["best_epoch"] - 1]
    state = TrainingState(
        epoch=finished.plan.epochs,
        seconds=metrics["seconds"],
        best=(best["validation_macro_f1"], -best["validation_loss"]),
        best_epoch=metrics["best_epoch"],
        best_weights=weights,
        history=metrics["history"],
        curve=[(point["step"], point["loss"]) for point in metrics["loss_curve"]],
    )
    restarts = (*finished.plan.restarts, finished.plan.epochs)
    return Checkpoint(replace(plan, restarts=restarts), weights, {}, state)
