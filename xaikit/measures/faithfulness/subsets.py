"""Subset responses: the map's sum over removed regions, and the logit drops when the regions are removed.

    u_is = sum_{p in S_s} a_ip                      sum of the raw map over region S_s of image i
    v_is = F_c(x_i) - F_c(x_i with S_s filled)      drop of the class's logit

    grid      S is a set of `removed` of the cells x cells superpixels, drawn without replacement
    patches   S is a square inside the image at a random position, its side drawn from shares of the short side

The regions depend on seed, image and protocol, not on the map. Therefore v is measured once for all methods
(`Subject.of_images`), and only u is computed per map.

Shapes: maps (N, H, W); u and v (N, S) float64 on the CPU.
Units:  u in units of the map, v in logits.
Source: Ancona et al. (sensitivity-n), ICLR 2018, arXiv:1711.06104; Yeh et al. (infidelity), NeurIPS 2019,
    arXiv:1901.09392.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.foundation.identity import generators
from xaikit.foundation.parameters import check_table
from xaikit.images.cells import cell_numbers
from xaikit.images.fills import Fill, blend, fill_values
from xaikit.measures.base import Subject


@dataclass(frozen=True)
class Regions(ABC):
    """Base class of the distributions of regions that are removed from an image; its fields are the protocol.

    Args:
        count: S, the number of regions.
        fill: value of removed pixels.
    """

    count: int
    fill: Fill

    @abstractmethod
    def draw(self, generator: torch.Generator, size: tuple[int, int]) -> Tensor:
        """Return the random regions of one image, encoded as (S, D)."""

    @abstractmethod
    def inside(self, drawn: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the pixels of the regions, bool (m, H, W), from their encodings (m, D)."""

    @abstractmethod
    def sums(self, drawn: Tensor, maps: Tensor) -> Tensor:
        """Return the sums (N, S) of maps (N, H, W) over their regions (N, S, D)."""


@dataclass(frozen=True)
class GridSubsets(Regions):
    """Sets of superpixels.

    Args:
        cells: number of superpixels along a side, at most one per pixel.
        removed: n, the number of superpixels in one region.
    """

    cells: int
    removed: int

    def draw(self, generator: torch.Generator, size: tuple[int, int]) -> Tensor:
        """Return which superpixels are removed, bool (S, G)."""
        down, across = self.grid(self.cells, size)
        check_table("subsets", self.count, down * across, "lower subsets or cells")
        order = torch.rand(self.count, down * across, generator=generator, dtype=torch.float64, device="cpu").argsort(1)
        return order < self.removed

    def inside(self, drawn: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the pixels of the removed superpixels."""
        return drawn[:, self._cell(size)]

    def sums(self, drawn: Tensor, maps: Tensor) -> Tensor:
        """Return the sums over the removed superpixels."""
        cell = self._cell((maps.shape[-2], maps.shape[-1])).flatten()
        cell_sums = maps.new_zeros(len(maps), drawn.shape[2]).index_add_(1, cell, maps.flatten(1))
        return (drawn * cell_sums[:, None]).sum(2)

    @staticmethod
    def grid(cells: int, size: tuple[int, int]) -> tuple[int, int]:
        """Return the number of superpixels down and across in an image of `size` = (H, W)."""
        return min(cells, size[0]), min(cells, size[1])

    def _cell(self, size: tuple[int, int]) -> Tensor:
        """Return the superpixel of each pixel, int64 (H, W)."""
        return cell_numbers(self.grid(self.cells, size), size)


@dataclass(frozen=True)
class Patches(Regions):
    """Single squares.

    Args:
        sides: side lengths to draw from, as shares of the image's short side.
    """

    sides: tuple[float, ...]

    def draw(self, generator: torch.Generator, size: tuple[int, int]) -> Tensor:
        """Return top, left, bottom and right of each square, int64 (S, 4)."""
        lengths = torch.tensor([max(1, round(share * min(size))) for share in self.sides], device="cpu")
        side = lengths[torch.randint(len(lengths), (self.count,), generator=generator, device="cpu")]
        position = torch.rand(2, self.count, generator=generator, dtype=torch.float64, device="cpu")
        top, left = ((position[axis] * (size[axis] - side + 1)).long() for axis in (0, 1))
        return torch.stack([top, left, top + side, left + side], 1)

    def inside(self, drawn: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the pixels of the squares."""
        top, left, bottom, right = drawn[:, :, None].unbind(1)
        row, column = torch.arange(size[0], device="cpu"), torch.arange(size[1], device="cpu")
        return ((row >= top) & (row < bottom))[:, :, None] & ((column >= left) & (column < right))[:, None]

    def sums(self, drawn: Tensor, maps: Tensor) -> Tensor:
        """Return the sums over the squares, from the map's integral image."""
        integral = F.pad(maps.cumsum(1).cumsum(2), (1, 0, 1, 0))
        top, left, bottom, right = drawn.unbind(2)
        image = torch.arange(len(maps), device="cpu")[:, None]
        return (
            integral[image, bottom, right]
            - integral[image, top, right]
            - integral[image, bottom, left]
            + integral[image, top, left]
        )


def responses(subject: Subject, regions: Regions) -> tuple[Tensor, Tensor]:
    """Return the map's sums u over each region and the logit drops v without it, both (N, S).

    Args:
        subject: the images and maps; v is shared with the subjects of other methods.
        regions: the regions to remove.
    """
    streams = generators(subject.context.seed, subject.hashes, repr(regions))
    drawn = torch.stack([regions.draw(stream, subject.size) for stream in streams])
    drops = subject.of_images(regions, lambda indices: _drops(subject, regions, drawn[indices], indices))
    return regions.sums(drawn, subject.raw), drops


def _drops(subject: Subject, regions: Regions, drawn: Tensor, indices: Tensor) -> Tensor:
    """Return F(x) - F(x with the region filled) of the images `indices` (n,), as (n, S)."""
    classifier, context = subject.classifier, subject.context
    pixels = classifier.check(subject.pixels[indices])
    pixels = pixels.to(torch.promote_types(pixels.dtype, classifier.dtype))
    noise = generators(context.seed, [subject.hashes[index] for index in indices.tolist()], "noise fill")
    explained = subject.explained.to(classifier.device)
    target = explained.take(indices)
    with classifier.borrowed(), torch.no_grad():
        inputs = classifier.normalize(pixels)
        filled = fill_values(classifier.normalize, pixels, regions.fill, noise, bounded=classifier.bounded)

        def work(part: slice) -> Tensor:
            item = torch.arange(part.start, part.stop, device="cpu")
            image, region = item // regions.count, item % regions.count
            masks = ~regions.inside(drawn[image, region], subject.size).to(classifier.device)
            masked = blend(inputs[image], masks, filled[image] if len(filled) > 1 else filled)
            return target.take(image.to(classifier.device)).score(context.forward(classifier, masked))

        size = context.portion(classifier, subject.size)
        scores = torch.cat(list(context.portions(len(indices) * regions.count, size, work, "masked images")))
    clean = explained.score(subject.logits.to(classifier.device))[indices]
    drops = clean.cpu().double()[:, None] - scores.cpu().double().reshape(len(indices), -1)
    if not drops.isfinite().all():
        raise BadInput("model: expected finite logits for every masked image, got NaN or infinity; use float32")
    return drops
