"""The attribution: raw values with everything needed to read them.

    values      as the method gave them, on its own grid: no resizing, no scaling
    heatmap()   upsample to the image -> min-max per image (a method of scale "unit" is only clipped)
    found[3:5]  the part that speaks of some of the images

Shapes: values (N, h, w) or (N, C, H, W); heatmap (N, H, W) in [0, 1].
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.foundation.files import atomic
from xaikit.foundation.identity import SCHEMA_VERSION, canonical_json
from xaikit.images.shapes import unit, upsample

Scale = Literal["minmax", "unit"]
Reduction = Literal["sum", "max-abs", "mean"]


def reduced(values: Tensor, reduction: Reduction) -> Tensor:
    """Return maps (N, H, W) of values (N, C, H, W); maps stay as they are."""
    if values.ndim == 3:
        return values
    if reduction == "max-abs":
        return values.abs().amax(1)
    return values.sum(1) if reduction == "sum" else values.mean(1)


@dataclass(frozen=True)
class Attribution:
    """What a method says about a batch.

    Args:
        values: (N, h, w) raw and signed on the method's grid, or (N, C, H, W) when channels were asked for.
        target: (N,) int64, the class explained.
        scores: (N,) the explained score: the class's logit, a contrast or a callable's value.
        probabilities: (N,) probability of the class.
        method: registry name.
        params: parameters as used, with what the method decided itself; a list has one entry per image.
        layer: name of the target layer, or None.
        size: (H, W) of the images.
        scale: how `heatmap` brings values to [0, 1].
        target_names: one name per image.
        flags: one set per image: "constant", "invalid", "default-library", "halved", ...
        completeness: (N,) what the sum of the values misses of the promised total, or None where none is promised.
        diagnostics: numbers per image that help to read a blank map: minimum, maximum, share of positive values.
        seconds: wall time of the whole batch; work that several methods share is counted where it was done first.
        reduction: how the method brings channels together, if they were kept.
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

    def __len__(self) -> int:
        return self.values.shape[0]

    def __getitem__(self, rows: int | slice) -> Attribution:
        """Return the attribution of the images `rows`, or of one as a batch of one, with their share of the seconds.

        Raises:
            IndexError: no image of that number.
        """
        if not isinstance(rows, slice):
            place = range(len(self))[rows]
            rows = slice(place, place + 1)
        places = range(len(self))[rows]
        return replace(
            self,
            **{name: getattr(self, name)[rows] for name in _PER_IMAGE},
            completeness=None if self.completeness is None else self.completeness[rows],
            diagnostics={name: value[rows] for name, value in self.diagnostics.items()},
            params={
                name: _agreed(value[rows]) if isinstance(value, list) else value for name, value in self.params.items()
            },
            seconds=self.seconds * len(places) / max(1, len(self)),
        )

    @classmethod
    def join(cls, parts: Sequence[Attribution]) -> Attribution:
        """Return one attribution for the images of several, by the same method."""
        first = parts[0]

        def together(pick: Callable[[Attribution], Tensor]) -> Tensor:
            return torch.cat([pick(part) for part in parts])

        return replace(
            first,
            values=together(lambda part: part.values),
            target=together(lambda part: part.target),
            scores=together(lambda part: part.scores),
            probabilities=together(lambda part: part.probabilities),
            target_names=tuple(name for part in parts for name in part.target_names),
            flags=[flags for part in parts for flags in part.flags],
            completeness=None
            if first.completeness is None
            else torch.cat([part.completeness for part in parts if part.completeness is not None]),
            diagnostics={name: torch.cat([part.diagnostics[name] for part in parts]) for name in first.diagnostics},
            params={name: _joined([(part.params[name], len(part)) for part in parts]) for name in first.params},
            seconds=sum(part.seconds for part in parts),
        )

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return the heatmap as NumPy (N, H, W), so that plotting libraries take an attribution as it is."""
        return np.asarray(self.heatmap().cpu().numpy(), dtype=dtype)

    def heatmap(self, size: tuple[int, int] | None = None) -> Tensor:
        """Return maps (N, H, W) in [0, 1] at the images' size or at `size` = (H, W).

        A constant map is ones where its value is > 0, else zeros; one that is not finite is zeros. Both are flagged.

        Raises:
            BadInput: a size that is not two numbers from 1.
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
        """Return the first image's map as drawing takes it: method, heatmap, values and whether they are signed.

        Values are None unless the method works on pixels and leaves scaling to others.
        """
        values = reduced(self.values, self.reduction)
        on_pixels = tuple(values.shape[-2:]) == self.size and self.scale == "minmax"
        return self.method, self.heatmap()[0].cpu().numpy(), values[0].cpu().numpy() if on_pixels else None, signed

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
            "per_image": [name for name, value in self.params.items() if isinstance(value, list)],
            "layer": self.layer,
            "size": self.size,
            "scale": self.scale,
            "target_names": self.target_names,
            "flags": [sorted(flags) for flags in self.flags],
            "seconds": self.seconds,
            "reduction": self.reduction,
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
                params={
                    name: tuple(value) if isinstance(value, list) and name not in about["per_image"] else value
                    for name, value in about["params"].items()
                },
                layer=about["layer"],
                size=(about["size"][0], about["size"][1]),
                scale=about["scale"],
                target_names=tuple(about["target_names"]),
                flags=[set(flags) for flags in about["flags"]],
                seconds=about["seconds"],
                reduction=about["reduction"],
            )
        except (OSError, SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise BadInput(
                f"{file}: expected a saved attribution, got something else ({error}); save one first"
            ) from error


_PER_IMAGE = ("values", "target", "scores", "probabilities", "target_names", "flags")


def _agreed(values: list[Any]) -> Any:
    """Return the one value that all images have, or the list."""
    return values[0] if values and all(value == values[0] for value in values) else values


def _joined(parts: list[tuple[Any, int]]) -> Any:
    """Join one parameter over parts of (value, number of images); a list has one entry per image."""
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
        raise BadInput(f"size: expected (H, W), two numbers from 1, got {size!r}; leave it out for the images' own")
