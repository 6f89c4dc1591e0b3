"""Intervals by resampling rows: paired differences of two models, and gaps between slices.

Cost is bounded. Metrics that are functions of means are resampled by buckets: more than `BUCKETS` rows are
dealt at random into that many buckets, whose sums are resampled, which leaves the spread of the means as it
is. Metrics of ranks are resampled on at most `RANKED_ROWS` rows and the spread is scaled to the full number
(m out of n). Rows are taken as independent of one another.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from noria.validate.catalog import METRICS, improvement
from noria.validate.metrics import RANKED, TERMS, Floats, Scored, measure

__all__ = ["BUCKETS", "RANKED_ROWS", "compare", "interval", "slice_gap"]

BUCKETS = 10_000
RANKED_ROWS = 20_000
_MOST_SLICES = 50


def interval(
    metric: str, scored: Scored, *, confidence: float = 0.95, resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Two-sided interval of the metric; NaN bounds when it is not defined on the rows."""
    values = _resample(metric, (_settle(metric, scored),), resamples, seed)[0]
    tail = (1 - confidence) / 2
    return _quantile(values, tail), _quantile(values, 1 - tail)


def compare(
    metric: str,
    challenger: Scored,
    champion: Scored,
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """The facts `BeatsChampion` reads, from both models' answers on the same rows in the same order.

    ``low`` and ``high`` are each one-sided at ``confidence``: the improvement exceeds ``low`` with that
    confidence, and stays below ``high`` with that confidence.
    """
    if challenger.rows != champion.rows:
        raise ValueError(f"not the same rows: {challenger.rows} against {champion.rows}")
    challenger, champion = _settle(metric, challenger), _settle(metric, champion)
    ours, theirs = measure(metric, challenger), measure(metric, champion)
    new, old = _resample(metric, (challenger, champion), resamples, seed)
    gains = np.array([improvement(metric, a, b) for a, b in zip(new.tolist(), old.tolist(), strict=True)])
    return {
        "challenger": ours,
        "champion": theirs,
        "improvement": improvement(metric, ours, theirs),
        "low": _quantile(gains, 1 - confidence),
        "high": _quantile(gains, confidence),
        "confidence": confidence,
        "rows": challenger.rows,
    }


def slice_gap(
    metric: str,
    scored: Scored,
    groups: NDArray[Any],
    *,
    min_rows: int = 100,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """The facts `SliceGap` reads: the metric in each slice, the largest gap and its interval.

    The interval is simultaneous over all pairs of slices (max-t), so that many equal slices do not add up
    to a gap by chance. Slices with fewer than ``min_rows`` rows, or where the metric is not defined, are
    listed but not judged; at most the 50 largest are judged.
    """
    scored = _settle(metric, scored)
    names, places, counts = np.unique(np.asarray(groups, dtype=str), return_inverse=True, return_counts=True)
    by_size = np.argsort(-counts, kind="stable")
    large = {int(n) for n in by_size[:_MOST_SLICES] if counts[n] >= min_rows}
    table: list[dict[str, Any]] = []
    values: list[float] = []
    draws: list[Floats] = []
    for n, name in enumerate(names.tolist()):
        part = scored.take(places == n)
        value = measure(metric, part)
        judged = n in large and bool(np.isfinite(value))
        if judged:
            values.append(value)
            draws.append(_resample(metric, (part,), resamples, seed + n)[0])
        shown = value if np.isfinite(value) else None
        table.append({"slice": name, "rows": int(counts[n]), "value": shown, "judged": judged})
    gap, low, high = _widest(np.array(values), draws, confidence)
    return {"slices": table, "gap": gap, "low": low, "high": high, "confidence": confidence}


def _settle(metric: str, scored: Scored) -> Scored:
    """The same rows with their classes written down, so that parts of them are read alike."""
    if scored.classes or "regression" in METRICS[metric].tasks:
        return scored
    return Scored(scored.y, scored.prediction, scored.probability, scored.labels())


def _widest(values: Floats, draws: list[Floats], confidence: float) -> tuple[float | None, float | None, float | None]:
    if len(values) < 2:
        return None, None, None
    first, second = np.triu_indices(len(values), 1)
    gaps = values[first] - values[second]
    drawn = np.array(draws)
    moves = (drawn[first] - drawn[second]) - gaps[:, None]
    moves = moves[:, np.isfinite(moves).all(axis=0)]
    if moves.shape[1] < 2:
        return float(np.abs(gaps).max()), None, None
    spread = np.maximum(moves.std(axis=1, ddof=1), 1e-12)
    reach = _quantile(np.abs(moves / spread[:, None]).max(axis=0), confidence) * spread
    size = np.abs(gaps)
    return float(size.max()), float(max(0.0, (size - reach).max())), float((size + reach).max())


def _quantile(values: Floats, share: float) -> float:
    """The quantile of the defined values; NaN when more than a tenth of them is not defined."""
    known = values[np.isfinite(values)]
    if len(known) < 0.9 * len(values) or not len(known):
        return float("nan")
    return float(np.quantile(known, share))


def _resample(metric: str, models: tuple[Scored, ...], resamples: int, seed: int) -> list[Floats]:
    """Values of the metric for each model, on the same resampled rows for all of them."""
    rng = np.random.default_rng(seed)
    if metric in TERMS:
        return _resample_means(metric, models, resamples, rng)
    return _resample_ranks(metric, models, resamples, rng)


def _resample_means(metric: str, models: tuple[Scored, ...], resamples: int, rng: np.random.Generator) -> list[Floats]:
    terms = TERMS[metric]
    parts = [terms.of(model) for model in models]
    rows = models[0].rows
    stacked = np.column_stack([np.ones(rows), *parts])
    if rows > BUCKETS:
        dealt = stacked[rng.permutation(rows)]
        stacked = np.add.reduceat(dealt, np.linspace(0, rows, BUCKETS, endpoint=False).astype(np.int64), axis=0)
    size = len(stacked)
    sums = np.empty((resamples, stacked.shape[1]))
    for start in range(0, resamples, 100):
        count = min(100, resamples - start)
        drawn = rng.integers(0, size, (count, size)) + np.arange(count)[:, None] * size
        weights = np.bincount(drawn.ravel(), minlength=count * size).reshape(count, size)
        sums[start : start + count] = weights.astype(np.float64) @ stacked
    means = sums[:, 1:] / sums[:, :1]
    edges = np.cumsum([part.shape[1] for part in parts])[:-1]
    return [terms.combine(part) for part in np.split(means, edges, axis=1)]


def _resample_ranks(metric: str, models: tuple[Scored, ...], resamples: int, rng: np.random.Generator) -> list[Floats]:
    rows = models[0].rows
    full = [measure(metric, model) for model in models]
    used = models
    if rows > RANKED_ROWS:
        chosen = rng.choice(rows, RANKED_ROWS, replace=False)
        used = tuple(model.take(chosen) for model in models)
    size = used[0].rows
    prepared = [RANKED[metric](model) for model in used]
    values = np.empty((len(models), resamples))
    for n in range(resamples):
        weights = np.bincount(rng.integers(0, size, size), minlength=size).astype(np.float64)
        for m, weighted in enumerate(prepared):
            values[m, n] = weighted(weights)
    if size == rows:
        return list(values)
    shrink = np.sqrt(size / rows)
    part = [measure(metric, model) for model in used]
    return [full[m] + (values[m] - part[m]) * shrink for m in range(len(models))]
