"""Parquet in and out, and typed frames from the plain records of a request."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from noria.core.nearest import suggest
from noria.errors import RequestError
from noria.frames.cast import cast_values, dtype_of
from noria.records import Field

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

__all__ = ["cast_columns", "cast_records", "dtype_of", "read_parquet", "schema_of", "write_parquet"]

_REPORTED = 100


def write_parquet(frame: pl.DataFrame) -> bytes:
    """The frame as a Parquet file; equal frames give equal bytes with one version of Polars."""
    out = io.BytesIO()
    frame.rechunk().write_parquet(out, compression="zstd", compression_level=1, statistics=True)
    return out.getvalue()


def read_parquet(data: bytes) -> pl.DataFrame:
    """The frame in a Parquet file."""
    import polars as pl

    return pl.read_parquet(io.BytesIO(data))


def schema_of(frame: pl.DataFrame) -> tuple[tuple[str, str], ...]:
    """Column names and types, in order."""
    return tuple((name, str(kind)) for name, kind in frame.schema.items())


def cast_records(
    records: Sequence[Mapping[str, Any]],
    fields: Sequence[Field],
    extra: frozenset[str] | set[str] = frozenset(),
) -> pl.DataFrame:
    """A typed frame of plain JSON records.

    Args:
        records: one mapping a row.
        fields: the columns; those not required may be left out, and become null.
        extra: names that may be there besides and are left out.

    Raises:
        RequestError: details name each record and field that does not fit.
    """
    import polars as pl

    problems = list(islice(_misnamed(records, fields, extra), _REPORTED))
    columns = []
    for field in fields:
        column, wrong = cast_values([record.get(field.name) for record in records], field)
        problems += wrong
        columns.append(column)
    if problems:
        count = f"{len(problems)} values do" if len(problems) > 1 else "A value does"
        raise RequestError(f"{count} not fit the model's signature.", problems[:_REPORTED])
    return pl.DataFrame(columns)


def cast_columns(
    rows: int,
    places: Mapping[str, int],
    matrix: NDArray[np.float64],
    columns: Mapping[str, Sequence[Any]],
    fields: Sequence[Field],
) -> pl.DataFrame:
    """A typed frame of columns that were checked already.

    Args:
        rows: how many.
        places: columns of the matrix by name.
        matrix: numbers, rows x places; NaN where a value is missing.
        columns: plain values by name; they count where the matrix has the column too.
        fields: the columns of the frame; what is in neither is null.

    Raises:
        RequestError: a value does not fit after all.
    """
    import polars as pl

    found: list[pl.Series] = []
    problems: list[dict[str, object]] = []
    for field in fields:
        if field.name in columns:
            column, wrong = cast_values(columns[field.name], field)
            problems += wrong
        elif field.name in places:
            column = pl.Series(field.name, matrix[:, places[field.name]], nan_to_null=True)
            if field.dtype != "Float64":
                column = column.cast(dtype_of(field.dtype))
        else:
            column = pl.Series(field.name, [None], dtype=dtype_of(field.dtype)).new_from_index(0, rows)
        found.append(column)
    if problems:
        raise RequestError(f"{len(problems)} values do not fit the model's signature.", problems[:_REPORTED])
    return pl.DataFrame(found)


def _misnamed(
    records: Sequence[Mapping[str, Any]], fields: Sequence[Field], extra: Collection[str]
) -> Iterator[dict[str, object]]:
    """Fields that are missing, and fields that nobody knows."""
    known = {field.name for field in fields} | set(extra)
    required = {field.name for field in fields if field.required}
    for place, record in enumerate(records):
        if not required <= record.keys():
            for name in sorted(required - record.keys()):
                yield {"record": place, "field": name, "problem": "is missing"}
        if not record.keys() <= known:
            for name in sorted(record.keys() - known, key=str):
                hint = suggest(str(name)[:100], known)
                yield {"record": place, "field": str(name)[:200], "problem": f"is not known. {hint}".strip()}
