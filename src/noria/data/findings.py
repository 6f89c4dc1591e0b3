"""One expectation and a frame -> what is wrong and which rows break it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl

from noria.core.nearest import suggest
from noria.core.units import format_duration, parse_duration
from noria.data.rules import (
    Between,
    Expectation,
    Fresh,
    HasColumns,
    MissingShare,
    NotMissing,
    OneOf,
    Pandera,
    Rows,
    Unique,
)

__all__ = ["Finding", "find"]


@dataclass(frozen=True, slots=True, eq=False)
class Finding:
    """What one expectation found, before rows are named.

    Attributes:
        problem: empty when it holds, else a sentence.
        mask: the rows that break it (no nulls); None when it is about the table.
    """

    problem: str = ""
    mask: pl.Series | None = None


def find(rule: Expectation, frame: pl.DataFrame, now: datetime) -> Finding:
    """What ``rule`` finds in ``frame``; never raises for the data it meets."""
    absent = [name for name in rule.reads() if name not in frame.columns]
    if absent:
        return Finding(f'There is no column "{absent[0]}". {suggest(absent[0], frame.columns)}')
    if isinstance(rule, Rows):
        short = frame.height < rule.at_least
        return Finding(f"There are {frame.height} rows, fewer than {rule.at_least}." if short else "")
    if isinstance(rule, HasColumns):
        return Finding(" ".join(_schema_problems(rule, frame)))
    if isinstance(rule, Pandera):
        from noria.data.pandera import validate

        problem, mask = validate(rule.schema, frame)
        return Finding(problem, mask)
    return _find_in_column(rule, frame[rule.column], now)


def _find_in_column(
    rule: Unique | Between | OneOf | NotMissing | MissingShare | Fresh, column: pl.Series, now: datetime
) -> Finding:
    if column.dtype.is_nested():
        return Finding(f'"{rule.column}" holds {column.dtype}, which has no single values to judge.')
    if isinstance(rule, Unique):
        later = ~column.is_first_distinct() & ~_missing(column)
        return _rows(later, f'"{rule.column}" repeats a value seen before')
    if isinstance(rule, NotMissing):
        return _rows(_missing(column), f'"{rule.column}" is missing')
    if isinstance(rule, MissingShare):
        share = _missing(column).sum() / max(1, column.len())
        over = f'{share:.1%} of "{rule.column}" is missing, more than {rule.at_most:.1%}.'
        return Finding(over if share > rule.at_most else "")
    if isinstance(rule, Between):
        return _between(rule, column)
    if isinstance(rule, OneOf):
        return _one_of(rule, column)
    return _fresh(rule, column, now)


def _missing(column: pl.Series) -> pl.Series:
    gone = column.is_null()
    return gone | column.is_nan().fill_null(True) if column.dtype.is_float() else gone


def _rows(mask: pl.Series, what: str) -> Finding:
    count = int(mask.sum())
    return Finding(f"In {count} of {mask.len()} rows {what}." if count else "", mask)


def _between(rule: Between, column: pl.Series) -> Finding:
    kind = column.dtype
    if kind == pl.Null:
        return Finding("", pl.repeat(False, column.len(), dtype=pl.Boolean, eager=True))
    try:
        low, high = (_bound(bound, column) for bound in (rule.low, rule.high))
    except ValueError as error:
        return Finding(str(error))
    outside = pl.repeat(False, column.len(), dtype=pl.Boolean, eager=True)
    if low is not None:
        outside = outside | (column < low).fill_null(False)
    if high is not None:
        outside = outside | (column > high).fill_null(False)
    outside = outside & ~_missing(column)
    seen = column.filter(outside)
    spread = f" (seen: {seen.min()!s} to {seen.max()!s})" if seen.len() else ""
    return _rows(outside, f'"{rule.column}" is outside {_span(rule)}{spread}')


def _span(rule: Between) -> str:
    low, high = ("…" if bound is None else str(bound) for bound in (rule.low, rule.high))
    return f"{low} to {high}"


def _bound(bound: Any, column: pl.Series) -> Any:
    """The bound as a value comparable with the column; ValueError when there is none."""
    kind = column.dtype
    mismatch = ValueError(f'"{column.name}" holds {kind}, which cannot be compared with {bound!r}.')
    if bound is None:
        return None
    if kind.is_numeric():
        if isinstance(bound, bool) or not isinstance(bound, (int, float)):
            raise mismatch
        return bound
    if kind not in (pl.Datetime, pl.Date):
        raise mismatch
    if isinstance(bound, str):
        bound = datetime.fromisoformat(bound)  # its ValueError names the text
    if not isinstance(bound, date):
        raise mismatch
    if kind == pl.Date:
        return bound.date() if isinstance(bound, datetime) else bound
    found = bound if isinstance(bound, datetime) else datetime(bound.year, bound.month, bound.day)
    if kind.time_zone is None:  # type: ignore[attr-defined]  # kind is a Datetime here
        return found.astimezone(UTC).replace(tzinfo=None) if found.tzinfo else found
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _one_of(rule: OneOf, column: pl.Series) -> Finding:
    values = column.filter(~_missing(column)).unique(maintain_order=True)
    allowed = set(rule.values)
    bad = [value for value in values.to_list() if value not in allowed]
    kinds = {type(value).__name__ for value in rule.values}
    if bad and len(bad) == values.len() and {type(value).__name__ for value in bad}.isdisjoint(kinds):
        kind = type(bad[0]).__name__
        return Finding(f'"{rule.column}" holds {column.dtype} ({kind}), and the allowed values are {"/".join(kinds)}.')
    mask = column.is_in(pl.Series(bad, dtype=column.dtype).implode()).fill_null(False)
    shown = ", ".join(repr(value) for value in bad[:5]) + (", …" if len(bad) > 5 else "")
    return _rows(mask, f'"{rule.column}" is {shown}, not among the allowed values')


def _fresh(rule: Fresh, column: pl.Series, now: datetime) -> Finding:
    if column.dtype not in (pl.Datetime, pl.Date):
        return Finding(f'"{rule.column}" holds {column.dtype}, not a time.')
    newest = column.drop_nulls().max()
    if not isinstance(newest, date):
        return Finding(f'"{rule.column}" has no times at all.')
    moment = newest if isinstance(newest, datetime) else datetime(newest.year, newest.month, newest.day)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    age, limit = now - moment, parse_duration(rule.within)
    if age <= limit:
        return Finding()
    return Finding(
        f'The newest "{rule.column}" is {moment:%Y-%m-%d %H:%M} UTC, {format_duration(_rounded(age))} old; '
        f"at most {format_duration(limit)} is allowed."
    )


def _rounded(age: timedelta) -> timedelta:
    return timedelta(minutes=round(age.total_seconds() / 60))


_FAMILIES = {
    "int": "is_integer",
    "integer": "is_integer",
    "float": "is_float",
    "number": "is_numeric",
}
_ALIASES = {"str": "string", "text": "string", "utf8": "string", "bool": "boolean", "object": "string"}


def _schema_problems(rule: HasColumns, frame: pl.DataFrame) -> Iterable[str]:
    for name, wanted in rule.types.items():
        if name not in frame.columns:
            yield f'There is no column "{name}". {suggest(name, frame.columns)}'
            continue
        kind = frame.schema[name]
        asked = _ALIASES.get(wanted.casefold(), wanted.casefold())
        if asked == "any":
            continue
        if asked in _FAMILIES:
            fits = bool(getattr(kind, _FAMILIES[asked])())
        else:
            fits = asked in (str(kind).casefold(), str(kind.base_type()).casefold())
        if not fits:
            yield f'"{name}" holds {kind}, not {wanted}.'
