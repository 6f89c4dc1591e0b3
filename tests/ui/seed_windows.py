"""The seeded history: thirty weeks of monitoring, with a spring that breaks the model."""

from __future__ import annotations

import math
import random
from typing import Any

from seed_data import profile
from seed_story import DAY, LOOP, day, name

from noria.records import (
    ColumnProfile,
)
from noria.store.ports import Transaction, Window


def put_windows(tx: Transaction) -> None:
    chance = random.Random(7)
    reference = profile(20_000)
    for week in range(30):
        start = day(10, 7, 0, 2019) + week * 7 * DAY
        jump = max(0.0, 1 - abs(week - 24.5) / 2.5) if week >= 23 else 0.0
        version = 1 if start < day(3, 30) else 3
        value = 3.62 + 0.12 * math.sin(week / 3) + chance.gauss(0, 0.05) + 2.4 * jump + (0.35 if version == 3 else 0)
        half = 0.11 + 0.25 * (week >= 23)
        rows = 1800 if week < 23 else 260
        facts: dict[str, Any] = {
            "metric": "mae",
            "value": value,
            "low": value - half,
            "high": value + half,
            "bias": 0.05 * math.sin(week) + 1.9 * jump,
            "rows": rows,
            "estimated": False,
            "baseline": 3.61 if version == 1 else 4.11,
        }
        tx.put(Window(name("perf", week), LOOP, version, "performance", start, start + 7 * DAY, rows, facts))
        columns = {c.name: _drift(c.name, week, chance) for c in reference.columns if c.name != "pickup_at"}
        counts = {c.name: _now_counts(c, week) for c in reference.columns}
        tx.put(
            Window(
                name("drift", week),
                LOOP,
                version,
                "drift",
                start,
                start + 7 * DAY,
                rows,
                {"columns": columns, "counts": counts},
            )
        )


def _drift(column: str, week: int, chance: random.Random) -> dict[str, Any]:
    weight = {"pickup_zone": 3.2, "hour": 2.4, "dropoff_zone": 1.9, "prediction": 2.8}.get(column, 0.3)
    jump = weight * max(0.0, 1 - abs(week - 25) / 6) if week >= 23 else 0.0
    effect = abs(chance.gauss(0.012, 0.006)) + 0.05 * jump
    return {
        "effect": effect,
        "threshold": 0.05,
        "missing": 0.004 + 0.01 * (column == "passengers") * (week > 20),
        "missing_reference": 0.004,
        "new_levels": 0.013 if column == "pickup_zone" and week > 22 else 0.0,
        "drifted": effect > 0.05,
    }


def _now_counts(column: ColumnProfile, week: int) -> list[int]:
    size = len(column.counts)
    tilt = [1 + 0.9 * math.sin(2 * math.pi * i / size) * (week >= 23) for i in range(size)]
    counts = [round(count * part / 60) for count, part in zip(column.counts, tilt, strict=True)]
    return [*counts, 4 if column.kind == "category" else 0, column.missing // 60]
