"""The ledger in SQLite: each kind of record is a table of a JSON body beside the columns it is found by."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from noria.core.hashing import digest_json
from noria.records import (
    Alert,
    AuditEntry,
    DatasetVersion,
    Deployment,
    ModelVersion,
    RetrainRequest,
    Run,
    Turn,
    ValidationReport,
)
from noria.store.kinds import AliasRecord, CacheEntry, Lease, LoopRecord, MonitorState, Window
from noria.store.ports import Change
from noria.store.sqlite.database import Database

R = TypeVar("R", bound=msgspec.Struct)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Kind:
    table: str
    columns: tuple[str, ...]  # attributes kept as columns of their own
    order: str  # column that says what is newest


_KINDS: dict[type[msgspec.Struct], _Kind] = {
    LoopRecord: _Kind("loops", ("name", "updated"), "updated"),
    DatasetVersion: _Kind("datasets", ("id", "loop", "created"), "created"),
    Turn: _Kind("turns", ("id", "loop", "number", "state", "created"), "number"),
    Run: _Kind("runs", ("id", "loop", "turn", "status", "started"), "started"),
    ValidationReport: _Kind("reports", ("id", "loop", "run", "turn", "created"), "created"),
    ModelVersion: _Kind("versions", ("loop", "version", "run", "stage"), "version"),
    AliasRecord: _Kind("aliases", ("loop", "alias", "version"), "alias"),
    Deployment: _Kind("deployments", ("loop", "revision"), "revision"),
    Alert: _Kind("alerts", ("id", "loop", "version", "at", "severity"), "at"),
    RetrainRequest: _Kind("requests", ("id", "loop", "at"), "at"),
    CacheEntry: _Kind("cache", ("key", "loop", "step", "created"), "created"),
    Lease: _Kind("leases", ("name",), "name"),
    MonitorState: _Kind("monitors", ("loop", "version"), "version"),
    Window: _Kind("windows", ("id", "loop", "version", "kind", "start"), "start"),
    AuditEntry: _Kind("audit", ("number", "at", "subject", "digest"), "number"),
}
_DECODERS = {kind: msgspec.json.Decoder(kind) for kind in _KINDS}
_ENCODER = msgspec.json.Encoder()


def _kind(kind: type[msgspec.Struct]) -> _Kind:
    try:
        return _KINDS[kind]
    except KeyError:
        raise TypeError(f"{kind.__name__} is not kept in the ledger") from None


def cell(value: object) -> object:
    """A value as SQLite keeps it: times as sortable UTC text, enums by value."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if isinstance(value, Enum):
        return value.value
    return value


class _Reader:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def find(self, kind: type[R], **key: object) -> R | None:
        found = self.list(kind, limit=1, **key)
        return found[0] if found else None

    def list(
        self,
        kind: type[R],
        *,
        limit: int | None = None,
        oldest_first: bool = False,
        after: object | None = None,
        **where: object,
    ) -> list[R]:
        shape = _kind(kind)
        clause, values = _where(shape, where)
        if after is not None:
            clause += f" {'AND' if clause else 'WHERE'} {shape.order} {'>' if oldest_first else '<'} ?"
            values.append(cell(after))
        direction = "ASC" if oldest_first else "DESC"
        sql = f"SELECT body FROM {shape.table}{clause} ORDER BY {shape.order} {direction}"
        if limit is not None:
            sql += " LIMIT ?"
            values.append(limit)
        decode = _DECODERS[kind].decode
        return [decode(body) for (body,) in self._connection.execute(sql, values)]

    def count(self, kind: type[msgspec.Struct], **where: object) -> int:
        shape = _kind(kind)
        clause, values = _where(shape, where)
        (count,) = self._connection.execute(f"SELECT COUNT(*) FROM {shape.table}{clause}", values).fetchone()
        return int(count)


def _where(shape: _Kind, where: dict[str, object]) -> tuple[str, list[object]]:
    unknown = set(where) - set(shape.columns)
    if unknown:
        raise TypeError(f"{shape.table} is not found by {', '.join(sorted(unknown))}")
    clause = " AND ".join(f"{name} = ?" for name in where)
    return (f" WHERE {clause}" if clause else ""), [cell(value) for value in where.values()]


class _Transaction(_Reader):
    def put(self, record: msgspec.Struct) -> None:
        shape = _kind(type(record))
        names = (*shape.columns, "body")
        values = [cell(getattr(record, name)) for name in shape.columns]
        self._connection.execute(
            f"INSERT OR REPLACE INTO {shape.table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})",
            [*values, _ENCODER.encode(record)],
        )

    def remove(self, kind: type[msgspec.Struct], **key: object) -> int:
        shape = _kind(kind)
        clause, values = _where(shape, key)
        return self._connection.execute(f"DELETE FROM {shape.table}{clause}", values).rowcount

    def audit(self, at: datetime, actor: str, action: str, subject: str, **facts: Any) -> None:
        last = self._connection.execute("SELECT number, digest FROM audit ORDER BY number DESC LIMIT 1").fetchone()
        number, previous = (last[0] + 1, last[1]) if last else (1, "")
        facts = msgspec.to_builtins(facts)
        body: dict[str, Any] = {
            "number": number,
            "at": cell(at),
            "actor": actor,
            "action": action,
            "subject": subject,
            "facts": facts,
            "previous": previous,
        }
        entry = AuditEntry(
            number=number,
            at=at,
            actor=actor,
            action=action,
            subject=subject,
            facts=facts,
            previous=previous,
            digest=digest_json(body),
        )
        self.put(entry)


class SqliteLedger:
    """:class:`noria.store.ports.Ledger` in one SQLite file."""

    def __init__(self, path: Path) -> None:
        self._database = Database(path, "migrations")

    @contextmanager
    def read(self) -> Iterator[_Reader]:
        """A consistent view."""
        with self._database.read() as connection:
            yield _Reader(connection)

    def write(self, change: Change[T]) -> T:
        """Run ``change`` in a transaction; returns after it is durable."""
        return self._database.write(lambda connection: change(_Transaction(connection)))

    def close(self) -> None:
        """Finish queued changes and close. Idempotent."""
        self._database.close()
