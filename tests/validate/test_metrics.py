from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from noria.validate.catalog import METRICS, improvement, metrics_for
from noria.validate.metrics import RANKED, TERMS, Scored, measure, measure_all

RNG = np.random.default_rng(3)


def binary(rows: int = 400) -> Scored:
    y = np.array(["no", "yes"], dtype=object)[RNG.integers(0, 2, rows)]
    score = np.round(np.clip(0.25 * (y == "yes") + RNG.random(rows) * 0.75, 0.01, 0.99), 2)
    said = np.where(score > 0.5, "yes", "no").astype(object)
    return Scored(y, said, np.column_stack([1 - score, score]), ("no", "yes"))


def multiclass(rows: int = 400) -> Scored:
    y = RNG.integers(0, 4, rows)
    probability = RNG.dirichlet(np.ones(4), rows)
    return Scored(y, probability.argmax(axis=1), probability, (0, 1, 2, 3))


def regression(rows: int = 401) -> Scored:
    y = RNG.normal(5, 3, rows)
    return Scored(y, y + RNG.normal(0.3, 1, rows))


BINARY: dict[str, Callable[[Scored], float]] = {
    "accuracy": lambda s: reference.accuracy_score(s.y, s.prediction),
    "error_rate": lambda s: 1 - reference.accuracy_score(s.y, s.prediction),
    "roc_auc": lambda s: reference.roc_auc_score(s.y == "yes", s.score()),
    "average_precision": lambda s: reference.average_precision_score(s.y == "yes", s.score()),
    "log_loss": lambda s: reference.log_loss(s.y, s.probability, labels=["no", "yes"]),
    "brier": lambda s: reference.brier_score_loss(s.y == "yes", s.score()),
    "f1": lambda s: reference.f1_score(s.y, s.prediction, pos_label="yes"),
    "precision": lambda s: reference.precision_score(s.y, s.prediction, pos_label="yes"),
    "recall": lambda s: reference.recall_score(s.y, s.prediction, pos_label="yes"),
}
MULTICLASS: dict[str, Callable[[Scored], float]] = {
    "accuracy": lambda s: reference.accuracy_score(s.y, s.prediction),
    "error_rate": lambda s: 1 - reference.accuracy_score(s.y, s.prediction),
    "log_loss": lambda s: reference.log_loss(s.y, s.probability, labels=[0, 1, 2, 3]),
    "brier": lambda s: reference.brier_score_loss(s.y, s.probability, labels=[0, 1, 2, 3]),
    "f1": lambda s: reference.f1_score(s.y, s.prediction, average="macro"),
    "precision": lambda s: reference.precision_score(s.y, s.prediction, average="macro"),
    "recall": lambda s: reference.recall_score(s.y, s.prediction, average="macro"),
}
REGRESSION: dict[str, Callable[[Scored], float]] = {
    "mae": lambda s: reference.mean_absolute_error(s.y, s.prediction),
    "rmse": lambda s: reference.root_mean_squared_error(s.y, s.prediction),
    "mape": lambda s: reference.mean_absolute_percentage_error(s.y, s.prediction),
    "r2": lambda s: reference.r2_score(s.y, s.prediction),
    "median_ae": lambda s: reference.median_absolute_error(s.y, s.prediction),
    "bias": lambda s: float(np.mean(s.prediction - s.y)),
}
CASES: list[Any] = [
    pytest.param(make, name, expected, id=f"{make.__name__}-{name}")
    for make, table in ((binary, BINARY), (multiclass, MULTICLASS), (regression, REGRESSION))
    for name, expected in table.items()
]


@pytest.mark.parametrize(("make", "name", "expected"), CASES)
def test_a_metric_agrees_with_scikit_learn(
    make: Callable[..., Scored], name: str, expected: Callable[[Scored], float]
) -> None:
    for rows in (37, 400):
        scored = make(rows)
        assert measure(name, scored) == pytest.approx(expected(scored), rel=1e-9)


def test_every_metric_is_computed_and_compared_with_scikit_learn() -> None:
    assert set(METRICS) == {*TERMS, *RANKED} == {*BINARY, *REGRESSION}
    for task, table in (("binary", BINARY), ("multiclass", MULTICLASS), ("regression", REGRESSION)):
        assert set(metrics_for(task)) == set(table)


def test_measure_all_gives_what_is_defined() -> None:
    assert set(measure_all(binary(), "binary")) == set(BINARY)
    one_class = Scored(np.array([0, 0]), np.array([0, 0]), None, (0, 1))
    assert measure_all(one_class, "binary") == {"accuracy": 1.0, "error_rate": 0.0}


def test_what_is_not_defined_is_nan() -> None:
    none_positive = Scored(np.zeros(5, int), np.zeros(5, int), np.full((5, 2), 0.5), (0, 1))
    for name in ("roc_auc", "average_precision", "recall", "precision", "f1"):
        assert math.isnan(measure(name, none_positive))
    assert math.isnan(measure("mae", Scored(np.array([]), np.array([]))))
    assert math.isnan(measure("r2", Scored(np.ones(5), np.ones(5))))


def test_a_label_never_seen_in_training_counts_as_wrong() -> None:
    scored = Scored(np.array(["a", "new"]), np.array(["a", "b"]), np.array([[0.9, 0.1], [0.5, 0.5]]), ("a", "b"))
    assert measure("accuracy", scored) == 0.5
    assert measure("log_loss", scored) > 10


@settings(max_examples=50)
@given(st.lists(st.integers(0, 3), min_size=2, max_size=40), st.integers(0, 10**6))
def test_weighting_a_row_is_the_same_as_repeating_it(weights: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    y, score = rng.integers(0, 2, len(weights)), rng.integers(0, 5, len(weights)) / 4
    scored = Scored(y, (score > 0.5).astype(int), np.column_stack([1 - score, score]), (0, 1))
    counts = np.array(weights)
    repeated = scored.take(np.repeat(np.arange(len(weights)), counts))
    numbers = Scored(y.astype(float), score)
    for name in ("roc_auc", "average_precision"):
        if repeated.rows:
            weighted = RANKED[name](scored)(counts.astype(float))
            assert weighted == pytest.approx(measure(name, repeated), nan_ok=True)
    if repeated.rows:
        again = numbers.take(np.repeat(np.arange(len(weights)), counts))
        assert RANKED["median_ae"](numbers)(counts.astype(float)) == pytest.approx(measure("median_ae", again))


def test_improvement_is_positive_when_the_challenger_is_better() -> None:
    assert improvement("roc_auc", 0.9, 0.8) == pytest.approx(0.1)
    assert improvement("mae", 3.0, 4.0) == pytest.approx(1.0)
    assert improvement("bias", -0.1, 0.5) == pytest.approx(0.4)
