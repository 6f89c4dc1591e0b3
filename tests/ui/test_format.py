"""Numbers, sizes and times as people read them."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest

from noria.ui import draw
from noria.ui.format import ago, duration, number, percent, short, signed, size

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (203897, "203,897"),
        (3.6149, "3.61"),
        (23.0, "23"),
        (0.00421, "0.00421"),
        (-0.11, "−0.11"),
        (1234567.8, "1,234,568"),
        (0.0, "0"),
        (1e-6, "1.0e-06"),
        (math.nan, "not a number"),
        (-math.inf, "−∞"),
        (None, "–"),
        ("<b>", "<b>"),
        (True, "true"),
    ],
)
def test_numbers_have_as_many_digits_as_help(value: object, text: str) -> None:
    assert number(value) == text


def test_sizes_lengths_and_shares_have_units() -> None:
    assert [size(0), size(999), size(48_211), size(None)] == ["0 B", "999 B", "48.2 kB", "–"]
    assert [duration(0.00042), duration(0.42), duration(4.2), duration(200), duration(90_000)] == [
        "420 µs", "420 ms", "4.2 s", "3 min 20 s", "1 d 1 h",
    ]  # fmt: skip
    assert [percent(0.042), percent(1.0), percent(0.0004), percent(None)] == ["4.2 %", "100 %", "0.04 %", "–"]
    assert [signed(0.3), signed(-0.3)] == ["+0.3", "−0.3"]
    assert short("blake3:0123456789", 4) == "0123"


def test_near_times_are_told_as_distance_and_far_ones_by_date() -> None:
    assert ago(NOW - timedelta(minutes=3), NOW) == "3 min ago"
    assert ago(NOW + timedelta(hours=2), NOW) == "in 2 h"
    assert ago(NOW, NOW) == "just now"
    assert ago(NOW - timedelta(days=400), NOW) == "25 Jan 2025"


def test_gauge_keeps_order_and_stays_within_its_axis() -> None:
    drawn = draw.gauge(3.9, 4.5, (3.8, 4.1))
    assert drawn is not None
    assert drawn.low is not None
    assert drawn.high is not None
    assert 0 < drawn.low < drawn.value < drawn.high < drawn.threshold < 100
    assert draw.gauge(math.nan, 1.0, None) is None
    assert draw.gauge(1.0, None, None) is None


def test_equal_numbers_still_make_a_drawing() -> None:
    assert draw.gauge(0.0, 0.0, (0.0, 0.0)) == draw.Gauge(50.0, 50.0, 50.0, 50.0)
    assert draw.spark([1.0, 1.0]) != ""
    assert draw.spark([None, 1.0]) == ""
    assert [bar.height for bar in draw.bars([0, 0], ["a", "b"])] == [0, 0]
