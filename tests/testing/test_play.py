"""`noria.testing.play` turns a loop in a temporary store, by hand."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from noria.errors import NoriaError
from noria.loop.declare import Loop
from noria.loop.load import load
from noria.records import Alert, Stage, TurnState
from noria.testing import FakeClock, play

SMALL = Path(__file__).parent.parent / "loop" / "faults" / "small_loop.py"


def rows(count: int, first: int = 0, shift: float = 0.0) -> pl.DataFrame:
    draw = np.random.default_rng(first)
    visits, minutes = draw.poisson(5, count), draw.gamma(2, 10, count)
    bought = draw.random(count) < 1 / (1 + np.exp(-(1 - 2 * shift) * (visits - 5) - (minutes - 20) / 20))
    return pl.DataFrame(
        {
            "id": range(first, first + count),
            "visits": visits,
            "minutes": minutes,
            "bought": bought.astype(int),
        }
    )


@pytest.fixture
def loop() -> Loop:
    return load(SMALL).loop


def test_a_loop_goes_round_from_first_model_to_alarm_canary_and_promotion(loop: Loop) -> None:
    clock = FakeClock(datetime(2024, 1, 1, tzinfo=UTC))
    loop.approval = None
    with play(loop, rows(1000), clock) as played:
        first = played.tick()
        assert first is not None
        assert first.state is TurnState.promoted
        number = 1000
        states = set()
        for _ in range(40):
            fresh = rows(150, number, shift=1.0)  # the world has turned round
            number += 150
            played.predict(fresh.drop("bought").to_dicts())
            played.label([{"key": k, "label": v} for k, v in fresh.select("id", "bought").iter_rows()])
            clock.advance("3h")
            turn = played.tick()
            states.add(turn.state if turn is not None else None)
            if played.champion is not None and played.champion.version > 1:
                break
        assert TurnState.canary in states
        assert played.champion is not None
        assert played.champion.version > 1
        with played.store.ledger.read() as db:
            assert any(alert.severity == "alarm" for alert in db.list(Alert))
        answers = played.predict(rows(5).drop("bought").to_dicts())
        assert {answer["version"] for answer in answers} == {played.champion.version}


def test_an_approval_waits_and_runs_out(loop: Loop) -> None:
    clock = FakeClock()
    with play(loop, rows(400), clock) as played:
        turn = played.tick()
        assert turn is not None
        assert turn.state is TurnState.awaiting_approval
        assert played.champion is None
        clock.advance("4d")
        turn = played.tick()
        assert turn is not None
        assert turn.state is TurnState.rejected
        assert "owner" in turn.outcome


def test_what_the_server_refuses_is_an_error_with_its_words(loop: Loop) -> None:
    loop.approval = None
    with play(loop, rows(400)) as played:
        played.tick()
        with pytest.raises(NoriaError, match="visits"):
            played.predict([{"id": 1, "minutes": 3.0}])


def test_a_challenger_that_is_no_better_is_rejected_and_the_champion_stays(loop: Loop) -> None:
    from noria import BeatsChampion

    clock = FakeClock()
    loop.approval = None
    loop.gates = (BeatsChampion("roc_auc", by=0.2),)
    with play(loop, rows(400), clock) as played:
        played.tick()
        played.replace_rows(rows(450))
        clock.advance("31d")
        turn = played.tick()
        assert turn is not None
        assert turn.state is TurnState.rejected
        assert played.champion is not None
        assert (played.champion.version, played.champion.stage) == (1, Stage.champion)
