from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pandera.pandas as pandas_schemas
import pandera.polars as polars_schemas
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria import (
    Between,
    Csv,
    Fresh,
    HasColumns,
    MissingShare,
    NotMissing,
    OneOf,
    Pandera,
    Rows,
    Unique,
)
from noria.data.expect import FAILED, ROW, judge, require
from noria.errors import DataError
from noria.records import ExpectationReport, ExpectationResult

NOW = datetime(2026, 1, 10, tzinfo=UTC)
SOURCE = Csv("people.csv", key="id")
FRAME = pl.DataFrame(
    {
        "id": ["a", "b", "c", "c", None, None],
        "age": [20, 30, 400, None, 50, -1],
        "score": [0.5, float("nan"), 2.0, None, 0.1, float("inf")],
        "kind": ["x", "y", "z", None, "x", "y"],
        "at": [datetime(2026, 1, day) for day in (1, 2, 3, 4, 5, 6)],
        "on": [date(2026, 1, day) for day in (1, 2, 3, 4, 5, 6)],
        "tags": [["p"], ["q"], [], None, ["p"], ["p"]],
        "empty": [None] * 6,
    }
)


def find(*rules: Any) -> tuple[pl.DataFrame, pl.DataFrame, ExpectationReport]:
    return judge(FRAME, rules, SOURCE, NOW)


def one(rule: Any) -> ExpectationResult:
    return find(rule)[2].results[0]


@pytest.mark.parametrize(
    ("rule", "rows"),
    [
        (Unique("id"), (3,)),
        (Between("age", 0, 110), (2, 5)),
        (Between("age", None, 110), (2,)),
        (Between("score", 0, 1), (2, 5)),
        (Between("at", "2026-01-02", None), (0,)),
        (Between("at", date(2026, 1, 2), datetime(2026, 1, 5)), (0, 5)),
        (Between("on", "2026-01-02", None), (0,)),
        (OneOf("kind", ("x", "y")), (2,)),
        (NotMissing("age"), (3,)),
        (NotMissing("score"), (1, 3)),
    ],
)
def test_a_row_wise_expectation_names_its_failing_rows(rule: Any, rows: tuple[int, ...]) -> None:
    kept, quarantined, report = find(rule)
    result = report.results[0]
    assert (result.passed, result.blocking, result.rows, result.failing) == (False, False, rows, len(rows))
    assert quarantined[ROW].to_list() == list(rows)
    assert kept.height == FRAME.height - len(rows)
    assert kept.columns == FRAME.columns
    assert report.quarantined == len(rows)


def test_failing_rows_are_named_by_key_and_by_every_expectation_they_break() -> None:
    _, quarantined, report = find(Between("age", 0, 110), OneOf("kind", ("x", "y")))
    assert report.results[0].keys == ("c", "None")
    assert "seen: -1 to 400" in report.results[0].sentence
    assert "Key c" in report.results[1].sentence
    assert quarantined[FAILED].to_list() == [
        'Between("age", 0, 110); OneOf("kind", ("x", "y"))',
        'Between("age", 0, 110)',
    ]


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (Unique("idd"), 'Did you mean "id"?'),
        (Between("kind", 0, 1), "holds String, which cannot be compared with 0"),
        (Between("age", "a", "b"), "cannot be compared with 'a'"),
        (Between("at", "soon", None), "soon"),
        (Between("tags", 0, 1), "no single values"),
        (OneOf("age", ("x", "y")), "holds Int64 (int), and the allowed values are str"),
        (OneOf("tags", ("x",)), "no single values"),
        (MissingShare("score", at_most=0.2), '33.3% of "score" is missing, more than 20.0%'),
        (Fresh("at", within="2d"), "4d old; at most 2d is allowed"),
        (Fresh("kind", within="2d"), "holds String, not a time"),
        (Fresh("empty", within="2d"), "not a time"),
        (Rows(10), "6 rows, fewer than 10"),
        (HasColumns({"age": "Float64", "kindd": "str"}), '"age" holds Int64, not Float64.'),
    ],
)
def test_what_is_wrong_with_the_table_blocks_and_sets_no_row_aside(rule: Any, said: str) -> None:
    kept, quarantined, report = find(rule)
    result = report.results[0]
    assert (result.passed, result.blocking) == (False, True)
    assert said in result.sentence
    assert (kept.height, quarantined.height) == (FRAME.height, 0)


@pytest.mark.parametrize(
    "rule",
    [
        Between("empty", 0, 1),
        OneOf("empty", ("a",)),
        Unique("empty"),
        MissingShare("score", at_most=0.5),
        Fresh("at", within="5d"),
        Fresh("on", within="5d"),
        Rows(6),
        HasColumns({"age": "int", "score": "number", "kind": "str", "at": "datetime", "on": "date"}),
        HasColumns({"age": "Int64", "kind": "string", "tags": "any", "at": "Datetime"}),
    ],
)
def test_what_holds_passes(rule: Any) -> None:
    assert one(rule).passed


@pytest.mark.parametrize("library", [pandas_schemas, polars_schemas])
def test_a_pandera_schema_is_taken_as_it_is_bare_or_wrapped(library: Any) -> None:
    schema = library.DataFrameSchema({"age": library.Column(checks=library.Check.ge(0), nullable=True)})
    for given_as in (schema, Pandera(schema)):
        result = one(given_as)
        assert (result.rows, result.blocking) == ((5,), False)
        assert "greater_than_or_equal_to(0)" in result.sentence


@pytest.mark.parametrize("library", [pandas_schemas, polars_schemas])
def test_a_pandera_schema_that_wants_another_column_blocks(library: Any) -> None:
    result = one(library.DataFrameSchema({"height": library.Column(float)}))
    assert result.blocking
    assert "height" in result.sentence


def test_an_empty_table_is_judged_without_a_crash() -> None:
    rules = [Unique("id"), Between("age", 0, 1), NotMissing("id"), MissingShare("id", at_most=0), Rows(1)]
    _, _, report = judge(FRAME.clear(), rules, SOURCE, NOW)
    assert [result.passed for result in report.results] == [True, True, True, True, False]


def test_the_report_stops_the_turn_by_policy() -> None:
    _, _, report = find(Between("age", 0, 110))
    require(report, FRAME.height, "quarantine", 0.5)
    with pytest.raises(DataError, match="2 of 6 rows break an expectation, more than the 10%"):
        require(report, FRAME.height, "quarantine", 0.1)
    with pytest.raises(DataError, match=r'Between\("age", 0, 110\)'):
        require(report, FRAME.height, "stop", 0.5)
    with pytest.raises(DataError, match="fewer than 10"):
        require(find(Rows(10))[2], FRAME.height, "quarantine", 1.0)


@given(st.lists(st.none() | st.floats() | st.sampled_from([1.0, 2.0])))
def test_every_row_is_either_kept_or_set_aside(numbers: list[float | None]) -> None:
    frame = pl.DataFrame({"n": pl.Series(numbers, dtype=pl.Float64)})
    kept, quarantined, report = judge(frame, [Unique("n"), Between("n", 0, 5), NotMissing("n")], Csv("n.csv"), NOW)
    assert kept.height + quarantined.height == frame.height
    assert report.quarantined == quarantined.height
    left = kept["n"].to_list()
    assert len(set(left)) == len(left)
    assert all(value is not None and 0 <= value <= 5 for value in left)
