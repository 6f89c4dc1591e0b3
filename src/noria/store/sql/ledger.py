"""The ledger in SQL: each kind of record is a table of a JSON body beside the columns it is found by."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any, TypeVar

import msgspec

from noria.core.hashing import digest_json
from noria.errors import Conflict, StoreError
from noria.records import (
    Alert,
    AuditEntry,
    DatasetVersion,
    Deployment,
    ModelVersion,
    Override,
    RetrainRequest,
    Run,
    Turn,
    ValidationReport,
)
from noria.records.registry import (
    EvaluationDataset,
    EvaluationRecord,
    LoggedModel,
    RegisteredAlias,
    RegisteredModel,
    RegisteredVersion,
    Trace,
    Webhook,
)
from noria.store.kinds import AliasRecord, ApiKey, CacheEntry, Lease, LoopRecord, MonitorState, Window
from noria.store.ports import Change
from noria.store.sql.database import Connection, Database

R = TypeVar("R", bound=msgspec.Struct)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Kind:
    """How a kind is kept: the attributes that are columns, its primary key, and what says which is newest."""

    table: str
    columns: tuple[str, ...]
    order: str
    key: tuple[str, ...] = ("id",)
    rowid: bool = True

    @property
    def by(self) -> tuple[str, ...]:
        """Columns to order by: of equals, the one recorded last is the newest."""
        return (self.order, "rowid") if self.rowid else (self.order, *self.key)


_KINDS: dict[type[msgspec.Struct], _Kind] = {
    LoopRecord: _Kind("loops", ("name", "updated"), "updated", ("name",), rowid=False),
    DatasetVersion: _Kind("datasets", ("id", "loop", "created"), "created", ("loop", "id")),
    Turn: _Kind("turns", ("id", "loop", "number", "state", "created"), "number"),
    Run: _Kind("runs", ("id", "loop", "turn", "status", "started"), "started"),
    ValidationReport: _Kind("reports", ("id", "loop", "run", "turn", "created"), "created"),
    ModelVersion: _Kind("versions", ("loop", "version", "run", "stage"), "version", ("loop", "version"), rowid=False),
    AliasRecord: _Kind("aliases", ("loop", "alias", "version"), "alias", ("loop", "alias"), rowid=False),
    Deployment: _Kind("deployments", ("loop", "revision"), "revision", ("loop", "revision"), rowid=False),
    Alert: _Kind("alerts", ("id", "loop", "version", "at", "severity"), "at"),
    RetrainRequest: _Kind("requests", ("id", "loop", "at"), "at"),
    CacheEntry: _Kind("cache", ("key", "loop", "step", "created"), "created", ("key",)),
    Lease: _Kind("leases", ("name",), "name", ("name",), rowid=False),
    MonitorState: _Kind("monitors", ("loop", "version"), "version", ("loop", "version"), rowid=False),
    Window: _Kind("windows", ("id", "loop", "version", "kind", "start"), "start"),
    AuditEntry: _Kind("audit", ("number", "at", "subject", "digest"), "number", ("number",)),
    RegisteredModel: _Kind("models", ("name",), "name", ("name",), rowid=False),
    RegisteredVersion: _Kind(
        "model_versions", ("name", "version", "run", "model"), "version", ("name", "version"), rowid=False
    ),
    RegisteredAlias: _Kind("model_aliases", ("name", "alias", "version"), "alias", ("name", "alias"), rowid=False),
    LoggedModel: _Kind("logged_models", ("id", "experiment", "run", "created"), "created"),
    Trace: _Kind("traces", ("id", "experiment", "at"), "at"),
    EvaluationDataset: _Kind("evaluation_datasets", ("id", "name", "created"), "created"),
    EvaluationRecord: _Kind("evaluation_records", ("id", "dataset", "key", "created"), "created"),
    Webhook: _Kind("webhooks", ("id", "created"), "created"),
    Override: _Kind("overrides", ("id", "loop", "version", "prediction", "at"), "at"),
    ApiKey: _Kind("api_keys", ("name", "created"), "created", ("name",)),
}
_DECODERS: dict[type[msgspec.Struct], msgspec.json.Decoder[Any]] = {kind: msgspec.json.Decoder(kind) for kind in _KINDS}
_ENCODER = msgspec.json.Encoder()
_DIGEST = re.compile(rb"blake3:[0-9a-f]{64}")


def _kind(kind: type[msgspec.Struct]) -> _Kind:
    try:
        return _KINDS[kind]
    except KeyError:
        raise TypeError(f"{kind.__name__} is not kept in the ledger") from None


def cell(value: object) -> object:
    """A value as SQLite keeps it: times as sortable UTC text, enums by value."""
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}Z"
    if isinstance(value, Enum):
        return value.value
    return value


def sought(value: object) -> object:
    """A value to compare with; what a database cannot hold becomes NULL, which nothing is equal to."""
    found = cell(value)
    if isinstance(found, int) and not -(2**63) <= found < 2**63:
        return None
    if isinstance(found, str) and ("\0" in found or not _is_unicode(found)):
        return None
    return found


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _decode(kind: type[R], body: bytes, table: str) -> R:
    decoder: msgspec.json.Decoder[R] = _DECODERS[kind]
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StoreError(f"A record in the ledger's {table} is damaged ({error}).") from error


class _Reader:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def find(self, kind: type[R], /, **key: object) -> R | None:
        found = self._select(kind, key, limit=1)
        return found[0] if found else None

    def list(
        self,
        kind: type[R],
        /,
        *,
        limit: int | None = None,
        oldest_first: bool = False,
        after: object | None = None,
        **where: object,
    ) -> list[R]:
        return [*self._select(kind, where, limit, oldest_first, after)]

    def _select(
        self,
        kind: type[R],
        where: Mapping[str, object],
        limit: int | None = None,
        oldest_first: bool = False,
        after: object | None = None,
    ) -> Sequence[R]:
        shape = _kind(kind)
        clause, values = _where(shape, where)
        if after is not None:
            clause += f" {'AND' if clause else 'WHERE'} {shape.order} {'>' if oldest_first else '<'} ?"
            values.append(min(max(after, -(2**63)), 2**63 - 1) if isinstance(after, int) else sought(after))
        direction = "ASC" if oldest_first else "DESC"
        order = ", ".join(f"{column} {direction}" for column in shape.by)
        sql = f"SELECT body FROM {shape.table}{clause} ORDER BY {order}"
        if limit is not None:
            sql += " LIMIT ?"
            values.append(max(limit, 0))
        return [_decode(kind, body, shape.table) for (body,) in self._connection.execute(sql, values)]

    def count(self, kind: type[msgspec.Struct], /, **where: object) -> int:
        shape = _kind(kind)
        clause, values = _where(shape, where)
        (count,) = self._connection.execute(f"SELECT COUNT(*) FROM {shape.table}{clause}", values).fetchone()
        return int(count)

    def digests(self) -> set[str]:
        found: set[str] = set()
        for shape in _KINDS.values():
            for (body,) in self._connection.execute(f"SELECT body FROM {shape.table}"):
                found.update(match.decode() for match in _DIGEST.findall(body))
        return found

    def flaws(self, kind: type[msgspec.Struct], /) -> Sequence[str]:
        shape = _kind(kind)
        found = []
        sql = f"SELECT {', '.join(shape.key)}, {', '.join(shape.columns)}, body FROM {shape.table}"
        for row in self._connection.execute(f"{sql} ORDER BY {shape.order}"):
            key, columns, body = row[: len(shape.key)], row[len(shape.key) : -1], row[-1]
            name = f"{shape.table} {'/'.join(map(str, key))}"
            try:
                record = _decode(kind, body, shape.table)
            except StoreError:
                found.append(f"{name} cannot be read: it was changed or damaged.")
                continue
            apart = [c for c, kept in zip(shape.columns, columns, strict=True) if cell(getattr(record, c)) != kept]
            if apart:
                found.append(f"{name} was changed: {', '.join(apart)} is not what the record says.")
            elif _ENCODER.encode(record) != body:
                found.append(f"{name} was changed: it is not written as Noria writes it.")
        return found


def _where(shape: _Kind, where: Mapping[str, object]) -> tuple[str, list[object]]:
    unknown = set(where) - set(shape.columns)
    if unknown:
        raise TypeError(f"{shape.table} is not found by {', '.join(sorted(unknown))}")
    clause = " AND ".join(f"{name} = ?" for name in where)
    return (f" WHERE {clause}" if clause else ""), [sought(value) for value in where.values()]


class _Transaction(_Reader):
    def put(self, record: msgspec.Struct) -> None:
        if isinstance(record, AuditEntry):
            raise TypeError("audit entries are made by audit() and never replaced")
        self._put(record)

    def _put(self, record: msgspec.Struct) -> None:
        shape = _kind(type(record))
        names = (*shape.columns, "body")
        values = [cell(getattr(record, name)) for name in shape.columns]
        others = ", ".join(f"{name} = excluded.{name}" for name in names if name not in shape.key)
        body = _ENCODER.encode(record)
        try:
            _DECODERS[type(record)].decode(body)
        except msgspec.ValidationError as error:
            raise ValueError(f"this {type(record).__name__} could not be read back: {error}") from error
        try:
            self._connection.execute(
                f"INSERT INTO {shape.table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))}) "
                f"ON CONFLICT ({', '.join(shape.key)}) DO UPDATE SET {others}",
                [*values, body],
            )
        except self._connection.IntegrityError as error:
            raise Conflict(f"The {shape.table} hold another record in its place.") from error

    def remove(self, kind: type[msgspec.Struct], /, **key: object) -> int:
        if kind is AuditEntry:
            raise TypeError("audit entries are never removed")
        shape = _kind(kind)
        clause, values = _where(shape, key)
        return self._connection.execute(f"DELETE FROM {shape.table}{clause}", values).rowcount

    def audit(self, at: datetime, actor: str, action: str, subject: str, **facts: Any) -> None:
        last = self._connection.execute("SELECT number, digest FROM audit ORDER BY number DESC LIMIT 1").fetchone()
        number, previous = (last[0] + 1, last[1]) if last else (1, "")
        at = at.astimezone(UTC)
        facts = msgspec.json.decode(_ENCODER.encode(facts))  # as it will be read: NaN, for one, becomes null
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
        self._put(entry)


class SqlLedger:
    """:class:`noria.store.ports.Ledger` in one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

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
