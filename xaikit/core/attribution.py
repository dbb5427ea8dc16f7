"""The attribution: raw values with everything needed to read them.

    values      as the method gave them, on its own grid: no resizing, no scaling
    heatmap()   upsample to the image -> min-max per image (a method of scale "unit" is only clipped)

Shapes: values (N, h, w) or (N, C, H, W); heatmap (N, H, W) in [0, 1].
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from xaikit.core.errors import BadInput
from xaikit.core.files import atomic
from xaikit.core.identity import SCHEMA_VERSION, canonical_json
from xaikit.core.shapes import unit, upsample

__all__ = ["Attribution", "Scale"]

Scale = Literal["minmax", "unit"]


@dataclass(frozen=True)
class Attribution:
    """What a method says about a batch.

    Args:
        values: (N, h, w) raw and signed on the method's grid, or (N, C, H, W) when channels were asked for.
        target: (N,) int64, the class explained.
        scores: (N,) the explained score: the class's logit, a contrast or a callable's value.
        probabilities: (N,) probability of the class.
        method: registry name.
        params: parameters as used, with what the method decided itself.
        layer: name of the target layer, or None.
        size: (H, W) of the images.
        scale: how `heatmap` brings values to [0, 1].
        target_names: one name per image.
        flags: one set per image: "constant", "invalid", "default-library", "halved", ...
        completeness: (N,) what the sum of the values misses of the promised total, or None where none is promised.
        diagnostics: numbers per image that help to read a blank map: minimum, maximum, share of positive values.
    """

    values: Tensor
    target: Tensor
    scores: Tensor
    probabilities: Tensor
    method: str
    params: dict[str, Any]
    layer: str | None
    size: tuple[int, int]
    scale: Scale = "minmax"
    target_names: tuple[str, ...] = ()
    flags: list[set[str]] = field(default_factory=list)
    completeness: Tensor | None = None
    diagnostics: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.values.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return the heatmap as NumPy (N, H, W), so that plotting libraries take an attribution as it is."""
        return np.asarray(self.heatmap().cpu().numpy(), dtype=dtype)

    def heatmap(self, size: tuple[int, int] | None = None) -> Tensor:
        """Return maps (N, H, W) in [0, 1] at the images' size or at `size` = (H, W).

        A constant map is ones where its value is > 0, else zeros; one that is not finite is zeros. Both are flagged.
        """
        maps = self.values if self.values.ndim == 3 else self.values.sum(1)
        if not len(self):
            return maps.new_zeros(0, *(size or self.size))
        maps = upsample(maps, size or self.size)
        if self.scale == "minmax":
            return unit(maps)[0]
        invalid = ~maps.isfinite().flatten(1).all(1)
        return maps.clamp(0.0, 1.0).masked_fill(invalid[:, None, None], 0.0)

    def save(self, file: str | Path) -> None:
        """Write everything as one safetensors file, whole or not at all."""
        tensors = {
            "values": self.values,
            "target": self.target,
            "scores": self.scores,
            "probabilities": self.probabilities,
        }
        if self.completeness is not None:
            tensors["completeness"] = self.completeness
        tensors |= {f"diagnostics.{name}": value for name, value in self.diagnostics.items()}
        about = {
            "schema": SCHEMA_VERSION,
            "method": self.method,
            "params": self.params,
            "layer": self.layer,
            "size": self.size,
            "scale": self.scale,
            "target_names": self.target_names,
            "flags": [sorted(flags) for flags in self.flags],
        }
        with atomic(file) as temporary:
            apart = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
            save_file(apart, temporary, {"xaikit": canonical_json(about)})

    @classmethod
    def load(cls, file: str | Path) -> Attribution:
        """Read what `save` wrote.

        Raises:
            BadInput: no such file, or not an attribution.
        """
        try:
            with safe_open(str(file), framework="pt") as opened:
                about = json.loads((opened.metadata() or {})["xaikit"])
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            names = ("values", "target", "scores", "probabilities")
            return cls(
                **{name: tensors[name] for name in names},
                completeness=tensors.get("completeness"),
                diagnostics={
                    name.removeprefix("diagnostics."): tensor
                    for name, tensor in tensors.items()
                    if name.startswith("diagnostics.")
                },
                method=about["method"],
                params=about["params"],
                layer=about["layer"],
                size=(about["size"][0], about["size"][1]),
                scale=about["scale"],
                target_names=tuple(about["target_names"]),
                flags=[set(flags) for flags in about["flags"]],
            )
        except (OSError, SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise BadInput(
                f"{file}: expected a saved attribution, got something else ({error}); save one first"
            ) from error
