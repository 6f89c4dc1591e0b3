"""Counting what is long costs more than a page may: counts are kept for a moment."""

from __future__ import annotations

import time
from datetime import datetime

from noria.store.ports import PredictionLog
from noria.store.tracking import Activity, TrackingReader

_PATIENCE = 30  # a count is taken again after this many times the time it took


class RememberedCounts:
    """Counts of a prediction log that may be a little old: at most 1/30 of the time is spent counting."""

    def __init__(self, log: PredictionLog) -> None:
        self._log = log
        self._known: dict[tuple[str, str], tuple[float, tuple[int, int, int]]] = {}

    def __call__(self, loop: str, since: datetime) -> tuple[int, int, int]:
        """Predictions, errors and labelled predictions since a moment."""
        key = (loop, since.isoformat(timespec="minutes"))
        started = time.monotonic()
        until, found = self._known.get(key, (0.0, (0, 0, 0)))
        if started < until:
            return found
        found = self._log.counts(loop, since)
        ended = time.monotonic()
        if len(self._known) > 500:
            self._known.clear()
        self._known[key] = (ended + _PATIENCE * (ended - started), found)
        return found


class RememberedActivity:
    """What goes on in the experiments; may be a little old: at most 1/30 of the time is spent counting."""

    def __init__(self) -> None:
        self._until = 0.0
        self._known: dict[int, Activity] = {}

    def __call__(self, reader: TrackingReader) -> dict[int, Activity]:
        """Each experiment's active runs."""
        started = time.monotonic()
        if started >= self._until:
            self._known = reader.activity()
            ended = time.monotonic()
            self._until = ended + _PATIENCE * (ended - started)
        return self._known
