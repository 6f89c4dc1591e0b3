"""MLflow's scoring protocol: what ``/invocations`` takes and gives.

Source: MLflow documentation, "Inference Server Specification": JSON with exactly one of ``dataframe_split``,
``dataframe_records``, ``instances`` and ``inputs``, or CSV, or Parquet.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

import orjson

from noria.errors import RequestError
from noria.serve.batch import Batch, Column, Layout
from noria.serve.reading import json_of

__all__ = ["batch_of", "columns_of_csv", "csv_value", "predictions"]

_NUMBER = re.compile(r" *[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|nan|inf(?:inity)?) *", re.ASCII | re.IGNORECASE)
_SHAPES = ("dataframe_split", "dataframe_records", "instances", "inputs")


def batch_of(body: bytes, layout: Layout, most: int) -> Batch:
    """The batch of a JSON body.

    Raises:
        RequestError: says what is wrong with it.
    """
    found = json_of(body)
    if not isinstance(found, dict):
        raise RequestError(f"The body must be an object with one of {', '.join(_SHAPES)}.")
    given = [name for name in _SHAPES if name in found]
    odd = sorted(set(found) - set(_SHAPES) - {"params"})
    if len(given) != 1 or odd:
        named = f"unknown {', '.join(name[:40] for name in odd[:5])}" if odd else f"given: {', '.join(given) or 'none'}"
        raise RequestError(f"The body must have exactly one of {', '.join(_SHAPES)} (and 'params'); {named}.")
    value = found[given[0]]
    if given[0] == "dataframe_split":
        return _split(value, layout, most)
    if given[0] == "dataframe_records":
        return layout.from_records(_records(value, given[0], most))
    if isinstance(value, dict):
        return _named(value, layout, most)
    if not isinstance(value, list) or not value:
        raise RequestError(f"'{given[0]}' must be a list of rows or an object of columns, and not empty.")
    if all(isinstance(row, dict) for row in value):
        return layout.from_records(_records(value, given[0], most))
    return _rows(value, _order(value, layout, given[0]), layout, most)


def _records(value: Any, name: str, most: int) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not value or not all(isinstance(row, dict) for row in value):
        raise RequestError(f"'{name}' must be a list of records, and not empty.")
    _count(len(value), most)
    return value


def _count(rows: int, most: int) -> None:
    if rows == 0:
        raise RequestError("There are no rows to predict.")
    if rows > most:
        raise RequestError(f"{rows} rows in one request; at most {most}.")


def _split(value: Any, layout: Layout, most: int) -> Batch:
    data = value.get("data") if isinstance(value, dict) else None
    if not isinstance(data, list) or not set(value) <= {"columns", "data", "index"}:
        raise RequestError("'dataframe_split' must be an object with 'columns' and 'data'.")
    columns = value.get("columns")
    if columns is None:
        columns = _order(data, layout, "dataframe_split")
    if not isinstance(columns, list) or not all(isinstance(name, (str, int)) for name in columns):
        raise RequestError("'columns' must be a list of names.")
    names = [str(name) for name in columns]
    if len(set(names)) < len(names):
        raise RequestError("A column is named twice in 'columns'.")
    return _rows(data, names, layout, most)


def _order(rows: list[Any], layout: Layout, name: str) -> list[str]:
    """Names of the columns of unnamed rows: as many as the model takes, in its order."""
    width = len(rows[0]) if rows and isinstance(rows[0], list) else 1
    every = list(layout.fields)
    order = every if width == len(every) else list(layout.required)
    if width != len(order):
        raise RequestError(f"The rows of '{name}' have {width} values; the model takes {len(order)}: {order[:100]}.")
    return order


def _rows(data: list[Any], names: list[str], layout: Layout, most: int) -> Batch:
    _count(len(data), most)
    width = len(names)
    for place, row in enumerate(data):
        if not isinstance(row, list):
            if width == 1:
                data[place] = [row]
                continue
            raise RequestError(f"Row {place} is not a list of {width} values.")
        if len(row) != width:
            raise RequestError(f"Row {place} has {len(row)} values; there are {width} columns.")
    if tuple(names) == layout.names:
        quick = layout.quick([value for row in data for value in row], len(data))
        if quick is not None:
            return quick
    return layout.from_columns({name: [row[place] for row in data] for place, name in enumerate(names)}, len(data))


def _named(value: Mapping[str, Any], layout: Layout, most: int) -> Batch:
    columns: dict[str, Column] = {}
    for name, values in value.items():
        flat = values if isinstance(values, list) else [values]
        if flat and all(isinstance(one, list) and len(one) == 1 for one in flat):
            flat = [one[0] for one in flat]
        columns[name] = flat
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) != 1:
        raise RequestError(f"The columns differ in their number of rows: {dict(list(lengths.items())[:20])}.")
    rows = next(iter(lengths.values()))
    _count(rows, most)
    return layout.from_columns(columns, rows)


def columns_of_csv(body: bytes, layout: Layout, most: int) -> Batch:
    """The batch of a CSV body, whose first line names the columns; an empty field is a missing value.

    Raises:
        RequestError: it is no CSV, or a value does not fit.
    """
    try:
        read = csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True)
        rows = list(islice(filter(None, read), most + 2))
    except (UnicodeDecodeError, csv.Error) as error:
        raise RequestError(f"The body is not CSV in UTF-8: {error}.") from None
    if not rows:
        raise RequestError("The CSV is empty.")
    if len(rows) > most + 1:
        raise RequestError(f"The CSV has more than {most} rows; send it in parts.")
    names, data = rows[0], rows[1:]
    if len(set(names)) < len(names):
        raise RequestError("A column is named twice in the CSV's first line.")
    _count(len(data), most)
    for place, row in enumerate(data):
        if len(row) != len(names):
            raise RequestError(f"Row {place} of the CSV has {len(row)} values; its first line names {len(names)}.")
    columns = {}
    for place, name in enumerate(names):
        field = layout.fields.get(name)
        columns[name] = [csv_value(row[place], field.dtype if field else "String") for row in data]
    return layout.from_columns(columns, len(data))


def csv_value(text: str, dtype: str) -> Any:
    """A CSV field as its column's type; text that is none is left for the check to name."""
    if text == "":
        return None
    if dtype == "Boolean":
        return {"true": True, "false": False, "1": True, "0": False}.get(text.strip().lower(), text)
    if dtype.startswith(("Int", "UInt", "Float", "Decimal", "Duration")) and _NUMBER.fullmatch(text):
        whole = dtype.lstrip("U").startswith("Int") and text.strip(" +-").isdigit()
        with suppress(ValueError):  # of more digits than Python reads
            return int(text) if whole else float(text)
    return text


def predictions(values: Sequence[Any]) -> bytes:
    """The reply."""
    return orjson.dumps({"predictions": list(values)})
