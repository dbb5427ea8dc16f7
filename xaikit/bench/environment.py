"""The environment of a run: versions, machine, device and threads, in words that a report prints."""

from __future__ import annotations

import platform

import torch

from xaikit import __version__
from xaikit.core.classifier import Classifier

__all__ = ["environment"]


def environment(classifier: Classifier) -> dict[str, str]:
    """Return what a reader needs to know about where a classifier was run."""
    device = classifier.device
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "xaikit": __version__,
        "PyTorch": torch.__version__,
        "Python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "device": f"{device} ({kind})",
        "threads": str(torch.get_num_threads()),
        "model fingerprint": classifier.fingerprint,
    }
