"""``noria turn``: one turn in this process, or asked of the controller that looks after the store."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from noria.cli.declared import load_sound
from noria.cli.places import store_folder
from noria.cli.progress import Steps
from noria.cli.tables import gates_table
from noria.errors import DeclarationError, Fault
from noria.loop.clock import SystemClock
from noria.loop.keeper import LeaseKeeper
from noria.loop.lease import holder
from noria.loop.load import LoadedLoop
from noria.records import Run, Turn, TurnState, ValidationReport
from noria.retrain.request import request_turn
from noria.store import Store, open_store

__all__ = ["one_turn", "parse_knobs"]


def parse_knobs(loaded: LoadedLoop, given: list[str]) -> dict[str, Any]:
    """Knobs from ``step.knob=value`` texts, each of the type of the knob's default.

    Raises:
        DeclarationError: a text has another form, names no knob, or its value is of another type.
    """
    known = {f"{step.name}.{knob.name}": knob.default for step in loaded.loop.steps for knob in step.knobs}
    found: dict[str, Any] = {}
    faults = []
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or name not in known:
            there = ", ".join(known) or "none"
            faults.append(Fault(f"--set {text}", "is not a knob of this loop.", f"Knobs: {there}."))
            continue
        try:
            found[name] = _value(value, known[name])
        except ValueError:
            kind = type(known[name]).__name__
            faults.append(Fault(f"--set {text}", f"{value!r} is not a {kind}, as {name} is by default.", ""))
    if faults:
        raise DeclarationError(faults)
    return found


def _value(text: str, default: object) -> Any:
    if isinstance(default, str):
        return text
    try:
        value = msgspec.json.decode(text.lower() if isinstance(default, bool) else text)
    except msgspec.DecodeError:
        if default is None:
            return text
        raise ValueError(text) from None
    if default is None or type(value) is type(default):
        return value
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(default, tuple) and isinstance(value, list):
        return tuple(value)
    raise ValueError(text)


def one_turn(file: Path, store: Path | None, knobs: list[str], accept_schema: bool) -> int:
    """Run a turn and show what came of it; returns the exit status (0: promoted, unchanged or waiting)."""
    from noria.loop.turn import Engine, newest_turn, order

    loaded = load_sound(file)
    overrides = parse_knobs(loaded, knobs)
    kept = open_store(store_folder(store, file))
    try:
        with kept.ledger.read() as db:
            looked_after = holder(db, SystemClock().now())
        if looked_after is not None and looked_after.holder == "noria up" and not overrides and not accept_schema:
            return _ask(kept, loaded)
        clock = SystemClock()
        with LeaseKeeper(kept.ledger, "noria turn") as keeper, Steps() as steps:
            with kept.ledger.read() as db:
                former = newest_turn(db, loaded.loop.name)
            if former is not None and not former.state.final:
                steps("resume", f"turn {former.number} stands at {former.state.value}")
            engine = Engine(loaded, kept, clock, lease=keeper.lease, progress=steps, accept_schema=accept_schema)
            turn = order(
                kept, loaded, clock.now(), trigger="manual", reason="Asked for by noria turn.",
                overrides=overrides, actor="noria turn",
            )  # fmt: skip
            turn = engine.run(turn)
        return _show(kept, turn)
    finally:
        kept.close()


def _ask(store: Store, loaded: LoadedLoop) -> int:
    """Order the turn of the running controller and follow it."""
    from noria.loop.turn import newest_turn

    name = loaded.loop.name
    with store.ledger.read() as db:
        before = newest_turn(db, name)
    request_turn(store.ledger, name, SystemClock().now(), by="noria turn")
    number = (before.number if before else 0) + (1 if before is None or before.state.final else 0)
    with Steps() as steps:
        steps("asked", "noria up looks after this store; it was asked for a turn")
        while True:
            with store.ledger.read() as db:
                turn = newest_turn(db, name)
            if turn is not None and turn.number >= number:
                steps("turn", f"{turn.number}: {turn.state.value}")
                if turn.state.final or turn.state in (TurnState.awaiting_approval, TurnState.canary):
                    break
            time.sleep(0.3)
    return _show(store, turn)


def _show(store: Store, turn: Turn) -> int:
    console = Console(highlight=False)
    with store.ledger.read() as db:
        run = db.find(Run, id=turn.run) if turn.run else None
        report = db.find(ValidationReport, id=turn.report) if turn.report else None
    if run is not None and run.metrics:
        console.print("  ".join(f"[bold]{metric.name}[/bold] {metric.value:.4g}" for metric in run.metrics))
    if report is not None:
        console.print(gates_table(report))
    good = turn.state in (
        TurnState.promoted,
        TurnState.unchanged,
        TurnState.awaiting_approval,
        TurnState.canary,
    )
    colour = "green" if good else "red"
    what = {
        TurnState.promoted: f"version {turn.version} is champion",
        TurnState.awaiting_approval: f"version {turn.version} waits: noria approve {turn.version}",
    }.get(turn.state, turn.outcome)
    console.print(f"[bold {colour}]Turn {turn.number}: {turn.state.value}[/bold {colour}]", end="  ")
    console.print(what, markup=False)
    return 0 if good else 1
