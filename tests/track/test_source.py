"""Where a run came from: a real repository, changed since its last commit."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

from noria.records.tracking import ACTIVE
from noria.store import open_store

SCRIPT = """
import sys
import noria

noria.run("e", store=sys.argv[1], system_metrics=False).end()
"""


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=me", "-c", "user.email=me@example.org", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def tracked(tmp_path: Path, script: Path) -> tuple[dict[str, str], dict[str, bytes]]:
    """Tags and artifacts of what the script tracked."""
    place = tmp_path / "store"
    environment = {**os.environ, "NORIA_SPOOL": str(tmp_path / "spool")}
    subprocess.run([sys.executable, str(script), str(place)], env=environment, check=True, timeout=120, cwd=tmp_path)
    store = open_store(place)
    try:
        with store.tracking.read() as reader:
            ((run,), _) = reader.search([reader.experiments([ACTIVE])[0].id], stages=[ACTIVE], limit=1)
            root = run.info.artifacts.removeprefix("mlflow-artifacts:/")
            files = {one.path.removeprefix(f"{root}/"): store.blobs.get(one.digest) for one in reader.under(root)}
        return dict(run.tags), files
    finally:
        store.close()


def test_commit_changes_command_and_packages_are_kept(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    script = repository / "fit.py"
    script.write_text(SCRIPT)
    git(repository, "init", "-q")
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "one")
    tags, files = tracked(tmp_path, script)
    assert tags["mlflow.source.git.commit"] == git(repository, "rev-parse", "HEAD").strip()
    assert tags["noria.git.dirty"] == "false"
    assert set(files) == {"environment.lock"}
    script.write_text(f"{SCRIPT}# changed\n")
    tags, files = tracked(tmp_path, script)
    assert tags["noria.git.dirty"] == "true"
    assert tags["mlflow.source.name"] == str(script)
    assert tags["noria.command"] == f"{script} {tmp_path / 'store'}"
    assert files["git.diff"].decode() == git(repository, "diff", "HEAD")
    assert "+# changed" in files["git.diff"].decode()
    lock = files["environment.lock"].decode().splitlines()
    assert lock[0] == f"# python {platform.python_version()}"
    assert any(line.startswith("msgspec==") for line in lock)


def test_outside_a_repository_there_is_no_commit(tmp_path: Path) -> None:
    script = tmp_path / "fit.py"
    script.write_text(SCRIPT)
    tags, files = tracked(tmp_path, script)
    assert not [tag for tag in tags if "git" in tag]
    assert set(files) == {"environment.lock"}
