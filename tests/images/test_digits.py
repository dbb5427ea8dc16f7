"""The digits of scikit-learn, enlarged."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

from xaikit.images import digits


def test_digits_are_enlarged_ink_in_unit_range() -> None:
    pixels, labels = digits.load()
    assert pixels.shape == (1797, 1, 32, 32)
    assert pixels.dtype == torch.float32
    assert (pixels.min(), pixels.max()) == (0, 1)
    assert labels.tolist() == load_digits().target.tolist()


def test_each_quarter_of_a_digit_has_the_ink_it_had() -> None:
    pixels, _ = digits.load()
    small = torch.from_numpy(load_digits().images).float()[:, None] / 16
    assert (F.avg_pool2d(pixels, 16) - F.avg_pool2d(small, 4)).abs().max() < 0.07
