"""Loss of each row in [0, 1], and how sure a window's mean is.

The e-detector needs losses that are bounded, and the same for a row whatever window it falls in.
All of these are small when the model is right and 1 at worst; each is a proper measure of the
prediction, not of a threshold chosen later.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, sqrt

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Interval",
    "bias",
    "binary_losses",
    "block_means",
    "bootstrap_interval",
    "empirical_bernstein_interval",
    "error_cap",
    "excess",
    "multiclass_losses",
    "regression_losses",
]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with the range that holds the truth at the confidence asked for."""

    low: float
    value: float
    high: float


def binary_losses(probability: Floats, label: NDArray[np.bool_] | NDArray[np.int64] | Floats) -> Floats:
    """Squared error of each row's probability of the positive class (Brier 1950); label 0 or 1."""
    p, y = _pair(probability, np.asarray(label, dtype=np.float64))
    _check_probabilities(p)
    if not bool(np.all((y == 0) | (y == 1))):
        raise ValueError("labels must be 0 or 1")
    return (p - y) ** 2


def multiclass_losses(probabilities: Floats, label: NDArray[np.int64]) -> Floats:
    """One less the probability each row gave to its true class.

    Args:
        probabilities: rows x classes.
        label: column of the true class; -1 for a class the model does not know, whose loss is 1.
    """
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(label)
    if p.ndim != 2 or y.shape != p.shape[:1]:
        raise ValueError(f"needs rows x classes and a label for each row: shapes {p.shape} and {y.shape}")
    _check_probabilities(p)
    if not bool(np.all((y >= -1) & (y < p.shape[1]))):
        raise ValueError("labels must be columns of probabilities, or -1")
    of_truth = p[np.arange(y.size), np.maximum(y, 0)]
    return np.where(y >= 0, 1.0 - of_truth, 1.0)


def regression_losses(prediction: Floats, label: Floats, *, cap: float) -> Floats:
    """Absolute error as a share of ``cap``, at most 1; see `error_cap` for a good one."""
    if not 0 < cap < float("inf"):
        raise ValueError(f"cap must be positive and finite, not {cap}")
    p, y = _pair(prediction, label)
    return np.minimum(np.abs(p - y) / cap, 1.0)


def error_cap(prediction: Floats, label: Floats, *, quantile: float = 0.99) -> float:
    """A cap for `regression_losses`: the reference's absolute error that 1 row in 100 exceeds.

    The few worst rows carry most of the variance and little news; cutting them makes a shift of
    the many visible in far fewer rows.
    """
    p, y = _pair(prediction, label)
    cap = float(np.quantile(np.abs(p - y), quantile))
    # A reference without error would give a cap of 0; any error is then infinitely worse than usual.
    return max(cap, float(np.finfo(np.float64).tiny))


def block_means(losses: Floats, rows: int) -> Floats:
    """Mean of each full block of ``rows`` consecutive losses; the unfinished rest waits for its rows."""
    if rows < 1:
        raise ValueError(f"a block holds at least one row, not {rows}")
    x = np.asarray(losses, dtype=np.float64).ravel()
    full = x.size // rows
    means: Floats = x[: full * rows].reshape(full, rows).mean(axis=1)
    return means


def excess(block_losses: Floats, *, level: float) -> Floats:
    """How far each block's mean loss lies above the level approved: 0 up to it, 1 from its double on.

    What the e-detector is fed where rows come in clusters: ordinary blocks give almost nothing, so
    its bound is low and its stakes high, and a few bad blocks in a row suffice; a single one does not.
    """
    if not 0 < level < float("inf"):
        raise ValueError(f"level must be positive and finite, not {level}")
    return np.clip(np.asarray(block_losses, dtype=np.float64) / level - 1.0, 0.0, 1.0)


def bias(prediction: Floats, label: Floats) -> float:
    """Mean of prediction less label: above 0, the model says too much."""
    p, y = _pair(prediction, label)
    return float(np.mean(p - y))


def empirical_bernstein_interval(losses: Floats, *, confidence: float = 0.95) -> Interval:
    """Interval of the mean of independent losses in [0, 1], true at any number of rows.

    Maurer and Pontil, "Empirical Bernstein bounds and sample variance penalization", 2009:
    mean +- sqrt(2 v ln(4/a) / n) + 7 ln(4/a) / (3 (n - 1)), v the sample variance, a = 1 - confidence.
    """
    x = _filled(losses)
    if not bool(np.all((x >= 0) & (x <= 1))):
        raise ValueError("losses must be numbers in [0, 1]")
    value = float(np.mean(x))
    if x.size < 2:
        return Interval(0.0, value, 1.0)
    chance = log(4 / _miss(confidence))
    width = sqrt(2 * float(np.var(x, ddof=1)) * chance / x.size) + 7 * chance / (3 * (x.size - 1))
    return Interval(max(value - width, 0.0), value, min(value + width, 1.0))


def bootstrap_interval(losses: Floats, *, seed: int, confidence: float = 0.95, resamples: int = 1_000) -> Interval:
    """Percentile bootstrap interval of the mean of any numbers, e.g. errors in their own unit.

    Give the differences of two models' errors on the same rows for a paired comparison. Rows are
    drawn singly; for rows that come in resembling groups, give the groups' means.
    """
    x = _filled(losses)
    tail = _miss(confidence) / 2
    draw = np.random.default_rng(seed)
    # Poisson(1) weights in place of drawn indices (Hanley and MacGibbon 2006): less memory, same law.
    means = np.empty(resamples)
    for i in range(resamples):
        weights = draw.poisson(1.0, x.size)
        total = int(weights.sum())
        means[i] = float(weights @ x) / total if total else float(np.mean(x))
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(low), float(np.mean(x)), float(high))


def _pair(prediction: Floats, label: Floats) -> tuple[Floats, Floats]:
    p, y = _filled(prediction), _filled(label)
    if p.shape != y.shape:
        raise ValueError(f"predictions and labels differ in number: {p.size} and {y.size}")
    return p, y


def _filled(values: Floats) -> Floats:
    x = np.asarray(values, dtype=np.float64).ravel()
    if x.size == 0 or not bool(np.isfinite(x).all()):
        raise ValueError("needs at least one row, all finite")
    return x


def _check_probabilities(p: Floats) -> None:
    if not bool(np.all((p >= 0) & (p <= 1))):
        raise ValueError("probabilities must lie in [0, 1]")


def _miss(confidence: float) -> float:
    if not 0.5 <= confidence < 1:
        raise ValueError(f"confidence must lie in [0.5, 1), not {confidence}")
    return 1 - confidence
