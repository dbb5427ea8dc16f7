"""The keep curve against the golden numbers, against the definition in plain loops, and against itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.networks import Failing, heatmaps, pictures, small, summing
from xaikit.foundation.errors import BadInput
from xaikit.images.fills import fill_values
from xaikit.measures.removal import masked_forwards
from xaikit.measures.removal.keep_curve import KeepCurve, keep_curve, keep_curves
from xaikit.model.classifier import Classifier
from xaikit.model.target import Contrast
from xaikit.run.context import Context

GOLDEN_IMAGE = torch.tensor([1, 0.8, 0.6, 0.4, 0.25, -0.2, -0.4, -0.6, 0.5, 0.3], dtype=torch.float64).reshape(
    1, 1, 2, 5
)
GOLDEN_MAP = torch.tensor([1, 0.9, 0.8, 0.7, 0.6, 0, 0.1, 0.2, 0.5, 0.4], dtype=torch.float64).reshape(1, 2, 5)


def golden(mask: str, **switches: Any) -> KeepCurve:
    return keep_curve(summing(), GOLDEN_IMAGE, GOLDEN_MAP, 1, mask=mask, **switches)  # type: ignore[arg-type]


def near(values: Tensor, expected: list[float], tolerance: float = 1e-6) -> None:
    torch.testing.assert_close(values, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=tolerance)


# ---- golden numbers -------------------------------------------------------------------------------------------------


def test_golden_soft() -> None:
    curve = golden("soft")
    near(curve.thresholds, [j / 10 for j in range(11)], 0)
    near(curve.y, [0.934011])
    o = [0.944799, 0.944799, 0.946849, 0.952574, 0.946849, 0.932768, 0.922728, 0.900250, 0.848129, 0.731059, 0.5]
    near(curve.o[0], o)
    near(curve.auc(), [0.884840])
    near(curve.api(), [0.011551, 0.011551, 0.013745, 0.019875, 0.013745, 0, 0, 0, 0, 0, 0])
    near(curve.apd(), [0, 0, 0, 0, 0, 0.001331, 0.012080, 0.036147, 0.091950, 0.217291, 0.464674])
    assert curve.ir().sum() == 5
    assert curve.dr().sum() == 6
    assert curve.o[0, 0] == curve.o[0, 1]  # one zero in the map: the first level removes only it
    assert (curve.forwards, curve.reused) == (9, 2)


def test_golden_binary() -> None:
    curve = golden("binary")
    o = [0.934011, 0.945319, 0.962673, 0.979164, 0.972077, 0.954783, 0.942676, 0.916827, 0.858149, 0.731059, 0.5]
    near(curve.o[0], o)
    near(curve.auc(), [0.897973])
    assert [curve.ir().sum(), curve.dr().sum(), curve.ties().sum()] == [6, 4, 1]


def test_golden_scalars() -> None:
    scalars = golden("soft").scalars()
    assert scalars["api@t0"] == pytest.approx(0.011551, abs=1e-6)
    assert scalars["api_mean"] == pytest.approx((2 * 0.011551 + 2 * 0.013745 + 0.019875) / 10, abs=1e-6)
    assert scalars["ir_auc"] == pytest.approx(0.45)
    assert scalars["dr_mean"] == pytest.approx(0.5)
    assert scalars["keep_auc_relative"] == pytest.approx(0.884840 / 0.934011, abs=1e-6)
    assert scalars["api_largest_share"] == 1


# ---- the definition, image by image and level by level --------------------------------------------------------------


def by_hand(classifier: Classifier, pixels: Tensor, maps: Tensor, target: Tensor, mask: str, fill: Any) -> Tensor:
    """o (N, 11) by the definition: a stable sort in Python, one forward for each image and level."""
    rows = []
    for image, one, index in zip(pixels, maps, target, strict=True):
        filled = classifier.normalize(image[None]) * 0 + fill_values(classifier.normalize, image[None], fill)
        values = one.flatten().tolist()
        order = sorted(range(len(values)), key=lambda place: values[place])
        row = []
        for j in range(11):
            kept = set(order[len(values) * j // 10 :])
            weights = [(values[p] if mask == "soft" else 1.0) if p in kept else 0.0 for p in range(len(values))]
            m = torch.tensor(weights, dtype=pixels.dtype).reshape(one.shape)
            masked = m * classifier.normalize(image[None]) + (1 - m) * filled
            with torch.no_grad():
                row.append(classifier.to_probabilities(classifier.logits(masked))[0, index])
        rows.append(torch.stack(row))
    return torch.stack(rows)


@pytest.mark.parametrize("mask", ["soft", "binary"])
@pytest.mark.parametrize("fill", ["mean", "black", "white", "image-mean", "blur", torch.full((3, 1, 1), 0.3)])
def test_equals_the_definition(mask: Any, fill: Any) -> None:
    classifier = small(dtype=torch.float64).eval()
    pixels, maps, target = pictures(3).double(), heatmaps(3).double(), torch.tensor([2, 0, 1])
    curve = keep_curve(classifier, pixels, maps, target, mask=mask, fill=fill)
    expected = by_hand(classifier, pixels, maps, target, mask, fill)
    torch.testing.assert_close(curve.o, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(curve.floor, expected[:, -1], rtol=0, atol=1e-12)
    if mask == "binary":
        torch.testing.assert_close(curve.y, expected[:, 0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [(1, 1), (1, 3), (3, 5), (16, 4), (11, 13)])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size_one_image_any_channels(size: tuple[int, int], channels: int) -> None:
    classifier = small(channels, torch.float64).eval()
    pixels, maps = pictures(1, channels, size).double(), heatmaps(1, size).double()
    curve = keep_curve(classifier, pixels, maps, 0, mask="binary")
    torch.testing.assert_close(
        curve.o, by_hand(classifier, pixels, maps, torch.tensor([0]), "binary", "mean"), rtol=0, atol=1e-12
    )
    positions = size[0] * size[1]
    near(curve.kept[0], [1 - (positions * j // 10) / positions for j in range(11)], 1e-15)


def test_per_image_fill_and_noise() -> None:
    classifier, pixels, maps = small(dtype=torch.float64).eval(), pictures(3).double(), heatmaps(3).double()
    other = pictures(3, seed=5).double()
    curve = keep_curve(classifier, pixels, maps, 1, fill=other)
    for i in range(3):
        expected = by_hand(classifier, pixels[i : i + 1], maps[i : i + 1], torch.tensor([1]), "soft", other[i])
        torch.testing.assert_close(curve.o[i : i + 1], expected, rtol=0, atol=1e-12)
    noise = keep_curve(classifier, pixels, maps, 1, fill="noise", seed=3)
    again = keep_curve(classifier, pixels.flip(0), maps.flip(0), 1, fill="noise", seed=3)
    torch.testing.assert_close(noise.o, again.o.flip(0), rtol=0, atol=1e-12)
    assert not torch.allclose(noise.o, keep_curve(classifier, pixels, maps, 1, fill="noise", seed=4).o)


# ---- identities -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", ["soft", "binary"])
def test_identities(mask: Any) -> None:
    curve = keep_curve(small(), pictures(12), heatmaps(12), mask=mask)
    relative = curve.o / curve.y[:, None]
    torch.testing.assert_close(curve.api() - curve.apd(), (relative - 1).mean(0), rtol=0, atol=1e-12)
    torch.testing.assert_close(1 + curve.api() - curve.apd(), relative.mean(0), rtol=0, atol=1e-12)
    assert (curve.apd() <= curve.dr() + 1e-12).all()
    torch.testing.assert_close(curve.ir() + curve.dr() + curve.ties(), torch.ones(11).double(), rtol=0, atol=1e-12)
    scalars = curve.scalars()
    assert scalars["keep_auc_relative"] == pytest.approx(float(torch.trapezoid(relative.mean(0), dx=0.1)), abs=1e-12)
    assert curve.o.dtype == curve.y.dtype == curve.api().dtype == torch.float64
    assert tuple(curve.o.shape) == (12, 11)


def test_a_map_of_ones_changes_nothing_at_zero() -> None:
    for mask in ("soft", "binary"):
        curve = keep_curve(small(), pictures(5), torch.ones(5, 9, 7), mask=mask, fill="black")  # type: ignore[arg-type]
        assert [float(one[0]) for one in (curve.api(), curve.apd(), curve.ir(), curve.dr(), curve.ties())] == [
            0,
            0,
            0,
            0,
            1,
        ]
        assert curve.tie_share.tolist() == [1.0] * 5


def test_a_map_of_zeros_is_the_floor_when_soft() -> None:
    curve = keep_curve(small(), pictures(2), torch.zeros(2, 9, 7))
    assert (curve.o == curve.floor[:, None]).all()
    assert (curve.forwards, curve.reused) == (0, 22)


def test_permuting_and_sharding_change_no_mean() -> None:
    classifier, pixels, maps = small(), pictures(10), heatmaps(10)
    whole = keep_curve(classifier, pixels, maps)
    order = torch.randperm(10, generator=torch.Generator().manual_seed(0))
    mixed = keep_curve(classifier, pixels[order], maps[order])
    parts = [keep_curve(classifier, pixels[rows], maps[rows]) for rows in (slice(0, 3), slice(3, 4), slice(4, 10))]
    joined = KeepCurve.join(parts)
    assert len(joined) == 10
    for one in (mixed, joined):
        for name in ("api", "apd", "ir", "dr", "ties"):
            torch.testing.assert_close(getattr(one, name)(), getattr(whole, name)(), rtol=0, atol=1e-6)
    assert joined.forwards == whole.forwards
    assert joined.reused == whole.reused


def test_curves_of_other_protocols_do_not_join() -> None:
    with pytest.raises(BadInput, match="one protocol"):
        KeepCurve.join([golden("soft"), golden("binary")])


# ---- portions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk_size", [1, 5, 64])
def test_any_portion_gives_the_same(chunk_size: int) -> None:
    classifier, pixels, maps = small(), pictures(6), heatmaps(6)
    one = keep_curve(classifier, pixels, maps, fill="blur", ties="average", chunk_size=chunk_size)
    other = keep_curve(classifier, pixels, maps, fill="blur", ties="average", chunk_size=16)
    torch.testing.assert_close(one.o, other.o, rtol=0, atol=1e-6)


def test_small_blocks_of_images_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    classifier, pixels, maps = small(dtype=torch.float64), pictures(5), {"a": heatmaps(5), "b": heatmaps(5, seed=9)}
    options: dict[str, Any] = {"target": [0, 1, 2, 0, 1], "fill": "image-mean", "ties": "random"}
    whole = keep_curves(classifier, pixels, maps, **options)
    monkeypatch.setattr(masked_forwards, "_SORTED_BYTES", 4 * 63 * 2 * 5 * 2)
    blocks = keep_curves(classifier, pixels, maps, **options)
    for name in maps:
        torch.testing.assert_close(blocks[name].o, whole[name].o, rtol=0, atol=1e-12)


def test_memory_running_out_halves_the_portion(monkeypatch: pytest.MonkeyPatch) -> None:
    classifier, pixels, maps = small(), pictures(4), heatmaps(4)
    whole = keep_curve(classifier, pixels, maps)
    forward = Context.forward

    def scarce(self: Context, classifier: Classifier, inputs: Tensor) -> Tensor:
        if len(inputs) > 4:
            raise torch.OutOfMemoryError("too many")
        return forward(self, classifier, inputs)

    monkeypatch.setattr(Context, "forward", scarce)
    halved = keep_curve(classifier, pixels, maps)
    assert halved.halved
    assert not whole.halved
    torch.testing.assert_close(halved.o, whole.o, rtol=0, atol=1e-4)


def test_forwards_are_counted_and_shared() -> None:
    classifier, pixels = small(), pictures(4)
    maps = {"one": torch.rand(4, 9, 7, generator=torch.Generator().manual_seed(3)), "other": heatmaps(4)}
    context = Context()
    curves = keep_curves(classifier, pixels, maps, context=context)
    assert curves["one"].forwards == 4 * 10  # no zeros: levels 0 to 9, the last is the floor
    assert curves["other"].forwards < 4 * 8  # a third of the map is zero
    assert all(curve.forwards + curve.reused == 4 * 11 for curve in curves.values())
    assert context.counters.forwards == 4 + 1 + sum(curve.forwards for curve in curves.values())
    for name, one in maps.items():
        torch.testing.assert_close(keep_curve(classifier, pixels, one).o, curves[name].o, rtol=0, atol=1e-6)


# ---- maps that are no maps ------------------------------------------------------------------------------------------


def test_maps_that_are_not_finite_are_left_out_and_counted() -> None:
    classifier, pixels, maps = small(), pictures(4), heatmaps(4)
    maps[1, 0, 0], maps[3, 2, 2] = torch.nan, torch.inf
    curve = keep_curve(classifier, pixels, maps)
    whole = keep_curve(classifier, pixels[[0, 2]], maps[[0, 2]])
    assert curve.invalid.tolist() == [False, True, False, True]
    assert curve.excluded == 2
    assert curve.o[[1, 3]].isnan().all()
    assert curve.y.isfinite().all()
    for name in ("api", "apd", "ir", "dr", "ties"):
        torch.testing.assert_close(getattr(curve, name)(), getattr(whole, name)(), rtol=0, atol=1e-6)


def test_no_map_at_all_is_no_number() -> None:
    curve = keep_curve(small(), pictures(2), torch.full((2, 9, 7), torch.nan))
    assert curve.api().isnan().all()
    assert curve.forwards == 0
    assert curve.excluded == 2


@pytest.mark.parametrize(
    ("maps", "words"),
    [
        (torch.full((2, 9, 7), 1.5), r"\[0, 1\]"),
        (torch.full((2, 9, 7), -0.1), r"\[0, 1\]"),
        (torch.ones(2, 7, 9), r"\(2, 9, 7\)"),
        (torch.ones(2, 3, 9, 7), r"\(2, 9, 7\)"),
        (torch.ones(1, 9, 7), r"\(2, 9, 7\)"),
    ],
)
def test_maps_that_do_not_fit_are_refused(maps: Tensor, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        keep_curve(small(), pictures(2), maps)


def test_nothing_to_measure_is_refused() -> None:
    with pytest.raises(BadInput, match="0 images"):
        keep_curve(small(), pictures(0), torch.ones(0, 9, 7))
    with pytest.raises(BadInput, match="0 sets of maps"):
        keep_curves(small(), pictures(1), {})


def test_a_model_that_gives_nan_is_refused() -> None:
    with pytest.raises(BadInput, match="finite logits"):
        keep_curve(summing(torch.nan), GOLDEN_IMAGE, GOLDEN_MAP, 1)


def test_a_confidence_that_is_not_finite_is_refused_by_name() -> None:
    def undefined_when_dim(logits: Tensor) -> Tensor:
        return torch.where(logits[:, 1] < 0.7, torch.nan, logits[:, 1])

    with pytest.raises(BadInput, match="every masked image"):
        keep_curve(summing(), GOLDEN_IMAGE, GOLDEN_MAP, undefined_when_dim)


def test_masks_of_bool_are_maps() -> None:
    masks = heatmaps(3) > 0
    torch.testing.assert_close(
        keep_curve(small(), pictures(3), masks).o, keep_curve(small(), pictures(3), masks.float()).o, rtol=0, atol=0
    )


# ---- ties of y and o, targets, scores -------------------------------------------------------------------------------


def test_equal_confidence_is_a_tie_unless_within_the_tolerance() -> None:
    image, one = torch.zeros(1, 1, 1, 10, dtype=torch.float64), torch.linspace(0, 1, 10, dtype=torch.float64)
    blank = keep_curve(summing(), image, one.reshape(1, 1, 10), 1)
    assert blank.ties().tolist() == [1.0] * 11
    image[..., 0] = 1e-8
    exact = keep_curve(summing(), image, one.reshape(1, 1, 10), 1, mask="binary")
    loose = keep_curve(summing(), image, one.reshape(1, 1, 10), 1, mask="binary", tie_tolerance=1e-6)
    assert exact.dr().tolist() == [0.0] + [1.0] * 10
    assert loose.ties().tolist() == [1.0] * 11


def test_a_vanishing_y_is_held_and_counted() -> None:
    curve = keep_curve(summing(-100.0), torch.ones(1, 1, 1, 10).double(), torch.ones(1, 1, 10), 1)
    assert curve.clamped == 1
    assert curve.api().isfinite().all()


def test_every_kind_of_target() -> None:
    classifier, pixels, maps = small(dtype=torch.float64).eval(), pictures(4), heatmaps(4)
    with torch.no_grad():
        logits = classifier(pixels.double())
    top = keep_curve(classifier, pixels, maps)
    assert top.target.tolist() == logits.argmax(1).tolist()
    for target in (1, [1, 1, 1, 1], torch.ones(4, dtype=torch.int64)):
        curve = keep_curve(classifier, pixels, maps, target)
        torch.testing.assert_close(curve.y, logits.softmax(1)[:, 1], rtol=0, atol=1e-12)
    contrast = keep_curve(classifier, pixels, maps, Contrast(0, 2))
    torch.testing.assert_close(contrast.y, logits[:, [0, 2]].softmax(1)[:, 0], rtol=0, atol=1e-12)
    own = keep_curve(classifier, pixels, maps, lambda z: z.square().sum(1))
    torch.testing.assert_close(own.y, logits.square().sum(1), rtol=0, atol=1e-12)
    with pytest.raises(BadInput, match="4 entries"):
        keep_curve(classifier, pixels, maps, [0, 1])
    with pytest.raises(BadInput, match="0 to 2"):
        keep_curve(classifier, pixels, maps, 3)


def test_every_score() -> None:
    classifier, pixels, maps = small(dtype=torch.float64).eval(), pictures(4), heatmaps(4)
    with torch.no_grad():
        z = classifier(pixels.double())
    p = z.softmax(1)[:, 1]
    expected = {"probability": p, "logit": z[:, 1], "log-odds": (p / (1 - p)).log(), "sigmoid": z[:, 1].sigmoid()}
    for score, value in expected.items():
        curve = keep_curve(classifier, pixels, maps, 1, score=score)
        torch.testing.assert_close(curve.y, value, rtol=0, atol=1e-9)
        assert (curve.gains().isnan().all(1) == (value < 0)).all()
    multi = small(dtype=torch.float64, output="sigmoid").eval()
    torch.testing.assert_close(keep_curve(multi, pixels, maps, 1).y, z[:, 1].sigmoid(), rtol=0, atol=1e-12)
    torch.testing.assert_close(keep_curve(multi, pixels, maps, 1, score="log-odds").y, z[:, 1], rtol=0, atol=1e-12)


def test_a_double_precision_network_masks_in_double_precision() -> None:
    classifier, pixels, maps = small(dtype=torch.float64), pictures(3), heatmaps(3)
    single, double = keep_curve(classifier, pixels, maps, 0), keep_curve(classifier, pixels.double(), maps, 0)
    assert torch.equal(single.o, double.o)


def test_a_half_precision_network_is_scored_in_full_precision() -> None:
    classifier = small(dtype=torch.bfloat16)
    curve = keep_curve(classifier, pictures(3), heatmaps(3), 0)
    with torch.no_grad(), classifier.borrowed():
        logits = classifier.network(classifier.normalize(pictures(3)).bfloat16())
    torch.testing.assert_close(curve.y, logits.float().softmax(1)[:, 0].double(), rtol=0, atol=1e-6)
    assert (curve.y != curve.y.bfloat16().double()).any()


# ---- borrowed things ------------------------------------------------------------------------------------------------


def test_nothing_is_left_behind() -> None:
    classifier = small().train()
    pixels, maps = pictures(3).requires_grad_(True), heatmaps(3).requires_grad_(True)
    before = [pixels.detach().clone(), maps.detach().clone()]
    state = {name: value.clone() for name, value in classifier.network.state_dict().items()}
    random_state = torch.get_rng_state()
    keep_curve(classifier, pixels, maps, fill="noise", ties="average")
    assert all(module.training for module in classifier.network.modules())
    assert all(p.requires_grad and p.grad is None for p in classifier.network.parameters())
    assert all(torch.equal(state[name], value) for name, value in classifier.network.state_dict().items())
    assert torch.equal(random_state, torch.get_rng_state())
    assert torch.equal(pixels.detach(), before[0])
    assert torch.equal(maps.detach(), before[1])
    assert pixels.grad is None


@pytest.mark.filterwarnings("ignore:.* is random in eval mode")  # it raises at its third forward
def test_the_network_comes_back_when_it_raises() -> None:
    classifier = Classifier(Failing(small().network, left=3).train())
    with pytest.raises(RuntimeError, match="stumbled"):
        keep_curve(classifier, pictures(3), heatmaps(3), chunk_size=3)
    assert all(module.training for module in classifier.network.modules())
    assert all(p.requires_grad for p in classifier.network.parameters())


def test_progress_is_told() -> None:
    told: list[tuple[int, int, str]] = []
    context = Context(chunk_size=8, progress=lambda done, total, unit: told.append((done, total, unit)))
    curve = keep_curve(small(), pictures(2), heatmaps(2), context=context)
    assert told[-1] == (curve.forwards, curve.forwards, "masked images")
