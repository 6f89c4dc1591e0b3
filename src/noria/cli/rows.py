"""Rows for ``noria predict``, a piece at a time: as a table, and as a model takes them.

They come from a file, a Delta table or standard input.
"""

from __future__ import annotations

import io
import select
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from noria.errors import DataError, MissingExtra, RequestError
from noria.frames.cast import dtype_of
from noria.serve.batch import Batch, Layout
from noria.serve.reading import json_of
from noria.serve.scoring import csv_value
from noria.serve.tables import column

if TYPE_CHECKING:
    import polars as pl

__all__ = ["KINDS", "Rows", "Streamed", "rows_of"]

_PIECE = 10_000
_CHUNK = 2**18
_LONGEST_ROW = 64 * 2**20
KINDS = {".csv": "csv", ".parquet": "parquet", ".ndjson": "ndjson", ".jsonl": "ndjson", ".arrow": "ipc", ".ipc": "ipc"}
Piece = tuple["pl.DataFrame", Batch]


class Rows(Protocol):
    """What there is to predict."""

    name: str

    def pieces(self, layout: Layout) -> Iterator[Piece]:
        """Piece after piece.

        Raises:
            DataError: the file cannot be read.
            RequestError: a row does not fit; numbers it within its piece.
        """
        ...


class Counted(Rows, Protocol):
    """What there is to predict, and how much."""

    def height(self) -> int:
        """How many rows there are."""
        ...


def rows_of(file: Path) -> Counted:
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
        self.name = file.name

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
                    yield _of_table(self._typed(piece[at : at + _PIECE], layout), layout)
        except pl.exceptions.PolarsError as error:
            raise self._unreadable(error) from error

    def _typed(self, part: pl.DataFrame, layout: Layout) -> pl.DataFrame:
        return part

    def _unreadable(self, error: Exception) -> DataError:
        return DataError(f"{self.name} cannot be read: {str(error)[:300]}")


class _Csv(_Table):
    """Columns of text: what they hold is for the model to say, not for the first rows."""

    def _typed(self, part: pl.DataFrame, layout: Layout) -> pl.DataFrame:
        return _typed(part, layout)


def _typed(part: pl.DataFrame, layout: Layout) -> pl.DataFrame:
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
        self.name = file.name

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
            yield _of_lines(taken, layout)


class Streamed:
    """Rows as they come: CSV, or JSON records, one a line, if what comes begins as such a record does.

    Args:
        file: where they come from.
        eager: whether what has come makes a piece when no more is there yet, rather than to wait for a whole one.
    """

    def __init__(self, file: BinaryIO, *, eager: bool) -> None:
        self._file = file
        self._eager = eager
        self.name = "standard input"

    @cached_property
    def _begun(self) -> bytes:
        """The first of it, without empty lines before it."""
        begun = self._read()
        while begun.isspace():
            begun = self._read()
        return begun.lstrip(b"\r\n")

    @property
    def kind(self) -> str:
        """``csv`` or ``ndjson``; waits for the first of it."""
        return "ndjson" if self._begun.lstrip().startswith(b"{") else "csv"

    def pieces(self, layout: Layout) -> Iterator[Piece]:
        """Piece after piece; raises as `Rows` has it."""
        import polars as pl

        if self.kind == "ndjson":
            yield from (_of_lines(taken, layout) for taken in self._rows())
            return
        head = b""
        for taken in self._rows():
            if not head:
                head = taken.pop(0).rstrip(b"\r\n") + b"\n"
            try:
                part = pl.read_csv(io.BytesIO(head + b"".join(taken)), infer_schema=False)
            except pl.exceptions.PolarsError as error:
                raise DataError(f"{self.name} cannot be read: {str(error)[:300]}") from error
            if part.height:
                yield _of_table(_typed(part, layout), layout)

    def _read(self) -> bytes:
        return self._file.read1(_CHUNK)  # type: ignore[attr-defined, no-any-return]

    def _rows(self) -> Iterator[list[bytes]]:
        """Rows with their line ends. One of CSV may have several lines: those between two quotation marks."""
        taken: list[bytes] = []
        lines: list[bytes] = []  # of the row that is not whole yet
        size = quotes = 0
        chunk, csv = self._begun, self.kind == "csv"
        while chunk:
            for line in io.BytesIO(chunk):
                lines.append(line)
                size += len(line)
                if size > _LONGEST_ROW:
                    most = f"longer than {_LONGEST_ROW // 2**20} MB"
                    raise DataError(f"A row of {self.name} is {most}: is a line end or a quotation mark missing?")
                quotes += line.count(b'"') if csv else 0
                if line.endswith(b"\n") and quotes % 2 == 0:
                    row = b"".join(lines)
                    if csv or not row.isspace():
                        taken.append(row)
                    lines, size, quotes = [], 0, 0
                    if len(taken) > _PIECE:
                        yield taken
                        taken = []
            if taken and self._eager and not select.select([self._file], [], [], 0)[0]:
                yield taken
                taken = []
            chunk = self._read()
        if lines:
            taken.append(b"".join(lines))
        if taken:
            yield taken


def _of_lines(lines: Sequence[bytes], layout: Layout) -> Piece:
    records = [_record(line, place) for place, line in enumerate(lines)]
    return _frame(records, layout), layout.from_records(records)


def _of_table(part: pl.DataFrame, layout: Layout) -> Piece:
    return part, layout.from_columns({name: column(part[name]) for name in part.columns}, part.height)


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

    # Pieces are to be alike, whichever values each happens to hold.
    plain = ("Float", "Int", "UInt", "Boolean", "String")
    types = {name: dtype_of(field.dtype) for name, field in layout.fields.items() if field.dtype.startswith(plain)}
    named = dict.fromkeys(name for record in records for name in record)
    columns = {name: [record.get(name) for record in records] for name in named}
    return pl.DataFrame([pl.Series(name, values, types.get(name), strict=False) for name, values in columns.items()])
