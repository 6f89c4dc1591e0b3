"""The embedded back-end: SQLite files for the ledger, for tracking and for the index of predictions."""

from __future__ import annotations

from pathlib import Path

from noria.store.segments.log import FolderPredictions
from noria.store.sql.ledger import SqlLedger
from noria.store.sql.tracking import SqlTracking
from noria.store.sqlite.database import Database

__all__ = ["open_ledger", "open_predictions", "open_tracking"]

BUSY_SECONDS = 10.0


def open_ledger(path: Path, busy_s: float = BUSY_SECONDS) -> SqlLedger:
    """The ledger in this file, made if it is not there; waits ``busy_s`` for another process's lock."""
    return SqlLedger(Database(path, "migrations", busy_s))


def open_predictions(folder: Path, busy_s: float = BUSY_SECONDS) -> FolderPredictions:
    """The prediction log in this folder: segments, their index, and the tables they become."""
    folder.mkdir(parents=True, exist_ok=True)
    return FolderPredictions(folder, Database(folder / "index.db", "prediction_migrations", busy_s))


def open_tracking(path: Path, busy_s: float = BUSY_SECONDS) -> SqlTracking:
    """The tracking store in this file, likewise."""
    return SqlTracking(Database(path, "tracking_migrations", busy_s))
