"""How a frame is distributed, in a few counts: made once, kept with the model, compared in O(bins).

Numbers and times fall into bins at the reference's quantiles (Sturges-like equal widths would let one outlier
empty all bins), categories into their 50 most frequent levels. Missing values and levels never seen in the
reference have places of their own, so that neither can hide.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from noria.records import ColumnProfile, Profile

if TYPE_CHECKING:
    import polars as pl

__all__ = ["ColumnCounts", "count_into", "profile_frame"]

Counts = NDArray[np.int64]

_BINS = 10
_LEVELS = 50  # levels with a bin of their own
_KNOWN = 1000  # levels remembered, so that a new one is told from a rare one
_BLOCK_ROWS = 200
_BLOCKS = 60


class ColumnCounts(msgspec.Struct, frozen=True):
    """A column counted in a reference's bins.

    Attributes:
        counts: one count a bin, as in the reference.
        new: values of levels the reference never had (0 for numbers).
        missing: missing values.
    """

    name: str
    counts: tuple[int, ...]
    new: int
    missing: int

    @property
    def rows(self) -> int:
        """Rows counted."""
        return sum(self.counts) + self.new + self.missing


def profile_frame(frame: pl.DataFrame, time: str | None = None) -> Profile:
    """The profile of a frame.

    Args:
        frame: the rows.
        time: column that orders the rows for the contiguous blocks; without one they stand as they are.
    """
    if time is not None and frame.height:
        frame = frame.sort(time)
    blocks = min(_BLOCKS, frame.height // _BLOCK_ROWS)
    edges = np.linspace(0, frame.height, blocks + 1).astype(np.int64) if blocks >= 2 else None
    return Profile(rows=frame.height, columns=tuple(_profile(frame[name], edges) for name in frame.columns))


def count_into(profile: Profile, frame: pl.DataFrame) -> tuple[ColumnCounts, ...]:
    """The columns of a frame counted in the profile's bins; columns the frame lacks count as missing."""
    found = []
    for column in profile.columns:
        if column.name in frame.columns:
            codes = _codes(frame[column.name], column)
            counts = np.bincount(codes, minlength=len(column.counts) + 2)
            *bins, new, missing = counts.tolist()
            found.append(ColumnCounts(column.name, tuple(bins), new, missing))
        else:
            found.append(ColumnCounts(column.name, (0,) * len(column.counts), 0, frame.height))
    return tuple(found)


def _kind(column: pl.Series) -> str:
    import polars as pl

    if column.dtype.is_numeric():
        return "number"
    if column.dtype in (pl.Datetime, pl.Date):
        return "time"
    return "boolean" if column.dtype == pl.Boolean else "category"


def _numbers(column: pl.Series) -> NDArray[np.float64]:
    """Values as floats (times as seconds since 1970), missing as NaN."""
    import polars as pl

    if column.dtype in (pl.Datetime, pl.Date):
        column = column.cast(pl.Datetime("us")).to_physical().cast(pl.Float64) / 1e6
    try:
        numbers = column.cast(pl.Float64, strict=False)
    except pl.exceptions.PolarsError:  # lists and the like: none of them is a number
        numbers = pl.Series([None] * column.len(), dtype=pl.Float64)
    return np.asarray(numbers.fill_null(float("nan")).to_numpy(), dtype=np.float64)


def _texts(column: pl.Series) -> pl.Series:
    import polars as pl

    if isinstance(column.dtype, pl.Duration):
        column = column.to_physical()
    if column.dtype == pl.Binary:
        return column.bin.encode("hex")
    if column.dtype.is_nested() and "Binary" in str(column.dtype):  # for which Polars writes no JSON
        return pl.Series(column.name, [None if item is None else repr(item) for item in column.to_list()], pl.String)
    if column.dtype.is_nested():
        text = pl.struct("it").struct.json_encode()
        return column.to_frame("it").select(pl.when(pl.col("it").is_not_null()).then(text)).to_series()
    return column.cast(pl.String, strict=False)


def _profile(column: pl.Series, blocks: Counts | None) -> ColumnProfile:
    kind = _kind(column)
    shape = _number_shape(column, kind) if kind in ("number", "time") else _level_shape(column, kind)
    codes = _codes(column, shape)
    bins = len(shape.counts)
    counts = np.bincount(codes, minlength=bins + 2)
    by_block: tuple[tuple[int, ...], ...] = ()
    if blocks is not None:
        tables = [np.bincount(codes[a:b], minlength=bins + 2) for a, b in pairwise(blocks.tolist())]
        by_block = tuple((*table[:bins].tolist(), int(table[bins + 1])) for table in tables)
    return msgspec.structs.replace(
        shape, counts=tuple(counts[:bins].tolist()), missing=int(counts[bins + 1]), blocks=by_block
    )


def _number_shape(column: pl.Series, kind: str) -> ColumnProfile:
    values = _numbers(column)
    known = values[np.isfinite(values)]
    if not known.size:
        return ColumnProfile(column.name, kind, 0, (0,))
    ordered = np.sort(known)
    changes = np.flatnonzero(ordered[1:] > ordered[:-1])
    distinct = int(changes.size) + 1
    if distinct <= 2 * _BINS:
        edges = ordered[changes]
    else:
        places = (np.arange(1, _BINS) * ordered.size // _BINS).astype(np.int64)
        edges = np.unique(ordered[places - 1])
        edges = edges[edges < ordered[-1]]
    return ColumnProfile(
        column.name,
        kind,
        0,
        (0,) * (edges.size + 1),
        edges=tuple(edges.tolist()),
        distinct=distinct,
        minimum=float(ordered[0]),
        maximum=float(ordered[-1]),
        mean=_mean(known) if kind == "number" else None,
    )


def _mean(values: NDArray[np.float64]) -> float | None:
    with np.errstate(over="ignore"):
        mean = float(values.mean())
    return mean if np.isfinite(mean) else None


def _level_shape(column: pl.Series, kind: str) -> ColumnProfile:
    texts = _texts(column).drop_nulls()
    if not texts.len():
        return ColumnProfile(column.name, kind, 0, (0,))
    table = texts.alias("level").value_counts(name="rows")
    order = ["rows", "level"]
    top = table.top_k(_KNOWN, by=order, reverse=[False, True]).sort(order, descending=[True, False])
    levels = top["level"].to_list()
    return ColumnProfile(
        column.name,
        kind,
        0,
        (0,) * (min(len(levels), _LEVELS) + 1),
        levels=tuple(levels[:_LEVELS]),
        others=tuple(levels[_LEVELS:]),
        distinct=table.height,
    )


def _codes(column: pl.Series, shape: ColumnProfile) -> Counts:
    """The bin of each value; the bin after the last is "new", the one after that "missing"."""
    import polars as pl

    bins = len(shape.counts)
    if shape.kind in ("number", "time"):
        values = _numbers(column)
        codes = np.searchsorted(np.asarray(shape.edges), values, side="left").astype(np.int64)
        codes[np.isnan(values)] = bins + 1
        return codes
    texts = _texts(column)
    known: Sequence[str] = (*shape.levels, *shape.others)
    # With more levels than are remembered an unknown one cannot be told from a rare one: it is an "other".
    fallback = bins if shape.distinct <= _KNOWN else bins - 1
    places = [min(place, bins - 1) for place in range(len(known))]
    if not known:
        return np.where(np.asarray(texts.is_null().to_numpy()), bins + 1, fallback).astype(np.int64)
    codes_text = texts.replace_strict(list(known), places, default=fallback, return_dtype=pl.Int64)
    filled = (
        codes_text.to_frame("c")
        .select(pl.when(pl.Series(texts.is_null())).then(bins + 1).otherwise(pl.col("c")))
        .to_series()
    )
    return np.asarray(filled.to_numpy(), dtype=np.int64)
