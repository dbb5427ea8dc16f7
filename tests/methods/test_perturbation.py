"""What is under all perturbation methods: the scorer, the fills, the segments, and what is said of bad input."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
import torch
from rich.progress import Progress
from torch import Tensor

import xaikit
from tests.networks import DeepNet, GAPNet, bound, images
from xaikit.cli.terminal import ProgressCallback
from xaikit.foundation.errors import BadInput
from xaikit.images.fills import inpainted, segment_mean
from xaikit.methods.base import METHODS
from xaikit.methods.perturbation.scorer import Scorer
from xaikit.methods.perturbation.segments import segment
from xaikit.model.classifier import Classifier
from xaikit.run import context as context_module
from xaikit.run.batch import Batch
from xaikit.run.context import Context

BY_SEGMENTS = {"feature-ablation": {}, "lime": {"samples": 100}, "kernel-shap": {}}


def scorer(clf: Classifier, pixels: Tensor, context: Context | None = None, **options: Any) -> Scorer:
    return Scorer(Batch(clf, pixels, 1, context or Context()), **options)


def stripes(count: int, size: tuple[int, int] = (8, 8)) -> Tensor:
    """Return `count` masks (count, H, W) that each keep other columns."""
    columns = torch.arange(size[1])[None] % torch.arange(2, count + 2)[:, None] > 0
    return columns[:, None].expand(count, *size).double()


def test_pairs_of_all_images_fill_the_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    clf, asked, sizes = bound(GAPNet()), [], []
    plain = clf.logits

    def watched(inputs: Tensor) -> Tensor:
        sizes.append(len(inputs))
        assert not inputs.is_inference()
        assert not torch.is_grad_enabled()
        return plain(inputs)

    def masks(rows: Tensor, items: Tensor) -> Tensor:
        asked.append(len(items))
        return stripes(5)[items]

    with clf.borrowed():
        one = scorer(clf, images(3), Context(chunk_size=4))
        monkeypatch.setattr(clf, "logits", watched)
        found = one.of_masks([5, 3, 5], masks)
    assert sizes == [3, 4, 4, 4, 1]
    assert max(asked) == 4
    assert [len(scores) for scores in found] == [5, 3, 5]


def test_scores_are_those_of_the_masked_images() -> None:
    clf, x = bound(DeepNet(), mean=[0.4, 0.5, 0.6], std=[0.2, 0.3, 0.4]), images(2)
    mean = torch.tensor([0.4, 0.5, 0.6])[:, None, None]
    fills = {
        "mean": mean.expand(2, 3, 8, 8),
        "black": torch.zeros(2, 3, 8, 8),
        "white": torch.ones(2, 3, 8, 8),
        "image-mean": x.mean((2, 3), keepdim=True).expand_as(x),
    }
    masks = stripes(3)
    for fill, colour in fills.items():
        with clf.borrowed():
            found = scorer(clf, x, fill=fill, score="probability").of_masks(3, lambda _, items: masks[items])
        for image, background, scores in zip(x, colour, found, strict=True):
            expected = clf.probabilities(torch.stack([m * image + (1 - m) * background for m in masks]))[:, 1]
            assert torch.allclose(scores, expected, atol=1e-7)


def test_bfloat16_is_the_networks_alone() -> None:
    clf, x = bound(GAPNet()), images(2).float()
    clf.network.float()
    exact = METHODS.get("rise").build(clf, samples=50).attribute(x)
    coarse = METHODS.get("rise").build(clf, samples=50).attribute(x, context=Context(precision="bfloat16"))
    assert coarse.values.dtype == torch.float32
    assert not torch.equal(coarse.values, exact.values)
    assert torch.allclose(coarse.values, exact.values, atol=5e-3)


def test_inpainting_grows_the_kept_pixels_into_the_hole() -> None:
    pixels = images(3).float()
    kept = torch.ones(3, 8, 8, dtype=torch.bool)
    kept[0, 2:5, 3:6] = False
    kept[1] = False
    found = inpainted(pixels, kept)
    assert torch.equal(found[:1, :, kept[0]], pixels[:1, :, kept[0]])
    assert torch.equal(found[1], pixels[1].mean((1, 2), keepdim=True).expand(3, 8, 8))
    assert torch.equal(found[2], pixels[2])
    colours = (pixels[0] * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
    expected = cv2.inpaint(colours, (~kept[0]).byte().numpy(), 3, cv2.INPAINT_TELEA)
    hole = torch.from_numpy(expected).permute(2, 0, 1)[:, ~kept[0]]
    assert torch.equal((found[0, :, ~kept[0]] * 255).round().byte(), hole)
    assert inpainted(pixels[:, :1], kept).shape == (3, 1, 8, 8)
    with pytest.raises(BadInput, match="fill: expected 1 or 3 channels for inpaint, got 2; use the fill blur"):
        inpainted(pixels[:, :2], kept)


def test_the_mean_colour_of_a_segment() -> None:
    pixels, numbers = images(2), segment(images(2), "slic", 6)
    found = segment_mean(pixels, numbers)
    for image, mean, labels in zip(pixels, found, numbers, strict=True):
        for number in labels.unique():
            inside = labels == number
            expected = image[:, inside].mean(1, keepdim=True).expand(3, int(inside.sum()))
            assert torch.allclose(mean[:, inside], expected)


@pytest.mark.parametrize("name", ["slic", "grid", "quickshift", "felzenszwalb"])
def test_segments_are_numbered_without_gaps_and_are_the_same_each_time(name: str) -> None:
    pixels = torch.nn.functional.interpolate(images(2), size=(40, 56), mode="bilinear")
    found = segment(pixels, name, 20)
    assert found.shape == (2, 40, 56)
    assert found.dtype == torch.int64
    for one, count in zip(found, (found.flatten(1).amax(1) + 1).tolist(), strict=True):
        assert one.unique().tolist() == list(range(count))
        assert 1 < count < 400
    assert torch.equal(found, segment(pixels, name, 20))
    assert torch.equal(found[1:], segment(pixels[1:], name, 20))
    if name in ("slic", "grid"):
        assert all(10 <= count <= 30 for count in (found.flatten(1).amax(1) + 1).tolist())


@pytest.mark.parametrize("name", ["slic", "grid", "quickshift", "felzenszwalb"])
@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (1, 1, 9, 9), (1, 3, 3, 17), (1, 2, 9, 9)])
def test_images_of_every_kind_have_segments(name: str, shape: tuple[int, ...]) -> None:
    pixels = 4 * torch.rand(shape, generator=torch.Generator().manual_seed(0)) - 1
    found = segment(pixels, name, 16)
    assert found.shape == (1, *shape[2:])
    assert int(found[0].max()) + 1 == int(found.max()) + 1


def test_given_segments_are_renumbered() -> None:
    given = torch.tensor([[7, 7], [3, 9]])
    assert segment(torch.rand(3, 3, 2, 2), given).tolist() == [[[1, 1], [0, 2]]] * 3
    with pytest.raises(BadInput, match=r"expected segment numbers \(4, 4\), got \(2, 2\)"):
        segment(torch.rand(1, 3, 4, 4), given)
    with pytest.raises(BadInput, match=r"expected segment numbers \(H, W\) as integers, got \(2, 2\) torch.float32"):
        segment(torch.rand(1, 3, 2, 2), given.float())


@pytest.mark.parametrize("name", BY_SEGMENTS)
def test_an_image_of_one_colour_is_flagged_and_the_others_are_done(name: str) -> None:
    """Felzenszwalb finds one segment: it is worth the whole drop."""
    clf, x = bound(GAPNet()), images(3, size=16)
    x[1] = 0.7
    options = {"segmentation": "felzenszwalb", "fill": "black", "score": "logit"} | BY_SEGMENTS[name]
    found = METHODS.get(name).build(clf, **options).attribute(x, 2)
    assert found.values.isfinite().all()
    assert "one-segment" in found.flags[1]
    assert not {"one-segment", "constant"} & (found.flags[0] | found.flags[2])
    drop = float((clf(x) - clf(x * 0)).detach()[1, 2])
    if name != "lime":
        assert torch.allclose(found.values[1], torch.full((16, 16), drop, dtype=torch.float64))


@pytest.mark.parametrize("name", [*BY_SEGMENTS, "occlusion", "rise", "partition-shap"])
def test_an_image_of_one_pixel(name: str) -> None:
    options = {"rise": {"samples": 20, "grid": 1}, "lime": {"samples": 20}}
    found = METHODS.get(name).build(bound(GAPNet()), **options.get(name, {})).attribute(images(2, size=1))
    assert found.values.shape == (2, 1, 1)
    assert found.values.isfinite().all()


@pytest.mark.parametrize(
    ("name", "params", "line"),
    [
        (
            "lime",
            {"segmentation": "slick"},
            "expected slic, quickshift, felzenszwalb or grid or a tensor, got 'slick'",
        ),
        (
            "kernel-shap",
            {"segmentation": "superpixels"},
            "expected slic, quickshift, felzenszwalb or grid or a tensor, got 'superpixels'",
        ),
        ("feature-ablation", {"segments": 0}, "segments: expected a whole number from 1, got 0"),
        ("feature-ablation", {"fill": "grey"}, "grey"),
        ("occlusion", {"fill": "segment-mean"}, "fill: expected mean, black, .*, got 'segment-mean'"),
        ("occlusion", {"window": 9}, "window: expected at most the image's 8 pixels, got 9"),
        ("rise", {"samples": 0}, "samples: expected a whole number from 1, got 0"),
        ("rise", {"grid": 9}, "grid: expected at most the image's 8 pixels a side, got 9"),
        ("rise", {"grid": 0}, "grid: expected a whole number from 1"),
        ("rise", {"keep": 0.0}, "keep: expected a number above 0 and up to 1"),
        ("rise", {"keep": 1.5}, "keep: expected a number above 0 and up to 1"),
        ("rise", {"variant": "signed"}, "signed"),
        ("lime", {"samples": 0}, "samples: expected a whole number from 2, got 0"),
        (
            "lime",
            {"samples": 9, "segments": 16, "segmentation": "grid"},
            "expected more than the 16 segments, got 9; raise",
        ),
        ("lime", {"width": 0.0}, "width: expected a number from 1e-06"),
        ("lime", {"alpha": -1.0}, "alpha: expected a number from 0"),
        ("kernel-shap", {"samples": 0}, "samples: expected a whole number from 2 or None, got 0"),
        (
            "kernel-shap",
            {"samples": 31, "segments": 16, "segmentation": "grid"},
            "expected at least twice the 16 segments, got 31; raise samples",
        ),
        ("kernel-shap", {"score": "loss"}, "loss"),
        ("partition-shap", {"samples": 3}, "samples: expected a whole number from 4, got 3"),
        ("partition-shap", {"fill": "segment-mean"}, "got 'segment-mean'"),
    ],
)
def test_bad_input_is_one_clear_line(name: str, params: dict[str, Any], line: str) -> None:
    with pytest.raises(BadInput, match=line) as caught:
        METHODS.get(name).build(bound(GAPNet()), **params).attribute(images(1))
    assert "\n" not in str(caught.value)


def test_a_long_computation_announces_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that ticks 2 s at each look: the first of 10 portions takes 2 s."""
    told: list[tuple[int, int, str]] = []
    ticks = iter(range(0, 1000, 2))
    monkeypatch.setattr(context_module.time, "perf_counter", lambda: float(next(ticks)))
    context = Context(progress=lambda done, total, unit: told.append((done, total, unit)))
    list(context.portions(40, 4, lambda rows: None, "forwards"))
    assert told[0] == (4, 40, "forwards, about 20 s")
    assert told[1:] == [(done, 40, "forwards") for done in range(8, 44, 4)]
    told.clear()
    list(context.portions(4000, 1000, lambda rows: None, "forwards"))
    assert told[0] == (1000, 4000, "forwards, about 8 s")
    list(context.portions(6, 3, lambda rows: None, "forwards"))
    assert told[-2] == (3, 6, "forwards")


def test_the_estimate_stays_beside_the_bar() -> None:
    with Progress(disable=True) as bars:
        show = ProgressCallback(bars)
        show(8, 4000, "forwards, about 40 s")
        show(1600, 4000, "forwards")
        assert [task.description for task in bars.tasks] == ["1,600 of 4,000 forwards, about 40 s"]
        show(4000, 4000, "forwards")
        assert not bars.tasks
        show(1, 2, "forwards")
        assert [task.description for task in bars.tasks] == ["1 of 2 forwards"]


@pytest.mark.parametrize("name", ["occlusion", "feature-ablation", "rise", "lime", "kernel-shap", "partition-shap"])
def test_progress_counts_forwards(name: str) -> None:
    told: list[tuple[int, int, str]] = []
    context = Context(chunk_size=8, progress=lambda done, total, unit: told.append((done, total, unit)))
    params = {"rise": {"samples": 20}, "lime": {"samples": 20, "segments": 4}, "kernel-shap": {"segments": 4}}
    METHODS.get(name).build(bound(GAPNet()), **params.get(name, {})).attribute(images(1), context=context)
    assert told[-1][0] == told[-1][1]
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)
    assert all(unit.split(",")[0] == "forwards" for _, _, unit in told)


def test_costs_are_the_forwards_that_are_made() -> None:
    clf, x = bound(GAPNet()), images(1, size=32)
    grid = {"segmentation": "grid", "segments": 16}
    for name, params in {
        "occlusion": {},
        "feature-ablation": grid,
        "rise": {"samples": 40},
        "lime": {"samples": 40, **grid},
        "kernel-shap": {"samples": 200, **grid},
        "partition-shap": {"samples": 40},
    }.items():
        context, method = Context(), METHODS.get(name).build(clf, **params)
        method.attribute(x, context=context)
        declared = method.cost((32, 32)).forwards
        assert 0.9 * declared <= context.counters.forwards <= declared, name


@pytest.mark.slow
def test_peak_memory_does_not_grow_with_the_number_of_masks() -> None:
    """Measured by torch's allocator: tensors held at once, above the start."""
    clf = xaikit.load("texture-cnn", device="cpu")
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for name in ("rise", "lime", "kernel-shap"):
        few, many = (peak(METHODS.get(name).build(clf, samples=samples), x) for samples in (150, 900))
        assert many < 1.2 * few, name


def peak(method: Any, pixels: Tensor) -> int:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        method.attribute(pixels)
    held = most = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


def test_numpy_seeds_of_the_user_are_left_alone() -> None:
    np.random.seed(7)  # noqa: NPY002 - the state that must survive
    expected = np.random.get_state()[1].tolist()  # noqa: NPY002
    METHODS.get("partition-shap").build(bound(GAPNet()), samples=20).attribute(images(1))
    assert np.random.get_state()[1].tolist() == expected  # noqa: NPY002


@pytest.mark.parametrize("name", ["rise", "lime", "sobol", "hsic", "occlusion", "meaningful-perturbation", "score-cam"])
def test_contrasts_and_functions_are_explained_where_the_score_is_a_probability(name: str) -> None:
    params: dict[str, Any] = {
        **{key: {"samples": 32} for key in ("sobol", "hsic", "rise")},
        "lime": {"samples": 80, "fill": "mean"},  # the mean of a segment of one pixel is that pixel
        "occlusion": {"score": "probability"},
        "meaningful-perturbation": {"steps": 5},
        "score-cam": {"weight": "probability"},
    }[name]
    clf, pixels = bound(GAPNet()), images(2)
    targets = (0, xaikit.Contrast(0, 1), xaikit.Contrast(0, 2), lambda logits: -logits[:, 3])
    found = [METHODS.get(name).build(clf, **params).attribute(pixels, one).values for one in targets]
    for place, one in enumerate(found):
        assert all(not torch.allclose(one, other, atol=0) for other in found[:place])


@pytest.mark.parametrize("name", ["rise", "occlusion", "lime"])
def test_a_fill_for_each_image_goes_with_it_through_the_portions(name: str) -> None:
    clf, pixels = bound(GAPNet()), images(5)
    params = {"samples": 80} if name != "occlusion" else {"window": 4}
    whole, cut = (
        METHODS.get(name).build(clf, fill=pixels / 2, **params).attribute(pixels, 1, chunk_size=size).values
        for size in (8, 2)
    )
    assert torch.allclose(whole, cut, atol=1e-12)
    with pytest.raises(BadInput, match="expected pixels for 1 or 5 images, got 2"):
        METHODS.get(name).build(clf, fill=pixels[:2], **params).attribute(pixels, 1, chunk_size=2)


@pytest.mark.parametrize("segmentation", ["slic", "quickshift", "felzenszwalb"])
def test_segments_of_an_image_do_not_depend_on_the_range_of_its_neighbours(segmentation: str) -> None:
    plain = 0.4 + 0.2 * images(1, size=32)
    together = segment(torch.cat([plain, 3 * images(1, size=32)]), segmentation, 20)
    assert torch.equal(together[:1], segment(plain, segmentation, 20))


def test_scores_that_are_no_numbers_make_an_image_invalid_and_leave_the_others() -> None:
    class Logarithm(GAPNet):
        def forward(self, x: Tensor) -> Tensor:
            return torch.log(x.mean((1, 2, 3)) - 0.2)[:, None] * torch.arange(1.0, 5, dtype=x.dtype)

    clf = bound(Logarithm())
    pixels = torch.stack([torch.full((3, 8, 8), 0.3), torch.full((3, 8, 8), 0.9)]).double()
    pixels[:, :, :4] += 0.05
    for name, params in (("kernel-shap", {"segments": 4}), ("lime", {"segments": 4, "samples": 40, "score": "logit"})):
        build = METHODS.get(name).build(
            clf, segmentation="grid", fill=torch.tensor([0.15] * 3)[:, None, None], **params
        )
        found = build.attribute(pixels, 1)
        assert "invalid" in found.flags[0]
    found = (
        METHODS.get("kernel-shap").build(clf, segmentation="grid", segments=4, fill="image-mean").attribute(pixels, 1)
    )
    assert found.flags == [set(), set()]
