"""A window's counts against the reference profile: effects by column, and which of them are drift.

The threshold of a column is what contiguous blocks of the reference show against the whole of it: a column that
changes from week to week by its nature (a month, a season) is not called drift for doing so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from noria.frames.profile import ColumnCounts
from noria.monitor.effects import jensen_shannon_distance, missing_shift, unseen_mass
from noria.records import ColumnProfile, Profile

__all__ = ["column_effect", "compare", "merge", "watched"]

_MARGIN = 1.25  # over the largest effect a reference block showed: the next block may well be the largest
_SURE = 1e-4  # chance under which a missing or new-level shift is believed
_SHIFT = 0.02  # smallest change of the missing share, or mass of new levels, worth a word


def watched(profile: Profile, columns: Sequence[str] | None, key: str | None, used: set[str]) -> list[str]:
    """Names of the columns to compare: those asked for, else all that the model uses, times and keys left out."""
    if columns is not None:
        return [column.name for column in profile.columns if column.name in columns]
    return [
        column.name
        for column in profile.columns
        if column.kind != "time" and column.name != key and (column.name in used or column.name == "prediction")
    ]


def merge(before: dict[str, list[int]], more: Sequence[ColumnCounts]) -> dict[str, list[int]]:
    """Counts by column (bins, then new, then missing) of two parts of a window together."""
    found = dict(before)
    for column in more:
        row = [*column.counts, column.new, column.missing]
        known = found.get(column.name)
        found[column.name] = [a + b for a, b in zip(known, row, strict=True)] if known else row
    return found


def compare(profile: Profile, counts: dict[str, list[int]], names: Sequence[str], min_effect: float) -> dict[str, Any]:
    """Effects of each column: see `column_effect`."""
    found = {}
    for name in names:
        column = profile.column(name)
        if column is not None and name in counts and any(counts[name]):
            found[name] = column_effect(column, counts[name], min_effect)
    return found


def column_effect(column: ColumnProfile, counts: Sequence[int], min_effect: float) -> dict[str, Any]:
    """How far one column has moved.

    Args:
        column: its reference.
        counts: bins, new levels, missing.
        min_effect: smallest effect worth a word.

    Returns:
        ``effect`` (bias-corrected Jensen-Shannon distance over bins, new levels and missing), ``threshold``,
        ``missing`` and ``missing_reference`` shares, ``new_levels`` share, ``drifted`` and the ``reasons``.
    """
    *_, new, missing = counts
    rows = sum(counts)
    reference = np.asarray([*column.counts, 0, column.missing])
    effect = jensen_shannon_distance(reference, np.asarray(counts))
    threshold = max(min_effect, _MARGIN * _block_effect(column))
    reference_rows = sum(column.counts) + column.missing
    reasons = [f"distribution moved by {effect:.2f} (more than {threshold:.2f})"] if effect > threshold else []
    gone = missing_shift(column.missing, reference_rows, missing, rows)
    usual = _block_missing(column)
    if abs(gone.effect) > _SHIFT and gone.p_value < _SURE and not usual[0] <= missing / rows <= usual[1]:
        reasons.append(f"missing {missing / rows:.1%}, was {column.missing / reference_rows:.1%}")
    if new and rows > missing and column.kind in ("category", "boolean"):
        unseen = unseen_mass(np.asarray(column.counts), new, rows - missing)
        if unseen.effect > _SHIFT and unseen.p_value < _SURE:
            reasons.append(f"{new / rows:.1%} are levels never seen in training")
    return {
        "effect": effect,
        "threshold": threshold,
        "missing": missing / rows,
        "missing_reference": column.missing / reference_rows,
        "new_levels": new / rows,
        "drifted": bool(reasons),
        "reasons": reasons,
    }


def _block_effect(column: ColumnProfile) -> float:
    """The largest effect a contiguous reference block shows against the whole reference."""
    if not column.blocks:
        return 0.0
    whole = np.asarray([*column.counts, column.missing])
    return max(jensen_shannon_distance(whole, np.asarray(block)) for block in column.blocks)


def _block_missing(column: ColumnProfile) -> tuple[float, float]:
    """The smallest and largest missing share of a reference block."""
    shares = [block[-1] / sum(block) for block in column.blocks if sum(block)]
    share = column.missing / max(1, sum(column.counts) + column.missing)
    return (min(shares), max(shares)) if shares else (share, share)
