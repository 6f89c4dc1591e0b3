"""Encoders of categories: each asked once about each of its categories, so that its own rules hold."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import numpy_helper

from noria.flavors.compile.graph import ML, Graph, NotCompiled, Table
from noria.records import MISSING_TEXT

__all__ = ["encode"]

_MOST_ASKED = 4_000_000
_UNKNOWN = "\ufdd1"  # no text may hold it either


@dataclass(frozen=True, slots=True)
class _Learnt:
    """What an encoder makes of one column: a row of numbers a category, and one for those unknown."""

    keys: NDArray[Any]
    rows: NDArray[np.float64]
    unknown: NDArray[np.float64] | None


def encode(graph: Graph, encoder: Any, table: Table) -> Table:
    """OneHotEncoder, OrdinalEncoder or TargetEncoder.

    Raises:
        NotCompiled: its categories are of a kind that is not known.
    """
    categories = encoder.categories_
    if len(categories) != len(table.columns):
        raise NotCompiled("an encoder's columns are not those it was fitted to")
    hot = type(encoder).__name__ == "OneHotEncoder"
    parts = []
    width = 0
    for place, learnt in enumerate(_ask(encoder, [column.text for column in table.columns])):
        source = graph.matrix(table.take([place]))
        parts.append(_one_hot(graph, source, learnt) if hot else _numbers(graph, source, learnt))
        width += learnt.rows.shape[1]
    joined = parts[0] if len(parts) == 1 else graph.add("Concat", *parts, axis=1)
    return graph.table(graph.double(joined) if hot else joined, width)


def _ask(encoder: Any, texts: Sequence[bool]) -> list[_Learnt]:
    kinds = [_sorted_out(one, text) for one, text in zip(encoder.categories_, texts, strict=True)]
    asked = [[given for _, given in kind] for kind in kinds]
    width = _transform(encoder, [[given[0]] for given in asked]).shape[1]
    if width * sum(map(len, asked)) > _MOST_ASKED:
        raise NotCompiled("an encoder has too many categories")
    found, start = [], 0
    for place, (kind, text) in enumerate(zip(kinds, texts, strict=True)):
        rows = [[other[0]] * len(kind) for other in asked]
        rows[place] = asked[place]
        answers = _transform(encoder, rows)
        size = _size(encoder, place, width)
        keys = np.array([key for key, _ in kind], dtype=object if text else np.float64)
        unknown = _unknown(encoder, [[other[0]] for other in asked], place, text, keys)
        block = slice(start, start + size)
        found.append(_Learnt(keys, answers[:, block], None if unknown is None else unknown[block]))
        start += size
    return found


def _size(encoder: Any, place: int, width: int) -> int:
    sizes = getattr(encoder, "_n_features_outs", None)
    return int(sizes[place]) if sizes is not None else width // len(encoder.categories_)


def _sorted_out(categories: NDArray[Any], text: bool) -> list[tuple[Any, Any]]:
    """Each category as the graph sees it, and as the encoder does."""
    pairs: list[tuple[Any, Any]] = []
    for one in categories.tolist():
        missing = one is None or (isinstance(one, float) and np.isnan(one))
        if not missing and isinstance(one, str) != text:
            raise NotCompiled("an encoder's categories are not of its columns' type")
        if missing and any(key == MISSING_TEXT or key != key for key, _ in pairs):
            continue  # None and NaN are both missing
        pairs.append(((MISSING_TEXT if text else np.nan) if missing else one if text else float(one), one))
    if not pairs:
        raise NotCompiled("an encoder has a column without any category")
    return pairs


def _transform(encoder: Any, columns: list[list[Any]]) -> NDArray[np.float64]:
    plain = all(isinstance(one, (bool, int, float)) for column in columns for one in column)
    rows = np.empty((len(columns[0]), len(columns)), dtype=np.float64 if plain else object)
    for place, column in enumerate(columns):
        rows[:, place] = column
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = encoder.transform(rows)
    return np.asarray(made.toarray() if hasattr(made, "toarray") else made, dtype=np.float64)


def _unknown(
    encoder: Any, columns: list[list[Any]], place: int, text: bool, keys: NDArray[Any]
) -> NDArray[np.float64] | None:
    """The numbers of a category never seen; None where the encoder refuses it."""
    largest = 0.0 if text else float(np.nanmax(np.nan_to_num(keys, nan=0.0)))
    columns[place] = [_UNKNOWN if text else largest + 1.5]
    try:
        return _transform(encoder, columns).ravel()
    except ValueError:
        return None


def _lookup(graph: Graph, source: str, keys: NDArray[Any], values: NDArray[Any], default: Any) -> str:
    return graph.add(
        "LabelEncoder",
        source,
        domain=ML,
        keys_tensor=numpy_helper.from_array(keys),
        values_tensor=numpy_helper.from_array(values),
        default_tensor=numpy_helper.from_array(np.array([default], dtype=values.dtype)),
    )


def _refuse_unknown(graph: Graph, source: str, learnt: _Learnt) -> None:
    known = _lookup(graph, source, learnt.keys, np.ones(len(learnt.keys), dtype=np.int64), 0)
    graph.refused.append(graph.add("Equal", known, np.int64(0)))


def _one_hot(graph: Graph, source: str, learnt: _Learnt) -> str:
    """The column's block, as booleans."""
    width = learnt.rows.shape[1]
    if learnt.rows.size and not np.isin(learnt.rows, (0, 1)).all():
        raise NotCompiled("an encoder gives other numbers than 0 and 1")
    if learnt.unknown is None:
        _refuse_unknown(graph, source, learnt)
    unknown = np.zeros(width) if learnt.unknown is None else learnt.unknown
    places = _hot(np.vstack([learnt.rows, unknown]))
    code = _lookup(graph, source, learnt.keys, places[:-1], int(places[-1]))
    return graph.add("Equal", code, np.arange(width, dtype=np.int64).reshape(1, -1))


def _hot(rows: NDArray[np.float64]) -> NDArray[np.int64]:
    """The place of each row's one; -1 where it has none."""
    if not rows.shape[1]:
        return np.full(len(rows), -1, dtype=np.int64)
    return np.where(rows.any(axis=1), rows.argmax(axis=1), -1).astype(np.int64)


def _numbers(graph: Graph, source: str, learnt: _Learnt) -> str:
    """The column's numbers, as float64."""
    width = learnt.rows.shape[1]
    if learnt.unknown is None:
        _refuse_unknown(graph, source, learnt)
    unknown = np.full(width, np.nan) if learnt.unknown is None else learnt.unknown
    if width == 1:
        return _lookup(graph, source, learnt.keys, learnt.rows[:, 0], float(unknown[0]))
    place = _lookup(graph, source, learnt.keys, np.arange(len(learnt.keys), dtype=np.int64), len(learnt.keys))
    rows = np.vstack([learnt.rows, unknown])
    return graph.add("Gather", rows, graph.add("Reshape", place, np.array([-1])), axis=0)
