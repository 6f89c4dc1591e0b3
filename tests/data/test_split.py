from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria import Csv, GroupSplit, RandomSplit, TimeSplit
from noria.data.split import split
from noria.errors import DataError

START = datetime(2026, 1, 1)
DAYS = pl.DataFrame(
    {
        "id": range(100),
        "at": [START + timedelta(days=day) for day in range(100)],
        "who": [f"c{n % 20}" for n in range(100)],
    }
)
TIMED = Csv("days.csv", key="id", time="at")


def test_a_time_split_holds_out_the_newest_and_leaves_the_gap_out() -> None:
    train, test = split(DAYS, TimeSplit(test="30d", gap="7d"), TIMED)
    assert test["id"].to_list() == list(range(70, 100))
    assert train["id"].to_list() == list(range(63))


def test_a_time_split_works_on_dates_and_on_zoned_times() -> None:
    for column in (DAYS["at"].cast(pl.Date), DAYS["at"].dt.replace_time_zone("Asia/Tokyo")):
        train, test = split(DAYS.with_columns(column.alias("at")), TimeSplit(test="30d"), TIMED)
        assert train.height + test.height == 100
        assert test.height == 30


def test_without_a_rule_the_newest_fifth_or_a_random_fifth_is_held_out() -> None:
    train, test = split(DAYS, None, TIMED)
    assert test["id"].to_list() == list(range(80, 100))
    train, test = split(DAYS, None, Csv("days.csv"))
    assert train.height + test.height == 100
    assert 5 < test.height < 40


@pytest.mark.parametrize(
    ("frame", "source", "said"),
    [
        (DAYS, Csv("days.csv"), "give the source time="),
        (DAYS, Csv("days.csv", time="att"), 'Did you mean "at"?'),
        (DAYS, Csv("days.csv", time="who"), "holds String, not times"),
        (DAYS.head(20), TIMED, "runs from 2026-01-01 00:00:00 to 2026-01-20 00:00:00 (19d)"),
        (DAYS.with_columns(at=pl.when(pl.col("id") > 5).then("at")), TIMED, 'NotMissing("at")'),
        (DAYS.head(1), TIMED, "nothing to split"),
    ],
)
def test_a_time_split_that_cannot_be_says_why_and_what_to_do(frame: pl.DataFrame, source: Csv, said: str) -> None:
    with pytest.raises(DataError) as raised:
        split(frame, TimeSplit(test="30d"), source)
    assert said in str(raised.value)


@given(st.integers(0, 2**40), st.integers(2, 60))
def test_a_row_falls_on_the_same_side_whatever_rows_are_with_it(seed: int, cut: int) -> None:
    rule = RandomSplit(test=0.5, seed=seed)
    try:
        _, whole = split(DAYS, rule, TIMED)
        _, part = split(DAYS.tail(cut), rule, TIMED)
    except DataError:
        return  # one side empty: allowed to be refused
    assert set(part["id"]) == set(whole["id"]) & set(DAYS.tail(cut)["id"])


def test_a_key_that_became_a_float_falls_on_the_same_side() -> None:
    _, test = split(DAYS, RandomSplit(), TIMED)
    _, again = split(DAYS.with_columns(pl.col("id").cast(pl.Float64)), RandomSplit(), TIMED)
    assert test["id"].to_list() == again["id"].to_list()


def test_equal_rows_without_a_key_fall_on_the_same_side() -> None:
    twice = pl.concat([DAYS, DAYS])
    train, test = split(twice, RandomSplit(test=0.3), Csv("days.csv"))
    assert not set(train["id"]) & set(test["id"])
    assert train.height + test.height == 200


def test_no_group_is_on_both_sides() -> None:
    train, test = split(DAYS, GroupSplit(by="who", test=0.3), TIMED)
    assert not set(train["who"]) & set(test["who"])
    assert train.height + test.height == 100


def test_an_empty_side_is_refused_with_the_number_of_groups() -> None:
    with pytest.raises(DataError, match="there are 1 groups"):
        split(DAYS.with_columns(who=pl.lit("x")), GroupSplit(by="who"), TIMED)
    with pytest.raises(DataError, match='no column "whom"'):
        split(DAYS, GroupSplit(by="whom"), TIMED)


def test_the_share_held_out_is_about_what_was_asked() -> None:
    many = pl.DataFrame({"id": [f"row-{n}" for n in range(20_000)]})
    _, test = split(many, RandomSplit(test=0.25), Csv("many.csv", key="id"))
    assert abs(test.height / 20_000 - 0.25) < 0.02
