"""Draws depend on seed and content alone: torch's default dtype, which a user may change, draws no other numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from xaikit.api import attribute
from xaikit.images import synthetic
from xaikit.images.references import draw_references
from xaikit.model.classifier import Classifier

DRAWING: list[tuple[str, dict[str, Any]]] = [
    ("random", {}),
    ("random-grid", {}),
    ("smooth-grad", {"samples": 3}),
    ("var-grad", {"samples": 3}),
    ("expected-gradients", {"samples": 4}),
    ("rise", {"samples": 40}),
    ("lime", {"samples": 40}),
    ("kernel-shap", {"samples": 80}),
    ("sobol", {}),
    ("hsic", {}),
    ("libra-cam", {}),
    ("occlusion", {"window": 4, "fill": "noise"}),
    ("meaningful-perturbation", {"steps": 3}),
]


@contextmanager
def default(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def network() -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return torch.nn.Sequential(
            torch.nn.Conv2d(3, 4, 3, padding=1),
            torch.nn.ReLU(),
            torch.nn.AdaptiveAvgPool2d(1),
            torch.nn.Flatten(),
            torch.nn.Linear(4, 3),
        ).float()


@pytest.mark.parametrize(("method", "params"), DRAWING, ids=lambda value: value if isinstance(value, str) else "")
def test_methods(method: str, params: dict[str, Any]) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        pixels, module = torch.rand(2, 3, 12, 12), network()
    maps = []
    for dtype in (torch.float32, torch.float64):
        with default(dtype):
            maps.append(attribute(Classifier(module), pixels, 1, method=method, **params).values.double())
    scale = float(maps[0].abs().max())
    torch.testing.assert_close(maps[1], maps[0], rtol=0, atol=1e-4 * scale)


def test_pictures() -> None:
    drawn = []
    for dtype in (torch.float32, torch.float64):
        with default(dtype):
            drawn.append((draw_references(4, 3, (16, 16)).double(), synthetic.draw(6).pixels.double()))
    for one, other in zip(*drawn, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
