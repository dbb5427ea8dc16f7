"""Concepts: a layer's activations over a batch of images, as a sum of a few patterns of channels, each with its map.

    A = W H + rest      A: activations >= 0, a row per position of every image;  W, H >= 0,  |rest|^2 as small as found
    W[:, k]             the map of concept k in every image, scaled so that its highest value is 1
    H[k]                its channels
    z_k = logits of the network where the layer holds H[k] at every position

In words: Deep feature factorisation looks for patterns of channels that come up again and again in a layer, such as
fur, wheels or sky, and shows where each of them is, in all images alike. Nothing says what a pattern means: the logits
that the network gives for the pattern alone tell which classes it speaks for; their order counts, their size follows
the scale of the pattern. The maps are no attribution of a class. Another number of concepts gives other concepts, and
the search ends at one of several solutions.

The search begins at the leading singular vectors, so that it draws nothing, and fits one concept after another (HALS).
Concepts are sorted by how much of the activations they hold.

Shapes: images (N, C, H, W); maps (N, K, h, w); channels (K, channels of the layer); scores (K, classes).
Source: Collins, Achanta & Suesstrunk, ECCV 2018, arXiv:1806.10206; the search: Cichocki & Phan, 2009.
Departs from source: the logits of a concept are no part of it; signed activations are refused instead of cut off.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from xaikit.foundation.errors import BadInput
from xaikit.images.reading import Inputs, to_picture
from xaikit.images.shapes import upsample
from xaikit.model.classifier import Classifier, check_classifier
from xaikit.model.hooks import Layer
from xaikit.run.batch import Batch
from xaikit.run.context import Context

if TYPE_CHECKING:
    from xaikit.images.drawing import Sheet

_STEPS, _CHANGE = 500, 1e-5  # most rounds of the search, and the change of the rest that ends it
_COLUMNS = 6  # pictures side by side in a figure
_SAME = 1e-3  # difference of logits with two images beside the layer, as a share of their size


@dataclass(frozen=True, eq=False)
class Concepts:
    """The concepts of a batch of images.

    Args:
        maps: (N, K, h, w) where each concept is, from 0 to 1, on the layer's grid; 1 is its strongest place of all.
        channels: (K, C) activation of each channel at that place.
        scores: (K, classes) logits of the network where the layer holds the concept at every position.
        rest: share of the squared activations that the concepts leave out.
        layer: name of the layer.
        images: (N, C, H, W) pixels.
        labels: names of the classes, or None.
    """

    maps: Tensor
    channels: Tensor
    scores: Tensor
    rest: float
    layer: str
    images: Tensor
    labels: tuple[str, ...] | None

    def __repr__(self) -> str:
        count, kinds = self.maps.shape[:2]
        found = "; ".join(self.titles())
        return f"Concepts({kinds} at {self.layer} in {count} images; {100 * self.rest:.2g} % left out; {found})"

    def titles(self) -> list[str]:
        """Return for each concept its number and the two classes that it speaks for most."""
        leading = self.scores.topk(min(2, self.scores.shape[1])).indices.tolist()
        names = [[self.labels[index] if self.labels else f"class {index}" for index in row] for row in leading]
        return [f"{number}: {', '.join(row)}" for number, row in enumerate(names, 1)]

    def heatmaps(self) -> Tensor:
        """Return the maps at the size of the images, (N, K, H, W)."""
        return upsample(self.maps, (self.images.shape[-2], self.images.shape[-1]))

    def plot(self, limit: int = 8) -> Sheet:
        """Return a figure with one row for each image: the image, and over it each concept, dark where it is not.

        Args:
            limit: largest number of images; a note says how many are left out.
        """
        from xaikit.images.drawing import Bar, Row, Tile, sheet
        from xaikit.images.overlays import overlay

        titles, bar = self.titles(), Bar(low="0", high="1, strongest")
        rows = []
        for image, maps in zip(self.images[:limit], self.heatmaps()[:limit].cpu().numpy(), strict=True):
            picture = to_picture(image)
            tiles = [Tile(title, overlay(picture, part), bar) for title, part in zip(titles, maps, strict=True)]
            rows.append(Row("", [Tile("input", picture, None), *tiles]))
        more = len(self.images) - len(rows)
        notes = [f"and {more} more images, which limit= leaves out"] if more else []
        notes.append(f"{100 * self.rest:.2g} % of the squared activations at {self.layer} are in no concept")
        return sheet(rows, notes, _COLUMNS)


def concepts(
    classifier: Classifier,
    inputs: Inputs,
    count: int = 5,
    *,
    layer: str | nn.Module | None = None,
    context: Context | None = None,
) -> Concepts:
    """Return the concepts that a layer's activations over a batch of images are a sum of.

    Args:
        classifier: the model.
        inputs: pixels (N, C, H, W) in [0, 1], or pictures, as `Classifier.read` takes them.
        count: number of concepts.
        layer: dotted name or module, one that ends in a ReLU; None is the classifier's target layer.
        context: settings of the run.

    Raises:
        BadInput: the layer's activations are negative or all zero, are fewer than the concepts, or do not decide the
            logits alone.
    """
    check_classifier(classifier)
    pixels, context = classifier.pictures(inputs).pixels, context or Context()
    if not len(pixels):
        raise BadInput("inputs: expected at least one image, got none")
    size = (pixels.shape[-2], pixels.shape[-1])
    with classifier.borrowed(), classifier.looking_at(size):
        place = classifier.resolve_layer(layer)

        def read(rows: slice) -> Tensor:
            return Batch(classifier, pixels[rows], None, context, rows, len(pixels)).activations(place)

        portion = context.portion(classifier, size)
        activations = torch.cat(list(context.portions(len(pixels), portion, read, "images")))
        rows = activations.permute(0, 2, 3, 1).flatten(0, 2).cpu().double()
        _check(rows, count, place)
        maps, channels, rest = factorised(rows, count)
        held = channels.to(activations)
        with torch.no_grad():
            scores = _scores(classifier, classifier.normalize(pixels[:1]), place, held, context)
    grid = (len(pixels), *activations.shape[2:], count)
    return Concepts(
        maps=maps.to(activations).reshape(grid).permute(0, 3, 1, 2),
        channels=held,
        scores=scores,
        rest=rest,
        layer=str(place),
        images=pixels,
        labels=tuple(classifier.labels) if classifier.labels else None,
    )


def factorised(matrix: Tensor, count: int) -> tuple[Tensor, Tensor, float]:
    """Return W (P, K), whose columns reach 1, H (K, C), and |A - W H|^2 / |A|^2 for A (P, C) >= 0 in float64."""
    left, right = _leading(matrix, count)
    total, rest = float(matrix.square().sum()), 1.0
    for _ in range(_STEPS):
        _fit(left, right, matrix)
        cross, gram = _fit(right.T, left.T, matrix.T)
        explained = 2 * (cross * right.T).sum() - (gram * (right @ right.T)).sum()
        before, rest = rest, 1 - float(explained) / total
        if before - rest <= _CHANGE * before:
            break
    order = (left.norm(dim=0) * right.norm(dim=1)).argsort(descending=True, stable=True)
    highest = left.amax(0)
    scale = torch.where(highest > 0, highest, 1)
    return (left / scale)[:, order], (right * scale[:, None])[order], rest


def _leading(matrix: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return W and H to begin with: the larger of the positive and the negative part of each pair of singular vectors.

    What is zero becomes a little of the mean, from which it can grow.
    """
    _, vectors = torch.linalg.eigh(matrix.T @ matrix)
    right = vectors.flip(1)[:, :count].T
    left = matrix @ right.T
    positive = left.clamp_min(0).norm(dim=0) * right.clamp_min(0).norm(dim=1)
    negative = left.clamp_max(0).norm(dim=0) * right.clamp_max(0).norm(dim=1)
    sign = torch.where(positive >= negative, 1.0, -1.0).to(matrix)
    small = matrix.mean().sqrt() / 100
    return (left * sign).clamp_min(small), (right * sign[:, None]).clamp_min(small)


def _fit(left: Tensor, right: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Change each column of W (P, K) in turn to the best one >= 0 for W H = A; return A H' (P, K) and H H' (K, K)."""
    cross, gram = matrix @ right.T, right @ right.T
    for k, own in enumerate(gram.diagonal().clone()):
        if own > 0:
            left[:, k] = (left[:, k] + (cross[:, k] - left @ gram[:, k]) / own).clamp_min(0)
    return cross, gram


def _check(rows: Tensor, count: Any, place: Layer) -> None:
    """Check the number of concepts and the activations (P, C)."""
    most = min(rows.shape)
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= most:
        raise BadInput(
            f"count: expected 1 to {most} concepts for {rows.shape[0]} positions of {rows.shape[1]} channels, "
            f"got {count!r}"
        )
    if not bool(rows.isfinite().all()):
        raise BadInput(f"layer {str(place)!r}: expected finite activations, got NaN or infinity")
    low, high = float(rows.min()), float(rows.max())
    if low < 0 or high == 0:
        got = f"{low:.3g}" if low < 0 else "zeros only"
        raise BadInput(
            f"layer {str(place)!r}: expected activations of zero or more, some above, got {got}; "
            "name a layer that ends in a ReLU; where none does (GELU, SiLU), eigen-cam takes signed ones"
        )


def _scores(classifier: Classifier, first: Tensor, place: Layer, channels: Tensor, context: Context) -> Tensor:
    """Return the logits (K, classes) for the layer filled with each concept.

    Raises:
        BadInput: they depend on the image, which reaches the logits beside the layer.
    """

    def filled(image: Tensor, rows: slice) -> Tensor:
        held = channels[rows, :, None, None]

        def change(maps: Tensor) -> Tensor:
            return torch.cat([held.expand(len(held), *maps.shape[1:]).to(maps), maps[len(held) :]])

        with classifier.probe() as probe:
            probe.replace(place, lambda output: place.changed(output, change))
            return context.forward(classifier, image.expand(len(held), *image.shape[1:]))

    size = context.portion(classifier, (first.shape[-2], first.shape[-1]))
    own, blank = (
        torch.cat(list(context.portions(len(channels), size, partial(filled, image))))
        for image in (first, torch.zeros_like(first))
    )
    if float((own - blank).abs().max()) > _SAME * float(own.abs().max()):
        raise BadInput(
            f"layer {str(place)!r}: expected a layer that all of the image goes through, got logits that also depend "
            "on what passes beside it; choose a later layer"
        )
    return own
