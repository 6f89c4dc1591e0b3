"""A server for each module of tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from noria_server import Wire, serving


@pytest.fixture(scope="module")
def wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    """A real server on a new store, which a module's tests share."""
    folder = tmp_path_factory.mktemp("server")
    with serving(str(folder / "store"), folder / "server.log") as url:
        found = Wire(url, folder / "server.log")
        yield found
        found.http.close()
