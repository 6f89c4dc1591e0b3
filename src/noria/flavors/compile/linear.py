"""Linear models."""

from __future__ import annotations

from typing import Any

import numpy as np

from noria.flavors.compile.graph import Graph, NotCompiled, Table
from noria.flavors.compile.links import Answer, binary, linked, shares_of

__all__ = ["linear_classifier", "linear_regressor"]


_KNOWN = ("LinearDiscriminantAnalysis", "LogisticRegression", "LogisticRegressionCV")


def _sums(graph: Graph, model: Any, table: Table, *, refuse: bool = True) -> tuple[str, int]:
    weights = np.atleast_2d(np.asarray(model.coef_, dtype=np.float64))
    if weights.shape[1] != len(table.columns):
        raise NotCompiled("it predicts several values a row, or its columns are not those it was fitted to")
    x = graph.matrix(table)
    if refuse and not graph.is_input(x):  # scikit-learn takes no number without end, as steps before it may make
        graph.refuse(graph.add("Or", graph.add("IsNaN", x), graph.add("IsInf", x)))
    sums = graph.add("MatMul", x, np.ascontiguousarray(weights.T))
    start = np.broadcast_to(np.asarray(model.intercept_, dtype=np.float64).reshape(1, -1), (1, len(weights)))
    return graph.add("Add", sums, np.ascontiguousarray(start)), len(weights)


def linear_regressor(graph: Graph, model: Any, table: Table) -> Answer:
    """A weighted sum, through the inverse of its link where it has one."""
    sums, outputs = _sums(graph, model, table)
    if outputs != 1:
        raise NotCompiled("it predicts several values a row")
    loss = getattr(model, "_base_loss", None)
    return Answer(number=sums if loss is None else linked(graph, sums, loss.link))


def linear_classifier(graph: Graph, model: Any, table: Table) -> Answer:
    """A weighted sum a class; probabilities where the model gives them."""
    classes = shares_of(model)
    shown = hasattr(model, "predict_proba")
    sums, outputs = _sums(graph, model, table, refuse=shown)
    if not shown:
        return Answer(place=_largest(graph, sums, outputs), classes=classes)
    name = type(model).__name__
    if name not in _KNOWN and getattr(model, "loss", "") != "log_loss":
        raise NotCompiled("its probabilities are not known")
    if outputs == 1:
        return Answer(shares=binary(graph, graph.add("Sigmoid", sums)), classes=classes)
    if name != "SGDClassifier" and getattr(model, "multi_class", "") != "ovr":
        return Answer(shares=graph.add("Softmax", sums, axis=1), classes=classes)
    each = graph.add("Sigmoid", sums)
    total = graph.add("ReduceSum", each, np.array([1]), keepdims=1)
    return Answer(shares=graph.add("Div", each, total), classes=classes)


def _largest(graph: Graph, sums: str, outputs: int) -> str:
    if outputs > 1:
        return graph.add("ArgMax", sums, axis=1, keepdims=0)
    positive = graph.cast(graph.add("Greater", sums, 0.0), 7)
    return graph.add("Reshape", positive, np.array([-1]))
