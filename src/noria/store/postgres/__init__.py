"""The back-end for teams: ledger, predictions and tracking in one PostgreSQL database, a schema each."""

from __future__ import annotations

from noria.errors import MissingExtra
from noria.store.sql.ledger import SqlLedger
from noria.store.sql.predictions import SqlPredictionLog
from noria.store.sql.tracking import SqlTracking

try:
    from noria.store.postgres.database import Database
except ModuleNotFoundError as error:
    raise MissingExtra("psycopg", "postgres", "to keep the store in PostgreSQL") from error

__all__ = ["open_ledger", "open_predictions", "open_tracking"]


def open_ledger(url: str) -> SqlLedger:
    """The ledger: its changes are made one after another, whichever process asks."""
    return SqlLedger(Database(url, "ledger", alone=True))


def open_predictions(url: str) -> SqlPredictionLog:
    """The prediction log, likewise: its place in the order of arrival must be seen in that order."""
    return SqlPredictionLog(Database(url, "predictions", alone=True))


def open_tracking(url: str) -> SqlTracking:
    """The tracking store."""
    return SqlTracking(Database(url, "tracking"))
