"""One digest for one content."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing.parametric import dataframes

from noria.core.hashing import is_digest
from noria.errors import DataError
from noria.frames.digest import frame_digest
from noria.frames.parquet import read_parquet, write_parquet

KINDS: list[pl.DataType | type[pl.DataType]] = [
    pl.Int64, pl.UInt8, pl.Float64, pl.String, pl.Boolean, pl.Datetime("us", "UTC"), pl.Date, pl.Categorical,
    pl.Duration, pl.Time, pl.Binary,
]  # fmt: skip
FRAME = pl.DataFrame({"a": [1, None, 3], "t": ["x", "", None], "f": [0.5, None, 2.5]})


@given(dataframes(max_cols=4, max_size=12, allowed_dtypes=KINDS, allow_null=True), st.data())
def test_memory_layout_makes_no_difference(frame: pl.DataFrame, data: st.DataObject) -> None:
    expected = frame_digest(frame)
    cut = data.draw(st.integers(0, frame.height))
    pieces = pl.concat([frame[:cut], frame[cut:]], rechunk=False)
    assert frame_digest(pieces) == expected
    assert frame_digest(frame.clone().rechunk()) == expected
    if frame.width:
        padded = pl.concat([frame, frame, frame])[frame.height : 2 * frame.height]
        assert frame_digest(padded) == expected
        assert frame_digest(read_parquet(write_parquet(frame))) == expected


@given(
    dataframes(min_cols=1, max_cols=3, min_size=2, max_size=10, allowed_dtypes=[pl.Int64, pl.String], allow_null=True)
)
def test_another_order_of_rows_is_another_content(frame: pl.DataFrame) -> None:
    turned = frame.reverse()
    assert (frame_digest(turned) == frame_digest(frame)) == turned.equals(frame)


@pytest.mark.parametrize(
    "other",
    [
        FRAME.rename({"a": "b"}),
        FRAME.select("t", "a", "f"),
        FRAME.cast({"a": pl.Int32}),
        FRAME.cast({"t": pl.Categorical}),
        FRAME.drop("f"),
        FRAME[:2],
        FRAME.with_columns(a=pl.Series([1, 0, 3])),
        FRAME.with_columns(t=pl.Series(["x", None, None])),
        FRAME.with_columns(t=pl.Series(["x", None, ""])),
        FRAME.with_columns(t=pl.Series(["", "x", None])),
        FRAME.with_columns(f=pl.Series([0.5, float("nan"), 2.5])),
        FRAME.with_columns(f=pl.Series([0.5, None, 2.5000000000000004])),
    ],
)
def test_any_difference_is_another_digest(other: pl.DataFrame) -> None:
    assert frame_digest(other) != frame_digest(FRAME)
    assert is_digest(frame_digest(other))


def test_texts_do_not_run_into_each_other() -> None:
    made = [["ab", "c"], ["a", "bc"], ["", "abc"], ["abc", ""], [None, "abc"]]
    assert len({frame_digest(pl.DataFrame({"t": texts})) for texts in made}) == len(made)


@pytest.mark.parametrize(
    "values",
    [[Decimal("1.50"), None], [[1, 2], None], [{"a": 1}, None], [time(1), None], [timedelta(1), None],
     [b"\xff", None], [date(2024, 1, 1), None], [datetime(2024, 1, 1), None], [None, None], [2**100, None]],
    ids=str,
)  # fmt: skip
def test_every_kind_of_column_has_a_digest(values: list[object]) -> None:
    frame = pl.DataFrame({"x": values})
    assert frame_digest(frame) == frame_digest(frame.clone())
    assert frame_digest(frame) != frame_digest(frame.reverse()) or values == [None, None]


NESTED = [
    pl.List(pl.Float64), pl.Array(pl.Float64, 2), pl.Struct({"a": pl.Float64, "b": pl.List(pl.String)}),
    pl.List(pl.Struct({"a": pl.Binary})), pl.List(pl.List(pl.Int64)), pl.Struct({"t": pl.Datetime("ns", "UTC")}),
]  # fmt: skip


@given(dataframes(max_cols=2, max_size=8, allowed_dtypes=NESTED, allow_null=True), st.data())
def test_memory_layout_of_lists_and_structs_makes_no_difference(frame: pl.DataFrame, data: st.DataObject) -> None:
    expected = frame_digest(frame)
    cut = data.draw(st.integers(0, frame.height))
    assert frame_digest(pl.concat([frame[:cut], frame[cut:]], rechunk=False)) == expected
    assert frame_digest(pl.concat([frame, frame])[frame.height :]) == expected


LISTS = pl.List(pl.Float64)
STRUCT = pl.Struct({"x": pl.Int64})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pl.Series([[float("nan")]], dtype=LISTS), pl.Series([[None]], dtype=LISTS)),
        (pl.Series([[float("inf")]], dtype=LISTS), pl.Series([[None]], dtype=LISTS)),
        (pl.Series([[]], dtype=LISTS), pl.Series([None], dtype=LISTS)),
        (pl.Series([[1.0], [2.0, 3.0]]), pl.Series([[1.0, 2.0], [3.0]])),
        (pl.Series([[b"a"]]), pl.Series([[b"b"]])),
        (pl.Series([{"x": 1}]), pl.Series([{"y": 1}])),
        (
            pl.Series([{"x": None}], dtype=pl.Struct({"x": pl.Int64})),
            pl.Series([None], dtype=pl.Struct({"x": pl.Int64})),
        ),
        (pl.Series([2**100]), pl.Series([2**100 + 1])),
    ],
)
def test_any_difference_within_lists_and_structs_is_another_digest(one: pl.Series, other: pl.Series) -> None:
    assert frame_digest(one.to_frame("x")) != frame_digest(other.to_frame("x"))


@pytest.mark.parametrize("kind", [pl.Float64, pl.Float32])
def test_the_bits_of_a_nan_make_no_difference(kind: type[pl.DataType]) -> None:
    nan = np.array([float("nan"), 1.0])
    one, other = (pl.DataFrame({"x": pl.Series(values, dtype=kind)}) for values in (nan, np.copysign(nan, [-1, 1])))
    assert frame_digest(one) == frame_digest(other)
    assert frame_digest(one) != frame_digest(one.fill_nan(None))


def test_python_objects_have_none() -> None:
    with pytest.raises(DataError, match="'x' holds Python objects"):
        frame_digest(pl.DataFrame({"x": pl.Series([object()], dtype=pl.Object)}))


def test_equal_frames_give_equal_files() -> None:
    pieces = pl.concat([FRAME[:1], FRAME[1:]], rechunk=False)
    assert write_parquet(pieces) == write_parquet(FRAME)
