"""What every registered measure promises."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor

from tests.networks import heatmaps, pictures, small, summing
from xaikit.foundation.errors import BadInput
from xaikit.measures.base import MEASURES, Measure, Subject
from xaikit.measures.removal.keep_curve import keep_curve
from xaikit.methods.base import METHODS, Method
from xaikit.model.target import Target
from xaikit.run.attribution import Attribution
from xaikit.run.context import Context
from xaikit.run.cost import Cost

NAMES = MEASURES.names()
CURVE_NAMES = ["api", "apd", "average-gain", "dr", "ir", "keep-auc", "tie-rate"]


@cache
def explained(count: int) -> tuple[Method, Attribution]:
    method = METHODS.get("integrated-gradients").build(small(), steps=10)
    return method, method.attribute(pictures(count))


def subject(count: int = 6) -> Subject:
    method, made = explained(count)
    maps, masks = heatmaps(count), heatmaps(count, seed=4) > 0
    made = replace(made, values=maps)
    return Subject(method.classifier, pictures(count), maps, made.target, method=method, masks=masks, attribution=made)


@pytest.fixture(params=NAMES)
def measure(request: pytest.FixtureRequest) -> Measure:
    return MEASURES.get(request.param)()


@pytest.fixture(
    params=[name for name in NAMES if name != "completeness-gap" and "method" not in MEASURES.get(name).needs]
)
def judge(request: pytest.FixtureRequest) -> Measure:
    """A measure that reads the map alone; what the others think of a method has tests of its own."""
    return MEASURES.get(request.param)()


def test_the_family_is_there() -> None:
    assert set(CURVE_NAMES) <= set(NAMES)
    assert "mean-map" in NAMES


def test_facts_are_declared(measure: Measure) -> None:
    assert measure.direction in ("higher", "lower", "none")
    assert measure.range[0] < measure.range[1]
    assert measure.source
    assert measure.needs <= {"maps", "model", "method", "masks"}
    assert isinstance(measure.cost(), Cost)
    assert isinstance(measure.image_cost(), Cost)
    assert measure.explanations() >= 0
    assert type(measure)(**measure.params) == measure


def test_one_value_an_image_within_the_range(measure: Measure) -> None:
    values = measure.compute(subject())
    assert values.shape == (6,)
    assert values.dtype == torch.float64
    assert values.device.type == "cpu"
    assert values.isfinite().all()
    assert (values >= measure.range[0]).all()
    assert (values <= measure.range[1]).all()


def test_nothing_is_changed(measure: Measure) -> None:
    one = subject()
    tensors = [one.pixels, one.maps, one.target, *one.classifier.network.state_dict().values()]
    copies = [tensor.clone() for tensor in tensors]
    training = [module.training for module in one.classifier.network.modules()]
    state = torch.get_rng_state()
    measure.compute(one)
    assert all(torch.equal(tensor, copy) for tensor, copy in zip(tensors, copies, strict=True))
    assert torch.equal(state, torch.get_rng_state())
    assert training == [module.training for module in one.classifier.network.modules()]
    assert not any(module._forward_hooks for module in one.classifier.network.modules())


def test_a_map_that_is_not_finite_has_no_value(measure: Measure) -> None:
    one = subject()
    one.maps[2, 0, 0] = torch.nan
    assert measure.compute(one).isnan().tolist() == [False, False, True, False, False, False]


def test_the_value_of_an_image_does_not_depend_on_the_others(measure: Measure) -> None:
    whole = subject()
    assert whole.masks is not None
    assert whole.attribution is not None
    rows = slice(3, 4)
    alone = Subject(
        whole.classifier,
        whole.pixels[rows],
        whole.maps[rows],
        whole.target[rows],
        method=whole.method,
        masks=whole.masks[rows],
        attribution=whole.attribution[rows],
    )
    torch.testing.assert_close(measure.compute(alone), measure.compute(whole)[3:4], rtol=0, atol=1e-6)


def test_masks_and_method_are_asked_for_where_they_are_needed(measure: Measure) -> None:
    one = subject()
    one.masks = one.method = None
    missing = sorted(measure.needs & {"masks", "method"})
    if not missing:
        assert measure.compute(one).shape == (6,)
        return
    with pytest.raises(BadInput, match="|".join(missing)):
        measure.compute(one)


def test_the_declared_direction_holds(judge: Measure) -> None:
    """Of the pixels that say something, each alone among black ones, two speak for the class and two against it."""
    speak = torch.zeros(1, 1, 4, 4)
    speak[..., 0, ::2], speak[..., 2, ::2] = 1.0, -1.0
    better = 0.4 + 0.4 * speak[0]
    worse = 0.8 - better
    classifier, pixels = summing(speak), 0.5 * speak.abs()
    high, low = (
        float(
            judge.compute(Subject(classifier, pixels, maps, torch.tensor([1]), masks=speak[0] > 0))[0],
        )
        for maps in (better, worse)
    )
    match judge.direction:
        case "higher":
            assert high > low
        case "lower":
            assert high < low
        case "none":
            assert high == pytest.approx(low)


@pytest.mark.parametrize("level", [0, 4, "mean"])
@pytest.mark.parametrize("mask", ["soft", "binary"])
def test_measures_are_their_curve(level: int | str, mask: str) -> None:
    one = subject()
    curve = keep_curve(one.classifier, one.pixels, one.maps, one.target, mask=mask)  # type: ignore[arg-type]

    def at(values: Tensor) -> float:
        return float(values[:10].mean() if level == "mean" else values[int(level)])

    expected = {"api": curve.api(), "apd": curve.apd(), "ir": curve.ir(), "dr": curve.dr(), "tie-rate": curve.ties()}
    for name, values in expected.items():
        measure = MEASURES.get(name)(level=level, mask=mask)  # type: ignore[call-arg]
        assert float(measure.compute(one).mean()) == pytest.approx(at(values), abs=1e-12)
    assert torch.equal(MEASURES.get("keep-auc")(mask=mask).compute(one), curve.auc())  # type: ignore[call-arg]


def test_all_measures_of_one_protocol_read_one_curve() -> None:
    one = subject()
    one.context = Context()
    MEASURES.get("api")().compute(one)
    spent = one.context.counters.forwards
    for name in CURVE_NAMES:
        MEASURES.get(name)().compute(one)
    assert one.context.counters.forwards == spent
    MEASURES.get("ir")(mask="binary", level=5).compute(one)  # type: ignore[call-arg]
    assert one.context.counters.forwards > spent


def test_average_gain_by_hand() -> None:
    """y = sigmoid(0.5 - 0.25); a map that drops the second pixel leaves o = sigmoid(0.5)."""
    weights = torch.tensor([0.5, -0.25]).reshape(1, 1, 1, 2)
    one = Subject(summing(weights), torch.ones(1, 1, 1, 2), torch.tensor([[[1.0, 0.0]]]), torch.tensor([1]))
    y, o = torch.tensor([0.25, 0.5], dtype=torch.float64).sigmoid().tolist()
    assert float(MEASURES.get("average-gain")().compute(one)) == pytest.approx((o - y) / (1 - y), abs=1e-12)


def test_average_gain_of_what_is_no_probability_is_not_a_number() -> None:
    """1 - y of a callable's value may be 0 or negative."""
    weights = torch.tensor([0.5, -0.25]).reshape(1, 1, 1, 2)
    target = Target(torch.tensor([1]), function=lambda z: 4 * z[:, 1])
    one = Subject(summing(weights), torch.ones(1, 1, 1, 2), torch.tensor([[[1.0, 0.0]]]), target)
    assert MEASURES.get("average-gain")().compute(one).isnan().all()


@pytest.mark.parametrize("level", [-1, 11, "average"])
def test_levels_that_do_not_exist_are_refused(level: int | str) -> None:
    with pytest.raises(BadInput, match=r"level: expected (0 to 10|a whole number) or '?mean"):
        MEASURES.get("api")(level=level)  # type: ignore[call-arg]
