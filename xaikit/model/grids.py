"""Grids: the layout of a layer's output, brought to activation maps (N, C, h, w) and back.

    of(output)              channel axes together, then the positions row by row: (N, C, h, w)
    put(maps, output)       the output with these maps; what has no position (class tokens, registers) stays as it was

Which axes are channels, and where on the image each position lies, follows from coordinates.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from xaikit.foundation.errors import BadInput

_TOLERANCE = 0.05  # pixels by which places that are equal may differ by rounding
_UNREAD = 0.1  # largest share of the image's height or width that no position covers


@dataclass(frozen=True, eq=False)
class Grid:
    """The layout of a layer's output.

    Args:
        shape: shape of the output of one image, without the batch axis.
        channels: the axes of the output that are channels; all others but the first are positions.
        order: (h * w,) index of each cell among all positions, row by row.
        size: (h, w).
        covers: whether the cells cover the image, up to a tenth of its height and width.
    """

    shape: tuple[int, ...]
    channels: tuple[int, ...]
    order: Tensor
    size: tuple[int, int]
    covers: bool = True

    @property
    def is_plain(self) -> bool:
        """Whether the output is (N, C, h, w) already."""
        return len(self.shape) == 3 and all(axis == 1 or self.shape[axis - 1] == 1 for axis in self.channels)

    @property
    def maps(self) -> tuple[int, int, int]:
        """Shape (C, h, w) of the maps of one image."""
        count = 1
        for axis in self.channels:
            count *= self.shape[axis - 1]
        return count, *self.size

    def equals(self, other: Grid) -> bool:
        """Return whether two layouts are the same."""
        same = (self.shape, self.channels, self.size) == (other.shape, other.channels, other.size)
        return same and torch.equal(self.order, other.order)

    def of(self, output: Tensor) -> Tensor:
        """Return the maps (N, C, h, w) of an output.

        Raises:
            BadInput: the output does not have this layout.
        """
        if tuple(output.shape[1:]) != self.shape:
            raise BadInput(
                f"layer: expected outputs (N, {', '.join(map(str, self.shape))}), got {tuple(output.shape)}; "
                "explain pictures of one size at a time"
            )
        flat = output.permute(self._axes).reshape(len(output), self.maps[0], -1)
        if flat.shape[2] != len(self.order) or not bool((self.order.diff() == 1).all()):
            flat = flat.index_select(2, self.order.to(output.device))
        return flat.reshape(*flat.shape[:2], *self.size)

    def put(self, maps: Tensor, output: Tensor) -> Tensor:
        """Return an output with other maps (m, C, h, w); m is its number of images, or any number for one image."""
        moved = output.expand(len(maps), *self.shape).permute(self._axes)
        flat = moved.reshape(len(maps), self.maps[0], -1)
        flat = flat.index_copy(2, self.order.to(output.device), maps.flatten(2).to(flat.dtype))
        inverse = torch.tensor(self._axes, device="cpu").argsort().tolist()
        return flat.reshape(moved.shape).permute(inverse).contiguous()

    @property
    def _axes(self) -> tuple[int, ...]:
        rest = (axis for axis in range(1, len(self.shape) + 1) if axis not in self.channels)
        return 0, *self.channels, *rest


def plain(activation: Tensor) -> Tensor:
    """Return activations (N, C, h, w) unchanged.

    Raises:
        BadInput: the activations are not four-dimensional.
    """
    if activation.ndim != 4:
        raise BadInput(
            f"layer: expected activations (N, C, h, w), got {tuple(activation.shape)}; choose an earlier layer"
        )
    return activation


def grid_of(places: tuple[Tensor, Tensor], size: tuple[int, int]) -> Grid | None:
    """Return the layout of a tensor by the places of its values, or None if they are not the cells of a grid.

    Args:
        places: row and column on the image of each value of a tensor (1, ...); NaN for a value of no place.
        size: (H, W) of the image.
    """
    rows, columns = places
    if rows.ndim < 3 or len(rows) != 1:
        return None
    repeated = [axis for axis in range(1, rows.ndim) if not rows.stride(axis) and not columns.stride(axis)]
    for axis in repeated:
        rows, columns = rows.narrow(axis, 0, 1), columns.narrow(axis, 0, 1)
    known = ~(rows.isnan() | columns.isnan())
    channels = [axis for axis in range(1, rows.ndim) if axis in repeated or _is_constant(rows, columns, known, axis)]
    for axis in channels:
        rows, columns, known = (tensor.narrow(axis, 0, 1) for tensor in (rows, columns, known))
    flat = known.flatten().nonzero().flatten()
    if not len(flat):
        return None
    row, row_places = _numbered(rows.flatten()[flat])
    column, column_places = _numbered(columns.flatten()[flat])
    cells = row * len(column_places) + column
    order = cells.argsort()
    if not torch.equal(cells[order], torch.arange(len(row_places) * len(column_places), device="cpu")):
        return None
    covers = all(_covers(cell, length) for cell, length in zip((row_places, column_places), size, strict=True))
    shape = tuple(places[0].shape[1:])
    return Grid(shape, tuple(channels), flat[order], (len(row_places), len(column_places)), covers)


def _is_constant(rows: Tensor, columns: Tensor, known: Tensor, axis: int) -> bool:
    """Return whether the places do not change along an axis."""
    first = known.narrow(axis, 0, 1)
    if not bool((known == first).all()):
        return False
    return all(
        bool(((place - place.narrow(axis, 0, 1)).abs() <= _TOLERANCE).logical_or(~known).all())
        for place in (rows, columns)
    )


def _numbered(places: Tensor) -> tuple[Tensor, Tensor]:
    """Return for places (P,) the number of each among the different ones, and those in ascending order."""
    ordered, order = places.sort()
    starts = torch.cat([torch.ones(1, dtype=torch.bool, device="cpu"), ordered.diff() > _TOLERANCE])
    number = torch.empty_like(order)
    number[order] = starts.cumsum(0) - 1
    return number, ordered[starts]


def _covers(places: Tensor, length: int) -> bool:
    if len(places) == 1:
        return True
    step = float(places[-1] - places[0]) / (len(places) - 1)
    return float(places[-1] - places[0]) + step >= (1 - _UNREAD) * length
