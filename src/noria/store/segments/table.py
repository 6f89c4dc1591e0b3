"""Predictions as a table: blocks to columns and rows of columns back to predictions.

Columns are ``sequence`` (dense, in order of arrival), ``id``, ``at``, ``version``, ``model_digest``, ``role``,
``key``, ``latency_us``, ``error``, ``trace``, then ``feature_NAME`` for each field of the record, ``prediction``,
``answered`` and one ``probabilities`` list. A column keeps one type for ever: values of another type go to a column
of the same name with the type behind two underscores (``feature_age__text``), as do those of a field whose own name
ends so.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC
from typing import TYPE_CHECKING, Any

import numpy as np

from noria.store.kinds import Prediction
from noria.store.segments.rows import ids_of
from noria.store.segments.writer import Block

if TYPE_CHECKING:
    import polars as pl

__all__ = ["FIXED", "frame_of", "predictions_of_frame", "settle"]

FIXED = ("sequence", "id", "at", "version", "model_digest", "role", "key", "latency_us", "error", "trace")


def frame_of(blocks: Sequence[tuple[int, str, Block]], loop: str) -> pl.DataFrame:
    """The blocks of a loop as one frame, in order.

    Args:
        blocks: first sequence, id of the first row, and block.
        loop: whose they are.
    """
    import polars as pl

    alike: dict[tuple[Any, ...], list[tuple[int, str, Block]]] = {}
    last, kind, group = None, None, list[tuple[int, str, Block]]()
    for one in blocks:
        block = one[2]
        if (
            last is None
            or block.names is not last.names
            or block.classes is not last.classes
            or block.digest is not last.digest
            or block.role is not last.role
            or block.version != last.version
            or block.columns.keys() != last.columns.keys()
        ):
            kind = (block.version, block.digest, block.role, block.names, block.classes, tuple(block.columns))
            group = alike.setdefault(kind, [])
            last = block
        group.append(one)
    frames: list[pl.DataFrame] = []
    schema: dict[str, str] = {}
    for group in alike.values():
        frames.append(settle(_alike(group), schema))
        for name, dtype in frames[-1].schema.items():
            schema.setdefault(name, str(dtype))
    whole = pl.concat(frames, how="diagonal") if len(frames) > 1 else frames[0]
    return whole.sort("sequence")


def _alike(group: Sequence[tuple[int, str, Block]]) -> pl.DataFrame:
    """Blocks of one layout."""
    import polars as pl

    first = group[0][2]
    counts = np.array([block.rows for _, _, block in group])
    rows = int(counts.sum())

    whose = np.repeat(np.arange(len(group)), counts)

    def numbers_of(values: Iterable[int]) -> pl.Series:
        return pl.Series(np.array(list(values), dtype=np.int64)[whose])

    def texts_of(values: Iterable[str | None]) -> pl.Series:
        return pl.Series(list(values), dtype=pl.String).gather(whose)

    starts = np.array([sequence for sequence, _, _ in group])
    within = np.arange(rows) - np.repeat(np.cumsum(counts) - counts, counts)
    keys = [key for _, _, block in group for key in (block.keys or [None] * block.rows)]
    columns: dict[str, pl.Series] = {
        "sequence": pl.Series(np.repeat(starts, counts) + within, dtype=pl.Int64),
        "id": pl.Series([made for _, at, block in group for made in (block.ids or ids_of(at, block.rows))]),
        "at": numbers_of(block.at_us for _, _, block in group).cast(pl.Datetime("us", "UTC")),
        "version": pl.Series([first.version], dtype=pl.Int32).new_from_index(0, rows),
        "model_digest": pl.Series([first.digest], dtype=pl.String).new_from_index(0, rows),
        "role": pl.Series([first.role], dtype=pl.String).new_from_index(0, rows),
        "key": pl.Series(keys, dtype=pl.String),
        "latency_us": numbers_of(block.latency_us for _, _, block in group).cast(pl.Int32, strict=False),
        "error": texts_of(block.error for _, _, block in group),
        "trace": texts_of(block.trace for _, _, block in group),
    }
    if first.names:
        numbers = np.frombuffer(b"".join(block.matrix for _, _, block in group), dtype="<f8").reshape(rows, -1)
        for place, name in enumerate(first.names):
            column = _column(f"feature_{name}", "number")
            columns[column] = pl.Series(np.ascontiguousarray(numbers[:, place]), nan_to_null=True)
    for name in first.columns:
        typed = _typed(f"feature_{name}", [value for _, _, block in group for value in block.columns[name]])
        if name in first.names:  # exact values beside the matrix's
            typed = {
                column if column.endswith("__json") else f"feature_{name}__exact": values
                for column, values in typed.items()
            }
        columns |= typed
    values = [value for _, _, block in group for value in (block.values or [None] * block.rows)]
    columns |= _typed("prediction", values)
    if any(block.answered for _, _, block in group):
        given = [value for _, _, block in group for value in (block.answered or [None] * block.rows)]
        columns |= _typed("answered", given)
    if any(block.probabilities is not None for _, _, block in group):
        columns["probabilities"] = _shares(group, rows)
    return pl.DataFrame([column.alias(name) for name, column in columns.items()])


def _shares(group: Sequence[tuple[int, str, Block]], rows: int) -> pl.Series:
    """The probabilities of blocks of one layout, null where there are none."""
    import polars as pl

    given = [(block.probabilities, block.rows) for _, _, block in group]
    width = next(len(found) // 8 // count for found, count in given if found is not None)
    numbers = b"".join(bytes(8 * width * count) if found is None else found for found, count in given)
    shares = pl.Series(np.frombuffer(numbers, dtype="<f8").reshape(rows, width)).cast(pl.List(pl.Float64))
    if all(found is not None for found, _ in given):
        return shares
    there = pl.Series(np.repeat([found is not None for found, _ in given], [count for _, count in given]))
    return pl.select(pl.when(there).then(shares)).to_series()


def _typed(name: str, values: list[Any]) -> dict[str, pl.Series]:
    """Plain values as a column of their type."""
    import polars as pl

    kinds = set(map(type, values)) - {type(None)}
    if not kinds:
        return {}  # nothing says which type the column is to have
    if kinds <= {bool}:
        return {_column(name, "truth"): pl.Series(values, dtype=pl.Boolean)}
    if kinds <= {int} and all(value is None or -(2**63) <= value < 2**63 for value in values):
        return {_column(name, "whole"): pl.Series(values, dtype=pl.Int64)}
    if kinds <= {float}:
        return {_column(name, "number"): pl.Series(values, dtype=pl.Float64)}
    if kinds <= {str}:
        return {_column(name, "text"): pl.Series(values, dtype=pl.String)}
    texts = [None if value is None else json.dumps(value) for value in values]
    return {f"{name}__json": pl.Series(texts, dtype=pl.String)}


_NAMES = {"Boolean": "truth", "Int64": "whole", "Float64": "number", "String": "text"}
_KINDS = frozenset((*_NAMES.values(), "json", "exact"))


def _column(name: str, kind: str) -> str:
    """The column for values of a type: the name itself, unless its end would be taken for a type."""
    return f"{name}__{kind}" if _split(name)[1] else name


def _split(column: str) -> tuple[str, str]:
    """A column's name without the type it may end with, and that type."""
    name, _, kind = column.rpartition("__")
    return (name, kind) if kind in _KINDS else (column, "")


def settle(frame: pl.DataFrame, schema: Mapping[str, str]) -> pl.DataFrame:
    """The frame with columns of the types a table has already: what differs gets a column of its own.

    Args:
        frame: new rows.
        schema: the table's columns and their Polars types.
    """
    import polars as pl

    columns = []
    for column in frame.iter_columns():
        kept, kind = schema.get(column.name), str(column.dtype)
        if kept is None or kept == kind or column.name in FIXED or column.name == "probabilities":
            columns.append(column)
        elif column.null_count() == len(column):
            columns.append(pl.Series(column.name, [None], dtype=getattr(pl, kept)()).new_from_index(0, len(column)))
        else:
            columns.append(column.alias(f"{_split(column.name)[0]}__{_NAMES[kind]}"))
    return pl.DataFrame(columns)


def predictions_of_frame(frame: pl.DataFrame, loop: str) -> list[tuple[int, Prediction]]:
    """Rows of the table as predictions with their sequences."""
    fields: dict[str, list[tuple[str, bool]]] = {}  # by the name in the record: columns, exact ones first
    for column in frame.columns:
        base, kind = _split(column)
        if base.startswith("feature_") or base in ("prediction", "answered"):
            fields.setdefault(base, []).append((column, kind == "json"))
    for given in fields.values():
        given.sort(key=lambda one: one[0], reverse=True)  # exact and typed ones before the plain one
    found = []
    for row in frame.iter_rows(named=True):
        values = {base: _value(row, given) for base, given in fields.items()}
        record = {base.removeprefix("feature_"): value for base, value in values.items() if base.startswith("feature_")}
        found.append(
            (
                row["sequence"],
                Prediction(
                    id=row["id"],
                    loop=loop,
                    at=row["at"].astimezone(UTC),
                    version=row["version"],
                    model_digest=row["model_digest"],
                    role=row["role"],
                    record=record,
                    value=values.get("prediction"),
                    probabilities=row.get("probabilities"),
                    key=row["key"],
                    latency_us=row["latency_us"],
                    error=row["error"],
                    answered=values.get("answered"),
                    trace=row["trace"],
                ),
            )
        )
    return found


def _value(row: Mapping[str, Any], given: Sequence[tuple[str, bool]]) -> Any:
    for column, coded in given:
        value = row[column]
        if value is not None:
            return json.loads(value) if coded else value
    return None
