"""The summary table marks what a reader may believe, and what not."""

from __future__ import annotations

import math
import re

import pytest

from tests.report.rows import aggregate, measures, rows
from xaikit.report.numbers.columns import COLUMNS, QUESTIONS, shown_columns
from xaikit.report.numbers.tables import summary_table


def table_of(values: dict[str, float], control: float, images: int = 8, **more):
    drawn = []
    for name, value in (values | {"ones": control}).items():
        methods = {name: "control" if name == "ones" else "gradient"}
        drawn += rows(images, methods=methods, o_soft=[value] * 11, y=0.5, **more)
    return summary_table(aggregate(drawn))


def cell(table, method: str, key: str):
    place = [column.key for column in table.columns].index(key)
    (line,) = [line for line in table.methods + table.controls if line.result.method == method]
    return line.cells[place]


def test_best_and_second_among_the_methods_only():
    table = table_of({"a": 0.6, "b": 0.9, "c": 0.4}, control=0.99)
    assert [cell(table, name, "keep_auc_soft").mark for name in "abc"] == ["second", "best", ""]
    assert cell(table, "ones", "keep_auc_soft").mark == ""
    assert [line.result.method for line in table.controls] == ["ones"]


def test_lower_is_better_where_the_arrow_says_so():
    table = table_of({"a": 0.1, "b": 0.4, "c": 0.2}, control=0.0)
    assert [cell(table, name, "apd").mark for name in "abc"] == ["", "best", "second"]


def test_values_printed_alike_share_a_mark():
    table = table_of({"a": 0.60001, "b": 0.60002, "c": 0.5}, control=0.0)
    assert [cell(table, name, "keep_auc_soft").mark for name in "abc"] == ["best", "best", "second"]


def test_what_the_test_does_not_tell_from_the_best_shares_its_mark():
    few = table_of({"a": 0.6, "b": 0.9, "c": 0.4}, control=0.0, images=2)
    assert [cell(few, name, "keep_auc_soft").mark for name in "abc"] == ["best", "best", "best"]
    assert [cell(few, name, "keep_auc_soft").tied for name in "abc"] == [True, False, True]
    assert cell(few, "a", "keep_auc_soft").hint == "not distinguished from b: p = 1 over 2 images"
    many = table_of({"a": 0.6, "b": 0.9, "c": 0.4}, control=0.0)
    assert not any(cell(many, name, "keep_auc_soft").tied for name in "abc")
    assert cell(many, "a", "keep_auc_soft").p == pytest.approx(2 * 2 / 2**8), "two flips of 256, twice by Holm"
    assert math.isnan(cell(many, "b", "keep_auc_soft").p)


def test_second_is_the_next_after_the_tied():
    noisy = [0.9, 0.1, 0.9, 0.1, 0.9, 0.1, 0.9, 0.1]
    values = {"a": [0.5] * 8, "b": noisy, "c": [0.49] * 8, "d": [0.48] * 8}
    drawn = [
        row | {"measure.q": value}
        for name, own in values.items()
        for row, value in zip(rows(8, methods={name: "gradient"}), own, strict=True)
    ]
    table = summary_table(aggregate(drawn), measures(q="higher"))
    assert [cell(table, name, "measure.q").mark for name in "abcd"] == ["best", "best", "second", ""]


def test_intervals_stand_beside_means_but_not_beside_costs():
    table = table_of({"a": 0.4, "b": 0.6}, control=0.5)
    assert cell(table, "a", "keep_auc_soft").interval == "[.400, .400]"
    assert cell(table, "ones", "keep_auc_soft").interval == "[.500, .500]"
    assert re.fullmatch(r"\[\.\d{3}, \.\d{3}\]", cell(table, "a", "map_mean").interval)
    assert cell(table, "a", "ms").interval == ""
    assert cell(table_of({"a": 0.4, "b": 0.6}, control=0.5, images=1), "a", "keep_auc_soft").interval == "–"


def test_every_measure_of_the_rows_has_a_column_with_its_direction():
    drawn = [
        row | {"measure.srg": 0.2, "measure.infidelity": 0.0123, "measure.new": 250.0, "measure.api": 0.1}
        for row in rows(methods={"a": "gradient", "b": "gradient"})
    ]
    results = aggregate(drawn)
    found = {
        column.title: column for column in shown_columns(results, measures(infidelity="lower", srg="higher", x="lower"))
    }
    assert [found[name].arrow for name in ("srg", "infidelity", "new")] == ["↑", "↓", ""]
    assert [found[name].text(results[0].measures[name]) for name in ("srg", "infidelity", "new")] == [
        ".200",
        ".0123",
        "250",
    ]
    assert not found["new"].ranked
    assert "x" not in found, "nothing has a value"
    assert found["api"].key == "measure.api", "other values than those at t = 0 are a column of their own"


def test_columns_stand_in_the_order_of_the_suite_those_that_decide_first():
    drawn = [
        row | {"measure.srg": 0.2, "measure.api": max(row["o_soft"][0] - row["y"], 0) / row["y"], "measure.apd": 0.3}
        for row in rows()
    ]

    def shown(suite):
        return [column for column in summary_table(aggregate(drawn), suite).columns if not column.is_cost]

    columns = shown(measures(api="higher", srg="higher", apd="lower"))
    assert [column.key for column in columns][:4] == ["api", "measure.srg", "measure.apd", "keep_auc_soft"]
    assert [column.key for column in columns if column.decides] == ["api", "measure.srg"]
    assert not {"measure.api"} & {column.key for column in columns}, "the same values are one column"
    assert "apd" in {column.key for column in columns}, "other values under the same name are two"
    assert [column.key for column in shown(None) if column.decides] == ["keep_auc_soft", "keep_auc_binary"]


def test_a_wide_table_is_printed_in_parts():
    table = table_of({"a": 0.4, "b": 0.6}, control=0.5)
    parts = table.parts(7)
    assert [len(part.columns) for part in parts] == [5, 6, 6]
    assert sum((part.columns for part in parts), ()) == table.columns
    for name, lines in table.blocks.items():
        for index, line in enumerate(lines):
            assert sum((part.blocks[name][index].cells for part in parts), ()) == line.cells
    assert [sum(span for _, span in part.groups) for part in parts] == [5, 6, 6]


def test_binary_figures_stand_beside_the_soft_and_every_group_says_what_it_asks():
    table = table_of({"a": 0.4, "b": 0.6}, control=0.5)
    titles = {name: [one.title for one in table.columns if one.group == name] for name, _ in table.groups}
    assert set(titles["binary masks"]) <= set(titles["soft masks"])
    assert "map mean" in titles["soft masks"]
    assert set(titles) <= set(QUESTIONS)


def test_a_control_that_wins_is_named():
    table = table_of({"a": 0.4, "b": 0.6}, control=0.5)
    assert cell(table, "a", "keep_auc_soft").beaten
    assert cell(table, "a", "keep_auc_soft").hint == "no better than the control ones"
    assert not cell(table, "b", "keep_auc_soft").beaten
    assert not [warning for warning in table.warnings if warning.startswith("KeepAUC (soft")]
    lost = table_of({"a": 0.4, "b": 0.6}, control=0.7)
    (warning,) = [warning for warning in lost.warnings if warning.startswith("KeepAUC (soft")]
    assert "ones beats every method, .700 against .600 for b" in warning


def test_the_oracle_is_no_argument_against_a_measure():
    methods = {"a": "gradient", "b": "gradient", "oracle": "control", "ones": "control"}
    values = {"a": 0.4, "b": 0.6, "oracle": 0.9, "ones": 0.1}
    drawn = [
        row | {"measure.q": values[name]}
        for name, family in methods.items()
        for row in rows(8, methods={name: family}, o_soft=[values[name]] * 11, y=0.5)
    ]
    table = summary_table(aggregate(drawn), measures(q="higher"))
    assert {name: [line.result.method for line in lines] for name, lines in table.blocks.items()} == {
        "methods": ["a", "b"],
        "controls": ["ones"],
        "known evidence": ["oracle"],
    }
    assert not any(cell(table, name, key).beaten for name in "ab" for key in ("measure.q", "keep_auc_soft"))
    assert not any("oracle" in warning for warning in table.warnings)


def test_columns_without_values_are_left_out():
    table = table_of({"a": 0.4, "b": 0.6}, control=0.5, pointing=None, energy_inside=None)
    assert "known evidence" not in dict(table.groups)
    assert sum(span for _, span in table.groups) == len(table.columns) == len(COLUMNS) - 2
    assert table.starts >= {0, 1, 2}, "the two that decide, then the rest"


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("api", 0.1234, ".123"),
        ("api", 1.5, "1.500"),
        ("ms", 0.25, "0.2"),
        ("api", -0.25, "-.250"),
        ("api", -10.5, "-10.500"),
        ("api", -0.0001, ".000"),
    ],
)
def test_numbers_as_they_are_printed(key, value, text):
    (column,) = [column for column in COLUMNS if column.key == key]
    assert column.text(value) == text
    assert column.text(float("nan")) == "–"
