"""Placement: whether a layer's grid lies on the image as it is drawn, row on row and column on column.

    d (rows, columns read by one half of the grid) / d (that half)        from the gradient of the halves by the image

A heatmap is the grid, enlarged to the image. That is wrong where the network crops, mirrors, turns or rearranges the
image or the grid before the layer. Only networks that move values before the layer are tested, each layer once:

- the lower half of the grid reads lower rows than the upper half, and not other columns; the same from left to right;
- at most a tenth of the image's height or width at its borders is read by no position.

Networks whose layer has no graph from the image, or that mix all positions before it, are not judged. A layer that is
brought to a grid (tokens, channels last) lies where its positions were followed to; only what it leaves out counts.
"""

from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from xaikit.foundation.identity import generator
from xaikit.model.classifier import Classifier
from xaikit.model.hooks import Layer

_UNREAD = 0.1  # largest share of the image's height or width that no position reads
_FEWEST = 3  # rows or columns of a grid whose halves can be told apart
_MIXED = 0.05  # distance between the centres of two halves below which all positions read the whole image

_SEEN: WeakKeyDictionary[Classifier, dict[tuple[Layer, tuple[int, int]], bool]] = WeakKeyDictionary()


def is_misplaced(classifier: Classifier, layer: Layer, size: tuple[int, int]) -> bool:
    """Return whether the grid of a layer does not lie on an image of `size` = (H, W); the classifier is borrowed."""
    if layer.grid is not None:
        return not layer.grid.covers
    if not classifier.outline(size).moves:
        return False
    seen = _SEEN.setdefault(classifier, {})
    if (layer, size) not in seen:
        seen[layer, size] = _is_misplaced(classifier, layer, size)
    return seen[layer, size]


def _is_misplaced(classifier: Classifier, layer: Layer, size: tuple[int, int]) -> bool:
    stream = generator(0, "placement")
    pixels = torch.rand(4, classifier.channels, *size, generator=stream, dtype=torch.float32, device="cpu").to(
        classifier.device
    )
    inputs = classifier.normalize(pixels).requires_grad_(True)
    one_by_one = classifier.outline(size).rows.one_by_one
    grids = torch.cat(
        [_grid(classifier, layer, part) for part in torch.split(inputs, 1 if one_by_one else len(inputs))]
    )
    if grids.grad_fn is None or len(grids) != len(pixels):
        return False
    weights = torch.randn(grids.shape[1], generator=stream, dtype=torch.float32, device="cpu").to(grids)
    fields = torch.einsum("c,nchw->nhw", weights, grids).square()
    rows, columns = fields.shape[1] // 2, fields.shape[2] // 2
    halves = (
        fields[0, :rows].sum() + fields[1, -rows:].sum() + fields[2, :, :columns].sum() + fields[3, :, -columns:].sum()
    )
    (gradient,) = torch.autograd.grad(halves, inputs, materialize_grads=True)
    reads = gradient.abs().sum(1)  # how much each pixel matters for the upper, lower, left and right half of the grid
    turned = False
    for axis, (first, second) in enumerate((reads[:2], reads[2:])):
        if fields.shape[1 + axis] < _FEWEST or not bool(first.any() and second.any()):
            continue
        along, across = _shift(first, second, axis), _shift(first, second, 1 - axis)
        turned |= abs(along) + abs(across) > _MIXED and (along <= 0 or abs(across) > along)
    return turned or _unread(reads.sum(0) > 0) > _UNREAD


def _grid(classifier: Classifier, layer: Layer, inputs: Tensor) -> Tensor:
    """Return a layer's activations (n, C, h, w) for inputs (n, C, H, W), with their graph."""
    with torch.enable_grad(), classifier.probe() as probe:
        tap = probe.attach(layer)
        classifier.logits(inputs)
        return layer.to_grid(tap.activation)


def _shift(first: Tensor, second: Tensor, axis: int) -> float:
    """Return how far the centre of what the second half reads, (H, W), lies beyond the first's, in image sizes."""
    centres = []
    for reads in (first, second):
        along = reads.sum(1 - axis)
        places = (torch.arange(len(along), device=along.device) + 0.5) / len(along)
        centres.append(float((along * places).sum() / along.sum()))
    return centres[1] - centres[0]


def _unread(read: Tensor) -> float:
    """Return the larger share of the height and the width (H, W) that lies outside of all that is read."""
    shares = []
    for axis in (0, 1):
        lines = read.any(1 - axis).nonzero().flatten()
        shares.append(1 - float(lines[-1] - lines[0] + 1) / read.shape[axis] if len(lines) else 0.0)
    return max(shares)
