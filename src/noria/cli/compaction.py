"""When predictions are compacted: by a process that comes and goes, so that nobody who answers holds Polars."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import NamedTuple

__all__ = ["Compaction", "Retention"]

_LOOK_SECONDS = 30.0
_BYTES = 32 * 2**20
_OLD_SECONDS = 3600.0


class Retention(NamedTuple):
    """Which predictions are kept, as people write it; None: all.

    Attributes:
        age: those younger than this, e.g. ``90d``.
        size: the newest, as many as take this room, e.g. ``20GB``.
    """

    age: str | None = None
    size: str | None = None


class Compaction:
    """Looks at a store's segments every half minute; compacts them when they are many, or once an hour.

    Args:
        store: the store's folder.
        retention: what is kept; the rest is removed after each compaction.
    """

    def __init__(self, store: str, retention: Retention) -> None:
        self._store = store
        self._retention = retention
        self._process: subprocess.Popen[bytes] | None = None
        self._looked = self._done = time.monotonic()

    def tick(self) -> None:
        """Look, if it is time to."""
        if self._process is not None:
            if self._process.poll() is None:
                return
            self._process = None
        now = time.monotonic()
        if now - self._looked < _LOOK_SECONDS:
            return
        self._looked = now
        size = self._uncompacted()
        if size > _BYTES or ((size or any(self._retention)) and now - self._done > _OLD_SECONDS):
            self._done = now
            self._process = subprocess.Popen(
                [sys.executable, "-m", "noria.cli.compactor", self._store, *(part or "" for part in self._retention)],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def _uncompacted(self) -> int:
        try:
            with os.scandir(os.path.join(self._store, "predictions", "segments")) as found:  # noqa: PTH118
                return sum(entry.stat().st_size for entry in found if entry.name.endswith(".log"))
        except OSError:
            return 0

    def stop(self) -> None:
        """End it wherever it is: the next one goes on from there."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait()
