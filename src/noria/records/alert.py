"""What monitoring says, and what it makes the loop do."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec


class Alert(msgspec.Struct, frozen=True):
    """Something in production is not as it was when the model was validated.

    Attributes:
        id: identifier.
        loop: the loop.
        version: the model version watched.
        at: when it was raised.
        kind: ``performance`` (realised loss), ``drift`` (inputs), ``schema`` or ``serving``.
        severity: ``alarm`` (harm: the error is up) or ``warning`` (evidence: the inputs moved).
        sentence: for a person.
        since: estimated start of the change.
        facts: the numbers it was decided on.
    """

    id: str
    loop: str
    version: int
    at: datetime
    kind: str
    severity: str
    sentence: str
    since: datetime | None = None
    facts: dict[str, Any] = {}


class RetrainRequest(msgspec.Struct, frozen=True):
    """An order for the next turn.

    Attributes:
        trigger: what asked, e.g. ``OnAlarm``, ``Every``, ``OnNewRows``, ``manual``, ``first``.
        alert: the alert behind it, if any.
    """

    id: str
    loop: str
    at: datetime
    trigger: str
    reason: str
    alert: str | None = None
