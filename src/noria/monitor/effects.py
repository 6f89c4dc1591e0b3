"""How far a window has moved from the reference: effect sizes from binned counts.

Every plug-in distance between two samples is positive even when nothing moved, and the more levels
and the fewer rows, the larger it is: a fixed threshold then fires on small windows of wide columns.
The distances here therefore have their mean under "nothing moved" taken away (or a first-order
bias correction), so that 0 means "no more than chance", whatever the number of rows and levels.

Counts are arrays over the same bins in the same order: the reference's quantile bins or levels, then
the bins for *missing* and *new level* where the column has them. ``n`` is the number of reference
rows, ``m`` of current rows, ``K`` the number of bins in use, very rare ones taken together.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import erfc, log, sqrt

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "TestedEffect",
    "benjamini_hochberg",
    "cramers_v",
    "jensen_shannon_distance",
    "missing_shift",
    "population_stability_index",
    "total_variation",
    "unseen_mass",
]

Counts = NDArray[np.float64] | NDArray[np.int64]
Floats = NDArray[np.float64]

_FEW = 5.0  # rows expected of a bin, under which the corrections do not hold (Cochran 1954)
_EMPTY_SHARE = 1e-4  # what PSI takes for an empty bin, the customary floor


@dataclass(frozen=True, slots=True)
class TestedEffect:
    """How much moved, and how surprising that is if nothing did.

    Attributes:
        effect: the change in its own unit, signed where the unit has a sign.
        p_value: chance of at least this much if nothing moved.
    """

    __test__ = False  # not a test class, whatever pytest thinks of its name

    effect: float
    p_value: float


def population_stability_index(reference: Counts, current: Counts) -> float:
    """Population stability index less its mean under no change; 0 or less: nothing to see.

    PSI = sum (q_i - p_i) ln(q_i / p_i), which under no change is about (1/n + 1/m) chi2(K-1)
    (Yurdakul and Naranjo, "Statistical properties of the population stability index", 2020),
    so its mean is (K-1)(1/n + 1/m).
    """
    p, q, n, m = _shares(reference, current)
    p, q = np.maximum(p, _EMPTY_SHARE), np.maximum(q, _EMPTY_SHARE)
    return float(np.sum((q - p) * np.log(q / p)) - (p.size - 1) * (1 / n + 1 / m))


def jensen_shannon_distance(reference: Counts, current: Counts) -> float:
    """Jensen-Shannon distance in [0, 1], corrected for the number of bins and rows.

    The divergence in nats is about (1/8)(1/n + 1/m) chi2(K-1) under no change (second-order
    expansion, Lin 1991); that mean is taken away before the root. Base 2, so that 1 is "no overlap".
    """
    p, q, n, m = _shares(reference, current)
    mixed = (p + q) / 2
    nats = _entropy(mixed) - (_entropy(p) + _entropy(q)) / 2
    corrected = nats - (p.size - 1) * (1 / n + 1 / m) / 8
    return sqrt(min(max(corrected, 0.0) / log(2), 1.0))


def cramers_v(reference: Counts, current: Counts) -> float:
    """Cramer's V of the 2 x K table in [0, 1], bias-corrected: 0.1 small, 0.3 medium, 0.5 large.

    Bergsma, "A bias-correction for Cramer's V and Tschuprow's T", 2013: with phi2 = chi2 / N,
    V = sqrt(max(0, phi2 - (K-1)/(N-1)) / (min(K', 2') - 1)), K' = K - (K-1)^2/(N-1), 2' likewise.
    """
    table = np.vstack(_used(reference, current))
    rows, total = table.sum(axis=1, keepdims=True), float(table.sum())
    levels = table.shape[1]
    if levels < 2 or total < 3:
        return 0.0
    expected = rows * table.sum(axis=0) / total
    phi2 = float(np.sum((table - expected) ** 2 / expected)) / total
    excess = max(0.0, phi2 - (levels - 1) / (total - 1))
    smaller_side = min(levels - (levels - 1) ** 2 / (total - 1), 2 - 1 / (total - 1)) - 1
    return sqrt(min(excess / smaller_side, 1.0)) if smaller_side > 0 else 0.0


def total_variation(reference: Counts, current: Counts) -> float:
    """Share of rows that would have to move to another bin, less what chance alone moves.

    TV = sum |q_i - p_i| / 2. Under no change each difference is nearly normal with variance
    s_i(1 - s_i)(1/n + 1/m), s the pooled share, so its mean size is sqrt(2/pi) standard deviations.
    """
    p, q, n, m = _shares(reference, current)
    pooled = (n * p + m * q) / (n + m)
    by_chance = np.sqrt(2 / np.pi * pooled * (1 - pooled) * (1 / n + 1 / m))
    return float(np.sum(np.abs(q - p)) - np.sum(by_chance)) / 2


def missing_shift(reference_missing: int, n: int, current_missing: int, m: int) -> TestedEffect:
    """Change of the missing share (current less reference), with a two-sided two-proportion test.

    The pooled z-test; an exact tail is not worth its cost at the sizes of a monitoring window.
    """
    _check_part(reference_missing, n)
    _check_part(current_missing, m)
    effect = current_missing / m - reference_missing / n
    pooled = (reference_missing + current_missing) / (n + m)
    spread = sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    if spread == 0.0:
        return TestedEffect(effect, 1.0)
    return TestedEffect(effect, _two_sided(effect / spread))


def unseen_mass(reference: Counts, unseen: int, m: int) -> TestedEffect:
    """Share of current rows with a level the reference never had, beyond what rare levels explain.

    A column with many rare levels shows new ones without end. Good (1953) and Turing: the mass of
    levels not yet seen is about (levels seen once) / n. The p-value is the binomial chance of at
    least ``unseen`` of ``m`` rows at that mass, its own uncertainty added (one more singleton).

    Args:
        reference: counts of the levels in the reference, without its missing bin.
        unseen: current rows whose level is not among them.
        m: current rows whose level is not missing.
    """
    from scipy.special import bdtrc  # scipy ships no types

    _check_part(unseen, m)
    n = float(np.sum(reference))
    if n <= 0:
        raise ValueError("the reference holds no rows, so every level would be new")
    expected = min((float(np.sum(np.asarray(reference) == 1)) + 1.0) / n, 1.0)
    effect = unseen / m - expected
    return TestedEffect(effect, 1.0 if unseen == 0 else float(bdtrc(unseen - 1, m, expected)))


def benjamini_hochberg(p_values: Floats, rate: float = 0.05) -> NDArray[np.bool_]:
    """Which of the tests to believe so that about ``rate`` of those believed are false.

    Benjamini and Hochberg (1995): believe all up to the largest i with p_(i) <= rate * i / count.
    """
    if not 0 < rate < 1:
        raise ValueError(f"rate must lie between 0 and 1, not {rate}")
    p = np.asarray(p_values, dtype=np.float64)
    believed = np.zeros(p.shape, dtype=np.bool_)
    order = np.argsort(p, kind="stable")
    passing = np.flatnonzero(p[order] <= rate * np.arange(1, p.size + 1) / max(p.size, 1))
    if passing.size:
        believed[order[: passing[-1] + 1]] = True
    return believed


def _used(reference: Counts, current: Counts) -> tuple[Floats, Floats]:
    """Both counts over the bins in use, those too rare for the smaller side taken as one bin.

    Empty bins carry no freedom. Of a bin with fewer than five expected rows a window can say nothing
    alone, and a thousand of them would drown the rest. New levels have `unseen_mass`.
    """
    a, b = np.asarray(reference, dtype=np.float64), np.asarray(current, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"counts must be over the same bins: shapes {a.shape} and {b.shape}")
    if not (np.isfinite(a).all() and np.isfinite(b).all() and (a >= 0).all() and (b >= 0).all()):
        raise ValueError("counts must be finite and not negative")
    if a.sum() <= 0 or b.sum() <= 0:
        raise ValueError("both sides need at least one row")
    together = a + b
    rare = together * (min(a.sum(), b.sum()) / together.sum()) < _FEW
    common = ~rare
    if not together[rare].any():
        return a[common], b[common]
    return np.append(a[common], a[rare].sum()), np.append(b[common], b[rare].sum())


def _shares(reference: Counts, current: Counts) -> tuple[Floats, Floats, float, float]:
    a, b = _used(reference, current)
    n, m = float(a.sum()), float(b.sum())
    return a / n, b / m, n, m


def _entropy(shares: Floats) -> float:
    positive = shares[shares > 0]
    return float(-np.sum(positive * np.log(positive)))


def _check_part(part: int, whole: int) -> None:
    if whole <= 0 or not 0 <= part <= whole:
        raise ValueError(f"{part} rows of {whole} is not a share")


def _two_sided(z: float) -> float:
    return erfc(abs(z) / sqrt(2))
