"""scikit-learn estimators, from the outside in: what holds others, what transforms, what predicts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from noria.flavors.compile import linear, trees, wholes
from noria.flavors.compile.encoders import encode
from noria.flavors.compile.graph import Graph, NotCompiled, Table
from noria.flavors.compile.lightgbm_trees import light
from noria.flavors.compile.links import Answer
from noria.flavors.compile.others import other_predictor, other_transformer
from noria.flavors.compile.scalers import TRANSFORMERS, apply_function, select
from noria.flavors.compile.xgboost_trees import extreme

__all__ = ["predict"]

Predicts = Callable[[Graph, Any, Table], Answer]


def predict(graph: Graph, model: Any, table: Table) -> Answer:
    """An estimator that predicts.

    Raises:
        NotCompiled: a part of it has no operators.
    """
    package = type(model).__module__.split(".")[0]
    name = type(model).__name__
    if package == "lightgbm":
        return _light(graph, model, table)
    if package == "xgboost":
        return _extreme(graph, model, table)
    made = _PREDICTORS.get(name) if package == "sklearn" else None
    return made(graph, model, table) if made else other_predictor(graph, model, table)


def transform(graph: Graph, model: Any, table: Table) -> Table:
    """An estimator that transforms.

    Raises:
        NotCompiled: a part of it has no operators.
    """
    if isinstance(model, str) or model is None:
        return Table((), table.names) if model == "drop" else table
    name = type(model).__name__
    if name == "Pipeline":
        for _, step in model.steps:
            table = transform(graph, step, table)
        return table
    if name == "ColumnTransformer":
        return _columns(graph, model, table)
    if name == "FeatureUnion":
        parts = [transform(graph, part, table) for _, part in model.transformer_list]
        return Table(tuple(column for part in parts for column in part.columns))
    if name in ("OneHotEncoder", "OrdinalEncoder", "TargetEncoder"):
        return encode(graph, model, table)
    if name in TRANSFORMERS:
        return TRANSFORMERS[name](graph, model, table)
    if hasattr(model, "get_support"):
        return select(graph, model, table)
    return other_transformer(graph, model, table)


def _columns(graph: Graph, model: Any, table: Table) -> Table:
    """Each part on its own columns; those are known by name where the table has names."""
    fitted = getattr(model, "feature_names_in_", None)
    if table.names is not None and fitted is not None:
        where = {name: place for place, name in enumerate(table.names)}
        missing = [name for name in fitted if name not in where]
        if missing:
            raise NotCompiled(f"it takes a column {missing[0]!r} that is no feature")
        places = [where[name] for name in fitted]
    else:
        places = list(range(len(table.columns)))
    found: list[Any] = []
    for name, part, _ in model.transformers_:
        if isinstance(part, str) and part == "drop":
            continue
        chosen = [places[place] for place in model._transformer_to_input_indices[name]]
        if chosen:
            found += transform(graph, part, table.take(chosen)).columns
    weights = model.transformer_weights
    if weights or (getattr(model, "sparse_output_", False) and not found):
        raise NotCompiled("its columns are weighted")
    return Table(tuple(found))


def _pipeline(graph: Graph, model: Any, table: Table) -> Answer:
    for _, step in model.steps[:-1]:
        table = transform(graph, step, table)
    return predict(graph, model.steps[-1][1], table)


def _search(graph: Graph, model: Any, table: Table) -> Answer:
    return predict(graph, model.best_estimator_, table)


def _target(graph: Graph, model: Any, table: Table) -> Answer:
    """A regression of a transformed label."""
    found = predict(graph, model.regressor_, table)
    if found.number is None or model._training_dim != 1:
        raise NotCompiled("it predicts several values a row")
    back = model.transformer_
    if type(back).__name__ == "FunctionTransformer":
        return Answer(number=apply_function(graph, back.inverse_func, found.number))
    if type(back).__name__ == "StandardScaler":
        number = found.number
        if back.with_std:
            number = graph.add("Mul", number, back.scale_.reshape(1, -1))
        return Answer(number=graph.add("Add", number, back.mean_.reshape(1, -1)) if back.with_mean else number)
    raise NotCompiled(f"the label's {type(back).__name__} has no inverse that is known")


def _histogram(graph: Graph, model: Any, table: Table) -> Answer:
    before = getattr(model, "_preprocessor", None)
    return trees.histogram(graph, model, table if before is None else transform(graph, before, table))


def _light(graph: Graph, model: Any, table: Table) -> Answer:
    classes = np.asarray(model.classes_) if hasattr(model, "_classes") and model._classes is not None else None
    return light(graph, model.booster_, table, classes, whole=False)


def _extreme(graph: Graph, model: Any, table: Table) -> Answer:
    booster = model.get_booster()
    best = getattr(booster, "best_iteration", None) if model.early_stopping_rounds is not None else None
    if best is not None:
        booster = booster[: int(best) + 1]
    classes = np.asarray(model.classes_) if hasattr(model, "n_classes_") else None
    return extreme(graph, booster, table, classes, float("nan" if model.missing is None else model.missing))


_LINEAR_REGRESSORS = (
    "ARDRegression", "BayesianRidge", "ElasticNet", "ElasticNetCV", "GammaRegressor", "HuberRegressor", "Lars",
    "LarsCV", "Lasso", "LassoCV", "LassoLars", "LassoLarsCV", "LassoLarsIC", "LinearRegression", "LinearSVR",
    "OrthogonalMatchingPursuit", "OrthogonalMatchingPursuitCV", "PassiveAggressiveRegressor", "PoissonRegressor",
    "QuantileRegressor", "Ridge", "RidgeCV", "SGDRegressor", "TheilSenRegressor", "TweedieRegressor",
)  # fmt: skip
_LINEAR_CLASSIFIERS = (
    "LinearSVC", "LogisticRegression", "LogisticRegressionCV", "PassiveAggressiveClassifier", "Perceptron",
    "RidgeClassifier", "RidgeClassifierCV", "SGDClassifier", "LinearDiscriminantAnalysis",
)  # fmt: skip
_FORESTS = (
    "DecisionTreeClassifier", "DecisionTreeRegressor", "ExtraTreeClassifier", "ExtraTreeRegressor",
    "ExtraTreesClassifier", "ExtraTreesRegressor", "RandomForestClassifier", "RandomForestRegressor",
)  # fmt: skip
_PREDICTORS: dict[str, Predicts] = {
    **dict.fromkeys(_LINEAR_REGRESSORS, linear.linear_regressor),
    **dict.fromkeys(_LINEAR_CLASSIFIERS, linear.linear_classifier),
    **dict.fromkeys(_FORESTS, trees.forest),
    **dict.fromkeys(("GradientBoostingClassifier", "GradientBoostingRegressor"), trees.boosted),
    **dict.fromkeys(("HistGradientBoostingClassifier", "HistGradientBoostingRegressor"), _histogram),
    **dict.fromkeys(("GridSearchCV", "HalvingGridSearchCV", "HalvingRandomSearchCV", "RandomizedSearchCV"), _search),
    **dict.fromkeys(("BaggingClassifier", "BaggingRegressor"), partial(wholes.bag, predict)),
    **dict.fromkeys(("FixedThresholdClassifier", "TunedThresholdClassifierCV"), partial(wholes.threshold, predict)),
    **dict.fromkeys(("StackingClassifier", "StackingRegressor"), partial(wholes.stack, predict)),
    **dict.fromkeys(("VotingClassifier", "VotingRegressor"), partial(wholes.vote, predict)),
    "CalibratedClassifierCV": partial(wholes.calibrate, predict),
    "Pipeline": _pipeline,
    "TransformedTargetRegressor": _target,
}
