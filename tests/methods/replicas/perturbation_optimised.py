"""Perturbation methods that search a mask, grow regions or take a variance apart, derived a second time."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter1d
from skimage.morphology import dilation, disk
from skimage.segmentation import felzenszwalb
from skimage.transform import resize
from torch import Tensor
from torch.quasirandom import SobolEngine

from tests.methods.replicas import close, replicates
from tests.networks import DeepNet, bound, images
from xaikit.foundation.identity import generator, stream_seed
from xaikit.methods.base import METHODS
from xaikit.model.classifier import Classifier

COLOURS = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]}


def blurred(image: Tensor, sigma: float) -> Tensor:
    """Return an image (C, H, W) blurred by scipy, cut at 4 sigma or at the border."""
    found = image.numpy()
    for axis in (1, 2):
        radius = min(max(1, round(4 * sigma)), found.shape[axis] - 1)
        if sigma > 0 and radius >= 1:
            found = gaussian_filter1d(found, sigma, axis=axis, mode="mirror", radius=radius)
    return torch.from_numpy(found.copy())


def smooth_maximum(p: Tensor, sigma: float, stride: int, side: int) -> Tensor:
    """Return the mask (side, side) of parameters (h, w), pixel by pixel, over the parameters mirrored at the border."""
    cells, radius = len(p), 1 + math.ceil(sigma / stride)
    far = torch.cat([p.flip(0), p, p.flip(0)])
    far = torch.cat([far.flip(1), far, far.flip(1)], 1)
    middle, mask = (stride - 1) / 2, []
    for y, x in itertools.product(range(side), repeat=2):
        near = [range(place // stride - radius, place // stride + radius + 1) for place in (y, x)]
        weights = [
            math.exp(-2 * max(math.dist((y, x), (i * stride + middle, j * stride + middle)) / sigma - 0.5, 0) ** 2)
            for i, j in itertools.product(*near)
        ]
        rows, columns = (slice(cells + some.start, cells + some.stop) for some in near)
        q = far[rows, columns].flatten() * torch.tensor(weights, dtype=p.dtype)
        mask.append((q * (20 * q).softmax(0)).sum())
    return torch.stack(mask).reshape(side, side)


@replicates("extremal-perturbation")
def _extremal_perturbation_by_loops_over_pixels_and_autograd() -> None:
    for variant in ("preserve", "dual"):
        _extremal_by_loops(variant)


def _extremal_by_loops(variant: str) -> None:
    clf, x, steps, area, sigma, stride, side = bound(DeepNet(), **COLOURS), images(1), 24, 0.3, 6.0, 2, 8
    found = METHODS.get("extremal-perturbation").build(clf, areas=area, steps=steps, sigma=sigma, variant=variant)
    image = clf.normalize(x)[0]
    levels = torch.stack([blurred(image, 20 * side / 224 * (1 - level / 7)) for level in range(8)])

    def score(shown: Tensor) -> Tensor:
        return clf.logits(shown[None])[0, 2]

    def seen(m: Tensor, t: int) -> Tensor:
        place = m * 7
        below = place.detach().floor().clamp(max=6)
        pixels = torch.arange(side)
        upper, lower = (
            torch.stack([levels[(below.long() + up), c, pixels[:, None], pixels] for c in range(3)]) for up in (1, 0)
        )
        shown = lower + (place - below) * (upper - lower)
        return score(shown.flip(2) if t % 2 == 0 else shown)

    clean = score(image).detach()
    unit = 80 / max(float((clean - score(levels[0]).detach()).abs()), 0.05 * float(clean.abs()))
    p, speed = torch.ones(side // stride, side // stride, dtype=torch.float64), 0.0
    for t in range(steps):
        p = p.detach().requires_grad_(True)
        m = smooth_maximum(p, sigma, stride, side)
        kept = seen(m, t) if variant == "preserve" else seen(m, t) - seen(1 - m, t)
        order = m.detach().flatten().argsort()
        target = torch.zeros(side * side, dtype=torch.float64)
        ones = area * side * side
        target[order[side * side - math.floor(ones) :]] = 1
        target[order[side * side - math.floor(ones) - 1]] = ones - math.floor(ones)
        cut = m.detach().flatten()[order[-math.ceil(ones)]]
        equal = (m.detach().flatten() - cut).abs() <= 1e-6
        target[equal] = target[equal].mean()
        weight = 300 * 1.0052 ** (t * 8)
        loss = -unit * kept + weight * (m.flatten() - target).square().mean()
        gradient = torch.autograd.grad(loss, p)[0]
        speed = 0.9 * speed + 0.1 * gradient
        p = (p - 0.01 * 8 * p.numel() / 1024 * speed).clamp(0, 1)
    expected = smooth_maximum(p.detach(), sigma, stride, side)
    assert float(expected.std()) > 1e-3
    close(found.attribute(x, 2), expected[None], 1e-8)


@replicates("meaningful-perturbation")
def _meaningful_perturbation_by_torchs_adam() -> None:
    clf, x, steps = bound(DeepNet(), **COLOURS), images(1), 12
    image = clf.normalize(x)[0]
    fill = clf.normalize(blurred(x[0], 10 * 8 / 224)[None])[0]
    basis = [blurred(F.interpolate(cell[None, None], size=8, mode="bilinear")[0], 5 * 8 / 224)[0] for cell in cells(4)]
    c = torch.zeros(4, 4, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([c], lr=0.1)
    for _ in range(steps):
        m = sum(value * one for value, one in zip(c.flatten(), basis, strict=True))
        p = clf.to_probabilities(clf.logits((m * image + (1 - m) * fill)[None]))[0, 3]
        steep = (c[1:] - c[:-1]).abs().pow(3).sum() + (c[:, 1:] - c[:, :-1]).abs().pow(3).sum()
        (gradient,) = torch.autograd.grad(1e-3 * (1 - c).abs().sum() + 0.02 * steep + p, c)
        c.grad = gradient
        adam.step()
        c.data.clamp_(0, 1)
    m = sum(value * one for value, one in zip(c.detach().flatten(), basis, strict=True))
    options = {"steps": steps, "grid": 4, "sparsity": 1e-3, "smoothness": 0.02}
    close(METHODS.get("meaningful-perturbation").build(clf, **options).attribute(x, 3), (1 - m)[None], 1e-6)


def cells(grid: int) -> Tensor:
    """Return one mask (grid^2, grid, grid) a cell."""
    return torch.eye(grid**2, dtype=torch.float64).reshape(-1, grid, grid)


@replicates("xrai")
def _xrai_by_masks_and_fresh_means() -> None:
    clf, x = bound(DeepNet(), **COLOURS), images(1)
    smooth = F.interpolate(images(1, size=4), size=8, mode="bilinear") * 0.8 + 0.1 * x
    base = torch.stack([path(clf, smooth, 2, edge) for edge in (0.0, 1.0)]).mean(0)[0].amax(0).numpy()
    masks = region_masks(smooth[0].permute(1, 2, 0).numpy())
    found = METHODS.get("xrai").build(clf, steps=6).attribute(smooth, 2)
    expected, taken = np.full((8, 8), np.nan), np.zeros((8, 8), dtype=bool)
    while masks:
        masks = [mask for mask in masks if (mask & ~taken).any()]
        gains = [base[mask & ~taken].mean() for mask in masks]
        if masks:
            best = masks[int(np.argmax(gains))] & ~taken
            expected[best], taken = base[best].mean(), taken | best
    assert taken.all()
    assert len(np.unique(expected)) > 1
    close(found, torch.from_numpy(expected)[None])
    assert abs(float(found.values.sum()) - base.sum()) < 1e-12


def path(clf: Classifier, x: Tensor, target: int, edge: float) -> Tensor:
    """Return integrated gradients (1, C, H, W) from an even colour by 6 midpoints."""
    start, end = clf.normalize(torch.full_like(x, edge)), clf.normalize(x)
    total = torch.zeros_like(x)
    for step in range(6):
        place = (start + (step + 0.5) / 6 * (end - start)).requires_grad_(True)
        total += torch.autograd.grad(clf.logits(place)[0, target], place)[0]
    return (end - start) * total / 6


def region_masks(picture: np.ndarray) -> list[np.ndarray]:
    """Return all regions of an 8 x 8 picture as masks; at that size they grow by nothing and none is too small."""
    shown = (picture - picture.min()) / (picture.max() - picture.min()) * 2 - 1
    shown = resize(shown, (224, 224), order=3, mode="constant")
    found = []
    for scale in (50, 100, 150, 250, 500, 1200):
        numbers = felzenszwalb(shown, scale=scale, sigma=0.8, min_size=150)
        small = resize(numbers, (8, 8), order=0, preserve_range=True, anti_aliasing=False).astype(int)
        found += [dilation(small == number, disk(0)) for number in np.unique(small)]
    return found


def scored(clf: Classifier, x: Tensor, masks: Tensor, target: int) -> Tensor:
    """Return the probability of one image under masks (m, g, g) of cells, one forward a mask."""
    wide = masks.repeat_interleave(8 // masks.shape[1], 1).repeat_interleave(8 // masks.shape[1], 2)
    return torch.stack([clf.to_probabilities(clf.logits(clf.normalize(x) * one))[0, target] for one in wide]).detach()


@replicates("sobol")
def _sobol_by_jansens_estimator() -> None:
    clf, x = bound(DeepNet(), **COLOURS), images(1)
    drawn = SobolEngine(8, scramble=True, seed=stream_seed(0, "sobol", "2x2")).draw(8, dtype=torch.float64)
    first, second = drawn[:, :4], drawn[:, 4:]
    plain = scored(clf, x, first.reshape(-1, 2, 2), 1)
    expected = []
    for cell in range(4):
        mixed = torch.cat([first[:, :cell], second[:, cell : cell + 1], first[:, cell + 1 :]], 1)
        changed = scored(clf, x, mixed.reshape(-1, 2, 2), 1)
        expected.append(float(((plain - changed) ** 2).sum()) / (2 * 8 * float(plain.var(correction=0))))
    wide = torch.tensor(expected, dtype=torch.float64).reshape(1, 2, 2).repeat_interleave(4, 1).repeat_interleave(4, 2)
    close(METHODS.get("sobol").build(clf, samples=8, grid=2).attribute(x, 1), wide)


@replicates("hsic")
def _hsic_by_gram_matrices() -> None:
    clf, x, count = bound(DeepNet(), **COLOURS), images(1), 21
    stream = generator(0, "hsic", f"{count} masks of 2x2")
    order = torch.rand(count, 4, generator=stream, dtype=torch.float64).argsort(0).argsort(0)
    masks = (order < count // 2).double()
    scores = scored(clf, x, masks.reshape(-1, 2, 2), 1)
    gaps = [abs(float(a - b)) for i, a in enumerate(scores) for b in scores[i + 1 :]]
    width = sorted(gaps)[(len(gaps) - 1) // 2]
    outputs = torch.exp(-((scores[:, None] - scores[None]) ** 2) / (2 * width**2))
    centring = torch.eye(count, dtype=torch.float64) - 1 / count
    expected = []
    for cell in range(4):
        agree = (masks[:, cell, None] == masks[None, :, cell]).double()
        expected.append(float(torch.trace(agree @ centring @ outputs @ centring)) / (count - 1) ** 2)
    wide = torch.tensor(expected, dtype=torch.float64).reshape(1, 2, 2).repeat_interleave(4, 1).repeat_interleave(4, 2)
    close(METHODS.get("hsic").build(clf, samples=count, grid=2).attribute(x, 1), wide)
