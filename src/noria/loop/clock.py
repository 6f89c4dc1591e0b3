"""The real clock: the one place that asks the system for the time."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["SystemClock"]


class SystemClock:
    """:class:`noria.core.clock.Clock` of the machine."""

    def now(self) -> datetime:
        """The present."""
        return datetime.now(UTC)
