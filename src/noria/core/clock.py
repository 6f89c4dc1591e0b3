"""The clock is passed in to everything that decides, so that simulated years run in seconds."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Says what time it is."""

    def now(self) -> datetime:
        """The present, timezone-aware UTC."""
        ...
