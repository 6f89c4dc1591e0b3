"""Rows -> rows to train on and rows held out."""

from __future__ import annotations

from datetime import datetime, timedelta
from hashlib import blake2b
from typing import TYPE_CHECKING

from noria.core.nearest import suggest
from noria.core.units import format_duration, parse_duration
from noria.data.rules import GroupSplit, RandomSplit, Source, Split, TimeSplit
from noria.errors import DataError

if TYPE_CHECKING:
    import polars as pl

__all__ = ["split"]


def split(frame: pl.DataFrame, rule: Split | None, source: Source) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows to train on and the rows held out, each in the order given.

    Without a rule the newest fifth of the rows is held out when the source has a time, else a random fifth.

    Raises:
        DataError: a column is missing or unusable, or one side would be empty; says what to do.
    """
    if frame.height < 2:
        raise DataError(f"There is nothing to split: {frame.height} rows. At least two are needed.")
    if rule is None:
        rule = RandomSplit() if source.time is None else TimeSplit(test=_newest_fifth(frame, source.time))
    if isinstance(rule, TimeSplit):
        return _split_by_time(frame, rule, source)
    if isinstance(rule, GroupSplit):
        return _split_by_group(frame, rule)
    return _split_at_random(frame, rule, source)


def _newest_fifth(frame: pl.DataFrame, name: str) -> timedelta:
    """How long the newest fifth of the rows took to come."""
    import polars as pl

    column = _column(frame, name)
    if column.dtype not in (pl.Datetime, pl.Date):
        return timedelta(days=1)  # not a time: the split itself says so
    times = column.drop_nulls().cast(pl.Datetime("us")).cast(pl.Int64).sort()
    if not times.len():
        return timedelta(days=1)
    return timedelta(microseconds=max(1, int(times[-1]) - int(times[(times.len() * 4) // 5 - 1])))


def _split_by_time(frame: pl.DataFrame, rule: TimeSplit, source: Source) -> tuple[pl.DataFrame, pl.DataFrame]:
    import polars as pl

    if source.time is None:
        raise DataError("TimeSplit needs to know the time of each row: give the source time=…, or use RandomSplit.")
    column = _column(frame, source.time)
    if column.dtype not in (pl.Datetime, pl.Date):
        raise DataError(
            f'"{source.time}" holds {column.dtype}, not times, so TimeSplit cannot use it. '
            "Make it a time in the file, or parse it in a @loop.source function."
        )
    if gone := column.null_count():
        raise DataError(
            f'{gone} of {frame.height} rows have no "{source.time}", so TimeSplit cannot place them. '
            f'Set them aside with expect=(NotMissing("{source.time}"),).'
        )
    times = column.cast(pl.Datetime("us"))
    oldest, newest = times.min(), times.max()
    if not isinstance(oldest, datetime) or not isinstance(newest, datetime):
        raise DataError(f'"{source.time}" has no times to split by.')
    cut = newest - parse_duration(rule.test)
    train, test = frame.filter(times <= cut - parse_duration(rule.gap)), frame.filter(times > cut)
    if not train.height:
        raise DataError(
            f'No row is left to train on: "{source.time}" runs from {oldest} to {newest} '
            f"({format_duration(newest - oldest)}), and test={_text(rule.test)} with gap={_text(rule.gap)} "
            "takes all of it. Make test or gap shorter."
        )
    return train, test


def _text(value: object) -> str:
    return f'"{format_duration(parse_duration(value))}"'  # type: ignore[arg-type]  # checked by `problems`


def _split_at_random(frame: pl.DataFrame, rule: RandomSplit, source: Source) -> tuple[pl.DataFrame, pl.DataFrame]:
    import polars as pl

    if source.key is not None:
        names = _names(_column(frame, source.key))
    else:
        names = frame.select(pl.struct(pl.all()).struct.json_encode()).to_series()
    held = _held_out(names, rule.test, rule.seed)
    train, test = frame.filter(~held), frame.filter(held)
    if not train.height or not test.height:
        raise DataError(
            f"RandomSplit(test={rule.test}) leaves the {'test' if train.height else 'training'} side of "
            f"{frame.height} rows empty: it needs more rows, or another test share or seed."
        )
    return train, test


def _split_by_group(frame: pl.DataFrame, rule: GroupSplit) -> tuple[pl.DataFrame, pl.DataFrame]:
    column = _column(frame, rule.by)
    held = _held_out(_names(column), rule.test, rule.seed)
    train, test = frame.filter(~held), frame.filter(held)
    if not train.height or not test.height:
        side = "test" if train.height else "training"
        raise DataError(
            f'GroupSplit(by="{rule.by}", test={rule.test}) leaves the {side} side empty: there are '
            f"{column.n_unique()} groups. It needs more groups, or another test share or seed."
        )
    return train, test


def _column(frame: pl.DataFrame, name: str) -> pl.Series:
    if name not in frame.columns:
        raise DataError(f'There is no column "{name}" to split by. {suggest(name, frame.columns)}')
    return frame[name]


def _names(column: pl.Series) -> pl.Series:
    """The values as text; a whole number gives the same text whether held as an integer or as a float."""
    import polars as pl

    if column.dtype.is_float():
        whole = column.cast(pl.Int64, strict=False)
        same = (whole.cast(pl.Float64) == column.cast(pl.Float64)).fill_null(False)
        return pl.select(pl.when(same).then(whole.cast(pl.String)).otherwise(column.cast(pl.String))).to_series()
    if column.dtype.is_nested():
        return column.to_frame("it").select(pl.struct("it").struct.json_encode()).to_series()
    return column.cast(pl.String)


def _held_out(names: pl.Series, share: float, seed: int) -> pl.Series:
    """Which rows fall on the test side: those whose name hashes into the first ``share`` of all hashes."""
    import polars as pl

    salt = blake2b(str(seed).encode(), digest_size=16).digest()
    limit = round(share * 2**64)
    filled = names.fill_null("\0")
    distinct = filled.unique().to_list()
    held = [
        name
        for name in distinct
        if int.from_bytes(blake2b(name.encode(), digest_size=8, key=salt).digest(), "big") < limit
    ]
    return filled.is_in(pl.Series(held, dtype=pl.String).implode())
