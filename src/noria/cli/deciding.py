"""``noria approve`` and ``noria reject``."""

from __future__ import annotations

import getpass
from pathlib import Path

from noria.cli.places import opened, the_loop
from noria.loop.clock import SystemClock
from noria.register import decide
from noria.store.ports import LoopRecord

__all__ = ["answer"]


def answer(store: Path | None, loop: str | None, version: int, *, approved: bool, by: str | None, comment: str) -> None:
    """Record the decision; the controller acts on it, or the next ``noria turn``."""
    with opened(store) as kept:
        with kept.ledger.read() as db:
            name = the_loop(db, loop)
            record = db.find(LoopRecord, name=name)
        declared = (record.plan.get("approval") if record else None) or {}
        role = str(declared.get("role", "owner"))
        who = by or getpass.getuser()
        decide(
            kept.ledger,
            name,
            version,
            approved=approved,
            by=who,
            role=role,
            now=SystemClock().now(),
            comment=comment,
        )
        print(f"Version {version} of '{name}' {'approved' if approved else 'rejected'} by {who} as {role}.")
        print("A running 'noria up' takes it from here; without one, run 'noria turn' once more.")
