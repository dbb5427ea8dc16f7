"""The environment of a run: fixed threads and deterministic arithmetic, and the description that the report prints."""

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch

from xaikit import __version__
from xaikit.model.classifier import Classifier


@contextmanager
def steady(threads: int) -> Iterator[None]:
    """Run the body with a fixed number of threads and deterministic cuDNN."""
    before = torch.get_num_threads()
    cudnn = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
    torch.set_num_threads(threads)
    try:
        with cudnn:
            yield
    finally:
        torch.set_num_threads(before)


def hardware(device: torch.device) -> str:
    """Return the kind and the name of a device, such as "cuda (NVIDIA H200)"."""
    return f"{device.type} ({_name(device)})"


def report_environment(classifier: Classifier) -> dict[str, str]:
    """Return versions, system, device, threads and model fingerprint, for the report."""
    return {
        "xaikit": __version__,
        "PyTorch": torch.__version__,
        "Python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "device": f"{classifier.device} ({_name(classifier.device)})",
        "threads": str(torch.get_num_threads()),
        "model fingerprint": classifier.fingerprint,
    }


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()


@cache
def _processor() -> str:
    """Return the name of the processor, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
