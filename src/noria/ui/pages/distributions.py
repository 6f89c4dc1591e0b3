"""How each column is distributed now, beside how it was when the model was validated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from noria.records import ColumnProfile, ModelVersion
from noria.store.ports import AliasRecord, Window
from noria.ui.ask import Ask
from noria.ui.draw import Bar, bars
from noria.ui.pages.data import bin_labels
from noria.ui.pages.models import read_manifest


class Bin(msgspec.Struct, frozen=True):
    """One bin as a line of the table: shares of all rows, then and now."""

    label: str
    reference: float
    current: float


class Distribution(msgspec.Struct, frozen=True):
    """One column, then and now."""

    name: str
    kind: str
    reference: list[Bar]
    current: list[Bar]
    bins: list[Bin]
    drifted: bool
    effect: float | None


def distributions(ask: Ask, loop: str, window: Window | None) -> tuple[int | None, list[Distribution]]:
    """The champion's number, and each column that both its profile and the newest drift window hold."""
    alias = ask.db.find(AliasRecord, loop=loop, alias="champion")
    champion = ask.db.find(ModelVersion, loop=loop, version=alias.version) if alias else None
    if champion is None:
        return None, []
    counts = window.facts.get("counts") if window else None
    if window is None or not isinstance(counts, Mapping):
        return champion.version, []
    manifest, _ = read_manifest(ask, champion.bundle)
    if manifest is None:
        return champion.version, []
    facts = window.facts.get("columns")
    found = []
    for column in manifest.profile.columns:
        now = counts.get(column.name)
        if isinstance(now, list) and len(now) >= len(column.counts):
            about = facts.get(column.name) if isinstance(facts, Mapping) else None
            found.append(_distribution(column, [float(count) for count in now], about))
    found.sort(key=lambda one: (not one.drifted, -(one.effect or 0)))
    return champion.version, found


def _distribution(column: ColumnProfile, now: Sequence[float], about: object) -> Distribution:
    size = len(column.counts)
    labels = (bin_labels(column) + [f"bin {place + 1}" for place in range(size)])[:size]
    then = [*map(float, column.counts), 0.0, float(column.missing)]
    present = [*now[:size], *now[size : size + 2], 0.0, 0.0][: size + 2]
    labels += ["new level", "missing"]
    then, present = _shares(then), _shares(present)
    kept = [i for i in range(size + 2) if i < size or then[i] or present[i]]
    then, present, labels = [then[i] for i in kept], [present[i] for i in kept], [labels[i] for i in kept]
    top = max([*then, *present], default=0) or 1
    facts = about if isinstance(about, Mapping) else {}
    effect = facts.get("effect")
    return Distribution(
        name=column.name,
        kind=column.kind,
        reference=bars(then, labels, 200, 60, top),
        current=bars(present, labels, 200, 60, top),
        bins=[Bin(label, a, b) for label, a, b in zip(labels, then, present, strict=True)],
        drifted=bool(facts.get("drifted")),
        effect=float(effect) if isinstance(effect, (int, float)) else None,
    )


def _shares(counts: Sequence[float]) -> list[float]:
    total = sum(counts) or 1.0
    return [count / total for count in counts]
