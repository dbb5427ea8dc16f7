"""What was explained is what is measured: classes, contrasts and callables, from an attribution to every measure."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import xaikit
from tests.methods.small import method
from tests.networks import pictures, small
from xaikit.benchmark.score import Images, score
from xaikit.foundation.errors import BadInput, XaikitWarning
from xaikit.measures.base import MEASURES, Subject
from xaikit.model.classifier import Classifier
from xaikit.model.target import Contrast
from xaikit.run.attribution import Attribution


class Margin:
    """A callable that is neither hashable nor named."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Margin)

    def __call__(self, logits: Tensor) -> Tensor:
        return (logits[:, 2] - logits[:, 1]).exp()


PAIRS = ([2, 0, 1], [0, 1, 2])
TARGETS: dict[str, tuple[Any, Any]] = {
    "top": (None, lambda z: z.softmax(1).amax(1)),
    "class": (1, lambda z: z.softmax(1)[:, 1]),
    "classes": ([2, 0, 1], lambda z: z.softmax(1)[range(3), [2, 0, 1]]),
    "contrast": (Contrast(0, 2), lambda z: (z[:, 0] - z[:, 2]).sigmoid()),
    "contrasts": (Contrast(PAIRS[0], PAIRS[1]), lambda z: (z[range(3), PAIRS[0]] - z[range(3), PAIRS[1]]).sigmoid()),
    "callable": (lambda z: z[:, 1].square() + 0.1, lambda z: z[:, 1].square() + 0.1),
    "negative callable": (lambda z: -z[:, 1].square() - 0.1, lambda z: -z[:, 1].square() - 0.1),
    "object": (Margin(), Margin()),
}


@pytest.mark.parametrize("chunk_size", [1, 2, None])
@pytest.mark.parametrize("kind", TARGETS)
def test_the_keep_curve_of_an_attribution_is_that_of_its_target(kind: str, chunk_size: int | None) -> None:
    clf, x = small(dtype=torch.float64).eval(), pictures(3).double()
    target, confidence = TARGETS[kind]
    found = xaikit.attribute(clf, x, target, "saliency", chunk_size=chunk_size)
    with torch.no_grad():
        expected, floor = confidence(clf(x)), confidence(clf.logits(torch.zeros_like(x)))
    for curve in (
        xaikit.keep_curve(clf, x, found.heatmap(), found.explained),
        xaikit.keep_curve(clf, x, found),
        xaikit.keep_curve(clf, x, found.heatmap(), target),
    ):
        torch.testing.assert_close(curve.y, expected)
        if kind != "top":  # that of the fill may be another class
            torch.testing.assert_close(curve.o[:, -1], floor)
    torch.testing.assert_close(xaikit.keep_curve(clf, x[1:2], found[1]).y, expected[1:2])


@pytest.mark.parametrize("kind", TARGETS)
def test_class_indices_of_a_callable_are_refused(kind: str) -> None:
    """`target` holds indices, which do not describe a callable: measuring the top class instead would be silent."""
    clf, x = small(), pictures(3)
    found = xaikit.attribute(clf, x, TARGETS[kind][0], "saliency")
    assert found.target.dtype == torch.int64
    if "callable" not in kind and kind != "object":
        xaikit.keep_curve(clf, x, found.heatmap(), found.target)
        return
    assert found.target.tolist() == [-1] * 3
    with pytest.raises(BadInput, match="a callable has no class: give the callable, or the attribution itself"):
        xaikit.keep_curve(clf, x, found.heatmap(), found.target)


def test_maps_alone_are_measured_for_the_top_class() -> None:
    clf, x = small().eval(), pictures(3)
    curve = xaikit.keep_curve(clf, x, torch.rand(3, 9, 7))
    torch.testing.assert_close(curve.y, clf.probabilities(x).amax(1).double().detach())


def test_attributions_of_several_targets_are_refused_together() -> None:
    from xaikit.measures.removal.keep_curve import keep_curves

    clf, x = small().eval(), pictures(3)
    maps = {str(target): xaikit.attribute(clf, x, target, "saliency") for target in (0, 1)}
    with pytest.raises(BadInput, match="expected attributions of one target, got several"):
        keep_curves(clf, x, maps)
    assert set(keep_curves(clf, x, maps, 1)) == {"0", "1"}


def test_a_negative_confidence_has_no_relative_drop_and_says_so() -> None:
    clf, x = small().eval(), pictures(3)
    curve = xaikit.keep_curve(clf, x, torch.rand(3, 9, 7), TARGETS["negative callable"][0])
    for mean in (curve.api, curve.apd):
        with pytest.warns(XaikitWarning, match="got 3 of 3 images below 0, which are left out"):
            assert mean().isnan().all()
    assert curve.auc().isfinite().all()
    assert curve.dr().isfinite().all()


def test_the_target_of_other_images_or_another_model_is_refused() -> None:
    clf, x = small().eval(), pictures(3)
    found = xaikit.attribute(clf, x, Contrast(2, 0), "saliency")
    with pytest.raises(BadInput, match="expected that of 2 images, got that of 3"):
        xaikit.keep_curve(clf, x[:2], found.heatmap()[:2], found.explained)
    two = Classifier(torch.nn.Sequential(torch.nn.Conv2d(3, 2, 9), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()))
    with pytest.raises(BadInput, match="expected classes from 0 to 1"):
        xaikit.attribute(two, pictures(3, size=(9, 9)), found.explained, "saliency")


@pytest.mark.parametrize("kind", TARGETS)
def test_a_saved_attribution_keeps_its_target(kind: str, tmp_path: Any) -> None:
    clf, x = small().eval(), pictures(3)
    found = xaikit.attribute(clf, x, TARGETS[kind][0], "saliency")
    found.save(tmp_path / "a.safetensors")
    loaded = Attribution.load(tmp_path / "a.safetensors")
    assert torch.equal(loaded.target, found.target)
    assert loaded.target_names == found.target_names
    if "callable" in kind or kind == "object":
        with pytest.raises(BadInput, match="a file does not keep; pass it as target"):
            xaikit.keep_curve(clf, x, loaded)
        loaded_curve = xaikit.keep_curve(clf, x, loaded.heatmap(), TARGETS[kind][0])
    else:
        loaded_curve = xaikit.keep_curve(clf, x, loaded)
    torch.testing.assert_close(loaded_curve.o, xaikit.keep_curve(clf, x, found).o)


def subject(target: Any, name: str = "saliency", count: int = 3) -> Subject:
    clf, x = small().eval(), pictures(count)
    explainer = method(name, clf)
    found = explainer.attribute(x, target)
    return Subject(clf, x, found.heatmap(), method=explainer, attribution=found)


QUICK = {
    "sensitivity-n": {"sizes": (2,), "cells": 4, "subsets": 8},
    "faithfulness-correlation": {"cells": 4, "subsets": 8},
    "infidelity": {"patches": 8},
    "explained-fraction": {"patches": 8},
    "parameter-randomisation": {"stages": 2},
    "max-sensitivity": {"draws": 1},
    "seed-stability": {"seeds": 2},
}
REMOVALS = [name for name in MEASURES.names() if ".removal." in MEASURES.get(name).__module__]
OTHERS = [
    name
    for name in MEASURES.names()
    if name not in {*REMOVALS, "adcc", "random-logit", "peak-memory"} and "masks" not in MEASURES.get(name).needs
]


@pytest.mark.parametrize("name", REMOVALS)
def test_removal_measures_of_the_callable_p_are_those_of_the_class(name: str) -> None:
    measure, by_class = MEASURES.get(name)(), subject(1)
    found = xaikit.attribute(by_class.classifier, by_class.pixels, lambda z: z.softmax(1)[:, 1], "ones")
    by_callable = Subject(by_class.classifier, by_class.pixels, by_class.maps, found.explained)
    torch.testing.assert_close(measure.compute(by_callable), measure.compute(by_class), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", OTHERS)
def test_other_measures_of_the_callable_z_are_those_of_the_class(name: str) -> None:
    measure = MEASURES.get(name)(**QUICK.get(name, {}))
    found, expected = (measure.compute(subject(target)) for target in (lambda z: z[:, 1], 1))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6, equal_nan=True)


def test_random_logit_needs_a_class() -> None:
    measure = MEASURES.get("random-logit")()
    for target in (Contrast(0, 1), lambda z: z[:, 1]):
        with pytest.raises(BadInput, match="random-logit: expected a class as target"):
            measure.compute(subject(target))


def test_a_subject_needs_a_target() -> None:
    with pytest.raises(BadInput, match="expected what the maps explain, got none"):
        Subject(small(), pictures(2), torch.rand(2, 9, 7))


def test_facts_of_images_are_kept_apart_by_target() -> None:
    """Measures of one run share what they know of an image, but not that of another target."""
    first = subject(lambda z: z[:, 1])
    measure = MEASURES.get("infidelity")(patches=8)
    facts: dict[Any, Tensor] = {}
    values = []
    for target in (lambda z: z[:, 1], lambda z: 2 * z[:, 1], Contrast(1, 0), Contrast(1, 2)):
        found = xaikit.attribute(first.classifier, first.pixels, target, "saliency")
        shared = Subject(first.classifier, first.pixels, first.maps, found.explained, image_facts=facts)
        values.append(measure.compute(shared))
    torch.testing.assert_close(values[1], 4 * values[0])
    assert not torch.allclose(values[2], values[3])


@pytest.mark.parametrize("kind", ["contrast", "callable"])
def test_the_benchmark_scores_what_was_asked(kind: str) -> None:
    clf, x = small().eval(), pictures(3)
    target, confidence = TARGETS[kind]
    rows = score([method("saliency", clf)], Images("few", ["a", "b", "c"], x), target)
    assert [row["y"] for row in rows] == pytest.approx(confidence(clf(x)).tolist(), rel=1e-5)
