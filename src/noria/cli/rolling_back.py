"""``noria rollback``."""

from __future__ import annotations

import getpass
from pathlib import Path

from noria.cli.places import opened, the_loop
from noria.deploy.rollout import current, roll_back
from noria.loop.clock import SystemClock

__all__ = ["roll_back_to"]


def roll_back_to(store: Path | None, loop: str | None, to: int | None, *, by: str | None, comment: str) -> None:
    """Put a former champion back in service, or take out the version that is on its way; servers follow at once."""
    who = by or getpass.getuser()
    reason = comment or f"asked for by {who}."
    with opened(store) as kept:
        with kept.ledger.read() as db:
            name = the_loop(db, loop)
            before = current(db, name)
        made = kept.ledger.write(lambda tx: roll_back(tx, name, SystemClock().now(), reason, to=to, by=who))
    serving = made.routes[0].version
    routes = before.routes if before is not None else ()
    out = [f"version {number}" for number in sorted({route.version for route in routes} - {serving})]
    were = "were" if len(out) > 1 else "was"
    print(f"Version {serving} of '{name}' serves all traffic; {' and '.join(out)} {were} taken out.")
    print("Running servers follow by themselves. What was taken out is rejected: 'noria models' says why.")
