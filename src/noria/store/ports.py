"""The ground every room stands on: small Protocols, whose docstrings state what a back-end owes.

``noria.testing.contracts`` holds the suites that every back-end must pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec

from noria.store.kinds import AliasRecord, ApiKey, CacheEntry, Lease, LoopRecord, MonitorState, Prediction, Window
from noria.store.kinds import Label as Label
from noria.store.segments.writer import Block
from noria.store.tracking import Tracking

__all__ = [
    "AliasRecord",
    "ApiKey",
    "BlobWriter",
    "Blobs",
    "CacheEntry",
    "Change",
    "Label",
    "LabelReceipt",
    "LabelledPrediction",
    "Lease",
    "Ledger",
    "LoopRecord",
    "MonitorState",
    "Prediction",
    "PredictionLog",
    "Reader",
    "Store",
    "Transaction",
    "Window",
]

R = TypeVar("R", bound=msgspec.Struct)
T = TypeVar("T")


class Reader(Protocol):
    """A consistent view of the ledger: everything read through one reader is of one moment."""

    def find(self, kind: type[R], /, **key: object) -> R | None:
        """The record of ``kind`` whose indexed columns equal ``key`` (the newest of several), or None."""
        ...

    def list(
        self,
        kind: type[R],
        /,
        *,
        limit: int | None = None,
        oldest_first: bool = False,
        after: object | None = None,
        **where: object,
    ) -> list[R]:
        """Records of ``kind``, newest first unless told, whose indexed columns equal ``where``.

        Args:
            kind: the records' type.
            limit: at most this many.
            oldest_first: reverse the order.
            where: the columns' values.
            after: keyset page: only records that come after this value of the kind's order column.
        """
        ...

    def count(self, kind: type[msgspec.Struct], /, **where: object) -> int:
        """How many records of ``kind`` match."""
        ...

    def digests(self) -> set[str]:
        """Every digest that any record names: the blobs that must not be removed."""
        ...

    def flaws(self, kind: type[msgspec.Struct], /) -> Sequence[str]:
        """One sentence for each record of ``kind`` that is no longer as it was put; empty when all are."""
        ...


class Transaction(Reader, Protocol):
    """A change in the making: all of it becomes visible and durable at once, or none of it."""

    def put(self, record: msgspec.Struct) -> None:
        """Insert the record, or replace the one with the same primary key.

        Raises:
            Conflict: another record holds its place, such as a turn's number.
            TypeError: it is an audit entry: see ``audit``.
            ValueError: it could not be read back, such as for a number that is not finite.
        """
        ...

    def remove(self, kind: type[msgspec.Struct], /, **key: object) -> int:
        """Delete matching records; returns how many."""
        ...

    def audit(self, at: datetime, actor: str, action: str, subject: str, **facts: Any) -> None:
        """Append an audit entry, chained to the one before, to this transaction."""
        ...


Change = Callable[[Transaction], T]


class Ledger(Protocol):
    """Records and audit entries.

    Obligations: ``write`` returns only after the change is durable (survives power loss); changes are
    serialised; a change that raises leaves no trace and its error reaches the caller; any number of threads
    and processes may use the same ledger; once a write to disk has failed no further write is accepted.
    """

    def read(self) -> AbstractContextManager[Reader]:
        """A consistent view."""
        ...

    def write(self, change: Change[T]) -> T:
        """Run ``change`` in a transaction, make it durable, return what it returned.

        ``change`` must not block, and may be run with others in one commit.

        Raises:
            StoreFull, StoreReadOnly, StoreBusy: nothing of the change is kept.
        """
        ...

    def close(self) -> None:
        """Finish what is queued and release everything. Idempotent."""
        ...


class BlobWriter(Protocol):
    """A blob in the making, of any size: nobody sees it before ``commit``."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Add bytes.

        Raises:
            StoreFull, StoreReadOnly: they cannot be kept; the blob is given up.
        """
        ...

    def commit(self) -> tuple[str, int]:
        """Make the blob durable; returns its digest and size in bytes."""
        ...

    def abort(self) -> None:
        """Give the blob up. Nothing after ``commit``; idempotent."""
        ...


class Blobs(Protocol):
    """Bytes by digest. Obligations: a blob is whole or absent, never changes, and is checked when read."""

    def put(self, data: bytes) -> str:
        """Store bytes; returns their digest. Durable on return; idempotent."""
        ...

    def get(self, digest: str) -> bytes:
        """The bytes.

        Raises:
            NotFound: no such blob.
            CorruptBlob: they no longer match the digest.
        """
        ...

    def writer(self) -> BlobWriter:
        """A blob to be written piece by piece."""
        ...

    def read(self, digest: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes from ``start`` to before ``end``, in pieces of about a mebibyte.

        What is read from the first byte to the last is checked: a damaged blob raises before its last piece is given.

        Raises:
            NotFound: no such blob.
            CorruptBlob: they no longer match the digest.
        """
        ...

    def size(self, digest: str) -> int:
        """How many bytes the blob has.

        Raises:
            NotFound: no such blob.
        """
        ...

    def remove(self, digest: str, unless_since: datetime) -> int:
        """Remove a blob that nothing needs, unless it was stored (again) since then; returns the bytes freed."""
        ...

    def has(self, digest: str) -> bool:
        """Whether the blob is there."""
        ...

    def digests(self) -> Iterator[str]:
        """Every digest held."""
        ...


class LabelReceipt(msgspec.Struct, frozen=True):
    """What became of a batch of labels: how many met a prediction, and the keys of those that did not yet."""

    received: int
    matched: int
    unmatched: tuple[str, ...] = ()


class LabelledPrediction(msgspec.Struct, frozen=True):
    """A prediction with its label, and the label's place in the order of arrival."""

    prediction: Prediction
    value: Any
    labelled_at: datetime
    label_sequence: int


class PredictionWriter(Protocol):
    """Appends one process's predictions of one loop, for whoever must not wait.

    Obligations: a block that was appended survives the end of the process; after ``sync`` it survives a power cut.
    """

    def append(self, block: Block, *, hold: bool = False) -> str:
        """Write a block; returns the id of its first row: those of the others count up in its last ten digits.

        Args:
            block: the block.
            hold: it may be written with others by ``flush``, before which nobody is to be told of it.

        Raises:
            StoreError: it cannot be written; nothing of it is kept.
        """
        ...

    def flush(self) -> None:
        """Write what was held.

        Raises:
            StoreError: it cannot be written; nothing of it is kept.
        """
        ...

    def sync(self) -> None:
        """Return once every block is on disk.

        Raises:
            StoreError: the disk failed; nothing more is taken.
        """
        ...

    def close(self) -> None:
        """Give up writing. Idempotent."""
        ...


class PredictionLog(Protocol):
    """Every prediction, and the labels that arrive later.

    Obligations: ``append`` and ``label`` are durable on return, and keep all of a batch or nothing; a label
    may come before its prediction, and a later label for the same key replaces the earlier one.
    """

    def append(self, predictions: Sequence[Prediction]) -> None:
        """Record predictions.

        Raises:
            Conflict: an id is there already.
        """
        ...

    def writer(self, loop: str) -> PredictionWriter:
        """A writer of this process's own for a loop's predictions."""
        ...

    def label(self, labels: Sequence[Label]) -> LabelReceipt:
        """Record labels."""
        ...

    def targets(self, labels: Sequence[Label]) -> list[Prediction | None]:
        """The predictions that labels would belong to; None for one that has none yet, or no longer."""
        ...

    def unlabelled(self, loop: str, keys: Sequence[str]) -> set[str]:
        """Those of the keys whose newest prediction has no label yet."""
        ...

    def find(self, prediction: str) -> tuple[Prediction, Label | None]:
        """One prediction by id, with its label if known.

        Raises:
            NotFound: no such prediction.
        """
        ...

    def predictions(
        self, loop: str, *, after: int = 0, version: int | None = None, limit: int = 10_000
    ) -> list[tuple[int, Prediction]]:
        """Predictions with their place in the order of arrival, from just after ``after``; a shadow's left out."""
        ...

    def rows(self, loop: str, *, after: int = 0, limit: int = 10_000) -> list[tuple[int, Prediction]]:
        """As `predictions`, a shadow's among them."""
        ...

    def recent(
        self, loop: str, *, before: int | None = None, key: str | None = None, limit: int = 100
    ) -> list[tuple[int, Prediction, Label | None]]:
        """Predictions from the newest back, each with its place in the order of arrival and its label if known.

        Args:
            loop: the loop's name.
            before: from just before this place in that order.
            key: only answered ones of this key; all by default, failed ones and a shadow's among them.
            limit: at most this many.
        """
        ...

    def labelled(
        self,
        loop: str,
        *,
        after: int = 0,
        version: int | None = None,
        since: datetime | None = None,
        limit: int | None = 10_000,
    ) -> list[LabelledPrediction]:
        """Predictions whose label is known, each with its newest label, in the order those arrived.

        Args:
            loop: the loop's name.
            limit: at most this many.
            after: from just after this place in that order.
            version: only predictions of this version.
            since: only labels that came at this time or later.
        """
        ...

    def counts(self, loop: str, since: datetime, version: int | None = None) -> tuple[int, int, int]:
        """Predictions, errors and labelled predictions since a moment."""
        ...


class Store(msgspec.Struct, frozen=True):
    """One store: ledger, blobs, prediction log and tracking, opened together."""

    ledger: Ledger
    blobs: Blobs
    predictions: PredictionLog
    tracking: Tracking
    folder: Path

    def close(self) -> None:
        """Release everything."""
        self.ledger.close()
        self.tracking.close()
        close = getattr(self.predictions, "close", None)
        if close:
            close()
