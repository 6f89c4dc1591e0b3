"""Rows of a file or Delta table for ``noria predict``, a piece at a time: as a table, and as a model takes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from noria.errors import DataError, MissingExtra, RequestError
from noria.serve.batch import Batch, Layout
from noria.serve.reading import json_of
from noria.serve.scoring import csv_value
from noria.serve.tables import column

if TYPE_CHECKING:
    import polars as pl

__all__ = ["KINDS", "Rows", "rows_of"]

_PIECE = 10_000
KINDS = {".csv": "csv", ".parquet": "parquet", ".ndjson": "ndjson", ".jsonl": "ndjson", ".arrow": "ipc", ".ipc": "ipc"}
Piece = tuple["pl.DataFrame", Batch]


class Rows(Protocol):
    """What there is to predict."""

    def height(self) -> int:
        """How many rows there are."""
        ...

    def pieces(self, layout: Layout) -> Iterator[Piece]:
        """Piece after piece.

        Raises:
            DataError: the file cannot be read.
            RequestError: a row does not fit; numbers it within its piece.
        """
        ...


def rows_of(file: Path) -> Rows:
    """The rows of a CSV, Parquet, NDJSON or Arrow file, or of the Delta table in a folder.

    Raises:
        DataError: it is none of these.
    """
    import polars as pl

    if (file / "_delta_log").is_dir():
        try:
            return _Table(file, pl.scan_delta(str(file)))
        except ImportError:
            raise MissingExtra("deltalake", "delta", "to read Delta tables") from None
    if not file.is_file():
        raise DataError(f"There is no file {file}.")
    kind = KINDS.get(file.suffix.lower())
    if kind is None:
        raise DataError(f"{file.name}: the name must end in {', '.join(KINDS)}, or be the folder of a Delta table.")
    if kind == "ndjson":
        return _Lines(file)
    if kind == "csv":
        return _Csv(file, pl.scan_csv(file, infer_schema=False))
    return _Table(file, pl.scan_parquet(file) if kind == "parquet" else pl.scan_ipc(file))


class _Table:
    """A table that says which types its columns have."""

    def __init__(self, file: Path, rows: pl.LazyFrame) -> None:
        self._file = file
        self._rows = rows

    def height(self) -> int:
        import polars as pl

        try:
            return int(self._rows.select(pl.len()).collect(engine="streaming").item())
        except pl.exceptions.PolarsError as error:
            raise self._unreadable(error) from error

    def pieces(self, layout: Layout) -> Iterator[Piece]:
        import polars as pl

        try:
            for piece in self._rows.collect_batches(chunk_size=_PIECE, maintain_order=True):
                for at in range(0, piece.height, _PIECE):
                    part = self._typed(piece[at : at + _PIECE], layout)
                    columns = {name: column(part[name]) for name in part.columns}
                    yield part, layout.from_columns(columns, part.height)
        except pl.exceptions.PolarsError as error:
            raise self._unreadable(error) from error

    def _typed(self, part: pl.DataFrame, layout: Layout) -> pl.DataFrame:
        return part

    def _unreadable(self, error: Exception) -> DataError:
        return DataError(f"{self._file.name} cannot be read: {str(error)[:300]}")


class _Csv(_Table):
    """Columns of text: what they hold is for the model to say, not for the first rows."""

    def _typed(self, part: pl.DataFrame, layout: Layout) -> pl.DataFrame:
        fields = layout.fields
        return part.with_columns([_as(part[name], fields[name].dtype) for name in part.columns if name in fields])


def _as(values: pl.Series, dtype: str) -> pl.Series:
    """A column of text as the model has it; if a value is none, all are read one by one, as a server does."""
    import polars as pl

    kind = dtype.lstrip("U")
    for wanted in (pl.Int64, pl.Float64) if kind.startswith("Int") else (pl.Float64,):
        if not kind.startswith(("Int", "Float")):
            break
        found = values.cast(wanted, strict=False)
        if found.null_count() == values.null_count():
            return found
    read: list[Any] = [csv_value(text or "", dtype) for text in values.to_list()]
    for place, value in enumerate(read):
        if isinstance(value, str) and kind.startswith(("Int", "Float", "Bool")):
            problem = f"{value[:60]!r} is not a {'truth value' if kind.startswith('Bool') else 'number'}"
            raise RequestError(problem, [{"record": place, "field": values.name, "problem": problem}])
    return pl.Series(values.name, read, strict=False)


class _Lines:
    """JSON records, one a line, read as a server reads them: each value has a type of its own."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def height(self) -> int:
        return sum(1 for _ in self._lines())

    def _lines(self) -> Iterator[bytes]:
        try:
            with self._file.open("rb") as file:
                yield from (line for line in file if line.strip())
        except OSError as error:
            raise DataError(f"{self._file.name} cannot be read: {error.strerror}.") from error

    def pieces(self, layout: Layout) -> Iterator[Piece]:
        from itertools import islice

        lines = self._lines()
        while taken := list(islice(lines, _PIECE)):
            records = [_record(line, place) for place, line in enumerate(taken)]
            yield _frame(records, layout), layout.from_records(records)


def _record(line: bytes, place: int) -> dict[str, Any]:
    try:
        found, problem = json_of(line, "it"), "it is not a JSON object"
    except RequestError as error:
        found, problem = None, str(error)
    if not isinstance(found, dict):
        raise RequestError(problem, [{"record": place, "problem": problem}])
    return found


def _frame(records: list[dict[str, Any]], layout: Layout) -> pl.DataFrame:
    import polars as pl

    types = {name: pl.Float64 for name, field in layout.fields.items() if field.dtype.startswith("Float")}
    named = dict.fromkeys(name for record in records for name in record)
    columns = {name: [record.get(name) for record in records] for name in named}
    return pl.DataFrame([pl.Series(name, values, types.get(name), strict=False) for name, values in columns.items()])
