"""Placement: whether a layer's grid lies on the image as it is drawn, cell by cell.

    c = sum_q a(q) |J(q)|^2 / sum_q |J(q)|^2        place of a cell; J = d (cell) / d (pixel q), a = row or column of q
    s^2 = the same of (a(q) - c)^2                  its spread

A heatmap is the grid, enlarged to the image. That is wrong where the network pads, crops, mirrors, turns or rearranges
the image or the grid before the layer. Finite differences along noise u and along a * u give the places of all cells in
three forwards; gradients say which pixels no cell reads, and what single cells read. The grid is misplaced if

- cells read narrow places, but more than a quarter of them, or all together, lie a tenth of the image aside;
- the lower half does not read lower rows than the upper half, or other columns rather; the same from left to right;
- halves of a fine grid read the same, or clearly apart, but single cells the rest of the image rather than around them;
- more than a tenth of the image's height or width at its borders is read by no cell.

A forward whose calls keep places (addresses.py) is not judged, nor watched if the outline has shown that no image can
move them. One that moves values is judged once, on a noise image; if it moves them otherwise for the pictures at hand,
it is judged on each of these.
"""

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from xaikit.foundation.identity import generator
from xaikit.model.addresses import Addresses, Entries, same
from xaikit.model.classifier import Classifier
from xaikit.model.hooks import Layer, Probe, Tap
from xaikit.model.layers import Outline
from xaikit.model.paths import WithGraph

_UNREAD = 0.1  # largest share of the image's height or width that no cell reads
_ASIDE = 0.1  # distance in image sizes by which a cell may lie aside
_NARROW = 0.15  # largest spread of what cells read, in image sizes, at which finite differences show the places
_WRONG = 0.25  # share of the cells that may lie aside
_FEWEST = 3  # rows or columns of a grid whose halves can be told apart
_MIXED = 0.05  # distance between the centres of two halves below which all cells read the whole image
_FINE, _CLEAR = 5, 0.15  # rows or columns of a grid, and that distance, from which single cells read one place
_FINEST, _NONE = 12, 0.03  # rows or columns of a grid, and that distance up to which cells have no place at all
_AROUND = 0.3  # least share of what a cell then reads within a quarter of the image
_RESPONDS = 1e-3  # least response of a cell to the picture, as a share of the largest
_DRAWS = 3  # of noise, as few channels may tell little
_STEP = 0.01  # of the finite differences, in standard deviations of the image

_SEEN: WeakKeyDictionary[Outline, dict[Layer, tuple[Entries, bool]]] = WeakKeyDictionary()


class Places:
    """Where the grids of layers lie on a batch of images.

    Args:
        classifier: the classifier, borrowed.
        inputs: (n, C, H, W) in the network's coordinates.
    """

    def __init__(self, classifier: Classifier, inputs: Tensor) -> None:
        self._classifier = classifier
        self._inputs = inputs
        self._addresses: dict[Layer, Addresses] = {}
        self._misplaced: dict[Layer, list[bool]] = {}

    def watch(self, probe: Probe, taps: Sequence[Tap]) -> None:
        """Let the forward of a probe show whether it moves values before the layers of its taps."""
        winding = [tap for tap in taps if not self._is_straight(tap.layer)]
        if winding:
            addresses = Addresses(winding)
            probe.observe(None, addresses.on_function)
            self._addresses |= {tap.layer: addresses for tap in winding}

    def misplaced(self, layer: Layer) -> list[bool]:
        """Return for each image whether the grid of a layer does not lie on it."""
        if layer not in self._misplaced:
            self._misplaced[layer] = self._judge(layer)
        return self._misplaced[layer]

    def _judge(self, layer: Layer) -> list[bool]:
        classifier, inputs = self._classifier, self._inputs
        left_out = layer.grid is not None and not layer.grid.covers
        if left_out or self._is_straight(layer):
            return [left_out] * len(inputs)
        watched = self._addresses.get(layer)
        entries = addresses(classifier, layer, inputs) if watched is None else watched.of(layer)
        if not entries:
            return [False] * len(inputs)
        seen = _SEEN.setdefault(classifier.outline(inputs.shape[2:]), {})
        if layer not in seen:
            noise = torch.rand(
                1, *inputs.shape[1:], generator=generator(0, "placement"), dtype=torch.float32, device="cpu"
            )
            image = classifier.normalize(noise.to(inputs))
            followed = layer.grid is not None  # its positions were followed to where they lie
            seen[layer] = addresses(classifier, layer, image), not followed and _judged(classifier, layer, image)[0]
        of_noise, verdict = seen[layer]
        return [verdict] * len(inputs) if same(entries, of_noise, len(inputs)) else _judged(classifier, layer, inputs)

    def _is_straight(self, layer: Layer) -> bool:
        return (layer.name, layer.call or 0) in self._classifier.outline(self._inputs.shape[2:]).straight


def addresses(classifier: Classifier, layer: Layer, inputs: Tensor) -> Entries:
    """Return how a forward of inputs (n, C, H, W) addresses values before a layer."""
    with torch.no_grad(), classifier.probe() as probe:
        tap = probe.record(layer)
        found = Addresses([tap])
        probe.observe(None, found.on_function)
        classifier.logits(inputs)
    return found.of(layer)


def _judged(classifier: Classifier, layer: Layer, inputs: Tensor) -> list[bool]:
    """Return for each of the inputs (n, C, H, W) whether the grid does not lie on it."""
    inputs = inputs.detach()
    wrong = torch.zeros(len(inputs), dtype=torch.bool, device="cpu")
    grids = _grids(classifier, layer, inputs)
    if grids.shape[2] * grids.shape[3] > 1 and len(grids) == len(inputs):
        wrong |= _aside(classifier, layer, inputs, grids).cpu()
        wrong |= _elsewhere(classifier, layer, inputs).cpu()
    result: list[bool] = wrong.tolist()
    return result


def _grids(classifier: Classifier, layer: Layer, inputs: Tensor) -> Tensor:
    with torch.no_grad(), classifier.probe() as probe:
        tap = probe.record(layer)
        classifier.logits(inputs)
        return tap.activation


def _aside(classifier: Classifier, layer: Layer, inputs: Tensor, grids: Tensor) -> Tensor:
    """Return whether cells of grids (n, C, h, w) that read one place read another than where they are drawn, (n,)."""
    draws = torch.randn(_DRAWS, *inputs.shape[1:], generator=generator(0, "places"), dtype=torch.float32, device="cpu")
    deviation = inputs.flatten(1).std(1, correction=0).reshape(-1, 1, 1, 1)
    deviation = max(_STEP, 32 * torch.finfo(classifier.dtype).eps) * torch.where(deviation > 0, deviation, 1)
    height, width = (_middles(length, inputs) for length in inputs.shape[2:])
    moves = [deviation * noise * ramp for noise in draws.to(inputs) for ramp in (1, height[:, None], width)]
    moved = [_grids(classifier, layer, inputs + move) for move in moves]
    if any(each.shape != grids.shape for each in moved):
        return torch.zeros(len(inputs), dtype=torch.bool, device=inputs.device)  # another way beside the image
    whole, *weighted = [torch.cat([each - grids for each in moved[ramp::3]], 1).double() for ramp in range(3)]
    size = whole.square().sum(1)
    known = size > _RESPONDS * size.amax((1, 2), keepdim=True)
    drawn = torch.meshgrid(*(_middles(length, whole) for length in grids.shape[2:]), indexing="ij")
    counts = known.sum((1, 2)).clamp_min(1)
    far = torch.zeros_like(known)
    together = torch.zeros(len(inputs), dtype=torch.bool, device=inputs.device)
    narrow = ~together
    for difference, place in zip(weighted, drawn, strict=True):
        read = (difference * whole).sum(1) / size.where(known, 1)
        variance = difference.square().sum(1) / size.where(known, 1) - read.square()
        spread = variance.where(known, torch.nan).flatten(1).nanmedian(1).values.clamp_min(0).sqrt()
        narrow &= spread < _NARROW
        error = (read - place) * known
        allowed = _ASIDE + 0.5 / place.numel() ** 0.5  # strides put the middle of a cell up to half a cell aside
        far |= error.abs() > (1.5 * spread).clamp_min(allowed)[:, None, None]
        together |= known.flatten(1).all(1) & (error.mean((1, 2)).abs() > spread.clamp_min(allowed))
    return narrow & (together | (far.sum((1, 2)) > _WRONG * counts))


def _elsewhere(classifier: Classifier, layer: Layer, inputs: Tensor) -> Tensor:
    """Return whether halves of the grid read other halves, single cells the rest, or none the borders, (n,).

    A layer without a gradient by the image is not judged.
    """
    leaf = inputs.clone().requires_grad_(True)
    with torch.enable_grad(), WithGraph(), classifier.probe() as probe:
        tap = probe.attach(layer)
        classifier.logits(leaf)
        grids = layer.to_grid(tap.activation)
    wrong = torch.zeros(len(inputs), dtype=torch.bool, device=inputs.device)
    if grids.grad_fn is None:
        return wrong
    weights = torch.randn(grids.shape[1], generator=generator(0, "reads"), dtype=torch.float32, device="cpu").to(grids)
    fields = torch.einsum("c,nchw->nhw", weights, grids)

    def reads(part: Tensor) -> Tensor:
        """Return how much each pixel (n, H, W) matters for a part of the grid."""
        (gradient,) = torch.autograd.grad(part.sum(), leaf, retain_graph=True, materialize_grads=True)
        return gradient.double().abs().sum(1)

    (height, width), energy = fields.shape[1:], fields.square()
    rows, columns = height // 2, width // 2
    upper, lower = reads(energy[:, :rows]), reads(energy[:, height - rows :])
    left, right = reads(energy[..., :columns]), reads(energy[..., width - columns :])
    shifts = []
    for axis, (first, second) in enumerate(((upper, lower), (left, right))):
        along, across = _shift(first, second, 1 + axis), _shift(first, second, 2 - axis)
        if fields.shape[1 + axis] >= _FEWEST:
            wrong |= (along.abs() + across.abs() > _MIXED) & ((along <= 0) | (across.abs() > along))
            shifts.append(along)
    whole = upper + lower + left + right if max(height, width) > 1 else reads(energy)
    for axis in (1, 2):
        wrong |= _unread(whole.amax(3 - axis) > 0) > _UNREAD
    if min(height, width) < _FINE:
        return wrong
    size = torch.stack(shifts).abs()
    wrong |= (size.amax(0) < _NONE) & (min(height, width) >= _FINEST)
    clear = size.amin(0) > _CLEAR
    for row, column in ((height // 4, width // 4), (height - 1 - height // 4, width - 1 - width // 4)):
        read = reads(fields[:, row, column]).square()
        near = [
            (_middles(length, read) - (cell + 0.5) / cells).abs() <= 0.25
            for length, cell, cells in zip(read.shape[1:], (row, column), (height, width), strict=True)
        ]
        around = (read * near[0][:, None] * near[1]).sum((1, 2))
        wrong |= clear & (around < _AROUND * read.sum((1, 2)))
    return wrong


def _middles(length: int, like: Tensor) -> Tensor:
    """Return the middles of `length` equal parts of an axis from 0 to 1."""
    return (torch.arange(length, device=like.device, dtype=like.dtype) + 0.5) / length


def _shift(first: Tensor, second: Tensor, axis: int) -> Tensor:
    """Return how far the centre of what the second half reads, (n, H, W), lies beyond the first's, in image sizes."""
    centres = []
    for read in (first, second):
        along = read.sum(3 - axis)
        total = along.sum(1)
        centres.append((along * _middles(along.shape[1], along)).sum(1) / total.where(total > 0, 1))
    seen = first.any(2).any(1) & second.any(2).any(1)
    return torch.where(seen, centres[1] - centres[0], 0)


def _unread(lines: Tensor) -> Tensor:
    """Return the share of lines (n, L) before the first and after the last that is read; 0 if none is."""
    found = lines.double().cumsum(1)
    before, after = (found == 0).sum(1), (found == found[:, -1:]).sum(1) - 1
    return torch.where(lines.any(1), (before + after) / lines.shape[1], 0)
