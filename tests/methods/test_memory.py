"""Explaining many images in batches needs the memory of one batch."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import torch, xaikit
from pathlib import Path
clf = xaikit.load("texture-cnn", device="cpu")
stream = torch.Generator().manual_seed(0)
for batch in range(1, 64):
    pixels = torch.rand(16, 3, 64, 64, generator=stream)
    xaikit.attribute_many(clf, pixels, methods=["grad-cam", "hires-cam", "saliency"])
    if batch in (12, 63):
        print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of one process, not of its parents, is read from /proc")
def test_a_thousand_images_peak_as_high_as_two_hundred() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    early, late = (int(line) for line in done.stdout.split())
    assert late < 1.03 * early
