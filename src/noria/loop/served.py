"""Rows that were served and whose label is known by now, as rows of the source."""

from __future__ import annotations

from typing import TYPE_CHECKING

from noria.data.sources import Source
from noria.frames.parquet import cast_records, dtype_of
from noria.records import Field
from noria.store.ports import PredictionLog

if TYPE_CHECKING:
    import polars as pl

__all__ = ["served_rows"]


def served_rows(log: PredictionLog, loop: str, source: Source, like: pl.DataFrame) -> pl.DataFrame | None:
    """Labelled served rows with the columns and types of ``like``; None when there are none.

    Of several labels for one key the last to arrive counts. Records that do not fit the columns any more are
    left out.
    """
    import polars as pl

    if not source.served or source.key is None or source.label is None:
        return None
    latest: dict[str, tuple[dict[str, object], object]] = {}
    for one in log.labelled(loop, limit=None):
        if one.prediction.key is not None:
            latest[one.prediction.key] = (one.prediction.record, one.value)
    if not latest:
        return None
    fields = [Field(name, str(kind), required=False) for name, kind in like.schema.items() if name != source.label]
    records = [record for record, _ in latest.values()]
    rows = cast_records(records, fields, extra={name for record in records[:1000] for name in record})
    label = pl.Series(source.label, [value for _, value in latest.values()], strict=False)
    label = label.cast(dtype_of(str(like.schema[source.label])), strict=False)
    return rows.with_columns(label).select(like.columns)
