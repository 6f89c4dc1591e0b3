"""Feature rows as models and graphs take them, and rows made to find where the two part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from noria.frames.convert import to_kind
from noria.records import MISSING_TEXT

if TYPE_CHECKING:
    import polars as pl

__all__ = ["as_feed", "as_frame", "extremes", "strange", "without"]

_LARGE = 1e30
_ROUND = 1e6
_WHOLE = 2**53


def as_frame(rows: pl.DataFrame, frame: str) -> Any:
    """The rows as the model is handed them."""
    if frame == "ndarray":
        return rows.to_numpy()
    return to_kind(rows, frame)  # type: ignore[arg-type]


def as_feed(rows: pl.DataFrame, texts: Sequence[bool], *, matrix: bool) -> dict[str, NDArray[Any]]:
    """The rows as the graph takes them: NaN for a missing number, `MISSING_TEXT` for a missing text."""
    import polars as pl

    if matrix and not any(texts):
        return {"x": np.ascontiguousarray(rows.cast(pl.Float64).fill_null(float("nan")).to_numpy())}
    found: dict[str, NDArray[Any]] = {}
    for name, text in zip(rows.columns, texts, strict=True):
        if text:
            values = rows[name].cast(pl.String).fill_null(MISSING_TEXT).to_list()
            found[name] = np.array(values, dtype=object).reshape(-1, 1)
        else:
            numbers = rows[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()
            found[name] = np.ascontiguousarray(numbers).reshape(-1, 1)
    return {"x": np.hstack(list(found.values()))} if matrix else found


def without(rows: pl.DataFrame, name: str) -> pl.DataFrame:
    """The rows with one value missing."""
    import polars as pl

    return rows.with_columns(pl.lit(None, dtype=rows.schema[name]).alias(name))


def strange(rows: pl.DataFrame, name: str) -> pl.DataFrame:
    """The rows with a text that is empty, and with one never seen."""
    import polars as pl

    kind = rows.schema[name]
    if isinstance(kind, pl.Enum):
        return rows.clear()
    odd = [pl.lit(text).cast(kind).alias(name) for text in ("", "never seen before")]
    return pl.concat([rows.with_columns(one) for one in odd])


def extremes(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows of each feature's smallest, largest and far larger values, alone and mixed."""
    import polars as pl

    draw = np.random.default_rng(0)
    pick = np.vstack([np.full((7, rows.width), 0) + np.arange(7)[:, None], draw.integers(0, 7, (25, rows.width))])
    columns = []
    for place, (name, kind) in enumerate(rows.schema.items()):
        known = rows[name].drop_nulls()
        if kind.is_float():
            known = known.filter(known.is_finite())
        if not kind.is_numeric():
            values = known.unique(maintain_order=True).head(7).to_list() or [None]
            columns.append(pl.Series(name, [values[n % len(values)] for n in pick[:, place]], dtype=kind))
            continue
        low, high = (known.min(), known.max()) if len(known) else (0, 1)
        bounds = _bounds(kind)
        wide = [low, high, 0, bounds[0], bounds[1], low, high]
        numbers = [wide[n] for n in pick[:, place]]
        columns.append(pl.Series(name, numbers, dtype=pl.Float64 if kind.is_float() else kind, strict=False).cast(kind))
    return pl.DataFrame(columns)


def _bounds(kind: pl.DataType) -> tuple[float, float]:
    """Numbers that are large for the type, and that no library rounds away."""
    if kind.is_float():
        return -_LARGE, _LARGE
    if kind.is_decimal():
        return -_ROUND, _ROUND
    bits = int(str(kind).lstrip("UInt"))
    if kind.is_signed_integer():
        return max(-(2 ** (bits - 1)), -_WHOLE), min(2 ** (bits - 1) - 1, _WHOLE)
    return 0, min(2**bits - 1, _WHOLE)
