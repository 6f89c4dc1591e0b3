"""A canary as the pages show it: each step with its requests, latencies, agreement and what was decided."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from noria.deploy.evidence import canary_windows
from noria.deploy.rollout import SHADOW_STEP
from noria.records import Turn, TurnState
from noria.store.ports import Reader, Window


class Side(msgspec.Struct, frozen=True):
    """What one of the two versions did since the canary began.

    Attributes:
        p50_ms: median latency of single-row requests, milliseconds; ``p95_ms`` what 95 % of them stayed under.
        loss: mean loss of the labelled rows.
    """

    version: int
    requests: int
    errors: int
    p50_ms: float | None
    p95_ms: float | None
    loss: float | None


class CanaryStep(msgspec.Struct, frozen=True):
    """One step of a canary.

    Attributes:
        name: ``shadow`` or the percentage of traffic.
        running: whether it stands there now.
        requests: answered by the challenger in this step.
        compared: answers of the shadow that were compared with those given; ``agreed`` how many were equal.
        agreement: their share, None of none.
        sentence: what was decided last, and why.
    """

    name: str
    running: bool
    since: datetime
    seen: datetime
    requests: int
    challenger: Side
    champion: Side
    compared: int
    agreed: int
    agreement: float | None
    sentence: str


def canary_steps(db: Reader, turn: Turn) -> list[CanaryStep]:
    """The steps of a turn's canary; none before it began."""
    found = canary_windows(db, turn.id)
    last = len(found) - 1
    return [_step(one, turn.state is TurnState.canary and place == last) for place, one in enumerate(found)]


def _step(window: Window, newest: bool) -> CanaryStep:
    facts = window.facts
    agreement = _mapping(facts.get("agreement"))
    compared, agreed = _count(agreement.get("compared")), _count(agreement.get("agreed"))
    percent = _number(facts.get("percent")) or 0.0
    return CanaryStep(
        name="shadow" if facts.get("step") == SHADOW_STEP else f"{percent:g} %",
        running=newest and facts.get("action") == "hold",
        since=window.start,
        seen=window.end,
        requests=window.rows,
        challenger=_side(_mapping(facts.get("challenger")), window.version),
        champion=_side(_mapping(facts.get("champion")), 0),
        compared=compared,
        agreed=agreed,
        agreement=agreed / compared if compared else None,
        sentence=str(facts.get("sentence") or ""),
    )


def _side(facts: Mapping[str, Any], version: int) -> Side:
    latency, loss = _mapping(facts.get("latency_ms")), _mapping(facts.get("loss"))
    return Side(
        version=_count(facts.get("version")) or version,
        requests=_count(facts.get("requests")),
        errors=_count(facts.get("errors")),
        p50_ms=_number(latency.get("p50")),
        p95_ms=_number(latency.get("p95")),
        loss=_number(loss.get("mean")),
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _count(value: Any) -> int:
    return int(_number(value) or 0)
