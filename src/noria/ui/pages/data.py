"""Dataset versions: the table, and one version with its profile and expectation report."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

import msgspec

from noria.errors import NotFound
from noria.records import ColumnProfile, DatasetVersion
from noria.ui import format as say
from noria.ui.ask import PAGE, Ask, href
from noria.ui.draw import Bar, bars


class DatasetRow(msgspec.Struct, frozen=True):
    """One line of the datasets table."""

    id: str
    href: str
    created: datetime
    rows: int
    served_rows: int
    first_time: datetime | None
    last_time: datetime | None
    size_bytes: int
    expectations: int
    broken: int
    quarantined: int


class DataPage(msgspec.Struct, frozen=True):
    """The loop's dataset versions."""

    title: str
    loop: str
    rows: list[DatasetRow]
    older: str | None


class ColumnCard(msgspec.Struct, frozen=True):
    """One column: its type, a histogram and the figures beside it."""

    name: str
    type: str
    kind: str
    bars: list[Bar]
    missing: float
    distinct: int
    range: str
    mean: float | None


class DatasetPage(msgspec.Struct, frozen=True):
    """One dataset version."""

    title: str
    loop: str
    dataset: DatasetVersion
    columns: list[ColumnCard]


def data(ask: Ask) -> DataPage:
    """The loop's dataset versions, newest first."""
    loop = ask.loop().name
    found = ask.db.list(DatasetVersion, limit=PAGE + 1, loop=loop, after=ask.moment("after"))
    rows = [_row(loop, dataset) for dataset in found[:PAGE]]
    older = href("loops", loop, "data", after=found[PAGE - 1].created.isoformat()) if len(found) > PAGE else None
    return DataPage(f"Data of {loop}", loop, rows, older)


def _row(loop: str, dataset: DatasetVersion) -> DatasetRow:
    results = dataset.expectations.results
    return DatasetRow(
        id=dataset.id,
        href=href("loops", loop, "data", dataset.id),
        created=dataset.created,
        rows=dataset.rows,
        served_rows=dataset.served_rows,
        first_time=dataset.first_time,
        last_time=dataset.last_time,
        size_bytes=dataset.size_bytes,
        expectations=len(results),
        broken=sum(not result.passed for result in results),
        quarantined=dataset.expectations.quarantined,
    )


def dataset(ask: Ask) -> DatasetPage:
    """One dataset version."""
    loop = ask.loop().name
    found = ask.db.find(DatasetVersion, id=ask.path["id"], loop=loop)
    if found is None:
        raise NotFound(f"Loop '{loop}' has no dataset version '{ask.path['id'][:80]}'.")
    types = dict(found.schema)
    columns = [column_card(column, found.profile.rows, types.get(column.name, "")) for column in found.profile.columns]
    return DatasetPage(f"Dataset {say.short(found.id)} of {loop}", loop, found, columns)


def column_card(column: ColumnProfile, rows: int, dtype: str) -> ColumnCard:
    """A column's card."""
    labels = bin_labels(column)
    shown = min(len(labels), len(column.counts))
    if column.kind in ("number", "time"):
        span = f"{bound(column, column.minimum)} to {bound(column, column.maximum)}"
    else:
        span = ", ".join(column.levels[:4]) + (" …" if len(column.levels) > 4 else "")
    return ColumnCard(
        name=column.name,
        type=dtype,
        kind=column.kind,
        bars=bars(column.counts[:shown], labels[:shown]),
        missing=column.missing / rows if rows else 0.0,
        distinct=column.distinct,
        range=span,
        mean=column.mean,
    )


def bin_labels(column: ColumnProfile) -> list[str]:
    """What each bin of a column holds, for a person."""
    if column.kind not in ("number", "time"):
        return [*column.levels, "other"]
    if not column.edges:
        return ["all"]
    edges = [bound(column, edge) for edge in column.edges]
    between = [f"{low} to {high}" for low, high in pairwise(edges)]
    return [f"up to {edges[0]}", *between, f"over {edges[-1]}"]


def bound(column: ColumnProfile, value: float | None) -> str:
    """An edge of a column, as a date where the column holds times."""
    if value is None or column.kind != "time":
        return say.number(value)
    try:
        return say.day(datetime.fromtimestamp(value, UTC))
    except (OverflowError, ValueError, OSError):
        return say.number(value)
