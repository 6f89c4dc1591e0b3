"""One PostgreSQL database: migrations, consistent reads, and one writer thread a process that commits in groups.

``synchronous_commit`` is on: a commit that returned survives power loss, as far as the server's disk keeps its word.
Groups of several processes are serializable. One that meets another's rows gives way and is run again with no other
beside it: waiting ends in deadlocks, which the server looks for once a second only.
Statements come with ``?`` for values and are given on with ``%s``.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any, Generic, TypeVar, cast

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict

from noria.errors import StoreBusy, StoreError, StoreFull, StoreReadOnly

__all__ = ["Database", "translate"]

T = TypeVar("T")

_GROUP = 256
_TRIES = 5
_PAUSE_SECONDS = 0.02  # before another try, twice as long before each further one
_CONNECT_SECONDS = 10
_READERS = 8
_READER_SECONDS = 30.0
_GIVE_WAY = "20ms"  # so long a group waits for rows of another
_AGAIN = (
    errors.SerializationFailure,
    errors.DeadlockDetected,
    errors.LockNotAvailable,
    errors.OutOfMemory,  # its room for locks is full: others will let go of theirs
)


class _Unknown(Exception):
    """The connection was lost after COMMIT was sent and before it was answered."""


def _check(url: str) -> None:
    """Refuse an address that would be taken apart in the wrong places, and so show part of its password."""
    try:
        parts = conninfo_to_dict(url)
        whole = all(not port or 0 < int(port) < 65536 for port in str(parts.get("port") or "").split(","))
    except (psycopg.Error, ValueError):
        whole = False
    if not whole or {"@", "/"} & set(str(parts.get("dbname") or "")):
        raise StoreError(
            "The store's address cannot be read: give postgresql://USER:PASSWORD@HOST:PORT/DATABASE, "
            "with %XX for signs in the password that an address cannot hold."
        )


def _name(url: str) -> str:
    """The database's address without user and password."""
    parts = conninfo_to_dict(url)
    port = f":{parts['port']}" if parts.get("port") else ""
    return f"postgresql://{parts.get('host') or ''}{port}/{parts.get('dbname') or ''}"


def translate(error: psycopg.Error, url: str) -> StoreError:
    """The store's own error for one of PostgreSQL's, without statements, values or passwords."""
    name = _name(url)
    text = str(error)
    if isinstance(error, errors.DiskFull):
        return StoreFull(f"{name} has no space left. Nothing was recorded; free some space and try again.")
    if isinstance(error, errors.ReadOnlySqlTransaction | errors.InsufficientPrivilege):
        return StoreReadOnly(f"{name} may not be written by this user. Check its rights.")
    if "password authentication failed" in text or "no password supplied" in text:
        return StoreError(f"{name} does not accept this user and password.")
    if 'database "' in text and "does not exist" in text:
        return StoreError(f"There is no database {name}; make it with createdb.")
    if "too many clients" in text or "remaining connection slots" in text:
        return StoreBusy(f"{name} has no connection left. Try again; raise its max_connections or run fewer workers.")
    if isinstance(error, (*_AGAIN, errors.QueryCanceled)):
        why = type(error).__name__
        return StoreBusy(f"{name} is too busy to take this now ({why}). Nothing was recorded; try again.")
    if isinstance(error, errors.ProgramLimitExceeded):
        return StoreError(f"{name} cannot hold so long a name. Nothing was recorded.")
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return StoreBusy(f"{name} does not answer. Nothing was recorded; check that it runs, and try again.")
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
        alone: groups of all processes are made one after another.

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
        _check(url)
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
        if not self._reading.acquire(timeout=_READER_SECONDS):
            raise StoreBusy(f"{_name(self._url)} is read by too many at once. Try again.")
        try:
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
        finally:
            self._reading.release()

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
            raw = self._keep(raw, [job for job in group if job.done.set_running_or_notify_cancel()])
        if raw is not None:
            raw.close()

    def _keep(self, raw: psycopg.Connection[Any] | None, group: list[_Job[Any]]) -> psycopg.Connection[Any] | None:
        """Commit a group, again where nothing of it can have been kept; returns the connection if it still works."""
        for left in reversed(range(_TRIES)):
            try:
                if raw is None:
                    raw = self._connect()
            except Exception as error:  # noqa: BLE001 - the writer's thread must outlive whatever happens to a group
                self._fail(group, error)
                break
            try:
                self._commit(raw, group, alone=self._alone or left < _TRIES - 1)
                break
            except Exception as error:  # noqa: BLE001 - likewise
                if raw.closed or not self._rolled_back(raw):
                    raw.close()
                    raw = None
                lost = raw is None and not isinstance(error, _Unknown)  # the server went before COMMIT was sent
                if not (left and (lost or isinstance(error, _AGAIN))):
                    self._fail(group, error)
                    break
                if left < _TRIES - 1:  # the first time it is only another group's turn
                    time.sleep(_PAUSE_SECONDS * 2 ** (_TRIES - 2 - left))
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

    def _commit(self, raw: psycopg.Connection[Any], group: list[_Job[Any]], *, alone: bool) -> None:
        connection = _Connection(raw)
        results: list[tuple[_Job[Any], Any, BaseException | None]] = []
        # LOCK TABLE, unlike a function that locks, comes before the transaction's view of the data
        mode, wait = ("EXCLUSIVE", "0") if alone else ("ROW SHARE", _GIVE_WAY)
        begin = (
            f"BEGIN ISOLATION LEVEL SERIALIZABLE; LOCK TABLE migrations IN {mode} MODE; "
            f"SET LOCAL lock_timeout TO '{wait}'"
        )
        raw.execute(cast("Any", begin))
        for job in group:
            raw.execute("SAVEPOINT change")
            try:
                value = job.change(connection)
                raw.execute("RELEASE SAVEPOINT change")
            except BaseException as error:
                if raw.closed or isinstance(error, _AGAIN):
                    raise  # the server or another group, not the change
                raw.execute("ROLLBACK TO SAVEPOINT change")
                raw.execute("RELEASE SAVEPOINT change")
                results.append((job, None, error))
            else:
                results.append((job, value, None))
        try:
            raw.execute("COMMIT")
        except psycopg.Error as error:
            if raw.closed:
                raise _Unknown from error
            raise
        for job, value, failure in results:
            if isinstance(failure, psycopg.Error):
                failure = translate(failure, self._url)
            if failure is not None:
                job.done.set_exception(failure)
            else:
                job.done.set_result(value)

    def _fail(self, group: list[_Job[Any]], error: Exception) -> None:
        failure = translate(error, self._url) if isinstance(error, psycopg.Error) else error
        if isinstance(error, _Unknown):
            failure = StoreError(
                f"{_name(self._url)} went away while it was recording. What was sent may be kept or not: look before "
                "sending it again."
            )
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
