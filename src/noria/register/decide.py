"""A person's yes or no to a version that awaits one."""

from __future__ import annotations

from datetime import datetime

from msgspec.structs import replace

from noria.errors import Conflict
from noria.records import Decision, ModelVersion, Stage
from noria.register.versions import version
from noria.store.ports import Ledger, Transaction


def decide(
    ledger: Ledger,
    loop: str,
    number: int,
    *,
    approved: bool,
    by: str,
    role: str,
    now: datetime,
    comment: str = "",
) -> ModelVersion:
    """Record the decision, with its audit entry, in one transaction. The controller acts on it.

    Raises:
        NotFound: no such version.
        Conflict: the version awaits no decision, or has one.
    """

    def change(tx: Transaction) -> ModelVersion:
        waiting = version(tx, loop, number)
        if waiting.decision is not None:
            said = "approved" if waiting.decision.approved else "rejected"
            raise Conflict(f"Version {number} of '{loop}' was already {said} by {waiting.decision.by}.")
        if waiting.stage is not Stage.awaiting_approval:
            raise Conflict(f"Version {number} of '{loop}' awaits no decision: it is {waiting.stage.value}.")
        decided = replace(waiting, decision=Decision(approved=approved, by=by, role=role, at=now, comment=comment))
        tx.put(decided)
        action = "version approved" if approved else "version rejected by a person"
        tx.audit(now, by, action, f"model:{loop}/{number}", role=role, comment=comment)
        return decided

    return ledger.write(change)
