"""Turns: the log of passes round the loop, and one pass as a path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from noria.errors import NotFound
from noria.records import Alert, AuditEntry, Run, Turn, TurnState, ValidationReport
from noria.ui import format as say
from noria.ui.ask import PAGE, Ask, approval_role, href, policies, policy_kind
from noria.ui.pages.rollout import CanaryStep, canary_steps

_PATH = (
    TurnState.ordered,
    TurnState.building,
    TurnState.validating,
    TurnState.validated,
    TurnState.awaiting_approval,
    TurnState.canary,
)
_BY_LENGTH = sorted(TurnState, key=lambda state: -len(state.value))


class Leg(msgspec.Struct, frozen=True):
    """One state of a turn's path: ``state`` is ``done``, ``running``, ``todo``, ``skipped`` or ``failed``."""

    name: str
    state: str
    at: datetime | None = None
    seconds: float | None = None


class TurnRow(msgspec.Struct, frozen=True):
    """One line of the turn log."""

    turn: Turn
    href: str
    seconds: float
    running: bool


class TurnsPage(msgspec.Struct, frozen=True):
    """The turn log."""

    title: str
    loop: str
    rows: list[TurnRow]
    older: str | None
    running: bool


class TurnPage(msgspec.Struct, frozen=True):
    """One turn."""

    title: str
    loop: str
    turn: Turn
    running: bool
    legs: list[Leg]
    entries: list[AuditEntry]
    run: Run | None
    report: ValidationReport | None
    alert: Alert | None
    canary: list[CanaryStep]


def turns(ask: Ask) -> TurnsPage:
    """The loop's turns, newest first."""
    loop = ask.loop().name
    found = ask.db.list(Turn, limit=PAGE + 1, loop=loop, after=ask.whole("after"))
    rows = [
        TurnRow(t, href("loops", loop, "turns", t.id), (t.since - t.created).total_seconds(), not t.state.final)
        for t in found[:PAGE]
    ]
    older = href("loops", loop, "turns", after=found[PAGE - 1].number) if len(found) > PAGE else None
    return TurnsPage(f"Turns of {loop}", loop, rows, older, any(row.running for row in rows[:1]))


def turn(ask: Ask) -> TurnPage:
    """One turn with its path, audit entries and what it made."""
    loop = ask.loop()
    found = ask.db.find(Turn, id=ask.path["id"], loop=loop.name)
    if found is None:
        raise NotFound(f"Loop '{loop.name}' has no turn '{ask.path['id'][:80]}'.")
    entries = ask.db.list(AuditEntry, limit=PAGE, oldest_first=True, subject=f"turn:{found.id}")
    return TurnPage(
        title=f"Turn {found.number} of {loop.name}",
        loop=loop.name,
        turn=found,
        running=not found.state.final,
        legs=legs(found, entries, loop.plan),
        entries=entries,
        run=ask.db.find(Run, id=found.run, loop=loop.name) if found.run else None,
        report=ask.db.find(ValidationReport, id=found.report, loop=loop.name) if found.report else None,
        alert=ask.db.find(Alert, id=found.alert, loop=loop.name) if found.alert else None,
        canary=canary_steps(ask.db, found),
    )


def legs(turn: Turn, entries: Sequence[AuditEntry], plan: Mapping[str, Any]) -> list[Leg]:
    """The turn's path: states passed with their times, the present one, those still to come."""
    times = _times(turn, entries)
    wanted = [state for state in _PATH if state in times or _expected(state, plan)]
    last = turn.state if turn.state.final else TurnState.promoted
    found = [_leg(state, turn, times) for state in (*wanted, last)]
    return [
        msgspec.structs.replace(leg, seconds=_until_next(leg, found[place + 1 :], turn))
        for place, leg in enumerate(found)
    ]


def _expected(state: TurnState, plan: Mapping[str, Any]) -> bool:
    if state is TurnState.awaiting_approval:
        return approval_role(plan) is not None
    return state is not TurnState.canary or any(policy_kind(entry) == "Canary" for entry in policies(plan, "deploy"))


def _leg(state: TurnState, turn: Turn, times: Mapping[TurnState, datetime]) -> Leg:
    at = times.get(state)
    if state is turn.state:
        failed = state in (TurnState.rejected, TurnState.failed, TurnState.rolled_back)
        return Leg(state.value, "failed" if failed else "done" if state.final else "running", at or turn.since)
    if at is not None:
        return Leg(state.value, "done", at)
    order = list(_PATH)
    passed = turn.state.final or order.index(state) < order.index(turn.state) if state in order else False
    return Leg(state.value, "skipped" if passed else "todo")


def _until_next(leg: Leg, later: Sequence[Leg], turn: Turn) -> float | None:
    if leg.at is None or leg.state == "running" or leg.name == turn.state.value:
        return None
    following = next((after.at for after in later if after.at is not None), None)
    return (following - leg.at).total_seconds() if following else None


def _times(turn: Turn, entries: Sequence[AuditEntry]) -> dict[TurnState, datetime]:
    """When each state was first reached, read from the entries' facts or, failing that, their words."""
    found = {TurnState.ordered: turn.created}
    for entry in entries:
        said = entry.facts.get("state") or entry.facts.get("to")
        if isinstance(said, str):
            state = next((one for one in TurnState if one.value == said), None)
        else:
            state = next((one for one in _BY_LENGTH if one.value in entry.action), None)
        if state is not None:
            found.setdefault(state, entry.at)
    return found


def describe(entry: AuditEntry) -> str:
    """An audit entry's facts in one line."""
    return ", ".join(f"{name} {say.text(value)}" for name, value in entry.facts.items() if value not in ("", None))
