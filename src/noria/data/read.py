"""A declared source -> its rows as they are, times parsed; every way a file can be wrong, said clearly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from noria.core.nearest import suggest
from noria.data.sources import Csv, FunctionSource, Parquet, Source
from noria.errors import DataError

if TYPE_CHECKING:
    import polars as pl

__all__ = ["columns_of", "locate", "parse_time", "read"]

_MISSING = ["", "NA", "N/A", "#N/A", "NaN", "nan", "null", "NULL", "None"]
_SEPARATORS = ",;\t|"
_FORMATS = (
    "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d", "%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M", "%Y/%m/%d",
    "%m/%d/%Y %H:%M:%S", "%m/%d/%Y %H:%M", "%m/%d/%Y", "%d/%m/%Y %H:%M:%S", "%d/%m/%Y %H:%M", "%d/%m/%Y",
    "%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M", "%d.%m.%Y", "%d-%b-%Y", "%d %b %Y", "%b %d, %Y", "%Y%m%d",
)  # fmt: skip


def locate(source: Csv | Parquet, folder: Path) -> Path:
    """The source's file; a relative path is relative to the loop file's folder.

    Raises:
        DataError: it is not there, is a folder, or is empty.
    """
    path = Path(source.path)
    path = path if path.is_absolute() else folder / path
    if not path.exists():
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
    if isinstance(source, Csv):
        frame = _read_csv(locate(source, folder))
    elif isinstance(source, Parquet):
        frame = _read_parquet(locate(source, folder))
    elif isinstance(source, FunctionSource):
        from noria.frames.convert import from_any

        found = from_any(call(source.function))
        if not hasattr(found, "columns"):
            raise DataError(f"The source function '{source.name}' must return a table, not a single column.")
        frame = found
    else:
        raise DataError(f"{type(source).__name__} is not a source that can be read.")
    for argument, name in source.named():
        if name not in frame.columns:
            raise DataError(f'The {argument} column "{name}" is not in the data. {suggest(name, frame.columns)}')
    if not frame.height:
        raise DataError("The data have a header but no rows.")
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
        frame = _read_csv(locate(source, folder), rows=1000)
    elif isinstance(source, Parquet):
        path = locate(source, folder)
        try:
            return {name: str(kind) for name, kind in pl.read_parquet_schema(path).items()}
        except (pl.exceptions.PolarsError, OSError) as error:
            raise DataError(f"{path} is not a Parquet file: {_first_line(error)}") from None
    else:
        return None
    return {name: str(kind) for name, kind in frame.schema.items()}


def _read_parquet(path: Path) -> pl.DataFrame:
    import polars as pl

    try:
        return pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path} is not a Parquet file: {_first_line(error)}") from None


def _read_csv(path: Path, rows: int | None = None) -> pl.DataFrame:
    import polars as pl

    try:
        data = path.read_bytes() if rows is None else _head(path, rows)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        if b"\0" in data[:4096]:
            raise DataError(f"{path} is not a text file (byte {error.start} is not text).") from None
        data = data.decode("cp1252", errors="replace").encode()  # what spreadsheets write
    header = data.removeprefix(b"\xef\xbb\xbf").split(b"\n", 1)[0].decode()
    separator = max(_SEPARATORS, key=header.count)
    names = [name.strip().strip('"') for name in header.strip().split(separator)]
    repeated = sorted({name for name in names if names.count(name) > 1 and name})
    if repeated:
        raise DataError(f"{path} has the column {repeated[0]!r} more than once; rename one of them.")
    try:
        frame = pl.read_csv(
            data,
            separator=separator,
            try_parse_dates=True,
            null_values=_MISSING,
            infer_schema_length=None,
        )
    except pl.exceptions.NoDataError:
        raise DataError(f"The data file {path} is empty.") from None
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path} is not a readable CSV file: {_first_line(error)}") from None
    return frame.rename({name: name.strip() for name in frame.columns if name != name.strip()})


def _head(path: Path, rows: int) -> bytes:
    with path.open("rb") as handle:
        return b"".join(line for _, line in zip(range(rows), handle, strict=False))


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:300]


def parse_time(column: pl.Series) -> pl.Series:
    """The column as Datetime (UTC where it names a zone); numbers are seconds since 1970, milliseconds if huge.

    Raises:
        DataError: names rows and values that are not times.
    """
    import polars as pl

    kind = column.dtype
    if isinstance(kind, pl.Datetime):
        return column.dt.convert_time_zone("UTC") if kind.time_zone else column
    if kind == pl.Date:
        return column.cast(pl.Datetime("us"))
    if kind.is_numeric():
        scale = 1_000 if (column.abs().max() or 0) > 1e11 else 1_000_000  # type: ignore[operator]  # numeric
        return (column.cast(pl.Float64).fill_nan(None) * scale).cast(pl.Int64).cast(pl.Datetime("us")).alias(column.name)
    if kind != pl.String:
        raise DataError(f'The time column "{column.name}" holds {kind}, which is not a time.')
    best = _best_format(column)
    bad = best.is_null() & column.is_not_null()
    if bad.any():
        rows = bad.arg_true().to_list()
        shown = ", ".join(f"row {row}: {column[row]!r}" for row in rows[:5])
        raise DataError(
            f'The time column "{column.name}" has {len(rows)} values that are not times ({shown}). '
            "Write times as 2024-05-31 or 2024-05-31 14:05:00, or parse them in a @loop.source function."
        )
    return best


def _best_format(column: pl.Series) -> pl.Series:
    """The column parsed in the one format that fits the most values."""
    import polars as pl

    best = pl.Series(column.name, [None] * column.len(), dtype=pl.Datetime("us"))
    for form in _FORMATS:
        parsed = column.str.strip_chars().str.to_datetime(form, strict=False, time_unit="us")
        if parsed.null_count() < best.null_count():
            best = parsed
        if best.null_count() == column.null_count():
            break
    return best
