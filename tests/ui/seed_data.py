"""The seeded history: three dataset versions and the profile of their rows."""

from __future__ import annotations

import math
from typing import Any

from seed_story import LOOP, day, name

from noria.records import (
    ColumnProfile,
    DatasetVersion,
    ExpectationReport,
    ExpectationResult,
    Profile,
)


def _column(rows: int, column: str, kind: str, shape: list[int], **more: Any) -> ColumnProfile:
    total = sum(shape)
    counts = tuple(round(rows * part / total) for part in shape)
    return ColumnProfile(name=column, kind=kind, missing=more.pop("missing", 0), counts=counts, **more)


_HOURS = [9, 5, 4, 3, 4, 9, 16, 22, 24, 22, 21, 22, 23, 23, 24, 23, 21, 25, 28, 27, 24, 22, 19, 14]
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_ZONES = ("Midtown", "Upper East Side", "JFK Airport", "East Village", "Harlem", "LaGuardia")


def profile(rows: int) -> Profile:
    """The reference profile of the taxi rows."""
    first, last = day(1, 1, year=2018).timestamp(), day(9, 30, year=2019).timestamp()
    step = (last - first) / 12
    bell = [round(100 * math.exp(-((i - 6) ** 2) / 14)) + 3 for i in range(16)]
    return Profile(
        rows,
        (
            _column(
                rows,
                "hour",
                "number",
                _HOURS,
                edges=tuple(float(h) for h in range(23)),
                distinct=24,
                minimum=0,
                maximum=23,
                mean=13.8,
            ),
            _column(rows, "weekday", "category", [14, 15, 15, 16, 16, 13, 11, 0], levels=_DAYS, distinct=7),
            _column(rows, "pickup_zone", "category", [30, 24, 12, 11, 8, 7, 22], levels=_ZONES, distinct=258),
            _column(rows, "dropoff_zone", "category", [28, 22, 9, 13, 10, 5, 30], levels=_ZONES, distinct=260),
            _column(
                rows,
                "passengers",
                "number",
                [71, 15, 5, 4, 3, 2],
                edges=(1.0, 2.0, 3.0, 4.0, 5.0),
                distinct=6,
                minimum=1,
                maximum=6,
                mean=1.55,
                missing=rows // 250,
            ),
            _column(
                rows,
                "pickup_at",
                "time",
                [8] * 13,
                edges=tuple(first + step * i for i in range(12)),
                distinct=rows - 12,
                minimum=first,
                maximum=last,
            ),
            _column(rows, "shared", "boolean", [92, 8, 0], levels=("False", "True"), distinct=2),
            _column(
                rows,
                "prediction",
                "number",
                bell,
                edges=tuple(2.0 + 2 * i for i in range(15)),
                distinct=rows // 2,
                minimum=1.2,
                maximum=62.4,
                mean=13.9,
            ),
        ),
    )


def dataset(number: int) -> DatasetVersion:
    rows = (203_897, 12_408, 241_020)[number - 1]
    results = [
        ExpectationResult('Unique("trip_id")', True, "Every trip_id comes once."),
        ExpectationResult(
            'Between("passengers", 1, 6)',
            number != 3,
            "All passengers lie in 1 to 6." if number != 3 else "14 rows have passengers outside 1 to 6, the first 0.",
            failing=14 if number == 3 else 0,
            rows=(12, 931, 4077) if number == 3 else (),
            keys=("T-000012", "T-000931", "T-004077") if number == 3 else (),
        ),
    ]
    return DatasetVersion(
        id="blake3:" + name("data", number) * 2,
        loop=LOOP,
        created=(day(10, 1, year=2019), day(3, 19), day(5, 4))[number - 1],
        blob="blake3:" + name("blob", number) * 2,
        rows=rows,
        schema=(
            ("trip_id", "String"),
            ("pickup_at", "Datetime"),
            ("hour", "Int64"),
            ("weekday", "String"),
            ("pickup_zone", "String"),
            ("dropoff_zone", "String"),
            ("passengers", "Int64"),
            ("shared", "Boolean"),
            ("minutes", "Float64"),
        ),
        source='Parquet("trips.parquet", key="trip_id", time="pickup_at", label="minutes")',
        profile=profile(rows),
        expectations=ExpectationReport(tuple(results), 14 if number == 3 else 0),
        first_time=(day(1, 1, year=2018), day(3, 1), day(6, 1, year=2018))[number - 1],
        last_time=(day(9, 30, year=2019), day(3, 18), day(5, 3))[number - 1],
        served_rows=(0, 12_408, 61_377)[number - 1],
        size_bytes=rows * 21,
    )
