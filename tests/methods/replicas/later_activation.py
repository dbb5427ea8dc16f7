"""Activation methods of 2020 and later, derived a second time."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.methods.replicas import close, ordinary, replicates
from tests.methods.replicas.more_activation import Joined, layer_of
from tests.networks import DeepNet, GAPNet, bound, images
from xaikit.images.fills import blurred
from xaikit.methods.base import METHODS
from xaikit.methods.gradient.noise import copy_noise
from xaikit.model.classifier import Classifier
from xaikit.run.batch import Batch
from xaikit.run.context import Context

TARGET = torch.tensor([1, 0, 2])


def tail_of(clf: Classifier, activations: Tensor) -> Tensor:
    """Return the logits (m, K) of a DeepNet from the activations (m, C, h, w) that are explained."""
    return clf.network.head(activations.flatten(1))


@replicates("fem")
def _position_by_position() -> None:
    clf, x = bound(DeepNet(), seed=2), images()
    activations, _ = ordinary(clf, x, TARGET, layer_of(clf))
    for deviations in (1.0, 0.5, 0.0):
        expected = torch.zeros(3, 4, 4, dtype=torch.float64)
        for n, k in np.ndindex(3, 5):
            channel = activations[n, k].numpy()
            if np.ptp(channel) > 0:
                high = (channel - channel.mean()) ** 2 >= deviations**2 * channel.var()
                expected[n] += float(channel.mean()) * torch.from_numpy(high & (channel >= channel.mean())).double()
        close(METHODS.get("fem").build(clf, deviations=deviations).attribute(x), expected)


@replicates("kpca-cam")
def _by_power_iteration_of_the_centred_kernel() -> None:
    clf, x = bound(DeepNet(), seed=2), images()
    activations, _ = ordinary(clf, x, TARGET, layer_of(clf))
    centre = torch.eye(16, dtype=torch.float64) - 1 / 16
    for kernel in ("sigmoid", "rbf", "linear"):
        expected = []
        for image in activations:
            b = [row - image.flatten(1).mean(1) for row in image.flatten(1).T]
            compare = {
                "sigmoid": lambda p, q: torch.tanh(p @ q / 5 + 1),
                "rbf": lambda p, q: torch.exp(-((p - q) ** 2).sum() / 5),
                "linear": lambda p, q: p @ q,
            }[kernel]
            centred = centre @ torch.stack([torch.stack([compare(p, q) for q in b]) for p in b]) @ centre
            high = torch.linalg.matrix_power(centred / centred.norm() + torch.eye(16, dtype=torch.float64), 400)
            vector = F.normalize(high @ torch.arange(16, dtype=torch.float64), dim=0)
            component = vector * (vector @ centred @ vector).sqrt()
            expected.append((component * component[component.abs().argmax()].sign()).reshape(4, 4))
        close(METHODS.get("kpca-cam").build(clf, kernel=kernel).attribute(x), torch.stack(expected), 1e-6)
    close(
        METHODS.get("kpca-cam").build(clf, kernel="linear").attribute(x),
        METHODS.get("eigen-cam").build(clf, variant="centred").attribute(x).values,
        1e-6,
    )


@replicates("shapley-cam")
def _by_finite_differences_of_the_gradient() -> None:
    clf, x = bound(DeepNet(), seed=2), images()
    activations, _ = ordinary(clf, x, TARGET, layer_of(clf))

    def gradient(scale: float) -> Tensor:
        leaf = (scale * activations).requires_grad_(True)
        logits = tail_of(clf, leaf)
        utility = logits.gather(1, TARGET[:, None]) - F.cross_entropy(logits, TARGET, reduction="none")[:, None]
        return torch.autograd.grad(utility.sum(), leaf)[0]

    weights = (gradient(1.0) - (gradient(1 + 1e-5) - gradient(1 - 1e-5)) / 4e-5).mean((2, 3))
    expected = torch.einsum("nk,nkhw->nhw", weights, activations).relu()
    close(METHODS.get("shapley-cam")(clf).attribute(x, TARGET), expected, 1e-7)
    score = METHODS.get("shapley-cam").build(clf, utility="score").attribute(x, TARGET)
    close(score, METHODS.get("grad-cam")(clf).attribute(x, TARGET).values)


@replicates("shapley-cam")
def _exact_shapley_values_of_a_quadratic_score() -> None:
    """For a score that is quadratic in the pooled channels the second order is exact."""
    clf, x = bound(GAPNet()), images()
    activations, _ = ordinary(clf, x, TARGET, layer_of(clf))
    pooled, weight, bias = activations.mean((2, 3)), clf.network.fc.weight[1], clf.network.fc.bias[1]
    linear, rest = weight * pooled, (pooled @ weight)[:, None]
    shapley = (linear * (rest + 2 * bias)).detach()  # of (sum_k linear_k + bias)^2: own square and half of each product
    found = METHODS.get("shapley-cam").build(clf, utility="score").attribute(x, lambda logits: logits[:, 1] ** 2)
    share = torch.where(pooled > 0, shapley / torch.where(pooled > 0, pooled, 1), 0) / 16
    close(found.values + 1, torch.einsum("nk,nkhw->nhw", share, activations).relu() + 1)


@replicates("recipro-cam")
def _cell_by_cell_through_the_tail() -> None:
    clf, x = bound(DeepNet(), seed=2), images()
    activations, _ = ordinary(clf, x, TARGET, layer_of(clf))
    beside, corner = float(np.exp(-0.5)), float(np.exp(-1.0))
    for spread, window in (
        (1.0, [[corner, beside, corner], [beside, 1, beside], [corner, beside, corner]]),
        (0.0, None),
    ):
        expected = torch.zeros(3, 4, 4, dtype=torch.float64)
        for row, column in np.ndindex(4, 4):
            cell = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
            cell[..., row, column] = 1
            if window is not None:
                cell = F.conv2d(cell, torch.tensor(window, dtype=torch.float64)[None, None], padding=1)
            share = tail_of(clf, activations * cell).softmax(1)
            expected[:, row, column] = share.gather(1, TARGET[:, None])[:, 0].detach()
        close(METHODS.get("recipro-cam").build(clf, spread=spread).attribute(x, TARGET), expected)


@replicates("recipro-cam")
def _full_forwards_where_the_tail_concatenates_the_stem() -> None:
    clf, x = bound(Joined(), seed=4), images(2)
    found = METHODS.get("recipro-cam").build(clf, layer="left", spread=0.0).attribute(x, 1)
    assert found.params["path"] == "full"
    expected = torch.zeros(2, 64, dtype=torch.float64)
    for cell in range(64):
        kept = clf.network.left(x).relu().flatten(2)[:, :, cell] / 64  # its mean, all else being zero
        pooled = torch.cat([kept, clf.network.right(x).relu().mean((2, 3))], 1)
        expected[:, cell] = clf.network.head(pooled).softmax(1)[:, 1].detach()
    close(found, expected.reshape(2, 8, 8))


@replicates("group-cam")
def _group_by_group() -> None:
    clf, x = bound(DeepNet(), mean=[0.4, 0.5, 0.6], std=[0.2, 0.25, 0.3], seed=4), images(3)
    activations, gradients = ordinary(clf, x, TARGET, layer_of(clf))
    inputs, dull = clf.normalize(x), clf.normalize(blurred(x, 8 * 10 / 224))

    def share(picture: Tensor, n: int) -> Tensor:
        return clf.logits(picture[None]).softmax(1)[0, TARGET[n]].detach()

    for count, removed, sizes in ((2, 0.7, (3, 2)), (32, 0.0, (1,) * 5)):
        expected = torch.zeros(3, 8, 8, dtype=torch.float64)
        for n in range(3):
            weighted = gradients[n].mean((1, 2))[:, None, None] * activations[n]
            for group in weighted.split(sizes):
                total = group.sum(0).relu().numpy()
                strong = total * (total > np.percentile(total, 100 * removed)) if removed else total
                kept = F.interpolate(torch.from_numpy(strong)[None, None], (8, 8), mode="bilinear")[0, 0]
                if kept.max() > kept.min():
                    kept = (kept - kept.min()) / (kept.max() - kept.min())
                    expected[n] += (share(dull[n] + kept * (inputs[n] - dull[n]), n) - share(dull[n], n)) * kept
        found = METHODS.get("group-cam").build(clf, groups=count, removed=removed).attribute(x, TARGET)
        close(found, expected.relu())


def confidence(clf: Classifier, pictures: Tensor, index: int) -> Tensor:
    """Return the probability (m,) of a class for pictures (m, C, H, W) in the network's coordinates."""
    return clf.logits(pictures).softmax(1)[:, index].detach()


@replicates("is-cam")
def _mean_of_score_cams_of_darker_pictures() -> None:
    """A masked picture at half strength is the masked picture of half strength: each step is a Score-CAM."""
    clf, x = bound(DeepNet(), seed=4), images()
    activations, _ = ordinary(clf, x, TARGET, layer_of(clf))
    expected = torch.zeros(3, 4, 4, dtype=torch.float64)
    for n, k in np.ndindex(3, 5):
        mask = F.interpolate(activations[n, k][None, None], (8, 8), mode="bilinear")[0, 0]
        if mask.max() > mask.min():
            mask = (mask - mask.min()) / (mask.max() - mask.min())
            steps = torch.stack([x[n] * strength * mask for strength in (0.25, 0.5, 0.75, 1.0)])
            expected[n] += confidence(clf, steps, int(TARGET[n])).mean() * activations[n, k]
    close(METHODS.get("is-cam").build(clf, steps=4).attribute(x, TARGET), expected.relu())
    score_cam = METHODS.get("score-cam")(clf).attribute(x, TARGET).values
    close(METHODS.get("is-cam").build(clf, steps=1).attribute(x, TARGET), score_cam)


@replicates("ss-cam")
def _is_score_cam_without_noise_and_near_its_expectation_with() -> None:
    clf, x = bound(DeepNet(), seed=4), images(1)
    score_cam = METHODS.get("score-cam")(clf).attribute(x, 1).values
    close(METHODS.get("ss-cam").build(clf, deviation=0.0, samples=2).attribute(x, 1), score_cam)
    activations, _ = ordinary(clf, x, torch.tensor([1]), layer_of(clf))
    stream, expected = torch.Generator().manual_seed(5), torch.zeros(1, 4, 4, dtype=torch.float64)
    for k in range(5):
        mask = F.interpolate(activations[:, k, None], (8, 8), mode="bilinear")[:, 0]
        if mask.max() > mask.min():
            mask = (mask - mask.min()) / (mask.max() - mask.min())
            noise = 2 * torch.randn(2000, 8, 8, generator=stream, dtype=torch.float64)
            expected += confidence(clf, x * (mask + noise)[:, None], 1).mean() * activations[:, k]
    found = METHODS.get("ss-cam").build(clf, deviation=2.0, samples=400).attribute(x, 1)
    close(found, expected.relu(), 0.01)
    assert float((expected.relu() - score_cam).abs().max() / expected.max()) > 0.02, "noise must matter"


@replicates("smooth-grad-cam-plus-plus")
def _powers_averaged_over_copies_drawn_by_hand() -> None:
    clf, x = bound(DeepNet(), mean=[0.4, 0.5, 0.6], std=[0.2, 0.25, 0.3], seed=2), images()
    cam = METHODS.get("smooth-grad-cam-plus-plus")
    plain = METHODS.get("grad-cam-plus-plus")(clf).attribute(x, TARGET).values
    close(cam.build(clf, samples=2, level=0.0).attribute(x, TARGET), plain)
    activations, _ = ordinary(clf, x, TARGET, layer_of(clf))
    batch = Batch(clf, x, TARGET, Context(seed=3))
    expected = torch.zeros(3, 4, 4, dtype=torch.float64)
    for n in range(3):
        sigma = 0.5 * (batch.inputs[n].max() - batch.inputs[n].min())
        copies = [batch.inputs[n] + sigma * copy_noise(batch, n, i) for i in range(3)]
        leaf = clf.network.features(torch.stack(copies)).detach().requires_grad_(True)
        (gradients,) = torch.autograd.grad(tail_of(clf, leaf)[:, TARGET[n]].sum(), leaf)
        one, two, three = (np.mean(gradients.numpy() ** power, axis=0) for power in (1, 2, 3))
        below = 2 * two + activations[n].numpy().sum((1, 2), keepdims=True) * three
        alpha = np.divide(two, below, out=np.zeros_like(two), where=below > 1e-7 * two)
        weights = torch.from_numpy((alpha * np.maximum(one, 0)).sum((1, 2)))
        expected[n] = torch.einsum("k,khw->hw", weights, activations[n]).relu()
    close(cam.build(clf, samples=3, level=0.5).attribute(x, TARGET, seed=3), expected)


@replicates("opti-cam")
def _by_autograd_through_mask_and_network() -> None:
    clf, x = bound(DeepNet(), mean=[0.4, 0.5, 0.6], std=[0.2, 0.25, 0.3], seed=4), images(3)
    activations, _ = ordinary(clf, x, TARGET, layer_of(clf))
    inputs = clf.normalize(x)
    for steps, rate in ((1, 0.1), (6, 0.5)):
        free = torch.zeros(3, 5, 1, 1, dtype=torch.float64, requires_grad=True)

        def mask(free: Tensor = free) -> Tensor:
            odds = free.exp()
            mixed = ((odds * activations).sum(1) / odds.sum(1))[:, None]
            large = F.interpolate(mixed, (8, 8), mode="bilinear")
            low, high = large.amin((2, 3), keepdim=True), large.amax((2, 3), keepdim=True)
            return (large - low) / (high - low)

        gradients, logits = torch.zeros(0, 3, 5, 1, 1, dtype=torch.float64), []
        for step in range(1, steps + 1):  # Adam by the weighted means of all gradients so far
            logits.append(clf.logits(inputs * mask()).gather(1, TARGET[:, None]).sum())
            gradients = torch.cat([gradients, torch.autograd.grad(logits[-1], free)[0][None]])
            age = torch.arange(step - 1, -1, -1, dtype=torch.float64)
            slow, fast = (base**age / (base**age).sum() for base in (0.999, 0.9))
            mean = torch.einsum("t,t...->...", fast, gradients)
            with torch.no_grad():
                free += rate * mean / torch.einsum("t,t...->...", slow, gradients**2).sqrt()
        assert steps == 1 or float((logits[-1] - logits[0]).detach()) > 1e-3
        found = METHODS.get("opti-cam").build(clf, steps=steps, rate=rate).attribute(x, TARGET)
        close(found, mask()[:, 0], 1e-5)


class TwoGrids(nn.Module):
    """Layers on a grid of 8 x 8 and one of 4 x 4, and a nonlinear head."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
        self.coarse = nn.Sequential(nn.Conv2d(4, 5, 3, stride=2, padding=1), nn.ReLU())
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(5 * 16, 6), nn.ReLU(), nn.Linear(6, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.coarse(self.fine(x)))


@replicates("poly-cam")
def _masks_one_by_one_and_mass_that_stays_in_its_cell() -> None:
    clf, x = bound(TwoGrids(), mean=[0.4, 0.5, 0.6], std=[0.2, 0.25, 0.3], seed=5), images(2)
    with torch.no_grad():
        clf.network.head[3].weight *= 4
    inputs = clf.normalize(x)

    def of_layer(n: int, channels: Tensor, kind: str) -> Tensor:
        total = torch.zeros_like(channels[0])
        for channel in channels:
            mask = F.interpolate(channel[None, None], (8, 8), mode="bilinear")[0, 0]
            if mask.max() > mask.min():
                mask = (mask - mask.min()) / (mask.max() - mask.min())
                kept, left, whole = confidence(
                    clf, torch.stack([mask, 1 - mask, 1 + 0 * mask])[:, None] * inputs[n], int(TARGET[n])
                )
                gain = {"increase": kept, "decrease": whole - left, "both": kept + whole - left}
                total += max(float(gain[kind]), 0) * channel
        return total.clamp(min=0)

    for kind in ("increase", "decrease", "both"):
        expected = torch.zeros(2, 8, 8, dtype=torch.float64)
        for n in range(2):
            fine_layer = clf.network.fine(inputs[n : n + 1]).detach()
            coarse_layer = clf.network.coarse(fine_layer).detach()[0]
            own = of_layer(n, fine_layer[0], kind)
            means = own.reshape(4, 2, 4, 2).mean((1, 3))  # what linear resampling to half the size gives
            large, around = (
                F.interpolate(m[None, None], (8, 8), mode="bilinear")[0, 0]
                for m in (of_layer(n, coarse_layer, kind), means)
            )
            expected[n] = large * (own / around).nan_to_num(0)
        found = METHODS.get("poly-cam").build(clf, weight=kind).attribute(x, TARGET[:2])
        assert (found.layer, found.params["shallower"]) == ("coarse", ("fine",))
        close(found, expected)
        single = METHODS.get("poly-cam").build(clf, weight=kind, layer="fine").attribute(x, TARGET[:2])
        assert (single.values.shape[1:], single.params["shallower"]) == ((8, 8), ())


@replicates("refine-cam")
def _derivatives_of_the_exponential_layer_by_layer() -> None:
    clf, x = bound(TwoGrids(), mean=[0.4, 0.5, 0.6], std=[0.2, 0.25, 0.3], seed=5), images(2)
    fine = clf.network.fine(clf.normalize(x)).detach().requires_grad_(True)
    coarse = clf.network.coarse(fine)
    score = clf.network.head(coarse).gather(1, TARGET[:2, None]).sum()
    product = np.ones((2, 8, 8))
    for layer, gradient in zip((fine, coarse), torch.autograd.grad(score, (fine, coarse)), strict=True):
        g, a = gradient.numpy(), layer.detach().numpy()
        for n in range(2):
            total = np.zeros(a.shape[2:])
            for k, y, z in zip(*np.nonzero(g[n] > 0), strict=True):
                share = g[n, k, y, z] ** 2 / (2 * g[n, k, y, z] ** 2 + a[n, k].sum() * g[n, k, y, z] ** 3)
                total += share * g[n, k, y, z] * a[n, k]
            large = F.interpolate(torch.from_numpy(total)[None, None], (8, 8), mode="bilinear")[0, 0].numpy()
            product[n] *= (large - large.min()) / np.ptp(large)
    found = METHODS.get("refine-cam").build(clf).attribute(x, TARGET[:2])
    assert (found.layer, found.params["shallower"]) == ("coarse", ("fine",))
    close(found, torch.from_numpy(product))
    for base in ("grad-cam", "layer-cam", "score-cam"):
        single = METHODS.get("refine-cam").build(clf, layer="fine", base=base).attribute(x, TARGET[:2])
        close(single, METHODS.get(base).build(clf, layer="fine").attribute(x, TARGET[:2]).heatmap())
