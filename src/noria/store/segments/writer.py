"""One process's segments of one loop: a block a request, whole or not there."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from struct import Struct
from typing import Any

import msgspec

from noria.errors import StoreError
from noria.store.files import store_error

__all__ = ["FORMAT", "HEADER", "Block", "SegmentWriter"]

FORMAT = 1
HEADER = Struct("<II")  # length and CRC-32 of what follows
ROLL_BYTES = 8 * 2**20
_pack = msgspec.msgpack.Encoder().encode
_forks = 0  # of this process and those it comes from: a file is written to by the one that opened it


def _count_fork() -> None:
    global _forks
    _forks += 1


os.register_at_fork(after_in_child=_count_fork)


class Block(msgspec.Struct, array_like=True, gc=False):
    """Predictions of one request by one version.

    Attributes:
        at_us: when, microseconds since 1970.
        latency_us: time in the server, microseconds.
        version: the model version; ``digest`` the digest of its model.
        role: the route it took.
        rows: how many.
        names: columns of the matrix.
        matrix: rows x names float64, little-endian, row after row, bytes or a view of them; NaN is null.
        columns: other columns, plain values by name.
        keys: the records' keys, None without any.
        values: predictions, plain.
        classes: class labels in the order of the probabilities.
        probabilities: rows x classes float64, None without any.
        error: why there are no values.
        answered: what the client was given, where the role is ``shadow``.
        trace: W3C trace id.
        ids: identifiers given from elsewhere; None: counted.
    """

    at_us: int
    latency_us: int
    version: int
    digest: str
    role: str
    rows: int
    names: tuple[str, ...]
    matrix: bytes | memoryview
    columns: dict[str, list[Any]]
    keys: list[str | None] | None
    values: list[Any]
    classes: tuple[Any, ...]
    probabilities: bytes | None
    error: str | None
    answered: list[Any] | None
    trace: str | None
    ids: list[str] | None


class SegmentWriter:
    """Appends blocks.

    A segment is ``[length, crc, header]`` then blocks: a *layout* ``[0, number, version, digest, role, names,
    classes]`` before the first prediction of its kind, and *predictions* ``[1, layout, first row, ...]``.

    Args:
        folder: where segments are.
        loop: whose predictions.
        roll_bytes: size from which a new segment is begun.
    """

    def __init__(self, folder: Path, loop: str, *, roll_bytes: int = ROLL_BYTES) -> None:
        self._folder = folder
        self._loop = loop
        self._roll_bytes = roll_bytes
        self._file = -1
        self._forked = _forks
        self._broken: StoreError | None = None
        self._synced = False  # somebody waits for the disk: what was rolled over must get there too
        self._rolled: list[int] = []
        self._name = ""
        self._size = self._row = 0
        self._layouts: dict[tuple[Any, ...], int] = {}
        self._last: Block | None = None  # the last block, and its layout: most are laid out as the one before
        self._number = 0
        self._held: list[bytes] = []
        self._before = (0, 0)

    def append(self, block: Block, *, hold: bool = False) -> str:
        """Write a block; it survives the end of this process. Returns the id of its first row.

        Args:
            block: the block.
            hold: leave writing to `flush`, so that several blocks cost one call of the system.

        Raises:
            StoreError: it cannot be written; nothing of it is kept, nor of what was held.
        """
        if self._broken is not None:
            raise StoreError(str(self._broken))
        if self._file < 0 or self._size >= self._roll_bytes or self._forked != _forks:
            self.flush()
            self._begin()
        row, last = self._row, self._last
        if not self._held:
            self._before = (row, len(self._layouts))
        if not (
            last is not None
            and block.names is last.names
            and block.classes is last.classes
            and block.version == last.version
            and block.digest == last.digest
            and block.role == last.role
        ):
            self._lay_out(block)
        data = _pack(
            (
                1, self._number, row, block.rows, block.at_us, block.latency_us, block.matrix, block.columns,
                block.keys, block.values, block.probabilities, block.error, block.answered, block.trace, block.ids,
            )
        )  # fmt: skip
        self._held += (HEADER.pack(len(data), zlib.crc32(data)), data)
        self._row = row + block.rows
        first = f"{self._name}{row:010x}"
        if not hold:
            self.flush()
        return first

    def flush(self) -> None:
        """Write what was held.

        Raises:
            StoreError: it cannot be written; nothing of it is kept.
        """
        if not self._held:
            return
        held, self._held = self._held, []
        try:
            self._write(held)
        except StoreError:
            self._back(*self._before)
            raise

    def _back(self, row: int, layouts: int) -> None:
        """Forget rows and layouts that were not written after all."""
        self._row = row
        self._layouts = dict(list(self._layouts.items())[:layouts])
        self._last = None

    def _lay_out(self, block: Block) -> None:
        """Tell readers how this block and those like it are laid out, unless they were told."""
        kind = (block.version, block.digest, block.role, block.names, block.classes)
        number = self._layouts.get(kind)
        if number is None:
            number = self._layouts[kind] = len(self._layouts)
            self._held.append(self._framed((0, number, *kind)))
        self._last, self._number = block, number

    @staticmethod
    def _framed(body: tuple[Any, ...]) -> bytes:
        data = _pack(body)
        return HEADER.pack(len(data), zlib.crc32(data)) + data

    def _write(self, pieces: Sequence[bytes]) -> None:
        data = b"".join(pieces)
        try:
            written = os.write(self._file, data)
            if written == len(data):
                self._size += written
                return
            problem: OSError = OSError(28, "No space left on device")
        except OSError as error:
            problem = error
        try:
            os.ftruncate(self._file, self._size)
        except OSError:
            self._leave()  # what is torn ends this segment; the next block begins another
        raise store_error(problem, "record a prediction")

    def _begin(self) -> None:
        self._leave()
        self._name = f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(5)}"
        self._layouts = {}
        self._last = None
        self._row = self._size = 0
        self._forked = _forks
        path = self._folder / f"{self._name}.log"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            folder = os.open(self._folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            self._let_go()
            raise store_error(error, "begin a segment of the prediction log") from error
        try:
            self._write([self._framed((FORMAT, self._loop))])
        except StoreError:
            self._let_go()
            with contextlib.suppress(OSError):
                path.unlink()  # it holds nothing, not even whose it is
            raise

    def _leave(self) -> None:
        """Let this segment go: at once, or where somebody waits for the disk, once it is there."""
        if self._synced and self._file >= 0 and self._forked == _forks:
            self._rolled.append(self._file)
            self._file = -1
        else:
            self._let_go()

    def mark(self) -> tuple[int, int, int, int]:
        """Where the segment ends now, for `rewind`; a new one is begun if none is open, so that the mark holds."""
        if self._file < 0 or self._size >= self._roll_bytes // 2 or self._forked != _forks:
            self._begin()
        return self._file, self._size, self._row, len(self._layouts)

    def rewind(self, mark: tuple[int, int, int, int]) -> None:
        """Take back what was appended since the mark, before anybody was told of it."""
        file, size, row, layouts = mark
        if self._file == file:
            with contextlib.suppress(OSError):
                os.ftruncate(file, size)
                self._size = size
                self._back(row, layouts)
                return
        self.close()

    def sync(self) -> None:
        """Return once every block is on disk. A failure is never tried again: what it lost cannot be known.

        Raises:
            StoreError: the disk failed; nothing more is taken.
        """
        if self._broken is not None:
            raise StoreError(str(self._broken))
        self._synced = True
        try:
            if (file := self._file) >= 0:
                os.fdatasync(file)
            while self._rolled:  # last: another thread may have rolled over to the next segment meanwhile
                os.fdatasync(self._rolled[0])
                os.close(self._rolled.pop(0))
        except OSError as error:
            self._broken = StoreError(f"The prediction log could not be written to disk: {error.strerror}.")
            raise self._broken from error

    def close(self) -> None:
        """Give the segment up, and with it what was held. Idempotent."""
        self._held.clear()
        self._let_go()
        while self._rolled:
            with contextlib.suppress(OSError):
                os.close(self._rolled.pop())

    def _let_go(self) -> None:
        if self._file >= 0:
            with contextlib.suppress(OSError):
                os.close(self._file)
            self._file = -1
