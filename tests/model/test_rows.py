"""A network must be a function of one image: what mixes a batch is warned of and flagged, reordered layers refused."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from tests import networks
from tests.methods.small import method
from tests.networks import Activated, GAPNet, images, seeded
from tests.networks.disguised import scripted
from xaikit.api import attribute, build_library, keep_curve
from xaikit.foundation.errors import BadInput, XaikitWarning
from xaikit.model.classifier import Classifier

# ---- logits that depend on the batch --------------------------------------------------------------------------------


def batch_attention(x: Tensor) -> Tensor:
    rows = x.flatten(1)
    return (torch.softmax(rows @ rows.T, 1) @ rows).view_as(x)


def first_takes_the_mean(x: Tensor) -> Tensor:
    return torch.cat([x.mean(0, keepdim=True), x[1:]])


MIXING: dict[str, Callable[[Tensor], Tensor]] = {
    "batch statistics": lambda x: F.batch_norm(x, None, None, training=True),
    "batch statistics by hand": lambda x: (x - x.mean((0, 2, 3), keepdim=True)) / x.std((0, 2, 3), keepdim=True),
    "batch mean": lambda x: F.relu(x - x.mean(0)),
    "batch maximum": lambda x: x / x.abs().max(),
    "batch attention": batch_attention,
    "first image as reference": lambda x: F.relu(x) - F.relu(x[:1]),
    "last image as reference": lambda x: F.relu(x) - F.relu(x[-1:]),
    "first image only": first_takes_the_mean,
    "softmax over the batch": lambda x: x.softmax(0),
    "running sum": lambda x: F.relu(x).cumsum(0),
    "position in the batch": lambda x: F.relu(x) * torch.arange(1, len(x) + 1).view(-1, 1, 1, 1),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", list(MIXING))
def test_a_network_that_mixes_images_is_warned_of_once_and_its_maps_are_flagged(name: str, dtype: Any) -> None:
    clf = Classifier(seeded(lambda: Activated(F.relu, MIXING[name]), dtype), size=8, name="mine")
    with pytest.warns(XaikitWarning, match="mine mixes the images of a batch.*explain with chunk_size=1") as told:
        clf.outline()
    assert len(told) == 1
    for count in (1, 3):
        for which in ("saliency", "hires-cam", "occlusion"):
            params = {"layer": "conv1"} if which == "hires-cam" else {}
            found = attribute(clf, images(count, dtype=dtype), 0, which, **params)
            assert all("mixes-images" in flags for flags in found.flags)
    assert clf.outline((12, 12)).rows.mixes


class Prepared(nn.Module):
    """Pixels prepared by the whole batch, as a careless pipeline does, before a convolution and a head."""

    def __init__(self, prepare: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.prepare = prepare
        self.net = nn.Sequential(
            nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(self.prepare(x))
        return out


PREPARED: dict[str, Callable[[Tensor], Tensor]] = {
    "centred": lambda x: x - x.mean(),
    "centred by channel": lambda x: x - x.mean((0, 2, 3), keepdim=True),
    "clipped at a quantile": lambda x: x.minimum(x.flatten().quantile(0.9)),
    "stretched": lambda x: (x - x.min()) / (x.max() - x.min()),
    "lightened where dark": lambda x: torch.where(x.mean() > 0, x, 2 * x + 0.3),
}


@pytest.mark.parametrize("size", [8, 96])
@pytest.mark.parametrize("name", list(PREPARED))
def test_pixels_prepared_by_the_batch_are_seen_whatever_the_weights(name: str, size: int) -> None:
    for seed in range(4):
        torch.manual_seed(seed)
        clf = Classifier(Prepared(PREPARED[name]), [0.5] * 3, [0.25] * 3, size=size)
        with pytest.warns(XaikitWarning, match="mixes the images of a batch"):
            assert clf.outline().rows.mixes


@pytest.mark.parametrize("name", ["centred by channel", "stretched"])
def test_functions_that_mix_images_are_seen_too(name: str) -> None:
    net = seeded(lambda: Prepared(PREPARED[name]), torch.float32)
    clf = Classifier.from_function(lambda x: net(x).softmax(1), size=8, mean=0.5, takes="torch")
    with torch.no_grad(), pytest.warns(XaikitWarning, match="mixes the images of a batch"):
        assert all("mixes-images" in flags for flags in attribute(clf, images(2).float(), 0, "occlusion").flags)


class Buffered(nn.Module):
    """Writes its logits into one tensor, as replayed CUDA graphs and bound outputs do."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.out = network, torch.empty(64, networks.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.out[: len(x)] = self.network(x)
        return self.out[: len(x)].detach()


DRAWING: dict[str, dict[str, Any]] = {
    "occlusion": {},
    "rise": {"samples": 40, "grid": 3},
    "lime": {"samples": 40, "segments": 9, "segmentation": "grid"},
    "kernel-shap": {"samples": 300, "segments": 9, "segmentation": "grid"},
}


@pytest.mark.slow
def test_outputs_written_into_one_tensor_are_kept_apart() -> None:
    x = images(3, dtype=torch.float32)
    fresh = seeded(lambda: Activated(F.relu, F.relu), torch.float32)
    reused = Buffered(fresh)
    clfs = [Classifier(fresh, size=8), Classifier(Buffered(fresh), size=8)]
    functions = [lambda pixels: fresh(pixels).detach(), lambda pixels: reused(pixels).numpy()]
    boxes = [Classifier.from_function(each, size=8, gives="logits", takes="torch") for each in functions]
    with torch.no_grad():
        for plain, same in (clfs, boxes):
            assert not same.outline().rows.mixes
            for which, params in DRAWING.items():
                one, other = (attribute(clf, x, 1, which, chunk_size=2, **params) for clf in (plain, same))
                assert torch.equal(one.values, other.values)
                assert torch.equal(one.scores, other.scores)
                assert torch.equal(one.probabilities, other.probabilities)
    curves = [keep_curve(clf, x, torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0)), 1) for clf in clfs]
    assert torch.allclose(curves[0].o, curves[1].o, atol=1e-6)
    assert torch.allclose(curves[0].y, curves[1].y, atol=1e-6)


def test_batch_norm_without_statistics_is_warned_of_once_and_flagged() -> None:
    clf = Classifier(seeded(lambda: Activated(F.relu, nn.BatchNorm2d(5, track_running_stats=False))), 0, size=8)
    with pytest.warns(XaikitWarning, match="BatchNorm with running statistics, got none in 'second'") as told:
        found = attribute(clf, images(2), 0, "saliency")
    assert len(told) == 1
    assert found.flags == [{"mixes-images"}] * 2


# ---- rows in another order ------------------------------------------------------------------------------------------


class Sorted(GAPNet):
    """Puts the images into another order inside, and back at the end; the logits are those of GAPNet."""

    def __init__(self, order: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        order = self.order(x)
        return super().forward(x[order])[order.argsort()]


ORDERS: dict[str, Callable[[Tensor], Tensor]] = {
    "from dark to bright": lambda x: x.mean((1, 2, 3)).argsort(),
    "from bright to dark": lambda x: x.mean((1, 2, 3)).argsort(descending=True),
    "by one pixel": lambda x: x[:, 0, 0, 0].argsort(),
    "backwards": lambda x: torch.arange(len(x)).flip(0),
    "rolled": lambda x: torch.arange(len(x)).roll(1),
}
BY_LAYER = ["grad-cam", "hires-cam", "layer-cam", "eigen-cam", "score-cam", "ablation-cam", "relevance-cam"]
BY_INPUT = ["saliency", "occlusion", "lrp", "integrated-gradients"]


@pytest.mark.parametrize("name", list(ORDERS))
def test_layers_whose_rows_are_in_another_order_are_refused(name: str) -> None:
    clf, plain = Classifier(seeded(lambda: Sorted(ORDERS[name])), size=8), Classifier(seeded(GAPNet), size=8)
    x = images(3)
    with warnings.catch_warnings():
        warnings.simplefilter("error", XaikitWarning)
        assert torch.allclose(clf(x), plain(x), rtol=0, atol=1e-12)
    for which in (*BY_LAYER, "full-grad"):
        with pytest.raises(BadInput, match=r"the network sorts a batch.*chunk_size=1, or use a method without") as told:
            attribute(clf, x, 0, which)
        assert "\n" not in str(told.value)
        each, expected = (attribute(one, x, 0, which, chunk_size=1) for one in (clf, plain))
        assert torch.allclose(each.values, expected.values, rtol=0, atol=1e-10)
    for which in BY_INPUT:
        found, expected = (method(which, one).attribute(x, 0) for one in (clf, plain))
        assert torch.allclose(found.values, expected.values, rtol=0, atol=1e-10)
    with pytest.raises(BadInput, match="the network sorts a batch"):
        build_library(clf, [(x, torch.tensor([0, 1, 2]))], 1)


class SortedLate(GAPNet):
    """Sorts only between the convolutions."""

    def forward(self, x: Tensor) -> Tensor:
        first = F.relu(self.conv1(x))
        order = first.mean((1, 2, 3)).argsort(descending=True)
        return self.fc(self.relu(self.conv2(first[order])).mean((2, 3)))[order.argsort()]


def test_only_the_reordered_layers_are_refused() -> None:
    clf, plain = Classifier(seeded(SortedLate), size=8), Classifier(seeded(GAPNet), size=8)
    assert "conv1" not in clf.outline().rows.reordered
    assert {"conv2", "relu"} <= clf.outline().rows.reordered
    found, expected = (attribute(one, images(3), 0, "hires-cam", layer="conv1") for one in (clf, plain))
    assert torch.allclose(found.values, expected.values, rtol=0, atol=1e-10)
    with pytest.raises(BadInput, match=r"layer 'conv2'.*sorts a batch"):
        attribute(clf, images(3), 0, "hires-cam", layer="conv2")


# ---- state between calls --------------------------------------------------------------------------------------------


class Remembering(GAPNet):
    """Keeps the mean of the last batch in an attribute."""

    last: Tensor | float = 0.0

    def forward(self, x: Tensor) -> Tensor:
        first = F.relu(self.conv1(x))
        last, self.last = self.last, first.detach().mean()
        return self.fc(self.relu(self.conv2(first + last)).mean((2, 3)))


class Smoothing(GAPNet):
    """Keeps a moving average, which repeated calls of one image do not change."""

    average: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        first = F.relu(self.conv1(x))
        mean = first.detach().mean()
        self.average = mean if self.average is None else 0.5 * self.average + 0.5 * mean
        return self.fc(self.relu(self.conv2(first / self.average)).mean((2, 3)))


@pytest.mark.parametrize("build", [Remembering, Smoothing])
def test_a_network_that_remembers_earlier_images_is_called_random(build: Callable[[], nn.Module]) -> None:
    clf = Classifier(seeded(build), size=8)
    with pytest.warns(XaikitWarning):
        found = attribute(clf, images(2), 0, "saliency")
    assert all(flags & {"random-network", "remembers-images"} for flags in found.flags)


class LastFrame(GAPNet):
    """Looks at the difference from the image before, as networks of videos do; the same image twice shows nothing."""

    last: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        last, self.last = x if self.last is None else self.last[: len(x)], x.detach().clone()
        return super().forward(x + F.relu(x - last))


class LastBatch(LastFrame):
    """Fails where the batch before had another shape."""

    def forward(self, x: Tensor) -> Tensor:
        assert self.last is None or self.last.shape == x.shape
        return super().forward(x)


@pytest.mark.parametrize("build", [LastFrame, LastBatch, Remembering])
def test_a_network_that_remembers_the_image_before_is_warned_of_once(
    build: Callable[[], nn.Module],
) -> None:
    net = seeded(build, torch.float32)
    function = Classifier.from_function(lambda x: net(x).detach(), size=8, gives="logits", takes="torch")
    for clf in (Classifier(seeded(build, torch.float32), 0, size=8, name="mine"), function):
        with torch.no_grad(), warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            found = attribute(clf, images(1, dtype=torch.float32), 0, "occlusion")
        if build is Remembering:  # in a first forward not even the same image has the same logits
            assert found.flags[0] & {"random-network", "remembers-images"}
        else:
            assert "remembers-images" in found.flags[0]
        assert len(told) == 1


# ---- decisions for a batch ------------------------------------------------------------------------------------------


class Early(GAPNet):
    """Gives early logits if all images are bright, as `decide` says; the noise of the inspection is not."""

    def __init__(self, decide: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.decide = decide
        self.early = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        first = F.relu(self.conv1(x))
        if self.decide(x.mean((1, 2, 3)) - 0.6):
            return self.early(first.mean((2, 3)))
        return self.fc(self.relu(self.conv2(first)).mean((2, 3)))


class EarlyScript(nn.Module):
    """Gives early logits if all images are bright."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.limit = limit
        self.early, self.late = nn.Linear(192, 4), nn.Linear(192, 4)

    def forward(self, x: Tensor) -> Tensor:
        if bool((x.mean((1, 2, 3)) - 0.6 > self.limit).all()):
            return self.early(x.flatten(1))
        return self.late(x.flatten(1))


def without_graph(margin: Tensor) -> float:
    with torch.no_grad():
        return float(margin.detach().min().clamp(0))


DECISIONS: dict[str, Callable[[Tensor], Any]] = {
    "all": lambda margin: (margin > 0).all(),
    "smallest": lambda margin: margin.min() > 0,
    "number": lambda margin: margin.detach().amin().item() > 0,
    "list": lambda margin: min(margin.detach().tolist()) > 0,
    "NumPy": lambda margin: (margin.detach().numpy() > 0).all(),
    "without a graph": without_graph,
    "counted": lambda margin: len(margin[margin > 0]) == len(margin),
    "places": lambda margin: len((margin > 0).nonzero()) == len(margin),
    "allclose": lambda margin: torch.allclose(margin.relu(), margin),
}


@pytest.mark.parametrize("name", list(DECISIONS))
def test_a_network_that_decides_for_a_batch_gives_each_image_its_own_map(name: str) -> None:
    clf = Classifier(seeded(lambda: Early(DECISIONS[name])), size=8)
    x = torch.cat([0.5 + 0.5 * images(1), 0.5 * images(2)])
    assert clf.outline().rows.decides
    alone = torch.cat([clf.logits(clf.normalize(each)) for each in x.split(1)])
    assert torch.equal(clf(x), alone)
    for which, params in {"saliency": {}, "hires-cam": {"layer": "conv1"}, "smooth-grad": {"samples": 4}}.items():
        together = attribute(clf, x, 0, which, **params)
        for i, image in enumerate(x.split(1)):
            assert torch.allclose(together.values[i], attribute(clf, image, 0, which, **params).values[0], atol=1e-12)
        assert not any("mixes-images" in flags for flags in together.flags)


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("form", ["function", "TorchScript"])
def test_a_decision_that_does_not_show_is_found_by_the_images_at_hand(form: str, early: bool) -> None:
    limit = 0.33 if early else -9.0
    net = seeded(lambda: Early(lambda margin: (margin > limit).all()), torch.float32)
    if form == "function":
        clf = Classifier.from_function(lambda x: net(2 * x - 1).detach(), size=8, gives="logits", takes="torch")
    else:
        clf = Classifier(scripted(EarlyScript(limit).eval()), mean=0.5, std=0.5, size=8)
    clf.outline()
    x = torch.cat([0.2 * images(1, dtype=torch.float32), 0.96 + 0.04 * images(1, dtype=torch.float32)])
    with torch.no_grad(), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", XaikitWarning)
        for which, params in {"occlusion": {"window": 6, "stride": 2}, "rise": {"samples": 20, "grid": 2}}.items():
            found = attribute(clf, x, 0, which, **params)
            assert all(("mixes-images" in flags) == early for flags in found.flags)
    assert len(told) == early


def test_a_number_that_does_not_come_from_the_image_is_no_decision() -> None:
    class Scaled(GAPNet):
        def forward(self, x: Tensor) -> Tensor:
            limit = torch.zeros(2)
            limit[1] = 3
            scaled = x * 2 if self.fc.weight.abs().sum() > limit.max() and x.ndim == 4 else x
            return super().forward(scaled)

    assert not Classifier(seeded(Scaled), size=8).outline().rows.decides


# ---- functions of one image -----------------------------------------------------------------------------------------


class Windows(GAPNet):
    """Cuts the images into parts, whose rows are no images."""

    def forward(self, x: Tensor) -> Tensor:
        parts = F.relu(self.conv1(x.unfold(2, 4, 4).flatten(1, 2).unflatten(1, (3, -1)).movedim(2, 1).flatten(0, 1)))
        return self.fc(self.relu(self.conv2(parts)).mean((2, 3))).unflatten(0, (len(x), -1)).mean(1)


class TokensFirst(nn.Module):
    """Attention over tokens (T, N, C)."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.attention, self.head = (
            nn.Conv2d(3, 8, 4, 4),
            nn.TransformerEncoderLayer(8, 2, 16),
            nn.Linear(8, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.attention(self.patch(x).flatten(2).permute(2, 0, 1)).mean(0))


class OneByOne(GAPNet):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([super(OneByOne, self).forward(image[None]) for image in x])


class OnlyOne(GAPNet):
    """Takes a single image."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.view(1, 3, 8, 8))


CLEAN: dict[str, Callable[[], nn.Module]] = {name: made[0] for name, made in networks.CLASSIFIERS.items()}
CLEAN |= {"windows": Windows, "tokens first": TokensFirst, "one by one": OneByOne, "only one": OnlyOne}
CLEAN |= {
    "instance norm": lambda: Activated(nn.InstanceNorm2d(4), F.relu),
    "batch norm": lambda: Activated(nn.BatchNorm2d(4), F.relu),
    "image statistics": lambda: Activated(F.relu, lambda x: x / x.std((1, 2, 3), keepdim=True)),
    "steep": lambda: GAPNet(end=lambda z: (40000 * z).sin()),
    "efficientnet_b0": torchvision.models.efficientnet_b0,
    "resnet18": torchvision.models.resnet18,
    "mobilenet_v3_small": torchvision.models.mobilenet_v3_small,
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", list(CLEAN))
@pytest.mark.slow
def test_a_function_of_one_image_is_neither_warned_of_nor_refused(name: str, dtype: Any) -> None:
    clf = Classifier(seeded(CLEAN[name], dtype).eval(), size=8 if "net" not in name else 32)
    with warnings.catch_warnings():
        warnings.simplefilter("error", XaikitWarning)
        rows = clf.outline().rows
    assert (rows.mixes, rows.decides, rows.remembers) == (False, False, False)
    assert not rows.reordered


# ---- another first axis ---------------------------------------------------------------------------------------------


class RowsFirst(nn.Module):
    """Code that puts rows or tokens before the images: (rows, N, C, w), then linear maps on (T, N, C)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.rows = nn.Conv2d(3, 4, 3, 2, 1), nn.Identity()
        self.tokens, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.rows(self.stem(x).permute(2, 0, 1, 3))  # (4, N, C, 4)
        return self.head(F.relu(self.tokens(x.permute(0, 3, 1, 2).flatten(0, 1))).mean(0))


@pytest.mark.parametrize(("method", "layer"), [("hires-cam", "rows"), ("eigen-cam", "rows"), ("full-grad", None)])
@pytest.mark.parametrize("count", [2, 4, 16])
def test_an_axis_before_the_images_is_refused_also_where_its_length_is_their_number(
    method: str, layer: str | None, count: int
) -> None:
    clf = Classifier(seeded(RowsFirst, torch.float32), 0, size=8)
    options = {} if layer is None else {"layer": layer}
    with pytest.raises(BadInput, match="another first axis"):
        attribute(clf, images(count, dtype=torch.float32), 0, method, **options)
