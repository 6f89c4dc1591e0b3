"""Frames as the user's annotations ask, and back. Column by column, so that pandas does not need PyArrow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from noria.errors import MissingExtra, StepError

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Kind", "from_any", "kind_of_annotation", "series_to_kind", "to_kind"]

Kind = Literal["polars", "pandas", "pyarrow"]

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
    if kind == "polars":
        return frame
    if kind == "pandas":
        pandas = _pandas()
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
    """A pandas series: whole numbers and booleans with gaps become floats and objects, as pandas users expect."""
    import polars as pl

    pandas = _pandas()
    kind = series.dtype
    if isinstance(kind, pl.Datetime):
        unit = kind.time_unit
        values = series.dt.replace_time_zone(None).to_physical().to_numpy(writable=True)
        if series.null_count():
            values = series.dt.replace_time_zone(None).to_physical().fill_null(np.iinfo(np.int64).min).to_numpy()
        stamps = pandas.Series(np.asarray(values, dtype=np.int64).view(f"datetime64[{unit}]"))
        if kind.time_zone is None:
            return stamps
        utc = series.dt.convert_time_zone("UTC").dt.replace_time_zone(None).to_physical()
        raw = utc.fill_null(np.iinfo(np.int64).min).to_numpy()
        stamps = pandas.Series(np.asarray(raw, dtype=np.int64).view(f"datetime64[{unit}]"))
        return stamps.dt.tz_localize("UTC").dt.tz_convert(kind.time_zone)
    if kind == pl.Date:
        return _to_pandas(series.cast(pl.Datetime("us")))
    if isinstance(kind, pl.Duration):
        raw = series.to_physical().fill_null(np.iinfo(np.int64).min).to_numpy()
        return pandas.Series(np.asarray(raw, dtype=np.int64).view(f"timedelta64[{kind.time_unit}]"))
    if kind.is_float():
        return pandas.Series(series.fill_null(float("nan")).to_numpy(writable=True))
    if kind.is_integer():
        if series.null_count():
            return pandas.Series(series.cast(pl.Float64).fill_null(float("nan")).to_numpy(writable=True))
        return pandas.Series(series.to_numpy(writable=True))
    if kind == pl.Boolean and not series.null_count():
        return pandas.Series(np.asarray(series.to_list(), dtype=bool))
    if isinstance(kind, (pl.Categorical, pl.Enum)):
        return pandas.Series(pandas.Categorical(series.cast(pl.String).to_list()))
    return pandas.Series(series.to_list(), dtype=object if kind == pl.Boolean else None)


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
    if package == "pandas" and name == "DataFrame":
        return pl.DataFrame([_from_pandas(value.iloc[:, n], str(c)) for n, c in enumerate(value.columns)])
    if package == "pandas" and hasattr(value, "to_numpy"):
        return _from_pandas(value, str(getattr(value, "name", None) or ""))
    if package == "pyarrow":
        found = pl.from_arrow(value)
        return found if isinstance(found, (pl.DataFrame, pl.Series)) else pl.Series(found)
    if isinstance(value, np.ndarray):
        if value.ndim == 1:
            return pl.Series(value)
        if value.ndim == 2:
            return pl.DataFrame({str(n): value[:, n] for n in range(value.shape[1])})
    if isinstance(value, (list, tuple)):
        return pl.Series(list(value), strict=False)
    raise StepError(f"a {package}.{name} is not a table or a column; return a Series, a DataFrame or an array.")


def _from_pandas(series: Any, name: str) -> pl.Series:
    import polars as pl

    kind = str(series.dtype)
    if kind.startswith("datetime64"):
        zone = str(series.dt.tz) if getattr(series.dt, "tz", None) is not None else None
        plain = series.dt.tz_convert("UTC").dt.tz_localize(None) if zone else series
        found = pl.Series(name, plain.to_numpy().astype("datetime64[us]"))
        return found.dt.replace_time_zone("UTC").dt.convert_time_zone(zone) if zone else found
    if kind.startswith("timedelta64"):
        return pl.Series(name, series.to_numpy().astype("timedelta64[us]"))
    values = series.to_numpy()
    if values.dtype.kind in "fiub":
        return pl.Series(name, np.ascontiguousarray(values))
    missing = series.isna().to_numpy()
    listed = [None if gone else item for item, gone in zip(series.tolist(), missing, strict=True)]
    return pl.Series(name, [getattr(item, "item", lambda i=item: i)() for item in listed], strict=False)
