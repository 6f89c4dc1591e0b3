"""Transformers of numbers: scaling, filling in, choosing and simple functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noria.flavors.compile.graph import Graph, NotCompiled, Table
from noria.records import MISSING_TEXT

__all__ = ["FUNCTIONS", "TRANSFORMERS", "apply_function", "select"]

_NAN = np.float64(np.nan)


def _standard(graph: Graph, model: Any, x: str) -> str:
    if model.with_mean:
        x = graph.add("Sub", x, _row(model.mean_))
    return graph.add("Div", x, _row(model.scale_)) if model.with_std else x


def _robust(graph: Graph, model: Any, x: str) -> str:
    if model.with_centering:
        x = graph.add("Sub", x, _row(model.center_))
    return graph.add("Div", x, _row(model.scale_)) if model.with_scaling else x


def _min_max(graph: Graph, model: Any, x: str) -> str:
    x = graph.add("Add", graph.add("Mul", x, _row(model.scale_)), _row(model.min_))
    low, high = model.feature_range
    return graph.add("Max", graph.add("Min", x, float(high)), float(low)) if model.clip else x


def _max_abs(graph: Graph, model: Any, x: str) -> str:
    if getattr(model, "clip", False):
        raise NotCompiled("it clips")
    return graph.add("Div", x, _row(model.scale_))


def _row(values: Any) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64).reshape(1, -1)


_SCALERS: dict[str, Callable[[Graph, Any, str], str]] = {
    "MaxAbsScaler": _max_abs,
    "MinMaxScaler": _min_max,
    "RobustScaler": _robust,
    "StandardScaler": _standard,
}


def _scale(graph: Graph, model: Any, table: Table) -> Table:
    return graph.table(_SCALERS[type(model).__name__](graph, model, graph.matrix(table)), len(table.columns))


def _is_missing(graph: Graph, x: str, value: Any, text: bool) -> str:
    if text:
        if not (value is None or value is MISSING_TEXT or (isinstance(value, float) and np.isnan(value))):
            return graph.add("Equal", x, np.array([str(value)], dtype=object))
        return graph.add("Equal", x, np.array([MISSING_TEXT], dtype=object))
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return graph.add("IsNaN", x)
    return graph.add("Equal", x, float(value))


def _fill(graph: Graph, model: Any, table: Table) -> Table:
    """SimpleImputer: texts one by one, numbers together."""
    text = all(column.text for column in table.columns)
    statistics = model.statistics_.tolist()
    gone = [not text and (one is None or one != one) for one in statistics]
    kept = [place for place, is_gone in enumerate(gone) if not is_gone]
    x = graph.matrix(table)
    missing = _is_missing(graph, x, model.missing_values, text)
    fill = np.array([[0.0 if is_gone else one for one, is_gone in zip(statistics, gone, strict=True)]])
    filled = graph.add("Where", missing, fill.astype(object if text else np.float64), x)
    columns = graph.table(filled, len(statistics), text).take(kept).columns
    if not model.add_indicator:
        return Table(columns)
    places = model.indicator_.features_.tolist()
    flags = graph.table(graph.double(missing), len(statistics)).take(places).columns
    return Table((*columns, *flags))


def _indicate(graph: Graph, model: Any, table: Table) -> Table:
    if any(column.text for column in table.columns):
        raise NotCompiled("a missing indicator takes texts")
    missing = _is_missing(graph, graph.matrix(table), model.missing_values, text=False)
    return graph.table(graph.double(missing), len(table.columns)).take(model.features_.tolist())


def select(graph: Graph, model: Any, table: Table) -> Table:
    """A selector of columns."""
    return table.take(np.flatnonzero(model.get_support()).tolist())


FUNCTIONS: dict[Any, Callable[[Graph, str], str]] = {
    np.abs: lambda graph, x: graph.add("Abs", x),
    np.exp: lambda graph, x: graph.add("Exp", x),
    np.expm1: lambda graph, x: graph.add("Sub", graph.add("Exp", x), 1.0),
    np.log: lambda graph, x: graph.add("Log", x),
    np.log1p: lambda graph, x: graph.add("Log", graph.add("Add", x, 1.0)),
    np.log2: lambda graph, x: graph.add("Div", graph.add("Log", x), float(np.log(2))),
    np.log10: lambda graph, x: graph.add("Div", graph.add("Log", x), float(np.log(10))),
    np.sqrt: lambda graph, x: graph.add("Sqrt", x),
    np.square: lambda graph, x: graph.add("Mul", x, x),
    np.sin: lambda graph, x: graph.add("Sin", x),
    np.cos: lambda graph, x: graph.add("Cos", x),
}


def apply_function(graph: Graph, function: Any, x: str) -> str:
    """A NumPy function of one number.

    Raises:
        NotCompiled: it is none of those known.
    """
    if function is None:
        return x
    made = FUNCTIONS.get(function) if isinstance(function, np.ufunc) else None
    if made is None:
        raise NotCompiled(f"the function {getattr(function, '__name__', 'in it')} has no operator")
    return made(graph, x)


def _function(graph: Graph, model: Any, table: Table) -> Table:
    # The numerical side of histogram boosting passes through a function of scikit-learn's that only checks.
    own = getattr(getattr(model.func, "func", None), "__module__", "") == "sklearn.utils.validation"
    if model.func is None or own:
        return Table(table.columns)
    if model.kw_args:
        raise NotCompiled("a function in it takes options")
    return graph.table(apply_function(graph, model.func, graph.matrix(table)), len(table.columns))


def _polynomial(graph: Graph, model: Any, table: Table) -> Table:
    """Products of columns, multiplied from left to right as scikit-learn does."""
    powers = np.asarray(model.powers_)
    degree = int(powers.sum(axis=1).max(initial=0))
    if degree < 1 or powers.shape[0] * degree > 20_000:
        raise NotCompiled("it makes no products of columns, or too many")
    x = graph.matrix(table)
    one = graph.add("Exp", graph.add("Mul", graph.add("Gather", x, np.array([0]), axis=1), 0.0))
    whole = graph.add("Concat", x, one, axis=1)
    factors = [np.repeat(np.arange(row.size), row) for row in powers]
    places = np.array([[*row, *[powers.shape[1]] * (degree - row.size)] for row in factors], dtype=np.int64)
    product = graph.add("Gather", whole, places[:, 0], axis=1)
    for place in range(1, degree):
        product = graph.add("Mul", product, graph.add("Gather", whole, places[:, place], axis=1))
    return graph.table(product, len(powers))


TRANSFORMERS: dict[str, Callable[[Graph, Any, Table], Table]] = {
    "FunctionTransformer": _function,
    "MissingIndicator": _indicate,
    "PolynomialFeatures": _polynomial,
    "SimpleImputer": _fill,
    **dict.fromkeys(_SCALERS, _scale),
}
