"""TFRecord: how event files frame their records. Length and content each carry a masked CRC-32C.

A record is: 8 bytes length, 4 bytes check of the length, the content, 4 bytes check of the content; all little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

from noria.errors import DataError

__all__ = ["crc32c", "framed", "frames"]

_POLYNOMIAL = 0x82F63B78  # CRC-32C (RFC 3720), bits reversed
_MASK = 0xA282EAD8
_HEAD = struct.Struct("<QI")
_TAIL = struct.Struct("<I")
MOST = 1 << 30
"""A record longer than this is taken for damage."""


def _table() -> tuple[int, ...]:
    found = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (_POLYNOMIAL if crc & 1 else 0)
        found.append(crc)
    return tuple(found)


_TABLE = _table()


def crc32c(data: bytes) -> int:
    """The CRC-32C of the bytes."""
    crc, table = 0xFFFFFFFF, _TABLE
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _masked(data: bytes) -> int:
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + _MASK) & 0xFFFFFFFF


def framed(record: bytes) -> bytes:
    """A record with its frame."""
    length = struct.pack("<Q", len(record))
    return length + _TAIL.pack(_masked(length)) + record + _TAIL.pack(_masked(record))


def frames(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """The whole records from where the file stands, each with the place just after it.

    A record that is not whole yet ends it: read on from the last place when there is more.

    Raises:
        DataError: a check does not hold; what came before is good.
    """
    place = file.tell()
    while True:
        head = file.read(_HEAD.size)
        if len(head) < _HEAD.size:
            return
        length, check = _HEAD.unpack(head)
        if _masked(head[:8]) != check or length > MOST:
            raise DataError(f"the record at byte {place} is damaged")
        record = file.read(length)
        tail = file.read(_TAIL.size)
        if len(record) < length or len(tail) < _TAIL.size:
            return
        if _masked(record) != _TAIL.unpack(tail)[0]:
            raise DataError(f"the record at byte {place} is damaged")
        place += _HEAD.size + length + _TAIL.size
        yield record, place
