"""MLflow's own Python client, at its oldest and newest supported version, does what users do against ``noria server``.

PostgreSQL is tried where ``NORIA_TEST_POSTGRESQL`` names a database that may be filled.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from environments import client_python
from noria_server import serving

from noria.compat.mlflow.about import VERSION

CLIENTS = {
    "oldest": ("mlflow==2.10.0", "numpy<2", "pandas<3", "scikit-learn", "setuptools<81"),
    "newest": (f"mlflow=={VERSION}", "scikit-learn"),
}
SCENARIO = Path(__file__).parent / "scenario.py"


def store_of(kind: str, folder: Path) -> str:
    """A store of a kind: a folder, or what the environment names."""
    if kind == "sqlite":
        return str(folder / "store")
    address = os.environ.get("NORIA_TEST_POSTGRESQL")
    if not address:
        pytest.skip("NORIA_TEST_POSTGRESQL names no database")
    return address


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.parametrize("name", CLIENTS)
def test_client_does_what_users_do(name: str, kind: str, tmp_path: Path) -> None:
    store = store_of(kind, tmp_path)
    python = client_python(*CLIENTS[name])
    work = tmp_path / "work"
    work.mkdir()
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "PYTHON"))}
    log = tmp_path / "server.log"
    with serving(store, log) as url:
        done = subprocess.run(
            [python, "-W", "ignore", SCENARIO, url], cwd=work, env=kept, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-3000:]}"
    assert "Traceback" not in log.read_text(), log.read_text()
    assert list(work.iterdir()) == [], "the client wrote to its own folder instead of to the server"
