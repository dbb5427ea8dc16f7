"""The attribution: a method's raw values with everything needed to interpret them.

    values             as the method returned them, on its own grid: not resized, not scaled
    heatmap()          upsample to the image -> min-max per image (a method of scale "unit" is only clipped)
    attribution[3:5]   the attribution of some of the images

Shapes: values (N, h, w) or (N, C, H, W); heatmap (N, H, W) in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, Field, PositiveInt, ValidationError
from safetensors import SafetensorError
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.foundation.files import kind_of
from xaikit.foundation.identity import SCHEMA_VERSION
from xaikit.foundation.tensor_files import read_tensors, write_tensors
from xaikit.foundation.toml import first_problem
from xaikit.images.shapes import unit, upsample
from xaikit.model.target import Target, lost

Scale = Literal["minmax", "unit"]
Reduction = Literal["sum", "max-abs", "mean"]


def reduced(values: Tensor, reduction: Reduction) -> Tensor:
    """Return maps (N, H, W) from values (N, C, H, W); maps are returned unchanged."""
    if values.ndim == 3:
        return values
    if reduction == "max-abs":
        return values.abs().amax(1)
    return values.sum(1) if reduction == "sum" else values.mean(1)


@dataclass(frozen=True)
class Attribution:
    """The result of a method for a batch.

    Args:
        values: raw signed values (N, h, w) on the method's grid, or (N, C, H, W) if channels were requested.
        target: (N,) int64, the explained class: of a contrast, its first class; -1 for a callable.
        scores: (N,) explained scores: the class's logit, a contrast or a callable's value.
        probabilities: (N,) probability of the class.
        method: registry name.
        params: the parameters and what the method chose itself; a list has one entry per image.
        layer: name of the target layer, or None.
        size: (H, W) of the images.
        scale: how `heatmap` maps values to [0, 1].
        target_names: name of the target for each image.
        flags: one set per image: "constant", "invalid", "default-library", "halved", "earlier-layer" (the image is so
            small for the network that its last layer has one position, and a layer before it was read),
            "misplaced-grid" (the network crops, mirrors or rearranges the image before the layer, so that the heatmap
            lies elsewhere), ...
        completeness: (N,) gap between the sum of the values and the promised total, or None if none is promised.
        diagnostics: numbers per image that help to understand a blank map: minimum, maximum, share of positive values.
        seconds: wall time of the whole batch; work shared by several methods is counted for the first of them.
        reduction: how the method combines channels, if they were kept.
        explained: the whole target, also of a contrast or a callable; measures take it from here.
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
    seconds: float = 0.0
    reduction: Reduction = "sum"
    explained: Target | None = None

    def __post_init__(self) -> None:
        if self.explained is None:
            object.__setattr__(self, "explained", Target(self.target, names=self.target_names))

    def __len__(self) -> int:
        return self.values.shape[0]

    def __getitem__(self, rows: int | slice) -> Attribution:
        """Return the attribution of the images `rows` with their share of the seconds; an index gives a batch of one.

        Raises:
            IndexError: the index is out of range.
        """
        if not isinstance(rows, slice):
            index = range(len(self))[rows]
            rows = slice(index, index + 1)
        return replace(
            self,
            **{name: getattr(self, name)[rows] for name in _PER_IMAGE},
            completeness=None if self.completeness is None else self.completeness[rows],
            diagnostics={name: value[rows] for name, value in self.diagnostics.items()},
            params={
                name: _agreed(value[rows]) if isinstance(value, list) else value for name, value in self.params.items()
            },
            seconds=self.seconds * len(range(len(self))[rows]) / max(1, len(self)),
        )

    @classmethod
    def join(cls, parts: Sequence[Attribution]) -> Attribution:
        """Return one attribution for the images of all parts, which are by the same method."""
        first = parts[0]
        tensors: dict[str, Any] = {name: torch.cat([getattr(part, name) for part in parts]) for name in _TENSORS}
        return replace(
            first,
            **tensors,
            explained=Target.join([part.full_target for part in parts]),
            target_names=tuple(name for part in parts for name in part.target_names),
            flags=[flags for part in parts for flags in part.flags],
            completeness=None
            if first.completeness is None
            else torch.cat([part.completeness for part in parts if part.completeness is not None]),
            diagnostics={name: torch.cat([part.diagnostics[name] for part in parts]) for name in first.diagnostics},
            params={name: _joined([(part.params[name], len(part)) for part in parts]) for name in first.params},
            seconds=sum(part.seconds for part in parts),
        )

    @property
    def full_target(self) -> Target:
        """The whole target: `explained`."""
        assert self.explained is not None  # set when the attribution is made
        return self.explained

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return the heatmap as NumPy (N, H, W), so that plotting libraries accept an attribution."""
        return np.asarray(self.heatmap().cpu().numpy(), dtype=dtype)

    def heatmap(self, size: tuple[int, int] | None = None) -> Tensor:
        """Return maps (N, H, W) in [0, 1] at the images' size or at `size` = (H, W).

        A constant map becomes ones if its value is > 0 and zeros otherwise; a map that is not finite becomes zeros.
        Both are flagged.

        Raises:
            BadInput: `size` is not two positive integers.
        """
        _check_size(size)
        maps = reduced(self.values, self.reduction)
        if not len(self):
            return maps.new_zeros(0, *(size or self.size))
        maps = upsample(maps, size or self.size)
        if self.scale == "minmax":
            return unit(maps)[0]
        invalid = ~maps.isfinite().flatten(1).all(1)
        return maps.clamp(0.0, 1.0).masked_fill(invalid[:, None, None], 0.0)

    def drawable(self, *, signed: bool) -> tuple[str, np.ndarray[Any, Any], np.ndarray[Any, Any] | None, bool]:
        """Return the first image's map for drawing: method name, heatmap, values, and `signed`.

        The values are None unless they are on the pixel grid with scale "minmax".
        """
        values = reduced(self.values, self.reduction)
        on_pixels = tuple(values.shape[-2:]) == self.size and self.scale == "minmax"
        return self.method, self.heatmap()[0].cpu().numpy(), values[0].cpu().numpy() if on_pixels else None, signed

    def save(self, file: str | Path) -> None:
        """Write the attribution as one safetensors file, atomically."""
        target = self.full_target
        tensors: dict[str, Tensor] = {name: getattr(self, name) for name in _TENSORS}
        if target.against is not None:
            tensors["against"] = target.against
        if self.completeness is not None:
            tensors["completeness"] = self.completeness
        tensors |= {f"diagnostics.{name}": value for name, value in self.diagnostics.items()}
        about = {
            "schema": SCHEMA_VERSION,
            "method": self.method,
            "params": self.params,
            "per_image": [name for name, value in self.params.items() if isinstance(value, list)],
            "layer": self.layer,
            "size": self.size,
            "scale": self.scale,
            "target_names": self.target_names,
            "callable": target.function is not None,
            "flags": [sorted(flags) for flags in self.flags],
            "seconds": self.seconds,
            "reduction": self.reduction,
        }
        write_tensors(file, tensors, "xaikit", about)

    @classmethod
    def load(cls, file: str | Path) -> Attribution:
        """Return the attribution saved in a file.

        Raises:
            BadInput: the file does not exist, is damaged or is not an attribution.
        """
        if (kind := kind_of(file)) != "file":
            raise BadInput(f"{file}: expected a saved attribution, got {kind}; check the path")
        try:
            content, tensors = read_tensors(file, "xaikit")
            about = _Saved.model_validate(content)
            required = {name: tensors[name] for name in _TENSORS}
        except BadInput:
            raise
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise BadInput(
                f"{file}: expected a saved attribution, got something else ({_first_line(error)})"
            ) from error
        names, function = tuple(about.target_names), lost if about.callable else None
        counts = {name: len(tensor) if tensor.ndim else 0 for name, tensor in tensors.items()}
        counts |= {"target_names": len(names), "flags": len(about.flags)}
        count = counts["values"]
        if about.per_image and not all(isinstance(about.params.get(name), list) for name in about.per_image):
            raise BadInput(f"{file}: expected a saved attribution, got parameters of another form")
        if any(number != count for number in counts.values()) or tensors["values"].ndim not in (3, 4):
            raise BadInput(f"{file}: expected a saved attribution of {count} images, got {counts}")
        return cls(
            **required,
            explained=Target(tensors["target"], tensors.get("against"), function, names),
            completeness=tensors.get("completeness"),
            diagnostics={
                name.removeprefix("diagnostics."): tensor
                for name, tensor in tensors.items()
                if name.startswith("diagnostics.")
            },
            method=about.method,
            params={
                name: tuple(value) if isinstance(value, list) and name not in about.per_image else value
                for name, value in about.params.items()
            },
            layer=about.layer,
            size=about.size,
            scale=about.scale,
            target_names=names,
            flags=[set(flags) for flags in about.flags],
            seconds=about.seconds,
            reduction=about.reduction,
        )


class _Saved(BaseModel):
    """The metadata of an attribution's file."""

    schema_version: Literal[1] = Field(alias="schema")
    method: str
    params: dict[str, Any]
    per_image: list[str]
    layer: str | None
    size: tuple[PositiveInt, PositiveInt]
    scale: Scale
    target_names: list[str]
    callable: bool = False
    flags: list[list[str]]
    seconds: float
    reduction: Reduction


def _first_line(error: Exception) -> str:
    """Return the reason of an error in one line."""
    return first_problem(error, ()) if isinstance(error, ValidationError) else " ".join(str(error).split())


_TENSORS = ("values", "target", "scores", "probabilities")
_PER_IMAGE = (*_TENSORS, "target_names", "flags", "explained")


def _agreed(values: list[Any]) -> Any:
    """Return the value if all images have the same one, otherwise the list."""
    return values[0] if values and all(value == values[0] for value in values) else values


def _joined(parts: list[tuple[Any, int]]) -> Any:
    """Join a parameter over parts (value, number of images); a list has one entry per image."""
    first = parts[0][0]
    if all(value == first and not isinstance(value, list) for value, _ in parts):
        return first
    return _agreed(
        [entry for value, count in parts for entry in (value if isinstance(value, list) else [value] * count)]
    )


def _check_size(size: Any) -> None:
    if size is None:
        return
    sides = list(size) if isinstance(size, Sequence) else []
    if len(sides) != 2 or not all(isinstance(side, int | np.integer) and side > 0 for side in sides):
        raise BadInput(f"size: expected (H, W), two positive integers, got {size!r}; omit it for the images' size")
