"""Labels that come with the source's file, whether it changes under way or while nobody looked."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from noria.loop.declare import Loop
from noria.loop.load import LoadedLoop, load
from noria.loop.source_labels import SourceLabels
from noria.records import TurnState
from noria.testing import FakeClock, Played, play

SMALL = Path(__file__).parent / "faults" / "small_loop.py"


def rows(count: int) -> pl.DataFrame:
    numbers = pl.DataFrame({"id": range(count), "visits": [i % 11 for i in range(count)]})
    return numbers.with_columns(minutes=pl.lit(30.0), bought=(pl.col("visits") + pl.col("id") % 3 > 5).cast(pl.Int64))


@pytest.fixture
def loop() -> Loop:
    found: Loop = load(SMALL).loop
    found.approval, found.monitor = None, ()
    return found


@pytest.fixture
def played(loop: Loop) -> Iterator[Played]:
    """A version that serves all traffic."""
    with play(loop, rows(300), FakeClock(datetime(2024, 1, 1, tzinfo=UTC))) as found:
        turn = found.tick()
        assert turn is not None
        assert turn.state is TurnState.promoted
        found.tick()
        yield found


def labels(played: Played) -> dict[str | None, int]:
    return {one.prediction.key: one.value for one in played.store.predictions.labelled("small")}


def test_a_row_that_was_served_gets_its_label_when_the_file_knows_it(played: Played) -> None:
    later = rows(305)
    played.predict(later.drop("bought")[300:305].to_dicts())
    played.tick()
    assert labels(played) == {}
    truth = later["bought"].to_list()
    played.replace_rows(later.with_columns(bought=pl.when(pl.col("id") != 302).then("bought")))
    played.tick()
    assert labels(played) == {str(key): truth[key] for key in (300, 301, 303, 304)}
    played.replace_rows(later)
    played.tick()
    assert labels(played) == {str(key): truth[key] for key in range(300, 305)}


def test_what_the_file_learnt_while_nobody_looked_is_not_missed(played: Played, loop: Loop) -> None:
    later = rows(303)
    played.predict(later.drop("bought")[300:303].to_dicts())
    played.replace_rows(later)
    fresh = SourceLabels(LoadedLoop(loop, "loop", SMALL), played.store)  # as after a restart
    assert fresh.collect(played.clock.now()) == 3
    assert fresh.collect(played.clock.now()) == 0
    assert sorted(map(str, labels(played))) == ["300", "301", "302"]
