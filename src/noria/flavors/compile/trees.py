"""scikit-learn's trees: alone, in forests, boosted, and boosted on histograms."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from noria.flavors.compile.ensemble import Ensemble, Tree
from noria.flavors.compile.graph import Graph, NotCompiled, Table
from noria.flavors.compile.links import Answer, binary, linked, shares_of

__all__ = ["boosted", "forest", "histogram"]


def _tree(tree: Any, values: NDArray[np.float64]) -> Tree:
    left = np.asarray(tree.children_left)
    missing = getattr(tree, "missing_go_to_left", None)
    return Tree(
        feature=np.asarray(tree.feature),
        split=np.asarray(tree.threshold, dtype=np.float64),
        left=left,
        right=np.asarray(tree.children_right),
        missing_left=np.zeros(left.size, dtype=bool) if missing is None else np.asarray(missing).astype(bool),
        value=values,
    )


def forest(graph: Graph, model: Any, table: Table) -> Answer:
    """A decision tree, or the mean of a forest's.

    Raises:
        NotCompiled: it predicts several things at once.
    """
    trees = [one.tree_ for one in getattr(model, "estimators_", [model])]
    if np.asarray(trees[0].value).shape[1] != 1:
        raise NotCompiled("it predicts several values a row")
    x = graph.single(graph.matrix(table))
    if not hasattr(model, "classes_"):
        ensemble = Ensemble()
        for tree in trees:
            ensemble.add(_tree(tree, np.asarray(tree.value)[:, 0, 0]))
        return Answer(number=graph.add("Div", ensemble.into(graph, x), float(len(trees))))
    classes = shares_of(model)
    if len(classes) == 2:  # so that votes that are equal stay equal
        ensemble = Ensemble()
        for tree in trees:
            ensemble.add(_tree(tree, _fractions(tree)[:, 1]))
        sums = ensemble.into(graph, x)
        sums = graph.add("Concat", graph.add("Sub", float(len(trees)), sums), sums, axis=1)
    else:
        sums = _votes(graph, x, trees)
    return Answer(shares=graph.add("Div", sums, float(len(trees))), classes=classes)


def _fractions(tree: Any) -> NDArray[np.float64]:
    values = np.asarray(tree.value)[:, 0, :]
    return np.asarray(values / values.sum(axis=1, keepdims=True), dtype=np.float64)


def _votes(graph: Graph, x: str, trees: list[Any]) -> str:
    """The sums of several classes' fractions: each tree is walked once, and gives the number of its leaf."""
    ensemble, fractions, start = Ensemble(len(trees)), [], 0
    for place, tree in enumerate(trees):
        leaf = np.asarray(tree.children_left) < 0
        numbers = np.zeros(leaf.size)
        numbers[leaf] = start + np.arange(leaf.sum())
        start += int(leaf.sum())
        fractions.append(_fractions(tree)[leaf])
        ensemble.add(_tree(tree, numbers), place)
    leaves = graph.cast(ensemble.into(graph, x), TensorProto.INT64)
    found = graph.add("Gather", np.vstack(fractions), leaves, axis=0)
    return graph.add("ReduceSum", found, np.array([1]), keepdims=0)


def boosted(graph: Graph, model: Any, table: Table) -> Answer:
    """Gradient boosting of plain trees.

    Raises:
        NotCompiled: it starts from an estimator of the user's.
    """
    start = model.init_
    if isinstance(start, str):
        base = np.zeros(model.estimators_.shape[1])
    elif type(start).__module__ == "sklearn.dummy":
        base = model._raw_predict_init(np.zeros((1, model.n_features_in_), dtype=np.float32)).ravel()
    else:
        raise NotCompiled("it starts from an estimator of its own")
    ensemble = Ensemble(model.estimators_.shape[1])
    ensemble.base += base
    for stage in model.estimators_:
        for place, one in enumerate(stage):
            ensemble.add(_tree(one.tree_, model.learning_rate * np.asarray(one.tree_.value)[:, 0, 0]), place)
    raw = ensemble.into(graph, graph.single(graph.matrix(table)))
    if not hasattr(model, "classes_"):
        return Answer(number=linked(graph, raw, model._loss.link))
    if type(model._loss).__name__ == "ExponentialLoss":
        raw = graph.add("Mul", raw, 2.0)
    return _classified(graph, model, raw)


def _classified(graph: Graph, model: Any, raw: str) -> Answer:
    two = len(model.classes_) == 2
    shares = binary(graph, graph.add("Sigmoid", raw)) if two else graph.add("Softmax", raw, axis=1)
    return Answer(shares=shares, classes=shares_of(model))


def histogram(graph: Graph, model: Any, table: Table) -> Answer:
    """Gradient boosting on histograms; its trees take categories by their codes."""
    stages = model._predictors
    ensemble = Ensemble(len(stages[0]) if stages else model.n_trees_per_iteration_)
    ensemble.base += np.asarray(model._baseline_prediction).ravel()
    for stage in stages:
        for place, one in enumerate(stage):
            ensemble.add(_histogram_tree(one), place)
    raw = ensemble.into(graph, graph.matrix(table))
    if hasattr(model, "classes_"):
        return _classified(graph, model, raw)
    return Answer(number=linked(graph, raw, model._loss.link))


def _histogram_tree(predictor: Any) -> Tree:
    nodes = predictor.nodes
    leaf = nodes["is_leaf"].astype(bool)
    categorical = np.flatnonzero(nodes["is_categorical"].astype(bool) & ~leaf)
    bits = np.unpackbits(predictor.raw_left_cat_bitsets.view(np.uint8), bitorder="little", axis=1)
    return Tree(
        feature=nodes["feature_idx"],
        split=nodes["num_threshold"].astype(np.float64),
        left=np.where(leaf, -1, nodes["left"].astype(np.int64)),
        right=np.where(leaf, -1, nodes["right"].astype(np.int64)),
        missing_left=nodes["missing_go_to_left"].astype(bool),
        value=nodes["value"].astype(np.float64),
        members={
            int(node): np.flatnonzero(bits[nodes["bitset_idx"][node]]).astype(float).tolist() for node in categorical
        },
    )
