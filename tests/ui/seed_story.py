"""What every part of the seeded history shares: its names, times and plan."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

NOW = datetime(2020, 5, 4, 12, 0, tzinfo=UTC)
LOOP = "arrival-time"
DAY = timedelta(days=1)
PLAN: dict[str, Any] = {
    "name": LOOP,
    "task": "regression",
    "gates": [{"type": "AtMost", "metric": "mae", "written": 'AtMost("mae", 4.5)'}],
    "approval": {
        "type": "Approval",
        "role": "dispatch-lead",
        "within": "3d",
        "written": 'Approval("dispatch-lead")',
    },
    "deploy": {"type": "Canary", "steps": [25, 100], "hold": "1d", "written": "Canary((25, 100))"},
    "monitor": [{"type": "Drift"}, {"type": "Performance", "metric": "mae"}],
    "retrain": [{"type": "OnAlarm", "cooldown": "7d"}, {"type": "Every", "interval": "90d"}],
}


@dataclass(frozen=True, slots=True)
class StoppedClock:
    """Always the same moment."""

    moment: datetime = NOW

    def now(self) -> datetime:
        """The moment."""
        return self.moment


def day(month: int, number: int, hour: int = 9, year: int = 2020) -> datetime:
    """A moment of the story."""
    return datetime(year, month, number, hour, tzinfo=UTC)


def name(kind: str, number: int) -> str:
    """A steady 32-character id."""
    return random.Random(f"{kind}{number}").randbytes(16).hex()
