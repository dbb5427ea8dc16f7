"""Subset responses: what a map says about removed regions, beside what the network says about them.

    u_is = sum_{p in S_s} a_ip                      of the raw map, each region S_s of image i
    v_is = F_c(x_i) - F_c(x_i with S_s filled)      logit of the class

    grid      S is `removed` of the cells x cells superpixels, drawn without replacement
    patches   S is one square, its side drawn from shares of the short side, its place anywhere inside

The regions depend on seed, image and protocol, not on the map. So v is measured once for all methods
(`Subject.of_images`), and only u is each map's own.

Shapes: maps (N, H, W); u and v (N, S) float64 on the CPU.
Units:  u as the map, v in logits.
Source: Ancona et al. (sensitivity-n), ICLR 2018, arXiv:1711.06104; Yeh et al. (infidelity), NeurIPS 2019,
    arXiv:1901.09392.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.foundation.identity import generators
from xaikit.images.cells import cell_numbers
from xaikit.images.fills import Fill, blend, fill_values
from xaikit.measures.base import Subject
from xaikit.model.target import Target


@dataclass(frozen=True)
class Regions(ABC):
    """Which regions of an image are removed; its fields are the protocol.

    Args:
        count: S, how many regions.
        fill: what removed pixels become.
    """

    count: int
    fill: Fill

    @abstractmethod
    def draw(self, generator: torch.Generator, size: tuple[int, int]) -> Tensor:
        """Return descriptions of the regions of one image, (S, D)."""

    @abstractmethod
    def inside(self, drawn: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the pixels of regions, bool (m, H, W), from their descriptions (m, D)."""

    @abstractmethod
    def sums(self, drawn: Tensor, maps: Tensor) -> Tensor:
        """Return the maps' sums (N, H, W) over their regions (N, S, D), as (N, S)."""


@dataclass(frozen=True)
class GridSubsets(Regions):
    """Sets of superpixels.

    Args:
        cells: superpixels along a side; an image with fewer pixels there has one a pixel.
        removed: n, how many of them one region has.
    """

    cells: int
    removed: int

    def draw(self, generator: torch.Generator, size: tuple[int, int]) -> Tensor:
        """Return which superpixels are removed, bool (S, G)."""
        total = self.grid(self.cells, size)[0] * self.grid(self.cells, size)[1]
        order = torch.rand(self.count, total, generator=generator, dtype=torch.float64, device="cpu").argsort(1)
        return order < self.removed

    def inside(self, drawn: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the pixels of the removed superpixels."""
        return drawn[:, self._cell(size)]

    def sums(self, drawn: Tensor, maps: Tensor) -> Tensor:
        """Return the sums over the superpixels, added up."""
        cell = self._cell((maps.shape[-2], maps.shape[-1])).flatten()
        of_cells = maps.new_zeros(len(maps), drawn.shape[2]).index_add_(1, cell, maps.flatten(1))
        return (drawn * of_cells[:, None]).sum(2)

    @staticmethod
    def grid(cells: int, size: tuple[int, int]) -> tuple[int, int]:
        """Return how many superpixels an image of `size` = (H, W) has down and across."""
        return min(cells, size[0]), min(cells, size[1])

    def _cell(self, size: tuple[int, int]) -> Tensor:
        """Return the superpixel of each pixel, int64 (H, W)."""
        return cell_numbers(self.grid(self.cells, size), size)


@dataclass(frozen=True)
class Patches(Regions):
    """Squares.

    Args:
        sides: of the squares, as shares of the image's short side.
    """

    sides: tuple[float, ...]

    def draw(self, generator: torch.Generator, size: tuple[int, int]) -> Tensor:
        """Return top, left, bottom and right of each square, int64 (S, 4)."""
        lengths = torch.tensor([max(1, round(share * min(size))) for share in self.sides], device="cpu")
        side = lengths[torch.randint(len(lengths), (self.count,), generator=generator, device="cpu")]
        place = torch.rand(2, self.count, generator=generator, dtype=torch.float64, device="cpu")
        top, left = ((place[axis] * (size[axis] - side + 1)).long() for axis in (0, 1))
        return torch.stack([top, left, top + side, left + side], 1)

    def inside(self, drawn: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the pixels of the squares."""
        top, left, bottom, right = (one[:, None] for one in drawn.unbind(1))
        row, column = torch.arange(size[0], device="cpu"), torch.arange(size[1], device="cpu")
        return ((row >= top) & (row < bottom))[:, :, None] & ((column >= left) & (column < right))[:, None]

    def sums(self, drawn: Tensor, maps: Tensor) -> Tensor:
        """Return the sums over the squares, from the corners of the map's running sum."""
        running = F.pad(maps.cumsum(1).cumsum(2), (1, 0, 1, 0))
        top, left, bottom, right = drawn.unbind(2)
        image = torch.arange(len(maps), device="cpu")[:, None]
        return (
            running[image, bottom, right]
            - running[image, top, right]
            - running[image, bottom, left]
            + running[image, top, left]
        )


def responses(subject: Subject, regions: Regions) -> tuple[Tensor, Tensor]:
    """Return what the maps and the network say about each region: u and v, both (N, S).

    Args:
        subject: whose maps are measured; v is shared with the subjects of other methods.
        regions: which are removed.
    """
    streams = generators(subject.context.seed, subject.hashes, repr(regions))
    drawn = torch.stack([regions.draw(one, subject.size) for one in streams])
    observed = subject.of_images(regions, lambda places: _observed(subject, regions, drawn[places], places))
    return regions.sums(drawn, subject.raw), observed


def _observed(subject: Subject, regions: Regions, drawn: Tensor, places: Tensor) -> Tensor:
    """Return F(x) - F(x with the region filled) of the images in `places` (n,), as (n, S)."""
    classifier, context = subject.classifier, subject.context
    pixels = classifier.check(subject.pixels[places])
    pixels = pixels.to(torch.promote_types(pixels.dtype, classifier.dtype))
    noise = generators(context.seed, [subject.hashes[place] for place in places.tolist()], "noise fill")
    target = Target(subject.target[places].to(classifier.device))
    with classifier.borrowed(), torch.no_grad():
        inputs = classifier.normalize(pixels)
        filled = fill_values(classifier.normalize, pixels, regions.fill, noise)

        def work(part: slice) -> Tensor:
            item = torch.arange(part.start, part.stop, device="cpu")
            image, region = item // regions.count, item % regions.count
            masks = ~regions.inside(drawn[image, region], subject.size).to(classifier.device)
            masked = blend(inputs[image], masks, filled[image] if len(filled) > 1 else filled)
            return target.take(image.to(classifier.device)).score(context.forward(classifier, masked))

        size = context.portion(classifier, subject.size)
        found = torch.cat(list(context.portions(len(places) * regions.count, size, work, "masked images")))
    clean = Target(subject.target.to(classifier.device)).score(subject.logits.to(classifier.device))[places]
    drops = clean.cpu().double()[:, None] - found.cpu().double().reshape(len(places), -1)
    if not drops.isfinite().all():
        raise BadInput("model: expected finite logits for every masked image, got NaN or infinity; use float32")
    return drops
