"""Blobs in an object store (S3 and what speaks like it): one object a digest, uploaded whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from noria.core.hashing import Hasher, digest_bytes, is_digest
from noria.errors import CorruptBlob, MissingExtra, NotFound, StoreError, StoreFull, StoreReadOnly
from noria.store.files import store_error

__all__ = ["ObjectBlobs"]

_PIECE = 2**20
_PART = 5 * 2**20  # S3 takes no smaller one
_MOST_PARTS = 10_000  # S3 takes no more of one object
_PARTS_AT_ONCE = 3  # each is held in memory


class ObjectBlobs:
    """:class:`noria.store.ports.Blobs` in a bucket.

    Args:
        address: ``s3://BUCKET/PREFIX``. Keys, region and endpoint come from the usual ``AWS_…`` variables.

    Raises:
        MissingExtra: obstore is not installed.
        StoreError: the address cannot be used.
    """

    def __init__(self, address: str) -> None:
        try:
            import obstore
            from obstore.exceptions import BaseError
            from obstore.store import from_url
        except ModuleNotFoundError as error:
            raise MissingExtra("obstore", "s3", "to keep files in an object store") from error
        self._of, self._error = obstore, BaseError
        endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
        options = {"client_options": {"allow_http": True}} if endpoint.startswith("http://") else {}
        try:
            self._store = from_url(address, **options)  # type: ignore[call-overload]
        except (BaseError, ValueError) as error:
            raise StoreError(f"'{address[:200]}' cannot be used as an object store: {_first(error)}") from error

    def _key(self, digest: str) -> str:
        if not is_digest(digest):
            raise NotFound(f"'{digest[:80]}' is not a digest.")
        algorithm, _, name = digest.partition(":")
        return f"{algorithm}/{name[:2]}/{name[2:]}"

    @contextmanager
    def _translated(self, what: str, digest: str = "") -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise NotFound(f"The store has no file {digest}.") from None
        except PermissionError as error:
            raise StoreReadOnly(f"The object store does not allow to {what}.") from error
        except (self._error, OSError) as error:
            raise StoreError(f"The object store could not {what}: {_first(error)}") from error

    def put(self, data: bytes) -> str:
        """Store bytes; returns their digest."""
        digest = digest_bytes(data)
        with self._translated("store a file"):
            self._of.put(self._store, self._key(digest), data)
        return digest

    def writer(self) -> ObjectBlobWriter:
        """A blob to be written piece by piece."""
        return ObjectBlobWriter(self)

    def get(self, digest: str) -> bytes:
        """The bytes, checked."""
        with self._translated("read a file", digest):
            data = bytes(self._of.get(self._store, self._key(digest)).bytes())
        if digest_bytes(data) != digest:
            raise CorruptBlob(f"The stored file {digest} is damaged: its bytes do not match its digest.")
        return data

    def read(self, digest: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes from ``start`` to before ``end``, in pieces; checked if they are all."""
        size = self.size(digest)
        end = size if end is None else min(end, size)
        if start >= end:
            return
        whole = Hasher() if start == 0 and end == size else None
        with self._translated("read a file", digest):
            options: Any = None if whole is not None else {"range": (start, end)}
            pieces = iter(self._of.get(self._store, self._key(digest), options=options).stream(min_chunk_size=_PIECE))
        left = end - start
        while left > 0:
            with self._translated("read a file", digest):
                piece = bytes(next(pieces, b""))
            left -= len(piece)
            if whole is not None:
                whole.update(piece)
            if not piece or (left == 0 and whole is not None and whole.digest() != digest):
                raise CorruptBlob(f"The stored file {digest} is damaged: its bytes do not match its digest.")
            yield piece

    def size(self, digest: str) -> int:
        """How many bytes the blob has."""
        with self._translated("look for a file", digest):
            return int(self._of.head(self._store, self._key(digest))["size"])

    def remove(self, digest: str, unless_since: datetime) -> int:
        """Remove a blob, unless it was stored since then."""
        try:
            with self._translated("remove a file", digest):
                found = self._of.head(self._store, self._key(digest))
                if found["last_modified"] >= unless_since:
                    return 0
                self._of.delete(self._store, self._key(digest))
        except NotFound:
            return 0
        return int(found["size"])

    def has(self, digest: str) -> bool:
        """Whether the blob is there."""
        if not is_digest(digest):
            return False
        try:
            self.size(digest)
        except NotFound:
            return False
        return True

    def digests(self) -> Iterator[str]:
        """Every digest held."""
        with self._translated("list its files"):
            for batch in self._of.list(self._store):
                for found in batch:
                    algorithm, *parts = found["path"].split("/")
                    digest = f"{algorithm}:{''.join(parts)}"
                    if is_digest(digest):
                        yield digest


class ObjectBlobWriter:
    """:class:`noria.store.ports.BlobWriter` of an object store: the pieces wait on this machine's disk."""

    def __init__(self, blobs: ObjectBlobs) -> None:
        self._blobs = blobs
        self._hash = Hasher()
        self._size = 0
        try:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by commit or abort
        except OSError as error:
            raise store_error(error, "keep a file before it is uploaded") from error

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Add bytes."""
        self._hash.update(data)
        self._size += len(data)
        try:
            self._file.write(data)
        except OSError as error:
            self.abort()
            raise store_error(error, "keep a file before it is uploaded") from error

    def commit(self) -> tuple[str, int]:
        """Upload the blob."""
        digest = self._hash.digest()
        try:
            self._file.seek(0)
            with self._blobs._translated("store a file"):
                self._blobs._of.put(
                    self._blobs._store,
                    self._blobs._key(digest),
                    self._file,
                    chunk_size=max(_PART, self._size // _MOST_PARTS + 1),
                    max_concurrency=_PARTS_AT_ONCE,
                )
        except OSError as error:
            raise StoreFull(f"The file could not be uploaded: {error.strerror}.") from error
        finally:
            self.abort()
        return digest, self._size

    def abort(self) -> None:
        """Give the blob up."""
        self._file.close()


def _first(error: Exception) -> str:
    """The start of a library's message, without the addresses and headers that follow."""
    return (str(error).splitlines() or ["no reason was given"])[0][:200]
