"""``MODEL``, ``MODEL@alias`` and ``MODEL/VERSION``: what they name, and what of it may be served."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from noria.core.nearest import suggest
from noria.deploy.rollout import current, deployed
from noria.errors import Conflict, NotFound, RequestError
from noria.records import Deployment, ModelVersion, Route, Stage
from noria.register import alias, version
from noria.store.ports import LoopRecord, Reader

__all__ = ["Target", "parse_target", "resolve", "version_of"]

_SERVED = (Stage.champion, Stage.challenger, Stage.retired)


@dataclass(frozen=True, slots=True)
class Target:
    """What to serve: a model as deployed, by alias, by version; without a name everything deployed."""

    name: str | None
    alias: str | None = None
    version: int | None = None


def parse_target(text: str) -> Target:
    """The target a text names.

    Raises:
        RequestError: the version is no number.
    """
    text = text.removeprefix("models:/")
    name, at, found = text.partition("@")
    if at:
        return Target(name, alias=found)
    name, slash, number = text.rpartition("/")
    if not slash:
        return Target(text)
    if not number.isascii() or not number.isdigit() or len(number) > 9:
        raise RequestError(f"'{number[:40]}' is not a version; write MODEL/3, MODEL@champion or MODEL.")
    return Target(name, version=int(number))


def version_of(db: Reader, target: Target) -> ModelVersion:
    """The version a target names: the champion unless it says otherwise.

    Raises:
        NotFound: there is no such model, alias or version.
        Conflict: it may not be served.
    """
    name = target.name or ""
    if db.count(ModelVersion, loop=name) == 0:
        names = [record.name for record in db.list(LoopRecord)]
        raise NotFound(f"There is no model '{name[:80]}' in this store. {suggest(name, names)}".strip())
    if target.version is not None:
        found = version(db, name, target.version)
    else:
        wanted = target.alias or "champion"
        aliased = alias(db, name, wanted)
        if aliased is None:
            raise NotFound(f"Model '{name}' has no alias '{wanted[:80]}'.")
        found = aliased
    if found.stage not in _SERVED:
        raise Conflict(f"Version {found.version} of '{name}' is {found.stage.value}; it is not served.")
    return found


def resolve(db: Reader, target: Target, now: datetime) -> Mapping[str, Deployment]:
    """The deployments a target stands for, by model.

    Raises:
        NotFound: there is no such model, alias or version, or nothing is deployed.
        Conflict: it may not be served.
    """
    if target.name is None:
        every = deployed(db)
        if not every:
            raise NotFound("Nothing is deployed in this store yet. Run 'noria turn FILE' first.")
        return every
    if target.alias is None and target.version is None:
        found = current(db, target.name)
        if found is not None:
            return {target.name: found}
    one = version_of(db, target)
    route = Route(version=one.version, bundle=one.bundle, role="champion", percent=100.0)
    return {target.name: Deployment(loop=target.name, revision=one.version, since=one.created, routes=(route,))}
