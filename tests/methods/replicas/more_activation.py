"""Further activation methods, derived a second time."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tests.methods.replicas import close, ordinary, replicates
from tests.networks import ConvolutionalHead, DeepNet, FlatNet, GAPNet, LinearNet, bound, images
from xaikit.methods.base import METHODS
from xaikit.model.classifier import Classifier


def layer_of(clf: Classifier) -> nn.Module:
    """Return the module whose output is explained."""
    return clf.network.get_submodule(clf.layer)


@replicates("grad-cam-plus-plus")
def _paper_formula_place_by_place() -> None:
    clf = bound(DeepNet(), seed=2)
    x, index = images(3), torch.tensor([0, 3, 1])
    activations, gradients = ordinary(clf, x, index, layer_of(clf))
    for variant in ("paper", "official", "local"):
        expected = torch.zeros(3, 4, 4, dtype=torch.float64)
        for n in range(3):
            for k in range(5):
                a, g = activations[n, k], gradients[n, k]
                cubes = (a * g**3).sum() if variant == "local" else a.sum() * g**3
                alpha = torch.where(g > 0, g**2 / (2 * g**2 + cubes), 0)
                alpha = alpha.nan_to_num(0)
                if variant == "official" and alpha.sum() > 0:
                    alpha = alpha / alpha.sum()
                expected[n] += (alpha * g.clamp_min(0)).sum() * a
        found = METHODS.get("grad-cam-plus-plus").build(clf, variant=variant).attribute(x, index)
        close(found, expected.clamp_min(0))


@replicates("grad-cam-plus-plus")
def _closed_form_on_the_architecture_of_cam() -> None:
    clf = bound(GAPNet())
    x = images()
    activations = F.relu(clf.network.conv2(F.relu(clf.network.conv1(x)))).detach()
    gradient = (clf.network.fc.weight[2] / 16).clamp_min(0).detach()
    weights = 16 * gradient / (2 + activations.sum((2, 3)) * gradient)
    expected = torch.einsum("nk,nkhw->nhw", weights, activations)
    for variant in ("paper", "local"):
        close(METHODS.get("grad-cam-plus-plus").build(clf, variant=variant).attribute(x, 2), expected)


@replicates("grad-cam-plus-plus")
def _not_linear_in_the_score() -> None:
    clf = bound(DeepNet(), seed=2)
    x = images()
    cam = METHODS.get("grad-cam-plus-plus")(clf)
    twice = cam.attribute(x, lambda logits: 8 * logits[:, 0]).heatmap()
    assert float((twice - cam.attribute(x, 0).heatmap()).abs().max()) > 1e-3


@replicates("xgrad-cam")
def _conserves_the_score_of_a_linear_tail() -> None:
    for network in (GAPNet(), FlatNet()):
        clf = bound(network)
        x = images()
        target = clf(x).argmax(1)
        activations, gradients = ordinary(clf, x, target, layer_of(clf))
        weights = (gradients * activations).sum((2, 3)) / activations.sum((2, 3))
        weights = weights.nan_to_num(0)
        raw = torch.einsum("nk,nkhw->nhw", weights, activations)
        close(METHODS.get("xgrad-cam")(clf).attribute(x), raw.clamp_min(0))
        close(raw.sum((1, 2)) + network.fc.bias[target], clf(x).amax(1))


@replicates("xgrad-cam")
def _is_grad_cam_where_the_gradient_is_constant() -> None:
    clf = bound(GAPNet())
    x = images()
    close(METHODS.get("xgrad-cam")(clf).attribute(x), METHODS.get("grad-cam")(clf).attribute(x).values)


@replicates("layer-cam")
def _by_ordinary_autograd_and_above_hires_cam() -> None:
    clf = bound(DeepNet())
    x, index = images(3), torch.tensor([2, 2, 0])
    activations, gradients = ordinary(clf, x, index, layer_of(clf))
    found = METHODS.get("layer-cam")(clf).attribute(x, index)
    close(found, (gradients.clamp_min(0) * activations).sum(1).clamp_min(0))
    assert bool((found.values >= METHODS.get("hires-cam")(clf).attribute(x, index).values - 1e-12).all())


@replicates("layer-cam")
def _fuses_several_layers_as_the_paper_says() -> None:
    clf = bound(ConvolutionalHead(), seed=3)
    x = images()
    single = {
        name: METHODS.get("layer-cam")(clf, layer=name).attribute(x, 1).values for name in ("features.1", "features.3")
    }
    shares = {name: values / values.amax((1, 2), keepdim=True) for name, values in single.items()}
    expected = torch.maximum(torch.tanh(2 * shares["features.1"]), shares["features.3"])
    found = METHODS.get("layer-cam").build(clf, layer="features.3", shallower="features.1").attribute(x, 1)
    close(found, expected)


@replicates("eigen-cam")
def _by_singular_value_decomposition() -> None:
    for network in (GAPNet(), ConvolutionalHead()):
        clf = bound(network)
        x = images()
        activations, _ = ordinary(clf, x, torch.zeros(3, dtype=torch.int64), layer_of(clf))
        for variant in ("uncentred", "centred"):
            rows = activations.flatten(2).transpose(1, 2)
            rows = rows - rows.mean(1, keepdim=True) if variant == "centred" else rows
            left, sizes, _ = torch.linalg.svd(rows, full_matrices=False)
            expected = (left[:, :, 0] * sizes[:, :1]).reshape(3, *activations.shape[2:])
            found = METHODS.get("eigen-cam").build(clf, variant=variant).attribute(x)
            sign = (found.values * expected).sum((1, 2), keepdim=True).sign()
            close(found, sign * expected, 1e-8)
            if variant == "uncentred":
                assert float(found.values.min()) >= -1e-12


@replicates("eigen-cam")
def _rank_one_gives_its_pattern() -> None:
    class Pattern(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 6, 1, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x).mean((2, 3))

    clf = bound(Pattern())
    grey = images(2)[:, :1].expand(2, 3, 8, 8)
    values = METHODS.get("eigen-cam")(clf, layer="conv").attribute(grey).values
    scale = values.flatten(1).norm(dim=1) / grey[:, 0].flatten(1).norm(dim=1)
    close(values.abs(), grey[:, 0] * scale[:, None, None], 1e-8)


@replicates("eigen-grad-cam")
def _eigen_grad_cam_by_singular_value_decomposition() -> None:
    for network in (GAPNet(), DeepNet(), ConvolutionalHead()):
        clf, x, index = bound(network), images(), torch.tensor([1, 0, 2])
        activations, gradients = ordinary(clf, x, index, layer_of(clf))
        for variant in ("uncentred", "centred"):
            rows = (activations * gradients).flatten(2).transpose(1, 2)
            rows = rows - rows.mean(1, keepdim=True) if variant == "centred" else rows
            _, _, right = torch.linalg.svd(rows, full_matrices=False)
            expected = (rows @ right[:, 0, :, None]).reshape(3, *activations.shape[2:])
            found = METHODS.get("eigen-grad-cam").build(clf, variant=variant).attribute(x, index)
            sign = (found.values * expected).sum((1, 2), keepdim=True).sign()
            close(found, sign * expected, 1e-8)
            if variant == "uncentred":
                hires = METHODS.get("hires-cam")(clf).attribute(x, index).values
                assert ((found.values * hires).sum((1, 2)) >= 0).all()


@replicates("eigen-grad-cam")
def _one_channel_is_its_share_of_the_score() -> None:
    clf, x = bound(OneChannel()), images()
    share = METHODS.get("hires-cam")(clf, layer="conv").attribute(x, 2).values
    assert float(share.abs().max()) > 0
    close(METHODS.get("eigen-grad-cam")(clf, layer="conv").attribute(x, 2), share)


class OneChannel(nn.Module):
    """A single activation map, whose principal direction is itself, followed by something that is not linear."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 3, padding=1)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.ReLU(), nn.Linear(6, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.conv(x))


@replicates("score-cam")
def _channel_by_channel() -> None:
    clf = bound(DeepNet(), mean=[0.4, 0.5, 0.6], std=[0.2, 0.25, 0.3], seed=4)
    x = images(2)
    activations, _ = ordinary(clf, x, torch.tensor([1, 1]), layer_of(clf))
    inputs = clf.normalize(x)
    for weight in ("probability", "softmax-logit", "softmax-probability"):
        expected = torch.zeros(2, 4, 4, dtype=torch.float64)
        for n in range(2):
            kept, spoken = [], [k for k in range(5) if activations[n, k].max() > activations[n, k].min()]
            for k in spoken:
                low = activations[n : n + 1, k : k + 1]
                mask = F.interpolate(low, size=(8, 8), mode="bilinear", align_corners=False)
                mask = (mask - mask.min()) / (mask.max() - mask.min())
                logits = clf.logits(inputs[n : n + 1] * mask)
                kept.append((logits if weight == "softmax-logit" else logits.softmax(1))[0, 1])
            weights = torch.stack(kept) if weight == "probability" else torch.stack(kept).softmax(0)
            expected[n] = torch.einsum("k,khw->hw", weights, activations[n, spoken]).detach()
        close(METHODS.get("score-cam").build(clf, weight=weight).attribute(x, 1), expected.clamp_min(0))


@replicates("score-cam")
def _a_model_that_answers_always_the_same_weighs_all_alike() -> None:
    clf = bound(GAPNet())
    with torch.no_grad():
        clf.network.fc.weight.zero_()
    x = images()
    activations, _ = ordinary(clf, x, torch.zeros(3, dtype=torch.int64), layer_of(clf))
    values = METHODS.get("score-cam").build(clf, weight="softmax-logit").attribute(x, 0).values
    spoken = activations.amax((2, 3)) > activations.amin((2, 3))
    close(values, (activations * spoken[:, :, None, None]).sum(1) / spoken.sum(1)[:, None, None])


@replicates("ablation-cam")
def _drops_by_setting_channels_to_zero() -> None:
    for network, path in ((GAPNet(), "closed-form"), (DeepNet(), "tail"), (FlatNet(), "tail")):
        clf = bound(network, seed=4)
        x = images(2)
        layer = layer_of(clf)
        activations, _ = ordinary(clf, x, torch.tensor([1, 1]), layer)
        clean = clf(x)[:, 1].detach()
        drops = torch.zeros(2, 5, dtype=torch.float64)
        for k in range(5):

            def silence(module: nn.Module, args: object, output: torch.Tensor, k: int = k) -> torch.Tensor:
                return torch.cat([output[:, :k], torch.zeros_like(output[:, :1]), output[:, k + 1 :]], 1)

            handle = layer.register_forward_hook(silence)
            drops[:, k] = clean - clf(x)[:, 1].detach()
            handle.remove()
        for divide, by in (("none", 1.0), ("magnitude", clean.abs()), ("score", clean)):
            weights = drops / by[:, None] if isinstance(by, torch.Tensor) else drops
            found = METHODS.get("ablation-cam").build(clf, divide=divide).attribute(x, 1)
            close(found.values + 1, torch.einsum("nk,nkhw->nhw", weights, activations).clamp_min(0) + 1)
            assert found.params["path"] == path


class Joined(nn.Module):
    """Two convolutions of the image, joined before the pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 2, 3, padding=1)
        self.head = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.cat([self.left(x).relu(), self.right(x).relu()], 1).mean((2, 3)))


@replicates("ablation-cam")
def _full_forwards_where_the_tail_concatenates_the_stem() -> None:
    clf = bound(Joined(), seed=4)
    x = images(2)
    found = METHODS.get("ablation-cam")(clf, layer="left").attribute(x, 1)
    assert found.params["path"] == "full"
    activations, _ = ordinary(clf, x, torch.tensor([1, 1]), clf.network.left)
    expected = torch.zeros(2, 8, 8, dtype=torch.float64)
    for k in range(4):
        changed = activations.clone()
        changed[:, k] = 0
        pooled = torch.cat([changed.relu(), clf.network.right(x).relu()], 1).mean((2, 3))
        drop = clf(x)[:, 1] - clf.network.head(pooled)[:, 1]
        expected += drop.detach()[:, None, None] * activations[:, k]
    close(found.values + 1, expected.clamp_min(0) + 1)


@replicates("relevance-cam")
def _closed_form_of_the_contrastive_start() -> None:
    clf = bound(GAPNet(classes=6))
    x = images()
    activations = F.relu(clf.network.conv2(F.relu(clf.network.conv1(x)))).detach()
    pooled, weight = activations.mean((2, 3)), clf.network.fc.weight.detach()
    target = clf(x).argmax(1)
    for others in (None, 1 / 1000):
        share = 1 / 6 if others is None else others
        start = torch.full((3, 6), -share, dtype=torch.float64).scatter(1, target[:, None], 1.0)
        parts = pooled[:, None, :] * weight.clamp_min(0)
        channel = ((parts / parts.sum(2, keepdim=True)) * start[:, :, None]).sum(1)
        found = METHODS.get("relevance-cam").build(clf, others=others).attribute(x)
        close(found, torch.einsum("nk,nkhw->nhw", channel, activations))
        assert torch.allclose(channel.sum(1), torch.full((3,), 1 - 5 * share, dtype=torch.float64))


@replicates("relevance-cam")
def _one_signed_pass_is_the_difference_of_two() -> None:
    """Through two linear maps, against dense matrices of the z+ rule."""
    clf = bound(DeepNet(classes=4), seed=2)
    x = images(2)
    activations = clf.network.features(x).detach()
    flat = activations.flatten(1)
    first, second = clf.network.head[0], clf.network.head[2]
    hidden = first(flat).relu().detach()

    def carried(start: torch.Tensor) -> torch.Tensor:
        for inputs, weight in ((hidden, second.weight), (flat, first.weight)):
            parts = inputs[:, None, :] * weight.detach().clamp_min(0)
            total = parts.sum(2, keepdim=True)
            start = (torch.where(total > 0, parts / total, 0) * start[:, :, None]).sum(1)
        return start.reshape_as(activations).sum((2, 3))

    target = F.one_hot(clf(x).argmax(1), 4).double()
    channel = carried(target) - carried((1 - target) / 4)
    close(METHODS.get("relevance-cam")(clf).attribute(x), torch.einsum("nk,nkhw->nhw", channel, activations))


@replicates("full-grad")
def _decomposes_the_score() -> None:
    class Normalised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.norm = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
            self.conv2, self.fc = nn.Conv2d(6, 5, 3, stride=2), nn.Linear(5, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(F.relu(self.conv2(F.relu(self.norm(self.conv1(x)), inplace=True))).mean((2, 3)))

    clf = bound(Normalised(), mean=[0.4, 0.5, 0.6], std=[0.2, 0.25, 0.3])
    stream = torch.Generator().manual_seed(1)
    for values in (clf.network.norm.running_mean, clf.network.norm.running_var):
        values.copy_(torch.rand(6, generator=stream, dtype=torch.float64) + 0.5)
    found = METHODS.get("full-grad")(clf).attribute(images(), 2)
    assert found.completeness is not None
    assert float(found.completeness.abs().max()) < 1e-12 * float(found.scores.abs().max() + 1)
    assert float(found.values.min()) >= 0


@replicates("full-grad")
def _map_by_hand() -> None:
    clf = bound(DeepNet())
    x = images(2)
    network = clf.network
    inputs = x.clone().requires_grad_(True)
    before = network.features[0](inputs)
    score = network.head(before.relu().flatten(1))[:, 1].sum()
    by_input, by_conv = torch.autograd.grad(score, [inputs, before])
    products = [x * by_input, by_conv * network.features[0].bias.detach()[None, :, None, None]]
    for scaling, axes in (("layer", (1, 2, 3)), ("channel", (2, 3))):
        expected = torch.zeros(2, 8, 8, dtype=torch.float64)
        for product in products:
            size = product.abs()
            low = size.amin(axes, keepdim=True)
            scaled = ((size - low) / (size.amax(axes, keepdim=True) - low)).nan_to_num(0)
            expected += F.interpolate(scaled, size=(8, 8), mode="bilinear", align_corners=True).sum(1)
        close(METHODS.get("full-grad").build(clf, scaling=scaling).attribute(x, 1), expected)


@replicates("full-grad")
def _without_biases_only_the_input_speaks() -> None:
    clf = bound(LinearNet())
    with torch.no_grad():
        clf.network.fc.bias.zero_()
    x = images(1)
    product = (x * clf.network.fc.weight[3].reshape(1, 3, 8, 8)).abs().detach()
    scaled = (product - product.min()) / (product.max() - product.min())
    close(METHODS.get("full-grad")(clf).attribute(x, 3), scaled.sum(1))


@replicates("full-grad")
def _biases_of_layer_norm_and_gelu_by_hand() -> None:
    """The normalisation hands on eps / (var + eps) of its input, GELU z phi(z) + Phi(z) per unit of it."""

    class Smooth(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.LayerNorm(6, eps=0.1)
            self.mix, self.fc = nn.Linear(6, 5), nn.Linear(5, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(F.gelu(self.mix(self.norm(self.conv(x).permute(0, 2, 3, 1)))).mean((1, 2)))

    clf, x = bound(Smooth(), seed=3), images(2)
    network = clf.network
    with torch.no_grad():
        network.norm.weight.uniform_(0.5, 2, generator=torch.Generator().manual_seed(0))
        network.norm.bias.copy_(torch.linspace(-1, 1, 6))
    inputs = x.clone().requires_grad_(True)
    convolved = network.conv(inputs)
    normed = network.norm(convolved.permute(0, 2, 3, 1))
    mixed = network.mix(normed)
    active = mixed * torch.special.ndtr(mixed)
    score = network.fc(active.mean((1, 2)))[:, 1]
    by_input, *others = torch.autograd.grad(score.sum(), [inputs, convolved, normed, mixed, active])
    variance = convolved.var(1, correction=0)[..., None].detach()
    standard = (normed.detach() - network.norm.bias) / network.norm.weight
    biases = [
        network.conv.bias[:, None, None].expand_as(convolved),
        network.norm.bias + network.norm.weight * standard * variance / (variance + 0.1),
        network.mix.bias.expand_as(mixed),
        -(mixed**2) * torch.exp(-(mixed**2) / 2) / (2 * torch.pi) ** 0.5,
    ]
    products = [x * by_input, *(bias * gradient for bias, gradient in zip(biases, others, strict=True))]
    total = sum(product.flatten(1).sum(1) for product in products) + network.fc.bias[1]
    close(total, score)
    expected = torch.zeros(2, 8, 8, dtype=torch.float64)
    for place, product in enumerate(products):
        size = (product if place < 2 else product.movedim(3, 1)).detach().abs()
        low, high = size.amin((1, 2, 3), keepdim=True), size.amax((1, 2, 3), keepdim=True)
        scaled = (size - low) / (high - low)
        expected += F.interpolate(scaled, size=(8, 8), mode="bilinear", align_corners=True).sum(1)
    found = METHODS.get("full-grad")(clf).attribute(x, 1)
    close(found, expected)
    assert float(found.completeness.abs().max()) < 1e-12
