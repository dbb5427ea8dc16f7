"""The environment of a run: fixed threads and deterministic arithmetic, and the description that the report prints."""

import platform
from collections.abc import Iterator
from contextlib import contextmanager

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


def environment(classifier: Classifier) -> dict[str, str]:
    """Return versions, system, device, threads and model fingerprint, for the report."""
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
