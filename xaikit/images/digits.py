"""Handwritten digits: the 1,797 images shipped with scikit-learn, scaled from 8x8 to 32x32.

Shapes: pixels (1797, 1, 32, 32) float32 in [0, 1], ink is 1; labels (1797,) int64, the digit itself.
Source: test set of the UCI "Optical Recognition of Handwritten Digits" data (Alpaydin and Kaynak, 1998).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

SIZE = 32
CLASSES = tuple("0123456789")


def load() -> tuple[Tensor, Tensor]:
    """Return all pixels and labels, in scikit-learn's order."""
    from sklearn.datasets import load_digits

    ink, labels = load_digits(return_X_y=True)
    small = torch.from_numpy(ink).float().view(-1, 1, 8, 8) / 16
    pixels = F.interpolate(small, size=(SIZE, SIZE), mode="bilinear", align_corners=False)
    return pixels, torch.from_numpy(labels).long()
