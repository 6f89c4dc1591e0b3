"""One digest for one content: names, types, order and values, however the memory is laid out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from blake3 import blake3

from noria.errors import DataError

if TYPE_CHECKING:
    import polars as pl

__all__ = ["frame_digest"]


def frame_digest(frame: pl.DataFrame) -> str:
    """``blake3:<hex>`` over column names, types, row count and values.

    Chunks, slices and unused memory under missing values make no difference; ``-0.0`` and ``0.0`` do.
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
    if isinstance(kind, (pl.Categorical, pl.Enum)) or kind == pl.String:
        _text(hasher, column.cast(pl.String))
    elif kind == pl.Boolean:
        hasher.update(np.packbits(np.asarray(column.fill_null(False).to_numpy())).tobytes())
    elif (kind.is_numeric() and not kind.is_decimal() and kind != pl.Int128) or kind.is_temporal():
        physical = column.to_physical().fill_null(0)
        hasher.update(np.ascontiguousarray(physical.to_numpy()).view(np.uint8).data)
    elif kind == pl.Binary:
        for item in column:
            data = item or b""
            hasher.update(f"{len(data)}:".encode() + data)
    elif kind == pl.Object:
        raise DataError(f"The column '{column.name}' holds Python objects; make them numbers, texts or times.")
    else:
        _text(hasher, column.to_frame("it").select(pl.struct("it").struct.json_encode()).to_series())


def _text(hasher: blake3, column: pl.Series) -> None:
    filled = column.fill_null("")
    lengths = filled.str.len_bytes()
    hasher.update(np.ascontiguousarray(lengths.to_numpy()).view(np.uint8).data)
    hasher.update("".join(filled.to_list()).encode())
