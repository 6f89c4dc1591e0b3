"""Asking the controller for a turn."""

from __future__ import annotations

from datetime import datetime

from noria.core.ids import new_id
from noria.errors import Conflict
from noria.records import RetrainRequest, Turn
from noria.store.ports import Ledger, Transaction

__all__ = ["request_turn"]


def request_turn(ledger: Ledger, loop: str, now: datetime, *, by: str, reason: str = "") -> RetrainRequest:
    """Record a request for a turn, with its audit entry; the controller orders the turn.

    Raises:
        Conflict: one is asked for already and has not begun.
    """
    request = RetrainRequest(id=new_id(), loop=loop, at=now, trigger="manual", reason=reason or f"Asked for by {by}.")

    def change(tx: Transaction) -> None:
        waiting, last = tx.find(RetrainRequest, loop=loop), tx.find(Turn, loop=loop)
        if waiting is not None and (last is None or waiting.at > last.since):
            raise Conflict(f"A turn of '{loop}' is asked for already ({waiting.trigger}) and has not begun.")
        tx.put(request)
        tx.audit(now, by, "turn asked for", f"loop:{loop}", request=request.id, reason=request.reason)

    ledger.write(change)
    return request
