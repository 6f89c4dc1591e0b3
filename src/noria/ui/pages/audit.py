"""The audit log: every change, chained to the one before."""

from __future__ import annotations

from typing import Any

import msgspec

from noria.records import AuditEntry, Override
from noria.records.registry import RegisteredModel, RegisteredVersion
from noria.store.ports import LoopRecord, Reader
from noria.ui.ask import PAGE, Ask, href
from noria.ui.pages.turns import describe


class AuditRow(msgspec.Struct, frozen=True):
    """One entry; ``linked``: whether it names the digest of the one before (None: not on this page)."""

    entry: AuditEntry
    facts: str
    linked: bool | None
    href: str


class AuditPage(msgspec.Struct, frozen=True):
    """The audit log, newest first."""

    title: str
    rows: list[AuditRow]
    total: int
    broken: int
    subject: str | None
    older: str | None


def audit(ask: Ask) -> AuditPage:
    """A page of the audit log, of one subject when the query names one."""
    subject = ask.one("subject")
    where: dict[str, Any] = {"subject": subject} if subject is not None else {}
    found = ask.db.list(AuditEntry, limit=PAGE + 1, after=ask.whole("after"), **where)
    digests = {entry.number: entry.digest for entry in found} | {0: ""}
    rows = [
        AuditRow(
            entry=entry,
            facts=describe(entry),
            linked=entry.previous == digests[entry.number - 1] if entry.number - 1 in digests else None,
            href=subject_href(ask.db, entry.subject),
        )
        for entry in found[:PAGE]
    ]
    older = href("audit", after=found[PAGE - 1].number, subject=subject) if len(found) > PAGE else None
    total = ask.db.count(AuditEntry, **where)
    return AuditPage("Audit", rows, total, sum(row.linked is False for row in rows), subject, older)


def subject_href(db: Reader, subject: str) -> str:
    """Where the subject of an entry is shown, or the log filtered to it."""
    kind, _, rest = subject.partition(":")
    name, slash, number = rest.rpartition("/")
    if kind == "model" and slash and number.isascii() and number.isdigit() and len(number) < 12:
        if db.find(LoopRecord, name=name):
            return href("loops", name, "models", number)
        if db.find(RegisteredVersion, name=name, version=int(number)):
            return href("models", name, number)
    if kind == "model" and db.find(RegisteredModel, name=rest):
        return href("models", rest)
    if kind == "prediction" and (decided := db.find(Override, prediction=rest)):
        return href("loops", decided.loop, "predictions", rest)
    return href("audit", subject=subject)
