"""Insertion, deletion, SRG and AOPC: closed forms, identities between curves, and what they share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from tests.networks import heatmaps, pictures, small, summing
from xaikit.foundation.errors import BadInput
from xaikit.images.shapes import unit
from xaikit.images.synthetic import draw
from xaikit.measures.base import MEASURES, Measure, Subject
from xaikit.measures.removal.aopc import AOPC
from xaikit.measures.removal.deletion import Deletion
from xaikit.measures.removal.insertion import Insertion
from xaikit.measures.removal.keep_curve import keep_curve
from xaikit.measures.removal.keep_curve_measures import KeepAUC
from xaikit.measures.removal.levels import SortedMaps
from xaikit.measures.removal.protocol import KeepProtocol
from xaikit.measures.removal.shared_curves import curve
from xaikit.measures.removal.srg import SRG
from xaikit.methods.base import METHODS, attribute_all
from xaikit.model.classifier import Classifier
from xaikit.model.target import Target
from xaikit.run.context import Context
from xaikit.zoo.load import load

ORDERED: list[Callable[..., Measure]] = [Insertion, Deletion, SRG, AOPC]


def different(count: int, size: tuple[int, int] = (9, 7), seed: int = 3) -> Tensor:
    """Maps without ties, in (0, 1)."""
    stream = torch.Generator().manual_seed(seed)
    pixels = size[0] * size[1]
    orders = [torch.randperm(pixels, generator=stream) for _ in range(count)]
    return ((torch.stack(orders) + 1) / (pixels + 2)).reshape(count, *size)


def subject(maps: Tensor | None = None, context: Context | None = None) -> Subject:
    maps = different(4) if maps is None else maps
    target = torch.tensor([0, 1, 2, 0])[: len(maps)]
    return Subject(small().eval(), pictures(len(maps)), maps, target, context=context or Context())


def near(values: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(values, expected, rtol=0, atol=tolerance)


# ---- a network whose pixels each give a known part of the score -----------------------------------------------------


def additive(side: int) -> tuple[Classifier, Tensor, Tensor]:
    """A network f = sum_p relu(w . x_p) set by hand, an image, and each pixel's part p / sum p of the score, shuffled.

    Pixels do not meet, so that removing them by descending part is the best and by ascending part the worst order.
    """
    count = side * side
    network = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    colours = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]) * count
    network[0].weight = nn.Parameter(colours[:, :, None, None].double())  # type: ignore[assignment]
    place = torch.randperm(count, generator=torch.Generator().manual_seed(0)).double() + 1
    parts = (place / place.sum()).reshape(1, side, side)
    image = torch.stack([parts, torch.rand(parts.shape, dtype=torch.float64), torch.zeros_like(parts)], 1)
    return Classifier(network.double(), output="regression", channels=3), image, parts


def test_best_and_worst_areas_of_an_additive_model() -> None:
    """With parts p / sum p and one pixel a step, the best insertion is (4P - 1) / 6P and the worst (2P + 1) / 6P."""
    classifier, image, parts = additive(6)
    count = parts.numel()
    best, worst = (4 * count - 1) / (6 * count), (2 * count + 1) / (6 * count)
    truth, other = parts / parts.max(), (parts.max() - parts) / parts.max()

    def value(measure: Measure, maps: Tensor) -> float:
        target = Target(torch.tensor([0]), function=lambda logits: logits[:, 0])
        return float(measure.compute(Subject(classifier, image, maps, target)))

    assert value(Insertion(steps=count), truth) == pytest.approx(best, abs=1e-12)
    assert value(Insertion(steps=count), other) == pytest.approx(worst, abs=1e-12)
    assert value(Deletion(steps=count), truth) == pytest.approx(worst, abs=1e-12)
    assert value(Deletion(steps=count), other) == pytest.approx(best, abs=1e-12)
    assert value(SRG(steps=count), truth) == pytest.approx(best - worst, abs=1e-12)
    assert value(SRG(steps=count), other) == pytest.approx(worst - best, abs=1e-12)
    # y = 1; of the deletion curve the mean of its P + 1 values: sum_k k (k + 1) / (P (P + 1)) = (P + 2) / 3
    assert value(AOPC(steps=count), truth) == pytest.approx(1 - (count + 2) / (3 * (count + 1)), abs=1e-12)
    for seed in range(1, 6):
        random = different(1, (6, 6), seed)
        assert worst < value(Insertion(steps=count), random) < best
        assert worst < value(Deletion(steps=count), random) < best


def test_deletion_and_aopc_by_hand() -> None:
    """The pixels of the golden image in descending order of its map, their sums as they go, p = sigmoid of the sum."""
    image = torch.tensor([1, 0.8, 0.6, 0.4, 0.25, -0.2, -0.4, -0.6, 0.5, 0.3], dtype=torch.float64)
    one = torch.tensor([1, 0.9, 0.8, 0.7, 0.6, 0, 0.1, 0.2, 0.5, 0.4], dtype=torch.float64).reshape(1, 2, 5)
    left = torch.tensor([2.65, 1.65, 0.85, 0.25, -0.15, -0.4, -0.9, -1.2, -0.6, -0.2, 0], dtype=torch.float64)
    golden = Subject(summing(), image.reshape(1, 1, 2, 5), one, torch.tensor([1]))
    p = left.sigmoid()
    near(Deletion(steps=10).compute(golden), torch.trapezoid(p, dx=0.1)[None])
    near(AOPC(steps=10).compute(golden), (p[0] - p).mean()[None])
    near(SRG().compute(golden), 0.897973 - torch.trapezoid(p, dx=0.1)[None], 1e-6)


# ---- identities -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [10, 7])
def test_one_curve_three_names(steps: int) -> None:
    """Insertion with the mean fill = binary keep curve = LeRF; deletion = MoRF; SRG is their difference."""
    one = subject(heatmaps(4))
    lerf = keep_curve(one.classifier, one.pixels, one.maps, one.target, levels=steps, mask="binary")
    morf = keep_curve(one.classifier, one.pixels, one.maps, one.target, levels=steps, mask="binary", order="highest")
    assert torch.equal(Insertion(steps).compute(one), KeepAUC("binary", steps).compute(one))
    near(Insertion(steps).compute(one), lerf.auc(), 1e-6)
    near(Deletion(steps).compute(one), morf.auc(), 1e-6)
    assert torch.equal(SRG(steps).compute(one), Insertion(steps).compute(one) - Deletion(steps).compute(one))
    near(AOPC(steps).compute(one), morf.y - morf.o.mean(1), 1e-6)


def test_the_inverted_map_turns_the_sign_where_nothing_ties() -> None:
    maps = different(4)
    near(SRG(20).compute(subject(1 - maps)), -SRG(20).compute(subject(maps)), 1e-6)
    near(Deletion(20).compute(subject(maps)), Insertion(20).compute(subject(1 - maps)), 1e-6)


def test_a_constant_map_has_no_gain_at_all() -> None:
    for value in (0.0, 0.5, 1.0):
        one = subject(torch.full((4, 9, 7), value))
        assert SRG().compute(one).tolist() == [0.0] * 4
        assert torch.equal(Insertion().compute(one), Deletion().compute(one))


def test_random_orders_have_no_gain_on_average() -> None:
    classifier = small().eval()
    pixels = pictures(1).expand(200, -1, -1, -1)
    one = Subject(classifier, pixels, different(200), torch.zeros(200, dtype=torch.int64))
    gains = SRG(4).compute(one)
    assert float(gains.std()) > 0.01
    assert abs(float(gains.mean())) < 3 * float(gains.std()) / 200**0.5


def test_monotone_changes_of_a_map_change_nothing() -> None:
    maps = different(4).double()
    for measure in (Insertion(), Deletion(), SRG(), AOPC()):
        near(measure.compute(subject(maps**3 / 2)), measure.compute(subject(maps)), 1e-6)


def test_blur_is_another_start() -> None:
    one = subject()
    blur = Insertion(fill="blur").compute(one)
    expected = keep_curve(one.classifier, one.pixels, one.maps, one.target, 50, "binary", "blur").auc()
    near(blur, expected, 1e-6)
    assert (blur - Insertion().compute(one)).abs().min() > 1e-4


# ---- the order of the highest ---------------------------------------------------------------------------------------


def test_the_highest_go_first_and_ties_in_row_major_order() -> None:
    maps = heatmaps(5)
    places = SortedMaps.of(maps).descending_ranks[0].long()
    order = maps.flatten(1).argsort(dim=1, descending=True, stable=True)
    assert torch.equal(places.argsort(1), order)


def test_ties_go_in_the_same_drawn_order_either_way() -> None:
    maps = heatmaps(3)
    stream = torch.Generator().manual_seed(0)
    shuffles = torch.stack([torch.stack([torch.randperm(63, generator=stream) for _ in range(3)]) for _ in range(2)])
    both = SortedMaps.of(maps, shuffles)
    for order in range(2):
        up, down = both.ranks[order].long(), both.descending_ranks[order].long()
        assert torch.equal(down.sort(1).values, torch.arange(63).expand(3, -1))
        for image in range(3):
            values = maps[image].flatten()
            for tied in [values == value for value in values.unique()]:
                assert torch.equal(up[image][tied].argsort(), down[image][tied].argsort())
            assert (values[down[image].argsort()].diff() <= 0).all()


def test_deletion_equals_its_definition() -> None:
    """Image by image and level by level, the highest pixels first, ties in row-major order."""
    one = subject(heatmaps(4))
    found = curve(one, KeepProtocol(10, "binary", order="highest")).o
    for i in range(4):
        values = one.maps[i].flatten().tolist()
        order = sorted(range(63), key=lambda place, values=values: -values[place])  # type: ignore[misc]
        for j in range(11):
            mask = torch.ones(63)
            mask[order[: 63 * j // 10]] = 0
            masked = one.classifier.normalize(one.pixels[i : i + 1]) * mask.reshape(9, 7)
            with torch.no_grad():
                expected = one.classifier.logits(masked).softmax(1)[0, one.target[i]]
            assert float(found[i, j]) == pytest.approx(float(expected), abs=1e-6)


# ---- what is shared -------------------------------------------------------------------------------------------------


def test_curves_share_levels_the_clean_image_and_the_floor() -> None:
    one = subject()
    spent = one.context.counters

    def forwards(measure: Measure) -> int:
        before = spent.forwards
        measure.compute(one)
        return spent.forwards - before

    assert forwards(Insertion(50)) == 4 * 49 + 4 + 1  # y of four images, and one floor
    assert forwards(KeepAUC("binary", 10)) == 0  # its levels are among the fifty
    assert forwards(Deletion(50)) == 4 * 49
    assert [forwards(one) for one in (SRG(10), SRG(50), SRG(25), AOPC(50))] == [0, 0, 0, 0]
    assert forwards(Insertion(20)) == 4 * 10  # every other level is among the fifty
    assert forwards(KeepAUC("soft", 10)) == 4 * 10


def test_declared_costs_are_spent() -> None:
    for name in ("insertion", "deletion", "srg", "aopc"):
        one, measure = subject(), MEASURES.get(name)()
        measure.compute(one)
        assert one.context.counters.forwards == 4 * measure.cost().forwards + 4 + 1


def test_levels_taken_over_are_those_measured_alone() -> None:
    context = Context()
    one = subject(context=context)
    Insertion(50).compute(one)
    shared = curve(one, KeepProtocol(10, "binary"))
    alone = curve(subject(context=context), KeepProtocol(10, "binary"))
    assert torch.equal(shared.o, alone.o)
    assert torch.equal(shared.kept, alone.kept)
    assert (shared.forwards, shared.reused) == (0, 44)
    assert (alone.forwards, alone.reused) == (36, 8)


def test_one_sort_serves_all_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    sorts: list[int] = []
    of = SortedMaps.of.__func__  # type: ignore[attr-defined]

    def counted(cls: type[SortedMaps], *args: Any) -> SortedMaps:
        sorts.append(1)
        return of(cls, *args)  # type: ignore[no-any-return]

    monkeypatch.setattr(SortedMaps, "of", classmethod(counted))
    one = subject()
    for measure in (Insertion(), Deletion(), SRG(), KeepAUC(), AOPC(), MEASURES.get("road")()):
        measure.compute(one)
    assert len(sorts) == 1


@pytest.mark.parametrize("kind", ORDERED)
def test_chunks_order_and_neighbours_change_nothing(kind: Callable[..., Measure]) -> None:
    whole = kind(10).compute(subject(context=Context(chunk_size=64)))
    near(kind(10).compute(subject(context=Context(chunk_size=3))), whole, 1e-6)
    order = torch.tensor([2, 0, 3, 1])
    one = subject()
    for rows in (order, order[:1], order[1:3]):
        part = Subject(one.classifier, one.pixels[rows], one.maps[rows], one.target[rows])
        near(kind(10).compute(part), whole[rows], 1e-6)


# ---- maps and parameters that do not fit ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ORDERED)
def test_a_map_that_is_not_finite_is_left_out_alone(kind: Callable[..., Measure]) -> None:
    maps = different(4)
    maps[1, 2, 3] = torch.inf
    values, whole = kind().compute(subject(maps)), kind().compute(subject())
    assert values.isnan().tolist() == [False, True, False, False]
    near(values[[0, 2, 3]], whole[[0, 2, 3]], 1e-6)


@pytest.mark.parametrize("kind", ORDERED)
def test_parameters_that_do_not_fit_are_refused(kind: Callable[..., Measure]) -> None:
    with pytest.raises(BadInput, match="steps: expected a whole number from 1, got 0"):
        kind(steps=0)
    with pytest.raises(BadInput, match="mean, black"):
        kind(fill="grey")


@pytest.mark.parametrize(
    ("switches", "words"),
    [
        ({"order": "random"}, "lowest or highest"),
        ({"order": "highest"}, "binary masks by area"),
        ({"order": "highest", "mask": "binary", "threshold": "otsu"}, "binary masks by area"),
        ({"fill": "imputed"}, "imputed expects binary"),
    ],
)
def test_switches_that_do_not_go_together_are_refused(switches: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        KeepProtocol(**switches)


# ---- images whose evidence is known ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["srg", "road"])
def test_the_order_holds_where_the_evidence_is_known(name: str) -> None:
    classifier, scene = load("texture-cnn"), draw(12, 5)
    methods = [METHODS.get(one)(classifier) for one in ("grad-cam", "center", "random", "ones")]
    maps = {one.method: one.heatmap() for one in attribute_all(methods, scene.pixels, scene.labels, Context())}
    maps |= {"object": scene.objects.float(), "anti-oracle": (~scene.objects).float()}
    subjects = {key: Subject(classifier, scene.pixels, one, scene.labels) for key, one in maps.items()}
    scores = {key: float(MEASURES.get(name)().compute(one).mean()) for key, one in subjects.items()}
    assert min(scores["object"], scores["grad-cam"]) > scores["center"] > max(scores["random"], scores["ones"])
    assert min(scores["random"], scores["ones"]) > scores["anti-oracle"]
    assert abs(scores["random"]) < 0.05
    assert abs(scores["ones"]) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("name", ["srg", "insertion"])
def test_a_corrupted_object_mask_scores_worse_and_worse(name: str) -> None:
    """Normal noise: uniform noise of less than half the weight leaves the object's pixels above all others."""
    classifier, scene = load("texture-cnn"), draw(40, 5)
    noise = torch.randn(scene.objects.shape, generator=torch.Generator().manual_seed(0))
    weights = [0.0, 0.25, 0.5, 0.75, 1.0]
    maps = {str(weight): unit((1 - weight) * scene.objects + weight * noise)[0] for weight in weights}
    subjects = {key: Subject(classifier, scene.pixels, one, scene.labels) for key, one in maps.items()}
    scores = [float(MEASURES.get(name)(steps=10).compute(one).mean()) for one in subjects.values()]
    assert spearmanr(weights, scores).statistic <= -0.9, scores


# ---- torchcam -------------------------------------------------------------------------------------------------------


class Given:
    """What torchcam's metrics take for an extractor: a model, and maps that are given."""

    def __init__(self, model: nn.Module, maps: Tensor) -> None:
        self.model, self.maps = model, maps

    def __call__(self, class_idx: Any, scores: Tensor, **_: Any) -> list[Tensor]:
        return [self.maps]

    def fuse_cams(self, cams: list[Tensor]) -> Tensor:
        return cams[0]

    @contextmanager
    def _hooks_off(self) -> Iterator[None]:
        yield


def compared(maps: Tensor) -> tuple[Subject, Tensor, Given]:
    """Our subject, and for torchcam the images as its model takes them and its extractor."""
    classifier = small().eval()
    one = Subject(classifier, pictures(len(maps), size=(16, 16)), maps, torch.tensor([0, 1, 2]))
    return one, classifier.normalize(one.pixels), Given(classifier.network, maps)


@pytest.mark.backends
def test_torchcam_measures_the_same_insertion_and_deletion() -> None:
    """Where steps divide the pixels and nothing ties; see the next test for ties."""
    metrics = pytest.importorskip("torchcam.metrics", reason="the extra `backends` is missing")
    one, inputs, given = compared(different(3, (16, 16)))
    theirs = metrics.DeletionInsertionMetric(given, partial(torch.softmax, dim=-1), steps=16)
    theirs.update(inputs, class_idx=[0, 1, 2])
    summary = theirs.summary()
    assert float(Insertion(16).compute(one).mean()) == pytest.approx(summary["insertion_auc"], abs=1e-6)
    assert float(Deletion(16).compute(one).mean()) == pytest.approx(summary["deletion_auc"], abs=1e-6)


@pytest.mark.backends
def test_torchcam_inserts_tied_pixels_in_the_other_order() -> None:
    """It brings the first of equal pixels in first; ours takes the first out first. Deletion agrees."""
    metrics = pytest.importorskip("torchcam.metrics", reason="the extra `backends` is missing")
    one, inputs, given = compared(heatmaps(3, (16, 16)))
    theirs = metrics.DeletionInsertionMetric(given, partial(torch.softmax, dim=-1), steps=16)
    theirs.update(inputs, class_idx=[0, 1, 2])
    summary = theirs.summary()
    turned = Subject(one.classifier, one.pixels.flip(2, 3), one.maps.flip(1, 2), one.target)
    turned.classifier = Classifier(Turned(one.classifier.network), mean=[0.45] * 3, std=[0.25] * 3)
    assert float(Deletion(16).compute(one).mean()) == pytest.approx(summary["deletion_auc"], abs=1e-6)
    assert float(Insertion(16).compute(turned).mean()) == pytest.approx(summary["insertion_auc"], abs=1e-6)
    assert abs(float(Insertion(16).compute(one).mean()) - summary["insertion_auc"]) > 1e-4


class Turned(nn.Module):
    """A network that sees the image turned by half a circle, so that the last pixel is the first."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor) -> Tensor:
        return self.network(inputs.flip(2, 3))  # type: ignore[no-any-return]


@pytest.mark.backends
def test_torchcam_measures_the_same_average_drop_and_increase() -> None:
    """apd and ir at t = 0 with soft masks; it adds 1e-7 to y."""
    metrics = pytest.importorskip("torchcam.metrics", reason="the extra `backends` is missing")
    one, inputs, given = compared(heatmaps(3, (16, 16)).clamp(max=1))
    theirs = metrics.ClassificationMetric(given, partial(torch.softmax, dim=-1))
    theirs.update(inputs, class_idx=[0, 1, 2])
    summary = theirs.summary()
    assert summary["avg_drop"] > 0.01
    assert float(MEASURES.get("apd")().compute(one).mean()) == pytest.approx(summary["avg_drop"], abs=1e-5)
    assert float(MEASURES.get("ir")().compute(one).mean()) == pytest.approx(summary["conf_increase"], abs=1e-12)
