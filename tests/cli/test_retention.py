"""Predictions that are to be kept no longer: by `noria gc`, and by the process that a server starts to compact."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from noria.cli.collecting import collect_garbage
from noria.cli.compaction import Compaction, Retention
from noria.errors import NotFound, StoreFull
from noria.store import open_store
from noria.store.kinds import Label
from noria.store.segments.writer import Block


def recorded(folder: Path, days: int, count: int) -> list[str]:
    """Predictions made so many days ago."""
    at = datetime.now(UTC) - timedelta(days=days)
    with closing(open_store(folder)) as store:
        writer = store.predictions.writer("churn")
        made = [
            writer.append(
                Block(
                    at_us=int(at.timestamp() * 1e6), latency_us=100, version=1, digest="d", role="champion", rows=1,
                    names=("a",), matrix=bytes(8), columns={}, keys=[f"{days}-{number}"], values=[1], classes=(0, 1),
                    probabilities=None, error=None, answered=None, trace=None, ids=None,
                )
            )
            for number in range(count)
        ]  # fmt: skip
        writer.close()
        store.predictions.label([Label("churn", datetime.now(UTC), 1, key=f"{days}-0")])
    return made


def noria(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "noria.cli", *arguments], capture_output=True, text=True, check=False)


def left(folder: Path) -> list[str]:
    with closing(open_store(folder, create=False)) as store:
        return [made.id for _, made in store.predictions.predictions("churn")]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Ten predictions of long ago, in a table already, and five of today."""
    folder = tmp_path / "store"
    recorded(folder, 100, 10)
    assert noria("gc", "--keep-predictions", "400d", "--store", str(folder)).returncode == 0  # compacts
    recorded(folder, 0, 5)
    return folder


def test_gc_removes_old_predictions_with_their_labels_and_says_how_many(store: Path) -> None:
    would = noria("gc", "--keep-predictions", "90d", "--dry-run", "--store", str(store))
    assert "Would remove 10 predictions" in would.stdout, would.stdout + would.stderr
    assert len(left(store)) == 15
    done = noria("gc", "--keep-predictions", "90d", "--store", str(store))
    assert done.returncode == 0, done.stderr
    assert "Removed 10 predictions" in done.stdout
    assert len(left(store)) == 5
    with closing(open_store(store, create=False)) as opened:
        assert len(opened.predictions.labelled("churn")) == 1


def test_gc_without_a_limit_keeps_every_prediction(store: Path) -> None:
    done = noria("gc", "--store", str(store))
    assert done.returncode == 0
    assert "predictions" not in done.stdout
    assert len(left(store)) == 15


def test_gc_keeps_the_newest_of_a_size(store: Path) -> None:
    done = noria("gc", "--keep-size", "0.001KB", "--store", str(store))
    assert "Removed 15 predictions" in done.stdout, done.stdout + done.stderr
    assert left(store) == []


@pytest.mark.parametrize("option", [("--keep-predictions", "soon"), ("--keep-size", "20"), ("--keep-size", "big")])
def test_a_limit_that_means_nothing_is_refused_before_anything_is_done(store: Path, option: tuple[str, str]) -> None:
    done = noria("gc", *option, "--store", str(store))
    assert done.returncode == 2
    assert "write for example" in done.stderr
    assert len(left(store)) == 15


def test_a_removed_prediction_is_told_from_one_that_never_was(tmp_path: Path) -> None:
    (old,) = recorded(tmp_path / "store", 100, 1)
    noria("gc", "--keep-predictions", "90d", "--store", str(tmp_path / "store"))
    with closing(open_store(tmp_path / "store", create=False)) as opened, pytest.raises(NotFound, match="older than"):
        opened.predictions.find(old)


def test_a_servers_compaction_removes_what_is_old(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("noria.cli.compaction._LOOK_SECONDS", 0.0)
    monkeypatch.setattr("noria.cli.compaction._OLD_SECONDS", 0.0)
    compaction = Compaction(str(store), Retention("90d", None))
    compaction.tick()
    process = compaction._process
    assert process is not None
    assert process.wait(60) == 0
    assert len(left(store)) == 5


def test_what_is_old_is_removed_though_there_is_no_room_to_compact_what_is_new(tmp_path: Path) -> None:
    (old,) = recorded(tmp_path / "store", 100, 1)
    noria("gc", "--keep-predictions", "1000d", "--store", str(tmp_path / "store"))
    with closing(open_store(tmp_path / "store")) as opened:
        writer = opened.predictions.writer("churn")
        numbers = os.urandom(8 * 200_000)  # it cannot be made smaller
        new = writer.append(
            Block(
                at_us=int(datetime.now(UTC).timestamp() * 1e6), latency_us=100, version=1, digest="d", role="champion",
                rows=200_000, names=("a",), matrix=numbers, columns={}, keys=None, values=[1] * 200_000, classes=(0, 1),
                probabilities=None, error=None, answered=None, trace=None, ids=None,
            )
        )  # fmt: skip
        writer.close()
    script = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000)); "
    script += "from noria.cli.compactor import main; sys.exit(main(sys.argv[1], '90d'))"
    command = [sys.executable, "-c", script, str(tmp_path / "store")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "predictions were not compacted" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "store" / "predictions").rglob("*.tmp"))
    with closing(open_store(tmp_path / "store", create=False)) as opened:
        assert opened.predictions.find(new)[0].id == new
        with pytest.raises(NotFound):
            opened.predictions.find(old)


def test_gc_removes_what_is_old_though_there_is_no_room_to_compact(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: object) -> None:
        raise StoreFull("no space left")

    monkeypatch.setattr("noria.cli.collecting.compact", full)
    with pytest.raises(StoreFull):
        collect_garbage(store, "30d", False, Retention("90d", None))
    assert len(left(store)) == 5


def test_damaged_segments_that_are_kept_are_nothing_to_compact(store: Path) -> None:
    compaction = Compaction(str(store), Retention())
    before = compaction._uncompacted()
    (store / "predictions" / "segments" / "one.damaged").write_bytes(bytes(100))
    assert compaction._uncompacted() == before > 0
