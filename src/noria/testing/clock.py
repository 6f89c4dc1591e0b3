"""A clock that moves only when told to."""

from __future__ import annotations

from datetime import UTC, datetime

from noria.core.units import Duration, parse_duration

__all__ = ["FakeClock"]


class FakeClock:
    """:class:`noria.core.clock.Clock` for tests and replays; safe to read from other threads.

    Example:
        >>> clock = FakeClock(datetime(2024, 1, 1, tzinfo=UTC))
        >>> clock.advance("36h")
        datetime.datetime(2024, 1, 2, 12, 0, tzinfo=datetime.timezone.utc)
    """

    def __init__(self, start: datetime = datetime(2024, 1, 1, tzinfo=UTC)) -> None:
        if start.tzinfo is None:
            raise ValueError("a clock needs a timezone-aware start, such as datetime(2024, 1, 1, tzinfo=UTC)")
        self._now = start

    def now(self) -> datetime:
        """The present."""
        return self._now

    def advance(self, by: Duration) -> datetime:
        """Let time pass; returns the new present."""
        self._now += parse_duration(by)
        return self._now

    def set(self, moment: datetime) -> None:
        """Jump to a moment.

        Raises:
            ValueError: it lies before the present.
        """
        if moment < self._now:
            raise ValueError(f"a clock does not go back: {moment} is before {self._now}")
        self._now = moment
