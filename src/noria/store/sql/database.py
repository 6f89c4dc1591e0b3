"""What the store's SQL asks of a database: consistent reads, and changes that are durable when they return.

Statements are written in the SQL that SQLite and PostgreSQL share, with ``?`` for values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

__all__ = ["Connection", "Cursor", "Database"]

T = TypeVar("T")


class Cursor(Protocol):
    """The rows of one statement."""

    @property
    def rowcount(self) -> int:
        """Rows changed by the statement."""
        ...

    def fetchone(self) -> Any:
        """The next row, or None."""
        ...

    def fetchall(self) -> list[Any]:
        """All rows left."""
        ...

    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """One connection, inside a transaction."""

    @property
    def IntegrityError(self) -> type[Exception]:  # noqa: N802 - the DB-API's name
        """What a statement raises that would break a constraint."""
        ...

    def execute(self, sql: str, values: Sequence[Any] = ..., /) -> Cursor:
        """Run one statement."""
        ...

    def executemany(self, sql: str, values: Iterable[Sequence[Any]], /) -> Cursor:
        """Run one statement for each of many rows."""
        ...


class Database(Protocol):
    """One database with the store's tables in it; ``dialect`` is ``sqlite`` or ``postgresql``."""

    dialect: str

    def read(self) -> AbstractContextManager[Connection]:
        """A connection inside a read transaction: everything seen is of one moment."""
        ...

    def write(self, change: Callable[[Connection], T]) -> T:
        """Run ``change`` in a transaction; returns after it is durable."""
        ...

    def submit(self, change: Callable[[Connection], T]) -> Future[T]:
        """As ``write``, without waiting."""
        ...

    def compact(self) -> None:
        """Give the space of what was removed back to the disk, where the database does not do so by itself."""
        ...

    def close(self) -> None:
        """Finish queued changes and close every connection. Idempotent."""
        ...
