"""The prediction log in SQL: predictions and labels in order of arrival, joined when read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from noria.core.ids import new_id
from noria.errors import Conflict, NotFound
from noria.store.kinds import Label, Prediction
from noria.store.ports import LabelledPrediction, LabelReceipt
from noria.store.segments.rows import predictions_of
from noria.store.segments.writer import Block
from noria.store.sql.database import Connection, Database
from noria.store.sql.ledger import cell, sought

_ENCODER = msgspec.json.Encoder()
_PREDICTION = msgspec.json.Decoder(Prediction)
_LABEL = msgspec.json.Decoder(Label)

_LABELLED = """
SELECT l.sequence, l.body, p.body FROM labels l JOIN predictions p ON p.sequence = l.target
WHERE l.loop = ? AND l.sequence > ?
AND NOT EXISTS (SELECT 1 FROM labels newer WHERE newer.target = l.target AND newer.sequence > l.sequence)"""


_APPEND = """
INSERT INTO predictions (id, loop, key, version, at, failed, body) VALUES (?, ?, ?, ?, ?, ?, ?)"""


_TOGETHER = 500  # keys asked for at once


def _target(connection: Connection, label: Label) -> int | None:
    """The prediction a label belongs to: the one with its id, else the newest with its key."""
    if label.prediction is not None:
        sql, values = (
            "SELECT sequence FROM predictions WHERE id = ? AND loop = ? AND failed = 0",
            (label.prediction, label.loop),
        )
    else:
        sql = "SELECT MAX(sequence) FROM predictions WHERE loop = ? AND key = ? AND failed = 0"
        values = (label.loop, label.key or "")
    row = connection.execute(sql, values).fetchone()
    return row[0] if row else None


def unlabelled(connection: Connection, table: str, loop: str, keys: Sequence[str], more: str = "") -> set[str]:
    """Those of the keys whose newest row in a table has no label yet."""
    found: set[str] = set()
    for start in range(0, len(keys), _TOGETHER):
        some = keys[start : start + _TOGETHER]
        newest = connection.execute(
            f"SELECT key, MAX(sequence) FROM {table} WHERE loop = ? {more} AND key IN ({', '.join('?' * len(some))}) "
            "GROUP BY key",
            [loop, *some],
        ).fetchall()
        if not newest:
            continue
        known = connection.execute(
            f"SELECT target FROM labels WHERE loop = ? AND target IN ({', '.join('?' * len(newest))})",
            [loop, *(sequence for _, sequence in newest)],
        ).fetchall()
        labelled = {target for (target,) in known}
        found.update(key for key, sequence in newest if sequence not in labelled)
    return found


def labels_of(connection: Connection, loop: str, sequences: Sequence[int]) -> dict[int, Label]:
    """The newest label of each of these predictions that has one."""
    found: dict[int, Label] = {}
    for start in range(0, len(sequences), _TOGETHER):
        some = sequences[start : start + _TOGETHER]
        rows = connection.execute(
            f"SELECT target, body FROM labels WHERE loop = ? AND target IN ({', '.join('?' * len(some))}) "
            "ORDER BY sequence",
            [loop, *some],
        ).fetchall()
        found |= {target: _LABEL.decode(body) for target, body in rows}
    return found


def _insert(connection: Connection, label: Label, target: int | None) -> None:
    connection.execute(
        "INSERT INTO labels (loop, key, prediction, at, target, body) VALUES (?, ?, ?, ?, ?, ?)",
        (label.loop, label.key, label.prediction, cell(label.at), target, _ENCODER.encode(label)),
    )


def _meet_waiting(connection: Connection, made: Prediction) -> None:
    """Join labels that came before their prediction; they take a new place in the order of arrival."""
    sql = "SELECT sequence, body FROM labels WHERE loop = ? AND {} = ? AND target IS NULL"
    waiting = connection.execute(sql.format("prediction"), (made.loop, made.id)).fetchall()
    if made.key is not None:
        waiting += connection.execute(sql.format("key"), (made.loop, made.key)).fetchall()
    for sequence, body in sorted(set(waiting)):
        label = _LABEL.decode(body)
        connection.execute("DELETE FROM labels WHERE sequence = ?", (sequence,))
        _insert(connection, label, _target(connection, label))


class _RowWriter:
    """Appends blocks row by row, for stores that have no segments."""

    def __init__(self, log: SqlPredictionLog, loop: str) -> None:
        self._log = log
        self._loop = loop

    def append(self, block: Block, *, hold: bool = False) -> str:
        """Record the block's rows; durable on return."""
        first = f"{new_id()[:22]}{0:010x}"
        self._log.append(predictions_of(block, self._loop, first))
        return first

    def flush(self) -> None:
        """Nothing: no block is held."""

    def sync(self) -> None:
        """Nothing: what was appended is durable."""

    def close(self) -> None:
        """Nothing to give up."""


class SqlPredictionLog:
    """:class:`noria.store.ports.PredictionLog` in one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, predictions: Sequence[Prediction]) -> None:
        """Record predictions."""
        rows = [
            (p.id, p.loop, p.key, p.version, cell(p.at), int(p.error is not None), _ENCODER.encode(p))
            for p in predictions
        ]

        def change(connection: Connection) -> None:
            try:
                connection.executemany(_APPEND, rows)
            except connection.IntegrityError as error:
                raise Conflict("A prediction with one of these ids is recorded already.") from error
            for prediction in predictions:
                if prediction.error is None:
                    _meet_waiting(connection, prediction)

        if rows:
            self._database.write(change)

    def writer(self, loop: str) -> _RowWriter:
        """A writer of a loop's predictions."""
        return _RowWriter(self, loop)

    def label(self, labels: Sequence[Label]) -> LabelReceipt:
        """Record labels."""

        def change(connection: Connection) -> list[str]:
            unmatched = []
            for label in labels:
                target = _target(connection, label)
                _insert(connection, label, target)
                if target is None:
                    unmatched.append(str(label.prediction or label.key))
            return unmatched

        unmatched = self._database.write(change) if labels else []
        return LabelReceipt(received=len(labels), matched=len(labels) - len(unmatched), unmatched=tuple(unmatched))

    def targets(self, labels: Sequence[Label]) -> list[Prediction | None]:
        """The predictions that labels would belong to."""
        found: list[Prediction | None] = []
        with self._database.read() as connection:
            for label in labels:
                row = connection.execute(
                    "SELECT body FROM predictions WHERE sequence = ?", (_target(connection, label),)
                ).fetchone()
                found.append(_PREDICTION.decode(row[0]) if row else None)
        return found

    def unlabelled(self, loop: str, keys: Sequence[str]) -> set[str]:
        """Those of the keys whose newest prediction has no label yet."""
        with self._database.read() as connection:
            return unlabelled(connection, "predictions", loop, keys, "AND failed = 0")

    def find(self, prediction: str) -> tuple[Prediction, Label | None]:
        """One prediction by id, with its label if known."""
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT sequence, body FROM predictions WHERE id = ?", (sought(prediction),)
            ).fetchone()
            if row is None:
                raise NotFound(f"There is no prediction '{prediction[:80]}'.")
            found = _PREDICTION.decode(row[1])
            label = connection.execute(
                "SELECT body FROM labels WHERE target = ? ORDER BY sequence DESC LIMIT 1", (row[0],)
            ).fetchone()
        return found, (_LABEL.decode(label[0]) if label else None)

    def predictions(
        self, loop: str, *, after: int = 0, version: int | None = None, limit: int = 10_000
    ) -> list[tuple[int, Prediction]]:
        """Predictions with their place in the order of arrival."""
        sql = "SELECT sequence, body FROM predictions WHERE loop = ? AND sequence > ? AND failed = 0"
        values: list[object] = [loop, after]
        if version is not None:
            sql += " AND version = ?"
            values.append(version)
        with self._database.read() as connection:
            rows = connection.execute(f"{sql} ORDER BY sequence LIMIT ?", [*values, limit]).fetchall()
        return [(sequence, _PREDICTION.decode(body)) for sequence, body in rows]

    def rows(self, loop: str, *, after: int = 0, limit: int = 10_000) -> list[tuple[int, Prediction]]:
        """As `predictions`, a shadow's among them."""
        return self.predictions(loop, after=after, limit=limit)

    def recent(
        self, loop: str, *, before: int | None = None, key: str | None = None, limit: int = 100
    ) -> list[tuple[int, Prediction, Label | None]]:
        """Predictions from the newest back."""
        where, values = "loop = ?", list[object]([loop])
        if before is not None:
            where += " AND sequence < ?"
            values.append(before)
        if key is not None:
            where += " AND key = ? AND failed = 0"
            values.append(sought(key))
        with self._database.read() as connection:
            rows = connection.execute(
                f"SELECT sequence, body FROM predictions WHERE {where} ORDER BY sequence DESC LIMIT ?", [*values, limit]
            ).fetchall()
            known = labels_of(connection, loop, [sequence for sequence, _ in rows])
        return [(sequence, _PREDICTION.decode(body), known.get(sequence)) for sequence, body in rows]

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
        sql = _LABELLED
        values: list[object] = [loop, after]
        if version is not None:
            sql += " AND p.version = ?"
            values.append(version)
        if since is not None:
            sql += " AND l.at >= ?"
            values.append(cell(since))
        sql += " ORDER BY l.sequence"
        if limit is not None:
            sql += " LIMIT ?"
            values.append(limit)
        with self._database.read() as connection:
            rows = connection.execute(sql, values).fetchall()
        found = []
        for sequence, label_body, prediction_body in rows:
            label = _LABEL.decode(label_body)
            found.append(LabelledPrediction(_PREDICTION.decode(prediction_body), label.value, label.at, sequence))
        return found

    def counts(self, loop: str, since: datetime, version: int | None = None) -> tuple[int, int, int]:
        """Predictions, errors and labelled predictions since a moment."""
        where, values = "p.loop = ? AND p.at >= ?", [loop, cell(since)]
        if version is not None:
            where += " AND p.version = ?"
            values.append(version)
        with self._database.read() as connection:
            total, failed = connection.execute(
                f"SELECT COUNT(*), COALESCE(SUM(failed), 0) FROM predictions p WHERE {where}", values
            ).fetchone()
            (labelled,) = connection.execute(
                f"SELECT COUNT(*) FROM predictions p WHERE {where} AND EXISTS (SELECT 1 FROM labels l "
                "WHERE l.target = p.sequence)",
                values,
            ).fetchone()
        return int(total), int(failed), int(labelled)

    def close(self) -> None:
        """Finish queued changes and close. Idempotent."""
        self._database.close()
