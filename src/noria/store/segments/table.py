"""Predictions as a table: blocks to columns and rows of columns back to predictions.

Columns are ``sequence`` (dense, in order of arrival), ``id``, ``at``, ``version``, ``model_digest``, ``role``,
``key``, ``latency_us``, ``error``, ``trace``, then ``feature_NAME`` for each field of the record, ``prediction``,
``answered`` and one ``probabilities`` list. A column keeps one type for ever: values of another type go to a column
of the same name with the type behind two underscores (``feature_age__text``).
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
_TYPES = ("number", "whole", "truth", "text", "json")


def frame_of(blocks: Sequence[tuple[int, str, Block]], loop: str) -> pl.DataFrame:
    """The blocks of a loop as one frame, in order.

    Args:
        blocks: first sequence, id of the first row, and block.
        loop: whose they are.
    """
    import polars as pl

    alike: dict[tuple[Any, ...], list[tuple[int, str, Block]]] = {}
    for one in blocks:
        block = one[2]
        kind = (block.version, block.digest, block.role, block.names, block.classes, tuple(block.columns))
        alike.setdefault(kind, []).append(one)
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

    def each(values: Iterable[Any], dtype: Any = None) -> pl.Series:
        return pl.Series(np.repeat(np.array(list(values), dtype=dtype), counts))

    starts = np.array([sequence for sequence, _, _ in group])
    within = np.arange(rows) - np.repeat(np.cumsum(counts) - counts, counts)
    keys = [key for _, _, block in group for key in (block.keys or [None] * block.rows)]
    columns: dict[str, pl.Series] = {
        "sequence": pl.Series(np.repeat(starts, counts) + within, dtype=pl.Int64),
        "id": pl.Series([made for _, at, block in group for made in (block.ids or ids_of(at, block.rows))]),
        "at": each((block.at_us for _, _, block in group), np.int64).cast(pl.Datetime("us", "UTC")),
        "version": pl.Series([first.version], dtype=pl.Int32).new_from_index(0, rows),
        "model_digest": pl.Series([first.digest], dtype=pl.String).new_from_index(0, rows),
        "role": pl.Series([first.role], dtype=pl.String).new_from_index(0, rows),
        "key": pl.Series(keys, dtype=pl.String),
        "latency_us": each((block.latency_us for _, _, block in group), np.int64).cast(pl.Int32, strict=False),
        "error": pl.Series([block.error for _, _, block in group for _ in range(block.rows)], dtype=pl.String),
        "trace": pl.Series([block.trace for _, _, block in group for _ in range(block.rows)], dtype=pl.String),
    }
    if first.names:
        numbers = np.frombuffer(b"".join(block.matrix for _, _, block in group), dtype="<f8").reshape(rows, -1)
        for place, name in enumerate(first.names):
            columns[f"feature_{name}"] = pl.Series(np.ascontiguousarray(numbers[:, place]), nan_to_null=True)
    for name in first.columns:
        typed = _typed(f"feature_{name}", [value for _, _, block in group for value in block.columns[name]])
        taken = f"feature_{name}" in columns  # exact values beside the matrix's
        columns |= {f"{column}__exact" if taken else column: values for column, values in typed.items()}
    values = [value for _, _, block in group for value in (block.values or [None] * block.rows)]
    columns |= _typed("prediction", values)
    if any(block.answered for _, _, block in group):
        given = [value for _, _, block in group for value in (block.answered or [None] * block.rows)]
        columns |= _typed("answered", given)
    if any(block.probabilities is not None for _, _, block in group):
        shares = [row for _, _, block in group for row in _shares(block)]
        columns["probabilities"] = pl.Series(shares, dtype=pl.List(pl.Float64))
    return pl.DataFrame([column.alias(name) for name, column in columns.items()])


def _shares(block: Block) -> list[list[float] | None]:
    if block.probabilities is None:
        return [None] * block.rows
    return list(np.frombuffer(block.probabilities, dtype="<f8").reshape(block.rows, -1).tolist())


def _typed(name: str, values: list[Any]) -> dict[str, pl.Series]:
    """Plain values as a column of their type."""
    import polars as pl

    kinds = set(map(type, values)) - {type(None)}
    if not kinds:
        return {}  # nothing says which type the column is to have
    if kinds <= {bool}:
        return {name: pl.Series(values, dtype=pl.Boolean)}
    if kinds <= {int} and all(value is None or -(2**63) <= value < 2**63 for value in values):
        return {name: pl.Series(values, dtype=pl.Int64)}
    if kinds <= {float}:
        return {name: pl.Series(values, dtype=pl.Float64)}
    if kinds <= {str}:
        return {name: pl.Series(values, dtype=pl.String)}
    texts = [None if value is None else json.dumps(value) for value in values]
    return {f"{name}__json": pl.Series(texts, dtype=pl.String)}


_NAMES = {"Boolean": "truth", "Int64": "whole", "Float64": "number", "String": "text"}


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
            columns.append(column.alias(f"{column.name}__{_NAMES[kind]}"))
    return pl.DataFrame(columns)


def predictions_of_frame(frame: pl.DataFrame, loop: str) -> list[tuple[int, Prediction]]:
    """Rows of the table as predictions with their sequences."""
    fields: dict[str, list[tuple[str, bool]]] = {}  # by the name in the record: columns, exact ones first
    for column in frame.columns:
        base, _, kind = column.partition("__")
        if kind not in (*_NAMES.values(), "json", "exact"):
            base, kind = column, ""
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
