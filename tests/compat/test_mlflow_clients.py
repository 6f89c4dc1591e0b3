"""MLflow's own Python client, at its oldest and newest supported version, does what users do against ``noria server``:

on a store in a folder, and on PostgreSQL with two workers.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "store"))

import postgres
from environments import client_python
from noria_server import serving

from noria.compat.mlflow.about import VERSION

CLIENTS = {
    "oldest": ("mlflow==2.10.0", "numpy<2", "pandas<3", "scikit-learn", "setuptools<81"),
    "newest": (f"mlflow=={VERSION}", "scikit-learn"),
}
SCENARIO = Path(__file__).parent / "scenario.py"


@contextmanager
def server_on(kind: str, folder: Path) -> Iterator[str]:
    """``noria server`` on a store of a kind; gives its address."""
    log = folder / "server.log"
    if kind == "sqlite":
        with serving(str(folder / "store"), log) as url:
            yield url
        return
    if postgres.why_not():
        pytest.skip(postgres.why_not())
    with (
        postgres.serving() as database,
        serving(database.database(), log, "--blobs", str(folder / "blobs"), "--workers", "2") as url,
    ):
        yield url


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.parametrize("name", CLIENTS)
def test_client_does_what_users_do(name: str, kind: str, tmp_path: Path) -> None:
    python = client_python(*CLIENTS[name])
    work = tmp_path / "work"
    work.mkdir()
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "PYTHON"))}
    with server_on(kind, tmp_path) as url:
        done = subprocess.run(
            [python, "-W", "ignore", SCENARIO, url], cwd=work, env=kept, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-3000:]}"
    log = (tmp_path / "server.log").read_text()
    assert "Traceback" not in log, log
    assert list(work.iterdir()) == [], "the client wrote to its own folder instead of to the server"
