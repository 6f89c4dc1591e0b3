"""Plain JSON values -> a typed column: whole columns at once, one by one only to name what does not fit."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, time, timedelta
from reprlib import Repr
from typing import TYPE_CHECKING, Any, Literal

from noria.records import Field

if TYPE_CHECKING:
    import polars as pl

__all__ = ["cast_values", "checker", "dtype_of"]

_LONGEST_TEXT = 100_000
_LARGEST_FLOAT32 = 3.4028234663852886e38
_PLAIN = frozenset(
    ("Boolean", "Categorical", "Date", "Float32", "Float64", "Int8", "Int16", "Int32", "Int64", "Int128",
     "Time", "UInt8", "UInt16", "UInt32", "UInt64")
)  # fmt: skip
_WHOLE = frozenset(("Int8", "Int16", "Int32", "Int64", "Int128", "UInt8", "UInt16", "UInt32", "UInt64"))
_short = Repr()
_short.maxstring = _short.maxother = _short.maxlong = 60

Found = tuple[Any, str]
"""A value as it goes into the column, or None and what is wrong."""


def dtype_of(text: str) -> pl.DataType:
    """The Polars type a schema's text names; nested and odd types are read as text."""
    import polars as pl

    name = text.split("(")[0]
    if name in ("Datetime", "Duration"):
        unit: Literal["ns", "us", "ms"] = "ns" if "'ns'" in text else "ms" if "'ms'" in text else "us"
        zone = text.split("time_zone='")[1].split("'")[0] if "time_zone='" in text else None
        return pl.Datetime(unit, zone) if name == "Datetime" else pl.Duration(unit)
    if name == "Decimal":
        return pl.Float64()
    if name in _PLAIN:
        found: pl.DataType = getattr(pl, name)()
        return found
    return pl.String()


def cast_values(values: Sequence[Any], field: Field) -> tuple[pl.Series, list[dict[str, object]]]:
    """The values as a column, and a problem with its record's place for each that does not fit."""
    import polars as pl

    kind = dtype_of(field.dtype)
    whole = _at_once(values, field.name, kind)
    if whole is not None:
        return whole, []
    problems: list[dict[str, object]] = []
    checked: list[Any] = []
    check = checker(field.dtype)
    for place, value in enumerate(values):
        found, problem = check(value) if value is not None else (None, "")
        if problem:
            problems.append({"record": place, "field": field.name, "problem": problem})
        checked.append(found)
    if isinstance(kind, pl.Datetime):
        return _times(checked, field.name, kind), problems
    return pl.Series(field.name, checked, dtype=kind, strict=False), problems


def _at_once(values: Sequence[Any], name: str, kind: pl.DataType) -> pl.Series | None:
    """The column, when all values are of the type asked for and in range; else None, whatever the reason."""
    import polars as pl

    kinds = set(map(type, values)) - {type(None)}
    try:
        if kind.is_integer() and kinds <= {int}:
            return pl.Series(name, values, dtype=kind)
        if kind.is_float() and kinds <= {int, float}:
            numbers = pl.Series(name, values, dtype=pl.Float64).cast(kind)
            # The sum costs a tenth of asking each; where it overflows, each is asked.
            return numbers if math.isfinite(numbers.sum()) else None
        if kind == pl.Boolean and kinds <= {bool}:
            return pl.Series(name, values, dtype=kind)
        if kind in (pl.String, pl.Categorical) and kinds <= {str}:
            if max(map(len, filter(None, values)), default=0) > _LONGEST_TEXT:
                return None
            return pl.Series(name, values, dtype=pl.String).cast(kind)
    except (OverflowError, TypeError, UnicodeEncodeError, pl.exceptions.PolarsError):
        return None
    return None


def _times(values: list[Any], name: str, kind: pl.Datetime) -> pl.Series:
    import polars as pl

    plain = pl.Series(name, values, dtype=pl.Datetime("us"))
    return plain.dt.replace_time_zone("UTC").cast(kind) if kind.time_zone else plain.cast(kind)


def checker(dtype: str) -> Callable[[Any], Found]:
    """What one value that is not null becomes in a column of this type; needs no Polars."""
    name = dtype.split("(")[0]
    if name in _WHOLE:
        unsigned, bits = name.startswith("U"), int(name.lstrip("UInt"))
        low, high = (0, 2**bits - 1) if unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        return lambda value: _whole(value, low, high)
    if name in ("Float32", "Float64", "Decimal"):
        largest = _LARGEST_FLOAT32 if name == "Float32" else math.inf
        return lambda value: _number(value, largest)
    if name == "Datetime":
        years = (1678, 2261) if "'ns'" in dtype else (1, 9999)
        return lambda value: _moment(value, years)
    return _CHECKS.get(name, _text)


def _shown(value: Any) -> str:
    return _short.repr(value)[:60]


def _truth(value: Any) -> Found:
    return (value, "") if isinstance(value, bool) else (None, f"{_shown(value)} is not true or false")


def _number(value: Any, largest: float = math.inf) -> Found:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None, f"{_shown(value)} is not a number"
    try:
        found = float(value)
    except OverflowError:
        return None, f"{_shown(value)} is too large a number"
    if not math.isfinite(found):
        return None, f"{value} is not a finite number"
    return (found, "") if abs(found) <= largest else (None, f"{_shown(value)} is too large a number")


def _whole(value: Any, low: int, high: int) -> Found:
    if isinstance(value, int) and not isinstance(value, bool):
        found = value
    else:
        number, problem = _number(value)
        if problem:
            return None, problem
        found = int(number)
        if number != found:
            return None, f"{_shown(value)} is not a whole number"
    if not low <= found <= high:
        return None, f"{_shown(value)} is outside {low} to {high}"
    return found, ""


def _moment(value: Any, years: tuple[int, int]) -> Found:
    how = "write 2024-05-31T14:05:00 or seconds since 1970"
    try:
        if isinstance(value, str):
            found = datetime.fromisoformat(value)
            found = found.astimezone(UTC).replace(tzinfo=None) if found.tzinfo is not None else found
        else:
            seconds, problem = _number(value)
            if problem:
                return None, f"{_shown(value)} is not a time; {how}"
            found = datetime(1970, 1, 1) + timedelta(seconds=seconds)
    except (ValueError, OverflowError):
        return None, f"{_shown(value)} is not a time; {how}"
    if not years[0] <= found.year <= years[1]:
        return None, f"{_shown(value)} is not a time between the years {years[0]} and {years[1]}"
    return found, ""


def _date(value: Any) -> Found:
    try:
        if isinstance(value, str):
            return datetime.fromisoformat(value).date(), ""
    except ValueError:
        pass
    return None, f"{_shown(value)} is not a date; write 2024-05-31"


def _time(value: Any) -> Found:
    try:
        if isinstance(value, str):
            return time.fromisoformat(value).replace(tzinfo=None), ""
    except ValueError:
        pass
    return None, f"{_shown(value)} is not a time of day; write 14:05:00"


def _duration(value: Any) -> Found:
    seconds, problem = _number(value)
    try:
        return (None, f"{_shown(value)} is not a number of seconds") if problem else (timedelta(seconds=seconds), "")
    except OverflowError:
        return None, f"{_shown(value)} is too long a time"


def _text(value: Any) -> Found:
    if not isinstance(value, str):
        return None, f"{_shown(value)} is not text"
    if len(value) > _LONGEST_TEXT:
        return None, f"is {len(value)} characters long; at most {_LONGEST_TEXT}"
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return None, "is not valid Unicode text"
    return value, ""


_CHECKS: dict[str, Callable[[Any], Found]] = {
    "Boolean": _truth,
    "Date": _date,
    "Time": _time,
    "Duration": _duration,
}
