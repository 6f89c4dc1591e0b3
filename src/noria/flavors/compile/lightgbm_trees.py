"""LightGBM: boosters, and the boosters within its scikit-learn classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

from noria.flavors.compile.ensemble import Ensemble, Tree
from noria.flavors.compile.graph import ML, Column, Graph, NotCompiled, Table
from noria.flavors.compile.links import Answer, binary
from noria.records import MISSING_TEXT

__all__ = ["light"]

_ZERO = float(np.float32(1e-35))
_EXPONENTIAL = ("poisson", "gamma", "tweedie")
_PLAIN = ("regression", "regression_l1", "huber", "fair", "quantile", "mape", "lambdarank", "rank_xendcg")


def light(graph: Graph, booster: Any, table: Table, classes: Any, *, whole: bool) -> Answer:
    """A booster, up to its best iteration.

    Args:
        graph: what it becomes part of.
        booster: the booster.
        table: its features.
        classes: class labels; None for a regression.
        whole: whether the library gets whole numbers only, which it then rounds to float32.

    Raises:
        NotCompiled: it has linear leaves, an objective of the user's, or mixes kinds of missing values.
    """
    dump = booster.dump_model()
    objective, *options = str(dump.get("objective", "")).split()
    settings = dict(option.split(":") for option in options if ":" in option)
    outputs = int(dump["num_tree_per_iteration"])
    codes = _Codes(booster.pandas_categorical)
    trees = [_flat(one["tree_structure"], codes) for one in dump["tree_info"]]
    x = graph.matrix(_coded(graph, table, codes))
    if whole:  # with a value missing they come as float64
        gap = graph.add("ReduceMax", graph.add("IsNaN", x), np.array([1]), keepdims=1)
        x = graph.add("Where", gap, x, graph.double(graph.cast(x, TensorProto.FLOAT)))
    x = _without_zeros(graph, _truncated(graph, x, codes, len(table.columns)), trees, len(table.columns))
    ensemble = Ensemble(outputs)
    for place, one in enumerate(trees):
        ensemble.add(one.tree(), place % outputs)
    raw = ensemble.into(graph, x)
    if dump.get("average_output"):
        raw = graph.add("Div", raw, float(max(1, len(trees) // outputs)))
    return _answer(graph, raw, objective, settings, "sqrt" in options, classes)


def _answer(graph: Graph, raw: str, objective: str, settings: dict[str, str], squared: bool, classes: Any) -> Answer:
    steep = float(settings.get("sigmoid", 1))
    if objective == "multiclass":
        return Answer(shares=graph.add("Softmax", raw, axis=1), classes=classes)
    if objective in ("binary", "multiclassova"):
        share = graph.add("Sigmoid", raw if steep == 1 else graph.add("Mul", raw, steep))
        return Answer(shares=binary(graph, share) if objective == "binary" else share, classes=classes)
    if classes is not None:
        raise NotCompiled(f"its objective {objective or 'of its own'!s} is not known")
    if squared:
        raw = graph.add("Mul", raw, graph.add("Abs", raw))
    if objective in _EXPONENTIAL:
        raw = graph.add("Exp", raw)
    elif objective == "cross_entropy":
        raw = graph.add("Sigmoid", raw)
    elif objective not in _PLAIN:
        raise NotCompiled(f"its objective {objective or 'of its own'!s} is not known")
    return Answer(number=raw)


class _Codes:
    """Text categories by their codes, and the columns compared as categories."""

    def __init__(self, lists: list[list[Any]] | None) -> None:
        self.lists = lists or []
        self.columns: set[int] = set()


class _Flat:
    """A tree of the dump, its nodes numbered."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, float, int, int, bool, float]] = []
        self.members: dict[int, list[float]] = {}
        self.kinds: set[tuple[int, str]] = set()

    def tree(self) -> Tree:
        feature, split, left, right, missing, value = zip(*self.rows, strict=True)
        return Tree(
            np.array(feature), np.array(split), np.array(left), np.array(right), np.array(missing), np.array(value),
            members=self.members,
        )  # fmt: skip


def _flat(root: dict[str, Any], codes: _Codes) -> _Flat:
    found = _Flat()
    waiting: list[tuple[dict[str, Any], int, bool]] = [(root, -1, False)]
    while waiting:
        node, parent, left = waiting.pop()
        place = len(found.rows)
        if parent >= 0:
            row = found.rows[parent]
            found.rows[parent] = (*row[:2], place, *row[3:]) if left else (*row[:3], place, *row[4:])
        if "leaf_value" in node:
            if "leaf_coeff" in node:
                raise NotCompiled("its leaves hold linear models")
            found.rows.append((0, 0.0, -1, -1, False, float(node["leaf_value"])))
            continue
        found.rows.append(_inner(found, node, place, codes))
        waiting += [(node["left_child"], place, True), (node["right_child"], place, False)]
    return found


def _inner(found: _Flat, node: dict[str, Any], place: int, codes: _Codes) -> tuple[int, float, int, int, bool, float]:
    feature, missing = int(node["split_feature"]), str(node["missing_type"])
    if node["decision_type"] == "==":
        codes.columns.add(feature)
        found.members[place] = [float(one) for one in str(node["threshold"]).split("||")]
        return feature, 0.0, -2, -2, False, 0.0
    if node["decision_type"] != "<=":
        raise NotCompiled(f"its comparison {node['decision_type']!r} is not known")
    split = float(node["threshold"])
    if abs(split) <= _ZERO:  # numbers so near zero are zero to the library
        split = _ZERO if split >= 0 else float(np.nextafter(-_ZERO, -np.inf))
    found.kinds.add((feature, missing))
    left = split >= 0.0 if missing == "None" else bool(node["default_left"])
    return feature, split, -2, -2, left, 0.0


def _coded(graph: Graph, table: Table, codes: _Codes) -> Table:
    """The table with the codes of categories in place of texts."""
    texts = [place for place, column in enumerate(table.columns) if column.text]
    if len(texts) != len(codes.lists):
        raise NotCompiled("its categories are not texts")
    columns = list(table.columns)
    for place, categories in zip(texts, codes.lists, strict=True):
        keys = np.array([str(one) for one in categories if str(one) != MISSING_TEXT], dtype=object)
        if not all(isinstance(one, str) for one in categories) or not len(keys):
            raise NotCompiled("its categories are not texts")
        code = graph.add(
            "LabelEncoder",
            graph.matrix(table.take([place])),
            domain=ML,
            keys_tensor=_proto(keys),
            values_tensor=_proto(np.arange(len(keys), dtype=np.float64)),
            default_tensor=_proto(np.array([np.nan])),
        )
        columns[place] = Column(code, 0, 1)
    return Table(tuple(columns))


def _proto(values: Any) -> Any:
    from onnx import numpy_helper

    return numpy_helper.from_array(values)


def _truncated(graph: Graph, x: str, codes: _Codes, width: int) -> str:
    """Categories are whole numbers: 2.7 is category 2, as in the library; below zero is no category."""
    if not codes.columns:
        return x
    chosen = np.array([[place in codes.columns for place in range(width)]])
    return graph.add("Where", chosen, graph.add("Sub", x, graph.add("Mod", x, 1.0, fmod=1)), x)


def _without_zeros(graph: Graph, x: str, trees: list[_Flat], width: int) -> str:
    """Where zero counts as missing, make it so."""
    kinds = set().union(*(tree.kinds for tree in trees))
    zeros = {feature for feature, kind in kinds if kind == "Zero"}
    if not zeros:
        return x
    if any(feature in zeros and kind == "NaN" for feature, kind in kinds):
        raise NotCompiled("zeros and missing values both count as missing in it")
    chosen = np.array([[place in zeros for place in range(width)]])
    small = graph.add("LessOrEqual", graph.add("Abs", x), _ZERO)
    return graph.add("Where", graph.add("And", small, chosen), np.float64(np.nan), x)
