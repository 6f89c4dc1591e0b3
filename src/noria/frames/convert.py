"""Frames as the user's annotations ask, and back. Column by column, so that pandas does not need PyArrow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from noria.errors import MissingExtra, StepError

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Kind", "from_any", "kind_of_annotation", "series_to_kind", "to_kind"]

Kind = Literal["polars", "pandas", "pyarrow"]

_NOT_A_TIME = -(2**63)  # as NumPy and pandas keep it

_PREFIXES: dict[str, Kind] = {"pl": "polars", "polars": "polars", "pd": "pandas", "pandas": "pandas",
                              "pa": "pyarrow", "pyarrow": "pyarrow"}  # fmt: skip


def kind_of_annotation(annotation: object) -> Kind | None:
    """The library an annotation names (``pd.DataFrame``, ``"pl.Series"``), or None."""
    if annotation is None:
        return None
    text = annotation if isinstance(annotation, str) else ""
    if not text:
        module = getattr(annotation, "__module__", "")
        return _PREFIXES.get(module.split(".")[0]) if isinstance(annotation, type) else None
    return _PREFIXES.get(text.strip().split(".")[0])


def _pandas() -> Any:
    try:
        import pandas
    except ImportError:
        raise MissingExtra("pandas", "pandas", "for steps annotated with pandas types") from None
    return pandas


def _pyarrow() -> Any:
    try:
        import pyarrow
    except ImportError:
        raise MissingExtra("pyarrow", "pyarrow", "for steps annotated with PyArrow types") from None
    return pyarrow


def to_kind(frame: pl.DataFrame, kind: Kind) -> Any:
    """The frame in another library's form; pandas gets a fresh range index.

    Raises:
        MissingExtra: that library is not installed.
    """
    import polars as pl

    if kind == "polars":
        return frame
    if kind == "pandas":
        pandas = _pandas()
        if frame.width > 1 and set(frame.dtypes) == {pl.Float64()}:  # one block: a column each costs ten times more
            return pandas.DataFrame(frame.to_numpy(writable=True), columns=frame.columns)
        return pandas.DataFrame({name: _to_pandas(frame[name]) for name in frame.columns}, index=range(frame.height))
    _pyarrow()
    return frame.to_arrow()


def series_to_kind(series: pl.Series, kind: Kind) -> Any:
    """The series in another library's form.

    Raises:
        MissingExtra: that library is not installed.
    """
    if kind == "polars":
        return series
    if kind == "pandas":
        found = _to_pandas(series)
        found.name = series.name
        return found
    _pyarrow()
    return series.to_arrow()


def _to_pandas(series: pl.Series) -> Any:
    """A pandas series: with gaps whole numbers are floats and booleans objects, as people expect."""
    import polars as pl

    pandas = _pandas()
    kind = series.dtype
    if kind == pl.Date:
        return _to_pandas(series.cast(pl.Datetime("us")))
    if isinstance(kind, (pl.Datetime, pl.Duration)):
        raw = np.array(series.to_physical().fill_null(_NOT_A_TIME).to_numpy(), dtype=np.int64)
        if isinstance(kind, pl.Duration):
            return pandas.Series(raw.view(f"timedelta64[{kind.time_unit}]"))
        stamps = pandas.Series(raw.view(f"datetime64[{kind.time_unit}]"))
        return stamps.dt.tz_localize("UTC").dt.tz_convert(kind.time_zone) if kind.time_zone else stamps
    if kind.is_float() or (kind.is_integer() and series.null_count()):
        numbers = series if kind.is_float() else series.cast(pl.Float64)
        whole = numbers.fill_null(float("nan")) if numbers.null_count() else numbers
        return pandas.Series(whole.to_numpy(writable=True))
    if (kind.is_integer() and kind != pl.Int128) or (kind == pl.Boolean and not series.null_count()):
        return pandas.Series(series.to_numpy(writable=True))
    if isinstance(kind, (pl.Categorical, pl.Enum)):
        levels = kind.categories.to_list() if isinstance(kind, pl.Enum) else None
        return pandas.Series(pandas.Categorical(series.cast(pl.String).to_list(), categories=levels))
    if kind == pl.String:
        return pandas.Series(series.to_list(), dtype=pandas.Series(["text"]).dtype)
    return pandas.Series(series.to_list(), dtype=object)


def from_any(value: Any) -> pl.DataFrame | pl.Series:
    """A frame or series from what a user's function returned: pandas, Polars, PyArrow, NumPy or a list.

    An index of pandas is ignored; missing text is null.

    Raises:
        StepError: it is none of these.
    """
    import polars as pl

    if isinstance(value, (pl.DataFrame, pl.Series)):
        return value
    if isinstance(value, pl.LazyFrame):
        return value.collect()
    package = type(value).__module__.split(".")[0]
    name = type(value).__name__
    if hasattr(value, "iloc") and package == "pandas":
        if name == "Series":
            return _from_pandas(value, _name(value))
        try:
            return pl.DataFrame([_from_pandas(value.iloc[:, n], str(c)) for n, c in enumerate(value.columns)])
        except pl.exceptions.DuplicateError:
            raise StepError("the table has two columns of one name; rename one of them.") from None
    if package == "pandas" and hasattr(value, "isna"):  # an index, or an array without one
        return _from_pandas(_pandas().Series(value), _name(value))
    if package == "pyarrow":
        found = pl.from_arrow(value)
        return found if isinstance(found, (pl.DataFrame, pl.Series)) else pl.Series(found)
    if isinstance(value, np.ndarray) and value.ndim == 1:
        return _known(pl.Series(value) if value.dtype != object else pl.Series(value.tolist(), strict=False))
    if isinstance(value, np.ndarray) and value.ndim == 2:
        return pl.DataFrame({str(n): from_any(value[:, n]) for n in range(value.shape[1])})
    if isinstance(value, (list, tuple)):
        return _known(pl.Series(list(value), strict=False))
    raise StepError(f"a {package}.{name} is not a table or a column; return a Series, a DataFrame or an array.")


def _from_pandas(series: Any, name: str) -> pl.Series:
    import polars as pl

    kind = str(series.dtype)
    if kind.startswith("datetime64"):
        zoned = getattr(series.dt, "tz", None)
        plain = series.dt.tz_convert("UTC").dt.tz_localize(None) if zoned is not None else series
        found = pl.Series(name, plain.to_numpy().astype("datetime64[us]"))
        return found if zoned is None else _in_zone(found.dt.replace_time_zone("UTC"), str(zoned))
    if kind.startswith("timedelta64"):
        return pl.Series(name, series.to_numpy().astype("timedelta64[us]"))
    values = series.to_numpy()
    if values.dtype.kind in "fiub" and isinstance(series.dtype, np.dtype):
        return pl.Series(name, np.ascontiguousarray(values))
    missing = series.isna().to_numpy()
    listed = [None if gone else item for item, gone in zip(series.tolist(), missing, strict=True)]
    plain = [item.item() if isinstance(item, np.generic) else item for item in listed]
    text = pl.String if kind.startswith("str") else None  # known even where nothing is in it
    found = _known(pl.Series(name, plain, dtype=text, strict=False))
    texts = kind == "category" and (found.dtype == pl.String or series.cat.categories.dtype.kind in "OU")
    return found.cast(pl.Categorical) if texts else found


def _in_zone(moments: pl.Series, zone: str) -> pl.Series:
    """The same moments in a zone by name; one without a name, such as a fixed offset, becomes UTC."""
    import polars as pl

    try:
        return moments.dt.convert_time_zone(zone)
    except pl.exceptions.PolarsError:
        return moments


def _name(value: Any) -> str:
    name = getattr(value, "name", None)
    return "" if name is None else str(name)


def _known(column: pl.Series) -> pl.Series:
    """The column, unless it holds Python objects that are no numbers, texts or times."""
    import polars as pl

    if column.dtype == pl.Object:
        first = next((item for item in column if item is not None), None)
        raise StepError(
            f"the column '{column.name}' holds {type(first).__module__}.{type(first).__qualname__} objects; "
            "make them numbers, texts, booleans or times."
        )
    return column
