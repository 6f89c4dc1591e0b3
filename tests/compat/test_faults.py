"""The server when its store fails: clients are told, nothing acknowledged is lost, and it goes on when it can."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from noria_server import Wire, refused, serving


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a few megabytes."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("a small disk can only be mounted by root")
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(disk)], check=False)
    if made.returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_is_said_and_costs_nothing_that_was_acknowledged(small_disk: Path, tmp_path: Path) -> None:
    with serving(str(small_disk / "store"), tmp_path / "log") as url:
        wire = Wire(url, tmp_path / "log")
        run, sent, answer = wire.run(), 0, None
        ballast = small_disk / "ballast"
        ballast.write_bytes(b"x" * 3_000_000)
        for batch in range(2_000):
            metrics = [
                {"key": f"metric {n}", "value": n / 7, "timestamp": batch * 500 + n, "step": batch} for n in range(500)
            ]
            answer = wire.post("/runs/log-batch", {"run_id": run, "metrics": metrics})
            if answer.status_code != 200:
                break
            sent += 1
        assert answer is not None
        refused(answer, "no space left", code="TEMPORARILY_UNAVAILABLE", status=507)
        big = wire.http.put("/api/2.0/mlflow-artifacts/artifacts/big", content=b"x" * 5_000_000)
        refused(big, "no space left", code="TEMPORARILY_UNAVAILABLE", status=507)
        assert list((small_disk / "store" / "blobs" / "incoming").iterdir()) == []
        steps = [
            point["step"] for point in wire.reads("/metrics/get-history", run_id=run, metric_key="metric 3")["metrics"]
        ]
        assert steps == list(range(sent))
        ballast.unlink()
        assert (
            wire.post("/runs/log-batch", {"run_id": run, "tags": [{"key": "after", "value": "yes"}]}).status_code == 200
        )
        assert wire.tags(run)["after"] == "yes"
        wire.http.close()


def test_a_locked_database_is_said_and_waited_for(tmp_path: Path) -> None:
    with serving(str(tmp_path / "store"), tmp_path / "log") as url:
        wire = Wire(url, tmp_path / "log")
        run = wire.run()
        with closing(sqlite3.connect(tmp_path / "store" / "tracking.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            answer = wire.post("/runs/set-tag", {"run_id": run, "key": "k", "value": "v"})
            refused(answer, "busy", code="TEMPORARILY_UNAVAILABLE", status=503)
            assert wire.of(run)["info"]["run_id"] == run  # reading goes on
            other.execute("ROLLBACK")
        assert wire.post("/runs/set-tag", {"run_id": run, "key": "k", "value": "v"}).status_code == 200
        assert wire.tags(run)["k"] == "v"
        wire.http.close()


def test_a_store_that_may_not_be_written_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    done = subprocess.run(
        [sys.executable, "-m", "noria.cli", "server", "--store", str(tmp_path / "file"), "--port", "0"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert "is a file; give a folder" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--host", "0.0.0.0"], "loopback only"),
        (["--workers", "2"], "PostgreSQL"),
        (["--store", "postgresql://127.0.0.1:9/x"], "--blobs"),
        (["--store", "postgresql://u:secret@127.0.0.1:9/x", "--blobs", "blobs"], "does not answer"),
        (["--blobs", "ftp://x/y"], "object store"),
    ],
)
def test_what_cannot_be_served_is_said(tmp_path: Path, more: list[str], words: str) -> None:
    command = [sys.executable, "-m", "noria.cli", "server", "--port", "0", *more]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    said = " ".join(done.stderr.split())
    assert done.returncode == 1, said
    assert words in said
    assert "Traceback" not in said
    assert "secret" not in said
