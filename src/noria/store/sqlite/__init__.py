"""The embedded back-end: one SQLite file for the ledger, one for predictions, one for tracking."""

from __future__ import annotations

from pathlib import Path

from noria.store.sql.ledger import SqlLedger
from noria.store.sql.predictions import SqlPredictionLog
from noria.store.sql.tracking import SqlTracking
from noria.store.sqlite.database import Database

__all__ = ["open_ledger", "open_predictions", "open_tracking"]

BUSY_SECONDS = 10.0


def open_ledger(path: Path, busy_s: float = BUSY_SECONDS) -> SqlLedger:
    """The ledger in this file, made if it is not there; waits ``busy_s`` for another process's lock."""
    return SqlLedger(Database(path, "migrations", busy_s))


def open_predictions(path: Path, busy_s: float = BUSY_SECONDS) -> SqlPredictionLog:
    """The prediction log in this file, likewise."""
    return SqlPredictionLog(Database(path, "prediction_migrations", busy_s))


def open_tracking(path: Path, busy_s: float = BUSY_SECONDS) -> SqlTracking:
    """The tracking store in this file, likewise."""
    return SqlTracking(Database(path, "tracking_migrations", busy_s))
