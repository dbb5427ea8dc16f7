"""Checkpoints of an unfinished training, written atomically after every epoch: a kill costs at most one epoch.

    identity (recipe, data, versions) | network | optimiser | training state  ->  checkpoint.pt

A checkpoint holds only tensors and plain values and is read with `weights_only=True`.
"""

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


def save_checkpoint(
    path: Path, identity: str, network: nn.Module, optimizer: torch.optim.Optimizer, state: TrainingState
) -> None:
    """Write a checkpoint atomically."""
    parts = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "state": vars(state)}
    with atomic(path) as temporary:
        try:
            torch.save({"identity": identity, **parts}, temporary)
        except RuntimeError as error:
            raise OSError("the disk may be full") from error


def restore_checkpoint(
    path: Path, identity: str, network: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device
) -> TrainingState:
    """Load network and optimiser from a checkpoint and return its state; without a file, a new state.

    Raises:
        BadInput: the file belongs to another recipe, other data or versions, or is not a checkpoint.
    """
    if not path.is_file():
        return TrainingState()
    saved = _read(path, device)
    if saved.get("identity") != identity:
        raise BadInput(
            f"{path}: expected an unfinished run of this recipe, data and versions, got another; "
            "use another output folder, or delete the file"
        )
    network.load_state_dict(saved["network"])
    optimizer.load_state_dict(saved["optimizer"])
    return TrainingState(**saved["state"])


def _read(path: Path, device: torch.device) -> dict[str, Any]:
    """Return the content of a checkpoint, or an empty dict if the file is not a checkpoint."""
    if not zipfile.is_zipfile(path):
        return {}
    try:
        saved = torch.load(path, map_location=device, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError):
        return {}
    return saved if isinstance(saved, dict) else {}
