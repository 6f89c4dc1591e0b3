"""A source -> DatasetVersion: read, checked, joined with what was served, set aside, digested and stored."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from msgspec.structs import replace

from noria.core.canonical import describe
from noria.core.nearest import suggest
from noria.data.expect import judge, require
from noria.data.rules import Unique
from noria.data.sources import Source
from noria.errors import DataError
from noria.frames.digest import frame_digest
from noria.frames.parquet import schema_of, write_parquet
from noria.frames.profile import profile_frame
from noria.records import DatasetVersion
from noria.store.ports import Blobs

if TYPE_CHECKING:
    import polars as pl

__all__ = ["guess_task", "snapshot"]

_MANY = 20  # more distinct whole numbers than this are quantities, not classes


def snapshot(
    frame: pl.DataFrame,
    source: Source,
    blobs: Blobs,
    *,
    loop: str,
    now: datetime,
    expect: Sequence[object] = (),
    on_failing_rows: str = "quarantine",
    quarantine_at_most: float = 0.1,
    served: pl.DataFrame | None = None,
    previous: DatasetVersion | None = None,
) -> tuple[DatasetVersion, pl.DataFrame]:
    """The dataset version of the rows, and the rows kept.

    Args:
        frame: rows as read from the source.
        source: what was declared about them.
        blobs: where the rows are kept.
        loop: the loop's name.
        now: stamps the version.
        expect: expectations on the rows.
        on_failing_rows: ``quarantine`` or ``stop``.
        quarantine_at_most: the largest share of rows that may be set aside.
        served: labelled rows that were served, same columns; those whose key the source has are left out.
        previous: the loop's last dataset version, to notice a changed schema.

    Raises:
        DataError: the rows cannot be used as declared. Nothing is recorded; a stored blob is harmless.
    """
    if previous is not None:
        _same_schema(frame, previous)
    frame, added = _join(frame, served, source)
    rows = frame.height
    frame = _labelled(frame, source)
    kept, aside, report = judge(frame, expect, source, now)
    require(report, rows, on_failing_rows, quarantine_at_most)
    _unique_key(kept, source, expect)
    _usable_label(kept, source)
    if aside.height:
        report = replace(report, quarantine=blobs.put(write_parquet(aside)))
    data = write_parquet(kept)
    times = kept[source.time] if source.time is not None else None
    version = DatasetVersion(
        id=frame_digest(kept),
        loop=loop,
        created=now,
        blob=blobs.put(data),
        rows=kept.height,
        schema=schema_of(kept),
        source=describe(source),
        profile=profile_frame(kept, time=source.time),
        expectations=report,
        first_time=_moment(times.min()) if times is not None else None,
        last_time=_moment(times.max()) if times is not None else None,
        served_rows=added,
        size_bytes=len(data),
    )
    return version, kept


def guess_task(label: pl.Series, declared: str | None = None) -> str:
    """``binary``, ``multiclass`` or ``regression``: as declared, else from the label's type and values."""
    import polars as pl

    if declared is not None:
        return declared
    distinct = label.drop_nulls().n_unique()
    if distinct <= 2:
        return "binary"
    if label.dtype.is_float():
        whole = bool((label.drop_nulls().fill_nan(None).drop_nulls() % 1 == 0).all())
        return "multiclass" if whole and distinct <= _MANY // 2 else "regression"
    if label.dtype.is_integer():
        return "multiclass" if distinct <= _MANY else "regression"
    if label.dtype in (pl.Date, pl.Datetime, pl.Duration):
        raise DataError(f'The label "{label.name}" holds {label.dtype}; predict a number or a class.')
    return "multiclass"


def _moment(value: object) -> datetime | None:
    if not isinstance(value, datetime):
        return None
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def _same_schema(frame: pl.DataFrame, previous: DatasetVersion) -> None:
    import polars as pl

    now = dict(schema_of(frame))
    problems = []
    for name, before in previous.schema:
        if name in now and not frame[name].count():
            continue
        if name not in now:
            problems.append(f'the column "{name}" ({before}) is gone. {suggest(name, list(now))}')
        elif now[name] != before and not _widened(before, now[name]) and not _was_empty(previous, name):
            seen = frame[name].drop_nulls()
            example = f", e.g. {seen[0]!r}" if seen.len() else ""
            if frame[name].dtype == pl.String and ("Int" in before or "Float" in before):
                odd = seen.filter(seen.cast(pl.Float64, strict=False).is_null())
                example = f", e.g. {odd[0]!r}" if odd.len() else example
            problems.append(f'the column "{name}" was {before} and is now {now[name]}{example}.')
    if problems:
        listed = "\n".join(f"  {problem}" for problem in problems)
        raise DataError(
            f"The data changed shape since version {previous.id[:19]} of {previous.created:%Y-%m-%d}:\n"
            f"{listed}\n"
            "Repair the data, or accept the new shape with --accept-schema."
        )


def _widened(before: str, now: str) -> bool:
    """Whether a number only became wider, or a wholly empty column got a type."""
    numbers = ("Int", "UInt", "Float")
    return before == "Null" or now == "Null" or (before.startswith(numbers) and now.startswith(numbers))


def _was_empty(version: DatasetVersion, name: str) -> bool:
    """Whether nothing was in the column, so that its type meant nothing."""
    column = version.profile.column(name)
    return column is not None and column.missing == version.profile.rows


def _join(frame: pl.DataFrame, served: pl.DataFrame | None, source: Source) -> tuple[pl.DataFrame, int]:
    """The source's rows, then the served ones it does not have yet."""
    import polars as pl

    if served is None or not served.height or source.key is None:
        return frame, 0
    known = frame[source.key].cast(pl.String)
    fresh = served.filter(~pl.col(source.key).cast(pl.String).is_in(known.implode()))
    return pl.concat([frame, fresh.select(frame.columns)], how="vertical_relaxed"), fresh.height


def _labelled(frame: pl.DataFrame, source: Source) -> pl.DataFrame:
    """Rows whose label is known: a missing label is a row that cannot be learnt from yet."""
    if source.label is None:
        raise DataError("The source declares no label: give it label=…, the column to predict.")
    label = frame[source.label]
    if label.dtype.is_float():
        endless = label.is_infinite().fill_null(False)
        if endless.any():
            rows = endless.arg_true().to_list()
            raise DataError(f'The label "{source.label}" is infinite in {len(rows)} rows (row {rows[0]} first).')
        label = label.fill_nan(None)
    known = label.is_not_null()
    if not known.any():
        raise DataError(f'The label "{source.label}" is missing in every row.')
    return frame if known.all() else frame.filter(known)


def _usable_label(frame: pl.DataFrame, source: Source) -> None:
    label = frame[source.label or ""]
    if label.n_unique() < 2:
        value = label[0] if label.len() else "nothing"
        raise DataError(
            f'The label "{source.label}" is {value!r} in all {label.len()} rows; there is nothing to learn from it.'
        )


def _unique_key(frame: pl.DataFrame, source: Source, expect: Sequence[object]) -> None:
    if source.key is None:
        return
    key = frame[source.key]
    gone = key.is_null()
    if gone.any():
        rows = gone.arg_true().to_list()
        shown = ", ".join(map(str, rows[:5]))
        raise DataError(
            f'The key "{source.key}" is missing in {len(rows)} rows (rows {shown}). '
            f'Fill it, or set such rows aside with expect=(NotMissing("{source.key}"),).'
        )
    repeats = ~key.is_first_distinct()
    if repeats.any():
        values = key.filter(repeats).unique(maintain_order=True).to_list()
        shown = ", ".join(repr(value) for value in values[:5])
        asked = any(isinstance(rule, Unique) and rule.column == source.key for rule in expect)
        hint = "" if asked else f' Or set repeats aside with expect=(Unique("{source.key}"),).'
        raise DataError(
            f'The key "{source.key}" repeats in {int(repeats.sum())} rows ({shown}). A key names one row: '
            f"choose another column, or remove the repeats.{hint}"
        )
