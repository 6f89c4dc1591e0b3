"""Predictions: a loop's newest, and everything behind one of them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from noria.errors import NotFound
from noria.govern.explain import Explanation, trace
from noria.records import ModelVersion, Override
from noria.store.ports import Label, Prediction
from noria.ui import format as say
from noria.ui.ask import Ask, href
from noria.ui.pages.models import Link

_ROWS = 50
_SHARES = 20  # probabilities shown, the largest
_POLL_SECONDS = 5


class PredictionRow(msgspec.Struct, frozen=True):
    """One line of the list; ``overridden``: what a person decided instead."""

    id: str
    href: str
    at: datetime
    value: Any
    error: str | None
    key: str | None
    version: int
    role: str
    latency_ms: float
    label: Any
    overridden: Any


class PredictionsPage(msgspec.Struct, frozen=True):
    """The loop's predictions, newest first."""

    title: str
    loop: str
    rows: list[PredictionRow]
    sought: str
    newest: str | None
    older: str | None
    poll_seconds: int = _POLL_SECONDS


class Gate(msgspec.Struct, frozen=True):
    """What one gate said of the version."""

    gate: str
    outcome: str
    sentence: str


class Behind(msgspec.Struct, frozen=True):
    """What a prediction's version comes from; None where a record is gone."""

    model_digest: str
    reason: str
    approved: str
    report: str | None
    passed: bool
    gates: list[Gate]
    run: str | None
    commit: str | None
    changed: bool
    environment: str | None
    dataset: str | None
    turn: str | None
    turn_said: str


class PredictionPage(msgspec.Struct, frozen=True):
    """One prediction with everything behind it.

    Attributes:
        shares: classes with their probabilities, the largest first; ``more`` are left out.
        overrides: what people decided instead, the newest, which holds, first.
        lineage: from the data to the prediction.
    """

    title: str
    loop: str
    prediction: Prediction
    latency_ms: float
    label: Label | None
    shares: list[tuple[str, float]]
    more: int
    overrides: list[Override]
    behind: Behind
    lineage: list[Link]
    poll_seconds: int = _POLL_SECONDS


def predictions(ask: Ask) -> PredictionsPage:
    """The newest predictions; those of a key, or the one of an id, when the query names one."""
    loop = ask.loop().name
    sought, before = (ask.one("q") or "").strip(), ask.whole("before")
    found = _of(ask, loop, sought, before) if sought else ask.predictions.recent(loop, before=before, limit=_ROWS + 1)
    rows = [_row(ask, one, label) for _, one, label in found[:_ROWS]]
    last, query = found[_ROWS - 1][0] if len(found) > _ROWS else None, sought or None
    return PredictionsPage(
        title=f"Predictions of {loop}",
        loop=loop,
        rows=rows,
        sought=sought,
        newest=href("loops", loop, "predictions", q=query) if before is not None else None,
        older=href("loops", loop, "predictions", before=last, q=query) if last is not None else None,
    )


def _of(ask: Ask, loop: str, sought: str, before: int | None) -> list[tuple[int, Prediction, Label | None]]:
    """The prediction with this id, or else those of this key."""
    try:
        one, label = ask.predictions.find(sought)
    except NotFound:
        return ask.predictions.recent(loop, before=before, key=sought, limit=_ROWS + 1)
    return [(0, one, label)] if one.loop == loop else []


def _row(ask: Ask, one: Prediction, label: Label | None) -> PredictionRow:
    decided = ask.db.find(Override, prediction=one.id)
    return PredictionRow(
        id=one.id,
        href=href("loops", one.loop, "predictions", one.id),
        at=one.at,
        value=one.value,
        error=one.error,
        key=one.key,
        version=one.version,
        role=one.role,
        latency_ms=one.latency_us / 1000,
        label=label.value if label else None,
        overridden=decided.value if decided else None,
    )


def prediction(ask: Ask) -> PredictionPage:
    """One prediction as ``noria explain`` tells it."""
    loop, made = ask.loop().name, ask.path["id"]
    found = trace(ask.db, ask.predictions, ask.blobs, made)
    one, classes = found.prediction, found.manifest.signature.classes if found.manifest else ()
    if one.loop != loop:
        raise NotFound(f"Loop '{loop}' has no prediction '{made[:80]}'.")
    shares = [(say.text(name), share) for name, share in zip(classes, one.probabilities or (), strict=False)]
    shares.sort(key=lambda share: -share[1])
    return PredictionPage(
        title=f"Prediction {one.id}",
        loop=loop,
        prediction=one,
        latency_ms=one.latency_us / 1000,
        label=found.label,
        shares=shares[:_SHARES],
        more=max(0, len(shares) - _SHARES),
        overrides=list(found.overrides),
        behind=_behind(found),
        lineage=_lineage(found),
    )


def _behind(found: Explanation) -> Behind:
    run, report, turn = found.run, found.report, found.turn
    return Behind(
        model_digest=found.prediction.model_digest,
        reason=found.version.reason,
        approved=_approved(found.version),
        report=report.id if report else None,
        passed=report is not None and report.passed,
        gates=[Gate(one.gate, one.outcome.value, one.sentence) for one in report.results] if report else [],
        run=run.id if run else None,
        commit=run.git_commit if run else None,
        changed=run is not None and bool(run.git_dirty),
        environment=run.environment if run else None,
        dataset=found.dataset.id if found.dataset else None,
        turn=turn.id if turn else None,
        turn_said=f"{turn.number}: {turn.reason}" if turn else "",
    )


def _approved(version: ModelVersion) -> str:
    decision = version.decision
    return f"{decision.by} as {decision.role}" if decision and decision.approved else ""


def _lineage(found: Explanation) -> list[Link]:
    one, run, data = found.prediction, found.run, found.dataset
    links = []
    if data is not None:
        name = say.short(data.id, 10)
        links.append(Link("dataset", name, say.plural(data.rows, "row"), href("loops", one.loop, "data", data.id)))
    if run is not None:
        links.append(Link("run", run.id[:8], say.duration(run.seconds), href("loops", one.loop, "runs", run.id)))
    approved = _approved(found.version)
    note = f"approved by {approved}" if approved else found.version.stage.value
    links.append(Link("version", f"v{one.version}", note, href("loops", one.loop, "models", one.version)))
    said = "failed" if one.error else say.text(one.value)
    links.append(Link("prediction", said[:40], say.day(one.at), href("loops", one.loop, "predictions", one.id)))
    return links
