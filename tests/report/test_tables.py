"""The summary table marks what a reader may believe, and what not."""

from __future__ import annotations

import pytest

from tests.report.rows import rows
from xaikit.report.aggregate import aggregate
from xaikit.report.tables import COLUMNS, summary_table


def table_of(values: dict[str, float], control: float, **more):
    drawn = [
        rows(images=1, methods={name: "gradient"}, o_soft=[value] * 11, y=0.5, **more)[0]
        for name, value in values.items()
    ]
    drawn += rows(images=1, methods={"ones": "control"}, o_soft=[control] * 11, y=0.5, **more)
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


def test_a_control_that_wins_is_named():
    table = table_of({"a": 0.4, "b": 0.6}, control=0.5)
    assert cell(table, "a", "keep_auc_soft").beaten
    assert cell(table, "a", "keep_auc_soft").hint == "no better than the control ones"
    assert not cell(table, "b", "keep_auc_soft").beaten
    assert not [warning for warning in table.warnings if warning.startswith("KeepAUC (soft")]
    lost = table_of({"a": 0.4, "b": 0.6}, control=0.7)
    (warning,) = [warning for warning in lost.warnings if warning.startswith("KeepAUC (soft")]
    assert "ones beats every method, .700 against .600 for b" in warning


def test_columns_without_values_are_left_out():
    table = table_of({"a": 0.4, "b": 0.6}, control=0.5, pointing=None, energy_inside=None)
    assert "known evidence" not in dict(table.groups)
    assert sum(span for _, span in table.groups) == len(table.columns) == len(COLUMNS) - 2
    assert table.starts >= {0, 7}


@pytest.mark.parametrize(
    ("key", "value", "text"), [("api", 0.1234, ".123"), ("api", 1.5, "1.500"), ("ms", 0.25, "0.2")]
)
def test_numbers_as_they_are_printed(key, value, text):
    (column,) = [column for column in COLUMNS if column.key == key]
    assert column.text(value) == text
    assert column.text(float("nan")) == "–"
