"""One SQLite file: migrations, consistent reads, and one writer thread that commits in groups.

WAL with ``synchronous=FULL``: a commit that returned survives power loss. Changes that arrive while a
commit is being written share the next one, so that durability costs one fsync a group and not one a change.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Generic, TypeVar

from noria.errors import StoreBusy, StoreError, StoreFull, StoreReadOnly

T = TypeVar("T")

_BUSY_SECONDS = 10.0
_GROUP = 256  # changes in one commit, at most


def translate(error: sqlite3.Error, path: Path) -> StoreError:
    """The store's own error for one of SQLite's."""
    code = getattr(error, "sqlite_errorcode", None)
    primary = code & 0xFF if code is not None else None
    if primary == sqlite3.SQLITE_FULL:
        return StoreFull(f"No space left for {path.name}. Nothing was recorded; free some space and try again.")
    if primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN):
        return StoreReadOnly(f"Cannot write {path}: {error}. Check the store folder's permissions.")
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreBusy(f"{path} has been locked by another process for {_BUSY_SECONDS:.0f} s. Try again.")
    if primary in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return StoreError(f"{path} is not a Noria store file, or it is damaged ({error}). Restore it from a backup.")
    return StoreError(f"{path}: {error}.")


@dataclass(slots=True)
class _Job(Generic[T]):
    change: Callable[[sqlite3.Connection], T]
    done: Future[T]


class Database:
    """One SQLite file.

    Args:
        path: the file; made if it is not there.
        migrations: name of the sub-package folder holding ``NNNN_name.sql`` files, applied in order.
    """

    def __init__(self, path: Path, migrations: str) -> None:
        self.path = path
        self._jobs: queue.SimpleQueue[_Job[Any] | None] = queue.SimpleQueue()
        self._readers: queue.SimpleQueue[sqlite3.Connection] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._broken: StoreError | None = None
        try:
            self._migrate(migrations)
        except sqlite3.Error as error:
            raise translate(error, path) from error

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        return connection

    def _migrate(self, folder: str) -> None:
        files = sorted(
            (f for f in (resources.files(__package__) / folder).iterdir() if f.name.endswith(".sql")),
            key=lambda f: f.name,
        )
        connection = self._connect()
        try:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > len(files):
                raise StoreError(
                    f"{self.path} was written by a newer Noria (schema {version}, this one knows {len(files)}). "
                    "Upgrade Noria to open it."
                )
            if version == len(files):
                return
            connection.execute("BEGIN IMMEDIATE")  # a second process waits here, then finds nothing to do
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            for number, file in enumerate(files[version:], start=version + 1):
                for statement in file.read_text(encoding="utf-8").split(";"):
                    if statement.strip():
                        connection.execute(statement)
                connection.execute(f"PRAGMA user_version={number}")
            connection.execute("COMMIT")
        finally:
            connection.close()

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection inside a read transaction: everything seen is of one moment."""
        if self._closed:
            raise StoreError(f"{self.path} is closed.")
        try:
            connection = self._readers.get_nowait()
        except queue.Empty:
            try:
                connection = self._connect()
                connection.execute("PRAGMA query_only=ON")
            except sqlite3.Error as error:
                raise translate(error, self.path) from error
        try:
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            connection.close()
            raise translate(error, self.path) from error
        self._readers.put(connection)

    def write(self, change: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``change`` in a transaction; returns after it is durable."""
        done: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise StoreError(f"{self.path} is closed.")
            if self._broken:
                raise self._broken
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=f"write {self.path.name}", daemon=True)
                self._thread.start()
            self._jobs.put(_Job(change, done))
        return done.result()

    def _work(self) -> None:
        connection: sqlite3.Connection | None = None
        while True:
            job = self._jobs.get()
            if job is None:
                break
            group = [job]
            stop = False
            while len(group) < _GROUP:
                try:
                    more = self._jobs.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    stop = True
                    break
                group.append(more)
            try:
                if connection is None:
                    connection = self._connect()
                self._commit(connection, group)
            except sqlite3.Error as error:
                self._fail(connection, group, error)
            if stop:
                break
        if connection is not None:
            connection.close()

    def _commit(self, connection: sqlite3.Connection, group: list[_Job[Any]]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        results: list[tuple[_Job[Any], Any, BaseException | None]] = []
        for job in group:
            connection.execute("SAVEPOINT change")
            try:
                value = job.change(connection)
            except sqlite3.OperationalError:
                raise  # the disk or a lock, not the change: the group fails as one
            except BaseException as error:  # noqa: BLE001 - goes to the caller that asked for the change
                connection.execute("ROLLBACK TO change")
                results.append((job, None, error))
            else:
                results.append((job, value, None))
            connection.execute("RELEASE change")
        connection.execute("COMMIT")
        for job, value, failure in results:
            if isinstance(failure, sqlite3.Error):
                failure = translate(failure, self.path)
            if failure is not None:
                job.done.set_exception(failure)
            else:
                job.done.set_result(value)

    def _fail(self, connection: sqlite3.Connection | None, group: list[_Job[Any]], error: sqlite3.Error) -> None:
        failure = translate(error, self.path)
        if connection is not None and connection.in_transaction:
            try:
                connection.execute("ROLLBACK")
            except sqlite3.Error:
                connection.close()
        code = getattr(error, "sqlite_errorcode", None)
        if code is not None and code & 0xFF == sqlite3.SQLITE_IOERR:
            # After a failed fsync the kernel may have dropped the pages: a retry could acknowledge a lost write.
            self._broken = StoreError(
                f"{self.path}: a write to disk failed ({error}). No further write is taken; check the disk and restart."
            )
            failure = self._broken
        for job in group:
            if not job.done.done():
                job.done.set_exception(failure)

    def close(self) -> None:
        """Finish queued changes and close every connection. Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            thread = self._thread
            if thread is not None:
                self._jobs.put(None)
        if thread is not None:
            thread.join()
        while True:
            try:
                self._readers.get_nowait().close()
            except queue.Empty:
                return
