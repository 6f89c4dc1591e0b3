"""Parquet in and out, and typed frames from the plain records of a request."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from noria.core.nearest import suggest
from noria.errors import RequestError
from noria.records import Field

if TYPE_CHECKING:
    import polars as pl

__all__ = ["cast_records", "read_parquet", "schema_of", "write_parquet"]

_LONGEST_TEXT = 100_000
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


def dtype_of(text: str) -> pl.DataType:
    """The Polars type a schema's text names; nested and odd types are read as text."""
    import polars as pl

    if text.startswith("Datetime"):
        unit = next((u for u in ("ns", "us", "ms") if f"'{u}'" in text), "us")
        zone = text.split("time_zone='")[1].split("'")[0] if "time_zone='" in text else None
        return pl.Datetime(unit, zone)  # type: ignore[arg-type]  # one of the three units
    simple = getattr(pl, text, None)
    if isinstance(simple, type) and issubclass(simple, pl.DataType):
        return simple()
    return pl.String()


def cast_records(
    records: Sequence[Mapping[str, Any]], fields: Sequence[Field], extra: frozenset[str] | set[str] = frozenset()
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

    known = {field.name for field in fields} | set(extra)
    required = {field.name for field in fields if field.required}
    problems: list[dict[str, object]] = []
    for place, record in enumerate(records):
        if not required <= record.keys():
            for name in sorted(required - record.keys()):
                problems.append({"record": place, "field": name, "problem": "is missing"})
        if not record.keys() <= known:
            for name in sorted(record.keys() - known):
                hint = suggest(str(name), sorted(known))
                problems.append({"record": place, "field": str(name)[:200], "problem": f"is not known. {hint}".strip()})
        if len(problems) >= _REPORTED:
            break
    columns = []
    for field in fields:
        column, wrong = _column([record.get(field.name) for record in records], field)
        problems += wrong
        columns.append(column)
    if problems:
        raise RequestError(f"{len(problems)} values do not fit the model's signature.", problems[:_REPORTED])
    return pl.DataFrame(columns)


def _column(values: list[Any], field: Field) -> tuple[pl.Series, list[dict[str, object]]]:
    import polars as pl

    kind = dtype_of(field.dtype)
    problems: list[dict[str, object]] = []
    checked: list[Any] = []
    check = _checker(kind)
    for place, value in enumerate(values):
        if value is None:
            checked.append(None)
            continue
        found, problem = check(value)
        if problem:
            problems.append({"record": place, "field": field.name, "problem": problem})
            found = None
        checked.append(found)
    if isinstance(kind, pl.Datetime):
        return _times(checked, field.name, kind), problems
    return pl.Series(field.name, checked, dtype=kind, strict=False), problems


def _times(values: list[Any], name: str, kind: pl.Datetime) -> pl.Series:
    import polars as pl

    plain = pl.Series(name, values, dtype=pl.Datetime("us"))
    placed = plain.dt.replace_time_zone("UTC").dt.convert_time_zone(kind.time_zone) if kind.time_zone else plain
    return placed.cast(kind)


def _checker(kind: pl.DataType) -> Any:
    import polars as pl

    if kind.is_integer():
        low, high = kind.min(), kind.max()  # type: ignore[attr-defined]  # expressions of the type's limits
        bounds = pl.select(low.alias("low"), high.alias("high")).row(0)
        return lambda value: _whole(value, *bounds)
    if kind.is_float():
        return _number
    if kind == pl.Boolean:
        return lambda value: (value, "") if isinstance(value, bool) else (None, f"{_shown(value)} is not true or false")
    if isinstance(kind, pl.Datetime):
        return _time
    if kind == pl.Date:
        return _date
    return _text


def _shown(value: Any) -> str:
    return repr(value)[:60]


def _number(value: Any) -> tuple[Any, str]:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None, f"{_shown(value)} is not a number"
    if not math.isfinite(value):
        return None, f"{value} is not a finite number"
    return float(value), ""


def _whole(value: Any, low: int, high: int) -> tuple[Any, str]:
    found, problem = _number(value)
    if problem:
        return None, problem
    if found != int(found):
        return None, f"{_shown(value)} is not a whole number"
    if not low <= int(value) <= high:
        return None, f"{_shown(value)} is outside {low} to {high}"
    return int(value), ""


def _time(value: Any) -> tuple[Any, str]:
    if isinstance(value, str):
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            return None, f"{_shown(value)} is not a time; write 2024-05-31T14:05:00"
        if found.tzinfo is not None:
            from datetime import UTC

            found = found.astimezone(UTC).replace(tzinfo=None)
        return found, ""
    seconds, problem = _number(value)
    if problem:
        return None, f"{_shown(value)} is not a time; write 2024-05-31T14:05:00 or seconds since 1970"
    try:
        return datetime.utcfromtimestamp(seconds), ""
    except (OverflowError, ValueError, OSError):
        return None, f"{_shown(value)} is not a time in seconds since 1970"


def _date(value: Any) -> tuple[Any, str]:
    if isinstance(value, str):
        try:
            return date.fromisoformat(value[:10]), ""
        except ValueError:
            pass
    return None, f"{_shown(value)} is not a date; write 2024-05-31"


def _text(value: Any) -> tuple[Any, str]:
    if not isinstance(value, str):
        return None, f"{_shown(value)} is not text"
    if len(value) > _LONGEST_TEXT:
        return None, f"is {len(value)} characters long; at most {_LONGEST_TEXT}"
    return value, ""
