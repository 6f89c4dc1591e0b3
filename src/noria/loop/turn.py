"""The turn: one pass round the loop, as a durable state machine.

    ordered -> building -> validating -> validated -> (awaiting approval) -> (canary) -> promoted
                                      -> rejected                        -> rolled back
    ordered or building -> unchanged | failed

A canary may begin as a shadow: its first step, at which it is asked along and gives no answer.

Work between two states leaves nothing but blobs and cached steps; the change of state, its records and its
audit entry are one transaction that refuses to run twice. So a turn killed anywhere is taken up where it was,
and each effect happens once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from noria.core.clock import Clock
from noria.core.ids import new_id
from noria.data.read import read
from noria.data.snapshot import snapshot
from noria.errors import Conflict, NoriaError
from noria.frames.parquet import read_parquet
from noria.loop.build import Work, build, source_of
from noria.loop.calling import call
from noria.loop.lease import check as check_lease
from noria.loop.load import LoadedLoop
from noria.loop.plan import plan, plan_digest
from noria.loop.release import Overtaken, Release
from noria.loop.served import served_rows
from noria.records import DatasetVersion, ModelVersion, Outcome, Run, Stage, Turn, TurnState, ValidationReport
from noria.register import champion as find_champion
from noria.register import move, register, version
from noria.store.ports import Lease, LoopRecord, Reader, Store, Transaction
from noria.track.loops import track_run

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Engine", "newest_turn", "order", "subject"]

Progress = Callable[[str, str], None]
"""Called with the stage's name and what is being done."""


def subject(turn: Turn) -> str:
    """The audit subject of a turn."""
    return f"turn:{turn.id}"


def newest_turn(db: Reader, loop: str) -> Turn | None:
    """The loop's newest turn, or None."""
    return db.find(Turn, loop=loop)


def order(
    store: Store,
    loaded: LoadedLoop,
    now: datetime,
    *,
    trigger: str,
    reason: str,
    alert: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    actor: str = "controller",
) -> Turn:
    """Order the next turn; if one is under way, that one is returned.

    One transaction: the loop's plan as it is now, the turn, and the audit entry.
    """
    loop = loaded.loop

    def change(tx: Transaction) -> Turn:
        former = newest_turn(tx, loop.name)
        if former is not None and not former.state.final:
            return former
        known = tx.find(LoopRecord, name=loop.name)
        tx.put(
            LoopRecord(
                name=loop.name,
                file=str(loaded.path),
                plan=plan(loop),
                plan_digest=plan_digest(loop),
                created=known.created if known else now,
                updated=now,
            )
        )
        turn = Turn(
            id=new_id(),
            loop=loop.name,
            number=former.number + 1 if former else 1,
            state=TurnState.ordered,
            created=now,
            since=now,
            trigger=trigger,
            reason=reason,
            alert=alert,
            overrides=dict(overrides or {}),
        )
        tx.put(turn)
        tx.audit(now, actor, "turn ordered", subject(turn), loop=loop.name, trigger=trigger, reason=reason)
        return turn

    return store.ledger.write(change)


class Engine:
    """Takes a loop's turns from state to state.

    Args:
        loaded: the loop.
        store: where everything is kept.
        clock: the present.
        lease: checked in every transaction, so that a controller that was replaced changes nothing.
        live: whether traffic is being served, so that a canary can be judged.
        progress: told what is being done.
        checkpoint: called with the state's name just before and after each transition (fault tests kill here).
        accept_schema: take the data's new shape for right.
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
        accept_schema: bool = False,
    ) -> None:
        self._loaded = loaded
        self._loop = loaded.loop
        self._store = store
        self._clock = clock
        self._lease = lease
        self._progress = progress
        self._checkpoint = checkpoint
        self._accept_schema = accept_schema
        self._frames: dict[str, pl.DataFrame] = {}
        self._releases = Release(self._loop, store, clock, lease=lease, live=live)

    def advance(self, turn: Turn) -> Turn:
        """The turn one transition on; the same turn when it has to wait (approval, canary).

        A fault of the user's data, code or model ends the turn as failed; it is not raised.

        Raises:
            StoreError, Conflict: the store cannot go on; the turn stays where it is.
        """
        if turn.state.final:
            return turn
        stages = {
            TurnState.ordered: self._snapshot,
            TurnState.building: self._train,
            TurnState.validating: self._validate,
            TurnState.validated: self._release,
            TurnState.awaiting_approval: self._await_approval,
            TurnState.canary: self._canary,
        }
        try:
            return stages[turn.state](turn)
        except NoriaError as error:
            if isinstance(error, Conflict) or _is_store_fault(error):
                raise
            return self._fail(turn, str(error))

    def run(self, turn: Turn) -> Turn:
        """Advance until the turn is over or has to wait."""
        while True:
            moved = self.advance(turn)
            if moved.state.final or moved.state is turn.state:
                return moved
            turn = moved

    # -- transitions ------------------------------------------------------------------------------------------

    def _move(
        self,
        turn: Turn,
        to: TurnState,
        effects: Callable[[Transaction], dict[str, Any]] = lambda tx: {},
        **facts: Any,
    ) -> Turn:
        """One transaction: the effects, the turn's new state, its audit entry. Refuses to run twice."""
        now = self._clock.now()

        def change(tx: Transaction) -> Turn:
            if self._lease is not None:
                check_lease(tx, self._lease)
            present = tx.find(Turn, id=turn.id)
            if present is None or present.state is not turn.state:
                raise Conflict(f"Turn {turn.number} of '{turn.loop}' has been taken on by another process.")
            moved = replace(turn, state=to, since=now, **effects(tx))
            tx.put(moved)
            shown = {name: value for name, value in facts.items() if value not in (None, "")}
            tx.audit(now, "controller", f"turn {to.value}", subject(turn), loop=turn.loop, **shown)
            return moved

        self._checkpoint(f"before {to.value}")
        moved = self._store.ledger.write(change)
        self._checkpoint(f"after {to.value}")
        self._track(moved)
        return moved

    def _track(self, turn: Turn) -> None:
        """Show the turn's run among the tracked ones, as it stands now."""
        with self._store.ledger.read() as db:
            run = db.find(Run, id=turn.run) if turn.run else None
        if run is not None:
            track_run(self._store.tracking, run, f"turn {turn.number}", repr(source_of(self._loop)))

    def _fail(self, turn: Turn, why: str) -> Turn:
        def effects(tx: Transaction) -> dict[str, Any]:
            run = tx.find(Run, id=turn.run) if turn.run else None
            if run is not None and run.status == "running":
                tx.put(replace(run, status="failed", ended=self._clock.now(), failure=why))
            if turn.version is not None:
                move(tx, turn.loop, turn.version, Stage.rejected, why)
            return {"outcome": why}

        self._progress("failed", why)
        return self._move(turn, TurnState.failed, effects, why=why)

    # -- stages -----------------------------------------------------------------------------------------------

    def _snapshot(self, turn: Turn) -> Turn:
        self._progress("data", "reading the source")
        store, loop, source = self._store, self._loop, source_of(self._loop)
        step = loop.step("source")

        def run_source(function: Callable[..., object]) -> object:
            if step is None:
                return function()
            return call(step, **{knob.name: turn.overrides.get(f"{step.name}.{knob.name}", knob.default)
                                 for knob in step.knobs})  # fmt: skip

        frame = read(source, self._loaded.path.parent, run_source)
        with store.ledger.read() as db:
            previous = db.find(DatasetVersion, loop=loop.name)
        version, kept = snapshot(
            frame,
            source,
            store.blobs,
            loop=loop.name,
            now=self._clock.now(),
            expect=loop.expect,
            on_failing_rows=loop.on_failing_rows,
            quarantine_at_most=loop.quarantine_at_most,
            served=served_rows(store.predictions, loop.name, source, frame),
            previous=None if self._accept_schema else previous,
        )
        self._frames = {version.id: kept}
        aside = version.expectations.quarantined
        self._progress("data", f"{version.rows:,} rows" + (f", {aside:,} set aside" if aside else ""))
        run = Run(
            id=new_id(), loop=loop.name, turn=turn.id, status="running", started=self._clock.now(),
            dataset=version.id, plan=plan_digest(loop),
        )  # fmt: skip

        def effects(tx: Transaction) -> dict[str, Any]:
            known = tx.find(DatasetVersion, loop=loop.name, id=version.id)
            tx.put(replace(version, created=known.created) if known else version)
            tx.put(run)
            return {"dataset": version.id, "run": run.id}

        return self._move(turn, TurnState.building, effects, dataset=version.id, rows=version.rows, run=run.id)

    def _frame(self, turn: Turn) -> pl.DataFrame:
        """The rows of the turn's dataset version."""
        assert turn.dataset is not None
        if turn.dataset not in self._frames:
            with self._store.ledger.read() as db:
                found = db.find(DatasetVersion, loop=turn.loop, id=turn.dataset)
            assert found is not None
            self._frames = {turn.dataset: read_parquet(self._store.blobs.get(found.blob))}
        return self._frames[turn.dataset]

    def _train(self, turn: Turn) -> Turn:
        store = self._store
        with store.ledger.read() as db:
            run = db.find(Run, id=turn.run)
            serving = find_champion(db, turn.loop)
        assert run is not None
        overrides = {k: v for k, v in turn.overrides.items() if not k.startswith(self._source_name())}
        built = build(
            self._loaded,
            store,
            self._frame(turn),
            run=run,
            now=self._clock.now(),
            overrides=overrides,
            champion=serving.bundle if serving else None,
            progress=lambda what: self._progress("train", what),
        )
        done = built.finish(run, self._clock.now())
        same = self._same_as(turn, built.bundle)
        if same:
            self._progress("train", "nothing changed")
            return self._move(turn, TurnState.unchanged, lambda tx: _put(tx, done, outcome=same), why=same)
        numbers = {name: round(value, 6) for name, value in built.metrics.items()}
        self._progress("train", ", ".join(f"{name} {value:.4g}" for name, value in numbers.items()) or "done")
        return self._move(turn, TurnState.validating, lambda tx: _put(tx, done), run=run.id, bundle=built.bundle,
                          metrics=numbers)  # fmt: skip

    def _source_name(self) -> str:
        step = self._loop.step("source")
        return f"{step.name}." if step else "\0"

    def _same_as(self, turn: Turn, bundle: str) -> str:
        """Why there is nothing to decide: the same bundle serves already, or was turned down with nothing else new."""
        with self._store.ledger.read() as db:
            serving = find_champion(db, turn.loop)
            if serving is not None and serving.bundle == bundle:
                return f"Nothing changed: version {serving.version} already serves this model."
            for former in db.list(Turn, loop=turn.loop, limit=20):
                if former.id == turn.id or former.state is TurnState.unchanged:
                    continue
                run = db.find(Run, id=former.run) if former.run else None
                same = run is not None and run.bundle == bundle
                if same and former.state is TurnState.promoted and former.version is not None:
                    made = version(db, turn.loop, former.version)
                    if made.stage is Stage.rejected:  # it served, and was rolled back
                        return f"Nothing changed since turn {former.number}, whose model was {made.reason}"
                if same and former.state is TurnState.rejected:
                    report = db.find(ValidationReport, id=former.report) if former.report else None
                    against = report.champion if report else None
                    if _settled(report) and against == (serving.version if serving else None):
                        return (
                            f"Nothing changed since turn {former.number}, which rejected this model: {former.outcome}"
                        )
                return ""
        return ""

    def _validate(self, turn: Turn) -> Turn:
        from noria.loop.judging import judge  # brings the server along: a turn with nothing new does without

        store = self._store
        with store.ledger.read() as db:
            run = db.find(Run, id=turn.run)
            serving = find_champion(db, turn.loop)
            number = db.count(ModelVersion, loop=turn.loop) + 1
        assert run is not None
        overrides = {k: v for k, v in turn.overrides.items() if not k.startswith(self._source_name())}
        work = Work(self._loaded, store, self._frame(turn), self._clock.now(), overrides)
        report = judge(
            work,
            store,
            self._clock,
            run,
            number=number,
            champion=serving,
            report_id=new_id(),
            now=self._clock.now(),
            progress=lambda what: self._progress("validate", what),
        )
        failed = [result.sentence for result in report.results if result.outcome.value != "pass"]
        passed = len(report.results) - len(failed)
        self._progress("validate", f"{passed} of {len(report.results)} gates passed")

        def effects(tx: Transaction) -> dict[str, Any]:
            tx.put(report)
            stage = Stage.candidate if report.passed else Stage.rejected
            reason = "passed its gates" if report.passed else failed[0]
            made = register(tx, run, report, self._clock.now(), stage=stage, reason=reason)
            if made.version != number:
                raise Conflict(f"Version {number} of '{turn.loop}' was taken by another process.")
            return {
                "report": report.id,
                "version": made.version,
                "outcome": "" if report.passed else failed[0],
            }

        to = TurnState.validated if report.passed else TurnState.rejected
        return self._move(turn, to, effects, version=number, report=report.id, why=failed[0] if failed else "")

    def _release(self, turn: Turn) -> Turn:
        """Passed: ask for approval, start the canary, or promote."""
        approval = self._loop.approval
        with self._store.ledger.read() as db:
            candidate = version(db, turn.loop, turn.version or 0)
        if approval is not None and candidate.decision is None:
            self._progress("approve", f"version {turn.version} waits for a {approval.role}")

            def wait(tx: Transaction) -> dict[str, Any]:
                move(tx, turn.loop, turn.version or 0, Stage.awaiting_approval, f"waits for a {approval.role}")
                return {}

            return self._move(turn, TurnState.awaiting_approval, wait, version=turn.version, role=approval.role)
        return self._deploy(turn)

    def _await_approval(self, turn: Turn) -> Turn:
        from noria.core.units import format_duration, parse_duration

        approval = self._loop.approval
        with self._store.ledger.read() as db:
            candidate = version(db, turn.loop, turn.version or 0)
        decision = candidate.decision
        why = ""
        if decision is not None and not decision.approved:
            why = f"Rejected by {decision.by}" + (f": {decision.comment}" if decision.comment else ".")
        elif decision is None:
            within = parse_duration(approval.within) if approval is not None and approval.within else None
            if within is None or self._clock.now() - turn.since < within:
                return turn
            why = f"No {approval.role} answered within {format_duration(within)}."
        if why:

            def refuse(tx: Transaction) -> dict[str, Any]:
                move(tx, turn.loop, turn.version or 0, Stage.rejected, why)
                return {"outcome": why}

            return self._move(turn, TurnState.rejected, refuse, why=why)
        return self._deploy(turn)

    def _deploy(self, turn: Turn) -> Turn:
        """Start the canary, or promote."""
        step = self._releases.deploy(turn)
        self._progress("deploy", step.said)
        return self._move(turn, step.to, step.effects, **step.facts)

    def _canary(self, turn: Turn) -> Turn:
        """Hold, widen, promote or roll back."""
        step = self._releases.canary(turn)
        if step is None:
            return turn
        try:
            moved = self._move(turn, step.to, step.effects, **step.facts)
        except Overtaken:
            return turn  # looked at again in a moment
        self._progress("deploy", step.said)
        return moved if moved.state.final else turn  # waits at the wider step


def _settled(report: ValidationReport | None) -> bool:
    """Whether judging the same model again would end the same: a measured latency may come out differently."""
    if report is None:
        return False
    failed = [result.gate for result in report.results if result.outcome is not Outcome.passed]
    return any(not gate.startswith("Latency(") for gate in failed)


def _put(tx: Transaction, run: Run, **changes: Any) -> dict[str, Any]:
    tx.put(run)
    return changes


def _is_store_fault(error: NoriaError) -> bool:
    from noria.errors import CorruptBlob, StoreError

    return isinstance(error, StoreError) and not isinstance(error, CorruptBlob)
