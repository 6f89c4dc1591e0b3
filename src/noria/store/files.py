"""Blobs in a folder: one read-only file a digest, written to a temporary name, fsynced and renamed."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from noria.core.hashing import digest_bytes, is_digest
from noria.errors import CorruptBlob, NotFound, StoreError, StoreFull, StoreReadOnly


def store_error(error: OSError, what: str) -> StoreError:
    """The store's own error for an operating-system error."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StoreFull(f"No space left to {what}. Nothing was recorded; free some space and try again.")
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return StoreReadOnly(f"Not allowed to {what} ({error.strerror}). Check the store folder's permissions.")
    return StoreError(f"Could not {what}: {error.strerror}.")


def fsync_folder(folder: Path) -> None:
    """Make the folder's entries durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class FolderBlobs:
    """:class:`noria.store.ports.Blobs` in a local folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._temporary = folder / "incoming"
        try:
            self._temporary.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise store_error(error, f"create {folder}") from error

    def _path(self, digest: str) -> Path:
        if not is_digest(digest):
            raise NotFound(f"'{digest[:80]}' is not a digest.")
        algorithm, _, name = digest.partition(":")
        return self._folder / algorithm / name[:2] / name[2:]

    def put(self, data: bytes) -> str:
        """Store bytes; returns their digest."""
        digest = digest_bytes(data)
        path = self._path(digest)
        if _holds(path, data):
            return digest
        temporary = self._temporary / secrets.token_hex(16)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("xb") as handle:
                handle.write(data)
                handle.flush()
                os.fsync(handle.fileno())
            temporary.chmod(stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH)
            temporary.replace(path)
            for folder in (path.parent, path.parent.parent, self._folder):
                fsync_folder(folder)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise store_error(error, "store a file") from error
        return digest

    def get(self, digest: str) -> bytes:
        """The bytes, checked."""
        try:
            data = self._path(digest).read_bytes()
        except FileNotFoundError:
            raise NotFound(f"The store has no file {digest}.") from None
        except OSError as error:
            raise store_error(error, f"read {digest}") from error
        if digest_bytes(data) != digest:
            raise CorruptBlob(f"The stored file {digest} is damaged: its bytes do not match its digest.")
        return data

    def has(self, digest: str) -> bool:
        """Whether the blob is there."""
        return is_digest(digest) and self._path(digest).exists()

    def digests(self) -> Iterator[str]:
        """Every digest held."""
        for algorithm in sorted(self._folder.iterdir()):
            if algorithm == self._temporary or not algorithm.is_dir():
                continue
            for path in sorted(algorithm.glob("??/*")):
                digest = f"{algorithm.name}:{path.parent.name}{path.name}"
                if is_digest(digest):
                    yield digest


def _holds(path: Path, data: bytes) -> bool:
    """Whether the file is there with these bytes: one that is damaged is written anew."""
    try:
        return path.stat().st_size == len(data) and path.read_bytes() == data
    except OSError:
        return False
