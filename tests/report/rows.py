"""Rows as scoring writes them, drawn from a fixed stream."""

from __future__ import annotations

import random
from typing import Any

METHODS = {"grad-cam": "activation", "libra-cam": "activation", "saliency": "gradient", "ones": "control"}


def rows(images: int = 5, levels: int = 10, methods: dict[str, str] = METHODS, **changed: Any) -> list[dict[str, Any]]:
    stream = random.Random(7)
    return [
        _row(stream, f"{image:03d}.png", method, family, levels) | changed
        for image in range(images)
        for method, family in methods.items()
    ]


def _row(stream: random.Random, image: str, method: str, family: str, levels: int) -> dict[str, Any]:
    y = stream.uniform(0.3, 1.0)
    return {
        "unit_id": f"{image}/{method}",
        "image_id": image,
        "method": method,
        "family": family,
        "dataset": "drawn",
        "model": "net",
        "params": "{}",
        "layer": "features",
        "calibrated": method == "libra-cam",
        "flags": [],
        "levels": levels,
        "label": 1,
        "label_name": "dots",
        "target": 1,
        "target_name": "dots",
        "y": y,
        "o_soft": [stream.choice([y, stream.random()]) for _ in range(levels + 1)],
        "o_binary": [y, *(stream.random() for _ in range(levels))],
        "map_mean": stream.random(),
        "pointing": stream.random(),
        "energy_inside": stream.random(),
        "ms": 1.5,
        "forwards": 1.0,
        "backwards": 0.0,
    }
