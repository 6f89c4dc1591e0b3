"""A turn's canary, played: a shadow first, then a share of the traffic, then all of it or the way back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from noria import Canary
from noria.deploy.evidence import canary_windows
from noria.deploy.rollout import current, roll_back
from noria.loop.declare import Loop
from noria.loop.load import load
from noria.records import AuditEntry, Stage, Turn, TurnState
from noria.register import version
from noria.testing import FakeClock, Played, play

SMALL = Path(__file__).parent / "faults" / "small_loop.py"
RULE = Canary(shadow="2h", steps=(50, 100), hold="1h", min_requests=20)


def rows(count: int, first: int = 0) -> pl.DataFrame:
    draw = np.random.default_rng(first)
    visits, minutes = draw.poisson(5, count), draw.gamma(2, 10, count)
    bought = draw.random(count) < 1 / (1 + np.exp(-(visits - 5) - (minutes - 20) / 20))
    return pl.DataFrame(
        {"id": range(first, first + count), "visits": visits, "minutes": minutes, "bought": bought.astype(int)}
    )


@pytest.fixture
def played() -> Iterator[Played]:
    """Version 1 serves all traffic, version 2 is a shadow."""
    loop: Loop = load(SMALL).loop
    loop.approval, loop.monitor = None, ()
    loop.deploy = RULE
    clock = FakeClock(datetime(2024, 1, 1, tzinfo=UTC))
    with play(loop, rows(400), clock) as found:
        found.tick()
        found.replace_rows(rows(500))
        clock.advance("31d")
        turn = found.tick()
        assert turn is not None
        assert turn.state is TurnState.canary
        yield found


def routes(played: Played) -> list[tuple[int, str, float]]:
    with played.store.ledger.read() as db:
        found = current(db, "small")
    assert found is not None
    return [(route.version, route.role, route.percent) for route in found.routes]


def tick(played: Played) -> Turn:
    turn = played.tick()
    assert turn is not None
    return turn


def reason(played: Played, number: int) -> str:
    with played.store.ledger.read() as db:
        return version(db, "small", number).reason


def sentence(played: Played) -> str:
    turn = played.turn
    assert turn is not None
    with played.store.ledger.read() as db:
        return str(canary_windows(db, turn.id)[-1].facts["sentence"])


def ask(played: Played, count: int, first: int = 5000) -> set[int]:
    """Requests of one record each; the versions that answered. Waits until the shadow has been asked too, each time:
    a stall of this machine is then one slow answer, not many."""
    shadow = any(role == "shadow" for _, role, _ in routes(played))
    log, began = played.store.predictions, datetime(2024, 1, 1, tzinfo=UTC)
    before = log.counts("small", began, 2)[0]
    found: set[int] = set()
    for number, record in enumerate(rows(count, first).drop("bought").to_dicts(), 1):
        found |= {answer["version"] for answer in played.predict([record])}
        until = time.monotonic() + 20
        while shadow and log.counts("small", began, 2)[0] < before + number and time.monotonic() < until:
            time.sleep(0.002)
    return found


def test_a_shadow_is_asked_along_and_gives_no_answer(played: Played) -> None:
    assert routes(played) == [(1, "champion", 100.0), (2, "shadow", 100.0)]
    assert reason(played, 2) == "shadow for 2h: asked along, what it says is recorded and never given"
    assert ask(played, 25) == {1}
    assert played.store.predictions.counts("small", played.clock.now(), 2)[:2] == (25, 0)


def test_it_goes_from_shadow_to_a_share_of_the_traffic_to_all_of_it(played: Played) -> None:
    assert tick(played).state is TurnState.canary
    assert sentence(played) == (
        "As a shadow, asked along and never given, waiting for 2h more of 2h and 20 more of 20 requests."
    )
    played.clock.advance("3h")
    assert tick(played).state is TurnState.canary
    assert routes(played)[1] == (2, "shadow", 100.0), "nobody has asked anything yet"
    ask(played, 25)
    assert tick(played).state is TurnState.canary
    assert routes(played) == [(1, "champion", 50.0), (2, "canary", 50.0)]
    assert sentence(played).startswith("No harm seen as a shadow (0 of 25 requests failed")
    assert ask(played, 80, 6000) == {1, 2}
    played.clock.advance("2h")
    turn = tick(played)
    assert turn.state is TurnState.promoted
    assert turn.outcome.startswith("No harm seen at 50 % (0 of ")
    assert routes(played) == [(2, "champion", 100.0)]
    with played.store.ledger.read() as db:
        shadow, half = canary_windows(db, turn.id)
        entries = db.list(AuditEntry, oldest_first=True, subject=f"turn:{turn.id}")
    steps = [entry.facts for entry in entries if entry.action == "turn canary"]
    assert [(one.get("shadow"), one.get("percent")) for one in steps] == [("2h", None), (None, 50)]
    assert (shadow.facts["percent"], half.facts["percent"]) == (0.0, 50.0)
    assert shadow.facts["champion"]["latency_ms"]["n"] > 10
    assert half.facts["challenger"]["latency_ms"]["p95"] > 0


def test_a_shadow_that_says_something_else_is_rolled_back(played: Played) -> None:
    log = played.store.predictions
    ask(played, 30)
    kept = [one for _, one in log.rows("small") if one.role == "shadow"]
    assert [one.answered is not None for one in kept] == [True] * 30
    loop = played.controller._loop
    loop.deploy = Canary(shadow="2h", steps=(50, 100), min_requests=20, min_agreement=1.0)
    played.clock.advance("3h")
    turn = tick(played)
    with played.store.ledger.read() as db:
        (window,) = canary_windows(db, turn.id)
    seen = window.facts["agreement"]
    assert seen == {"compared": 30, "agreed": sum(one.answered == one.value for one in kept)}
    assert window.facts["challenger"]["latency_ms"]["n"] > 20
    assert turn.state is (TurnState.rolled_back if seen["agreed"] < 30 else TurnState.canary)


def test_a_canary_that_somebody_takes_out_is_rolled_back_with_the_reason(played: Played) -> None:
    why = "Version 2 keeps crashing: exit status -11."
    played.store.ledger.write(lambda tx: roll_back(tx, "small", played.clock.now(), why, version=2))
    turn = tick(played)
    assert turn.state is TurnState.rolled_back
    assert turn.outcome == f"Rolled back: {why}"
    assert routes(played) == [(1, "champion", 100.0)]
    assert ask(played, 5) == {1}


def test_a_decision_on_what_is_no_longer_deployed_is_void(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(played, 25)
    played.clock.advance("3h")
    watch = played.controller._engine._releases._watch
    look = watch.look

    def and_then_somebody_rolls_back(*given: object) -> object:
        found = look(*given)  # type: ignore[arg-type]
        played.store.ledger.write(lambda tx: roll_back(tx, "small", played.clock.now(), "bad.", version=2))
        return found

    monkeypatch.setattr(watch, "look", and_then_somebody_rolls_back)
    assert tick(played).state is TurnState.canary
    monkeypatch.undo()
    assert routes(played) == [(1, "champion", 100.0)]
    assert tick(played).state is TurnState.rolled_back


def test_a_model_that_was_rolled_back_is_not_tried_again_unchanged(played: Played) -> None:
    ask(played, 25)
    played.clock.advance("3h")
    tick(played)
    ask(played, 80, 6000)
    played.clock.advance("2h")
    assert tick(played).state is TurnState.promoted
    played.store.ledger.write(lambda tx: roll_back(tx, "small", played.clock.now(), "it crashes.", version=2))
    played._server.settle()
    assert played.champion is not None
    assert played.champion.version == 1
    assert ask(played, 5) == {1}
    played.clock.advance("31d")
    turn = tick(played)
    assert turn.state is TurnState.unchanged
    assert turn.outcome == "Nothing changed since turn 2, whose model was rolled back: it crashes."
    with played.store.ledger.read() as db:
        assert version(db, "small", 2).stage is Stage.rejected
