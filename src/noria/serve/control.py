"""What the processes of one server tell each other, through a folder of their own: loads, unloads and counts."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from noria.serve.metrics import Snapshot, ended

__all__ = ["Control"]

_CHANGES = msgspec.json.Decoder(dict[str, tuple[int, bool]])
_SNAPSHOT = msgspec.json.Decoder(Snapshot)


class Control:
    """One process's part.

    Args:
        folder: shared by the processes of one server, and by nobody else.
        number: this process's.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self._changes = folder / "changes.json"
        self._counts = folder / f"counts-{number}.json"
        self._folder = folder
        self._written = b""
        self._keep_former(folder / f"counts-{number}-ended.json")

    def _keep_former(self, path: Path) -> None:
        """Put what was counted under this number before aside: a sum that shrank would be read as counted anew."""
        found = [*_read(self._counts), *_read(path)]
        if found:
            self._replace(path, msgspec.json.encode(ended(found)))
            self._counts.unlink(missing_ok=True)

    def changes(self) -> Mapping[str, tuple[int, bool]]:
        """The last load or unload of each model: a number that grows, and whether it was loaded."""
        try:
            return _CHANGES.decode(self._changes.read_bytes())
        except (OSError, msgspec.DecodeError):
            return {}

    def tell(self, name: str, loaded: bool) -> int:
        """Let the others do as this process did; returns the change's number."""
        with self._alone():
            found = dict(self.changes())
            number = found.get(name, (0, True))[0] + 1
            found[name] = (number, loaded)
            self._replace(self._changes, msgspec.json.encode(found))
        return number

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with (self._folder / "lock").open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            yield

    @staticmethod
    def _replace(path: Path, data: bytes) -> None:
        temporary = path.with_name(f"{path.name}.{os.getpid()}")
        temporary.write_bytes(data)
        temporary.replace(path)

    def publish(self, snapshot: Snapshot) -> None:
        """Write this process's counts for the others, if they have changed."""
        data = msgspec.json.encode(snapshot)
        if data != self._written:
            self._replace(self._counts, data)
            self._written = data

    def others(self) -> Iterator[Snapshot]:
        """The other processes' counts, a second old at most; a process that ended left what it counted."""
        for path in self._folder.glob("counts-*.json"):
            if path != self._counts:
                yield from _read(path)


def _read(path: Path) -> Iterator[Snapshot]:
    with suppress(OSError, msgspec.DecodeError):
        yield _SNAPSHOT.decode(path.read_bytes())
