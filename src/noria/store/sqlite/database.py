"""One SQLite file: migrations, consistent reads, and one writer thread that commits in groups.

WAL with ``synchronous=FULL``: a commit that returned survives power loss. Changes that arrive while a
commit is being written share the next one, so that durability costs one fsync a group and not one a change.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
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
_NO_SPACE = (sqlite3.SQLITE_IOERR_SHMSIZE,)  # the shared index beside the log could not grow
_LOST_WRITES = (
    sqlite3.SQLITE_IOERR_WRITE,
    sqlite3.SQLITE_IOERR_FSYNC,
    sqlite3.SQLITE_IOERR_DIR_FSYNC,
    sqlite3.SQLITE_IOERR_TRUNCATE,
    sqlite3.SQLITE_IOERR_CLOSE,
)


def translate(error: sqlite3.Error, path: Path) -> StoreError:
    """The store's own error for one of SQLite's."""
    code = getattr(error, "sqlite_errorcode", None)
    primary = code & 0xFF if code is not None else None
    if primary == sqlite3.SQLITE_FULL or code in _NO_SPACE:
        return StoreFull(f"No space left for {path.name}. Nothing was recorded; free some space and try again.")
    if primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN):
        return StoreReadOnly(f"Cannot write {path}: {error}. Check the store folder's permissions.")
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreBusy(f"{path} has been locked by another process for too long. Try again.")
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
        busy_s: how long to wait for another process's lock.
        how: of a file that is only read, ``mode=ro`` or ``immutable=1``, as SQLite's addresses have it.
    """

    dialect = "sqlite"

    def __init__(self, path: Path, migrations: str, busy_s: float = _BUSY_SECONDS, *, how: str | None = None) -> None:
        self.path = path
        self._how = how
        self._busy_s = busy_s
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
            self.path if self._how is None else f"{self.path.resolve().as_uri()}?{self._how}",
            timeout=self._busy_s,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
            uri=self._how is not None,
        )
        try:
            if self._how is None:
                self._use_wal(connection)
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA foreign_keys=ON")
        except BaseException:
            connection.close()
            raise
        return connection

    def _use_wal(self, connection: sqlite3.Connection) -> None:
        """Change to WAL, once in the file's life; SQLite does not wait by itself for another's lock here."""
        deadline = time.monotonic() + self._busy_s
        while True:
            try:
                (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
                continue
            if mode != "wal":
                raise StoreError(f"{self.path} is on a disk that cannot hold a store; choose a local one.")
            return

    def _migrate(self, folder: str) -> None:
        files = sorted(
            (f for f in (resources.files(__package__) / folder).iterdir() if f.name.endswith(".sql")),
            key=lambda f: f.name,
        )
        connection = self._connect()
        try:
            connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > len(files):
                raise StoreError(
                    f"{self.path} was written by a newer Noria (schema {version}, this one knows "
                    f"{len(files)}). Upgrade Noria to open it."
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
        whole = False
        try:
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.execute("ROLLBACK")
                whole = True
        except sqlite3.Error as error:
            raise translate(error, self.path) from error
        finally:
            self._give_back(connection, whole)

    def _give_back(self, connection: sqlite3.Connection, whole: bool) -> None:
        with self._lock:
            if whole and not self._closed:
                self._readers.put(connection)
                return
        connection.close()

    def write(self, change: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``change`` in a transaction; returns after it is durable."""
        return self.submit(change).result()

    def submit(self, change: Callable[[sqlite3.Connection], T]) -> Future[T]:
        """As ``write``, without waiting."""
        if threading.current_thread() is self._thread:
            raise RuntimeError("a change must not write through the store: it has its transaction")
        done: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise StoreError(f"{self.path} is closed.")
            if self._broken:
                raise StoreError(str(self._broken))
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=f"write {self.path.name}", daemon=True)
                self._thread.start()
            self._jobs.put(_Job(change, done))
        return done

    def _work(self) -> None:
        connection: sqlite3.Connection | None = None
        going = True
        while going:
            job = self._jobs.get()
            if job is None:
                break
            group, going = self._group(job)
            try:
                if connection is None:
                    connection = self._connect()
                self._commit(connection, group)
            except Exception as error:  # noqa: BLE001 - this thread must outlive whatever happens to a group
                self._fail(group, error)
                if connection is not None:
                    connection.close()  # rolls back what is open
                    connection = None
        if connection is not None:
            connection.close()

    def _group(self, first: _Job[Any]) -> tuple[list[_Job[Any]], bool]:
        """What is queued by now, to be committed together; and whether there may be more later."""
        group = [first]
        while len(group) < _GROUP:
            try:
                more = self._jobs.get_nowait()
            except queue.Empty:
                break
            if more is None:
                return group, False
            group.append(more)
        return group, True

    def _commit(self, connection: sqlite3.Connection, group: list[_Job[Any]]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        results: list[tuple[_Job[Any], Any, BaseException | None]] = []
        for job in group:
            if not job.done.set_running_or_notify_cancel():
                continue  # nobody waits for it any more; from here on it cannot be cancelled
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

    def _fail(self, group: list[_Job[Any]], error: Exception) -> None:
        failure = translate(error, self.path) if isinstance(error, sqlite3.Error) else error
        if getattr(error, "sqlite_errorcode", None) in _LOST_WRITES:
            # After a failed fsync the kernel may have dropped the pages: trying again could acknowledge
            # a write that is lost.
            failure = self._broken = StoreError(
                f"{self.path}: a write to disk failed ({error}). No further write is taken; check the disk and restart."
            )
        for job in group:
            if not job.done.done():
                job.done.set_exception(failure)

    def compact(self) -> None:
        """Give the space of what was removed back to the disk: nobody else may use the file meanwhile."""
        connection = self._connect()
        try:
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            raise translate(error, self.path) from error
        finally:
            connection.close()

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
