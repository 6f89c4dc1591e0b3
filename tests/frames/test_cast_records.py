"""Plain records become typed frames, or every fault is named."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.errors import RequestError
from noria.frames.parquet import cast_records, dtype_of, schema_of
from noria.records import Field

MICRO, ZONED = (
    "Datetime(time_unit='us', time_zone=None)",
    "Datetime(time_unit='us', time_zone='Europe/Berlin')",
)
NANO = "Datetime(time_unit='ns', time_zone='UTC')"
NAN, INF = float("nan"), float("inf")


def cast(value: Any, kind: str) -> Any:
    return cast_records([{"x": value}], [Field("x", kind)])["x"][0]


def problem(value: Any, kind: str) -> str:
    """The one problem with a value; the record before and after it are right."""
    with pytest.raises(RequestError) as refused:
        cast_records([{"x": None}, {"x": value}, {"x": None}], [Field("x", kind)])
    (detail,) = refused.value.details
    assert (detail["record"], detail["field"]) == (1, "x")
    json.dumps(detail)
    assert len(str(detail["problem"])) < 200
    return str(detail["problem"])


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (3, "Int64", 3),
        (3.0, "Int64", 3),
        (2**63 - 1, "Int64", 2**63 - 1),
        (-(2**63), "Int64", -(2**63)),
        (2**64 - 1, "UInt64", 2**64 - 1),
        (2**53 + 1, "Int64", 2**53 + 1),
        (255, "UInt8", 255),
        (3, "Float64", 3.0),
        (10**30, "Float64", 1e30),
        (1e-310, "Float64", 1e-310),
        (True, "Boolean", True),
        ("", "String", ""),
        ("3.5", "String", "3.5"),
        ("\0", "String", "\0"),
        ("2024-05-31", MICRO, datetime(2024, 5, 31)),
        ("2024-05-31T10:00:00.000001", MICRO, datetime(2024, 5, 31, 10, 0, 0, 1)),
        ("2024-05-31T10:00:00+02:00", MICRO, datetime(2024, 5, 31, 8)),
        ("2024-05-31T10:00:00Z", ZONED, datetime(2024, 5, 31, 10, tzinfo=UTC)),
        (0, MICRO, datetime(1970, 1, 1)),
        (-1.5, MICRO, datetime(1969, 12, 31, 23, 59, 58, 500_000)),
        ("2024-05-31", "Date", date(2024, 5, 31)),
        ("2024-05-31T10:00:00", "Date", date(2024, 5, 31)),
        ("14:05", "Time", time(14, 5)),
        (90, "Duration(time_unit='us')", timedelta(seconds=90)),
        ("a", "Categorical", "a"),
        ("a", "Enum(categories=['a'])", "a"),
        (1.5, "Decimal(precision=10, scale=2)", 1.5),
        ("[1]", "List(Int64)", "[1]"),
        ("x", "Struct({'a': Int64})", "x"),
        ("x", "Null", "x"),
    ],
)
def test_a_value_that_fits_is_taken(value: Any, kind: str, expected: object) -> None:
    assert cast(value, kind) == expected
    assert cast(None, kind) is None


WRONG: list[tuple[str, list[Any]]] = [
    ("Int64", [True, "3", 3.5, NAN, INF, 2**63, -(2**63) - 1, 1e19, 10**400, [1], {"a": 1}, "x" * 10**6]),
    ("UInt8", [-1, 256, 10**400, -0.5]),
    ("Float64", [True, "3.5", NAN, INF, -INF, 10**400, [1.0], {}, ""]),
    ("Float32", [1e39, -1e39, 10**39]),
    ("Boolean", [0, 1, "true", "", [], 1.0]),
    ("String", [1, 1.5, True, [], {"a": "b"}, "\ud800", "x" * 100_001]),
    ("Categorical", [1, "\udfff"]),
    (
        MICRO,
        [
            "",
            "soon",
            True,
            [],
            {},
            NAN,
            INF,
            1e18,
            -1e18,
            10**400,
            "2024-13-01",
            "0001-01-01T00:00:00+14:00",
            "9999-12-31T23:59:59-14:00",
            "2024-05-31T25:00:00",
        ],
    ),
    (NANO, ["9999-12-31", "0001-01-01", 1e12]),
    ("Date", ["soon", 5, True, "2024-02-30", [], "", "2024-05-31 or so", "2024-05-31T99"]),
    ("Time", ["soon", 5, "25:00", True]),
    ("Duration(time_unit='us')", ["1s", True, 1e300, INF, []]),
]


@pytest.mark.parametrize(("kind", "value"), [(kind, value) for kind, values in WRONG for value in values])
def test_a_value_that_does_not_fit_is_named(kind: str, value: Any) -> None:
    assert problem(value, kind)


def test_deep_and_endless_values_are_named_shortly() -> None:
    deep: Any = []
    for _ in range(900):
        deep = [deep]
    for kind in ("Int64", "String", "Boolean", MICRO, "Date"):
        assert problem(deep, kind)
        assert problem(["x" * 10**6] * 1000, kind)


def test_every_fault_of_every_record_is_named_at_once() -> None:
    fields = [Field("age", "Int64"), Field("name", "String"), Field("note", "String", required=False)]
    records: list[dict[str, object]] = [
        {"age": "old", "name": "a"},
        {"age": 5},
        {"age": 5, "name": 5},
        {"agee": 1, "age": 1, "name": "a"},
    ]
    with pytest.raises(RequestError) as refused:
        cast_records(records, fields)
    found = {(d["record"], d["field"]): d["problem"] for d in refused.value.details}
    assert set(found) == {(0, "age"), (1, "name"), (2, "name"), (3, "agee")}
    assert 'Did you mean "age"?' in str(found[3, "agee"])


def test_names_asked_for_besides_are_left_out() -> None:
    made = cast_records([{"a": 1, "label": object()}], [Field("a", "Int64")], extra={"label"})
    assert made.to_dict(as_series=False) == {"a": [1]}


def test_very_many_faults_are_cut_short() -> None:
    record = {f"unknown{n}": 1 for n in range(50_000)} | {"u" * 10**6: 1}
    with pytest.raises(RequestError) as refused:
        cast_records([record] * 10, [Field(f"f{n}", "Int64") for n in range(50)])
    assert len(refused.value.details) == 100
    assert all(len(str(detail)) < 600 for detail in refused.value.details)


def test_no_records_give_an_empty_frame_of_the_right_types() -> None:
    fields = [Field("a", "Int64"), Field("t", NANO)]
    made = cast_records([], fields)
    assert made.height == 0
    assert schema_of(made) == (("a", "Int64"), ("t", NANO))


@pytest.mark.parametrize(
    "kind",
    [pl.Int8(), pl.UInt64(), pl.Float32(), pl.String(), pl.Boolean(), pl.Date(), pl.Time(), pl.Categorical(),
     pl.Datetime("ms"), pl.Datetime("ns", "UTC"), pl.Datetime("us", "America/New_York"), pl.Duration("ms")],
    ids=str,
)  # fmt: skip
def test_a_types_text_names_the_type(kind: pl.DataType) -> None:
    assert dtype_of(str(kind)) == kind


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None, categories=None)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
every_kind = st.sampled_from(
    [kind for kind, _ in WRONG] + [ZONED, "Int128", "Null", "List(Int64)", "nonsense", "DataFrame"]
)


@given(st.lists(anything, max_size=6), every_kind)
def test_any_value_is_taken_or_refused_by_record_and_field(values: list[Any], kind: str) -> None:
    records = [{"x": value} for value in values]
    wrong: set[object] = set()
    try:
        made = cast_records(records, [Field("x", kind)])
    except RequestError as error:
        wrong = {detail["record"] for detail in error.details}
        assert {detail["field"] for detail in error.details} == {"x"}  # noqa: PT017 - either outcome is right
        made = cast_records([r for place, r in enumerate(records) if place not in wrong], [Field("x", kind)])
    right = [value for place, value in enumerate(values) if place not in wrong]
    assert wrong <= set(range(len(values)))
    assert made["x"].is_null().to_list() == [value is None for value in right]


@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.none(), max_size=20))
def test_whole_numbers_are_exact(values: list[int | None]) -> None:
    assert cast_records([{"x": value} for value in values], [Field("x", "Int64")])["x"].to_list() == values


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False) | st.none() | st.integers(-5, 5), max_size=20))
def test_floats_are_exact(values: list[float | None]) -> None:
    assert cast_records([{"x": value} for value in values], [Field("x", "Float64")])["x"].to_list() == values


def test_numbers_whose_sum_is_beyond_a_float_are_taken_all_the_same() -> None:
    given = [1e308, 1e308, None, -1e308]
    assert cast_records([{"x": value} for value in given], [Field("x", "Float64")])["x"].to_list() == given
