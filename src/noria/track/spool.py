"""The spool: events on this machine's disk from the moment they are said until the store has them.

A spool is a folder: ``events`` (framed, append-only), ``sent`` (how far the store has them), ``files`` (artifacts
waiting), ``to`` (where they go) and ``lock`` (held by the process that sends). Bytes are with the operating system
before ``append`` returns, so that the end of the process loses nothing; they are forced to disk every second.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from noria.core.ids import new_id
from noria.errors import StoreError
from noria.track.events import Event, frame, frames

__all__ = ["Spool", "spool_root"]

_READ = 2**20
_LARGE = 64 * 2**20
_open: set[Spool] = set()


def spool_root() -> Path:
    """Where spools are: ``NORIA_SPOOL``, or the user's cache folder."""
    given = os.environ.get("NORIA_SPOOL")
    cache = os.environ.get("XDG_CACHE_HOME")
    return Path(given) if given else (Path(cache) if cache else Path.home() / ".cache") / "noria" / "spool"


class Spool:
    """One spool, held by this process.

    Args:
        folder: where it is.
        lock: a handle that holds its lock.
    """

    def __init__(self, folder: Path, lock: int) -> None:
        self.folder = folder
        self._held = lock
        self._events = os.open(folder / "events", os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        self._sent = os.open(folder / "sent", os.O_RDWR | os.O_CREAT, 0o600)
        self._lock = threading.Lock()
        self._files = 0
        self._new_files: list[Path] = []
        self._synced = 0
        self._syncing = threading.Lock()
        self._shared = False
        _open.add(self)
        self.sent = min(int.from_bytes(os.pread(self._sent, 8, 0), "little"), self.written)

    @classmethod
    def create(cls, to: str, root: Path | None = None) -> Spool:
        """A new spool for what goes to the store ``to``.

        Raises:
            StoreError: the folder cannot be written.
        """
        folder = (root or spool_root()) / new_id()
        try:
            folder.mkdir(parents=True, mode=0o700)
            (folder / "files").mkdir(mode=0o700)
            (folder / "lock").touch(0o600)
            lock = _lock(folder)
            assert lock is not None, "nobody takes a spool that does not say yet where it goes"
            (folder / "to").write_text(to, encoding="utf-8")
            return cls(folder, lock)
        except OSError as error:
            raise StoreError(f"Cannot keep what is logged in {folder}: {error.strerror}. Set NORIA_SPOOL.") from error

    @classmethod
    def left_behind(cls, to: str, root: Path | None = None) -> Iterator[Spool]:
        """Spools of processes that ended before everything was sent, oldest first, now held by this one."""
        place = root or spool_root()
        for folder in sorted(place.iterdir()) if place.is_dir() else ():
            with suppress(OSError):
                if (folder / "to").read_text(encoding="utf-8") != to:
                    continue
                lock = _lock(folder)
                if lock is None:
                    continue
                if (folder / "to").exists():
                    yield cls(folder, lock)
                else:  # its process was done with it just now
                    os.close(lock)

    def append(self, event: Event) -> None:
        """Keep an event.

        Raises:
            StoreError: it could not be written whole.
        """
        data = frame(event)
        with self._lock:
            before = None
            try:
                before = self.written
                written = os.write(self._events, data)
                while written < len(data):  # a disk that is nearly full takes a part
                    written += os.write(self._events, data[written:])
            except OSError as error:
                if before is not None:
                    with suppress(OSError):
                        os.ftruncate(self._events, before)
                raise StoreError(f"Cannot keep what is logged in {self.folder}: {error.strerror}.") from error

    def keep_file(self, source: Path | bytes) -> str:
        """Copy a file to send into the spool; returns its name there."""
        with self._lock:
            self._files += 1
            name = f"{os.getpid()}-{self._files}"
        place = self.folder / "files" / name
        try:
            if isinstance(source, bytes):
                place.write_bytes(source)
            else:
                shutil.copyfile(source, place)
        except OSError as error:
            place.unlink(missing_ok=True)
            raise StoreError(f"Cannot keep the artifact in {self.folder}: {error.strerror}.") from error
        self._new_files.append(place)
        return name

    def file(self, name: str) -> Path:
        """A file kept for sending."""
        return self.folder / "files" / Path(name).name

    def unsent(self, limit: int) -> list[tuple[Event, int]]:
        """The next events to send, each with the place after it."""
        size = _READ
        while True:
            data = os.pread(self._events, size, self.sent)
            found = [(event, self.sent + end) for event, end in islice(frames(data), limit)]
            if found or len(data) < size:
                return found
            size *= 4  # one event is larger than the piece that was read

    def mark_sent(self, place: int) -> None:
        """The store has everything before this place."""
        self.sent = place
        os.pwrite(self._sent, place.to_bytes(8, "little"), 0)

    def compact(self) -> None:
        """Begin anew, if everything was sent and much was written."""
        with self._lock:
            if self.sent == self.written >= _LARGE and not self._shared:
                self.mark_sent(0)
                os.fsync(self._sent)  # after a power cut, no old place may point into what is written from now on
                os.ftruncate(self._events, 0)
                self._synced = 0

    def refuse(self, event: Event, why: str) -> None:
        """Set an event aside that the store will never take."""
        with (self.folder / "refused").open("ab") as handle:
            handle.write(frame(event))
        with (self.folder / "refused.txt").open("a", encoding="utf-8") as text:
            text.write(f"{why}\n")

    def sync(self) -> None:
        """Force what was written to disk, if there is anything new: files before the events that name them."""
        with self._syncing:
            now = self.written
            while self._new_files:
                with suppress(FileNotFoundError), self._new_files.pop().open("rb") as handle:
                    os.fsync(handle)
            if now > self._synced:
                os.fsync(self._events)
                self._synced = now

    @property
    def written(self) -> int:
        """Bytes in the spool."""
        return os.fstat(self._events).st_size

    @property
    def waiting(self) -> int:
        """Bytes not sent yet."""
        return max(0, self.written - self.sent)

    def close(self) -> int:
        """Let go of it; everything sent and nothing refused, it is removed. Returns how many bytes cannot be read."""
        done = not self.unsent(1)
        damaged = self.waiting if done else 0
        _open.discard(self)
        for handle in (self._events, self._sent):
            os.close(handle)
        self._events = self._sent = -1  # whoever still writes must not write into another file
        if done and not damaged and not (self.folder / "refused").exists():
            shutil.rmtree(self.folder, ignore_errors=True)
        elif done:
            (self.folder / "to").unlink(missing_ok=True)  # nothing left to send: kept for a person to look at
        os.close(self._held)
        return damaged

    def share(self) -> None:
        """After a fork, in the parent: children may write too, so that it can no longer begin anew."""
        self._shared = True

    def leave_to_parent(self) -> None:
        """After a fork, in the child: it may write; the parent sends, and a thread that held a lock is not here."""
        self._lock = threading.Lock()
        os.close(self._held)


def _after_fork_in_parent() -> None:
    for spool in _open:
        spool.share()


def _after_fork_in_child() -> None:
    for spool in _open:
        spool.leave_to_parent()
    _open.clear()


os.register_at_fork(after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)


def _lock(folder: Path) -> int | None:
    handle = os.open(folder / "lock", os.O_RDWR)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle
