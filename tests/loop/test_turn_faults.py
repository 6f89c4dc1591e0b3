"""A controller killed at any boundary is taken up where it was, and each effect happens once."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from noria.govern import verify
from noria.records import (
    AuditEntry,
    DatasetVersion,
    Deployment,
    ModelVersion,
    Run,
    Stage,
    Turn,
    TurnState,
    ValidationReport,
)
from noria.register import champion
from noria.store import open_store
from noria.store.ports import Reader

HERE = Path(__file__).parent / "faults"
FIRST = ("building", "validating", "validated", "awaiting approval", "promoted")
SECOND = ("canary", "promoted")


def rows(count: int = 300) -> pl.DataFrame:
    draw = np.random.default_rng(0)
    visits, minutes = draw.poisson(5, count), draw.gamma(2, 10, count)
    bought = draw.random(count) < 1 / (1 + np.exp(-(visits - 5) - (minutes - 20) / 20))
    return pl.DataFrame({"id": range(count), "visits": visits, "minutes": minutes, "bought": bought.astype(int)})


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    shutil.copy(HERE / "small_loop.py", folder)
    rows().write_parquet(folder / "rows.parquet")
    return folder


@pytest.fixture(scope="module")
def with_champion(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("champion")
    shutil.copytree(prepared, folder, dirs_exist_ok=True)
    assert live(folder, "never", 1.0) == "promoted"
    return folder


def live(folder: Path, place: str, knob: float) -> str:
    """One life; returns the state it rested in, or 'killed'."""
    done = subprocess.run(
        [sys.executable, str(HERE / "one_life.py"), str(folder), place, str(knob)],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    if done.returncode == -9:
        return "killed"
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def finish(folder: Path, knob: float) -> None:
    """Another life, unless the turn was over when the last one ended."""
    store = open_store(folder / "store")
    with store.ledger.read() as db:
        turn = db.find(Turn, loop="small")
    store.close()
    assert turn is not None
    if not turn.state.final:
        assert live(folder, "never", knob) == "promoted"


def check_once(db: Reader, turns: int) -> None:
    """Everything that the turns should have left, once."""
    assert [turn.state for turn in db.list(Turn)] == [TurnState.promoted] * turns
    assert [run.status for run in db.list(Run)] == ["finished"] * turns
    assert len(db.list(ValidationReport)) == turns
    assert len(db.list(DatasetVersion)) == 1
    versions = db.list(ModelVersion)
    assert [version.version for version in versions] == list(range(turns, 0, -1))
    assert [version.stage for version in versions] == [Stage.champion] + [Stage.retired] * (turns - 1)
    serving = champion(db, "small")
    assert serving is not None
    assert serving.version == turns
    deployments = db.list(Deployment)
    assert [d.revision for d in deployments] == list(range(len(deployments), 0, -1))
    assert [route.version for route in deployments[0].routes] == [turns]
    actions = [(entry.subject, entry.action) for entry in db.list(AuditEntry) if entry.action != "turn canary"]
    assert len(actions) == len(set(actions))
    assert verify(db).problems == ()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("state", FIRST)
def test_a_first_turn_killed_at_a_boundary_is_finished_by_the_next_life(
    prepared: Path, tmp_path: Path, state: str, when: str
) -> None:
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    assert live(tmp_path, f"{when} {state}", 1.0) == "killed"
    finish(tmp_path, 1.0)
    store = open_store(tmp_path / "store")
    with store.ledger.read() as db:
        check_once(db, 1)
    store.close()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("state", SECOND)
def test_a_canary_killed_at_a_boundary_is_finished_by_the_next_life(
    with_champion: Path, tmp_path: Path, state: str, when: str
) -> None:
    shutil.copytree(with_champion, tmp_path, dirs_exist_ok=True)
    assert live(tmp_path, f"{when} {state}", 0.01) == "killed"
    finish(tmp_path, 0.01)
    store = open_store(tmp_path / "store")
    with store.ledger.read() as db:
        check_once(db, 2)
    store.close()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("state", ["canary", "canary#2", "promoted"])
def test_a_shadow_killed_at_a_boundary_is_finished_by_the_next_life(
    with_champion: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, when: str
) -> None:
    monkeypatch.setenv("SHADOW", "1h")
    shutil.copytree(with_champion, tmp_path, dirs_exist_ok=True)
    assert live(tmp_path, f"{when} {state}", 0.01) == "killed"
    finish(tmp_path, 0.01)
    store = open_store(tmp_path / "store")
    with store.ledger.read() as db:
        check_once(db, 2)
        steps = [d.step for d in db.list(Deployment, oldest_first=True)]
    store.close()
    assert steps == [None, -1, 0, None]


@pytest.mark.parametrize("seconds", [1.5, 2.5, 4.0])
def test_a_turn_killed_in_the_middle_of_its_work_is_finished_by_the_next_life(
    prepared: Path, tmp_path: Path, seconds: float
) -> None:
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    command = [sys.executable, str(HERE / "one_life.py"), str(tmp_path), "never", "1.0"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(seconds)
    process.kill()
    process.wait()
    store = open_store(tmp_path / "store")
    with store.ledger.read() as db:
        begun = db.count(Turn) == 1
    store.close()
    if begun:
        finish(tmp_path, 1.0)
    else:
        assert live(tmp_path, "never", 1.0) == "promoted"
    store = open_store(tmp_path / "store")
    with store.ledger.read() as db:
        check_once(db, 1)
    store.close()
