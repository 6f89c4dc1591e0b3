"""Event files of the real tensorboard and tensorboardX come in as they are; what goes out, TensorBoard reads."""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from environments import client_python
from hypothesis import given
from hypothesis import strategies as st

from noria.compat.tensorboard import export_events, import_events
from noria.compat.tensorboard.frames import crc32c, framed, frames
from noria.compat.tensorboard.messages import read_event, scalar_event, version_event
from noria.errors import DataError, NotFound
from noria.loop.clock import SystemClock
from noria.records.tracking import Point, TrackedRun
from noria.store import open_store
from noria.store.ports import Store

FILES = Path(__file__).parent / "tensorboard_files.py"
CLOCK = SystemClock()
PACKAGES = ("tensorboard==2.20.0", "tensorboardX==2.6.4", "setuptools<81")


def tensorboard(*arguments: object) -> None:
    command = [str(client_python(*PACKAGES)), str(FILES), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@contextmanager
def showing(folder: Path) -> Iterator[Any]:
    """The real TensorBoard on a folder; asks its plugins."""
    python = client_python(*PACKAGES)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(python), "-m", "tensorboard.main", "--logdir", str(folder), "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def ask(path: str, body: bytes | None = None, **query: str) -> Any:
        url = f"http://127.0.0.1:{port}/data/plugin/{path}?{urlencode(query)}"
        asked = urllib.request.Request(url, body, {"content-type": "application/json"})
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return json.loads(answer.read())

    try:
        for _ in range(300):
            try:
                if ask("scalars/tags"):
                    break
            except OSError:
                assert process.poll() is None
            time.sleep(0.2)
        yield ask
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def store(tmp_path: Path) -> Any:
    found = open_store(tmp_path / "store")
    yield found
    found.close()


def single(value: float) -> float:
    """The nearest number of 32 bits."""
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


def runs_of(store: Store, experiment: str) -> dict[str, TrackedRun]:
    with store.tracking.read() as reader:
        found = reader.experiment(name=experiment)
        assert found is not None
        runs, _ = reader.search([found.id], stages=("active",), limit=100)
    return {run.info.name: run for run in runs}


def history(store: Store, run: TrackedRun, key: str) -> list[tuple[int, int, str]]:
    with store.tracking.read() as reader:
        return [(one.time, one.step, repr(one.value)) for one in reader.history(run.info.id, key)]


@pytest.mark.slow
@pytest.mark.xdist_group("moving")
def test_what_the_real_writers_write_comes_in(store: Store, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    tensorboard("write_plain", logs)
    tensorboard("write_two", logs)
    moved = import_events(logs, store, CLOCK)
    assert not moved.problems
    assert (moved.experiments, moved.runs, moved.files) == (1, 2, 2)
    runs = runs_of(store, "logs")
    assert set(runs) == {"runs/a", "b"}
    losses = [single(1 / (step + 1)) for step in range(300)]
    assert history(store, runs["runs/a"], "train/loss") == [
        (1_600_000_000_125 + 1000 * step, step, repr(value)) for step, value in enumerate(losses)
    ]
    odd = sorted(history(store, runs["runs/a"], "odd_nan"))
    assert odd == sorted(
        (1_600_000_000_500, step, repr(value))
        for step, value in ((-3, math.nan), (0, math.inf), (5, -math.inf), (2**40, single(1e-30)))
    )
    assert history(store, runs["b"], "big ___") == [(1_600_000_001_000, 1, "3.0")]
    tensors = [value for _, _, value in history(store, runs["b"], "epoch_loss")]
    assert tensors == ["0.5", "0.1", "-7.0", "2.25", "1.5"]
    assert runs["b"].params == {"lr": "0.1", "units": "16", "name": "ä", "on": "true"}
    root = runs["runs/a"].info.artifacts.removeprefix("mlflow-artifacts:/")
    with store.tracking.read() as reader:
        files = {one.path.removeprefix(root + "/"): store.blobs.get(one.digest) for one in reader.under(root)}
    text = files.pop("texts/notes/text_summary/7.txt")
    assert text.decode() == "grüße **fett**"
    (image,) = files.items()
    assert image[0] == "images/picture/2.png"
    assert image[1].startswith(b"\x89PNG")
    again = import_events(logs, store, CLOCK)
    assert (again.experiments, again.runs, again.points, again.files) == (0, 0, 0, 0)


@pytest.mark.slow
@pytest.mark.xdist_group("moving")
def test_what_goes_out_opens_in_tensorboard(store: Store, tmp_path: Path) -> None:
    points = [Point("train/loss", 1 / (step + 1), 1_600_000_000_000 + step * 1000, step) for step in range(200)]
    points += [
        Point("odd", value, 1_600_000_000_125, step) for step, value in enumerate((math.nan, math.inf, 0.1, 0.5))
    ]
    run = _logged(store, points, {"lr": "0.1", "ä": "ü"})
    moved = export_events(store, tmp_path / "out")
    assert (moved.runs, moved.points) == (1, len(points))
    name = f"first-1/l_ufer _1-{run[:8]}"
    with showing(tmp_path / "out") as ask:
        assert set(ask("scalars/tags")[name]) == {"train/loss", "odd"}
        told = {
            key: [
                (round(at * 1000), step, repr(float(value)))
                for at, step, value in ask("scalars/scalars", run=name, tag=key)
            ]
            for key in ("train/loss", "odd")
        }
        columns = {one["name"] for one in ask("hparams/experiment", b"{}")["hparamInfos"]}
        assert columns == {"lr", "ä"}
    expected: dict[str, list[Any]] = {}
    for point in points:
        expected.setdefault(point.key, []).append((point.time, point.step, repr(single(point.value))))
    assert told == expected
    assert export_events(store, tmp_path / "out").unchanged == 1
    back = import_events(tmp_path / "out", store, CLOCK, experiment="back")
    assert back.points == len(points)
    (again,) = runs_of(store, "back").values()
    assert again.params == {"lr": "0.1", "ä": "ü"}
    assert sorted(history(store, again, "odd")) == sorted(expected["odd"])


def _logged(store: Store, points: list[Point], params: dict[str, str]) -> str:
    from noria.track import verbs

    def change(tx: Any) -> str:
        number = verbs.create_experiment(tx, "first", 1)
        info = verbs.create_run(tx, number, 1_600_000_000_000, name="läufer /1".replace("ä", "\u0001"))
        tx.log(info.id, points=points, params=params)
        return str(info.id)

    return store.tracking.write(change)


@pytest.mark.slow
@pytest.mark.xdist_group("moving")
def test_followed_live(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    command = [
        sys.executable, "-m", "noria.cli", "import", "tensorboard", str(logs), "--follow",
        "--store", str(tmp_path / "store"), "--experiment", "live",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "200"})
    tensorboard("grow", logs, 50)
    _until(tmp_path / "store", 50)
    (file,) = (logs / "live").iterdir()
    whole = framed(scalar_event(1_600_000_100, 50, "m", 25.0))
    for part in (whole[:5], whole[5:20], whole[20:]):
        with file.open("ab") as out:
            out.write(part)
        time.sleep(1.2)
    _until(tmp_path / "store", 51)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 0, said
    assert "51" in said


def _until(folder: Path, count: int) -> None:
    for _ in range(600):
        if (folder / "ledger.db").exists():
            store = open_store(folder)
            try:
                with store.tracking.read() as reader:
                    found = reader.experiment(name="live")
                    runs = reader.search([found.id], stages=("active",), limit=5)[0] if found else []
                    if runs and len(reader.history(runs[0].info.id, "m")) == count:
                        return
            finally:
                store.close()
        time.sleep(0.1)
    raise AssertionError(f"the {count} points did not come")


def test_the_checksum_is_crc_32c() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # the check value of the catalogue of CRCs
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4


def _file(folder: Path, data: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "events.out.tfevents.1.here"
    path.write_bytes(data)
    return path


GOOD = b"".join(framed(scalar_event(step + 1.0, step, "m", step + 0.1)) for step in range(1, 6))


@pytest.mark.parametrize("cut", range(1, len(GOOD) // 5))
def test_a_torn_tail_waits(cut: int, tmp_path: Path) -> None:
    path = _file(tmp_path, GOOD[:-cut])
    with path.open("rb") as opened:
        *_, (_, place) = frames(opened)
    assert place == len(GOOD) // 5 * 4
    path.write_bytes(GOOD)
    with path.open("rb") as opened:
        opened.seek(place)
        assert [read_event(record).step for record, _ in frames(opened)] == [5]


@pytest.mark.parametrize("place", range(len(GOOD) // 5))
def test_a_damaged_record_ends_the_file_and_is_named(place: int, store: Store, tmp_path: Path) -> None:
    size = len(GOOD) // 5
    damaged = bytearray(GOOD)
    damaged[2 * size + place] ^= 0x40
    _file(tmp_path / "logs", bytes(damaged))
    moved = import_events(tmp_path / "logs", store, CLOCK)
    assert moved.points == 2
    assert "damaged" in moved.problems[0]


@given(st.binary(max_size=200))
def test_any_bytes_are_an_event_or_refused(data: bytes) -> None:
    with suppress(DataError):
        read_event(data)


@given(st.floats(0, 1e10), st.integers(-(2**63), 2**63 - 1), st.text(max_size=20), st.floats(width=32))
def test_a_scalar_comes_back_as_it_was(at: float, step: int, tag: str, number: float) -> None:
    event = read_event(scalar_event(at, step, tag, number))
    (value,) = event.values
    assert (event.at, event.step, value.tag) == (at, step, tag)
    assert value.number is not None
    assert value.number == number or (math.isnan(number) and math.isnan(value.number))


def test_hostile_tags_and_links(store: Store, tmp_path: Path) -> None:
    tags = ("../../up", "/abs", "a//b", "x\x00y", "..", "a/../b", "\u202erev", "long" * 200)
    data = version_event(1.0)
    records = [data, *(scalar_event(1.0, 1, tag, 1.0) for tag in tags)]
    _file(tmp_path / "logs" / "run", b"".join(framed(record) for record in records))
    (tmp_path / "logs" / "link").symlink_to(tmp_path / "logs" / "run")
    moved = import_events(tmp_path / "logs", store, CLOCK)
    (run,) = runs_of(store, "logs").values()
    assert sorted(point.key for point in run.metrics) == ["_rev", "a/b", "abs", "up", "x_y"]
    assert len(moved.problems) == 3  # no name at all, one taken, one too long


def test_a_folder_without_events_is_one_sentence(store: Store, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no event files"):
        import_events(tmp_path, store, CLOCK)
    with pytest.raises(NotFound, match="no folder"):
        import_events(tmp_path / "nowhere", store, CLOCK)


def test_a_dry_run_changes_nothing(store: Store, tmp_path: Path) -> None:
    _file(tmp_path / "logs", GOOD)
    dry = import_events(tmp_path / "logs", store, CLOCK, dry_run=True)
    assert (dry.runs, dry.points) == (1, 5)
    with store.tracking.read() as reader:
        assert reader.experiment(name="logs") is None
    assert export_events(store, tmp_path / "out", dry_run=True).runs == 0
    assert not (tmp_path / "out").exists()
