"""Blobs in a folder: one read-only file a digest, written to a temporary name, fsynced and renamed."""

from __future__ import annotations

import errno
import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from noria.core.hashing import Hasher, digest_bytes, is_digest
from noria.errors import CorruptBlob, NotFound, StoreError, StoreFull, StoreReadOnly

_PIECE = 2**20
_STALE_SECONDS = 24 * 3600


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
        self._sweep()

    def _sweep(self) -> None:
        """Remove what writers that died left behind."""
        long_ago = time.time() - _STALE_SECONDS
        for left in self._temporary.iterdir():
            with suppress(OSError):
                if left.stat().st_mtime < long_ago:
                    left.unlink()

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
            with suppress(OSError):
                os.utime(path)  # stored again: not to be collected as garbage now
            return digest
        writer = self.writer()
        writer.write(data)
        writer.commit()
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

    def writer(self) -> FolderBlobWriter:
        """A blob to be written piece by piece."""
        return FolderBlobWriter(self)

    def read(self, digest: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes from ``start`` to before ``end``, in pieces; checked if they are all."""
        path = self._path(digest)
        try:
            handle = path.open("rb", buffering=0)
        except FileNotFoundError:
            raise NotFound(f"The store has no file {digest}.") from None
        except OSError as error:
            raise store_error(error, f"read {digest}") from error
        with handle:
            size = os.fstat(handle.fileno()).st_size
            end = size if end is None else min(end, size)
            whole = Hasher() if start == 0 and end == size else None
            handle.seek(start)
            left = end - start
            while left > 0:
                try:
                    piece = handle.read(min(_PIECE, left))
                except OSError as error:
                    raise store_error(error, f"read {digest}") from error
                left -= len(piece)
                if whole is not None:
                    whole.update(piece)
                if not piece or (left == 0 and whole is not None and whole.digest() != digest):
                    raise CorruptBlob(f"The stored file {digest} is damaged: its bytes do not match its digest.")
                yield piece

    def size(self, digest: str) -> int:
        """How many bytes the blob has."""
        try:
            return self._path(digest).stat().st_size
        except FileNotFoundError:
            raise NotFound(f"The store has no file {digest}.") from None
        except OSError as error:
            raise store_error(error, f"read {digest}") from error

    def remove(self, digest: str, unless_since: datetime) -> int:
        """Remove a blob, unless it was stored since then."""
        path = self._path(digest)
        try:
            found = path.stat()
            if found.st_mtime >= unless_since.timestamp():
                return 0
            path.unlink()
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise store_error(error, f"remove {digest}") from error
        return found.st_size

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


class FolderBlobWriter:
    """:class:`noria.store.ports.BlobWriter` of a local folder."""

    def __init__(self, blobs: FolderBlobs) -> None:
        self._blobs = blobs
        self._temporary = blobs._temporary / secrets.token_hex(16)
        self._hash = Hasher()
        self._size = 0
        try:
            self._handle = self._temporary.open("xb", buffering=0)
        except OSError as error:
            raise store_error(error, "store a file") from error

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Add bytes."""
        view = memoryview(data)
        self._hash.update(view)
        self._size += len(view)
        try:
            while view:
                view = view[self._handle.write(view) :]
        except OSError as error:
            self.abort()
            raise store_error(error, "store a file") from error

    def commit(self) -> tuple[str, int]:
        """Make the blob durable."""
        digest = self._hash.digest()
        path = self._blobs._path(digest)
        try:
            os.fsync(self._handle.fileno())
            self._handle.close()
            self._temporary.chmod(stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._temporary.replace(path)
            for folder in (path.parent, path.parent.parent, self._blobs._folder):
                fsync_folder(folder)
        except OSError as error:
            self.abort()
            raise store_error(error, "store a file") from error
        return digest, self._size

    def abort(self) -> None:
        """Give the blob up."""
        self._handle.close()
        with suppress(OSError):
            self._temporary.unlink(missing_ok=True)


def _holds(path: Path, data: bytes) -> bool:
    """Whether the file is there with these bytes: one that is damaged is written anew."""
    try:
        return path.stat().st_size == len(data) and path.read_bytes() == data
    except OSError:
        return False
