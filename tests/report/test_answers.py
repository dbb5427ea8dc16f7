"""The answer of the page can be checked by its own figures, for one model and for several."""

from __future__ import annotations

import pytest

from tests.report.rows import aggregate, measures, rows
from xaikit.report.numbers.answers import answers, conclusion
from xaikit.report.numbers.cross import cross_tables
from xaikit.report.numbers.tables import summary_table

CONTROLS = ("ones", "random", "oracle", "anti-oracle")


def results_of(values: dict[str, list[float]]):
    """Return results whose measure `q` has these values, one an image."""
    drawn = []
    for method, own in values.items():
        methods = {method: "control" if method in CONTROLS else "gradient"}
        for row, value in zip(rows(len(own), methods=methods), own, strict=True):
            drawn.append(row | {"measure.q": value})
    return aggregate(drawn)


@pytest.fixture(scope="module")
def results():
    return results_of(VALUES)


def test_a_control_that_does_as_well_as_the_best_is_named():
    (answer,) = answered(results_of({"a": [0.5] * 4, "b": [0.4] * 4, "ones": [0.5] * 4, "anti-oracle": [0.9] * 4}))
    assert conclusion([answer]) == "Best by q: a and b, which are tied. But by q the control ones does as well."


def test_a_single_method_is_compared_with_the_best_control():
    (answer,) = answered(results_of({"a": [0.5] * 4, "ones": [0.3] * 4, "random": [0.1] * 4}))
    assert conclusion([answer]) == "a: q .500 [.500, .500], best control .300."
    assert [line.role for line in answer.lines] == ["", "best control"]


def answered(results, direction: str = "higher"):
    return answers(results, summary_table(results, measures(q=direction)))


VALUES = {
    "a": [0.51, 0.5] * 4,
    "noisy": [0.9, 0.1] * 4,
    "c": [0.45, 0.44] * 4,
    "ones": [0.2] * 8,
    "random": [0.3] * 8,
    "oracle": [0.9] * 8,
    "anti-oracle": [0.95] * 8,
}


def test_best_ties_and_runner_up_have_their_figures(results):
    (answer,) = answered(results)
    roles = [(line.method, line.role) for line in answer.lines]
    assert roles == [
        ("a", "best"),
        ("noisy", "tied"),
        ("c", "next"),
        ("random", "best control"),
        ("oracle", "known evidence"),
    ], "the anti-oracle is no control that explains nothing"
    assert answer.best == ("a", "noisy")
    best, tied, after, control, _ = answer.lines
    assert (best.value, best.difference, best.test) == (".505", "", "")
    assert (tied.difference, tied.test.partition(", p")[2]) == ("-.005", " = .73")
    assert (after.value, after.difference) == (".445", "-.060")
    assert after.test == "[-.060, -.060], p = .016", "two flips of 256, twice by Holm"
    assert control.difference == "-.205"
    assert conclusion([answer]) == "Best by q: a and noisy, which are tied."


def test_methods_without_any_difference_are_all_tied_and_many_are_counted():
    (answer,) = answered(results_of({name: [0.5] * 2 for name in "abcdef"}))
    assert answer.best == tuple("abcdef")
    assert [line.role for line in answer.lines] == ["best", "tied", "tied", "tied"]
    assert answer.more == ("e", "f")
    assert conclusion([answer]) == "Best by q: a, b, c, d and 2 others, which are tied."


def test_the_direction_of_the_measure_decides(results):
    (answer,) = answered(results, "lower")
    assert [line.method for line in answer.lines][:3] == ["c", "noisy", "a"]


def test_measures_that_differ_are_told_apart():
    soft = [row | {"o_soft": [0.9 if row["method"] == "grad-cam" else 0.1] * 11} for row in rows(8)]
    drawn = [row | {"o_binary": [0.9 if row["method"] == "saliency" else 0.1] * 11} for row in soft]
    results = aggregate(drawn)
    found = answers(results, summary_table(results))
    assert [answer.column.key for answer in found] == ["keep_auc_soft", "keep_auc_binary"]
    assert conclusion(found) == (
        "The answers differ. By KeepAUC (soft masks): grad-cam; by KeepAUC (binary masks): saliency."
    )
    assert found[0].lines[0].map_mean
    assert conclusion([]) == ""


def crossed(*models):
    tables = {("drawn", str(place)): summary_table(one, measures(q="higher")) for place, one in enumerate(models)}
    (table,) = cross_tables(tables)
    return table


def test_the_cross_table_orders_methods_by_their_mean_rank(results):
    other = results_of({"a": [0.1] * 8, "c": [0.7] * 8, "ones": [0.2] * 8, "noisy": [0.6] * 8})
    table = crossed(results, other)
    methods = {line.method: line for line in table.blocks["methods"]}
    assert {name: line.rank for name, line in methods.items()} == {"noisy": 2, "a": 2, "c": 2}
    assert [cell.text for cell in methods["c"].cells] == [".445", ".700"]
    assert [cell.mark for cell in methods["c"].cells] == ["second", "best"]
    assert [line.method for line in table.blocks["known evidence"]] == ["oracle", "anti-oracle"]
    assert [cell.text for cell in table.blocks["controls"][1].cells] == [".300", "–"], "random is in one of them"
    assert table.conclusion == "No method is best by q in all of them. Lowest mean rank, 2: a, noisy and c."


def test_what_is_best_everywhere_is_said():
    first = results_of({"a": [0.9] * 8, "b": [0.1] * 8})
    second = results_of({"a": [0.5] * 8, "b": [0.4] * 8, "new": [0.1] * 8})
    table = crossed(first, second)
    assert table.conclusion == "Best by q everywhere, alone or tied: a."
    assert [line.method for line in table.blocks["methods"]] == ["a", "b", "new"]
    assert table.blocks["methods"][-1].rank != table.blocks["methods"][-1].rank, "one value gives no mean rank"
