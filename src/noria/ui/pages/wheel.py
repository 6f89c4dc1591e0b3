"""The loop as a wheel: seven stages, each with its state and what it holds now."""

from __future__ import annotations

from datetime import timedelta
from typing import TypeVar

import msgspec

from noria.records import (
    Alert,
    DatasetVersion,
    Deployment,
    ModelVersion,
    Outcome,
    RetrainRequest,
    Run,
    Stage,
    Turn,
    TurnState,
    ValidationReport,
)
from noria.store.ports import AliasRecord, LoopRecord, Reader, Window
from noria.ui import format as say
from noria.ui.ask import href, main_metric, policies, policy_kind, windows

R = TypeVar("R", bound=msgspec.Struct)


class Bucket(msgspec.Struct, frozen=True):
    """One stage of the wheel.

    Attributes:
        state: ``done``, ``running``, ``waiting``, ``failed`` or ``idle``.
        holds: what it holds now, in a few words; ``note`` a little more.
    """

    stage: str
    state: str
    holds: str
    note: str
    href: str


class Standing(msgspec.Struct, frozen=True):
    """The newest record of each kind of one loop: what the wheel is drawn from."""

    loop: LoopRecord
    metric: str | None
    turn: Turn | None
    request: RetrainRequest | None
    dataset: DatasetVersion | None
    run: Run | None
    report: ValidationReport | None
    version: ModelVersion | None
    champion: ModelVersion | None
    deployment: Deployment | None
    window: Window | None
    alert: Alert | None

    @property
    def building(self) -> bool:
        """Whether a turn is under way."""
        return self.turn is not None and not self.turn.state.final

    @property
    def moving(self) -> bool:
        """Whether a turn is under way and does not wait for a person."""
        return self.building and not self.turn_is(TurnState.awaiting_approval)

    def turn_is(self, *states: TurnState) -> bool:
        """Whether the present turn stands in one of these states."""
        return self.turn is not None and self.turn.state in states


def stand(db: Reader, loop: LoopRecord) -> Standing:
    """Where the loop stands."""
    name = loop.name

    def newest(kind: type[R]) -> R | None:
        return db.find(kind, loop=name)

    alias = db.find(AliasRecord, loop=name, alias="champion")
    champion = db.find(ModelVersion, loop=name, version=alias.version) if alias else None
    run = newest(Run)
    return Standing(
        loop=loop,
        metric=main_metric(loop.plan) or (run.metrics[0].name if run and run.metrics else None),
        turn=newest(Turn),
        request=newest(RetrainRequest),
        dataset=newest(DatasetVersion),
        run=run,
        report=newest(ValidationReport),
        version=newest(ModelVersion),
        champion=champion,
        deployment=newest(Deployment),
        window=next(iter(windows(db, name, "performance", 40)), None),
        alert=newest(Alert),
    )


def buckets(now: Standing) -> list[Bucket]:
    """The seven stages in the order water takes."""
    return [
        _data(now),
        _train(now),
        _validate(now),
        _register(now),
        _deploy(now),
        _monitor(now),
        _retrain(now),
    ]


def _address(now: Standing, *rest: object) -> str:
    return href("loops", now.loop.name, *rest)


def _data(now: Standing) -> Bucket:
    dataset = now.dataset
    state, holds, note = "idle", "no data yet", "the first turn reads the source"
    if dataset is not None:
        state, holds = "done", say.plural(dataset.rows, "row")
        note = f"to {say.day(dataset.last_time)}" if dataset.last_time else f"version {say.short(dataset.id)}"
    if now.turn_is(TurnState.ordered):
        state, note = "running", "reading the source"
    elif now.turn_is(TurnState.failed) and now.turn is not None and now.turn.dataset is None:
        state, note = "failed", "the source could not be read"
    return Bucket("data", state, holds, note, _address(now, "data"))


def _train(now: Standing) -> Bucket:
    run = now.run
    if run is None:
        state = "running" if now.turn_is(TurnState.building) else "idle"
        return Bucket("train", state, "no run yet", "", _address(now, "runs"))
    holds = f"run {say.short(run.id, 4)}"
    value = run.metric(now.metric) if now.metric else None
    if value is not None:
        holds += f" · {now.metric} {say.number(value)}"
    state, note = "done", f"took {say.duration(run.seconds)}"
    if run.status == "running" or now.turn_is(TurnState.building):
        state, note = "running", "training"
    elif run.status == "failed":
        state, note = "failed", "the run failed"
    return Bucket("train", state, holds, note, _address(now, "runs", run.id))


def _validate(now: Standing) -> Bucket:
    report = now.report
    state, holds, note, link = "idle", "no report yet", "", _address(now, "models")
    if report is not None:
        good = sum(result.outcome is Outcome.passed for result in report.results)
        holds = f"{good} of {say.plural(len(report.results), 'gate')}"
        state, note = ("done", "all passed") if report.passed else ("failed", "not passed")
        if report.champion is not None:
            note += f", against v{report.champion}"
        if now.version is not None and now.version.report == report.id:
            link = _address(now, "models", now.version.version)
    if now.turn_is(TurnState.validating):
        state, note = "running", "judging the challenger"
    return Bucket("validate", state, holds, note, link)


def _register(now: Standing) -> Bucket:
    version = now.version
    if version is None:
        return Bucket("register", "idle", "no version yet", "", _address(now, "models"))
    shown = version if version.stage is Stage.awaiting_approval else now.champion or version
    state = {Stage.awaiting_approval: "waiting", Stage.rejected: "failed"}.get(shown.stage, "done")
    holds = f"v{shown.version} {'awaits approval' if state == 'waiting' else shown.stage.value}"
    note = "needs a yes" if state == "waiting" else f"{say.plural(version.version, 'version')} so far"
    return Bucket("register", state, holds, note, _address(now, "models", shown.version))


def _deploy(now: Standing) -> Bucket:
    deployment = now.deployment
    if deployment is None:
        return Bucket("deploy", "idle", "nothing served", "", _address(now, "models"))
    canary, champion = deployment.route("canary"), deployment.route("champion")
    if canary is not None:
        beside = f"beside v{champion.version}" if champion else "alone"
        return Bucket(
            "deploy",
            "running",
            f"canary {canary.percent:g} %",
            f"v{canary.version} {beside}",
            _address(now, "models", canary.version),
        )
    shadow = deployment.route("shadow")
    if shadow is not None:
        beside = f"asked along with v{champion.version}" if champion else "asked along"
        link = _address(now, "models", shadow.version)
        return Bucket("deploy", "running", f"v{shadow.version} as shadow", beside, link)
    served = champion or deployment.routes[0]
    return Bucket(
        "deploy",
        "done",
        f"v{served.version} serves",
        f"since {say.day(deployment.since)}",
        _address(now, "models", served.version),
    )


def _monitor(now: Standing) -> Bucket:
    link = _address(now, "monitoring")
    if now.deployment is None:
        return Bucket("monitor", "idle", "nothing to watch", "", link)
    holds, note = "watching", "no labels yet"
    if now.window is not None:
        holds, note = error_text(now.window) or holds, f"to {say.day(now.window.end)}"
    state = "running"
    if alarmed(now):
        state, note = "failed", f"alarm {say.day(now.alert.at) if now.alert else ''}"
    return Bucket("monitor", state, holds, note, link)


def _retrain(now: Standing) -> Bucket:
    link = _address(now, "turns")
    if now.building and now.turn is not None:
        state = "waiting" if now.turn_is(TurnState.awaiting_approval) else "running"
        return Bucket("retrain", state, f"turn {now.turn.number}", now.turn.state.value, link)
    request, turn = now.request, now.turn
    if request is not None and (turn is None or request.at > turn.created + timedelta(seconds=1)):
        return Bucket("retrain", "waiting", "turn ordered", request.trigger, link)
    kinds = [policy_kind(entry) for entry in policies(now.loop.plan, "retrain")]
    if not kinds:
        return Bucket("retrain", "idle", "by hand", "no trigger declared", link)
    words = {"OnAlarm": "on alarm", "Every": "on schedule", "OnNewRows": "on new rows"}
    holds = "next: " + " or ".join(words.get(kind, kind) for kind in kinds)
    return Bucket("retrain", "waiting", holds, say.plural(turn.number, "turn") + " so far" if turn else "", link)


def alarmed(now: Standing) -> bool:
    """Whether the newest alert is an alarm that no newer champion has answered."""
    if now.alert is None or now.alert.severity != "alarm":
        return False
    return now.champion is None or now.alert.version >= now.champion.version


def error_text(window: Window) -> str:
    """The performance of a window in a few words: ``mae 3.7 ± 0.1``."""
    facts = window.facts
    value, low, high = facts.get("value"), facts.get("low"), facts.get("high")
    if not isinstance(value, (int, float)):
        return ""
    words = f"{facts.get('metric', 'error')} {say.number(value)}"
    if isinstance(low, (int, float)) and isinstance(high, (int, float)):
        words += f" ± {say.number((high - low) / 2)}"
    return words + (" est." if facts.get("estimated") else "")
