"""The verbs that only look: tables of what the store holds."""

from __future__ import annotations

from pathlib import Path

import msgspec
from rich.console import Console
from rich.text import Text

from noria.cli.places import opened, the_loop
from noria.cli.tables import bytes_text, gates_table, moment, table
from noria.errors import CorruptBlob, NotFound
from noria.loop.clock import SystemClock
from noria.loop.lease import holder
from noria.records import (
    Alert,
    AuditEntry,
    BundleManifest,
    Compiled,
    DatasetVersion,
    ModelVersion,
    Run,
    Turn,
    ValidationReport,
)
from noria.register import champion
from noria.store.ports import LoopRecord, Store, Window

__all__ = [
    "show_audit",
    "show_data",
    "show_explanation",
    "show_models",
    "show_monitor",
    "show_report",
    "show_runs",
    "show_status",
    "show_turns",
    "show_why",
]


def _console() -> Console:
    return Console(highlight=False)


def show_status(store: Path | None) -> None:
    """Each loop: its champion, where its turn stands, what was raised last."""
    console = _console()
    with opened(store, read_only=True) as kept, kept.ledger.read() as db:
        held = holder(db, SystemClock().now())
        if held is None:
            console.print("Nothing runs on this store now.")
        else:
            where = f" at {held.address}" if held.address else ""
            console.print(f"{held.holder} (process {held.pid}) looks after this store{where}.")
        found = table("loop", "champion", "#turn", "stands at", "since", "why", "last alert")
        for record in db.list(LoopRecord):
            turn = db.find(Turn, loop=record.name)
            serving = champion(db, record.name)
            alert = db.find(Alert, loop=record.name)
            found.add_row(
                record.name,
                f"version {serving.version}" if serving else "none",
                str(turn.number) if turn else "-",
                turn.state.value if turn else "-",
                moment(turn.since) if turn else "-",
                Text((turn.outcome or turn.reason) if turn else "-"),
                Text(f"{moment(alert.at)} {alert.kind}" if alert else "none"),
            )
        console.print(found)


def show_runs(store: Path | None, loop: str | None, limit: int) -> None:
    """Runs with their metrics."""
    with opened(store, read_only=True) as kept, kept.ledger.read() as db:
        name = the_loop(db, loop)
        found = db.list(Run, loop=name, limit=limit)
        names = sorted({metric.name for run in found for metric in run.metrics})
        shown = table("run", "started", "status", *(f"#{metric}" for metric in names), "#seconds", "#memory", "commit")
        for run in found:
            values = [run.metric(metric) for metric in names]
            shown.add_row(
                run.id[-12:],
                moment(run.started),
                run.status,
                *("-" if value is None else f"{value:.4g}" for value in values),
                "-" if run.seconds is None else f"{run.seconds:.1f}",
                bytes_text(run.peak_memory_bytes),
                f"{(run.git_commit or '-')[:8]}{'+' if run.git_dirty else ''}",
            )
        _console().print(shown)


def show_models(store: Path | None, loop: str | None, limit: int) -> None:
    """Versions with where they stand and why."""
    with opened(store, read_only=True) as kept, kept.ledger.read() as db:
        name = the_loop(db, loop)
        shown = table("#version", "stage", "made", "run", "decided by", "#compiled", "why")
        for version in db.list(ModelVersion, loop=name, limit=limit):
            by = version.decision.by if version.decision else "-"
            shown.add_row(str(version.version), version.stage.value, moment(version.created), version.run[-12:], by,
                          _row_time(_compiled(kept, version)), Text(version.reason))  # fmt: skip
        _console().print(shown)


def _compiled(store: Store, version: ModelVersion) -> Compiled | None:
    """What the bundle says of its graph; None where it says nothing, or cannot be read."""
    try:
        return msgspec.json.decode(store.blobs.get(version.bundle), type=BundleManifest).compiled
    except (NotFound, CorruptBlob, msgspec.DecodeError):
        return None


def _row_time(compiled: Compiled | None) -> str:
    if compiled is None:
        return "-"
    return "no" if compiled.graph is None or compiled.row_us is None else f"{compiled.row_us:.0f} µs"


def show_data(store: Path | None, loop: str | None, limit: int) -> None:
    """Dataset versions with rows, time span and what was set aside."""
    with opened(store, read_only=True) as kept, kept.ledger.read() as db:
        name = the_loop(db, loop)
        shown = table("version", "made", "#rows", "#served", "from", "to", "#size", "#set aside", "expectations")
        for one in db.list(DatasetVersion, loop=name, limit=limit):
            failed = [result.sentence for result in one.expectations.results if not result.passed]
            shown.add_row(
                one.id[7:19],
                moment(one.created),
                f"{one.rows:,}",
                f"{one.served_rows:,}",
                moment(one.first_time),
                moment(one.last_time),
                bytes_text(one.size_bytes),
                f"{one.expectations.quarantined:,}",
                Text("; ".join(failed) or "hold"),
            )
        _console().print(shown)


def show_turns(store: Path | None, loop: str | None, limit: int) -> None:
    """The turn log."""
    with opened(store, read_only=True) as kept, kept.ledger.read() as db:
        name = the_loop(db, loop)
        shown = table("#turn", "state", "ordered", "by", "#version", "why")
        for turn in db.list(Turn, loop=name, limit=limit):
            shown.add_row(str(turn.number), turn.state.value, moment(turn.created), turn.trigger,
                          str(turn.version or "-"), Text(turn.outcome or turn.reason))  # fmt: skip
        _console().print(shown)


def show_report(store: Path | None, loop: str | None, version: int | None) -> None:
    """One version's validation report."""
    from noria.register import version as find_version

    with opened(store, read_only=True) as kept, kept.ledger.read() as db:
        name = the_loop(db, loop)
        number = version if version is not None else db.count(ModelVersion, loop=name)
        found = find_version(db, name, number)
        report = db.find(ValidationReport, id=found.report)
        compiled = _compiled(kept, found)
    console = _console()
    console.print(f"Version {found.version} of '{name}': {found.stage.value}. {found.reason}", markup=False)
    if compiled is not None:
        console.print(compiled.sentence, markup=False)
    if report is not None:
        console.print(gates_table(report))


def show_monitor(store: Path | None, loop: str | None, limit: int) -> None:
    """The newest windows and alerts."""
    console = _console()
    with opened(store, read_only=True) as kept, kept.ledger.read() as db:
        name = the_loop(db, loop)
        shown = table("from", "to", "#version", "#rows", "metric", "#value", "#interval", "#bias", "#validated")
        for window in db.list(Window, loop=name, kind="performance", limit=limit):
            facts = window.facts
            shown.add_row(
                moment(window.start),
                moment(window.end),
                str(window.version),
                f"{window.rows:,}",
                str(facts.get("metric")),
                *(_number(facts.get(part)) for part in ("value",)),
                f"{_number(facts.get('low'))} to {_number(facts.get('high'))}",
                _number(facts.get("bias")),
                _number(facts.get("baseline")),
            )
        drift = table("from", "#version", "#rows", "columns that drifted")
        for window in db.list(Window, loop=name, kind="drift", limit=limit):
            moved = [f"{c} {v['effect']:.2f}" for c, v in window.facts["columns"].items() if v["drifted"]]
            drift.add_row(moment(window.start), str(window.version), f"{window.rows:,}", ", ".join(moved) or "none")
        alerts = table("at", "severity", "kind", "")
        for alert in db.list(Alert, loop=name, limit=limit):
            alerts.add_row(moment(alert.at), alert.severity, alert.kind, Text(alert.sentence))
    if not shown.row_count and not drift.row_count:
        console.print(f"No window is complete yet. Predictions come to /predict/{name}, labels to /labels/{name}.")
    for one in (shown, drift, alerts):
        if one.row_count:
            console.print(one)
            console.print()


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, (int, float)) else "-"


def show_why(store: Path | None, loop: str | None, step: str) -> None:
    """What changed in a step's key between the newest run and the one before that has it."""
    from noria.core.nearest import suggest
    from noria.train.cache import compare_parts

    with opened(store, read_only=True) as kept, kept.ledger.read() as db:
        name = the_loop(db, loop)
        runs = db.list(Run, loop=name, limit=100)
    traces = [(run, trace) for run in runs for trace in run.steps if trace.name == step]
    if not traces:
        known = {trace.name for run in runs for trace in run.steps}
        raise NotFound(f"No run of '{name}' has a step '{step[:80]}'. {suggest(step, known)}")
    run, trace = traces[0]
    how = "was taken from the cache" if trace.cached else f"ran ({trace.seconds:.2f} s)"
    print(f"In run {run.id[-12:]} of {moment(run.started)}, {step} {how}.")
    if len(traces) == 1:
        print("It is the first run with this step: there was nothing to take.")
        return
    before, former = traces[1]
    lines = compare_parts(former.parts, trace.parts)
    print(f"Since run {before.id[-12:]} of {moment(before.started)}: {'' if lines else 'nothing changed.'}")
    for line in lines:
        print(f"  {line}")


def show_explanation(store: Path | None, prediction: str) -> None:
    """The chain behind a prediction."""
    from noria.govern import explain

    with opened(store, read_only=True) as kept:
        found = explain(kept, prediction)
    p, run, data, report = found.prediction, found.run, found.dataset, found.report
    shown = table("", "")
    shown.columns[1].overflow = "fold"  # a digest is of use only whole
    decision = found.version.decision
    classes = found.manifest.signature.classes if found.manifest else ()
    shares = zip(classes, p.probabilities or (), strict=False)
    rows = [
        ("prediction", f"{'none' if p.error else p.value}, {p.role}, {p.latency_us / 1000:.1f} ms"),
        *([("failed", p.error)] if p.error else []),
        *(
            [("given instead", f"{p.answered}, by another version: a shadow only listens")]
            if p.role == "shadow"
            else []
        ),
        ("at", p.at.isoformat(timespec="milliseconds")),
        *([("probabilities", ", ".join(f"{name}: {share:.4g}" for name, share in shares))] if p.probabilities else []),
        *([("key", p.key)] if p.key is not None else []),
        *([("trace", p.trace)] if p.trace else []),
        (
            "label",
            "not known yet" if found.label is None else f"{found.label.value}  at {moment(found.label.at)} UTC",
        ),
        *(
            (
                "overridden" if place == 0 else "before",
                f"{one.value}  at {moment(one.at)} UTC by {one.by}: {one.reason}",
            )
            for place, one in enumerate(found.overrides)
        ),
        ("record", str(p.record)),
        ("model", f"{p.loop} version {p.version}, {p.model_digest}"),
        ("why it served", found.version.reason),
        ("approved by", f"{decision.by} as {decision.role}" if decision else "no approval was declared"),
        ("report", f"{report.id}, {'passed' if report.passed else 'not passed'}" if report else "-"),
        ("gates", "; ".join(f"{r.outcome.value}: {r.gate}" for r in report.results) if report else "-"),
        ("run", f"{run.id} of {moment(run.started)}" if run else "-"),
        (
            "commit",
            f"{run.git_commit or 'no repository'}{' with changes' if run.git_dirty else ''}" if run else "-",
        ),
        ("environment", run.environment or "-" if run else "-"),
        ("data version", f"{data.id}, {data.rows:,} rows" if data else "-"),
        ("turn", f"{found.turn.number}: {found.turn.reason}" if found.turn else "-"),
    ]
    for name, value in rows:
        shown.add_row(Text(name, style="bold"), Text(value))
    _console().print(shown)


def show_audit(store: Path | None, limit: int) -> int:
    """The newest entries and whether the whole trail holds; returns the exit status."""
    from noria.govern import verify

    console = _console()
    with opened(store, read_only=True) as kept, kept.ledger.read() as db:
        finding = verify(db)
        shown = table("#entry", "at", "who", "what", "subject")
        for entry in reversed(db.list(AuditEntry, limit=limit)):
            shown.add_row(str(entry.number), moment(entry.at), entry.actor, entry.action, entry.subject)
    console.print(shown)
    for problem in finding.problems:
        console.print(problem, style="red", markup=False)
    verdict = "damaged" if finding.problems else "whole"
    console.print(f"{finding.entries} entries, {verdict}. Head: {finding.head or 'none'}", markup=False)
    return 1 if finding.problems else 0
