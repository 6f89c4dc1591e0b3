"""A segment's blocks, as far as they are whole."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from noria.errors import StoreError
from noria.store.segments.writer import FORMAT, HEADER, Block

__all__ = ["Found", "Segment"]

_BEGINS = re.compile(rb"\x97\x00|\x9f\x01")  # a layout, seven items, or predictions, fifteen
_unpack = msgspec.msgpack.Decoder().decode


class Found(msgspec.Struct, gc=False):
    """A block where it was found.

    Attributes:
        row: the segment's number of its first row.
        start: where its bytes begin, with those of a layout before it; ``stop`` where they end.
    """

    block: Block
    row: int
    start: int
    stop: int


class Segment:
    """One segment file, read from where reading stopped before.

    Args:
        path: the file, named by the segment.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.stem
        self.loop: str | None = None
        self._layouts: dict[int, tuple[Any, ...]] = {}
        self._known = 0  # layouts are known up to here

    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[Found]:
        """Whole blocks from ``start``. One that is damaged is left out; a torn one ends them.

        Raises:
            StoreError: it was written by a newer Noria.
            OSError: it cannot be read.
        """
        with self.path.open("rb") as file:
            if start > self._known:
                file.seek(self._known)
                self._learn(file.read(start - self._known), self._known)
            file.seek(start)
            data = file.read(-1 if stop is None else stop - start)
        begin = 0
        for at, after, body in _framed(data):
            if start + at == 0:
                self._head(body)
                begin = after
            elif body[0] == 0:
                self._layouts[body[1]] = _layout(body)
            elif body[1] in self._layouts:  # else the layout is damaged
                yield Found(self._block(body), body[2], start + begin, start + after)
                begin = after
            if start + after > self._known:
                self._known = start + after

    def _learn(self, data: bytes, start: int) -> None:
        """Read the head and the layouts among bytes that need not be read otherwise."""
        at = 0
        while at + HEADER.size <= len(data):
            length, check = HEADER.unpack_from(data, at)
            body = at + HEADER.size
            if not length or body + length > len(data):
                break
            # An array whose first item is 0, or the head.
            if start + at == 0 or (data[body] & 0xF0 == 0x90 and data[body + 1] == 0):
                found = data[body : body + length]
                if zlib.crc32(found) == check:
                    if start + at == 0:
                        self._head(_unpack(found))
                    else:
                        layout = _unpack(found)
                        self._layouts[layout[1]] = _layout(layout)
            at = body + length
        self._known = start + at

    def _head(self, body: list[Any]) -> None:
        if body[0] != FORMAT:
            raise StoreError(f"The segment {self.name} was written by a newer Noria. Upgrade Noria to read it.")
        self.loop = body[1]

    def _block(self, body: list[Any]) -> Block:
        version, digest, role, names, classes = self._layouts[body[1]]
        _, _, _, rows, at_us, latency_us, matrix, columns, keys, values, shares, error, answered, trace, ids = body
        return Block(
            at_us, latency_us, version, digest, role, rows, names, matrix, columns, keys, values, classes, shares,
            error, answered, trace, ids,
        )  # fmt: skip

    def damaged(self) -> bool:
        """Whether blocks in it cannot be read. A torn end is no damage: nobody was told that it was kept."""
        data, whole = self.path.read_bytes(), 0
        for at, after, _ in _framed(data):
            if at > whole:
                return True
            whole = after
        rest = data[whole:]
        return any(_is_whole(rest, found.start() - HEADER.size) for found in _BEGINS.finditer(rest, HEADER.size))

    def abandoned(self) -> bool:
        """Whether its writer is gone."""
        import fcntl

        try:
            handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return False
        finally:
            os.close(handle)
        return True


def _layout(body: list[Any]) -> tuple[Any, ...]:
    """Version, digest, role, names and classes, once for all the blocks that share them."""
    version, digest, role, names, classes = body[2:]
    return version, digest, role, tuple(names), tuple(classes)


def _framed(data: bytes) -> Iterator[tuple[int, int, list[Any]]]:
    """Where each whole block begins and ends, and what it holds; those between whose sum is wrong are left out."""
    at = 0
    while at + HEADER.size <= len(data):
        length, _ = HEADER.unpack_from(data, at)
        after = at + HEADER.size + length
        # Zeros, as a file has them after a power cut, would pass for an empty block with the right checksum.
        if not length or after > len(data):
            return
        if _is_whole(data, at):
            yield at, after, _unpack(data[at + HEADER.size : after])
        at = after


def _is_whole(data: bytes, at: int) -> bool:
    length, check = HEADER.unpack_from(data, at)
    body = data[at + HEADER.size : at + HEADER.size + length]
    return bool(0 < length == len(body) and check == zlib.crc32(body))
