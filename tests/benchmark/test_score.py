"""Rows hold what was measured: raw, complete, and each method's own cost."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from tests.report.rows import aggregate, render
from xaikit.benchmark.environment import report_environment
from xaikit.benchmark.score import Images, score
from xaikit.foundation.errors import BadInput
from xaikit.foundation.identity import generator
from xaikit.measures.base import MEASURES
from xaikit.measures.removal.keep_curve import keep_curve
from xaikit.methods.base import METHODS
from xaikit.model.classifier import Classifier
from xaikit.run.context import Context

NAMES = ("grad-cam", "saliency", "center", "ones")


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        features = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 6, 3, 2, 1), nn.ReLU())
        network = nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))
    with torch.no_grad():
        network[-1].weight.mul_(20)
    return Classifier(network, mean=[0.5] * 3, std=[0.25] * 3, size=12, labels=["a", "b", "c"], name="tiny")


@pytest.fixture(scope="module")
def images() -> Images:
    pixels = torch.rand(3, 3, 12, 12, generator=generator(0, "score"))
    masks = torch.zeros(3, 12, 12, dtype=torch.bool)
    masks[:, 3:9, 3:9] = True
    return Images("noise", ["x.png", "y.png", "<z>.png"], pixels, torch.tensor([0, 1, 2]), masks)


@pytest.fixture(scope="module")
def rows(classifier, images):
    return score([METHODS.get(name).build(classifier) for name in NAMES], images, target=[0, 1, 1])


def test_one_row_an_image_and_method(rows, images):
    assert [(row["image_id"], row["method"]) for row in rows] == [(i, m) for i in images.names for m in NAMES]
    assert [row["target"] for row in rows[:: len(NAMES)]] == [0, 1, 1]
    assert rows[0]["label_name"] == rows[0]["target_name"] == "a"
    assert rows[-1]["label_name"] == "c"


@pytest.mark.parametrize("mask", ["soft", "binary"])
@pytest.mark.parametrize("name", NAMES)
def test_raw_curves_are_those_of_the_keep_curve(classifier, images, rows, name, mask):
    target = torch.tensor([0, 1, 1])
    maps = METHODS.get(name).build(classifier).attribute(images.pixels, target).heatmap()
    curve = keep_curve(classifier, images.pixels, maps, target, mask=mask)
    own = [row for row in rows if row["method"] == name]
    torch.testing.assert_close(torch.tensor([row["y"] for row in own], dtype=torch.float64), curve.y)
    stored = torch.tensor([row[f"o_{mask}"] for row in own], dtype=torch.float64)
    torch.testing.assert_close(stored, curve.o, atol=1e-6, rtol=0)
    assert [row["map_mean"] for row in own] == pytest.approx(maps.mean((1, 2)).tolist())


def test_aggregates_of_the_rows_equal_the_keep_curve(classifier, images, rows):
    target = torch.tensor([0, 1, 1])
    maps = METHODS.get("grad-cam").build(classifier).attribute(images.pixels, target).heatmap()
    curve = keep_curve(classifier, images.pixels, maps, target)
    result = next(result for result in aggregate(rows) if result.method == "grad-cam")
    for name, values in {"api": curve.api(), "apd": curve.apd(), "ir": curve.ir(), "dr": curve.dr()}.items():
        assert result.curves["soft"][name].tolist() == pytest.approx(values.tolist(), abs=1e-6)
    assert result.scalars["keep_auc_soft"] == pytest.approx(float(curve.auc().mean()), abs=1e-6)


def test_each_method_counts_for_itself(rows):
    cost = {row["method"]: (row["forwards"], row["backwards"]) for row in rows}
    assert cost["grad-cam"] == (1.0, 1.0)
    assert cost["saliency"] == (1.0, 1.0)
    assert cost["center"][1] == 0.0
    assert all(row["ms"] > 0 for row in rows)


def test_evidence_is_compared_with_the_map(rows):
    own = {row["method"]: row for row in rows}
    assert own["center"]["pointing"] == 1.0
    assert own["ones"]["energy_inside"] == pytest.approx(36 / 144)
    assert own["ones"]["pointing"] == pytest.approx(36 / 144), "every point is highest: the share of a lucky guess"
    assert own["center"]["energy_inside"] > own["ones"]["energy_inside"]


def test_without_labels_and_masks_there_are_none(classifier, images):
    plain = Images("noise", images.names, images.pixels)
    rows = score([METHODS.get("ones").build(classifier)], plain)
    assert all(row["label"] is None and row["label_name"] is None and "pointing" not in row for row in rows)
    assert all(row["flags"] == ["constant"] for row in rows)


def test_a_protocol_reaches_the_rows(classifier, images):
    center = [METHODS.get("center").build(classifier)]
    rows = score(center, images, target=[0, 1, 1], levels=5, fill="black", context=Context(seed=1))
    assert all((row["levels"], row["fill"], row["seed"]) == (5, "black", 1) for row in rows)
    assert all(len(row["o_soft"]) == len(row["o_binary"]) == 6 for row in rows)
    assert all(row["o_soft"][-1] == row["floor"] for row in rows)


def test_measures_become_columns(classifier, images):
    methods = {"first": METHODS.get("grad-cam").build(classifier), "second": METHODS.get("ones").build(classifier)}
    measures = {"a": MEASURES.get("api")(), "hits": MEASURES.get("pointing-game")()}
    rows = score(methods, images, measures=measures)
    assert [row["method"] for row in rows] == ["first", "second"] * 3
    for row in rows:
        assert row["measure.a"] == pytest.approx(max(row["o_soft"][0] - row["y"], 0) / row["y"])
        assert 0 <= row["measure.hits"] <= 1
    plain = score(methods, Images("noise", images.names, images.pixels), measures=measures)
    assert all("measure.hits" not in row for row in plain), "nothing is known of the evidence"


def test_measures_share_the_curves_of_the_rows(classifier, images):
    def spent(**measures):
        context = Context(chunk_size=4)
        score([METHODS.get("grad-cam").build(classifier)], images, measures=measures, context=context)
        return context.counters.forwards

    assert spent(api=MEASURES.get("api")(), ir=MEASURES.get("ir")()) == spent()


def test_rows_survive_json_and_make_a_page(rows):
    again = json.loads(json.dumps(rows, allow_nan=False))
    assert again == rows
    page = render(again, {"title": "scored"})
    assert all(f'data-method="{row["method"]}"' in page for row in rows)


def test_progress_is_told_once_a_method(classifier, images):
    seen = []
    context = Context(progress=lambda done, total, unit: seen.append((done, total, unit)))
    score([METHODS.get(name).build(classifier) for name in ("center", "ones")], images, context=context)
    assert seen == [(1, 2, "methods"), (2, 2, "methods")]


def test_what_does_not_fit_is_refused(classifier, images):
    one = METHODS.get("ones").build(classifier)
    with pytest.raises(BadInput, match="expected at least one"):
        score([], images)
    with pytest.raises(BadInput, match="different names"):
        score([one, one], images)
    with pytest.raises(BadInput, match="one classifier"):
        score([one, METHODS.get("center").build(Classifier(classifier.network, size=12))], images)
    with pytest.raises(BadInput, match="labels: expected 3"):
        Images("noise", images.names, images.pixels, torch.tensor([0]))
    with pytest.raises(BadInput, match="some twice"):
        Images("noise", ["a", "a", "b"], images.pixels)


def test_the_environment_says_where(classifier):
    told = report_environment(classifier)
    assert told["model fingerprint"] == classifier.fingerprint
    assert told["device"].startswith("cpu")
    assert all(isinstance(value, str) and value for value in told.values())
