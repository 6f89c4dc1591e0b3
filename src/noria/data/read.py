"""A declared source -> its rows as they are, times parsed; every way a file can be wrong, said clearly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from noria.core.nearest import suggest
from noria.data.csv import first_line, read_csv
from noria.data.sources import Csv, FunctionSource, Parquet, Source
from noria.data.times import parse_time as parse_time
from noria.errors import DataError

if TYPE_CHECKING:
    import polars as pl

__all__ = ["columns_of", "locate", "parse_time", "read"]


def locate(source: Csv | Parquet, folder: Path) -> Path:
    """The source's file; a relative path is relative to the loop file's folder.

    Raises:
        DataError: it is not there, is a folder, or is empty.
    """
    path = Path(source.path)
    path = path if path.is_absolute() else folder / path
    try:
        missing = not path.exists()
    except OSError as error:
        raise DataError(f"The data file {str(path)[:200]} cannot be read: {error.strerror}.") from None
    if missing:
        beside = [p.name for p in path.parent.iterdir() if p.is_file()] if path.parent.is_dir() else []
        raise DataError(f"The data file {path} does not exist. {suggest(path.name, beside) if beside else ''}".strip())
    if path.is_dir():
        raise DataError(f"The data file {path} is a folder; give a file.")
    if path.stat().st_size == 0:
        raise DataError(f"The data file {path} is empty.")
    return path


def read(source: Source, folder: Path, call: Callable[[Callable[..., object]], object]) -> pl.DataFrame:
    """The rows of a source, with its time column as a Datetime.

    Args:
        source: where from.
        folder: the loop file's folder.
        call: runs the user's source function and returns its table (it knows the knobs and names faults).

    Raises:
        DataError: says what is wrong, in which rows, and what to do.
    """
    import polars as pl

    if isinstance(source, Csv):
        frame = read_csv(locate(source, folder))
    elif isinstance(source, Parquet):
        frame = _read_parquet(locate(source, folder))
    elif isinstance(source, FunctionSource):
        from noria.frames.convert import from_any

        found = from_any(call(source.function))
        if isinstance(found, pl.Series):
            raise DataError(f"The source function '{source.name}' must return a table, not a single column.")
        frame = found
    else:
        raise DataError(f"{type(source).__name__} is not a source that can be read.")
    for argument, name in source.named():
        if name not in frame.columns:
            raise DataError(f'The {argument} column "{name}" is not in the data. {suggest(name, frame.columns)}')
    if not frame.height:
        raise DataError("The data have a header but no rows.")
    frame = _tidy(frame)
    if source.time is not None:
        frame = frame.with_columns(parse_time(frame[source.time]))
    return frame


def columns_of(source: Source, folder: Path) -> dict[str, str] | None:
    """Column names and types without reading the whole file; None when only running code could tell.

    Raises:
        DataError: the file is missing or unreadable.
    """
    import polars as pl

    if isinstance(source, Csv):
        frame = read_csv(locate(source, folder), rows=1000)
    elif isinstance(source, Parquet):
        path = locate(source, folder)
        try:
            schema = pl.scan_parquet(path, glob=False).collect_schema()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise DataError(f"{path} is not a Parquet file: {first_line(error)}") from None
        frame = pl.DataFrame(schema=schema)
    else:
        return None
    return {name: str(kind) for name, kind in _tidy(frame).schema.items()}


def _read_parquet(path: Path) -> pl.DataFrame:
    import polars as pl

    try:
        return pl.read_parquet(path, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path} is not a Parquet file: {first_line(error)}") from None


def _tidy(frame: pl.DataFrame) -> pl.DataFrame:
    """Only types that a request in JSON can carry too: NaN is missing, levels are text, decimals are floats.

    Raises:
        DataError: a column holds Python objects.
    """
    import polars as pl

    changes: list[pl.Expr] = []
    for name, kind in frame.schema.items():
        column = pl.col(name)
        if kind.is_float():
            changes.append(column.fill_nan(None))
        elif kind.is_decimal():
            changes.append(column.cast(pl.Float64))
        elif isinstance(kind, (pl.Categorical, pl.Enum, pl.Null)) or kind == pl.Int128:
            changes.append(column.cast(pl.String))
        elif kind == pl.Object:
            raise DataError(f'The column "{name}" holds Python objects; make them numbers, texts or times.')
    return frame.with_columns(changes) if changes else frame
