"""A turn: one pass round the loop, as a durable state machine; and the audit entries it leaves."""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import Any

import msgspec


class TurnState(str, Enum):
    """Where a turn stands. Each change is one transaction together with its records and audit entry."""

    ordered = "ordered"  # asked for; nothing done
    building = "building"  # dataset version recorded; training
    validating = "validating"  # run recorded; gates are being judged
    validated = "validated"  # report recorded and passed; version registered
    awaiting_approval = "awaiting approval"
    canary = "canary"  # the challenger takes a share of traffic
    promoted = "promoted"
    rejected = "rejected"
    rolled_back = "rolled back"
    unchanged = "unchanged"  # data, code and knobs are those of the turn before
    failed = "failed"

    @property
    def final(self) -> bool:
        """Whether the turn is over."""
        return self.value in ("promoted", "rejected", "rolled back", "unchanged", "failed")


class Turn(msgspec.Struct, frozen=True):
    """One pass round the loop.

    Attributes:
        id: identifier; ``number`` counts the loop's turns from 1.
        state: where it stands; ``since`` when it came there.
        trigger: what ordered it; ``reason`` in a sentence.
        overrides: knobs set for this turn only, by ``step.knob``.
    """

    id: str
    loop: str
    number: int
    state: TurnState
    created: datetime
    since: datetime
    trigger: str
    reason: str
    dataset: str | None = None
    run: str | None = None
    report: str | None = None
    version: int | None = None
    alert: str | None = None
    outcome: str = ""
    overrides: dict[str, Any] = {}


class AuditEntry(msgspec.Struct, frozen=True):
    """One change, chained to the one before by digest, written in the same transaction as the change."""

    number: int
    at: datetime
    actor: str
    action: str
    subject: str
    facts: dict[str, Any]
    previous: str
    digest: str
