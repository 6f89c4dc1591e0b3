"""Registered models and their versions, with what each was made from."""

from __future__ import annotations

from datetime import datetime

import msgspec

from noria.errors import NotFound, RequestError
from noria.records import AuditEntry
from noria.records.registry import RegisteredModel, RegisteredVersion
from noria.records.tracking import ACTIVE, Clause
from noria.register import registry
from noria.ui.ask import PAGE, Ask, href, numbered
from noria.ui.pages.tracked import DataRow, Link, data_row, version_href, version_links
from noria.ui.pages.tracking import info_of, moment, named, run_href, user_tags
from noria.ui.pages.turns import describe

_MOST_CHANGES = 50
_MOST_RELATED = 50


class Alias(msgspec.Struct, frozen=True):
    """``name@alias`` and its version."""

    alias: str
    version: int
    href: str


class ModelRow(msgspec.Struct, frozen=True):
    """One model at a glance."""

    name: str
    href: str
    description: str
    newest: int
    newest_href: str
    aliases: list[Alias]
    of_loop: bool
    updated: datetime | None


class RegisteredPage(msgspec.Struct, frozen=True):
    """The registered models by name."""

    title: str
    rows: list[ModelRow]
    total: int
    search: str
    next: str | None
    first: str | None


class VersionRow(msgspec.Struct, frozen=True):
    """One version of a model's list."""

    version: int
    href: str
    stage: str
    aliases: list[str]
    status: str
    description: str
    user: str
    run: Link | None
    created: datetime | None


class Change(msgspec.Struct, frozen=True):
    """An entry of the audit log about a model or version."""

    at: datetime
    actor: str
    action: str
    facts: str


class RegisteredModelPage(msgspec.Struct, frozen=True):
    """One registered model."""

    title: str
    name: str
    description: str
    tags: dict[str, str]
    loop_href: str
    created: datetime | None
    updated: datetime | None
    aliases: list[Alias]
    rows: list[VersionRow]
    older: str | None
    changes: list[Change]
    audit_href: str


class RegisteredVersionPage(msgspec.Struct, frozen=True):
    """One version, with the way from its data to it and on."""

    title: str
    name: str
    model_href: str
    version: int
    stage: str
    status: str
    aliases: list[str]
    description: str
    tags: dict[str, str]
    user: str
    source: str
    location: str
    logged_model: str
    loop_href: str
    created: datetime | None
    updated: datetime | None
    run: Link | None
    run_link: str
    data: list[DataRow]
    same_run: list[Link]
    same_data: list[Link]
    changes: list[Change]
    audit_href: str


def registered(ask: Ask) -> RegisteredPage:
    """The models, by name."""
    search, start = ask.one("q") or "", ask.whole("after") or 0
    found = [one for one in registry.models(ask.db) if search.casefold() in one.name.casefold()]
    more = len(found) > start + PAGE
    return RegisteredPage(
        title="Models",
        rows=[_model_row(ask, one) for one in found[start : start + PAGE]],
        total=len(found),
        search=search,
        next=href("models", q=search or None, after=start + PAGE) if more else None,
        first=href("models", q=search or None) if start else None,
    )


def _model_row(ask: Ask, one: RegisteredModel) -> ModelRow:
    return ModelRow(
        name=one.name,
        href=href("models", one.name),
        description=one.description,
        newest=one.last_version,
        newest_href=version_href(one.name, one.last_version),
        aliases=_aliases(ask, one.name),
        of_loop=registry.of_loop(ask.db, one.name),
        updated=moment(one.updated),
    )


def _aliases(ask: Ask, name: str) -> list[Alias]:
    found = registry.aliases(ask.db, name)
    return [Alias(alias, number, version_href(name, number)) for alias, number in sorted(found.items())]


def _model(ask: Ask) -> RegisteredModel:
    try:
        return registry.model(ask.db, ask.path["name"])
    except (RequestError, NotFound):
        raise NotFound(f"There is no registered model '{ask.path['name'][:80]}' in this store.") from None


def registered_model(ask: Ask) -> RegisteredModelPage:
    """One model with its versions, newest first."""
    found = _model(ask)
    name, before = found.name, ask.whole("before")
    aliases = _aliases(ask, name)
    versions = [one for one in registry.versions(ask.db, name=name) if before is None or one.version < before]
    shown = versions[:PAGE]
    subject = f"model:{name}"
    return RegisteredModelPage(
        title=name,
        name=name,
        description=found.description,
        tags=user_tags(found.tags),
        loop_href=href("loops", name, "models") if registry.of_loop(ask.db, name) else "",
        created=moment(found.created),
        updated=moment(found.updated),
        aliases=aliases,
        rows=[_version_row(ask, one, aliases) for one in shown],
        older=href("models", name, before=shown[-1].version) if len(versions) > PAGE else None,
        changes=_changes(ask, subject),
        audit_href=href("audit", subject=subject),
    )


def _version_row(ask: Ask, one: RegisteredVersion, aliases: list[Alias]) -> VersionRow:
    return VersionRow(
        version=one.version,
        href=version_href(one.name, one.version),
        stage=one.stage,
        aliases=[alias.alias for alias in aliases if alias.version == one.version],
        status=one.status,
        description=one.description,
        user=one.user,
        run=_run(ask, one),
        created=moment(one.created),
    )


def _run(ask: Ask, one: RegisteredVersion) -> Link | None:
    info = info_of(ask, one.run)
    return Link(named(info), run_href(info.id), state=info.status) if info else None


def registered_version(ask: Ask) -> RegisteredVersionPage:
    """One version, with its run, its data and what else came of them."""
    model = _model(ask)
    number = numbered(ask.path["version"], "a version number")
    found = registry.version(ask.db, model.name, number)
    info = info_of(ask, found.run)
    run = ask.tracked.run(info.id) if info else None
    data = [data_row(run.info.experiment, one) for one in run.inputs] if run else []
    itself = version_href(found.name, found.version)
    same_run = [link for link in version_links(ask, found.run) if link.href != itself] if info else []
    known = {itself, *(link.href for link in same_run)}
    subject = f"model:{found.name}/{found.version}"
    return RegisteredVersionPage(
        title=f"{found.name} v{found.version}",
        name=found.name,
        model_href=href("models", found.name),
        version=found.version,
        stage=found.stage,
        status=found.status,
        aliases=[alias.alias for alias in _aliases(ask, found.name) if alias.version == number],
        description=found.description,
        tags=user_tags(found.tags),
        user=found.user,
        source=found.source,
        location=found.location,
        logged_model=found.model,
        loop_href=href("loops", found.name, "models", number) if registry.of_loop(ask.db, found.name) else "",
        created=moment(found.created),
        updated=moment(found.updated),
        run=_run(ask, found),
        run_link=found.run_link,
        data=data,
        same_run=same_run,
        same_data=[link for link in _of_data(ask, run.info.experiment, data) if link.href not in known] if run else [],
        changes=_changes(ask, subject),
        audit_href=href("audit", subject=subject),
    )


def _of_data(ask: Ask, experiment: int, data: list[DataRow]) -> list[Link]:
    """Versions that other runs of the experiment made from the same data."""
    found: dict[str, Link] = {}
    for row in data:
        clause = Clause("dataset", "digest", "=", row.digest)
        runs, _ = ask.tracked.search([experiment], [clause], stages=[ACTIVE], limit=_MOST_RELATED)
        for run in runs:
            found |= {link.href: link for link in version_links(ask, run.info.id)}
    return list(found.values())[:_MOST_RELATED]


def _changes(ask: Ask, subject: str) -> list[Change]:
    entries = ask.db.list(AuditEntry, limit=_MOST_CHANGES, subject=subject)
    return [Change(one.at, one.actor, one.action, describe(one)) for one in entries]
