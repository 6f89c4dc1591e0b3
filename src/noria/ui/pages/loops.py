"""One loop: the wheel, the present turn, alerts and traffic."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from noria.records import Alert, AuditEntry, Override, Route
from noria.ui.ask import Ask, href
from noria.ui.pages.rollout import CanaryStep, canary_steps
from noria.ui.pages.turns import Leg, legs
from noria.ui.pages.wheel import Bucket, Standing, buckets, stand


class Traffic(msgspec.Struct, frozen=True):
    """What was served in a stretch of time."""

    label: str
    since: datetime
    predictions: int
    errors: int
    labelled: int
    overridden: int

    @property
    def labelled_share(self) -> float | None:
        """Share of the answers whose label is known."""
        answered = self.predictions - self.errors
        return self.labelled / answered if answered > 0 else None


class TurnCard(msgspec.Struct, frozen=True):
    """The present turn, or the last one."""

    number: int
    href: str
    state: str
    running: bool
    since: datetime
    trigger: str
    reason: str
    outcome: str
    legs: list[Leg]
    canary: list[CanaryStep]


class LoopPage(msgspec.Struct, frozen=True):
    """The loop's page."""

    title: str
    loop: str
    running: bool
    buckets: list[Bucket]
    turn: TurnCard | None
    alerts: list[Alert]
    traffic: list[Traffic]
    routes: list[Route]
    file: str
    plan_digest: str


def loop(ask: Ask) -> LoopPage:
    """The loop as it stands now."""
    record = ask.loop()
    now = stand(ask.db, record)
    return LoopPage(
        title=record.name,
        loop=record.name,
        running=now.moving,
        buckets=buckets(now),
        turn=_turn(ask, now),
        alerts=ask.db.list(Alert, limit=5, loop=record.name),
        traffic=_traffic(ask, now),
        routes=list(now.deployment.routes) if now.deployment else [],
        file=record.file.replace("\\", "/").rpartition("/")[2],
        plan_digest=record.plan_digest,
    )


def _turn(ask: Ask, now: Standing) -> TurnCard | None:
    turn = now.turn
    if turn is None:
        return None
    entries = ask.db.list(AuditEntry, limit=200, oldest_first=True, subject=f"turn:{turn.id}")
    return TurnCard(
        number=turn.number,
        href=href("loops", turn.loop, "turns", turn.id),
        state=turn.state.value,
        running=not turn.state.final,
        since=turn.since,
        trigger=turn.trigger,
        reason=turn.reason,
        outcome=turn.outcome,
        legs=legs(turn, entries, now.loop.plan),
        canary=canary_steps(ask.db, turn),
    )


def _traffic(ask: Ask, now: Standing) -> list[Traffic]:
    if now.deployment is None:
        return []
    hour = ask.now.replace(minute=0, second=0, microsecond=0)  # so that counts can be remembered for a while
    spans = [("last day", hour - timedelta(days=1)), ("last week", hour - timedelta(days=7))]
    since = now.deployment.since
    if since < spans[-1][1]:
        spans.append((f"since {since:%-d %b}", since))
    loop = now.loop.name
    return [Traffic(label, start, *ask.counts(loop, start), _overridden(ask, loop, start)) for label, start in spans]


def _overridden(ask: Ask, loop: str, since: datetime) -> int:
    """Predictions in whose place a person has decided something else since a moment."""
    newest = {one.prediction: one for one in ask.db.list(Override, loop=loop, after=since, oldest_first=True)}
    return sum(one.value != one.given for one in newest.values())
