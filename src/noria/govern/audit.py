"""The audit trail proves itself: each entry holds the digest of the one before."""

from __future__ import annotations

from datetime import UTC

import msgspec

from noria.core.hashing import digest_json
from noria.records import AuditEntry
from noria.store.ports import Reader


class AuditFinding(msgspec.Struct, frozen=True):
    """What checking the trail found.

    Attributes:
        entries: how many were read.
        head: digest of the last entry: keep a copy elsewhere to notice a trail cut short.
        problems: one sentence for each entry that does not fit.
    """

    entries: int
    head: str
    problems: tuple[str, ...]


def verify(db: Reader) -> AuditFinding:
    """Check every entry's digest and its link to the one before."""
    previous, expected = "", 1
    problems: list[str] = []
    entries = db.list(AuditEntry, oldest_first=True)
    for entry in entries:
        if entry.number != expected:
            problems.append(f"Entry {expected} is missing: {entry.number} follows.")
        if entry.previous != previous:
            problems.append(f"Entry {entry.number} does not follow the entry before it.")
        body = {
            "number": entry.number,
            "at": entry.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "actor": entry.actor,
            "action": entry.action,
            "subject": entry.subject,
            "facts": entry.facts,
            "previous": entry.previous,
        }
        if digest_json(body) != entry.digest:
            problems.append(f"Entry {entry.number} was changed: its digest does not match.")
        previous, expected = entry.digest, entry.number + 1
    return AuditFinding(len(entries), previous, tuple(problems))
