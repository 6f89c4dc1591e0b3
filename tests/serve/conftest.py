"""Two real versions of a small loop, trained once for all tests here, and a server for them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "compat"))

from numbers_loop import train_numbers
from serving import LOOP, Clock, Served, write_people

from noria.loop.load import load
from noria.loop.turn import Engine, order
from noria.records import ModelVersion, TurnState
from noria.store import Store, open_store


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, list[ModelVersion]]]:
    folder = tmp_path_factory.mktemp("churn")
    write_people(folder / "people.csv")
    (folder / "churn_loop.py").write_text(LOOP)
    loaded = load(folder / "churn_loop.py")
    store = open_store(folder / "store")
    for overrides in ({}, {"train.C": 0.01}):
        turn = order(store, loaded, datetime.now(UTC), trigger="manual", reason="test", overrides=overrides)
        turn = Engine(loaded, store, Clock()).run(turn)
        assert turn.state is TurnState.promoted, turn.outcome
    with store.ledger.read() as db:
        versions = db.list(ModelVersion, oldest_first=True)
    yield store, versions
    store.close()


@pytest.fixture
def served(trained: tuple[Store, list[ModelVersion]]) -> Iterator[Served]:
    """A server of version 1, for tests that disturb it."""
    found = Served(*trained)
    found.deploy((1, 100.0))
    with found.up():
        yield found


@pytest.fixture(scope="module")
def steady(trained: tuple[Store, list[ModelVersion]]) -> Iterator[Served]:
    """A server of version 1 (and 2 at 0 %) that a module's tests share."""
    found = Served(*trained)
    found.deploy((1, 100.0), (2, 0.0))
    with found.up():
        yield found


@pytest.fixture(scope="session")
def numeric(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, list[ModelVersion]]]:
    """A store of two versions that compile."""
    store = train_numbers(tmp_path_factory.mktemp("numbers"))
    with store.ledger.read() as db:
        versions = db.list(ModelVersion, oldest_first=True)
    yield store, versions
    store.close()


@pytest.fixture(scope="module")
def compiled(numeric: tuple[Store, list[ModelVersion]]) -> Iterator[Served]:
    """A server of version 1 of them."""
    found = Served(*numeric, name="numbers")
    found.deploy((1, 100.0))
    with found.up():
        yield found


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store."""
    with closing(open_store(tmp_path / "store")) as found:
        yield found
