"""``noria predict``: rows in, from a file or standard input, and predictions out, a piece at a time."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from noria.cli.places import opened
from noria.cli.rows import KINDS, Rows, Streamed, rows_of
from noria.cli.targets import parse_target, version_of
from noria.errors import DataError, ModelError, RequestError
from noria.loop.scoring import Scorer, manifest_of
from noria.loop.worker import pipes
from noria.serve.batch import Batch, Layout
from noria.serve.engine import Scores
from noria.serve.native import NativeEngine, fits

if TYPE_CHECKING:
    import polars as pl

    from noria.records import BundleManifest
    from noria.store import Store

__all__ = ["predict_file", "predict_stream"]


def predict_file(model: str, file: Path, out: Path | None, store: Path | None) -> None:
    """Predict every row of a file or Delta table.

    Args:
        model: ``MODEL``, ``MODEL@alias`` or ``MODEL/VERSION``.
        file: CSV, Parquet, NDJSON or Arrow, or the folder of a Delta table.
        out: where to; beside the file with ``.predictions`` in its name by default, in the same format.
        store: the store's folder.

    Raises:
        DataError: the file cannot be read or written as its name says.
        RequestError: a row does not fit the model; names row and field. What was predicted before is not kept.
    """
    rows = rows_of(file)
    target = out or file.with_name(f"{file.stem}.predictions{file.suffix or '.parquet'}")
    _check(target)
    total = rows.height()
    if total == 0:
        raise DataError(f"{file.name} has no rows to predict.")
    print(_predict(model, rows, target, store, total))


def predict_stream(model: str, out: Path | None, store: Path | None) -> None:
    """Predict every row that comes on standard input, CSV or NDJSON, as long as it comes.

    Args:
        model: as `predict_file` has it.
        out: where to; standard output by default, in the format of the rows, as they come.
        store: the store's folder.

    Raises:
        DataError, RequestError: as `predict_file`; of what goes to standard output, what was predicted before stands.
    """
    if out is not None:
        _check(out)
    if sys.stdin.isatty():
        raise DataError("Give a FILE, or send rows to standard input.")
    source, given = pipes()
    with given:
        rows = Streamed(source, eager=out is None)
        told = _predict(model, rows, out or given, store)
        if out is None:
            print(told, file=sys.stderr)
        else:
            given.write(f"{told}\n".encode())


def _check(target: Path) -> None:
    if target.suffix.lower() not in KINDS:
        raise DataError(f"{target.name}: give a name that ends in {', '.join(KINDS)}.")


def _predict(model: str, rows: Rows, target: Path | BinaryIO, store: Path | None, total: int | None = None) -> str:
    """Predict rows into a file or stream; returns what there is to say."""
    console = Console(stderr=True, highlight=False)
    with opened(store, read_only=True) as kept:
        with kept.ledger.read() as db:
            version = version_of(db, parse_target(model))
        scorer = _Pieces(kept, manifest_of(kept.blobs, version.bundle), version.version)
        began = time.monotonic()
        try:
            with _bar(console) as progress:
                task = progress.add_task(f"{version.loop} version {version.version}", total=total)
                pieces = scorer.over(rows, lambda done: progress.update(task, advance=done))
                if isinstance(target, Path):
                    with _whole(target) as temporary:
                        _write(pieces, temporary, KINDS[target.suffix.lower()])
                else:
                    assert isinstance(rows, Streamed)
                    _write_text(pieces, target, rows.kind)
        finally:
            scorer.close()
    where, seconds = f" in {target}" if isinstance(target, Path) else "", time.monotonic() - began
    return f"{scorer.rows:,} predictions of '{version.loop}' version {version.version}{where} ({seconds:.1f} s)."


@contextmanager
def _whole(target: Path) -> Iterator[Path]:
    """A temporary file that takes its place once it is whole."""
    temporary = target.with_name(f".{target.name}.part")
    try:
        yield temporary
        temporary.replace(target)
    except OSError as error:
        raise DataError(f"{target} cannot be written: {error.strerror or str(error)[:300]}.") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
    )


class _Pieces:
    """Predictions of pieces of a table, by the graph where there is one."""

    def __init__(self, store: Store, manifest: BundleManifest, version: int) -> None:
        self._layout = Layout(manifest)
        self._classes = manifest.signature.classes
        self._version = version
        self._scorer: Scorer | None = None
        self._engine: NativeEngine | None = None
        self.rows = 0
        if fits(manifest):
            try:
                self._engine = NativeEngine(store.blobs, manifest, self._layout)
            except ModelError:
                self._engine = None  # its original answers the same
        if self._engine is None:
            self._scorer = Scorer(manifest, store.blobs)

    def over(self, rows: Rows, done: Callable[[int], None]) -> Iterator[pl.DataFrame]:
        """Every piece with its predictions beside it.

        Raises:
            DataError: there is none.
            RequestError: names the row that does not fit, counted from 0.
        """
        try:
            for part, batch in rows.pieces(self._layout):
                yield self._predicted(part, batch)
                self.rows += part.height
                done(part.height)
            if not self.rows:
                raise DataError(f"{rows.name} has no rows to predict.")
        except RequestError as error:
            first = dict(error.details[0]) if error.details else {}
            if "record" not in first:
                raise
            row = self.rows + int(str(first["record"]))
            named = f", field '{first['field']}'" if "field" in first else ""
            raise RequestError(f"Row {row}{named}: {first['problem']}") from error

    def _predicted(self, part: pl.DataFrame, batch: Batch) -> pl.DataFrame:
        import polars as pl

        if self._engine is not None:
            self._engine.refuse(batch)
            scores = self._engine.scores(batch)
        else:
            scores = self._original(batch)
        found = {"prediction": pl.Series(scores.values), "model_version": pl.Series([self._version] * part.height)}
        if scores.shares is not None and scores.shares.shape[1] == len(self._classes):
            for place, name in enumerate(self._classes):
                found[f"probability_{name}"] = pl.Series(scores.shares[:, place])
        return part.with_columns([values.alias(name) for name, values in found.items()])

    def _original(self, batch: Batch) -> Scores:
        import numpy as np

        assert self._scorer is not None
        message = {
            "rows": batch.rows,
            "names": self._layout.names,
            "matrix": batch.matrix.tobytes(),
            "columns": batch.columns,
        }
        reply = self._scorer.answer(message)
        shares = reply["shares"]
        return Scores(
            reply["values"], None if shares is None else np.frombuffer(shares, dtype="<f8").reshape(batch.rows, -1)
        )

    def close(self) -> None:
        if self._scorer is not None:
            self._scorer.close()


def _write(pieces: Iterator[pl.DataFrame], target: Path, kind: str) -> None:
    """Write pieces one after the other, none of them kept."""
    with target.open("wb") as file:
        if kind in ("csv", "ndjson"):
            _write_text(pieces, file, kind)
        else:
            _write_columns(pieces, file, kind)


def _write_text(pieces: Iterator[pl.DataFrame], file: BinaryIO, kind: str) -> None:
    opening: pl.DataFrame | None = None
    for piece in pieces:
        if kind == "ndjson":
            text = piece.write_ndjson()
        elif opening is None:
            opening = piece.clear()
            text = piece.write_csv()
        else:
            text = _like(piece, opening).write_csv(include_header=False)
        file.write(text.encode())
        file.flush()


def _like(piece: pl.DataFrame, opening: pl.DataFrame) -> pl.DataFrame:
    """A piece with the columns of the first: records may leave out fields that may be missing."""
    import polars as pl

    more = [name for name in piece.columns if name not in opening.columns]
    if more:
        raise DataError(f"Later rows have a field '{more[0]}' that the first have not. Write NDJSON, which may.")
    missing = [pl.lit(None).alias(name) for name in opening.columns if name not in piece.columns]
    return piece.with_columns(missing).select(opening.columns)


def _write_columns(pieces: Iterator[pl.DataFrame], file: BinaryIO, kind: str) -> None:
    """Parquet and Arrow: through Polars' own writer, which takes pieces as they come.

    It is given a file that is open: where a row does not fit, it might make one of a given name after that was removed.
    """
    from polars.io.plugins import register_io_source

    opening = next(pieces)

    def source(
        with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        yield opening
        for piece in pieces:
            yield _like(piece, opening).cast(opening.schema)

    lazy = register_io_source(source, schema=opening.schema)
    if kind == "parquet":
        lazy.sink_parquet(file, engine="streaming")
    else:
        lazy.sink_ipc(file, engine="streaming")
