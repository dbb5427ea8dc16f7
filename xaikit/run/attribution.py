"""The attribution: a method's raw values with everything needed to interpret them.

    values             as the method returned them, on its own grid: not resized, not scaled
    heatmap()          upsample to the image -> min-max per image (a method of scale "unit" is only clipped)
    attribution[3:5]   the attribution of some of the images
    plot(), overlay()  figures and pictures, see showing.py

Shapes: values (N, h, w) or (N, C, H, W); heatmap (N, H, W) in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

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
from xaikit.images.overlays import Picture
from xaikit.images.placing import Frame
from xaikit.images.shapes import unit, upsample
from xaikit.model.target import Target, lost

if TYPE_CHECKING:
    from PIL import Image

    from xaikit.images.drawing import Sheet

Scale = Literal["minmax", "unit"]
View = Literal["original", "crop"]
Reduction = Literal["sum", "max-abs", "mean"]


def reduced(values: Tensor, reduction: Reduction) -> Tensor:
    """Return maps (N, H, W) from values (N, C, H, W); maps are returned unchanged."""
    if values.ndim == 3:
        return values
    if reduction == "max-abs":
        return values.abs().amax(1)
    return values.sum(1) if reduction == "sum" else values.mean(1)


class Answer(NamedTuple):
    """The network's own answer for an image: its top class.

    Args:
        label: the class.
        name: its name.
        probability: its probability; None for a regression.
    """

    label: int
    name: str
    probability: float | None


@dataclass(frozen=True, repr=False)
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
        flags: one set per image: "constant", "invalid", "default-library", ...; `xaikit list flags` explains them.
        completeness: (N,) gap between the sum of the values and the promised total, or None if none is promised.
        diagnostics: numbers per image that help to understand a blank map: minimum, maximum, share of positive values.
        seconds: wall time of the whole batch; work shared by several methods is counted for the first of them.
        reduction: how the method combines channels, if they were kept.
        explained: the whole target, also of a contrast or a callable; measures take it from here.
        signed: whether positive values speak for the target and negative values against it.
        answers: the network's own answer for each image; empty if unknown.
        model: name of the model.
        images: (N, C, H, W) the explained pixels, not copied, for figures; not saved.
        frames: for each image, its picture's original size and the box of it that the network saw; empty if unknown.
        originals: for each image, its whole picture (H, W, 3) uint8, for figures; not saved.
        alone: whether it is the one image that an index gave, whose array has no batch dimension.
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
    signed: bool = False
    answers: tuple[Answer, ...] = ()
    model: str = ""
    images: Tensor | None = None
    frames: tuple[Frame | None, ...] = ()
    originals: tuple[Picture | None, ...] = ()
    alone: bool = False

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
        alone = not isinstance(rows, slice)
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
            images=None if self.images is None else self.images[rows],
            alone=alone,
        )

    @classmethod
    def join(cls, parts: Sequence[Attribution]) -> Attribution:
        """Return one attribution for the images of all parts, which are by the same method."""
        first = parts[0]
        images = [part.images for part in parts if part.images is not None]
        tensors: dict[str, Any] = {name: torch.cat([getattr(part, name) for part in parts]) for name in _TENSORS}
        return replace(
            first,
            **tensors,
            explained=Target.join([part.full_target for part in parts]),
            target_names=tuple(name for part in parts for name in part.target_names),
            flags=[flags for part in parts for flags in part.flags],
            answers=tuple(answer for part in parts for answer in part.answers),
            images=torch.cat(images) if len(images) == len(parts) else None,
            frames=_each([(part.frames, len(part)) for part in parts]),
            originals=_each([(part.originals, len(part)) for part in parts]),
            alone=False,
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

    @property
    def maps(self) -> Tensor:
        """(N, h, w) raw values with their channels combined."""
        return reduced(self.values, self.reduction)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return the heatmap as NumPy, (N, H, W) or (H, W) for an index, so that `plt.imshow(attribution[0])` works."""
        heatmaps = self.numpy()
        return np.asarray(heatmaps[0] if self.alone else heatmaps, dtype=dtype)

    def numpy(self) -> np.ndarray[Any, Any]:
        """Return the heatmap as NumPy, (N, H, W) float in [0, 1]."""
        heatmaps: np.ndarray[Any, Any] = self.heatmap().detach().cpu().numpy()
        return heatmaps

    def plot(
        self,
        *,
        scale: Literal["image", "shared"] = "image",
        cmap: str | None = None,
        limit: int = 8,
        view: View = "original",
    ) -> Sheet:
        """Return a matplotlib figure with a row for each image: input and overlay, class and probability, flags.

        Args:
            scale: "image" scales each map on its own, "shared" all images alike.
            cmap: matplotlib's colour map, such as "jet"; None is inferno, and blue and red for signed maps.
            limit: largest number of images.
            view: "original" shows the whole pictures where they are known, "crop" what the network saw.

        Raises:
            BadInput: there are no images, or an argument is invalid.
            UnknownName: there is no such colour map.
        """
        from xaikit.run.showing import plot

        return plot(self, scale=scale, cmap=cmap, limit=limit, view=view)

    def overlay(self, index: int = 0, *, cmap: str | None = None, view: View = "original") -> Image.Image:
        """Return the map of one image over its picture, as in `plot`; the heatmap alone if the image is unknown.

        Raises:
            IndexError: the index is out of range.
            UnknownName: there is no such colour map.
        """
        from xaikit.run.showing import overlay_of

        return overlay_of(self, index, cmap, view)

    def save_images(self, folder: str | Path, *, cmap: str | None = None, view: View = "original") -> list[Path]:
        """Write INDEX.METHOD.heatmap.png and INDEX.METHOD.overlay.png for each image, and return the paths.

        Raises:
            BadInput: the folder cannot be written.
            UnknownName: there is no such colour map.
        """
        from xaikit.run.showing import save_images

        return save_images(self, folder, cmap, view)

    def __repr__(self) -> str:
        from xaikit.run.showing import summary

        return summary(self)

    def _repr_html_(self) -> str:
        from xaikit.run.showing import html

        return html(self)

    def _repr_png_(self) -> bytes | None:
        from xaikit.run.showing import plot

        return plot(self)._repr_png_() if len(self) else None

    def heatmap(self, size: tuple[int, int] | None = None) -> Tensor:
        """Return maps (N, H, W) in [0, 1] at the images' size or at `size` = (H, W).

        A constant map becomes ones if its value is > 0 and zeros otherwise; a map that is not finite becomes zeros.
        Both are flagged.

        Raises:
            BadInput: `size` is not two positive integers.
        """
        _check_size(size)
        maps = self.maps
        if not len(self):
            return maps.new_zeros(0, *(size or self.size))
        maps = upsample(maps, size or self.size)
        if self.scale == "minmax":
            return unit(maps)[0]
        invalid = ~maps.isfinite().flatten(1).all(1)
        return maps.clamp(0.0, 1.0).masked_fill(invalid[:, None, None], 0.0)

    def drawable(self, *, signed: bool) -> tuple[str, np.ndarray[Any, Any], np.ndarray[Any, Any] | None, bool]:
        """Return the first image's map for drawing: method name, heatmap, values, and `signed`.

        The values, at the images' size, are None unless they are signed or on the pixel grid, with scale "minmax".
        """
        on_pixels = tuple(self.values.shape[-2:]) == self.size
        values = upsample(self.maps[:1], self.size) if self.scale == "minmax" and (on_pixels or signed) else None
        return self.method, self.numpy()[0], None if values is None else values[0].cpu().numpy(), signed

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
            "signed": self.signed,
            "answers": self.answers,
            "model": self.model,
            "frames": self.frames,
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
            required: dict[str, Any] = {name: tensors[name] for name in _TENSORS}
        except BadInput:
            raise
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise BadInput(
                f"{file}: expected a saved attribution, got something else ({_first_line(error)})"
            ) from error
        names, function = tuple(about.target_names), lost if about.callable else None
        counts = {name: len(tensor) if tensor.ndim else 0 for name, tensor in tensors.items()}
        counts |= {"target_names": len(names), "flags": len(about.flags)}
        counts |= {name: len(known) for name in ("answers", "frames") if (known := getattr(about, name))}
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
            signed=about.signed,
            answers=tuple(about.answers),
            model=about.model,
            frames=tuple(about.frames),
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
    signed: bool = False
    answers: list[Answer] = []
    model: str = ""
    frames: list[Frame | None] = []


def _first_line(error: Exception) -> str:
    """Return the reason of an error in one line."""
    return first_problem(error, ()) if isinstance(error, ValidationError) else " ".join(str(error).split())


_TENSORS = ("values", "target", "scores", "probabilities")
_PER_IMAGE = (*_TENSORS, "target_names", "flags", "explained", "answers", "frames", "originals")


def _each(parts: list[tuple[tuple[Any, ...], int]]) -> tuple[Any, ...]:
    """Join what is known of each image over parts (entries, number of images); None where it is unknown."""
    if not any(entries for entries, _ in parts):
        return ()
    return tuple(entry for entries, count in parts for entry in (entries or (None,) * count))


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
