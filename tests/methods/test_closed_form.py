"""Every method has a second derivation, and agrees with it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tests.methods.nets import ConvolutionalHead, DeepNet, FlatNet, GAPNet, LinearNet, bound, images
from tests.methods.replicas import REPLICAS, Replica, close, ordinary, replicates
from xaikit.core.method import METHODS
from xaikit.core.target import Contrast
from xaikit.methods.activation.libra_cam import contrast, kept_references
from xaikit.methods.activation.library import Library


@replicates("cam")
def _cam_is_the_linear_head() -> None:
    clf = bound(GAPNet())
    x = images()
    found = METHODS.get("cam")(clf).attribute(x, target=[0, 2, 3])
    net = clf.network
    activations = F.relu(net.conv2(F.relu(net.conv1(x))))
    close(
        found,
        torch.stack([torch.einsum("khw,k->hw", activations[i], net.fc.weight[c]) for i, c in enumerate([0, 2, 3])]),
    )
    bias = net.fc.bias[torch.tensor([0, 2, 3])]
    close(found.values.mean((1, 2)) + bias, found.scores)


@replicates("cam")
def _cam_of_a_convolutional_head_is_its_class_map() -> None:
    clf = bound(ConvolutionalHead(), seed=3)
    x = images()
    target = clf(x).argmax(1)
    found = METHODS.get("cam")(clf).attribute(x)
    maps = F.relu(clf.network.classifier[0](clf.network.features(x)))
    close(found, maps[torch.arange(3), target])
    close(found.values.mean((1, 2)), found.scores)


@replicates("cam")
def _cam_of_a_contrast_is_the_difference() -> None:
    clf = bound(GAPNet())
    x = images()
    cam = METHODS.get("cam")(clf)
    difference = cam.attribute(x, 1).values - cam.attribute(x, 2).values
    close(cam.attribute(x, Contrast(1, 2)), difference)


@replicates("grad-cam")
def _grad_cam_by_ordinary_autograd() -> None:
    for network in (GAPNet(), FlatNet(), DeepNet()):
        clf = bound(network)
        x = images(4)
        index = torch.tensor([0, 1, 2, 3])
        layer = network.relu if isinstance(network, GAPNet) else network.features
        activations, gradients = ordinary(clf, x, index, layer)
        expected = (gradients.mean((2, 3), keepdim=True) * activations).sum(1).clamp_min(0)
        close(METHODS.get("grad-cam")(clf).attribute(x, index), expected)


@replicates("grad-cam")
def _grad_cam_is_cam_on_its_architecture() -> None:
    clf = bound(GAPNet())
    x = images()
    cam = METHODS.get("cam")(clf).attribute(x)
    close(METHODS.get("grad-cam")(clf).attribute(x), (cam.values / cam.values[0].numel()).clamp_min(0))


@replicates("hires-cam")
def _hires_cam_sums_to_the_score_of_a_linear_tail() -> None:
    for network in (GAPNet(), FlatNet()):
        clf = bound(network)
        x = images()
        found = METHODS.get("hires-cam")(clf).attribute(x)
        close(found.values.sum((1, 2)) + network.fc.bias[found.target], found.scores)


@replicates("hires-cam")
def _hires_cam_by_ordinary_autograd() -> None:
    clf = bound(DeepNet())
    x = images()
    index = torch.tensor([3, 0, 1])
    activations, gradients = ordinary(clf, x, index, clf.network.features)
    close(METHODS.get("hires-cam")(clf).attribute(x, index), (activations * gradients).sum(1))


@replicates("libra-cam")
def _raw_contrast_with_a_zero_reference_is_hires_cam() -> None:
    clf = bound(DeepNet())
    x = images()
    hires = METHODS.get("hires-cam")(clf).attribute(x, 2)
    activations, gradients = ordinary(clf, x, torch.full((3,), 2), clf.network.features)
    close(contrast(activations, gradients, torch.zeros_like(activations[:1]))[:, 0], hires.values)


@replicates("libra-cam")
def _raw_contrast_sums_to_the_difference_of_logits() -> None:
    for network in (GAPNet(), FlatNet()):
        clf = bound(network)
        x, other = images(3), images(5, seed=9)
        index = torch.tensor([1, 2, 0])
        layer = network.relu if isinstance(network, GAPNet) else network.features
        activations, gradients = ordinary(clf, x, index, layer)
        references, _ = ordinary(clf, other, index.repeat(2)[:5], layer)
        raw = contrast(activations, gradients, references)
        difference = clf(x).gather(1, index[:, None]) - clf(other)[:, index].T
        close(raw.sum((2, 3)), difference.detach(), 1e-9)


@replicates("libra-cam")
def _whole_method_by_a_loop_over_images() -> None:
    """The published procedure, image by image and reference by reference, order and calibration official."""
    clf = bound(DeepNet(), seed=5)
    x = images(4, seed=6)
    data = images(24, seed=7)
    library = Library.build(clf, [(data, clf(data).argmax(1))], references=6)
    for calibrate in (None, "official", "fixed"):
        options = {"library": library, "references": 6, "calibrate": calibrate, "order": "official"}
        found = METHODS.get("libra-cam").build(clf, **options).attribute(x)
        for i in range(len(x)):
            expected = _libra_by_hand(clf, x[i], int(found.target[i]), library, calibrate)
            assert torch.allclose(found.values[i], expected, atol=1e-12)
        assert float(found.values.max()) > 0


def _libra_by_hand(clf, image, label, library, calibrate):
    def probability(pixels):
        return float(clf.probabilities(pixels[None])[0, label].detach())

    activations, gradients = ordinary(clf, image[None], torch.tensor([label]), clf.network.features)
    clean, maps, gains = probability(image), [], []
    for reference in library.references(label):
        raw = (gradients[0] * (activations[0] - reference)).sum(0)
        small = (raw - raw.min()) / (raw.max() - raw.min())
        large = F.interpolate(small[None, None], size=(8, 8), mode="bilinear", align_corners=False)[0, 0]
        maps.append(large)
        gains.append(probability(image * large) - clean)
    gains = torch.tensor(gains, dtype=torch.float64)
    better = gains > 0
    pool = gains[better] if better.any() else gains
    mean, deviation = pool.mean(), pool.std(unbiased=False)
    kept = better & (gains >= mean - deviation) if better.any() else gains > mean + deviation
    kept = kept if kept.any() else torch.ones_like(better)
    result = torch.stack([m for m, k in zip(maps, kept, strict=True) if k]).mean(0)
    if calibrate is None:
        return result
    order = result.flatten().argsort(stable=True)

    def dropped(level):
        flat = result.flatten().clone()
        flat[order[: 64 * level // 10]] = 0
        return flat.reshape(8, 8)

    increases = [max(probability(image * dropped(level)) - clean, 0.0) for level in range(10)]
    best = increases.index(max(increases))
    return dropped(best if calibrate == "fixed" else best + 1)


@replicates("saliency")
def _saliency_by_finite_differences() -> None:
    clf = bound(DeepNet(), mean=[0.4, 0.5, 0.6], std=[0.2, 0.25, 0.3])
    x = images(1)
    found = METHODS.get("saliency").build(clf, channels=True).attribute(x, 1)
    step = 1e-6
    expected = torch.zeros_like(x)
    inputs = clf.normalize(x)
    for place in range(x.numel()):
        moved = torch.zeros_like(inputs).flatten()
        moved[place] = step
        up, down = (clf.logits(inputs + sign * moved.reshape(x.shape))[0, 1] for sign in (1, -1))
        expected.flatten()[place] = (up - down).detach() / (2 * step)
    close(found, expected, 1e-6)
    close(METHODS.get("saliency")(clf).attribute(x, 1), expected.abs().amax(1), 1e-6)


@replicates("saliency")
def _saliency_of_a_linear_model_is_its_weights() -> None:
    clf = bound(LinearNet())
    weights = clf.network.fc.weight.reshape(4, 3, 8, 8)
    found = METHODS.get("saliency")(clf).attribute(images(2), [0, 3])
    close(found, weights[[0, 3]].abs().amax(1))


@replicates("integrated-gradients")
def _integrated_gradients_of_a_linear_model() -> None:
    clf = bound(LinearNet(), mean=[0.4, 0.5, 0.6], std=[0.2, 0.25, 0.3])
    x = images()
    weights = clf.network.fc.weight.reshape(4, 3, 8, 8)
    for steps in (1, 3, 50):
        found = METHODS.get("integrated-gradients").build(clf, steps=steps).attribute(x, 2)
        close(found, (clf.normalize(x) * weights[2]).sum(1))
        assert found.completeness is not None
        assert float(found.completeness.abs().max()) < 1e-12


@replicates("integrated-gradients")
def _integrated_gradients_by_a_fine_sum() -> None:
    clf = bound(DeepNet(), mean=[0.4, 0.5, 0.6], std=[0.2, 0.25, 0.3])
    x = images(2)
    inputs, steps = clf.normalize(x), 8
    black = clf.normalize(torch.zeros_like(x))
    total = torch.zeros_like(inputs)
    for m in range(steps):
        point = (black + (m + 0.5) / steps * (inputs - black)).requires_grad_(True)
        total += torch.autograd.grad(clf.logits(point)[:, 3].sum(), point)[0]
    found = METHODS.get("integrated-gradients").build(clf, steps=steps, baseline="black", channels=True).attribute(x, 3)
    close(found, (inputs - black) * total / steps)


@replicates("occlusion")
def _occlusion_of_a_linear_model() -> None:
    clf = bound(LinearNet())
    x = images()
    shares = (x * clf.network.fc.weight.reshape(4, 3, 8, 8)[1]).sum(1)
    found = METHODS.get("occlusion").build(clf, window=2, stride=2).attribute(x, 1)
    blocks = F.avg_pool2d(shares[:, None], 2)[:, 0] * 4
    close(found, blocks.repeat_interleave(2, 1).repeat_interleave(2, 2))
    whole = METHODS.get("occlusion").build(clf, window=8).attribute(x, 1)
    close(whole, shares.sum((1, 2), keepdim=True).expand(3, 8, 8))


@replicates("occlusion")
def _occlusion_by_a_loop_over_windows() -> None:
    clf = bound(DeepNet(), mean=[0.4, 0.5, 0.6], std=[0.2, 0.25, 0.3])
    x = images(2)
    total, cover = torch.zeros(2, 8, 8, dtype=torch.float64), torch.zeros(8, 8, dtype=torch.float64)
    clean = clf.probabilities(x)[:, 0]
    starts = [0, 2, 4, 5]
    for top in starts:
        for left in starts:
            covered = x.clone()
            covered[:, :, top : top + 3, left : left + 3] = 0
            drop = clean - clf.probabilities(covered)[:, 0]
            total[:, top : top + 3, left : left + 3] += drop.detach()[:, None, None]
            cover[top : top + 3, left : left + 3] += 1
    options = {"window": 3, "stride": 2, "fill": "black", "score": "probability"}
    close(METHODS.get("occlusion").build(clf, **options).attribute(x, 0), total / cover)


@replicates("random")
def _random_is_uniform_and_follows_the_image() -> None:
    clf = bound(GAPNet())
    x = images(2)
    values = METHODS.get("random")(clf).attribute(x).values
    assert 0 <= float(values.min()) <= float(values.max()) < 1
    assert abs(float(values.mean()) - 0.5) < 4 * (1 / 12 / values.numel()) ** 0.5
    assert not torch.equal(values[0], values[1])
    swapped = METHODS.get("random")(clf).attribute(x.flip(0)).values
    assert torch.equal(swapped, values.flip(0))
    assert not torch.equal(METHODS.get("random")(clf).attribute(x, seed=1).values, values)


@replicates("random-grid")
def _random_grid_is_coarse() -> None:
    clf = bound(GAPNet())
    found = METHODS.get("random-grid").build(clf, grid=5).attribute(images(2))
    assert found.values.shape == (2, 5, 5)
    assert 0 <= float(found.values.min()) <= float(found.values.max()) < 1
    assert found.heatmap().shape == (2, 8, 8)


@replicates("center")
def _center_is_a_bell() -> None:
    clf = bound(GAPNet())
    values = METHODS.get("center")(clf).attribute(images(1, size=9)).values[0]
    place = torch.linspace(-2, 2, 9, dtype=torch.float64)
    close(values, torch.outer(torch.exp(-(place**2) / 2), torch.exp(-(place**2) / 2)))


@replicates("edges")
def _edges_of_a_step() -> None:
    clf = bound(GAPNet())
    x = torch.zeros(1, 3, 8, 8, dtype=torch.float64)
    x[:, :, :, 4:] = 1
    expected = torch.zeros(1, 8, 8, dtype=torch.float64)
    expected[:, :, 3:5] = 4
    close(METHODS.get("edges")(clf).attribute(x), expected)


@replicates("ones")
def _ones_are_ones() -> None:
    found = METHODS.get("ones")(bound(GAPNet())).attribute(images(2))
    assert torch.equal(found.heatmap(), torch.ones(2, 8, 8, dtype=torch.float64))
    assert found.flags == [{"constant"}, {"constant"}]


@replicates("fake")
def _fake_hides_one_pixel() -> None:
    heatmap = METHODS.get("fake")(bound(GAPNet())).attribute(images(2)).heatmap()
    assert float(heatmap[:, 0, 0].sum()) == 0
    assert float(heatmap.sum()) == 2 * 63


@pytest.mark.parametrize(
    "replica",
    [pytest.param(one, id=f"{name}-{one.__name__.strip('_')}") for name, all_ in REPLICAS.items() for one in all_],
)
def test_agrees_with_its_second_derivation(replica: Replica) -> None:
    replica()


def test_every_method_has_a_second_derivation() -> None:
    assert sorted(REPLICAS) == METHODS.names()


def test_kept_references_in_the_three_branches() -> None:
    everything = torch.ones(1, 4, dtype=torch.bool)

    def kept(gains: list[float], present: torch.Tensor = everything) -> list[bool]:
        return kept_references(torch.tensor([gains]), present)[0].tolist()

    # Improved: 0.1, 0.5, 0.6 with mean 0.4 and deviation 0.216: 0.1 is below 0.184.
    assert kept([0.1, 0.5, 0.6, -0.3]) == [False, True, True, False]
    # None improves: mean -0.325, deviation 0.179: only -0.1 lies strictly above -0.146.
    assert kept([-0.1, -0.2, -0.4, -0.6]) == [True, False, False, False]
    # None improves and none stands out (all equal): all stay.
    assert kept([-0.2, -0.2, -0.2, -0.2]) == [True, True, True, True]
    # A reference that says nothing is never kept, whatever its gain.
    assert kept([0.9, -0.2, -0.2, -0.2], torch.tensor([[False, True, True, True]])) == [False, True, True, True]
    # One improved reference has no deviation and stays.
    assert kept([0.1, -0.5, -0.6, -0.3]) == [True, False, False, False]
