"""SQLite files that are read where nothing can be written, such as a backup on a read-only disk.

SQLite reads a file in WAL mode only if it may write beside it, or finds the log and its index there, or is told that
nobody changes the file ("immutable"), and then reads no log (sqlite.org/wal.html, "Read-Only Databases"). A file that
can be read in neither way, or that must take something in before it can be read, is copied aside.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from noria.errors import StoreReadOnly
from noria.store.files import store_error
from noria.store.sqlite.database import Database, translate

__all__ = ["open_to_read"]


def open_to_read(path: Path, migrations: str, busy_s: float, *, takes_in: bool = False) -> Database:
    """A database that is only read: as ever where it can be written.

    Args:
        path: the file; if it is not there, it is as if it were empty.
        migrations: as `Database` has them.
        busy_s: likewise.
        takes_in: whether something is written into it before it is read.

    Raises:
        StoreError: it cannot be read.
    """
    if os.access(path.parent, os.W_OK) and (not path.exists() or os.access(path, os.W_OK)):
        return Database(path, migrations, busy_s)
    how = _how(path)
    if how is not None and not takes_in:
        try:
            return Database(path, migrations, busy_s, how=how)
        except StoreReadOnly:
            pass  # it is of an older version
    return _Aside(path, migrations, busy_s, how)


def _how(path: Path) -> str | None:
    """How SQLite can be told to read a file it cannot write beside; None if it cannot."""
    log, index = (path.with_name(f"{path.name}-{name}") for name in ("wal", "shm"))
    if not path.exists() or (log.exists() and log.stat().st_size and not index.exists()):
        return None
    return "mode=ro" if log.exists() and log.stat().st_size else "immutable=1"


class _Aside(Database):
    """A copy in a temporary folder, which goes when it is closed."""

    def __init__(self, path: Path, migrations: str, busy_s: float, how: str | None) -> None:
        self._folder = TemporaryDirectory(prefix="noria-")
        copy = Path(self._folder.name) / path.name
        try:
            if how is not None:
                _back_up(path, copy, how)
            elif path.exists():
                shutil.copyfile(path, copy)
                shutil.copyfile(path.with_name(f"{path.name}-wal"), copy.with_name(f"{path.name}-wal"))
            super().__init__(copy, migrations, busy_s)
        except OSError as error:
            raise store_error(error, f"copy {path.name} aside to read it") from error

    def close(self) -> None:
        super().close()
        self._folder.cleanup()


def _back_up(path: Path, copy: Path, how: str) -> None:
    try:
        with (
            closing(sqlite3.connect(f"{path.resolve().as_uri()}?{how}", uri=True)) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
    except sqlite3.Error as error:
        raise translate(error, path) from error
