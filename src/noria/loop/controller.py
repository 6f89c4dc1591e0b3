"""Keeps a loop turning: takes its turn on, looks at what was served, and orders the next turn when it is time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from noria.core.clock import Clock
from noria.core.units import parse_duration
from noria.loop.build import source_of
from noria.loop.lease import check as check_lease
from noria.loop.load import LoadedLoop
from noria.loop.scoring import manifest_of
from noria.loop.source_labels import SourceLabels
from noria.loop.turn import Engine, Progress, newest_turn, order
from noria.monitor.rules import Drift, Performance
from noria.monitor.watch import watch_drift, watch_harm, watch_windows
from noria.records import (
    Alert,
    BundleManifest,
    Deployment,
    ModelVersion,
    Outcome,
    RetrainRequest,
    Turn,
    TurnState,
    ValidationReport,
)
from noria.register import champion as find_champion
from noria.store.ports import LabelledPrediction, Lease, MonitorState, Store, Transaction, Window
from noria.validate.bootstrap import interval
from noria.validate.catalog import find_metric
from noria.validate.metrics import Scored, measure

__all__ = ["Controller"]


class Controller:
    """Looks after one loop.

    Args:
        loaded: the loop.
        store: where everything is.
        clock: the present; all decisions use it.
        lease: proof that no one else looks after the store.
        live: whether traffic is being served.
        progress: told what is being done.
        checkpoint: see `noria.loop.turn.Engine`.
    """

    def __init__(
        self,
        loaded: LoadedLoop,
        store: Store,
        clock: Clock,
        *,
        lease: Lease | None = None,
        live: Callable[[], bool] = lambda: False,
        progress: Progress = lambda stage, what: None,
        checkpoint: Callable[[str], None] = lambda place: None,
    ) -> None:
        self._loaded = loaded
        self._loop = loaded.loop
        self._store = store
        self._clock = clock
        self._lease = lease
        self._progress = progress
        self._engine = Engine(loaded, store, clock, lease=lease, live=live, progress=progress, checkpoint=checkpoint)
        self._manifests: dict[str, BundleManifest] = {}
        self._tried = False
        self._source_labels = SourceLabels(loaded, store)

    def tick(self) -> Turn | None:
        """One look round; returns the turn that was moved, if one was.

        Raises:
            StoreError, Conflict: the store cannot go on, or another controller took over.
        """
        with self._store.ledger.read() as db:
            turn = newest_turn(db, self._loop.name)
            serving = find_champion(db, self._loop.name)
        if turn is not None and not turn.state.final:
            moved = self._engine.run(turn)
            if moved.state is not TurnState.canary and moved != turn:
                return moved
            turn = moved
        self._source_labels.collect(self._clock.now())
        if serving is not None:
            self.observe(serving)
        if turn is not None and not turn.state.final:
            return turn if turn.state is TurnState.canary else None
        wanted = self._wanted(turn, serving)
        if wanted is None:
            return None
        trigger, reason, alert = wanted
        self._tried = True
        self._progress("retrain", reason)
        ordered = order(self._store, self._loaded, self._clock.now(), trigger=trigger, reason=reason, alert=alert)
        return self._engine.run(ordered)

    # -- looking --------------------------------------------------------------------------------------------------

    def observe(self, serving: ModelVersion) -> list[Alert]:
        """Read what was served and labelled since the last look; record windows, alerts and how far it read."""
        loop, log, now = self._loop, self._store.predictions, self._clock.now()
        manifest = self._manifest(serving.bundle)
        began = self._began(serving.version)
        with self._store.ledger.read() as db:
            state = db.find(MonitorState, loop=loop.name, version=serving.version)
            timeline = db.find(MonitorState, loop=loop.name, version=0)
        state = state or MonitorState(loop.name, serving.version, began, {})
        timeline = timeline or MonitorState(loop.name, 0, began, {})
        before = (state, timeline)
        windows: list[Window] = []
        alerts: list[Alert] = []
        for policy in loop.monitor:
            if isinstance(policy, Performance):
                seen = watch_harm(log, manifest, serving.version, state, policy, now)
                state, alerts = seen.state, alerts + seen.alerts
                baseline = manifest.reference["metrics"].get(policy.metric)
                seen = watch_windows(
                    log,
                    loop.name,
                    timeline,
                    policy,
                    self._delay(policy),
                    now,
                    self._measure(manifest),
                    baseline,
                )
                timeline, windows = seen.state, windows + seen.windows
            elif isinstance(policy, Drift):
                seen = watch_drift(log, manifest, serving.version, state, policy, now)
                state, windows, alerts = seen.state, windows + seen.windows, alerts + seen.alerts
        if (state, timeline) == before and not alerts and not windows:
            return []

        def change(tx: Transaction) -> None:
            if self._lease is not None:
                check_lease(tx, self._lease)
            for window in windows:
                tx.put(window)
            tx.put(state)
            tx.put(timeline)
            for alert in alerts:
                tx.put(alert)
                tx.audit(now, "monitor", f"{alert.severity} raised", f"model:{loop.name}/{alert.version}",
                         kind=alert.kind, sentence=alert.sentence)  # fmt: skip

        self._store.ledger.write(change)
        for alert in alerts:
            self._progress("monitor", alert.sentence)
        return alerts

    def _manifest(self, bundle: str) -> BundleManifest:
        if bundle not in self._manifests:
            self._manifests = {bundle: manifest_of(self._store.blobs, bundle)}
        return self._manifests[bundle]

    def _began(self, version: int) -> datetime:
        """When this version began to take all traffic."""
        with self._store.ledger.read() as db:
            for deployment in db.list(Deployment, loop=self._loop.name, limit=100):
                route = deployment.route("champion")
                if route is not None and route.version == version and deployment.step is None:
                    return deployment.since
        return self._clock.now()

    def _delay(self, policy: Performance) -> timedelta:
        declared = policy.labels_after or source_of(self._loop).labels_after
        return parse_duration(declared) if declared else timedelta(0)

    def _measure(
        self, manifest: BundleManifest
    ) -> Callable[[str, list[LabelledPrediction]], tuple[float, float, float, float | None]]:
        classes = manifest.signature.classes

        def value(metric: str, rows: list[LabelledPrediction]) -> tuple[float, float, float, float | None]:
            shares = [one.prediction.probabilities for one in rows]
            known = np.asarray(shares) if all(p is not None for p in shares) else None
            y, answers = np.asarray([r.value for r in rows]), np.asarray([r.prediction.value for r in rows])
            scored = Scored(y, answers, known, classes)
            bias = float(np.mean(answers - y)) if manifest.signature.task == "regression" else None
            if find_metric(metric) is None:
                return float("nan"), float("nan"), float("nan"), bias
            low, high = interval(metric, scored, resamples=300)
            return measure(metric, scored), low, high, bias

        return value

    # -- deciding -------------------------------------------------------------------------------------------------

    def _wanted(self, turn: Turn | None, serving: ModelVersion | None) -> tuple[str, str, str | None] | None:
        """Trigger, reason and alert of the turn that is due; None when none is."""
        if turn is None:
            return "first", "The loop has not turned yet.", None
        if serving is None and not self._tried:
            return "first", "No model serves yet.", None
        with self._store.ledger.read() as db:
            asked = db.find(RetrainRequest, loop=self._loop.name)
        if asked is not None and asked.at > turn.created:
            return asked.trigger, asked.reason, asked.alert
        facts = self._facts(turn)
        for policy in self._loop.retrain:
            decision = policy.decide(facts)
            if decision.wanted:
                return type(policy).__name__, decision.reason, decision.alert
        return None

    def _facts(self, turn: Turn) -> dict[str, Any]:
        """What triggers read: see `noria.retrain.rules`."""
        with self._store.ledger.read() as db:
            alerts = [a for a in db.list(Alert, loop=self._loop.name, limit=100) if a.at > turn.created]
            origin = db.find(Alert, id=turn.alert) if turn.alert else None
            report = db.find(ValidationReport, id=turn.report) if turn.report else None
        log, name = self._store.predictions, self._loop.name
        _, _, since_turn = log.counts(name, turn.created)
        regime = None
        if origin is not None and origin.since is not None:
            _, _, rows = log.counts(name, origin.since)
            regime = {
                "alert": origin.id,
                "since": origin.since,
                "rows": rows,
                "rows_then": rows - since_turn,
                "outcome": _outcome(turn, report),
            }
        return {
            "now": self._clock.now(),
            "last_turn_started": turn.created,
            "alerts": [
                {"id": a.id, "kind": a.kind, "at": a.at, "since": a.since, "sentence": a.sentence}
                for a in reversed(alerts)
            ],
            "rows_since_training": since_turn,
            "regime": regime,
        }


def _outcome(turn: Turn, report: ValidationReport | None) -> str | None:
    """How a turn ended; a rejection in which no gate failed, but one could not tell, is inconclusive."""
    if not turn.state.final:
        return None
    if turn.state is TurnState.rejected and report is not None:
        outcomes = {result.outcome for result in report.results}
        if Outcome.failed not in outcomes and Outcome.inconclusive in outcomes:
            return "inconclusive"
    return turn.state.value
