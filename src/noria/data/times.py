"""A column of times, however they are written -> Datetime."""

from __future__ import annotations

from typing import TYPE_CHECKING

from noria.errors import DataError

if TYPE_CHECKING:
    import polars as pl

__all__ = ["parse_time"]

# Ways to write times that may stand in one column together. The United States' order is tried first: where
# both orders fit every value, nothing in the column tells which is meant.
_WAYS = (
    ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f",
     "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f%#z"),
    ("%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M", "%Y/%m/%d"),
    ("%m/%d/%Y %H:%M:%S", "%m/%d/%Y %H:%M", "%m/%d/%Y", "%m/%d/%Y %I:%M:%S %p", "%m/%d/%Y %I:%M %p"),
    ("%d/%m/%Y %H:%M:%S", "%d/%m/%Y %H:%M", "%d/%m/%Y"),
    ("%m/%d/%y %H:%M:%S", "%m/%d/%y %H:%M", "%m/%d/%y"),
    ("%d/%m/%y %H:%M:%S", "%d/%m/%y %H:%M", "%d/%m/%y"),
    ("%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M", "%d.%m.%Y"),
    ("%d-%m-%Y %H:%M:%S", "%d-%m-%Y %H:%M", "%d-%m-%Y"),
    ("%d-%b-%Y", "%d %b %Y", "%b %d, %Y", "%d %B %Y", "%B %d, %Y"),
    ("%Y%m%d",),
)  # fmt: skip
_UNITS = ((1e11, 1e6), (1e14, 1e3), (1e17, 1.0))  # numbers up to the first are seconds, milli-, microseconds


def parse_time(column: pl.Series) -> pl.Series:
    """The column as Datetime (UTC where it names a zone).

    Whole numbers such as 20240531 are days; other numbers count from 1970, in seconds or what smaller unit
    their size tells.

    Raises:
        DataError: names rows and values that are not times.
    """
    import polars as pl

    kind = column.dtype
    if isinstance(kind, pl.Datetime):
        return column.dt.convert_time_zone("UTC") if kind.time_zone else column
    if kind == pl.Date:
        return column.cast(pl.Datetime("us"))
    if kind.is_numeric():
        return _whole(column, _from_numbers(column))
    if kind != pl.String:
        raise DataError(f'The time column "{column.name}" holds {kind}, which is not a time.')
    return _whole(column, _best(column))


def _whole(column: pl.Series, parsed: pl.Series) -> pl.Series:
    bad = parsed.is_null() & column.is_not_null()
    if bad.any():
        rows = bad.arg_true().to_list()
        shown = ", ".join(f"row {row}: {str(column[row])[:60]!r}" for row in rows[:5])
        raise DataError(
            f'The time column "{column.name}" has {len(rows)} values that are not times ({shown}). '
            "Write times as 2024-05-31 or 2024-05-31 14:05:00, or parse them in a @loop.source function."
        )
    return parsed


def _from_numbers(column: pl.Series) -> pl.Series:
    import polars as pl

    numbers = column.cast(pl.Float64).fill_nan(None)
    known = numbers.drop_nulls()
    if known.len() and bool(((known >= 19_000_101) & (known <= 21_001_231) & (known % 1 == 0)).all()):
        days = numbers.cast(pl.Int64).cast(pl.String).str.to_datetime("%Y%m%d", strict=False, time_unit="us")
        if days.null_count() == numbers.null_count():
            return days.alias(column.name)
    largest = float(known.filter(known.is_finite()).abs().max() or 0)  # type: ignore[arg-type]  # a float
    scale = next((scale for limit, scale in _UNITS if largest <= limit), 1e-3)
    micros = numbers * scale
    micros = micros.set(micros.abs() > 2.5e17, None)  # past the year 9000
    return micros.round().cast(pl.Int64, strict=False).cast(pl.Datetime("us")).alias(column.name)


def _best(column: pl.Series) -> pl.Series:
    """The column parsed in the one way that fits the most values."""
    import polars as pl

    text = column.str.strip_chars()
    best = pl.Series(column.name, [None] * column.len(), dtype=pl.Datetime("us"))
    for way in _WAYS:
        parsed = _in_one_way(text, way)
        if parsed.null_count() < best.null_count():
            best = parsed
        if best.null_count() == column.null_count():
            break
    return best


def _in_one_way(text: pl.Series, forms: tuple[str, ...]) -> pl.Series:
    import polars as pl

    found = pl.Series(text.name, [None] * text.len(), dtype=pl.Datetime("us"))
    zoned = 0
    for form in forms:
        left = text.set(found.is_not_null(), None)
        if left.null_count() == left.len():
            break
        parsed = left.str.to_datetime(form, strict=False, time_unit="us")
        if form.endswith("z"):
            zoned += parsed.count()
            parsed = parsed.dt.replace_time_zone(None)
        elif "%y" not in form:
            parsed = parsed.set((parsed.dt.year() < 1000).fill_null(False), None)  # 24 is not the year 24
        found = pl.select(pl.coalesce(found, parsed)).to_series().alias(text.name)
    return found.dt.replace_time_zone("UTC") if zoned and zoned == found.count() else found
