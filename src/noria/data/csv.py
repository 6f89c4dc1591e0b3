"""A CSV file as people have them -> its rows: any separator, encoding and way to write a missing value."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING

from noria.errors import DataError

if TYPE_CHECKING:
    import polars as pl

__all__ = ["first_line", "read_csv"]

_MISSING = ["", "NA", "N/A", "#N/A", "NaN", "nan", "null", "NULL", "None", "?"]
_SEPARATORS = ",;\t|"
_LONG_NUMBER = r"^[+-]?\d{19,}$"  # a name written in digits: as a number it would lose some


def read_csv(path: Path, rows: int | None = None) -> pl.DataFrame:
    """The file's rows, or its first ``rows`` lines.

    Raises:
        DataError: it cannot be read as a table; says why.
    """
    try:
        data = path.read_bytes() if rows is None else _head(path, rows)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    data = _in_utf8(data, path)
    if b"\n" not in data:
        data = data.replace(b"\r", b"\n")  # as an old Macintosh wrote
    separator = _separator(data)
    stripped = [name.strip() for name in _names(data, separator)]
    repeated = sorted({name for name in stripped if stripped.count(name) > 1 and name})
    if repeated:
        raise DataError(f"{path} has the column {repeated[0]!r} more than once; rename one of them.")
    if rows is not None:
        try:
            return _parse(data, separator, path)
        except DataError:  # the cut may have gone through a quoted text
            return read_csv(path)
    return _parse(data, separator, path)


def _names(data: bytes, separator: str) -> list[str]:
    head = io.StringIO(data[:1_000_000].decode(errors="ignore"), newline="")
    try:
        return next(csv.reader(head, delimiter=separator), [])
    except csv.Error:  # the reader will say what is wrong with it
        return []


def first_line(error: Exception) -> str:
    """What a library's error says, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _head(path: Path, rows: int) -> bytes:
    with path.open("rb") as handle:
        return b"".join(line for _, line in zip(range(rows), handle, strict=False))


def _in_utf8(data: bytes, path: Path) -> bytes:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        try:
            return data[: len(data) // 2 * 2].decode("utf-16").encode()
        except UnicodeDecodeError:
            raise DataError(f"{path} is not a text file.") from None
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        if b"\0" in data[:4096]:
            raise DataError(f"{path} is not a text file (byte {error.start} is not text).") from None
        return data.decode("cp1252", errors="replace").encode()  # what spreadsheets write
    return data.removeprefix(b"\xef\xbb\xbf")


def _separator(data: bytes) -> str:
    """The character that stands most often in the header, outside of quotes."""
    header = re.sub(r'"[^"]*"', "", data[:1_000_000].decode(errors="ignore")).split("\n", 1)[0]
    return max(_SEPARATORS, key=header.count)


def _parse(data: bytes, separator: str, path: Path) -> pl.DataFrame:
    import polars as pl

    frame: pl.DataFrame | None = None
    problem: Exception | None = None
    for infer in (True, False):  # the second time as text: a number may be too long for any type
        try:
            frame = pl.read_csv(
                data,
                separator=separator,
                try_parse_dates=infer,
                null_values=_MISSING,
                infer_schema=infer,
                infer_schema_length=None,
            )
            break
        except pl.exceptions.NoDataError:
            raise DataError(f"The data file {path} is empty.") from None
        except pl.exceptions.PolarsError as error:
            problem = problem or error
    if frame is None:
        raise DataError(f"{path} is not a readable CSV file: {_reason(data, separator, problem)}") from None
    names = [name.strip() for name in frame.columns]
    if len(set(names)) < len(names):
        raise DataError(f"{path} has two columns of one name, or two without a name; name them apart.")
    frame.columns = names
    return frame.with_columns(_retyped(frame[name], separator) for name, k in frame.schema.items() if k == pl.String)


def _reason(data: bytes, separator: str, error: Exception | None) -> str:
    """The row that has too many values, if that is it; else what the reader said."""
    lines = csv.reader(io.StringIO(data.decode(errors="replace"), newline=""), delimiter=separator)
    try:
        wanted = len(next(lines, []))
        for line in lines:
            if len(line) > wanted:
                return f"line {lines.line_num} has {len(line)} values, the header {wanted}."
    except csv.Error as odd:
        return f"line {lines.line_num}: {odd}."
    return first_line(error) if error is not None else "no reason is known."


def _retyped(column: pl.Series, separator: str) -> pl.Series:
    """A text column without the space after its separators, and as numbers if all of it are numbers."""
    import polars as pl

    if not column.len() or column.null_count() == column.len():
        return column
    if column.str.starts_with(" ").all():
        column = column.str.strip_chars()
        column = column.set(column.is_in(_MISSING).fill_null(False), None)
    if column.str.contains(_LONG_NUMBER).any():
        return column
    plain = column
    if separator == ";" and column.str.contains(r"^\s*[+-]?\d+(,\d+)?\s*$").all():
        plain = column.str.replace(",", ".", literal=True)
    for kind in (pl.Int64, pl.Float64):
        numbers = plain.str.strip_chars().cast(kind, strict=False)
        if numbers.null_count() == column.null_count():
            return numbers
    return column
