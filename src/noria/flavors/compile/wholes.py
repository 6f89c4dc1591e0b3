"""Estimators made of others: bagging, stacking, calibration, votes and thresholds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from noria.flavors.compile.graph import Graph, NotCompiled, Table
from noria.flavors.compile.links import Answer, binary, shares_of

__all__ = ["bag", "calibrate", "stack", "threshold", "vote"]

Predicts = Callable[[Graph, Any, Table], Answer]


def _mean(graph: Graph, parts: list[str], weights: Any = None) -> str:
    total = None
    for place, part in enumerate(parts):
        one = part if weights is None else graph.add("Mul", part, float(weights[place]))
        total = one if total is None else graph.add("Add", total, one)
    assert total is not None
    return graph.add("Div", total, float(len(parts) if weights is None else np.sum(weights)))


def _parts(model: Any, found: list[Answer]) -> list[str]:
    parts = [one.shares if hasattr(model, "classes_") else one.number for one in found]
    if any(part is None for part in parts):
        raise NotCompiled("a part of it gives no probabilities")
    return [part for part in parts if part is not None]


def _answer(model: Any, mean: str) -> Answer:
    return Answer(shares=mean, classes=shares_of(model)) if hasattr(model, "classes_") else Answer(number=mean)


def vote(predict: Predicts, graph: Graph, model: Any, table: Table) -> Answer:
    """The weighted mean of several models."""
    if getattr(model, "voting", "soft") != "soft":
        raise NotCompiled("it counts votes")
    found = [predict(graph, one, table) for one in model.estimators_]
    return _answer(model, _mean(graph, _parts(model, found), model._weights_not_none))


def bag(predict: Predicts, graph: Graph, model: Any, table: Table) -> Answer:
    """The mean of models of some columns each."""
    pairs = zip(model.estimators_, model.estimators_features_, strict=True)
    found = [predict(graph, one, table.take(np.asarray(columns).tolist())) for one, columns in pairs]
    for one in found:
        if one.classes is not None and len(one.classes) != len(model.classes_):
            raise NotCompiled("a part of it has not seen all classes")
    return _answer(model, _mean(graph, _parts(model, found)))


def stack(predict: Predicts, graph: Graph, model: Any, table: Table) -> Answer:
    """A model of other models' answers."""
    columns: list[Any] = []
    two = len(getattr(model, "classes_", ())) == 2
    methods = iter(model.stack_method_)
    for one in model.estimators_:
        found, method = predict(graph, one, table), next(methods)
        if method == "predict" and found.number is not None:
            columns += graph.table(found.number, 1).columns
        elif method == "predict_proba" and found.shares is not None and found.classes is not None:
            made = graph.table(found.shares, len(found.classes)).columns
            columns += made[1:] if two else made
        else:
            raise NotCompiled("it stacks other answers than probabilities and numbers")
    given = table.columns if model.passthrough else ()
    return predict(graph, model.final_estimator_, Table((*columns, *given)))


def calibrate(predict: Predicts, graph: Graph, model: Any, table: Table) -> Answer:
    """The mean of classifiers whose probabilities were put right by sigmoids."""
    if len(model.classes_) != 2:
        raise NotCompiled("it puts right more than two classes")
    parts = []
    for one in model.calibrated_classifiers_:
        found = predict(graph, one.estimator, table)
        (line,) = one.calibrators
        if one.method != "sigmoid" or found.shares is None or hasattr(one.estimator, "decision_function"):
            raise NotCompiled("its probabilities are not put right by sigmoids of probabilities")
        share = graph.add("Gather", found.shares, np.array([1]), axis=1)
        sums = graph.add("Add", graph.add("Mul", share, float(line.a_)), float(line.b_))
        parts.append(binary(graph, graph.add("Sigmoid", graph.add("Neg", sums))))
    return Answer(shares=_mean(graph, parts), classes=shares_of(model))


def threshold(predict: Predicts, graph: Graph, model: Any, table: Table) -> Answer:
    """A classifier of two classes with a threshold of its own."""
    found = predict(graph, model.estimator_, table)
    limit = getattr(model, "best_threshold_", getattr(model, "threshold", None))
    if found.shares is None or not isinstance(limit, float) or len(model.classes_) != 2:
        raise NotCompiled("its threshold is not one of probabilities")
    label = model._curve_scorer._get_pos_label() if hasattr(model, "_curve_scorer") else model.pos_label
    positive = 1 if label is None else list(model.classes_).index(label)
    share = graph.add("Gather", found.shares, np.array([positive]), axis=1)
    above = graph.cast(graph.add("GreaterOrEqual", share, limit), 7)
    place = above if positive else graph.add("Sub", np.int64(1), above)
    return Answer(shares=found.shares, place=graph.add("Reshape", place, np.array([-1])), classes=shares_of(model))
