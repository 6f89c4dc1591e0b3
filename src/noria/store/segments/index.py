"""Where each prediction is, in which order they came, and which label belongs to which."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import msgspec

from noria.store.kinds import Label
from noria.store.segments.reader import Found, Segment
from noria.store.segments.rows import ids_of
from noria.store.sql.database import Connection
from noria.store.sql.ledger import cell

__all__ = ["Indexer", "insert_label", "placed", "sequence_of", "target_of"]

CHUNK_ROWS = 4096
_FEW = 1000  # labels that wait are looked through one by one; of more, those are looked for that may be met
_TOGETHER = 500
_log = logging.getLogger("noria.store")
_ENCODER = msgspec.json.Encoder()
_LABEL = msgspec.json.Decoder(Label)


class Indexer:
    """Reads what segments hold beyond what is indexed; one a process.

    Args:
        folder: where segments are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._segments: dict[str, Segment] = {}
        self._sizes: dict[str, int] = {}  # up to where each was looked at

    def segment(self, name: str) -> Segment:
        """The segment of this name."""
        found = self._segments.get(name)
        if found is None:
            found = self._segments[name] = Segment(self._folder / f"{name}.log")
        return found

    def news(self) -> list[tuple[str, int]]:
        """Segments that have grown since they were looked at, with their sizes."""
        try:
            found = sorted(path for path in self._folder.iterdir() if path.suffix == ".log")
        except FileNotFoundError:
            return []
        grown = []
        for path in found:
            try:
                size = path.stat().st_size
            except FileNotFoundError:
                continue  # compacted and removed meanwhile
            if size != self._sizes.get(path.stem):
                grown.append((path.stem, size))
        return grown

    def index(self, connection: Connection) -> None:
        """Take in everything new; part of the caller's transaction."""
        for name, size in self.news():
            segment = self.segment(name)
            row = connection.execute("SELECT indexed FROM segments WHERE name = ?", (name,)).fetchone()
            start = row[0] if row else 0
            try:
                found = list(segment.blocks(start, size))
            except FileNotFoundError:
                continue
            if segment.loop is not None:
                if found:
                    self._take(connection, segment, found)
                stop = found[-1].stop if found else start
                connection.execute(
                    "INSERT INTO segments (name, loop, indexed) VALUES (?, ?, ?) "
                    "ON CONFLICT (name) DO UPDATE SET indexed = excluded.indexed",
                    (name, segment.loop, stop),
                )
            elif found:
                rows = sum(one.block.rows for one in found)
                said = "segment %s of the prediction log is damaged: whose %d predictions it holds cannot be read"
                _log.error(said, name, rows)
            self._sizes[name] = size

    def forget(self) -> None:
        """Look at everything again: the transaction that took it in did not come to be."""
        self._sizes.clear()

    def _take(self, connection: Connection, segment: Segment, found: list[Found]) -> None:
        loop = segment.loop or ""
        row = connection.execute("SELECT next FROM counters WHERE loop = ?", (loop,)).fetchone()
        first = sequence = row[0] if row else 1
        keys: list[tuple[str, str, int]] = []
        ids: list[tuple[str, str, int]] = []
        for one in found:
            block = one.block
            if block.error is not None or block.role == "shadow":
                _extend_unlabelled(connection, loop, sequence, block.rows)
            elif block.keys is not None:
                keys += [(loop, key, sequence + at) for at, key in enumerate(block.keys) if key is not None]
            if block.ids is not None:
                ids += [(made, loop, sequence + at) for at, made in enumerate(block.ids)]
            sequence += block.rows
        connection.executemany("INSERT INTO keys (loop, key, sequence) VALUES (?, ?, ?)", keys)
        connection.executemany("INSERT INTO ids (id, loop, sequence) VALUES (?, ?, ?)", ids)
        _add_spans(connection, segment.name, found, loop, first)
        _add_chunks(connection, segment.name, loop, first, found)
        connection.execute(
            "INSERT INTO counters (loop, next) VALUES (?, ?) ON CONFLICT (loop) DO UPDATE SET next = excluded.next",
            (loop, sequence),
        )
        self._meet_waiting(connection, segment, loop, first, found)

    @staticmethod
    def _meet_waiting(connection: Connection, segment: Segment, loop: str, first: int, found: list[Found]) -> None:
        """Join labels that came before their prediction; they take a new place in the order of arrival."""
        waiting = _waiting(connection, loop, "ORDER BY sequence LIMIT ?", [_FEW + 1])
        if not waiting:
            return
        by_key: dict[str, int] = {}
        by_id: dict[str, int] = {}
        sequence = first
        for one in found:
            block = one.block
            if block.error is None and block.role != "shadow":
                for at, key in enumerate(block.keys or ()):
                    if key is not None:
                        by_key[key] = sequence + at
                for at, made in enumerate(block.ids or ids_of(f"{segment.name}{one.row:010x}", block.rows)):
                    by_id[made] = sequence + at
            sequence += block.rows
        if len(waiting) > _FEW:
            waiting = []
            for column, names in (("key", [*by_key]), ("prediction", [*by_id])):
                for start in range(0, len(names), _TOGETHER):
                    some = names[start : start + _TOGETHER]
                    waiting += _waiting(connection, loop, f"AND {column} IN ({', '.join('?' * len(some))})", some)
            waiting.sort()
        for number, body, key, prediction in waiting:
            target = by_id.get(prediction) if prediction is not None else by_key.get(key or "")
            if target is not None:
                connection.execute("DELETE FROM labels WHERE sequence = ?", (number,))
                insert_label(connection, _LABEL.decode(body), target)


def _waiting(
    connection: Connection, loop: str, more: str, values: Sequence[object]
) -> list[tuple[int, bytes, str | None, str | None]]:
    """Labels without a prediction: sequence, body, key and prediction of each."""
    sql = f"SELECT sequence, body, key, prediction FROM labels WHERE loop = ? AND target IS NULL {more}"
    return connection.execute(sql, [loop, *values]).fetchall()


def _extend_unlabelled(connection: Connection, loop: str, first: int, rows: int) -> None:
    done = connection.execute(
        "UPDATE unlabelled SET rows = rows + ? WHERE loop = ? AND first = "
        "(SELECT MAX(first) FROM unlabelled WHERE loop = ?) AND first + rows = ?",
        (rows, loop, loop, first),
    )
    if not done.rowcount:
        connection.execute("INSERT INTO unlabelled (loop, first, rows) VALUES (?, ?, ?)", (loop, first, rows))


def _add_spans(connection: Connection, segment: str, found: list[Found], loop: str, first: int) -> None:
    """Note where rows are; where damaged ones are left out, those that follow stand closer in the order of arrival."""
    row, begun, lost = found[0].row, 0, 0
    for place, one in enumerate(found):
        if one.row != row:
            rows = sum(one.block.rows for one in found[begun:place])
            _add_span(connection, segment, row - rows, rows, loop, first)
            first, begun, lost, row = first + rows, place, lost + one.row - row, one.row
        row += one.block.rows
    rows = sum(one.block.rows for one in found[begun:])
    _add_span(connection, segment, row - rows, rows, loop, first)
    if lost:
        _log.error("segment %s of the prediction log is damaged: %d predictions cannot be read", segment, lost)


def _add_span(connection: Connection, segment: str, row: int, rows: int, loop: str, first: int) -> None:
    done = connection.execute(
        "UPDATE spans SET rows = rows + ? WHERE segment = ? AND row = (SELECT MAX(row) FROM spans WHERE segment = ?) "
        "AND row + rows = ? AND first + rows = ?",
        (rows, segment, segment, row, first),
    )
    if not done.rowcount:
        connection.execute(
            "INSERT INTO spans (segment, row, rows, loop, first) VALUES (?, ?, ?, ?, ?)",
            (segment, row, rows, loop, first),
        )


def _add_chunks(connection: Connection, segment: str, loop: str, first: int, found: list[Found]) -> None:
    """Pieces of a segment of a few thousand rows each: what is read at once."""
    last = connection.execute(
        "SELECT first, rows, segment, stop FROM chunks WHERE loop = ? ORDER BY first DESC LIMIT 1", (loop,)
    ).fetchone()
    at, sequence = 0, first
    if last and last[2] == segment and last[3] == found[0].start and last[0] + last[1] == first:
        piece = _piece(found, 0, CHUNK_ROWS - last[1])
        if piece:
            rows = sum(one.block.rows for one in found[:piece])
            times = [one.block.at_us for one in found[:piece]]
            connection.execute(
                "UPDATE chunks SET rows = rows + ?, stop = ?, earliest = MIN(earliest, ?), latest = MAX(latest, ?) "
                "WHERE loop = ? AND first = ?",
                (rows, found[piece - 1].stop, min(times), max(times), loop, last[0]),
            )
            at, sequence = piece, first + rows
    while at < len(found):
        piece = max(1, _piece(found, at, CHUNK_ROWS))
        taken = found[at : at + piece]
        rows = sum(one.block.rows for one in taken)
        times = [one.block.at_us for one in taken]
        connection.execute(
            "INSERT INTO chunks (loop, first, rows, segment, start, stop, earliest, latest) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (loop, sequence, rows, segment, taken[0].start, taken[-1].stop, min(times), max(times)),
        )
        at += piece
        sequence += rows


def _piece(found: list[Found], at: int, room: int) -> int:
    """How many blocks from ``at`` have no more rows than there is room for."""
    taken = 0
    while at + taken < len(found) and found[at + taken].block.rows <= room:
        room -= found[at + taken].block.rows
        taken += 1
    return taken


def placed(
    connection: Connection, segment: Segment, start: int, stop: int, first: int, rows: int
) -> list[tuple[int, Found]]:
    """A chunk's blocks, each with the place of its first row: counted, or looked up if some were damaged since."""
    found = list(segment.blocks(start, stop))
    if sum(one.block.rows for one in found) == rows:
        places = list(accumulate((one.block.rows for one in found), initial=first))
        return list(zip(places, found, strict=False))
    known = [sequence_of(connection, f"{segment.name}{one.row:010x}") for one in found]
    return [(place[1], one) for place, one in zip(known, found, strict=True) if place is not None]


def sequence_of(connection: Connection, prediction: str) -> tuple[str, int] | None:
    """Loop and place in the order of arrival of a prediction; None if there is none of this id."""
    row = connection.execute("SELECT loop, sequence FROM ids WHERE id = ?", (prediction,)).fetchone()
    if row:
        return row[0], row[1]
    segment, digits = prediction[:22], prediction[22:]
    if len(digits) != 10 or any(digit not in "0123456789abcdef" for digit in digits):
        return None
    number = int(digits, 16)
    row = connection.execute(
        "SELECT row, rows, loop, first FROM spans WHERE segment = ? AND row <= ? ORDER BY row DESC LIMIT 1",
        (segment, number),
    ).fetchone()
    if row is None or number >= row[0] + row[1]:
        return None
    return row[2], row[3] + number - row[0]


def target_of(connection: Connection, label: Label) -> int | None:
    """The prediction a label belongs to: the one with its id, else the newest with its key."""
    if label.prediction is None:
        sql = "SELECT MAX(sequence) FROM keys WHERE loop = ? AND key = ?"
        found: int | None = connection.execute(sql, (label.loop, label.key or "")).fetchone()[0]
        return found
    known = sequence_of(connection, label.prediction)
    if known is None or known[0] != label.loop or not _kept(connection, *known):
        return None
    row = connection.execute(
        "SELECT first, rows FROM unlabelled WHERE loop = ? AND first <= ? ORDER BY first DESC LIMIT 1", known
    ).fetchone()
    return None if row and known[1] < row[0] + row[1] else known[1]


def _kept(connection: Connection, loop: str, sequence: int) -> bool:
    """Whether a prediction is still there: not too old, nor damaged."""
    for table in ("files", "chunks"):
        sql = f"SELECT first + rows FROM {table} WHERE loop = ? AND first <= ? ORDER BY first DESC LIMIT 1"
        row = connection.execute(sql, (loop, sequence)).fetchone()
        if row and sequence < row[0]:
            return True
    return False


def insert_label(connection: Connection, label: Label, target: int | None) -> None:
    """Keep a label."""
    connection.execute(
        "INSERT INTO labels (loop, key, prediction, at, target, body) VALUES (?, ?, ?, ?, ?, ?)",
        (label.loop, label.key, label.prediction, cell(label.at), target, _ENCODER.encode(label)),
    )
