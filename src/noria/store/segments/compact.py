"""Segments into tables: indexed chunks become Parquet files, small files larger ones, and both a Delta table.

Each step can be ended anywhere. A file counts from the transaction that names it; what a step left before that is
removed by the next. Nothing is read from two places at once, so nothing is doubled.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from noria.core.ids import new_id
from noria.errors import StoreError, StoreFull
from noria.store.files import store_error
from noria.store.segments.delta import commit, last_commit
from noria.store.segments.index import placed
from noria.store.segments.log import FolderPredictions, table_folder
from noria.store.sql.database import Connection
from noria.store.sql.ledger import cell

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Compacted", "compact", "retain"]

ROW_GROUP = 32_768
"""A row is found by reading its group; what a group's columns have in common is written once."""
AT_ONCE = 4 * ROW_GROUP
SMALL_ROWS = AT_ONCE // 2
LARGE_ROWS = 2 * AT_ONCE
_GONE_SECONDS = 600.0
_log = logging.getLogger("noria.store")


class Compacted(msgspec.Struct):
    """What was done: rows moved, files made and removed, segments freed."""

    rows: int = 0
    made: int = 0
    removed: int = 0
    segments: int = 0


@contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Whether this process is the only one that compacts."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "compact.lock").open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True


def compact(log: FolderPredictions, *, min_rows: int = 1) -> Compacted:
    """Move what is indexed into tables, merge small files, free segments.

    Args:
        log: the prediction log.
        min_rows: a loop with fewer rows outside its table is left for later.

    Raises:
        StoreError: the disk is full or cannot be written; nothing is lost. What fails for one loop is raised when
            the others are done.
    """
    done = Compacted()
    with _alone(log.folder) as alone:
        if not alone:
            return done
        log.index()
        with log.database.read() as connection:
            loops = [row[0] for row in connection.execute("SELECT loop FROM counters ORDER BY loop").fetchall()]
        problems: list[Exception] = []
        for loop in loops:
            try:
                _catch_up(log, loop)
                while _chunks_to_file(log, loop, min_rows, done):
                    pass
                while _merge(log, loop, done):
                    pass
                _publish(log, loop)
                _sweep(log, loop)
            except Exception as error:  # noqa: BLE001 - raised below: the other loops come first
                problems.append(error)
        try:
            _free(log, done)
        except OSError as error:
            problems.append(error)
        for problem in problems:
            if isinstance(problem, OSError):
                raise store_error(problem, "compact the prediction log") from problem
            raise problem
    return done


def _chunks_to_file(log: FolderPredictions, loop: str, min_rows: int, done: Compacted) -> bool:
    """Move some chunks into a file; False when there are too few to bother."""
    from noria.store.segments.table import frame_of

    with log.database.read() as connection:
        chunks = connection.execute(
            "SELECT first, rows, segment, start, stop FROM chunks WHERE loop = ? ORDER BY first", (loop,)
        ).fetchall()
    if sum(rows for _, rows, *_ in chunks) < max(1, min_rows):
        return False
    taken: list[Any] = []
    total = 0
    for chunk in chunks:
        if taken and total + chunk[1] > AT_ONCE:
            break
        taken.append(chunk)
        total += chunk[1]
    runs: list[list[Any]] = []  # a file's rows follow each other without a gap; what is damaged makes one
    after = -1
    with log.database.read() as connection:
        for first, rows, segment, start, stop in taken:
            for sequence, one in placed(connection, log.segment(segment), start, stop, first, rows):
                if sequence != after:
                    runs.append([])
                runs[-1].append((sequence, f"{segment}{one.row:010x}", one.block))
                after = sequence + one.block.rows
    made = [_write(log, loop, frame_of(run, loop)) for run in runs]
    kept, end = sum(row[2] for row in made), taken[-1][0] + taken[-1][1]
    if kept < total:
        _log.error("%d predictions of '%s' are damaged: they are not in its table", total - kept, loop)

    def swap(connection: Connection) -> None:
        connection.executemany(
            "DELETE FROM chunks WHERE loop = ? AND first = ? AND rows = ?",
            [(loop, first, rows) for first, rows, *_ in taken],
        )
        left = connection.execute("SELECT COUNT(*) FROM chunks WHERE loop = ? AND first < ?", (loop, end)).fetchone()[0]
        if left:  # the last chunk has grown meanwhile: its new rows go on as a chunk of their own
            _split(connection, loop, end, taken[-1])
        for row in made:
            _insert(connection, row)

    log.database.write(swap)
    done.rows += kept
    done.made += len(made)
    return True


def _split(connection: Connection, loop: str, first: int, taken: Any) -> None:
    began, rows, segment, _, stop = taken
    grown = connection.execute(
        "SELECT rows, stop, earliest, latest FROM chunks WHERE loop = ? AND first = ?", (loop, began)
    ).fetchone()
    connection.execute("DELETE FROM chunks WHERE loop = ? AND first = ?", (loop, began))
    connection.execute(
        "INSERT INTO chunks (loop, first, rows, segment, start, stop, earliest, latest) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (loop, first, grown[0] - rows, segment, stop, grown[1], grown[2], grown[3]),
    )


def _insert(connection: Connection, row: tuple[Any, ...]) -> None:
    connection.execute(
        "INSERT INTO files (loop, first, rows, name, bytes, earliest, latest, facts) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        row,
    )


def _schema(log: FolderPredictions, loop: str) -> dict[str, str]:
    """The table's columns and types so far, from the facts of its files."""
    found: dict[str, str] = {}
    with log.database.read() as connection:
        rows = connection.execute("SELECT facts FROM files WHERE loop = ? ORDER BY first", (loop,)).fetchall()
    for (facts,) in rows:
        for name, kind in msgspec.json.decode(facts, type=dict[str, str]).items():
            found.setdefault(name, kind)
    return found


def _write(log: FolderPredictions, loop: str, frame: pl.DataFrame) -> tuple[Any, ...]:
    """Write a frame as a file of the table, durable; returns its row of the index."""
    import polars as pl

    from noria.store.segments.table import settle

    folder = table_folder(log.folder, loop)
    folder.mkdir(parents=True, exist_ok=True)
    settled = settle(frame, _schema(log, loop))
    name = f"part-{new_id()}.parquet"
    temporary = folder / f".{name}.{secrets.token_hex(4)}.tmp"
    try:
        settled.write_parquet(
            temporary, compression="zstd", compression_level=3, row_group_size=ROW_GROUP, statistics=True
        )
        for path in (temporary, folder):
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        temporary.rename(folder / name)
    except pl.exceptions.PolarsError as error:
        full = "No space left" in str(error)
        problem = StoreFull if full else StoreError
        raise problem(f"A file of the table of '{loop}' cannot be written: {str(error)[:300]}") from error
    finally:
        temporary.unlink(missing_ok=True)  # room that is needed, where there was too little
    times = settled["at"].dt.epoch("us")
    facts = {column: str(kind) for column, kind in settled.schema.items()}
    size = (folder / name).stat().st_size
    first = int(settled["sequence"][0])
    earliest, latest = int(times.min()), int(times.max())  # type: ignore[arg-type]
    return loop, first, settled.height, name, size, earliest, latest, msgspec.json.encode(facts)


def _merge(log: FolderPredictions, loop: str, done: Compacted) -> bool:
    """Make one file of neighbours that are small together; False when there are none."""
    import polars as pl

    with log.database.read() as connection:
        files = connection.execute(
            "SELECT first, rows, name, published FROM files WHERE loop = ? ORDER BY first", (loop,)
        ).fetchall()
    group = _neighbours(files)
    if not group:
        return False
    folder = table_folder(log.folder, loop)
    frame = pl.concat([pl.read_parquet(folder / name) for _, _, name, _ in group], how="diagonal")
    row = _write(log, loop, frame)
    now = int(time.time())

    def swap(connection: Connection) -> None:
        for first, _, name, published in group:
            connection.execute("DELETE FROM files WHERE loop = ? AND first = ? AND name = ?", (loop, first, name))
            connection.execute(
                "INSERT INTO removed (loop, name, at, published) VALUES (?, ?, ?, ?)", (loop, name, now, published)
            )
        _insert(connection, row)

    log.database.write(swap)
    done.made += 1
    done.removed += len(group)
    return True


def _neighbours(files: Sequence[Any]) -> list[Any]:
    """The first files that follow each other without a gap, are small together, and worth one file."""
    group: list[Any] = []
    rows = 0
    for file in [*files, None]:
        small = file is not None and file[1] < SMALL_ROWS
        if small and group and group[-1][0] + group[-1][1] == file[0] and rows + file[1] <= LARGE_ROWS:
            group.append(file)
            rows += file[1]
            continue
        # One file a time would write every row again and again: a group is merged when it has grown tenfold.
        if len(group) > 1 and (rows >= SMALL_ROWS or len(group) >= 10):
            return group
        group = [file] if small else []
        rows = file[1] if small else 0
    return []


def _publish(log: FolderPredictions, loop: str) -> None:
    """Bring the Delta table's log up to what the index says."""
    with log.database.read() as connection:
        adds = connection.execute(
            "SELECT name, bytes, rows, first, earliest, latest FROM files WHERE loop = ? AND published = 0 "
            "ORDER BY first",
            (loop,),
        ).fetchall()
        removes = [
            row[0]
            for row in connection.execute(
                "SELECT name FROM removed WHERE loop = ? AND published = 1", (loop,)
            ).fetchall()
        ]
    if not adds and not removes:
        return
    new = [
        {
            "name": name, "bytes": size, "rows": rows, "first": first, "earliest": _moment(earliest),
            "latest": _moment(latest),
        }
        for name, size, rows, first, earliest, latest in adds
    ]  # fmt: skip
    commit(table_folder(log.folder, loop), loop, _schema(log, loop), new, removes, int(time.time() * 1000))
    _note(log, loop, [name for name, *_ in adds], removes)


def _catch_up(log: FolderPredictions, loop: str) -> None:
    """Note a commit that was made, but not noted: of its files that go next, the table must be told."""
    added, taken_out, _ = last_commit(table_folder(log.folder, loop))
    with log.database.read() as connection:
        adds = connection.execute("SELECT name FROM files WHERE loop = ? AND published = 0", (loop,)).fetchall()
        removes = connection.execute("SELECT name FROM removed WHERE loop = ? AND published = 1", (loop,)).fetchall()
    _note(
        log,
        loop,
        [name for (name,) in adds if name in added],
        [name for (name,) in removes if name in taken_out],
    )


def _note(log: FolderPredictions, loop: str, adds: Sequence[str], removes: Sequence[str]) -> None:
    """Note what the table has been told."""
    if not adds and not removes:
        return

    def note(connection: Connection) -> None:
        connection.executemany(
            "UPDATE files SET published = 1 WHERE loop = ? AND name = ?", [(loop, name) for name in adds]
        )
        connection.executemany(
            "UPDATE removed SET published = 2 WHERE loop = ? AND name = ?", [(loop, name) for name in removes]
        )

    log.database.write(note)


def _moment(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1_000_000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _sweep(log: FolderPredictions, loop: str) -> None:
    """Delete files that are part of the table no more, once nobody can be reading them, and what was cut off."""
    folder = table_folder(log.folder, loop)
    before = int(time.time() - _GONE_SECONDS)
    with log.database.read() as connection:
        gone = [
            row[0]
            for row in connection.execute(
                "SELECT name FROM removed WHERE loop = ? AND at < ? AND published != 1", (loop, before)
            ).fetchall()
        ]
        kept = {row[0] for row in connection.execute("SELECT name FROM files WHERE loop = ?", (loop,)).fetchall()}
        kept |= {row[0] for row in connection.execute("SELECT name FROM removed WHERE loop = ?", (loop,)).fetchall()}
    for name in gone:
        with suppress(FileNotFoundError):
            (folder / name).unlink()
    if gone:
        log.database.write(
            lambda connection: connection.executemany(
                "DELETE FROM removed WHERE loop = ? AND name = ?", [(loop, name) for name in gone]
            )
        )
    if folder.is_dir():
        for path in folder.iterdir():
            if path.is_file() and path.name not in kept and path.name.startswith(("part-", ".part-")):
                with suppress(FileNotFoundError):
                    path.unlink()


def _free(log: FolderPredictions, done: Compacted) -> None:
    """Delete segments that nobody writes and whose every row is in a table."""
    with log.database.read() as connection:
        known = connection.execute(
            "SELECT name, indexed FROM segments WHERE name NOT IN (SELECT segment FROM chunks)"
        ).fetchall()
    for name, indexed in known:
        segment = log.segment(name)
        try:
            if not segment.abandoned() or next(segment.blocks(indexed), None) is not None:
                continue
            if segment.damaged():  # what can be read of it is in a table; the rest may be of use to somebody
                segment.path.rename(segment.path.with_suffix(".damaged"))
                _log.error("segment %s is damaged: what cannot be read of it is kept as %s.damaged", name, name)
            else:
                segment.path.unlink()
        except FileNotFoundError:
            pass

        def forget(connection: Connection, name: str = name) -> None:
            connection.execute("DELETE FROM segments WHERE name = ?", (name,))

        log.database.write(forget)
        done.segments += 1


def retain(
    log: FolderPredictions, *, before: datetime | None = None, max_bytes: int | None = None, dry_run: bool = False
) -> int:
    """Remove what is older than is to be kept, whole files at a time, oldest first; returns the rows removed.

    Labels go with their predictions, and those that came before ``before`` and met none.

    Args:
        log: the prediction log; what is not compacted yet is kept.
        before: remove files whose newest prediction is older.
        max_bytes: remove files until the tables hold no more than this.
        dry_run: only count.

    Raises:
        StoreError: nothing is removed; or it is, and the tables are told next time.
    """
    removed = 0
    with _alone(log.folder) as alone:
        if not alone:
            return 0
        with log.database.read() as connection:
            loops = connection.execute("SELECT DISTINCT loop FROM files WHERE published = 0").fetchall()
        for (loop,) in loops if not dry_run else ():
            _catch_up(log, loop)
        with log.database.read() as connection:
            files = connection.execute(
                "SELECT loop, first, rows, name, bytes, latest, published FROM files ORDER BY latest"
            ).fetchall()
        total = sum(file[4] for file in files)
        moment = int(before.timestamp() * 1_000_000) if before is not None else None
        chosen = []
        for file in files:
            old = moment is not None and file[5] < moment
            if old or (max_bytes is not None and total > max_bytes):
                chosen.append(file)
                total -= file[4]
        now = int(time.time())

        def change(connection: Connection) -> None:
            for loop, first, rows, name, _, _, published in chosen:
                last = first + rows - 1
                connection.execute("DELETE FROM files WHERE loop = ? AND first = ? AND name = ?", (loop, first, name))
                connection.execute(
                    "INSERT INTO removed (loop, name, at, published) VALUES (?, ?, ?, ?)", (loop, name, now, published)
                )
                connection.execute("DELETE FROM keys WHERE loop = ? AND sequence BETWEEN ? AND ?", (loop, first, last))
                connection.execute("DELETE FROM ids WHERE loop = ? AND sequence BETWEEN ? AND ?", (loop, first, last))
                connection.execute("DELETE FROM labels WHERE loop = ? AND target BETWEEN ? AND ?", (loop, first, last))
            for loop in {file[0] for file in chosen}:
                (oldest,) = connection.execute(
                    "SELECT MIN(first) FROM (SELECT first FROM files WHERE loop = ? UNION ALL "
                    "SELECT first FROM chunks WHERE loop = ?) AS kept",
                    (loop, loop),
                ).fetchone()
                connection.execute(
                    "DELETE FROM unlabelled WHERE loop = ? AND first + rows <= ?",
                    (loop, 2**63 - 1 if oldest is None else oldest),
                )
            if before is not None:
                connection.execute("DELETE FROM labels WHERE target IS NULL AND at < ?", (cell(before),))

        removed = sum(file[2] for file in chosen)
        if (chosen or before is not None) and not dry_run:
            log.database.write(change)
            try:
                for loop in {file[0] for file in chosen}:
                    _publish(log, loop)
                    _sweep(log, loop)
            except OSError as error:
                raise store_error(error, "tell a table of predictions what was removed") from error
    return removed
