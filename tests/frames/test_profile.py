"""Profiles: every row is counted once, nothing hides."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import msgspec
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing.parametric import dataframes

from noria.frames.profile import count_into, profile_frame
from noria.records import Profile

KINDS: list[pl.DataType | type[pl.DataType]] = [
    pl.Int64, pl.UInt8, pl.Float64, pl.String, pl.Boolean, pl.Datetime("us"), pl.Date, pl.Duration, pl.Time,
    pl.Binary, pl.List(pl.Int8), pl.Decimal(10, 2),
]  # fmt: skip
frames = dataframes(min_cols=1, max_cols=4, max_size=30, allowed_dtypes=KINDS, allow_null=True)


@given(frames)
def test_counts_add_up_to_the_rows(frame: pl.DataFrame) -> None:
    profile = profile_frame(frame)
    for column, counted in zip(profile.columns, count_into(profile, frame), strict=True):
        assert sum(column.counts) + column.missing == frame.height
        assert (counted.counts, counted.new, counted.missing) == (column.counts, 0, column.missing)
        assert counted.rows == frame.height


@given(frames, st.data())
def test_other_rows_are_counted_whole_too(frame: pl.DataFrame, data: st.DataObject) -> None:
    other = data.draw(dataframes(cols=None, max_size=20, allowed_dtypes=KINDS, allow_null=True, min_cols=1, max_cols=3))
    other = other.rename(dict(zip(other.columns, frame.columns, strict=False)))
    for counted in count_into(profile_frame(frame), other):
        assert counted.rows == other.height
        assert min(*counted.counts, counted.new, counted.missing) >= 0


@given(frames)
def test_a_profile_is_read_back_as_it_was_written(frame: pl.DataFrame) -> None:
    profile = profile_frame(frame)
    assert msgspec.json.decode(msgspec.json.encode(profile), type=Profile) == profile


@given(st.lists(st.sampled_from("abc")), st.lists(st.sampled_from("abcxyz")))
def test_levels_never_seen_are_counted_exactly(before: list[str], after: list[str]) -> None:
    profile = profile_frame(pl.DataFrame({"c": pl.Series(before, dtype=pl.String)}))
    (counted,) = count_into(profile, pl.DataFrame({"c": pl.Series(after, dtype=pl.String)}))
    assert counted.new == sum(level not in before for level in after)


def test_a_rare_level_is_told_from_a_new_one() -> None:
    levels = [f"common{n}" for n in range(60) for _ in range(5)] + [f"rare{n}" for n in range(300)]
    profile = profile_frame(pl.DataFrame({"c": levels}))
    (column,) = profile.columns
    assert len(column.counts) == 51
    assert column.distinct == 360
    (counted,) = count_into(profile, pl.DataFrame({"c": ["rare299", "new", "common0", None]}))
    assert (counted.new, counted.missing, counted.counts[-1], sum(counted.counts)) == (1, 1, 1, 2)


def test_with_more_levels_than_are_remembered_an_unknown_one_is_an_other() -> None:
    profile = profile_frame(pl.DataFrame({"c": [str(n) for n in range(2000)]}))
    (counted,) = count_into(profile, pl.DataFrame({"c": ["new"]}))
    assert (counted.new, counted.counts[-1]) == (0, 1)


def test_nan_is_missing_and_infinity_is_not() -> None:
    frame = pl.DataFrame({"f": [1.0, 2.0, float("nan"), None, float("inf"), float("-inf")]})
    (column,) = profile_frame(frame).columns
    assert column.missing == 2
    assert sum(column.counts) == 4
    assert (column.minimum, column.maximum, column.mean) == (1.0, 2.0, 1.5)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_edges_ascend_and_extremes_have_a_place(values: list[float]) -> None:
    (column,) = profile_frame(pl.DataFrame({"f": values})).columns
    assert list(column.edges) == sorted(set(column.edges))
    assert len(column.counts) == len(column.edges) + 1
    assert column.minimum == min(values)
    assert column.maximum == max(values)
    assert column.distinct == len(set(values))
    assert all(column.counts)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_column_with_nothing_in_it_has_a_profile(kind: pl.DataType) -> None:
    for rows in (0, 3):
        frame = pl.DataFrame({"x": pl.Series([None] * rows, dtype=kind)})
        (column,) = profile_frame(frame).columns
        assert column.missing == rows
        assert sum(column.counts) == 0


def test_a_column_that_is_not_there_counts_as_missing() -> None:
    profile = profile_frame(pl.DataFrame({"x": [1, 2, 3], "gone": ["a", "b", "c"]}))
    here, gone = count_into(profile, pl.DataFrame({"x": [1, 9]}))
    assert (here.missing, gone.missing, gone.rows) == (0, 2, 2)


def test_a_column_that_changed_its_type_counts_as_missing_not_as_something_else() -> None:
    profile = profile_frame(pl.DataFrame({"x": [1.0, 2.0, 3.0]}))
    (counted,) = count_into(profile, pl.DataFrame({"x": ["red", "2.5", None]}))
    assert (counted.missing, counted.rows) == (2, 3)


def test_blocks_follow_time_and_add_up() -> None:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    rows = 1000
    frame = pl.DataFrame({"t": [start + timedelta(hours=n) for n in range(rows)], "x": [n // 250 for n in range(rows)]})
    mixed = frame.sample(fraction=1.0, shuffle=True, seed=3)
    profile = profile_frame(mixed, time="t")
    column = profile.column("x")
    assert column is not None
    assert len(column.blocks) == 5
    assert [sum(counts) for counts in zip(*column.blocks, strict=True)] == [*column.counts, column.missing]
    assert column.blocks[0][0] == 200
    assert column.blocks[-1][-2] == 200


def test_days_and_times_share_one_scale() -> None:
    days = profile_frame(pl.DataFrame({"t": [date(2024, 1, 1), date(2024, 1, 2)]})).columns[0]
    times = profile_frame(pl.DataFrame({"t": [datetime(2024, 1, 1), datetime(2024, 1, 2)]})).columns[0]
    assert days == times


def test_bytes_within_lists_are_levels_like_any_other() -> None:
    frame = pl.DataFrame({"x": [[b"a"], [b"a"], [b"\xff"], None]})
    (column,) = profile_frame(frame).columns
    assert (column.distinct, column.missing, column.counts[:2]) == (2, 1, (2, 1))


def test_of_very_many_levels_the_most_frequent_are_kept_in_order() -> None:
    texts = [f"{n:05}" for n in range(3000)] + ["02999"] * 5 + ["00007"] * 3
    (column,) = profile_frame(pl.DataFrame({"x": texts})).columns
    assert column.distinct == 3000
    assert column.levels[:4] == ("02999", "00007", "00000", "00001")
    assert (len(column.levels), len(column.others)) == (50, 950)
    assert sum(column.counts) == len(texts)
