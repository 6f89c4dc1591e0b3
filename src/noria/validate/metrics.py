"""Metrics computed from labels and predictions, vectorised, with row weights so that they can be resampled.

Values agree with scikit-learn's. Multiclass ``f1``, ``precision`` and ``recall`` are macro averages; for
binary tasks the positive class is the second of ``classes``. A metric that is not defined on the rows given
(recall without a positive row, roc_auc with one class only) is NaN, where scikit-learn says 0 or raises.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noria.validate.catalog import METRICS, metrics_for

__all__ = ["RANKED", "TERMS", "Scored", "Terms", "measure", "measure_all"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Rows with what was true and what was predicted, aligned.

    Attributes:
        y: labels, none missing.
        prediction: predicted labels, or numbers for a regression.
        probability: one column for each of ``classes``; roc_auc, average_precision, log_loss, brier need it.
        classes: class labels in the order of the probabilities; found in the rows when left empty.
    """

    y: NDArray[Any]
    prediction: NDArray[Any]
    probability: Floats | None = None
    classes: tuple[Any, ...] = ()

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.y)

    def take(self, rows: NDArray[Any]) -> Scored:
        """The rows chosen by a mask or by positions."""
        probability = None if self.probability is None else self.probability[rows]
        return Scored(self.y[rows], self.prediction[rows], probability, self.classes)

    def labels(self) -> tuple[Any, ...]:
        """The classes, in order."""
        if self.classes:
            return self.classes
        return tuple(sorted({*self.y.tolist(), *self.prediction.tolist()}, key=lambda label: (str(type(label)), label)))

    def codes(self, values: NDArray[Any]) -> NDArray[np.int64]:
        """Position of each label among the classes, -1 for one that is not among them."""
        places = {label: place for place, label in enumerate(self.labels())}
        return np.fromiter((places.get(value, -1) for value in values.tolist()), np.int64, len(values))

    def positive(self) -> Floats:
        """1 where the label is the positive class, else 0."""
        found: Floats = (self.codes(self.y) == 1).astype(np.float64)
        return found

    def score(self) -> Floats:
        """Probability of the positive class."""
        if self.probability is None:
            raise ValueError("the model gives no probabilities")
        return np.asarray(self.probability[:, 1], np.float64)


@dataclass(frozen=True, slots=True)
class Terms:
    """A metric that is a function of means of per-row terms.

    Attributes:
        of: the terms, one row of them for each row.
        combine: the metric from the means of the terms (last axis), for any number of resamples at once.
    """

    of: Callable[[Scored], Floats]
    combine: Callable[[Floats], Floats]


def measure(name: str, scored: Scored) -> float:
    """The metric ``name`` on all rows; NaN when it is not defined there.

    Raises:
        KeyError: there is no such metric.
        ValueError: it needs probabilities and there are none.
    """
    METRICS[name]
    if not scored.rows:
        return float("nan")
    if name in TERMS:
        terms = TERMS[name]
        return float(terms.combine(terms.of(scored).mean(axis=0)))
    return RANKED[name](scored)(np.ones(scored.rows))


def measure_all(scored: Scored, task: str) -> dict[str, float]:
    """Every metric that fits ``task`` and is defined on these rows."""
    needs_probability = {"roc_auc", "average_precision", "log_loss", "brier"}
    names = [name for name in metrics_for(task) if scored.probability is not None or name not in needs_probability]
    found = {name: measure(name, scored) for name in names}
    return {name: value for name, value in found.items() if np.isfinite(value)}


def _error(scored: Scored) -> Floats:
    found: Floats = np.asarray(scored.prediction, np.float64) - np.asarray(scored.y, np.float64)
    return found


def _correct(scored: Scored) -> Floats:
    hit: Floats = (scored.codes(scored.y) == scored.codes(scored.prediction)).astype(np.float64)
    return hit[:, None]


def _probabilities(scored: Scored) -> Floats:
    if scored.probability is None:
        raise ValueError("the model gives no probabilities")
    return np.asarray(scored.probability, np.float64)


def _log_loss(scored: Scored) -> Floats:
    probability, codes = _probabilities(scored), scored.codes(scored.y)
    tiny = np.finfo(np.float64).eps
    true = np.where(codes >= 0, probability[np.arange(scored.rows), np.maximum(codes, 0)], 0.0)
    return np.asarray(-np.log(np.clip(true, tiny, 1 - tiny))[:, None])


def _brier(scored: Scored) -> Floats:
    probability, codes = _probabilities(scored), scored.codes(scored.y)
    truth = codes[:, None] == np.arange(probability.shape[1])
    squares = ((probability - truth) ** 2).sum(axis=1, keepdims=True)
    return np.asarray(squares / 2 if probability.shape[1] == 2 else squares)


def _confusion(scored: Scored) -> Floats:
    """For each class judged: hits, false alarms, misses."""
    truth, said = scored.codes(scored.y), scored.codes(scored.prediction)
    count = len(scored.labels())
    judged = [1] if count <= 2 else list(range(count))
    parts = [((truth == c) & (said == c), (truth != c) & (said == c), (truth == c) & (said != c)) for c in judged]
    return np.column_stack([part for three in parts for part in three]).astype(np.float64)


def _macro(top: tuple[int, int, int], bottom: tuple[int, int, int]) -> Callable[[Floats], Floats]:
    """Share ``top / bottom`` of (hits, false alarms, misses); the mean of the classes seen when many."""

    def combine(means: Floats) -> Floats:
        parts = means.reshape(*means.shape[:-1], -1, 3)
        above, below = parts @ np.array(top, float), parts @ np.array(bottom, float)
        with np.errstate(divide="ignore", invalid="ignore"):
            share = above / below
            if parts.shape[-2] == 1:
                return np.asarray(share[..., 0])
            seen = parts.sum(axis=-1) > 0
            return np.asarray(np.where(seen, np.nan_to_num(share), 0).sum(axis=-1) / seen.sum(axis=-1))

    return combine


def _squares(scored: Scored) -> Floats:
    y = np.asarray(scored.y, np.float64)
    centred = y - y.mean()
    return np.column_stack([_error(scored) ** 2, centred, centred**2])


def _r2(means: Floats) -> Floats:
    spread = means[..., 2] - means[..., 1] ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(spread > 0, 1 - means[..., 0] / spread, np.nan))


def _relative(scored: Scored) -> Floats:
    size = np.maximum(np.abs(np.asarray(scored.y, np.float64)), np.finfo(np.float64).eps)
    return (np.abs(_error(scored)) / size)[:, None]


def _first(means: Floats) -> Floats:
    return means[..., 0]


TERMS: dict[str, Terms] = {
    "accuracy": Terms(_correct, _first),
    "error_rate": Terms(lambda scored: 1 - _correct(scored), _first),
    "log_loss": Terms(_log_loss, _first),
    "brier": Terms(_brier, _first),
    "f1": Terms(_confusion, _macro((2, 0, 0), (2, 1, 1))),
    "precision": Terms(_confusion, _macro((1, 0, 0), (1, 1, 0))),
    "recall": Terms(_confusion, _macro((1, 0, 0), (1, 0, 1))),
    "mae": Terms(lambda scored: np.abs(_error(scored))[:, None], _first),
    "rmse": Terms(lambda scored: (_error(scored) ** 2)[:, None], lambda means: np.sqrt(means[..., 0])),
    "mape": Terms(_relative, _first),
    "r2": Terms(_squares, _r2),
    "bias": Terms(lambda scored: _error(scored)[:, None], _first),
}
"""Metrics that are functions of means."""


def _roc_auc(scored: Scored) -> Callable[[Floats], float]:
    score = scored.score()
    order = np.argsort(score, kind="stable")
    positive, starts = scored.positive()[order], _ties(score[order])

    def weighted(weights: Floats) -> float:
        ordered = weights[order]
        hits = np.add.reduceat(ordered * positive, starts)
        others = np.add.reduceat(ordered * (1 - positive), starts)
        pairs = hits.sum() * others.sum()
        return float((hits * (np.cumsum(others) - others / 2)).sum() / pairs) if pairs else float("nan")

    return weighted


def _average_precision(scored: Scored) -> Callable[[Floats], float]:
    score = scored.score()
    order = np.argsort(-score, kind="stable")
    positive, starts = scored.positive()[order], _ties(score[order])

    def weighted(weights: Floats) -> float:
        ordered = weights[order]
        hits, everyone = np.add.reduceat(ordered * positive, starts), np.add.reduceat(ordered, starts)
        if not hits.sum():
            return float("nan")
        precision = np.cumsum(hits) / np.maximum(np.cumsum(everyone), 1e-300)
        return float((hits * precision).sum() / hits.sum())

    return weighted


def _median_error(scored: Scored) -> Callable[[Floats], float]:
    size = np.abs(_error(scored))
    order = np.argsort(size, kind="stable")
    ordered = size[order]

    def weighted(weights: Floats) -> float:
        reached = np.cumsum(weights[order])
        middle = [(reached[-1] - 1) // 2, reached[-1] // 2]
        return float(ordered[np.searchsorted(reached, middle, side="right")].mean())

    return weighted


def _ties(ordered: Floats) -> NDArray[np.int64]:
    return np.concatenate([[0], np.flatnonzero(np.diff(ordered)) + 1])


RANKED: dict[str, Callable[[Scored], Callable[[Floats], float]]] = {
    "roc_auc": _roc_auc,
    "average_precision": _average_precision,
    "median_ae": _median_error,
}
"""Metrics that need the rows in order: prepared once, then evaluated for any whole-numbered row weights."""
