"""XGBoost: boosters, and the boosters within its scikit-learn classes. Values and splits are float32."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noria.flavors.compile.ensemble import LESS, Ensemble, Tree
from noria.flavors.compile.graph import Graph, NotCompiled, Table
from noria.flavors.compile.links import Answer, binary

__all__ = ["extreme"]

_EXPONENTIAL = ("count:poisson", "reg:gamma", "reg:tweedie", "survival:cox", "survival:aft")
_PLAIN = (
    "reg:squarederror", "reg:squaredlogerror", "reg:pseudohubererror", "reg:absoluteerror", "reg:quantileerror",
    "reg:linear", "rank:pairwise", "rank:ndcg", "rank:map",
)  # fmt: skip


def extreme(graph: Graph, booster: Any, table: Table, classes: Any, missing: float = np.nan) -> Answer:
    """A booster, all of its trees.

    Args:
        graph: what it becomes part of.
        booster: the booster, already cut to its best iteration.
        table: its features.
        classes: class labels; None for a regression.
        missing: the value that counts as missing.

    Raises:
        NotCompiled: it is linear, compares categories, or predicts several values a row.
    """
    learner = json.loads(bytes(booster.save_raw("json")))["learner"]
    booster_name, objective = learner["gradient_booster"]["name"], learner["objective"]["name"]
    if booster_name not in ("gbtree", "dart"):
        raise NotCompiled("it is a linear booster")
    held = learner["gradient_booster"]
    weights = held.get("weight_drop")
    model = held["gbtree"]["model"] if "gbtree" in held else held["model"]
    settings = learner["learner_model_param"]
    if int(settings.get("num_target", "1")) > 1:
        raise NotCompiled("it predicts several values a row")
    outputs = max(1, int(settings["num_class"]))
    ensemble = Ensemble(outputs)
    for place, (tree, output) in enumerate(zip(model["trees"], model["tree_info"], strict=True)):
        ensemble.add(_tree(tree, 1.0 if weights is None else float(weights[place])), int(output))
    ensemble.base += _base(settings["base_score"], objective, outputs)
    x = graph.matrix(table)
    if not np.isnan(missing):
        x = graph.add("Where", graph.add("Equal", x, float(missing)), np.float64(np.nan), x)
    return _answer(graph, ensemble.into(graph, graph.single(x)), objective, classes)


def _tree(tree: dict[str, Any], weight: float) -> Tree:
    if any(tree["split_type"]) or tree["categories"]:
        raise NotCompiled("it compares categories")
    if int(tree["tree_param"].get("size_leaf_vector", "1")) > 1:
        raise NotCompiled("its leaves hold several values")
    left = np.array(tree["left_children"])
    conditions = np.array(tree["split_conditions"], dtype=np.float32).astype(np.float64)
    return Tree(
        feature=np.array(tree["split_indices"]),
        split=conditions,
        left=left,
        right=np.array(tree["right_children"]),
        missing_left=np.array(tree["default_left"]).astype(bool),
        value=weight * conditions,
        mode=LESS,
    )


def _base(text: str, objective: str, outputs: int) -> NDArray[np.float64]:
    """What the trees add to: the stored score is a probability or a mean, not a margin."""
    found = np.atleast_1d(np.array(json.loads(text), dtype=np.float32).astype(np.float64))
    if objective in ("binary:logistic", "reg:logistic"):
        found = np.log(found / (1 - found))
    elif objective in _EXPONENTIAL:
        found = np.log(found)
    return np.broadcast_to(found, (outputs,)) if found.size == 1 else found


def _answer(graph: Graph, raw: str, objective: str, classes: Any) -> Answer:
    if objective in ("binary:logistic", "binary:logitraw"):
        return Answer(shares=binary(graph, graph.add("Sigmoid", raw)), classes=classes)
    if objective == "multi:softprob":
        return Answer(shares=graph.add("Softmax", raw, axis=1), classes=classes)
    if objective == "multi:softmax":
        return Answer(place=graph.add("ArgMax", raw, axis=1, keepdims=0), classes=classes)
    if objective == "binary:hinge":
        positive = graph.add("Greater", raw, 0.0)
        return Answer(place=graph.add("Reshape", graph.add("Cast", positive, to=7), np.array([-1])), classes=classes)
    if objective == "reg:logistic":
        return Answer(number=graph.add("Sigmoid", raw))
    if objective in _EXPONENTIAL:
        return Answer(number=graph.add("Exp", raw))
    if objective in _PLAIN:
        return Answer(number=raw)
    raise NotCompiled(f"its objective {objective} is not known")
