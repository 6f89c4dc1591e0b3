"""A validation report: every gate's outcome with the facts it was decided on."""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import Any

import msgspec


class Outcome(str, Enum):
    """A gate's outcome. ``inconclusive`` means "cannot tell" and never passes."""

    passed = "pass"
    failed = "fail"
    inconclusive = "inconclusive"


class GateResult(msgspec.Struct, frozen=True):
    """What one gate decided, and why.

    Attributes:
        gate: the gate as written, e.g. ``AtLeast("roc_auc", 0.8)``.
        outcome: pass, fail or inconclusive.
        sentence: the decision for a person, numbers included.
        value: the number judged, if there is one.
        threshold: what it was judged against.
        interval: confidence interval of ``value``, low and high.
        facts: everything else the decision was made from.
    """

    gate: str
    outcome: Outcome
    sentence: str
    value: float | None = None
    threshold: float | None = None
    interval: tuple[float, float] | None = None
    facts: dict[str, Any] = {}


class ValidationReport(msgspec.Struct, frozen=True):
    """All gates on one run. It passes only when every gate passes."""

    id: str
    loop: str
    run: str
    turn: str
    created: datetime
    results: tuple[GateResult, ...]
    dataset: str | None = None
    champion: int | None = None  # version compared with, if there was one

    @property
    def passed(self) -> bool:
        """Whether every gate passed."""
        return all(result.outcome is Outcome.passed for result in self.results)
