"""An unfinished training on disk: written whole after every epoch, so that a kill costs one epoch at most.

    identity (recipe and data) | network | optimiser | progress made  ->  checkpoint.pt

Only tensors and plain values are in it, and it is read with `weights_only=True`.
"""

from __future__ import annotations

import pickle
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xaikit.foundation.errors import BadInput
from xaikit.foundation.files import atomic


@dataclass
class TrainingState:
    """What a training remembers besides network and optimiser.

    Attributes:
        epoch: whole epochs done.
        seconds: time they took.
        best: macro F1 and negative loss of the best epoch.
        best_epoch: its number, from one on.
        best_weights: its state dict.
        history: one row an epoch.
        curve: (step, mean training loss since the point before).
    """

    epoch: int = 0
    seconds: float = 0.0
    best: tuple[float, float] = (-1.0, 0.0)
    best_epoch: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    curve: list[tuple[int, float]] = field(default_factory=list)


def save_checkpoint(
    path: Path, identity: str, network: nn.Module, optimizer: torch.optim.Optimizer, state: TrainingState
) -> None:
    """Write a checkpoint, whole or not at all."""
    saved = {
        "identity": identity,
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "state": vars(state),
    }
    with atomic(path) as temporary:
        torch.save(saved, temporary)


def restore_checkpoint(
    path: Path, identity: str, network: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device
) -> TrainingState:
    """Fill network and optimiser from a checkpoint and return its state; a fresh one if there is no file.

    Raises:
        BadInput: the file is of another recipe or other data, or no checkpoint.
    """
    if not path.is_file():
        return TrainingState()
    saved = _unpacked(path, device)
    if saved.get("identity") != identity:
        raise BadInput(
            f"{path}: expected an unfinished run of this recipe and data, got another; "
            "choose another output folder, or delete the file"
        )
    network.load_state_dict(saved["network"])
    optimizer.load_state_dict(saved["optimizer"])
    return TrainingState(**saved["state"])


def _unpacked(path: Path, device: torch.device) -> dict[str, Any]:
    """Return what a checkpoint holds, nothing if it is a file of another kind."""
    if not zipfile.is_zipfile(path):
        return {}
    try:
        saved = torch.load(path, map_location=device, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError):
        return {}
    return saved if isinstance(saved, dict) else {}
