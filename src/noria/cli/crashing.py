"""What a server does about a version that keeps crashing."""

from __future__ import annotations

import logging
from datetime import datetime

from noria.deploy.rollout import roll_back
from noria.errors import NoriaError
from noria.store import Store

__all__ = ["roll_back_crashed"]

_log = logging.getLogger("noria.serve")


def roll_back_crashed(store: Store, now: datetime, loop: str, version: int, reason: str) -> None:
    """Put the version before back in service, with an alert; if there is none, say so in the log."""
    why = f"Version {version} keeps crashing: {reason}."
    try:
        store.ledger.write(lambda tx: roll_back(tx, loop, now, why, version=version))
    except NoriaError as error:
        _log.error("version %d of %s cannot be rolled back: %s", version, loop, error)
