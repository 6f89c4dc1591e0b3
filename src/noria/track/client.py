"""Noria's own tracking client.

    with noria.run("churn", params={"depth": 8}) as run:
        for step in range(100):
            run.log(loss=0.3, step=step)

What is said goes to a spool on this machine's disk at once and to the store in the background: training never waits for
a network or a disk, and loses nothing when the server is away, or when either process is killed.
"""

from __future__ import annotations

import atexit
import contextvars
import getpass
import hashlib
import json
import os
import re
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from noria.core.ids import new_id
from noria.errors import NoriaError, RequestError, StoreError
from noria.provenance import environment_lock, git_state
from noria.records.tracking import Point, TrackedDataset
from noria.track import verbs
from noria.track.artifacts import clean_path
from noria.track.events import (
    ArtifactPut,
    DatasetRead,
    Event,
    ParamsSet,
    PointsLogged,
    Refused,
    RunEnded,
    RunStarted,
    TagsSet,
)
from noria.track.senders import HttpSender, Sender, StoreSender, is_lasting
from noria.track.spool import Spool
from noria.track.system import Sampler
from noria.track.where import destination

__all__ = ["ActiveRun", "flush", "run"]

_BATCH = 2_000
_PAUSES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_IDLE_SECONDS = 0.2
_SYNC_SECONDS = 1.0
_PIECE = 400
"""Points, params or tags in one event: of the longest there may be, they still fit into one request."""
_MOST_TOLD = 100
_active: contextvars.ContextVar[ActiveRun | None] = contextvars.ContextVar("active_run", default=None)
_lines: dict[str, _Line] = {}
_opening, _counting = threading.Lock(), threading.Lock()
_forked = False


def _now() -> int:
    return time.time_ns() // 1_000_000


def _tell(what: str) -> None:
    sys.stderr.write(f"noria: {what}\n")


class _Line:
    """The way from this process to one store: a spool, a thread that empties it, and one that forces it to disk."""

    def __init__(self, to: str) -> None:
        self.to = to
        self.shown = re.sub(r"://[^/]*@", "://", to)  # a password is not for a terminal
        self.spool = Spool.create(to)
        self.sender: Sender | None = None
        self._store: Any = None
        self._pid = os.getpid()
        self._wake, self._hurry, self._over = threading.Event(), threading.Event(), threading.Event()
        self._asked, self._looked = 1, 0
        self._trouble = ""
        self._told: set[str] = set()
        self._idle = threading.Condition()
        # SQLite must not be opened in a forked child of a process that has it open: such a child only keeps what is
        # said, and its parent, or the next process, sends it.
        self._keeps_only = _forked and not to.startswith("http")
        self._thread = threading.Thread(target=self._work, name=f"track to {self.shown}", daemon=True)
        self._disk = threading.Thread(target=self._keep, name="track to disk", daemon=True)
        if not self._keeps_only:
            self._thread.start()
            self._disk.start()

    def say(self, event: Event) -> None:
        """Keep an event and have it sent."""
        self.spool.append(event)
        if os.getpid() == self._pid:  # in a forked child, a thread of the parent's may hold what waking needs
            self._wake.set()

    def _keep(self) -> None:
        while not self._over.wait(_SYNC_SECONDS):
            self._sync()

    def _sync(self) -> None:
        try:
            self.spool.sync()
        except OSError as error:
            self._tell_once(f"what is logged in {self.spool.folder} cannot be forced to disk: {error.strerror}.")

    def _tell_once(self, what: str) -> None:
        if len(self._told) < _MOST_TOLD and what not in self._told:
            self._told.add(what)
            _tell(what)

    def _open(self) -> Sender:
        if self.sender is None:
            if self.to.startswith(("http://", "https://")):
                self.sender = HttpSender(self.shown)
            else:
                from noria.store import open_store

                self._store = open_store(self.to)
                self.sender = StoreSender(self._store.tracking, self._store.blobs)
        return self.sender

    def _work(self) -> None:
        failures = 0
        while True:
            try:
                if self._looked < self._asked:
                    self._take_up()  # first: a run that goes on here may still have to be begun
                sent = self._send(self.spool)
                if not sent:
                    self.spool.compact()
                failures, self._trouble = 0, ""
            except StoreError as error:
                failures, sent, self._trouble = failures + 1, 0, str(error)
            except Exception as error:  # noqa: BLE001 - this thread must outlive whatever happens to one batch
                failures, sent, self._trouble = failures + 1, 0, f"{type(error).__name__}: {error}"
            if not sent:
                with self._idle:
                    self._idle.notify_all()
                if self._over.is_set():
                    return
                if failures:  # what is logged meanwhile does not shorten the pause
                    self._hurry.wait(_PAUSES[min(failures, len(_PAUSES)) - 1])
                else:
                    self._wake.wait(_IDLE_SECONDS)
                self._hurry.clear()
                self._wake.clear()

    def _take_up(self) -> None:
        """Send what processes left that ended too early."""
        asked = self._asked
        for other in Spool.left_behind(self.to):
            try:
                while self._send(other):
                    pass
            except OSError as error:
                self._tell_once(f"what is in {other.folder} cannot be read: {error.strerror}. It is left there.")
            finally:
                lost = other.close()
            if lost:
                _tell(f"{lost:,} bytes at the end of {other.folder} are damaged and were not sent.")
        self._looked = asked

    def _send(self, spool: Spool) -> int:
        """Send the next events; returns how many."""
        found = spool.unsent(_BATCH)
        if not found:
            return 0
        event, place = found[0]
        if isinstance(event, ArtifactPut):
            self._put(spool, event)
            spool.mark_sent(place)
            return 1
        batch = []
        for one in found:
            if isinstance(one[0], ArtifactPut):
                break
            batch.append(one)
        self._deliver(spool, batch)
        return len(batch)

    def _deliver(self, spool: Spool, batch: Sequence[tuple[Event, int]]) -> None:
        sender = self._open()
        try:
            found = sender.send([event for event, _ in batch])
        except RequestError as error:  # nothing of it was taken: which event is at fault?
            if len(batch) > 1:
                middle = len(batch) // 2
                self._deliver(spool, batch[:middle])
                self._deliver(spool, batch[middle:])
                return
            found = [Refused(0, str(error))]
        for refused in found:
            self._refuse(spool, batch[refused.place][0], refused.why)
        spool.mark_sent(batch[-1][1])

    def _put(self, spool: Spool, event: ArtifactPut) -> None:
        file = spool.file(event.file)
        if not file.exists():
            return  # it was sent before this process, or the one before it, could say so
        try:
            self._open().put(event.run, event.path, file)
        except NoriaError as error:
            if not is_lasting(error):
                raise
            self._refuse(spool, event, str(error))  # the file stays beside it
        else:
            file.unlink(missing_ok=True)

    def _refuse(self, spool: Spool, event: Event, why: str) -> None:
        spool.refuse(event, why)
        kept = f"It is kept in {spool.folder}."
        self._tell_once(f"the store refused {type(event).__name__} of run {event.run}: {why.rstrip('.')}. {kept}")

    def look(self) -> None:
        """Have the spools of ended processes taken up."""
        self._asked += 1
        self._wake.set()
        self._hurry.set()

    def flush(self, seconds: float) -> str:
        """Wait until everything is sent; returns why not, or nothing."""
        end = time.monotonic() + seconds
        told = time.monotonic() + 2
        self._sync()
        if self._keeps_only:
            return "it is left to the parent process"
        self._hurry.set()
        while self.spool.waiting or self._looked < self._asked:
            if time.monotonic() > end:
                return self._trouble or "it takes longer"
            if time.monotonic() > told:
                why = f" ({self._trouble})" if self._trouble else ""
                _tell(f"sending {self.spool.waiting:,} bytes to {self.shown}{why} ...")
                told += 10
            self._wake.set()
            with self._idle:
                self._idle.wait(0.1)
        return ""

    def end(self, seconds: float) -> None:
        """Send what there is, and stop."""
        if os.getpid() != self._pid:
            return  # the spool, and the thread, are the parent's
        if self._keeps_only:
            self._sync()
            return
        self.look()  # children may have left something
        why = self.flush(seconds)
        self._over.set()
        self._wake.set()
        self._hurry.set()
        self._thread.join(5)
        self._disk.join(5)
        if why:
            _tell(
                f"not everything has reached {self.shown} yet: {why}. It is kept in {self.spool.folder} and goes "
                "out when a run is tracked there again, or with noria.track.flush()."
            )
        if self._thread.is_alive() or self._disk.is_alive():
            return
        if self.sender is not None:
            self.sender.close()
        if self._store is not None:
            self._store.close()
        self.spool.close()


def _line(to: str) -> _Line:
    with _opening:
        if to not in _lines:
            if not _lines:
                atexit.register(_end_all)
            _lines[to] = _Line(to)
        return _lines[to]


def _flush_seconds() -> float:
    try:
        return float(os.environ.get("NORIA_FLUSH_SECONDS", "60"))
    except ValueError:
        return 60.0


def _end_all() -> None:
    for line in list(_lines.values()):
        line.end(_flush_seconds())
    _lines.clear()


def _forget() -> None:
    """In a forked child: the spool and its thread are the parent's; the child takes lines of its own."""
    global _opening, _counting, _forked
    _opening, _counting, _forked = threading.Lock(), threading.Lock(), True
    _lines.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def flush(seconds: float | None = None, *, store: str | os.PathLike[str] | None = None) -> bool:
    """Wait until everything said so far is in the store; also sends what earlier processes left behind.

    Args:
        seconds: how long at most; ``NORIA_FLUSH_SECONDS`` (60) by default.
        store: which store; all this process writes to, or the default one, if not given.

    Returns:
        Whether everything is there.
    """
    lines = [_line(destination(store))] if store is not None or not _lines else list(_lines.values())
    limit = _flush_seconds() if seconds is None else seconds
    for line in lines:
        line.look()
    troubles = [line.flush(limit) for line in lines]
    return not any(troubles)


def _text(value: object) -> str:
    return str(value).encode(errors="replace").decode()  # names of files may hold what is no character


class ActiveRun:
    """A run that goes on. Every method returns at once; what it said is kept before it returns.

    Attributes:
        id: 32 hexadecimal characters.
        experiment: the experiment's name.
    """

    def __init__(self, experiment: str, run: str, line: _Line, sampler: bool) -> None:
        self.id, self.experiment = run, experiment
        self._line, self._pid = line, os.getpid()
        self._steps: dict[str, int] = {}
        self._ended = False
        self._token: contextvars.Token[ActiveRun | None] | None = None
        self._sampler = Sampler(self._take) if sampler else None

    def _take(self, reading: dict[str, float]) -> None:
        self.log(reading)

    def log(
        self, values: Mapping[str, float] | None = None, /, *, step: int | None = None, time: float | None = None,
        **more: float,
    ) -> None:  # fmt: skip
        """Log one value of some metrics.

        Args:
            values: by name; names that are identifiers may be given as keywords instead.
            step: counts up by itself, for each metric, when not given.
            time: seconds since 1970; now by default.
            more: values by name.

        Raises:
            RequestError: a name or value that no store keeps.
        """
        try:
            at = _now() if time is None else int(time * 1000)
            given = None if step is None else int(step)
        except (TypeError, ValueError, OverflowError):
            given = at = -(2**63) - 1
        if not -(2**63) <= (given or 0) < 2**63 or at >= 2**63:
            raise RequestError(f"Step and time must be numbers of at most 64 bits, not {step!r} and {time!r}.")
        points = []
        for key, value in {**(values or {}), **more}.items():
            try:
                number = float(value)
            except (TypeError, ValueError, OverflowError):
                raise RequestError(f"Metric '{key}' must be a number, not {type(value).__name__}.") from None
            with _counting:  # two threads that log one metric at once take two steps
                place = self._steps.get(key, -1) + 1 if given is None else given
                self._steps[key] = place
            points.append(Point(key, number, at, place))
        verbs.check_points(points)
        for start in range(0, len(points), _PIECE):
            self._say(PointsLogged(self.id, [(p.key, p.value, p.time, p.step) for p in points[start : start + _PIECE]]))

    def params(self, values: Mapping[str, object] | None = None, /, **more: object) -> None:
        """Log params, each once for the whole run.

        Raises:
            RequestError: a name that no store keeps.
        """
        given = [(key, _text(value)) for key, value in {**(values or {}), **more}.items()]
        found = list(verbs.checked(params=given).params.items())
        for start in range(0, len(found), _PIECE):
            self._say(ParamsSet(self.id, dict(found[start : start + _PIECE])))

    def tags(self, values: Mapping[str, object] | None = None, /, **more: object) -> None:
        """Set tags; a later value replaces an earlier one.

        Raises:
            RequestError: a name that no store keeps.
        """
        given = [(key, _text(value)) for key, value in {**(values or {}), **more}.items()]
        found = list(verbs.checked(tags=given).tags.items())
        for start in range(0, len(found), _PIECE):
            self._say(TagsSet(self.id, dict(found[start : start + _PIECE])))

    def artifact(self, source: str | os.PathLike[str] | bytes, name: str | None = None) -> None:
        """Keep a file, a folder with all in it, or bytes, as they are now.

        Args:
            source: a path, or the bytes themselves.
            name: its path among the run's artifacts; the file's name by default.

        Raises:
            RequestError: there is no such file, or the name cannot be kept.
        """
        if isinstance(source, bytes):
            if name is None:
                raise RequestError("Bytes need a name: run.artifact(data, name='report.txt').")
            self._keep(source, name)
            return
        path = Path(source)
        if path.is_dir():
            base = name if name is not None else path.name
            for one in sorted(path.rglob("*")):
                if one.is_file():
                    self._keep(one, "/".join(part for part in (base, *one.relative_to(path).parts) if part))
        elif path.is_file():
            self._keep(path, name or path.name)
        else:
            raise RequestError(f"There is no file {path}.")

    def _keep(self, source: Path | bytes, name: str) -> None:
        place = clean_path(name)
        self._say(ArtifactPut(self.id, place, self._line.spool.keep_file(source)))

    def input(self, data: object, name: str, context: str = "training") -> None:
        """Say which data the run read.

        Args:
            data: a file's path, or a table (pandas, Polars, PyArrow, NumPy): its digest is kept, not its rows.
            name: what to call it.
            context: what it was used for.

        Raises:
            RequestError: the data cannot be read.
        """
        self._say(DatasetRead(self.id, _dataset(data, name), context))

    @property
    def url(self) -> str:
        """The run's page on the server; empty without one."""
        return f"{self._line.shown}/runs/{self.id}" if self._line.to.startswith("http") else ""

    def end(self, status: str = "FINISHED") -> None:
        """End the run: ``FINISHED``, ``FAILED`` or ``KILLED``. Only the process that began it does."""
        if not self._ended and os.getpid() == self._pid:
            if self._sampler is not None:
                self._sampler.stop()
            self._say(RunEnded(self.id, status, _now()))
            self._ended = True

    def _say(self, event: Event) -> None:
        if self._ended:
            raise RequestError(f"Run {self.id} has ended; start another, or go on with noria.run(resume='{self.id}').")
        self._line.say(event)

    def __enter__(self) -> ActiveRun:
        self._token = _active.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            _active.reset(self._token)
        ended = "FAILED"
        if kind is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
            ended = "FINISHED"
        elif issubclass(kind, KeyboardInterrupt | SystemExit):
            ended = "KILLED"
        if error is not None and ended == "FAILED" and os.getpid() == self._pid:
            self.tags({"noria.failure": f"{type(error).__name__}: {error}"[:2000]})
        self.end(ended)


def _dataset(data: object, name: str) -> TrackedDataset:
    if isinstance(data, str | os.PathLike):
        from noria.core.hashing import digest_file

        path = Path(data)
        if not path.is_file():
            raise RequestError(f"There is no file {path}.")
        digest = digest_file(path)
        return TrackedDataset(name, digest.partition(":")[2][:36], "local", json.dumps({"path": _text(path.resolve())}))
    from noria.frames.convert import from_any
    from noria.frames.digest import frame_digest

    found = from_any(data)
    frame = found.to_frame() if hasattr(found, "to_frame") else found
    schema = ", ".join(f"{column}: {kind}" for column, kind in frame.schema.items())
    digest = frame_digest(frame).partition(":")[2][:36]
    return TrackedDataset(name, digest, "memory", "{}", schema, f'{{"num_rows": {frame.height}}}')


def _source_tags() -> tuple[dict[str, str], bytes]:
    entry = sys.argv[0] if sys.argv and sys.argv[0] else "interactive"
    folder = Path(entry).resolve().parent if Path(entry).exists() else Path.cwd()
    commit, dirty, diff = git_state(folder)
    command = _text(" ".join(sys.argv))[:5000]
    tags = {"mlflow.source.name": _text(entry), "mlflow.source.type": "LOCAL", "noria.command": command}
    if commit:
        tags |= {"mlflow.source.git.commit": commit, "noria.git.dirty": str(dirty).lower()}
    return tags, diff


def run(
    experiment: str = "Default",
    *,
    name: str | None = None,
    params: Mapping[str, object] | None = None,
    tags: Mapping[str, object] | None = None,
    parent: ActiveRun | str | None = None,
    resume: str | None = None,
    store: str | os.PathLike[str] | None = None,
    system_metrics: bool = True,
) -> ActiveRun:
    """Begin a run; use it with ``with``, or call its ``end()``.

    Args:
        experiment: name of the experiment, made if there is none.
        name: of the run; two words and a number by default.
        params: logged at once.
        tags: set at once.
        parent: a run that this one is part of; the enclosing ``with noria.run(...)`` by default.
        resume: id of a run to go on with.
        store: a folder, ``http://HOST:PORT`` of a server, or ``postgresql://…``; by default what
            ``NORIA_TRACKING_URI`` or ``NORIA_STORE`` says, or ``.noria``.
        system_metrics: also log what the machine does, every ten seconds.

    Raises:
        RequestError: something that no store keeps.
        StoreError: the spool cannot be written.
    """
    line = _line(destination(store))
    outer = parent if parent is not None else _active.get()
    above = outer.id if isinstance(outer, ActiveRun) else outer
    given = {key: _text(value) for key, value in (tags or {}).items()}
    source, diff = _source_tags()
    lock = environment_lock()
    kept = {
        **source,
        "mlflow.user": _user(),
        "noria.environment": hashlib.sha256(lock.encode()).hexdigest(),
        **({"mlflow.parentRunId": above} if above else {}),
        **given,
    }
    checked = verbs.checked(
        tags=list(kept.items()), params=[(key, _text(value)) for key, value in (params or {}).items()]
    ).tags
    begun = ActiveRun(experiment, resume or new_id(), line, system_metrics)
    started = RunStarted(
        begun.id,
        _text(experiment),
        _text(name) if name else verbs.random_name(),
        _user(),
        _now(),
        checked,
        resume is not None,
    )
    begun._say(started)
    if resume is None:
        begun.artifact(lock.encode(), "environment.lock")
        if diff:
            begun.artifact(diff, "git.diff")
    if params:
        begun.params(params)
    return begun


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
