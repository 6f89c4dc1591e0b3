from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.core.units import Duration, format_duration, parse_duration, parse_size


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("30d", timedelta(days=30)),
        ("20ms", timedelta(milliseconds=20)),
        ("1h30m", timedelta(hours=1, minutes=30)),
        ("1.5h", timedelta(hours=1, minutes=30)),
        ("2w", timedelta(days=14)),
        (" 1d 12h ", timedelta(hours=36)),
        ("0d", timedelta(0)),
        (90, timedelta(seconds=90)),
        (timedelta(minutes=5), timedelta(minutes=5)),
    ],
)
def test_durations_are_read_as_people_write_them(written: Duration, meant: timedelta) -> None:
    assert parse_duration(written) == meant


@pytest.mark.parametrize("written", ["", "30", "30x", "d30", "-3d", -1, True, None, float("nan"), "9" * 30 + "d"])
def test_what_is_no_duration_is_refused_with_advice(written: Duration) -> None:
    with pytest.raises(ValueError, match=r"unit|duration|negative|long"):
        parse_duration(written)


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=100_000)))
def test_a_formatted_duration_reads_back_as_itself(length: timedelta) -> None:
    assert parse_duration(format_duration(length)) == length


@pytest.mark.parametrize(
    ("text", "size"),
    [("500MB", 500_000_000), ("20GB", 20 * 10**9), ("1.5TiB", 1_649_267_441_664), ("1kb", 1000), ("2 KiB", 2048)],
)
def test_a_size_is_read_as_people_write_it(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "20", "20G", "GB", "-1GB", "1e3MB", "20GBps"])
def test_what_is_no_size_is_refused_with_the_way_to_write_it(text: str) -> None:
    with pytest.raises(ValueError, match="write for example"):
        parse_size(text)
