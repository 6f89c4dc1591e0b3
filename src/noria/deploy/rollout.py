"""Changing what is served: each change is a new revision of the loop's deployment, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from msgspec.structs import replace

from noria.core.ids import new_id
from noria.errors import Conflict, NotFound
from noria.records import Alert, Deployment, ModelVersion, Route, Stage
from noria.store.ports import AliasRecord, LoopRecord, Reader, Transaction

__all__ = ["SHADOW_STEP", "current", "deployed", "former_champions", "roll_back", "serve_only", "start_canary",
           "start_shadow"]  # fmt: skip

SHADOW_STEP = -1
"""`Deployment.step` while the challenger is a shadow: before the first percentage."""


def deployed(db: Reader) -> Mapping[str, Deployment]:
    """The deployment in force of every loop that has one."""
    found = {record.name: current(db, record.name) for record in db.list(LoopRecord)}
    return {loop: deployment for loop, deployment in found.items() if deployment is not None}


def current(db: Reader, loop: str) -> Deployment | None:
    """The loop's deployment in force, or None."""
    return db.find(Deployment, loop=loop)


def serve_only(tx: Transaction, champion: ModelVersion, now: datetime, turn: str | None) -> Deployment:
    """All traffic to one version."""
    return _write(tx, champion.loop, (_route(champion, "champion", 100.0),), now, None, turn)


def start_canary(
    tx: Transaction,
    champion: ModelVersion,
    challenger: ModelVersion,
    percent: float,
    step: int,
    now: datetime,
    turn: str | None,
) -> Deployment:
    """``percent`` of traffic to the challenger, the rest to the champion."""
    routes = (_route(champion, "champion", 100.0 - percent), _route(challenger, "canary", percent))
    return _write(tx, champion.loop, routes, now, step, turn)


def start_shadow(
    tx: Transaction, champion: ModelVersion, challenger: ModelVersion, now: datetime, turn: str | None
) -> Deployment:
    """All traffic to the champion; the challenger is asked along, and what it says is recorded and never given."""
    routes = (_route(champion, "champion", 100.0), _route(challenger, "shadow", 100.0))
    return _write(tx, champion.loop, routes, now, SHADOW_STEP, turn)


def roll_back(
    tx: Transaction,
    loop: str,
    now: datetime,
    reason: str,
    *,
    version: int | None = None,
    to: int | None = None,
    by: str = "server",
) -> Deployment:
    """Undo the last change of what is served, with its audit entry and an alert.

    While a challenger is on its way (canary or shadow) it is taken out and the champion serves alone; else the
    champion before serves again. What is taken out is rejected, so that going back again goes further back.

    Args:
        tx: the caller's transaction.
        loop: whose deployment.
        now: stamps the change.
        reason: why, a sentence.
        version: the version at fault. If it serves, the champion before comes back even during a canary, which ends;
            if it is no longer served nothing is changed.
        to: the former champion to put back, whatever is on its way.
        by: who asks; an alert of the ``server`` is an alarm.

    Returns:
        The deployment in force now.

    Raises:
        NotFound: nothing is deployed, or ``to`` is no version.
        Conflict: there is nothing to go back to, or ``to`` serves already or was never champion.
    """
    deployment = current(tx, loop)
    route = deployment.route("champion") if deployment is not None else None
    if deployment is None or route is None:
        raise NotFound(f"Nothing of '{loop}' is deployed: there is nothing to roll back.")
    if version is not None and all(one.version != version for one in deployment.routes):
        return deployment  # taken out already, by another process that saw it crash
    beside = [one.version for one in deployment.routes if one.version != route.version]
    if beside and (to == route.version or (to is None and version != route.version)):
        target, faulty = route.version, beside[0]
    else:
        target, faulty = _target(tx, loop, route.version, to), route.version
    for number in {faulty, *beside}:
        said = reason if number == faulty else f"version {target} was put back in service"
        _reject(tx, loop, number, f"rolled back: {said}")
    champion = _version(tx, loop, target)
    if target != route.version:
        champion = replace(champion, stage=Stage.champion, reason=f"put back in service: {reason}")
        tx.put(champion)
        tx.put(AliasRecord(loop=loop, alias="champion", version=target, since=now))
    made = serve_only(tx, champion, now, None)
    sentence = f"Version {faulty} was rolled back and version {target} serves: {reason}"
    severity = "alarm" if by == "server" else "warning"
    facts = {"to": target, "by": by}
    alert = Alert(new_id(), loop, faulty, now, "serving", severity, sentence, since=now, facts=facts)
    tx.put(alert)
    tx.audit(now, by, "version rolled back", f"model:{loop}/{faulty}", to=target, reason=reason, alert=alert.id)
    return made


def former_champions(db: Reader, loop: str) -> list[int]:
    """Versions that have served all traffic, the last first; the one that serves now left out."""
    found: dict[int, None] = {}
    for deployment in db.list(Deployment, loop=loop):
        route = deployment.route("champion")
        if route is not None:
            found.setdefault(route.version)
    return list(found)[1:]


def _target(tx: Transaction, loop: str, serving: int, to: int | None) -> int:
    former = former_champions(tx, loop)
    if to is None:
        usable = [number for number in former if _version(tx, loop, number).stage is not Stage.rejected]
        if not usable:
            gone = f" Rolled back before: {_listed(former)}." if former else ""
            raise Conflict(f"Version {serving} of '{loop}' has no former champion to go back to.{gone}")
        return usable[0]
    _version(tx, loop, to)
    if to == serving:
        raise Conflict(f"Version {to} of '{loop}' serves already.")
    if to not in former:
        there = f"these were: {_listed(former)}" if former else "no other version was"
        raise Conflict(f"Version {to} of '{loop}' was never champion, so it cannot be put back; {there}.")
    return to


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))


def _version(tx: Transaction, loop: str, number: int) -> ModelVersion:
    found = tx.find(ModelVersion, loop=loop, version=number)
    if found is None:
        count = tx.count(ModelVersion, loop=loop)
        raise NotFound(f"Model '{loop}' has no version {number}; it has versions 1 to {count}.")
    return found


def _reject(tx: Transaction, loop: str, number: int, reason: str) -> None:
    tx.put(replace(_version(tx, loop, number), stage=Stage.rejected, reason=reason))
    tx.remove(AliasRecord, loop=loop, alias="challenger", version=number)


def _route(version: ModelVersion, role: str, percent: float) -> Route:
    return Route(version=version.version, bundle=version.bundle, role=role, percent=percent)


def _write(
    tx: Transaction, loop: str, routes: tuple[Route, ...], now: datetime, step: int | None, turn: str | None
) -> Deployment:
    former = current(tx, loop)
    made = Deployment(
        loop=loop,
        revision=former.revision + 1 if former else 1,
        since=now,
        routes=routes,
        step=step,
        turn=turn,
    )
    tx.put(made)
    return made
