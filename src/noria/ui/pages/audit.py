"""The audit log: every change, chained to the one before."""

from __future__ import annotations

from typing import Any

import msgspec

from noria.records import AuditEntry
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
            href=subject_href(entry.subject),
        )
        for entry in found[:PAGE]
    ]
    older = href("audit", after=found[PAGE - 1].number, subject=subject) if len(found) > PAGE else None
    total = ask.db.count(AuditEntry, **where)
    return AuditPage("Audit", rows, total, sum(row.linked is False for row in rows), subject, older)


def subject_href(subject: str) -> str:
    """Where the subject of an entry is shown, or the log filtered to it."""
    kind, _, rest = subject.partition(":")
    loop, slash, name = rest.rpartition("/")
    if kind == "model" and slash and name.isdigit():
        return href("loops", loop, "models", name)
    return href("audit", subject=subject)
