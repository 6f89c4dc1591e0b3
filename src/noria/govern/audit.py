"""The audit trail proves itself: each entry holds the digest of the one before."""

from __future__ import annotations

from datetime import UTC

import msgspec

from noria.core.hashing import digest_json
from noria.errors import StoreError
from noria.records import AuditEntry
from noria.store.ports import Reader


class AuditFinding(msgspec.Struct, frozen=True):
    """What checking the trail found.

    Attributes:
        entries: how many there are.
        head: digest of the last entry: keep a copy elsewhere to notice a trail cut short.
        problems: one sentence for each entry that does not fit.
    """

    entries: int
    head: str
    problems: tuple[str, ...]


def verify(db: Reader) -> AuditFinding:
    """Check every entry's digest, its link to the one before, and that it stands as it was written."""
    previous, expected = "", 1
    problems: list[str] = []
    for entry in _entries(db):
        if entry.number != expected:
            problems.append(f"Entry {expected} is missing: {entry.number} follows.")
        if entry.previous != previous:
            problems.append(f"Entry {entry.number} does not follow the entry before it.")
        if digest_json(_body(entry)) != entry.digest:
            problems.append(f"Entry {entry.number} was changed: its digest does not match.")
        previous, expected = entry.digest, entry.number + 1
    problems += db.flaws(AuditEntry)
    return AuditFinding(db.count(AuditEntry), previous, tuple(problems))


def _body(entry: AuditEntry) -> dict[str, object]:
    return {
        "number": entry.number,
        "at": f"{entry.at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}Z",
        "actor": entry.actor,
        "action": entry.action,
        "subject": entry.subject,
        "facts": entry.facts,
        "previous": entry.previous,
    }


def _entries(db: Reader) -> list[AuditEntry]:
    """All that can be read, in order: what cannot is named by the ledger's own check."""
    try:
        return db.list(AuditEntry, oldest_first=True)
    except StoreError:
        found = []
        for number in range(1, db.count(AuditEntry) + 2):
            try:
                one = db.find(AuditEntry, number=number)
            except StoreError:
                continue
            found += [one] if one is not None else []
        return found
