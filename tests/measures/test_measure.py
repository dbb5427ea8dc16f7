"""`xaikit.measure`: several measures of maps that come from anywhere, of what was explained."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import xaikit
from tests.networks import pictures, small
from xaikit.foundation.errors import BadInput, UnknownName
from xaikit.measures.base import MEASURES, Subject
from xaikit.model.classifier import Classifier
from xaikit.model.target import Contrast

SIDE = 16
TARGETS: dict[str, Any] = {
    "top": None,
    "class": 1,
    "contrast": Contrast(0, 2),
    "callable": lambda logits: logits[:, 1].square() + 0.1,
}


@pytest.fixture
def clf() -> Classifier:
    return small().eval()


def images() -> Tensor:
    return pictures(3)


def maps() -> Tensor:
    return torch.rand(images().shape[0], *images().shape[2:], generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", TARGETS)
def test_what_an_attribution_explains_is_measured(clf: Classifier, kind: str) -> None:
    found = xaikit.attribute(clf, images(), TARGETS[kind], "saliency")
    names = ["insertion", "deletion", "ir", "keep-auc"]
    values = xaikit.measure(clf, images(), found, names)
    assert list(values) == names
    for name in names:
        subject = Subject(clf, images(), found.heatmap(), attribution=found)
        assert values[name].shape == (3,)
        torch.testing.assert_close(values[name], MEASURES.get(name)().compute(subject), equal_nan=True)
    curve = xaikit.keep_curve(clf, images(), found.heatmap(), TARGETS[kind])
    torch.testing.assert_close(values["keep-auc"], curve.auc())
    given = xaikit.measure(clf, images(), found.heatmap().numpy(), names, TARGETS[kind])
    for name in names:
        torch.testing.assert_close(given[name], values[name])


def test_the_target_of_plain_maps_is_the_top_class(clf: Classifier) -> None:
    top = clf(images()).argmax(1)
    first = xaikit.measure(clf, images(), maps(), "apd")
    assert torch.equal(first["apd"], xaikit.measure(clf, images(), maps(), "apd", top)["apd"])


def test_numpy_maps_give_the_keep_curve_of_tensors(clf: Classifier) -> None:
    tensor = xaikit.keep_curve(clf, images(), maps())
    array = xaikit.keep_curve(clf, images(), maps().numpy())
    assert torch.equal(tensor.o, array.o)


def test_masks_parameters_and_methods_are_passed_on(clf: Classifier) -> None:
    masks = maps() > 0.7
    method = xaikit.get_method("saliency")(clf)
    found = method.attribute(images())
    chosen = ["pointing-game", "seed-stability", "insertion", MEASURES.get("deletion")(steps=3)]
    params = {"insertion": {"steps": 5}}
    values = xaikit.measure(clf, images(), found, chosen, masks=masks.numpy(), method=method, params=params)
    assert list(values) == ["pointing-game", "seed-stability", "insertion", "deletion"]
    subject = Subject(clf, images(), found.heatmap(), masks=masks, attribution=found)
    for name, keywords in (("pointing-game", {}), ("insertion", {"steps": 5}), ("deletion", {"steps": 3})):
        assert torch.equal(values[name], MEASURES.get(name)(**keywords).compute(subject))
    assert (values["seed-stability"] == 1).all()


def test_a_constant_map_of_a_batch_does_not_hide_the_others(clf: Classifier) -> None:
    flat = maps()
    flat[1] = 0.5
    values = xaikit.measure(clf, images(), flat, ["insertion"])["insertion"]
    alone = xaikit.measure(clf, images()[:1], flat[:1], ["insertion"])["insertion"]
    torch.testing.assert_close(values[:1], alone, rtol=0, atol=1e-6)


def broken(value: float) -> Tensor:
    changed = maps()
    changed[2, 0, 0] = value
    return changed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"maps": broken(float("nan"))}, "maps: expected finite values, got NaN or infinity in image 2"),
        ({"maps": broken(float("inf"))}, "maps: expected finite values, got NaN or infinity in image 2"),
        ({"maps": broken(-3.0)}, r"maps: expected values in \[0, 1\], got -3 to 0.9.*; scale each map"),
        ({"maps": maps()[:2]}, r"maps: expected \(3, \d+, \d+\), got \(2, "),
        ({"maps": maps()[:, :3].numpy()}, r"maps: expected \(3, \d+, \d+\), got \(3, 3"),
        ({"maps": maps() > 0.5}, r"maps: expected numbers in \[0, 1\], got torch.bool"),
        ({"maps": "heatmap.png"}, r"maps: expected \(3, \d+, \d+\), got str"),
        ({"measures": []}, r"measures: expected names, got \[\]"),
        ({"measures": ["iou"]}, "iou: expected masks=, True on the evidence, got none"),
        ({"measures": ["iou"], "masks": maps() > 2}, None),
        ({"measures": ["iou"], "masks": maps()}, "masks: expected bool .*, got torch.float32 .*; masks > 0 is one"),
        ({"measures": ["iou"], "masks": maps()[:, 1:] > 0}, "masks: expected bool .*, got torch.bool"),
        ({"measures": ["seed-stability"]}, "seed-stability: expected method=, which makes further maps, got none"),
        ({"params": {"apd": {}}}, "params: expected names among the measures, got 'apd'; they are insertion, deletion"),
        (
            {"params": {"insertion": {"n_steps": 3}}},
            "insertion: expected a keyword .* 'n_steps'; use steps=",
        ),
        ({"target": [0, 1]}, "target: expected 3 entries"),
        ({"inputs": images()[:0], "maps": maps()[:0]}, "inputs: expected at least one image, got none"),
    ],
)
def test_what_cannot_be_measured(clf: Classifier, arguments: dict[str, Any], message: str | None) -> None:
    given = {"inputs": images(), "maps": maps()} | arguments
    if message is None:
        assert xaikit.measure(clf, **given)["iou"].shape == (3,)
        return
    with pytest.raises(BadInput, match=message) as caught:
        xaikit.measure(clf, **given)
    assert "\n" not in str(caught.value)


def test_an_unknown_measure_has_near_names(clf: Classifier) -> None:
    with pytest.raises(UnknownName, match="unknown measure 'insertionn'; did you mean insertion"):
        xaikit.measure(clf, images(), maps(), "insertionn")


def test_the_attribution_of_other_images_is_refused(clf: Classifier) -> None:
    found = xaikit.attribute(clf, images(), method="saliency")
    with pytest.raises(BadInput, match=r"maps: expected \(2, \d+, \d+\), got \(3, "):
        xaikit.measure(clf, images()[:2], found)


@pytest.mark.parametrize("name", ["insertion", "deletion", "apd", "ir", "road", "aopc", "srg"])
def test_a_regression_has_no_probability_to_measure(name: str) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    model = Classifier(network, output="regression")
    found = xaikit.attribute(model, images(), 0, "saliency")
    for measured in (
        lambda: xaikit.measure(model, images(), found, name),
        lambda: xaikit.keep_curve(model, images(), found),
    ):
        with pytest.raises(
            BadInput, match="score: expected a classifier with probabilities, got a regression"
        ) as caught:
            measured()
        assert "\n" not in str(caught.value)
    values = xaikit.keep_curve(model, images(), found, score="logit")
    torch.testing.assert_close(values.y, model(images())[:, 0].double(), check_dtype=False)
    value = xaikit.measure(model, images(), found, "explained-fraction")["explained-fraction"]
    assert bool(value.isfinite().all())
    own = xaikit.measure(model, images(), found.heatmap(), "insertion", lambda logits: logits[:, 0].exp())["insertion"]
    assert bool(own.isfinite().all())


def test_arrays_of_other_dtypes_and_strides_are_the_same_maps(clf: Classifier) -> None:
    plain = xaikit.measure(clf, images(), maps(), "insertion")["insertion"]
    wide = np.asfortranarray(maps().double().numpy())
    torch.testing.assert_close(xaikit.measure(clf, images(), wide, "insertion")["insertion"], plain)
