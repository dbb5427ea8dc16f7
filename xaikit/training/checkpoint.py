"""Checkpoints of an unfinished training, written atomically after every epoch: a kill costs at most one epoch.

    plan (recipe, data, versions, epochs) | network | optimiser | training state  ->  checkpoint.pt

A checkpoint holds only tensors and plain values and is read with `weights_only=True`.
"""

import pickle
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xaikit.foundation.files import atomic


@dataclass
class TrainingState:
    """The state of a training besides network and optimiser.

    Attributes:
        epoch: completed epochs.
        seconds: their duration, in seconds.
        best: macro F1 and negative loss of the best epoch.
        best_epoch: number of the best epoch, starting at 1.
        best_weights: state dict of the best epoch.
        history: one row per epoch.
        curve: points (step, mean training loss since the previous point).
    """

    epoch: int = 0
    seconds: float = 0.0
    best: tuple[float, float] = (-1.0, 0.0)
    best_epoch: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    curve: list[tuple[int, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Plan:
    """What identifies a run.

    Attributes:
        run: fingerprint of recipe, data, versions and device, without the number of epochs.
        epochs: number of epochs.
        restarts: epochs after which the learning rate starts again.
    """

    run: str
    epochs: int
    restarts: tuple[int, ...]


@dataclass(frozen=True)
class Checkpoint:
    """An unfinished training: state dicts of network and optimiser, and the state besides them."""

    plan: Plan
    network: dict[str, Any]
    optimizer: dict[str, Any]
    state: TrainingState


def save_checkpoint(
    path: Path, plan: Plan, network: nn.Module, optimizer: torch.optim.Optimizer, state: TrainingState
) -> None:
    """Write a checkpoint atomically."""
    parts = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "state": vars(state)}
    with atomic(path) as temporary:
        try:
            torch.save({"plan": vars(plan), **parts}, temporary)
        except RuntimeError as error:
            raise OSError("the disk may be full") from error


def read_checkpoint(path: Path, device: torch.device) -> Checkpoint | None:
    """Return a checkpoint, or None if the file is not one of this version."""
    if not zipfile.is_zipfile(path):
        return None
    try:
        saved = torch.load(path, map_location=device, weights_only=True)
        plan, state = Plan(**saved["plan"]), TrainingState(**saved["state"])
        return Checkpoint(plan, saved["network"], saved["optimizer"], state)
    except (pickle.UnpicklingError, RuntimeError, LookupError, TypeError):
        return None
