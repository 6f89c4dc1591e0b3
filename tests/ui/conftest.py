"""A store with a history, and the application that shows it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from seed_store import fill
from seed_story import StoppedClock

from noria.server.app import ASGIApp, create_app
from noria.store import Store, open_store


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store with a year of history; read it, do not change it."""
    opened = open_store(tmp_path_factory.mktemp("seeded"))
    fill(opened)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def app(store: Store) -> ASGIApp:
    """The pages of that store."""
    return create_app(store, StoppedClock(), address="http://127.0.0.1:8000")
