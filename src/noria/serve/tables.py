"""Batches as files: Arrow IPC, Parquet and newline-delimited JSON, in and out.

Polars reads and writes the first two; it is imported when the first such request comes, and in a thread. It reads in a
process of its own: see `noria.serve.table_process`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from noria.errors import RequestError
from noria.serve.batch import Batch, Column, Layout
from noria.serve.oip import ids, merged
from noria.serve.plane import Answered
from noria.serve.reading import json_of
from noria.serve.refusals import TooLargeError
from noria.serve.table_process import Columns, TableProcess

if TYPE_CHECKING:
    import polars as pl

__all__ = ["ARROW", "NDJSON", "PARQUET", "columns_of", "from_lines", "from_table", "to_lines", "to_table"]

ARROW = "application/vnd.apache.arrow.stream"
ARROW_FILE = "application/vnd.apache.arrow.file"
PARQUET = "application/vnd.apache.parquet"
NDJSON = "application/x-ndjson"
_PROCESS = TableProcess()


def from_lines(body: bytes, layout: Layout, most: int) -> Batch:
    """The batch of newline-delimited JSON records.

    Raises:
        RequestError: names the line that is no record.
    """
    lines = {number: line for number, line in enumerate(map(bytes.strip, body.split(b"\n")), 1) if line}
    if not lines:
        raise RequestError("There are no records to predict.")
    if len(lines) > most:
        raise RequestError(f"{len(lines)} records in one request; at most {most}.")
    records = _at_once(list(lines.values()))
    if records is None:
        records = [json_of(line, f"Line {number}") for number, line in lines.items()]
    for number, record in zip(lines, records, strict=True):
        if not isinstance(record, dict):
            raise RequestError(f"Line {number} is not a JSON object.")
    return layout.from_records(records)


def _at_once(lines: list[bytes]) -> list[Any] | None:
    """The lines' records; None where they must be read one by one, as lines are that are none alone."""
    try:
        records: list[Any] = orjson.loads(b"[" + b",".join(lines) + b"]")
    except orjson.JSONDecodeError:
        return None
    whole = len(records) == len(lines) and all(line[:1] == b"{" and line[-1:] == b"}" for line in lines)
    return records if whole else None


def from_table(body: bytes, kind: str, layout: Layout, most: int) -> Batch:
    """The batch of an Arrow stream or file, or of a Parquet file.

    Raises:
        RequestError: it cannot be read, or does not fit.
        ModelError: there is no process to read it.
    """
    return layout.from_columns(*_PROCESS.read(body, kind, most, list(layout.fields)))


def columns_of(body: bytes, kind: str, most: int, names: frozenset[str], most_bytes: int) -> Columns:
    """The columns of an Arrow stream or file, or of a Parquet file; those not among ``names`` without their values.

    Raises:
        RequestError: it cannot be read.
        TooLargeError: the columns take more than ``most_bytes``.
    """
    import polars as pl

    source = io.BytesIO(body)
    with _read("The body cannot be read as " + ("Parquet" if kind == PARQUET else "Arrow")):
        if kind == PARQUET:
            rows = pl.scan_parquet(source).select(pl.len()).collect().item()
            _check_rows(rows, most)
            there = list(pl.read_parquet_schema(io.BytesIO(body)))
            frame = pl.read_parquet(io.BytesIO(body), columns=[name for name in there if name in names])
        else:
            frame = pl.read_ipc(source) if body[:6] == b"ARROW1" else pl.read_ipc_stream(source)
            rows, there = frame.height, frame.columns
            _check_rows(rows, most)
    found: dict[str, Column] = {name: [] for name in there}
    for name in names & found.keys():
        most_bytes -= _size(frame[name])
        if most_bytes < 0:
            raise TooLargeError("The columns of the body unpack to too much; send smaller batches.")
        found[name] = column(frame[name])
    return found, rows


def _size(values: pl.Series) -> int:
    """Bytes that a column's values take one by one: a text that is there once may stand in every row."""
    import polars as pl

    size = 8 * len(values)
    if values.dtype == pl.String:
        size += int(values.str.len_bytes().sum())
    elif values.dtype == pl.Binary:
        size += int(values.bin.size().sum())
    elif values.dtype in (pl.Categorical, pl.Enum):
        texts = values.drop_nulls().value_counts(name="rows")
        size += int((texts[values.name].cast(pl.String).str.len_bytes().cast(pl.Int64) * texts["rows"]).sum())
    return size


@contextmanager
def _read(problem: str) -> Iterator[None]:
    """Refuse what Polars cannot read, such as a time that is none, with its own reason."""
    try:
        yield
    except (RequestError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - a panic of Polars' is no Exception; its words say nothing to others
        said = "it is damaged, names a column twice, or holds values of a kind that no field has"
        said = str(error)[:200].rstrip(".") if isinstance(error, Exception) else said
        raise RequestError(f"{problem}: {said}.") from None


def _check_rows(rows: int, most: int) -> None:
    if rows == 0:
        raise RequestError("There are no rows to predict.")
    if rows > most:
        raise RequestError(f"{rows} rows in one request; at most {most}.")


def column(values: pl.Series) -> Column:
    """A column as the layout takes it: an array of numbers, or plain values.

    Raises:
        RequestError: it holds what no field holds, or a time that is none.
    """
    with _read(f"Column '{values.name[:200]}' cannot be read"):
        return _column(values)


def _column(values: pl.Series) -> Column:
    import polars as pl

    kind = values.dtype
    if kind.is_decimal():
        return _column(values.cast(pl.Float64))
    if kind.is_float() or (kind.is_integer() and not values.null_count() and not str(kind).endswith("Int128")):
        found: np.ndarray[Any, Any] = values.to_numpy()  # which has no integers of 128 bits
        return found
    if kind.is_temporal():
        return (
            values.dt.to_string("iso").to_list()
            if str(kind).startswith(("Date", "Time"))
            else (values.dt.total_microseconds() / 1e6).to_list()
        )
    if kind.is_nested():
        raise RequestError(f"Column '{values.name[:200]}' holds {kind}; a field holds one value.")
    return values.to_list()


def _named(answered: Answered, classes: Sequence[Any]) -> tuple[list[str], list[int], list[Any], Any]:
    values, shares = merged(answered)
    versions = [0] * answered.rows
    for part in answered.parts:
        for place in range(answered.rows) if part.places is None else part.places:
            versions[place] = part.route.version
    shown = shares if shares is not None and len(classes) == shares.shape[1] else None
    return ids(answered), versions, values, shown


def to_lines(answered: Answered, classes: Sequence[Any]) -> bytes:
    """One JSON object a line, in the order of the request."""
    made, versions, values, shares = _named(answered, classes)
    names = [str(name) for name in classes]
    lines = []
    for place, (one, version, value) in enumerate(zip(made, versions, values, strict=True)):
        line: dict[str, Any] = {"id": one, "version": version, "prediction": value}
        if shares is not None:
            line["probabilities"] = dict(zip(names, shares[place].tolist(), strict=True))
        lines.append(orjson.dumps(line))
    return b"\n".join(lines) + b"\n"


def to_table(answered: Answered, classes: Sequence[Any], kind: str) -> bytes:
    """A table of id, version, prediction and one column of probabilities a class."""
    import polars as pl

    made, versions, values, shares = _named(answered, classes)
    columns: dict[str, Any] = {"id": made, "version": versions, "prediction": values}
    if shares is not None:
        columns |= {f"probability_{name}": shares[:, place] for place, name in enumerate(classes)}
    out = io.BytesIO()
    frame = pl.DataFrame(columns)
    if kind == PARQUET:
        frame.write_parquet(out)
    elif kind == ARROW_FILE:
        frame.write_ipc(out)
    else:
        frame.write_ipc_stream(out)
    return out.getvalue()
