"""One digest for one content: names, types, order and values, however the memory is laid out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from blake3 import blake3

from noria.errors import DataError

if TYPE_CHECKING:
    import polars as pl

__all__ = ["frame_digest"]

_TOO_WIDE = ("Int128", "UInt128")  # NumPy has no such numbers


def frame_digest(frame: pl.DataFrame) -> str:
    """``blake3:<hex>`` over column names, types, row count and values.

    Chunks, slices, unused memory under missing values and the bits of a NaN make no difference; ``-0.0`` and
    ``0.0`` do, and so do NaN and a missing value.
    """
    hasher = blake3(f"noria frame 1\n{frame.height}\n".encode())
    for name in frame.columns:
        column = frame[name]
        hasher.update(f"{len(name.encode())}:{name}:{column.dtype}\n".encode())
        _update(hasher, column)
    return "blake3:" + hasher.hexdigest()


def _update(hasher: blake3, column: pl.Series) -> None:
    import polars as pl

    kind = column.dtype
    missing = column.is_null()
    hasher.update(b"n" if missing.any() else b"-")
    if missing.any():
        hasher.update(np.packbits(np.asarray(missing.to_numpy())).tobytes())
    if kind == pl.Null:
        return
    if isinstance(kind, (pl.Categorical, pl.Enum)) or kind.is_decimal() or kind == pl.String or str(kind) in _TOO_WIDE:
        _text(hasher, column.cast(pl.String))
    elif kind == pl.Boolean:
        hasher.update(np.packbits(np.asarray(column.fill_null(False).to_numpy())).tobytes())
    elif kind.is_numeric() or kind.is_temporal():
        _numbers(hasher, column)
    elif kind == pl.Binary:
        for item in column:
            data = item or b""
            hasher.update(f"{len(data)}:".encode() + data)
    elif kind.is_nested():
        _nested(hasher, column)
    else:
        raise DataError(f"The column '{column.name}' holds Python objects; make them numbers, texts or times.")


def _numbers(hasher: blake3, column: pl.Series) -> None:
    # A NaN has many forms: what 0 / 0 gives has its sign set on one processor and not on another.
    if column.dtype.is_float() and column.is_nan().any():
        column = column.fill_nan(float("nan"))
    physical = column.to_physical().fill_null(0)
    hasher.update(np.ascontiguousarray(physical.to_numpy()).view(np.uint8).data)


def _nested(hasher: blake3, column: pl.Series) -> None:
    """Lists by their lengths and all their items in one column, structs field by field."""
    import polars as pl

    if isinstance(column.dtype, pl.Struct):
        for field in column.dtype.fields:
            inner = column.struct.field(field.name)
            # What stands in a field of a missing struct is nobody's value.
            _update(hasher, inner.set(column.is_null(), None) if column.has_nulls() else inner)
        return
    lists = column.arr.to_list() if isinstance(column.dtype, pl.Array) else column
    lengths = lists.list.len().fill_null(0).cast(pl.UInt64)
    hasher.update(np.ascontiguousarray(lengths.to_numpy()).view(np.uint8).data)
    items = lists.filter(lengths > 0).explode()
    _update(hasher, items)


def _text(hasher: blake3, column: pl.Series) -> None:
    filled = column.fill_null("")
    lengths = filled.str.len_bytes()
    hasher.update(np.ascontiguousarray(lengths.to_numpy()).view(np.uint8).data)
    hasher.update("".join(filled.to_list()).encode())
