"""One PostgreSQL database: migrations, consistent reads, and one writer thread a process that commits in groups.

``synchronous_commit`` is on: a commit that returned survives power loss, as far as the server's disk keeps its word.
Statements come with ``?`` for values and are given on with ``%s``.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any, Generic, TypeVar, cast
from urllib.parse import urlsplit

import psycopg
from psycopg import errors

from noria.errors import StoreBusy, StoreError, StoreFull, StoreReadOnly

__all__ = ["Database", "translate"]

T = TypeVar("T")

_GROUP = 256
_TRIES = 5
_CONNECT_SECONDS = 10
_READERS = 8
_AGAIN = (errors.SerializationFailure, errors.DeadlockDetected)


def _name(url: str) -> str:
    """The database's address without its password."""
    parts = urlsplit(url)
    return f"postgresql://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"


def translate(error: psycopg.Error, url: str) -> StoreError:
    """The store's own error for one of PostgreSQL's, without statements, values or passwords."""
    name = _name(url)
    if isinstance(error, errors.DiskFull | errors.OutOfMemory):
        return StoreFull(f"{name} has no space left. Nothing was recorded; free some space and try again.")
    if isinstance(error, errors.ReadOnlySqlTransaction | errors.InsufficientPrivilege):
        return StoreReadOnly(f"{name} may not be written by this user. Check its rights.")
    if isinstance(error, errors.InvalidPassword | errors.InvalidAuthorizationSpecification):
        return StoreError(f"{name} does not accept this user and password.")
    if isinstance(error, errors.InvalidCatalogName):
        return StoreError(f"There is no database {name}; make it with createdb.")
    if isinstance(error, (*_AGAIN, errors.LockNotAvailable, errors.QueryCanceled)):
        return StoreBusy(f"{name} is too busy to take this now. Nothing was recorded; try again.")
    text = str(error)
    if "password authentication failed" in text or "no password supplied" in text:
        return StoreError(f"{name} does not accept this user and password.")
    if 'database "' in text and "does not exist" in text:
        return StoreError(f"There is no database {name}; make it with createdb.")
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return StoreBusy(f"{name} does not answer. What was being recorded may or may not be; try again.")
    return StoreError(f"{name}: {type(error).__name__}.")


@lru_cache(maxsize=1024)
def _placed(sql: str) -> str:
    return sql.replace("%", "%%").replace("?", "%s")


class _Connection:
    """A connection that takes the store's SQL."""

    IntegrityError: type[Exception] = psycopg.IntegrityError

    def __init__(self, raw: psycopg.Connection[Any]) -> None:
        self.raw = raw

    def execute(self, sql: str, values: Sequence[Any] = (), /) -> psycopg.Cursor[Any]:
        """Run one statement."""
        return self.raw.execute(cast("Any", _placed(sql)), values)

    def executemany(self, sql: str, values: Iterable[Sequence[Any]], /) -> psycopg.Cursor[Any]:
        """Run one statement for each of many rows, without waiting for each answer."""
        cursor = self.raw.cursor()
        cursor.executemany(cast("Any", _placed(sql)), values)
        return cursor


@dataclass(slots=True)
class _Job(Generic[T]):
    change: Callable[[Any], T]
    done: Future[T]


class Database:
    """One set of the store's tables, in a schema of its own.

    Args:
        url: ``postgresql://USER:PASSWORD@HOST:PORT/DATABASE``.
        part: what is kept there: names the schema, and the folder of migrations.
        alone: changes of all processes are made one after another.

    Raises:
        StoreError: the database cannot be used; says why.
    """

    dialect = "postgresql"

    def __init__(self, url: str, part: str, *, alone: bool = False) -> None:
        self._url, self._part, self._schema, self._alone = url, part, f"noria_{part}", alone
        self._reading = threading.BoundedSemaphore(_READERS)
        self._jobs: queue.SimpleQueue[_Job[Any] | None] = queue.SimpleQueue()
        self._readers: queue.SimpleQueue[psycopg.Connection[Any]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False
        try:
            self._migrate()
        except psycopg.Error as error:
            raise translate(error, url) from error

    def _connect(self) -> psycopg.Connection[Any]:
        raw = psycopg.connect(self._url, autocommit=True, connect_timeout=_CONNECT_SECONDS, prepare_threshold=3)
        try:
            raw.execute("SET synchronous_commit TO on")
            raw.execute("SET client_encoding TO 'UTF8'")
            raw.execute(cast("Any", f"SET search_path TO {self._schema}"))
        except BaseException:
            raw.close()
            raise
        return raw

    def _migrate(self) -> None:
        folder = resources.files(__package__) / "migrations" / self._part
        files = sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
        with self._connect() as raw, raw.transaction():
            found = raw.execute("SELECT to_regclass('migrations')").fetchone()
            if found and found[0] is not None:  # a user who may not make tables can use those that are there
                row = raw.execute("SELECT max(number) FROM migrations").fetchone()
                if row and row[0] == len(files):
                    return
            raw.execute("SELECT pg_advisory_xact_lock(hashtext('noria migrations'))")
            raw.execute(cast("Any", f"CREATE SCHEMA IF NOT EXISTS {self._schema}"))
            raw.execute(
                "CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY, at TIMESTAMPTZ DEFAULT now())"
            )
            row = raw.execute("SELECT coalesce(max(number), 0) FROM migrations").fetchone()
            done = row[0] if row else 0
            if done > len(files):
                raise StoreError(
                    f"{_name(self._url)} was written by a newer Noria (schema {done}, this one knows {len(files)}). "
                    "Upgrade Noria to open it."
                )
            for number, file in enumerate(files[done:], start=done + 1):
                raw.execute(cast("Any", file.read_text(encoding="utf-8")))
                raw.execute("INSERT INTO migrations (number) VALUES (%s)", [number])

    @contextmanager
    def read(self) -> Iterator[_Connection]:
        """A connection inside a read transaction: everything seen is of one moment."""
        if self._closed:
            raise StoreError("The store is closed.")
        with self._reading:
            try:
                raw = self._reader()
            except psycopg.Error as error:
                raise translate(error, self._url) from error
            whole = False
            try:
                yield _Connection(raw)
                whole = True
            except psycopg.Error as error:
                raise translate(error, self._url) from error
            except BaseException:
                whole = not raw.broken
                raise
            finally:
                self._give_back(raw, whole)

    def _reader(self) -> psycopg.Connection[Any]:
        begin = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"
        with suppress(queue.Empty):
            raw = self._readers.get_nowait()
            try:
                raw.execute(begin)
                return raw
            except psycopg.Error:  # the server was started again since
                raw.close()
        raw = self._connect()
        raw.execute(begin)
        return raw

    def _give_back(self, raw: psycopg.Connection[Any], whole: bool) -> None:
        try:
            raw.execute("ROLLBACK")
        except psycopg.Error:
            whole = False
        with self._lock:
            if whole and not self._closed:
                self._readers.put(raw)
                return
        raw.close()

    def write(self, change: Callable[[Any], T]) -> T:
        """Run ``change`` in a transaction; returns after it is durable."""
        return self.submit(change).result()

    def submit(self, change: Callable[[Any], T]) -> Future[T]:
        """As ``write``, without waiting."""
        if threading.current_thread() is self._thread:
            raise RuntimeError("a change must not write through the store: it has its transaction")
        done: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise StoreError("The store is closed.")
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=f"write {self._schema}", daemon=True)
                self._thread.start()
            self._jobs.put(_Job(change, done))
        return done

    def _work(self) -> None:
        raw: psycopg.Connection[Any] | None = None
        going = True
        while going:
            job = self._jobs.get()
            if job is None:
                break
            group, going = self._group(job)
            for left in range(_TRIES, 0, -1):
                try:
                    raw = self._begun(raw)
                    self._commit(raw, group)
                    break
                except Exception as error:  # noqa: BLE001 - this thread must outlive whatever happens to a group
                    if raw is not None and (raw.broken or not self._rolled_back(raw)):
                        raw.close()
                        raw = None
                    if not (left > 1 and isinstance(error, _AGAIN)):
                        self._fail(group, error)
                        break
        if raw is not None:
            raw.close()

    def _begun(self, raw: psycopg.Connection[Any] | None) -> psycopg.Connection[Any]:
        """A connection with a transaction open: a new one if the server has let the old one go meanwhile."""
        begin = "BEGIN ISOLATION LEVEL READ COMMITTED"
        if raw is not None and not raw.closed:
            try:
                raw.execute(begin)
                return raw
            except psycopg.OperationalError:
                raw.close()
        raw = self._connect()
        raw.execute(begin)
        return raw

    @staticmethod
    def _rolled_back(raw: psycopg.Connection[Any]) -> bool:
        try:
            raw.execute("ROLLBACK")
        except psycopg.Error:
            return False
        return True

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

    def _commit(self, raw: psycopg.Connection[Any], group: list[_Job[Any]]) -> None:
        connection = _Connection(raw)
        results: list[tuple[_Job[Any], Any, BaseException | None]] = []
        if self._alone:
            raw.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [f"noria {self._schema}"])
        for job in group:
            raw.execute("SAVEPOINT change")
            try:
                value = job.change(connection)
            except (psycopg.OperationalError, psycopg.InterfaceError):
                raise  # the server or a lock, not the change: the group fails as one
            except BaseException as error:  # noqa: BLE001 - goes to the caller that asked for the change
                raw.execute("ROLLBACK TO SAVEPOINT change")
                results.append((job, None, error))
            else:
                results.append((job, value, None))
            raw.execute("RELEASE SAVEPOINT change")
        raw.execute("COMMIT")
        for job, value, failure in results:
            if isinstance(failure, psycopg.Error):
                failure = translate(failure, self._url)
            if failure is not None:
                job.done.set_exception(failure)
            else:
                job.done.set_result(value)

    def _fail(self, group: list[_Job[Any]], error: Exception) -> None:
        failure = translate(error, self._url) if isinstance(error, psycopg.Error) else error
        for job in group:
            if not job.done.done():
                job.done.set_exception(failure)

    def compact(self) -> None:
        """Nothing: the server gives back space by itself (autovacuum)."""

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
