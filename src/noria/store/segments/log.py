"""The prediction log of a store in a folder: :class:`noria.store.ports.PredictionLog` over segments and tables."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from noria.core.hashing import digest_bytes
from noria.core.ids import new_id
from noria.errors import Conflict, NotFound
from noria.store.files import store_error
from noria.store.kinds import Label, Prediction
from noria.store.ports import LabelledPrediction, LabelReceipt
from noria.store.segments.index import Indexer, insert_label, placed, sequence_of, target_of
from noria.store.segments.reader import Segment
from noria.store.segments.rows import predictions_of
from noria.store.segments.writer import Block, SegmentWriter
from noria.store.sql.database import Connection, Database
from noria.store.sql.ledger import cell, sought
from noria.store.sql.predictions import labels_of, unlabelled

__all__ = ["FolderPredictions", "table_folder"]

T = TypeVar("T")
Numbered = list[tuple[int, Prediction]]
_LABEL = msgspec.json.Decoder(Label)
_KEPT_CHUNKS = 32
_CHECKED_BYTES = 2**16
_NEAR = 1000
_FEW = 100
_LABELLED = """
SELECT l.sequence, l.body, l.target FROM labels l
WHERE l.loop = ? AND l.target IS NOT NULL AND l.sequence > ?
AND NOT EXISTS (SELECT 1 FROM labels newer WHERE newer.loop = l.loop AND newer.target = l.target
    AND newer.sequence > l.sequence)"""


def table_folder(root: Path, loop: str) -> Path:
    """Where a loop's table is: a name that is a digest, since names never become paths."""
    return root / "tables" / digest_bytes(loop.encode()).partition(":")[2][:24]


class FolderPredictions:
    """A prediction log in a folder.

    Args:
        folder: made when the first prediction is written.
        database: the index.
    """

    def __init__(self, folder: Path, database: Database) -> None:
        self.folder = folder
        self.database = database
        self.segments = folder / "segments"
        self._indexer = Indexer(self.segments)
        self._own: dict[str, SegmentWriter] = {}
        self._chunks: OrderedDict[tuple[str, int, int], Numbered] = OrderedDict()
        self._heads: dict[tuple[str, str], Any] = {}
        self._lock = threading.RLock()

    def segment(self, name: str) -> Segment:
        """The segment of this name."""
        return self._indexer.segment(name)

    # writing

    def writer(self, loop: str) -> SegmentWriter:
        """A writer of this process's own for a loop's predictions."""
        return SegmentWriter(self.segments, loop)

    def check_writable(self) -> None:
        """Find out whether predictions can be recorded, by writing something.

        Raises:
            StoreError: they cannot.
        """
        path = self.segments / f".{new_id()}.tmp"
        try:
            self.segments.mkdir(parents=True, exist_ok=True)
            try:
                path.write_bytes(bytes(_CHECKED_BYTES))
            finally:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise store_error(error, "record a prediction") from error

    def append(self, predictions: Sequence[Prediction]) -> None:
        """Record predictions; durable on return."""
        if not predictions:
            return

        made = {one.id for one in predictions}
        with self._lock:
            self.index()
            with self.database.read() as connection:
                known = len(made) < len(predictions) or any(sequence_of(connection, one) is not None for one in made)
            if known:
                raise Conflict("A prediction with one of these ids is recorded already.")
            owns = {loop: self._own.setdefault(loop, self.writer(loop)) for loop in {one.loop for one in predictions}}
            marks = {loop: own.mark() for loop, own in owns.items()}
            try:
                for one in predictions:
                    owns[one.loop].append(_block(one))
                for own in owns.values():
                    own.sync()
            except BaseException:
                for loop, own in owns.items():
                    own.rewind(marks[loop])
                raise

    def _write(self, change: Callable[[Connection], T]) -> T:
        with self._lock:
            try:
                return self.database.write(change)
            except BaseException:
                self._indexer.forget()
                raise

    def index(self) -> None:
        """Take in what was written since, by whatever process."""
        with self._lock:
            if self._indexer.news():
                self._write(self._indexer.index)

    def label(self, labels: Sequence[Label]) -> LabelReceipt:
        """Record labels; durable on return."""

        def change(connection: Connection) -> list[str]:
            self._indexer.index(connection)
            unmatched = []
            for label in labels:
                target = target_of(connection, label)
                insert_label(connection, label, target)
                if target is None:
                    unmatched.append(str(label.prediction or label.key))
            return unmatched

        unmatched = self._write(change) if labels else []
        return LabelReceipt(received=len(labels), matched=len(labels) - len(unmatched), unmatched=tuple(unmatched))

    # reading

    def _look(self, work: Callable[[Connection], T]) -> T:
        """What is read of one moment; read again where files of that moment went into others meanwhile."""
        self.index()
        for again in (True, True, False):
            try:
                with self.database.read() as connection:
                    return work(connection)
            except FileNotFoundError as error:
                if not again:
                    raise store_error(error, "read the prediction log") from error
        raise AssertionError

    def targets(self, labels: Sequence[Label]) -> list[Prediction | None]:
        """The predictions that labels would belong to."""

        def work(connection: Connection) -> list[Prediction | None]:
            places = [(label.loop, target_of(connection, label)) for label in labels]
            found = {
                loop: self._at(connection, loop, [at for other, at in places if other == loop and at is not None])
                for loop in {label.loop for label in labels}
            }
            return [found[loop].get(at) if at is not None else None for loop, at in places]

        return self._look(work)

    def unlabelled(self, loop: str, keys: Sequence[str]) -> set[str]:
        """Those of the keys whose newest prediction has no label yet."""
        return self._look(lambda connection: unlabelled(connection, "keys", loop, keys))

    def find(self, prediction: str) -> tuple[Prediction, Label | None]:
        """One prediction by id, with its label if known."""

        def work(connection: Connection) -> tuple[Prediction, Label | None]:
            place = sequence_of(connection, str(sought(prediction)))
            if place is None:
                raise NotFound(f"There is no prediction '{prediction[:80]}'.")
            loop, sequence = place
            found = self._at(connection, loop, [sequence]).get(sequence)
            if found is None:
                why = "it is older than what is kept, or damaged"
                raise NotFound(f"The prediction '{prediction[:80]}' is kept no more: {why}.")
            row = connection.execute(
                "SELECT body FROM labels WHERE loop = ? AND target = ? ORDER BY sequence DESC LIMIT 1", (loop, sequence)
            ).fetchone()
            return found, (_LABEL.decode(row[0]) if row else None)

        return self._look(work)

    def predictions(self, loop: str, *, after: int = 0, version: int | None = None, limit: int = 10_000) -> Numbered:
        """Predictions with their place in the order of arrival; a shadow's are not among them."""
        return self._read(loop, after, limit, version, shadows=False)

    def rows(self, loop: str, *, after: int = 0, limit: int = 10_000) -> Numbered:
        """As `predictions`, a shadow's among them."""
        return self._read(loop, after, limit, None, shadows=True)

    def recent(
        self, loop: str, *, before: int | None = None, key: str | None = None, limit: int = 100
    ) -> list[tuple[int, Prediction, Label | None]]:
        """Predictions from the newest back."""
        self.index()
        found: list[tuple[int, Prediction]] = []
        place = 2**63 - 1 if before is None else before
        with self.database.read() as connection:
            while len(found) < limit:  # some may be damaged, or older than what is kept
                wanted = _before(connection, loop, place, key, limit - len(found))
                if not wanted:
                    break
                there: dict[int, Prediction] = {}
                for run in _runs(wanted):
                    there |= self._at(connection, loop, run)
                found += [(sequence, there[sequence]) for sequence in wanted if sequence in there]
                place = wanted[-1]
            known = labels_of(connection, loop, [sequence for sequence, _ in found])
        return [(sequence, one, known.get(sequence)) for sequence, one in found]

    def _read(self, loop: str, after: int, limit: int, version: int | None, shadows: bool) -> Numbered:

        def work(connection: Connection) -> Numbered:
            found: Numbered = []
            for one in self._from(connection, loop, after, limit, version, shadows):
                found += one
                if len(found) >= limit:
                    break
            return found[:limit]

        return self._look(work)

    def _from(
        self, connection: Connection, loop: str, after: int, limit: int, version: int | None, shadows: bool
    ) -> Iterator[Numbered]:
        """Piece after piece, what comes after a sequence and was answered."""
        files = connection.execute(
            "SELECT name, first, rows FROM files WHERE loop = ? AND first + rows > ? ORDER BY first", (loop, after + 1)
        ).fetchall()
        for name, _, _ in files:
            yield self._file_rows(loop, name, after, limit, version, shadows)
        chunks = connection.execute(
            "SELECT first, rows, segment, start, stop FROM chunks WHERE loop = ? AND first + rows > ? ORDER BY first",
            (loop, after + 1),
        ).fetchall()
        for first, count, segment, start, stop in chunks:
            rows = self._chunk(connection, loop, segment, start, stop, first, count)
            yield [
                one
                for one in rows
                if one[0] > after
                and one[1].error is None
                and (shadows or one[1].role != "shadow")
                and version in (None, one[1].version)
            ]

    def _file_rows(self, loop: str, name: str, after: int, limit: int, version: int | None, shadows: bool) -> Numbered:
        import polars as pl

        from noria.store.segments.table import predictions_of_frame

        wanted = (pl.col("sequence") > after) & pl.col("error").is_null()
        if not shadows:
            wanted &= pl.col("role") != "shadow"
        if version is not None:
            wanted &= pl.col("version") == version
        frame = pl.scan_parquet(table_folder(self.folder, loop) / name).filter(wanted).head(limit).collect()
        return predictions_of_frame(frame, loop)

    def _chunk(
        self, connection: Connection, loop: str, segment: str, start: int, stop: int, first: int, count: int
    ) -> Numbered:
        """The rows of a chunk, which never change."""
        key = (segment, start, stop)
        with self._lock:
            if key in self._chunks:
                self._chunks.move_to_end(key)
                return self._chunks[key]
            found: Numbered = []
            try:
                for sequence, one in placed(connection, self._indexer.segment(segment), start, stop, first, count):
                    rows = predictions_of(one.block, loop, f"{segment}{one.row:010x}")
                    found += zip(range(sequence, sequence + len(rows)), rows, strict=True)
            except FileNotFoundError:
                raise  # it may have been compacted: see _look
            except OSError as error:
                raise store_error(error, f"read the segment {segment} of the prediction log") from error
            self._chunks[key] = found
            while len(self._chunks) > _KEPT_CHUNKS:
                self._chunks.popitem(last=False)
            return found

    def _some(
        self, connection: Connection, loop: str, segment: str, start: int, stop: int, first: int, count: int,
        wanted: set[int],
    ) -> dict[int, Prediction]:  # fmt: skip
        """A few rows of a chunk: the others are not made into predictions, which takes longer than reading them."""
        found: dict[int, Prediction] = {}
        try:
            for sequence, one in placed(connection, self._indexer.segment(segment), start, stop, first, count):
                here = wanted.intersection(range(sequence, sequence + one.block.rows))
                if here:
                    rows = predictions_of(one.block, loop, f"{segment}{one.row:010x}")
                    found |= {place: rows[place - sequence] for place in here}
        except FileNotFoundError:
            raise  # it may have been compacted: see _look
        except OSError as error:
            raise store_error(error, f"read the segment {segment} of the prediction log") from error
        return found

    def _at(self, connection: Connection, loop: str, sequences: Sequence[int]) -> dict[int, Prediction]:
        """Predictions by sequence; those no longer kept are left out."""
        import bisect

        wanted = sorted(set(sequences))
        found: dict[int, Prediction] = {}
        if not wanted:
            return found
        low, high = wanted[0], wanted[-1]
        chunks = connection.execute(
            "SELECT first, rows, segment, start, stop FROM chunks WHERE loop = ? AND first <= ? AND first + rows > ?",
            (loop, high, low),
        ).fetchall()
        for first, rows, segment, start, stop in chunks:
            here = wanted[bisect.bisect_left(wanted, first) : bisect.bisect_left(wanted, first + rows)]
            if here and len(here) <= _FEW and (segment, start, stop) not in self._chunks:
                found |= self._some(connection, loop, segment, start, stop, first, rows, set(here))
            elif here:
                listed = self._chunk(connection, loop, segment, start, stop, first, rows)
                if len(listed) == rows:
                    found |= {sequence: listed[sequence - first][1] for sequence in here}
                else:
                    there = dict(listed)
                    found |= {sequence: there[sequence] for sequence in here if sequence in there}
        files = connection.execute(
            "SELECT first, rows, name FROM files WHERE loop = ? AND first <= ? AND first + rows > ?", (loop, high, low)
        ).fetchall()
        for first, rows, name in files:
            here = wanted[bisect.bisect_left(wanted, first) : bisect.bisect_left(wanted, first + rows)]
            if here:
                found |= self._in_file(loop, name, first, here)
        return found

    def _in_file(self, loop: str, name: str, first: int, wanted: Sequence[int]) -> dict[int, Prediction]:
        import polars as pl

        from noria.store.segments.table import predictions_of_frame

        path = table_folder(self.folder, loop) / name
        low, high = wanted[0], wanted[-1]
        frame = pl.scan_parquet(path).slice(low - first, high - low + 1).collect()
        if len(wanted) < high - low + 1:
            frame = frame.filter(pl.col("sequence").is_in(list(wanted)))
        return dict(predictions_of_frame(frame, loop))

    def labelled(
        self,
        loop: str,
        *,
        after: int = 0,
        version: int | None = None,
        since: datetime | None = None,
        limit: int | None = 10_000,
    ) -> list[LabelledPrediction]:
        """Predictions whose label is known, in the order the labels arrived."""
        sql, page = _LABELLED, 20_000
        more: list[object] = []
        if since is not None:
            sql += " AND l.at >= ?"
            more.append(cell(since))

        def work(connection: Connection) -> list[LabelledPrediction]:
            found: list[LabelledPrediction] = []
            begin = after
            while True:
                rows = connection.execute(f"{sql} ORDER BY l.sequence LIMIT ?", [loop, begin, *more, page]).fetchall()
                there = self._at(connection, loop, [target for _, _, target in rows])
                for sequence, body, target in rows:
                    prediction = there.get(target)
                    if prediction is not None and version in (None, prediction.version):
                        label = _LABEL.decode(body)
                        found.append(LabelledPrediction(prediction, label.value, label.at, sequence))
                if len(rows) < page or (limit is not None and len(found) >= limit):
                    return found if limit is None else found[:limit]
                begin = rows[-1][0]

        return self._look(work)

    def counts(self, loop: str, since: datetime, version: int | None = None) -> tuple[int, int, int]:
        """Predictions, errors and labelled predictions since a moment; a shadow's only if its version is named."""
        import numpy as np

        moment = int(since.astimezone(UTC).timestamp() * 1_000_000)

        def work(connection: Connection) -> tuple[int, int, int]:
            total = failed = 0
            targets: list[Any] = []
            for head in self._heads_since(connection, loop, moment):
                sequences, times, versions, wrong, shadow = head
                chosen = times >= moment
                chosen &= ~shadow if version is None else versions == version
                total += int(chosen.sum())
                failed += int((chosen & wrong).sum())
                targets.append(sequences[chosen & ~wrong])
            if not total:
                return 0, 0, 0
            known = np.concatenate(targets)
            low = int(known.min()) if known.size else 0
            rows = connection.execute(
                "SELECT DISTINCT target FROM labels WHERE loop = ? AND target >= ?", (loop, low)
            ).fetchall()
            labelled = int(np.isin(known, np.array([row[0] for row in rows], dtype=np.int64)).sum()) if rows else 0
            return total, failed, labelled

        return self._look(work)

    def _heads_since(self, connection: Connection, loop: str, moment: int) -> Iterator[tuple[Any, ...]]:
        """Sequence, time, version, failure and shadow of every row, as arrays, piece by piece."""
        import numpy as np

        files = connection.execute("SELECT name, latest FROM files WHERE loop = ? ORDER BY first", (loop,)).fetchall()
        for gone in {key for key in tuple(self._heads) if key[0] == loop} - {(loop, name) for name, _ in files}:
            self._heads.pop(gone, None)
        for name, latest in files:
            if latest < moment:
                continue
            head = self._heads.get((loop, name))
            if head is None:
                head = self._heads[loop, name] = self._file_head(loop, name)
            yield head
        for first, count, segment, start, stop in connection.execute(
            "SELECT first, rows, segment, start, stop FROM chunks WHERE loop = ? AND latest >= ? ORDER BY first",
            (loop, moment),
        ).fetchall():
            rows = self._chunk(connection, loop, segment, start, stop, first, count)
            yield (
                np.array([sequence for sequence, _ in rows], dtype=np.int64),
                np.array([int(one.at.timestamp() * 1_000_000) for _, one in rows], dtype=np.int64),
                np.array([one.version for _, one in rows], dtype=np.int64),
                np.array([one.error is not None for _, one in rows], dtype=bool),
                np.array([one.role == "shadow" for _, one in rows], dtype=bool),
            )

    def _file_head(self, loop: str, name: str) -> tuple[Any, ...]:
        import polars as pl

        frame = pl.read_parquet(
            table_folder(self.folder, loop) / name, columns=["sequence", "at", "version", "error", "role"]
        )
        return (
            frame["sequence"].to_numpy(),
            frame["at"].dt.epoch("us").to_numpy(),
            frame["version"].cast(pl.Int64).to_numpy(),
            frame["error"].is_not_null().to_numpy(),
            (frame["role"] == "shadow").to_numpy(),
        )

    def close(self) -> None:
        """Finish queued changes and close. Idempotent."""
        for own in self._own.values():
            own.close()
        self._own.clear()
        self.database.close()


def _before(connection: Connection, loop: str, place: int, key: str | None, limit: int) -> list[int]:
    """The sequences just before one, descending, down to the oldest kept; those of a key if there is one."""
    if key is not None:
        sql = "SELECT sequence FROM keys WHERE loop = ? AND key = ? AND sequence < ? ORDER BY sequence DESC LIMIT ?"
        return [row[0] for row in connection.execute(sql, (loop, sought(key), place, limit)).fetchall()]
    (oldest,) = connection.execute(
        "SELECT MIN(first) FROM (SELECT MIN(first) AS first FROM chunks WHERE loop = ? "
        "UNION ALL SELECT MIN(first) FROM files WHERE loop = ?)",
        (loop, loop),
    ).fetchone()
    if oldest is None:
        return []
    (following,) = connection.execute("SELECT next FROM counters WHERE loop = ?", (loop,)).fetchone()
    top = min(place, following)
    return list(range(top - 1, max(top - 1 - limit, oldest - 1), -1))


def _runs(sequences: Sequence[int]) -> Iterator[list[int]]:
    """Descending sequences, those near each other together: what lies between is read with them."""
    run: list[int] = []
    for sequence in sequences:
        if run and run[-1] - sequence > _NEAR:
            yield run
            run = []
        run.append(sequence)
    if run:
        yield run


def _block(one: Prediction) -> Block:
    """A prediction from elsewhere, with the id it has."""
    shares = None
    if one.probabilities is not None:
        from array import array

        shares = array("d", one.probabilities).tobytes()
    return Block(
        at_us=int(one.at.astimezone(UTC).timestamp() * 1_000_000),
        latency_us=one.latency_us,
        version=one.version,
        digest=one.model_digest,
        role=one.role,
        rows=1,
        names=(),
        matrix=b"",
        columns={name: [value] for name, value in one.record.items()},
        keys=[one.key],
        values=[] if one.value is None else [one.value],
        classes=(),
        probabilities=shares,
        error=one.error,
        answered=None if one.answered is None else [one.answered],
        trace=one.trace,
        ids=[one.id],
    )
