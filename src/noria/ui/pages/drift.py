"""Drift as a map: columns by windows, each cell an effect size against its threshold."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from noria.store.ports import Window
from noria.ui import format as say

SHOWN = 60


class Cell(msgspec.Struct, frozen=True):
    """One column in one window; ``level`` 0 (as in training) to 5 (far over the threshold)."""

    effect: float | None
    threshold: float | None
    level: int
    drifted: bool
    text: str


class DriftRow(msgspec.Struct, frozen=True):
    """One column over all windows, with its newest numbers."""

    name: str
    cells: list[Cell]
    effect: float | None
    threshold: float | None
    missing: float | None
    missing_reference: float | None
    new_levels: float | None
    drifted: bool
    reasons: list[str]


class DriftMap(msgspec.Struct, frozen=True):
    """The map; rows with the largest newest effect first."""

    starts: list[datetime]
    rows: list[DriftRow]
    drifted: int
    ticks: list[tuple[int, str]]


def drift_map(windows: list[Window]) -> DriftMap:
    """The map of the newest windows, given oldest first."""
    shown = windows[-SHOWN:]
    columns = [_columns(window) for window in shown]
    names = dict.fromkeys(name for found in columns for name in found)
    rows = [_row(name, columns, shown) for name in names]
    rows.sort(key=lambda row: (-(row.effect or 0) / (row.threshold or 1), row.name))
    return DriftMap([w.start for w in shown], rows, sum(row.drifted for row in rows), _ticks(shown))


def _columns(window: Window) -> dict[str, Mapping[str, Any]]:
    found = window.facts.get("columns")
    if not isinstance(found, Mapping):
        return {}
    return {str(name): facts for name, facts in found.items() if isinstance(facts, Mapping)}


def _row(name: str, columns: list[dict[str, Mapping[str, Any]]], windows: list[Window]) -> DriftRow:
    cells = [_cell(name, found.get(name), window) for found, window in zip(columns, windows, strict=True)]
    newest = columns[-1].get(name, {})
    return DriftRow(
        name=name,
        cells=cells,
        effect=_figure(newest, "effect"),
        threshold=_figure(newest, "threshold"),
        missing=_figure(newest, "missing"),
        missing_reference=_figure(newest, "missing_reference"),
        new_levels=_figure(newest, "new_levels"),
        drifted=bool(newest.get("drifted")),
        reasons=[str(reason) for reason in reasons] if isinstance(reasons := newest.get("reasons"), list) else [],
    )


def _cell(name: str, facts: Mapping[str, Any] | None, window: Window) -> Cell:
    when = f"{name}, {say.day(window.start)} to {say.day(window.end)}"
    if facts is None:
        return Cell(None, None, 0, False, f"{when}: not measured")
    effect, threshold = _figure(facts, "effect"), _figure(facts, "threshold")
    drifted = bool(facts.get("drifted"))
    text = f"{when}: effect {say.number(effect)}, threshold {say.number(threshold)}"
    text += ", drifted" if drifted else ""
    return Cell(effect, threshold, _level(effect, threshold), drifted, text)


def _level(effect: float | None, threshold: float | None) -> int:
    if effect is None or not threshold or threshold <= 0:
        return 0
    ratio = effect / threshold
    return sum(ratio >= edge for edge in (0.25, 0.6, 1.0, 2.0, 4.0))


def _figure(facts: Mapping[str, Any], name: str) -> float | None:
    value = facts.get(name)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _ticks(windows: list[Window]) -> list[tuple[int, str]]:
    """Dates under the map: about six, at the first window of a month where there are several months."""
    firsts = [i for i, w in enumerate(windows) if i == 0 or windows[i - 1].start.month != w.start.month]
    places = firsts if len(firsts) > 2 else list(range(0, len(windows), max(len(windows) // 6, 1)))
    step = max(round(len(places) / 7), 1)
    form = "%b %Y" if len(firsts) > 2 else "%-d %b"
    kept: list[tuple[int, str]] = []
    for place in places[::step]:
        if not kept or place - kept[-1][0] >= 4:
            kept.append((place, windows[place].start.strftime(form)))
    return kept
