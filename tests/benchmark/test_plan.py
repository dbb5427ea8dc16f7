"""The plan depends on what is asked for alone; chunks hold what is missing, once."""

from __future__ import annotations

from pathlib import Path

import pytest

from xaikit.api import load
from xaikit.benchmark.dataset import open_data
from xaikit.benchmark.identity import unit_id
from xaikit.benchmark.plan import in_shard, plan, settings
from xaikit.benchmark.protocol import Protocol
from xaikit.benchmark.steps import images_of_a_step, parts
from xaikit.benchmark.store import Found
from xaikit.benchmark.suite import Suite
from xaikit.foundation.errors import BadInput
from xaikit.methods.base import METHODS
from xaikit.model.classifier import Classifier
from xaikit.run.cost import Cost

ASKED = {"models": ["texture-cnn"], "data": {"kind": "synthetic", "count": 7}, "methods": ["grad-cam", "saliency"]}


@pytest.fixture(scope="module")
def classifier():
    return load("texture-cnn", device="cpu")


def planned(classifier, **changed):
    suite = Suite.of(**(ASKED | changed))
    return settings(suite, suite.models[0], classifier, evidence=True), open_data(suite.data).pictures


PROTOCOL = Protocol.of(Suite.of(**ASKED))


def row(without: set[str] = frozenset(), status: str = "ok") -> Found:
    return Found(Path("a.parquet"), status, frozenset(pair for pair in PROTOCOL.values if pair[0] not in without))


def chunks(asked, pictures, done=(), batch=16, size=None):
    return plan(0, asked, pictures, dict.fromkeys(done, (row(),)), PROTOCOL, batch, size).chunks


def test_shares_of_a_dataset_are_disjoint_and_together_the_whole():
    def names(**asked):
        data = {"kind": "synthetic", "count": 40} | asked
        return [one.name for one in open_data(Suite.of(**(ASKED | {"data": data})).data).pictures]

    whole, lower, upper = names(), names(share=[0, 0.4]), names(share=[0.4, 1])
    assert sorted(lower + upper) == whole
    assert lower
    assert upper
    few = names(share=[0, 0.4], limit=5)
    assert len(few) == 5
    assert set(few) < set(names(share=[0, 0.4], limit=9)) < set(lower)
    with pytest.raises(BadInput, match="share: expected a lower and a higher number"):
        names(share=[0.5, 0.5])


def test_the_same_suite_gives_the_same_units(classifier):
    first, again = planned(classifier), planned(classifier)
    assert [one.id for one in first[0]] == [one.id for one in again[0]]
    assert first[1] == again[1]
    units = [unit_id(one.id, picture.id) for one in first[0] for picture in first[1]]
    assert len(set(units)) == len(first[0]) * 7


def test_oracles_stand_where_the_evidence_is_known(classifier):
    suite = Suite.of(**ASKED)
    with_masks = [one.method for one in settings(suite, suite.models[0], classifier, evidence=True)]
    without = [one.method for one in settings(suite, suite.models[0], classifier, evidence=False)]
    assert [name for name in with_masks if name not in without] == ["oracle", "anti-oracle"]


def test_a_method_beyond_its_budget_is_left_out(classifier):
    def titles(budget):
        methods = ["grad-cam", {"name": "integrated-gradients", "budget": budget}]
        return [one.method for one in planned(classifier, methods=methods)[0] if one.family != "control"]

    cost = METHODS.get("integrated-gradients")(classifier).cost((64, 64))
    passes = cost.forwards + 2 * cost.backwards
    assert titles(passes) == ["grad-cam", "integrated-gradients"]
    assert titles(passes - 1) == ["grad-cam"]
    ids = {
        one.id
        for budget in (None, passes)
        for one in planned(classifier, methods=[{"name": "integrated-gradients", "budget": budget}])[0]
    }
    assert len(ids) == len(planned(classifier, methods=["integrated-gradients"])[0]), "a budget changes no number"


@pytest.mark.parametrize(
    ("change", "all_change"),
    [
        ({"seeds": [1]}, True),
        ({"target": 2}, True),
        ({"batch": 8}, True),
        ({"methods": ["grad-cam", {"name": "saliency", "params": {"channels": True}}]}, False),
    ],
)
def test_what_changes_a_number_changes_the_unit(classifier, change, all_change):
    before, after = planned(classifier)[0], planned(classifier, **change)[0]
    same = {one.id for one in before} & {one.id for one in after}
    if not all_change:
        assert len(same) == len(before) - 1, "another method's parameters leave this one's units as they are"
    else:
        assert not same
        assert {one.map_id for one in before} != {one.map_id for one in after}


@pytest.mark.parametrize("change", [{"measures": ["api"]}, {"levels": 5}])
def test_units_are_maps_and_depend_on_no_measure(classifier, change):
    assert {one.id for one in planned(classifier)[0]} == {one.id for one in planned(classifier, **change)[0]}


def test_what_a_row_lacks_is_all_that_is_planned(classifier):
    asked, pictures = planned(classifier)
    lacks = {"measure.srg", "measure.api"}
    rows = {unit_id(one.id, picture.id): (row(lacks),) for one in asked[1:] for picture in pictures}
    rows[unit_id(asked[1].id, pictures[2].id)] = (row({"measure.srg"}), row(lacks))
    found = plan(0, asked, pictures, rows, PROTOCOL, 4)
    assert (found.done, found.partial) == (0, (len(asked) - 1) * 7)
    everything = frozenset(PROTOCOL.identities)
    assert [(chunk.values, len(chunk.settings)) for chunk in found.chunks] == [
        (everything, 1),
        (lacks, len(asked) - 1),
    ] * 2
    assert found.chunks[1].earlier == {"a.parquet"}
    assert found.chunks[1].cost.forwards < found.chunks[0].cost.forwards * (len(asked) - 1) / 3


def test_what_failed_is_planned_when_other_values_are_missing(classifier):
    asked, pictures = planned(classifier, methods=["grad-cam"])
    unit = unit_id(asked[0].id, pictures[0].id)

    def left(*known, retry=False):
        found = plan(0, asked[:1], pictures[:1], {unit: known}, PROTOCOL, 16, retry=retry)
        return found.done, [chunk.values for chunk in found.chunks]

    lacks, everything = {"measure.srg"}, PROTOCOL.identities.keys()
    assert left(row(status="error")) == (0, [])
    assert left(row(status="error"), retry=True) == (0, [everything])
    assert left(row(lacks, status="error")) == (0, [everything]), "another attempt"
    failed = Found(Path("b.parquet"), "error", PROTOCOL.values - row(lacks).values)
    assert left(row(lacks), failed) == (0, [])
    assert left(row(lacks), failed, retry=True) == (0, [lacks])
    assert left(row(), failed) == (1, [])


def test_chunks_hold_every_missing_unit_once(classifier):
    asked, pictures = planned(classifier)
    everything = {unit_id(one.id, picture.id) for one in asked for picture in pictures}
    done = {unit_id(asked[0].id, picture.id) for picture in pictures[:3]} | {
        unit_id(one.id, pictures[5].id) for one in asked
    }
    for batch, size in ((1, None), (2, None), (2, 3), (16, 1)):
        parts = chunks(asked, pictures, done, batch, size)
        units = [unit for chunk in parts for unit in chunk.units]
        assert len(units) == len(set(units)) == sum(map(len, parts))
        assert set(units) == everything - done
    assert chunks(asked, pictures, everything) == []


def test_a_batch_holds_the_same_images_whatever_is_missing(classifier):
    """Rounding depends on what shares a batch, and decides the order of nearly equal pixels."""
    asked, pictures = planned(classifier)
    batches = {pictures[start : start + 3] for start in (0, 3, 6)}
    for done in (set(), {unit_id(asked[0].id, pictures[4].id)}, {unit_id(one.id, pictures[0].id) for one in asked}):
        assert {chunk.pictures for chunk in chunks(asked, pictures, done, 3)} == batches
    assert [len(chunk.pictures) for chunk in chunks(asked, pictures, (), 3, 4)] == [6, 1]


def test_steps_are_of_seconds(classifier):
    """Images of expensive methods are explained alone, those of cheap ones together; a function is taken for slow."""
    counts = [images_of_a_step(classifier, (64, 64), Cost(passes)) for passes in (1, 100, 1000, 1e9)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > 16
    assert counts[-1] == 1
    function = Classifier.from_function(lambda pixels: pixels.mean((2, 3)), size=64, takes="torch", gives="logits")
    assert images_of_a_step(function, (64, 64), Cost(100)) == 1
    assert [list(part) for part in parts(range(5), 2)] == [[0, 1], [2, 3], [4]]


def test_shards_partition_the_images(classifier):
    pictures = planned(classifier)[1]
    for names in ([0, 1, 2], [1, 2, 3]):
        parts = [in_shard(pictures, (index, 3), 2) for index in names]
        assert sorted(one.name for part in parts for one in part) == [one.name for one in pictures]
    assert in_shard(pictures, None, 2) == list(pictures)
    with pytest.raises(BadInput, match="expected i/n with i from 0 to n - 1, got 4/3"):
        in_shard(pictures, (4, 3), 2)


def test_a_larger_limit_keeps_the_images_of_a_smaller(classifier):
    few, many = (planned(classifier, data={"kind": "synthetic", "count": 40, "limit": n})[1] for n in (5, 20))
    assert (len(few), len(many)) == (5, 20)
    assert set(few) < set(many)
    assert [one.place for one in many] == sorted(one.place for one in many)


def test_declared_costs_are_added_up(classifier):
    asked, pictures = planned(classifier, measures=["api"], controls=[], methods=["grad-cam"])
    protocol = Protocol.of(Suite.of(**(ASKED | {"measures": ["api"]})))
    (chunk,) = plan(0, asked, pictures, {}, protocol, 16).chunks
    explaining = asked[0].entry.build(classifier).cost((64, 64))
    assert chunk.cost.backwards == pytest.approx(7 * explaining.backwards)
    assert chunk.cost.forwards == pytest.approx(7 * (2 + explaining.forwards + 19))
