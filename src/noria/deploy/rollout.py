"""Changing what is served: each change is a new revision of the loop's deployment, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from noria.records import Deployment, ModelVersion, Route
from noria.store.ports import LoopRecord, Reader, Transaction


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
