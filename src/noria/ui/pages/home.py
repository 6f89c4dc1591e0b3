"""The front page: every loop of the store, and its experiments."""

from __future__ import annotations

from datetime import datetime

import msgspec

from noria.records import Alert, ModelVersion
from noria.store.ports import LoopRecord, Reader
from noria.ui import draw
from noria.ui.ask import Ask, href, windows
from noria.ui.pages.experiments import ExperimentRow, experiment_rows
from noria.ui.pages.wheel import Bucket, alarmed, buckets, error_text, stand

_FEW, _MANY = 5, 50  # experiments beside loops, and alone


class LoopCard(msgspec.Struct, frozen=True):
    """One loop at a glance."""

    name: str
    href: str
    buckets: list[Bucket]
    champion: int | None
    champion_href: str
    turn: str
    turn_running: bool
    alert: Alert | None
    alarmed: bool
    error: str
    trend: list[float | None]
    spark: str
    waiting: list[int]
    updated: datetime


class Home(msgspec.Struct, frozen=True):
    """The front page: the loops, and the experiments where runs last did something."""

    title: str
    loops: list[LoopCard]
    older: str | None
    experiments: list[ExperimentRow]


def home(ask: Ask) -> Home:
    """Every loop, most recently seen first."""
    found = ask.db.list(LoopRecord, limit=51, after=ask.moment("after"))
    older = href(after=found[49].updated.isoformat()) if len(found) > 50 else None
    busy = [row for row in experiment_rows(ask) if row.runs]
    shown = busy[: _FEW if found else _MANY]
    return Home(
        "Loops" if found or not busy else "Experiments", [_card(ask.db, loop) for loop in found[:50]], older, shown
    )


def _card(db: Reader, loop: LoopRecord) -> LoopCard:
    now = stand(db, loop)
    values = [window.facts.get("value") for window in reversed(windows(db, loop.name, "performance", 40))]
    trend = [float(value) if isinstance(value, (int, float)) else None for value in values]
    number = now.champion.version if now.champion else None
    waiting = db.list(ModelVersion, limit=20, loop=loop.name, stage="awaiting approval")
    return LoopCard(
        name=loop.name,
        href=href("loops", loop.name),
        buckets=buckets(now),
        champion=number,
        champion_href=href("loops", loop.name, "models", number or ""),
        turn=f"turn {now.turn.number}: {now.turn.state.value}" if now.turn else "no turn yet",
        turn_running=now.moving,
        alert=now.alert,
        alarmed=alarmed(now),
        error=error_text(now.window) if now.window else "",
        trend=trend,
        spark=draw.spark(trend),
        waiting=[version.version for version in waiting if version.decision is None],
        updated=loop.updated,
    )
