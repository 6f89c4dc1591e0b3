"""The embedded back-end: SQLite files for the ledger, for tracking and for the index of predictions."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from noria.store.segments.log import FolderPredictions
from noria.store.sql.ledger import SqlLedger
from noria.store.sql.tracking import SqlTracking
from noria.store.sqlite.database import Database
from noria.store.sqlite.read_only import open_to_read

__all__ = ["open_ledger", "open_predictions", "open_tracking"]

BUSY_SECONDS = 10.0


def open_ledger(path: Path, busy_s: float = BUSY_SECONDS, *, read_only: bool = False) -> SqlLedger:
    """The ledger in this file, made if it is not there; waits ``busy_s`` for another process's lock."""
    return SqlLedger((open_to_read if read_only else Database)(path, "migrations", busy_s))


def open_predictions(folder: Path, busy_s: float = BUSY_SECONDS, *, read_only: bool = False) -> FolderPredictions:
    """The prediction log in this folder: segments, their index, and the tables they become."""
    index, migrations = folder / "index.db", "prediction_migrations"
    if read_only:
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
        return FolderPredictions(folder, open_to_read(index, migrations, busy_s, takes_in=True))
    folder.mkdir(parents=True, exist_ok=True)
    return FolderPredictions(folder, Database(index, migrations, busy_s))


def open_tracking(path: Path, busy_s: float = BUSY_SECONDS, *, read_only: bool = False) -> SqlTracking:
    """The tracking store in this file, likewise."""
    return SqlTracking((open_to_read if read_only else Database)(path, "tracking_migrations", busy_s))
