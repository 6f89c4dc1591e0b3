"""Digests: one name for one content, ``blake3:<64 hexadecimal characters>``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from blake3 import blake3

from noria.core.canonical import canonical_json

__all__ = ["Hasher", "digest_bytes", "digest_file", "digest_json", "is_digest"]

_DIGEST = re.compile(r"blake3:[0-9a-f]{64}")


class Hasher:
    """The digest of bytes that come in pieces."""

    def __init__(self) -> None:
        self._hash = blake3()

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Add bytes."""
        self._hash.update(data)

    def digest(self) -> str:
        """The digest of all bytes so far."""
        return "blake3:" + self._hash.hexdigest()


def digest_bytes(data: bytes | memoryview) -> str:
    """The digest of the bytes."""
    return "blake3:" + blake3(data).hexdigest()


def digest_file(path: Path) -> str:
    """The digest of a file's bytes, read in constant memory."""
    hasher = blake3()
    with path.open("rb") as handle:
        while part := handle.read(1 << 20):
            hasher.update(part)
    return "blake3:" + hasher.hexdigest()


def digest_json(value: Any) -> str:
    """The digest of the value's canonical JSON."""
    return digest_bytes(canonical_json(value).encode())


def is_digest(text: str) -> bool:
    """Whether the text has the form of a digest."""
    return _DIGEST.fullmatch(text) is not None
