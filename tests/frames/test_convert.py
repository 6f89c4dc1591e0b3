"""Frames into pandas and PyArrow and back."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import polars as pl
import polars.testing as pt
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing.parametric import dataframes

from noria.errors import StepError
from noria.frames.convert import Kind, from_any, kind_of_annotation, series_to_kind, to_kind

BERLIN = ZoneInfo("Europe/Berlin")
RICH = pl.DataFrame(
    {
        "whole": [1, 2, 3],
        "gaps": [1, None, 3],
        "part": [1.5, None, float("inf")],
        "text": ["a", None, "ü"],
        "truth": [True, False, True],
        "maybe": [True, None, False],
        "time": [datetime(2024, 1, 1, 5, 6, 7, 8), None, datetime(1969, 12, 31)],
        "zoned": pl.Series([datetime(2024, 3, 31, 0, 30), None, datetime(2024, 10, 27, 0, 30)])
        .dt.replace_time_zone("UTC")
        .dt.convert_time_zone("Europe/Berlin"),
        "day": [date(2024, 2, 29), None, date(1900, 1, 1)],
        "length": [timedelta(seconds=1), None, timedelta(days=-1)],
        "level": pl.Series(["x", None, "y"], dtype=pl.Categorical),
    }
)


@pytest.mark.parametrize("kind", ["polars", "pandas", "pyarrow"])
def test_a_frame_comes_back_as_it_was(kind: Kind) -> None:
    back = from_any(to_kind(RICH, kind))
    assert isinstance(back, pl.DataFrame)
    expected = RICH
    if kind == "pandas":  # it has neither whole numbers with gaps nor days
        expected = expected.cast({"gaps": pl.Float64, "day": pl.Datetime("us")})
        back = back.with_columns(pl.col("gaps", "part").fill_nan(None))
    pt.assert_frame_equal(back, expected, categorical_as_str=True)


def test_pandas_frames_have_the_types_their_users_expect() -> None:
    frame = to_kind(RICH, "pandas")
    kinds = {name: str(kind) for name, kind in frame.dtypes.items()}
    assert kinds["whole"] == "int64"
    assert kinds["gaps"] == "float64"
    assert kinds["truth"] == "bool"
    assert kinds["maybe"] == "object"
    assert kinds["time"] == "datetime64[us]"
    assert kinds["zoned"] == "datetime64[us, Europe/Berlin]"
    assert kinds["level"] == "category"
    assert frame["zoned"][0] == pd.Timestamp("2024-03-31 01:30", tz="Europe/Berlin")
    assert frame["time"].isna().tolist() == [False, True, False]
    assert list(frame.index) == [0, 1, 2]


def test_a_text_column_has_one_type_whatever_is_missing() -> None:
    full, empty = (to_kind(pl.DataFrame({"t": pl.Series(v, dtype=pl.String)}), "pandas") for v in (["a"], [None]))
    none = to_kind(pl.DataFrame({"t": pl.Series([], dtype=pl.String)}), "pandas")
    assert full["t"].dtype == empty["t"].dtype == none["t"].dtype


@pytest.mark.parametrize("name", RICH.columns)
def test_what_the_user_changes_is_the_users_own(name: str) -> None:
    before = RICH.clone()
    series = series_to_kind(RICH[name], "pandas")
    assert series.name == name
    series.iloc[0] = series.iloc[2]
    pt.assert_frame_equal(RICH, before)


PANDAS_OWN = {
    "nullable": pd.array([1, None, 3], dtype="Int64"),
    "nullable_truth": pd.array([True, None, False], dtype="boolean"),
    "nullable_part": pd.array([1.5, None, 2.5], dtype="Float64"),
    "category": pd.Categorical(["a", None, "b"]),
    "number_category": pd.Categorical([3, 1, 3]),
    "objects": np.array(["a", None, float("nan")], dtype=object),
    "stamps": pd.to_datetime(["2024-01-01", "", "2024-05-05"]),
    "zoned": pd.to_datetime(["2024-01-01", "", "2024-05-05"]).tz_localize("Asia/Tokyo"),
    "lengths": pd.to_timedelta(["1s", None, "2h"]),
    "days": np.array([date(2024, 1, 1), None, date(2024, 1, 2)], dtype=object),
    "small": np.array([1, 2, 3], dtype=np.float16),
}


@pytest.mark.parametrize("name", PANDAS_OWN)
def test_pandas_own_types_arrive_with_their_gaps(name: str) -> None:
    series = pd.Series(PANDAS_OWN[name], name="x", index=[7, 7, 9])
    found = from_any(series)
    assert isinstance(found, pl.Series)
    assert found.name == "x"
    assert found.dtype != pl.Object
    assert found.is_null().to_list() == [bool(gap) for gap in series.isna()]
    table = from_any(series.to_frame())
    assert isinstance(table, pl.DataFrame)
    assert table["x"].to_list() == found.to_list()


def test_levels_stay_levels_whatever_one_row_has_of_them() -> None:
    column = pd.Series(["a", None, "b"]).astype("category")
    for rows in (column, column[:1], column[1:2], column[:0]):
        found = from_any(rows)
        assert isinstance(found, pl.Series)
        assert found.dtype == pl.Categorical
        assert str(series_to_kind(found, "pandas").dtype) == "category"


def test_fixed_levels_have_the_same_codes_in_every_part_of_a_column() -> None:
    column = pl.Series("x", ["low", "mid", "high"], dtype=pl.Enum(["low", "mid", "high"]))
    assert series_to_kind(column[2:], "pandas").cat.codes.tolist() == [2]


def test_a_zoned_time_keeps_its_moment_and_zone() -> None:
    moment = datetime(2024, 7, 1, 12, tzinfo=BERLIN)
    found = from_any(pd.Series([pd.Timestamp(moment)]))
    assert isinstance(found, pl.Series)
    assert found.dtype == pl.Datetime("us", "Europe/Berlin")
    assert found[0] == moment.astimezone(UTC)
    fixed = from_any(pd.Series([pd.Timestamp(datetime(2024, 7, 1, tzinfo=timezone(timedelta(hours=2))))]))
    assert fixed[0] == datetime(2024, 6, 30, 22, tzinfo=UTC)


@pytest.mark.parametrize(
    "value",
    [
        pd.Series([1, 2]),
        pd.Index([1, 2]),
        pd.array([1, 2], dtype="Int64"),
        np.array([1, 2]),
        np.array([1, 2], dtype=object),
        [1, 2],
        (1, 2),
        pa.array([1, 2]),
        pa.chunked_array([[1], [2]]),
        pl.Series([1, 2]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_column_may_be_returned_in_many_forms(value: object) -> None:
    found = from_any(value)
    assert isinstance(found, pl.Series)
    assert found.to_list() == [1, 2]


@pytest.mark.parametrize(
    "value",
    [pd.DataFrame({"0": [1, 2]}), pa.table({"0": [1, 2]}), np.array([[1], [2]]), pl.LazyFrame({"0": [1, 2]})],
    ids=lambda value: type(value).__name__,
)
def test_a_table_may_be_returned_in_many_forms(value: object) -> None:
    found = from_any(value)
    assert isinstance(found, pl.DataFrame)
    assert found.to_dict(as_series=False) == {"0": [1, 2]}


@pytest.mark.parametrize(
    "value",
    [1.5, None, "text", {"a": [1]}, object(), np.zeros((2, 2, 2)), pd.Series([object()]), [object()],
     pd.Series(pd.period_range("2024-01", periods=2, freq="M")), pd.DataFrame([[1, 2]], columns=["a", "a"])],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_is_no_table_is_refused_in_a_sentence(value: object) -> None:
    with pytest.raises(StepError):
        from_any(value)


def test_annotations_name_their_library() -> None:
    assert kind_of_annotation(pd.DataFrame) == "pandas"
    assert kind_of_annotation("pl.Series") == "polars"
    assert kind_of_annotation(" pyarrow.Table") == "pyarrow"
    for other in (None, int, "np.ndarray", "DataFrame", 5, ""):
        assert kind_of_annotation(other) is None


@given(
    dataframes(
        max_cols=5,
        max_size=20,
        allowed_dtypes=[pl.Int64, pl.UInt8, pl.Float64, pl.String, pl.Boolean, pl.Datetime("us"), pl.Float32],
        allow_null=False,
        allow_infinity=True,
    )
)
def test_frames_without_gaps_round_trip_through_pandas(frame: pl.DataFrame) -> None:
    back = from_any(to_kind(frame, "pandas"))
    assert isinstance(back, pl.DataFrame)
    pt.assert_frame_equal(back, frame)


@given(st.lists(st.one_of(st.none(), st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1)))))
def test_times_round_trip_to_the_microsecond(moments: list[datetime | None]) -> None:
    for zone in (None, "UTC", "America/New_York"):
        series = pl.Series("t", moments, dtype=pl.Datetime("us"))
        if zone:
            series = series.dt.replace_time_zone("UTC").dt.convert_time_zone(zone)
        back = from_any(series_to_kind(series, "pandas"))
        assert isinstance(back, pl.Series)
        pt.assert_series_equal(back, series)


BLOCKED = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "pyarrow":
            raise ModuleNotFoundError("blocked", name="pyarrow")
sys.meta_path.insert(0, Block())
from datetime import datetime, date, timedelta
import polars as pl
from noria.errors import MissingExtra
from noria.frames.convert import from_any, to_kind
frame = pl.DataFrame({"i": [1, None], "t": ["a", None], "b": [True, None], "f": [1.5, None],
    "d": [datetime(2024, 1, 1), None], "y": [date(2024, 1, 1), None], "l": [timedelta(1), None],
    "c": pl.Series(["a", None], dtype=pl.Categorical),
    "z": pl.Series([datetime(2024, 1, 1), None]).dt.replace_time_zone("UTC")})
made = to_kind(frame, "pandas")
back = from_any(made)
assert back["t"].to_list() == ["a", None], back
assert back["d"].to_list() == [datetime(2024, 1, 1), None]
try:
    to_kind(frame, "pyarrow")
except MissingExtra as error:
    print("ok", error)
assert "pyarrow" not in sys.modules
"""


def test_pandas_needs_no_pyarrow() -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", BLOCKED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ok pyarrow is needed")
    assert "noria[pyarrow]" in done.stdout
