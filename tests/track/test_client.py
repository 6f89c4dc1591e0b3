"""The tracking client as a training script uses it: against a store, a real server, and servers that fail."""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from noria.errors import NotFound, RequestError
from noria.records.tracking import ACTIVE, Point, TrackedRun
from noria.store import open_store
from noria.track import history, search
from noria.track.client import _Line
from noria.track.events import ParamsSet, PointsLogged, frames, read_events

SCRIPT = Path(__file__).with_name("training.py")


@pytest.fixture(autouse=True)
def spools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NORIA_SPOOL", str(tmp_path / "spool"))


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "NORIA_SPOOL": str(tmp_path / "spool"), "NORIA_FLUSH_SECONDS": "60"}


def start(environment: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def train(environment: dict[str, str], *arguments: str) -> str:
    process = start(environment, *arguments)
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, out + errors
    return out + errors


def runs_of(store: Path, experiment: str = "e") -> list[TrackedRun]:
    opened = open_store(store)
    try:
        with opened.tracking.read() as reader:
            found = reader.experiment(name=experiment)
            return reader.search([found.id], stages=[ACTIVE], limit=100)[0] if found else []
    finally:
        opened.close()


def points_of(store: Path, run: str, key: str) -> list[Point]:
    opened = open_store(store)
    try:
        with opened.tracking.read() as reader:
            return reader.history(run, key)
    finally:
        opened.close()


class Server:
    """``noria server`` on one port, started again at will."""

    def __init__(self, store: Path) -> None:
        self.store = store
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "noria.cli", "server", "--store", str(self.store), "--port", str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while True:
            try:
                with urllib.request.urlopen(f"{self.address}/health", timeout=5):
                    return
            except OSError:
                assert self.process.poll() is None
                time.sleep(0.05)

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(30)
            self.process = None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    found = Server(tmp_path / "store")
    found.start()
    yield found
    found.stop()


def wait(until: Callable[[], Any], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.05)


@pytest.mark.parametrize("over_http", [False, True])
def test_everything_a_run_says_is_in_the_store(
    tmp_path: Path, environment: dict[str, str], server: Server, over_http: bool
) -> None:
    train(environment, "all", server.address if over_http else str(server.store))
    child, run = runs_of(server.store)
    assert (run.info.status, child.info.status) == ("FINISHED", "FAILED")
    assert run.params == {"depth": "8", "name": "x"}
    assert run.tags["colour"] == "blue"
    assert run.tags["mlflow.source.name"].endswith("training.py")
    assert child.tags["mlflow.parentRunId"] == run.info.id
    assert "ZeroDivisionError" in child.tags["noria.failure"]
    latest = {point.key: point for point in run.metrics}
    assert (latest["loss"].value, latest["loss"].step) == (0.25, 3)
    assert math.isnan(latest["odd"].value)
    assert latest["own"].step == 7
    assert latest["own"].time == 1_700_000_000_500
    assert latest["system/memory_percent"].value > 0
    (read,) = run.inputs
    assert (read.dataset.name, read.tags) == ("rows", {"mlflow.data.context": "training"})
    opened = open_store(server.store)
    with opened.tracking.read() as reader:
        root = run.info.artifacts.removeprefix("mlflow-artifacts:/")
        names = [one.path.removeprefix(f"{root}/") for one in reader.under(root)]
        note = reader.artifact(f"{root}/notes/a.txt")
        assert note is not None
        assert opened.blobs.get(note.digest) == b"hello"
    opened.close()
    assert {"environment.lock", "notes/a.txt", "folder/one.txt", "folder/deep/two.txt"} <= set(names)
    assert not list((tmp_path / "spool").iterdir())


def test_a_run_is_resumed(environment: dict[str, str], tmp_path: Path) -> None:
    store = tmp_path / "store"
    train(environment, "count", str(store), "3")
    (run,) = runs_of(store)
    train(environment, "resume", str(store), run.info.id)
    (run,) = runs_of(store)
    assert run.info.status == "FINISHED"
    assert run.params == {"again": "yes"}


def test_a_server_killed_while_a_process_logs_costs_nothing(environment: dict[str, str], server: Server) -> None:
    count = 20_000
    process = start(environment, "count", server.address, str(count))
    for _ in range(3):
        time.sleep(0.3)
        server.stop(signal.SIGKILL)
        time.sleep(0.2)
        server.start()
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, out + errors
    (run,) = runs_of(server.store)
    found = points_of(server.store, run.info.id, "m")
    assert [point.step for point in found] == list(range(count))
    assert [point.value for point in found] == [step / 2 for step in range(count)]
    assert run.info.status == "FINISHED"


def test_what_a_killed_process_had_said_is_sent_by_the_next(environment: dict[str, str], tmp_path: Path) -> None:
    server = Server(tmp_path / "store")  # not started: it is away
    process = start(environment, "said", server.address, "500")
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "said"
    process.kill()
    process.communicate()
    server.start()
    try:
        train(environment, "flush", server.address)
        (run,) = runs_of(server.store)
        assert [point.step for point in points_of(server.store, run.info.id, "m")] == list(range(500))
        assert run.info.status == "RUNNING"
        assert not list((tmp_path / "spool").iterdir())
    finally:
        server.stop()


def test_a_server_that_never_answers_does_not_hold_up_training(environment: dict[str, str], tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        said = train({**environment, "NORIA_FLUSH_SECONDS": "0"}, "count", address, "2000")
    assert "not everything has reached" in said
    assert len(list((tmp_path / "spool").iterdir())) == 1


def test_what_the_store_refuses_is_told_once_and_set_aside(environment: dict[str, str], server: Server) -> None:
    said = train(environment, "refused", server.address)
    assert said.count("refused") == 1
    assert "is '1' already and cannot become '2'" in said
    (run,) = runs_of(server.store)
    assert run.params == {"p": "1"}
    assert run.metrics[0].key == "after"


@pytest.mark.parametrize("over_http", [False, True])
def test_a_process_killed_while_it_logs_and_sends_loses_and_doubles_nothing(
    environment: dict[str, str], server: Server, over_http: bool
) -> None:
    to = server.address if over_http else str(server.store)
    for life in range(3):
        process = start(environment, "aloud", to)
        assert process.stdout is not None
        for _ in range(3_000 * (life + 1)):
            logged = int(process.stdout.readline())
        process.kill()
        for line in process.stdout:
            logged = int(line) if line.endswith("\n") else logged
        process.communicate()
        train(environment, "flush", to)
        run = runs_of(server.store)[0]
        steps = [point.step for point in points_of(server.store, run.info.id, "m")]
        assert steps == list(range(len(steps)))
        assert len(steps) > logged
    assert len(runs_of(server.store)) == 3


def test_ctrl_c_ends_a_run_as_killed(environment: dict[str, str], tmp_path: Path) -> None:
    process = start(environment, "waits", str(tmp_path / "store"))
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "said"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    (run,) = runs_of(tmp_path / "store")
    assert run.info.status == "KILLED"
    assert [point.key for point in run.metrics] == ["m"]


def test_a_run_is_resumed_while_its_beginning_still_waits_for_the_server(
    environment: dict[str, str], tmp_path: Path
) -> None:
    server = Server(tmp_path / "store")  # not started: it is away
    first = start(environment, "said", server.address, "50")
    assert first.stdout is not None
    first.stdout.readline()
    first.kill()
    first.communicate()
    (left,) = (tmp_path / "spool").iterdir()
    run = next(frames((left / "events").read_bytes()))[0].run
    second = start(environment, "resume", server.address, run)
    wait(lambda: len(list((tmp_path / "spool").iterdir())) == 2)
    time.sleep(0.5)
    server.start()
    try:
        out, errors = second.communicate(timeout=120)
        assert second.returncode == 0, out + errors
        (found,) = runs_of(server.store)
        assert (found.params, found.info.status) == ({"again": "yes"}, "FINISHED")
        assert [point.step for point in points_of(server.store, run, "m")] == list(range(50))
    finally:
        server.stop()


def test_what_is_too_much_for_one_request_goes_in_several(environment: dict[str, str], server: Server) -> None:
    said = train(environment, "many", server.address)
    assert "refused" not in said
    (run,) = runs_of(server.store)
    assert (len(run.metrics), len(run.params)) == (50_001, 4000)


def test_a_server_that_takes_no_batch_of_more_than_one_event_gets_them_one_by_one(tmp_path: Path) -> None:
    seen: list[int] = []

    class Picky(BaseHTTPRequestHandler):
        """Refuses bodies of several events, and params."""

        def do_POST(self) -> None:
            events = read_events(self.rfile.read(int(self.headers["content-length"])))
            good = len(events) == 1 and not isinstance(events[0], ParamsSet)
            seen.extend([event.points[0][3] for event in events if isinstance(event, PointsLogged)] if good else [])
            body = b'{"refused": []}' if good else b'{"error": "no"}'
            self.send_response(200 if good else 400)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Picky) as picky:
        serving = threading.Thread(target=picky.serve_forever)
        serving.start()
        line = _Line(f"http://127.0.0.1:{picky.server_port}")
        try:
            for step in range(9):
                line.say(PointsLogged("r", [("m", 1.0, 1, step)]))
                if step == 4:
                    line.say(ParamsSet("r", {"p": "1"}))
            assert line.flush(60) == ""
        finally:
            line.end(60)
            picky.shutdown()
            serving.join()
    assert sorted(set(seen)) == list(range(9))
    assert (line.spool.folder / "refused.txt").read_text() == "no\n"


def test_a_server_that_lets_nobody_in_costs_nothing(tmp_path: Path, environment: dict[str, str]) -> None:
    class Closed(BaseHTTPRequestHandler):
        """Refuses whoever comes."""

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(403)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Closed) as closed:
        serving = threading.Thread(target=closed.serve_forever)
        serving.start()
        said = train(
            {**environment, "NORIA_FLUSH_SECONDS": "2"}, "count", f"http://127.0.0.1:{closed.server_port}", "9"
        )
        closed.shutdown()
        serving.join()
    assert "does not let this be done" in said
    (left,) = (tmp_path / "spool").iterdir()
    assert not (left / "refused").exists()


def test_refusals_without_end_are_told_a_few_times_and_files_are_kept(
    environment: dict[str, str], tmp_path: Path
) -> None:
    said = train(environment, "stranger", str(tmp_path / "store"))
    assert 1 <= said.count("refused") < 10
    (left,) = (tmp_path / "spool").iterdir()
    assert len((left / "refused.txt").read_text().splitlines()) > 2000
    assert [file.read_bytes() for file in (left / "files").iterdir()] == [b"kept"]


def test_forked_children_log_to_the_run_of_their_parent(tmp_path: Path, environment: dict[str, str]) -> None:
    train(environment, "forks", str(tmp_path / "store"))
    (run,) = runs_of(tmp_path / "store")
    assert run.info.status == "FINISHED"
    assert [point.step for point in points_of(tmp_path / "store", run.info.id, "child")] == list(range(40))
    for thread in range(3):
        steps = [point.step for point in points_of(tmp_path / "store", run.info.id, f"t{thread}")]
        assert steps == list(range(len(steps)))
    assert not list((tmp_path / "spool").iterdir())


def test_bytes_that_are_no_characters_do_not_stop_training(tmp_path: Path, environment: dict[str, str]) -> None:
    command = [sys.executable, str(SCRIPT), "names", str(tmp_path / "store")]
    done = subprocess.run(command, env=environment, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (run,) = runs_of(tmp_path / "store")
    assert (run.params["p"], run.tags["t"]) == ("?", "?")
    (read,) = run.inputs
    assert json.loads(read.dataset.source) == {"path": str(SCRIPT)}


def test_a_spool_is_for_its_user_alone_and_a_password_is_not_shown(tmp_path: Path) -> None:
    line = _Line("http://me:secret@127.0.0.1:9")
    try:
        assert line.spool.folder.stat().st_mode & 0o777 == 0o700
        assert line.shown == "http://127.0.0.1:9"
    finally:
        line.end(0)


def test_what_is_wrong_is_said_at_once(tmp_path: Path, environment: dict[str, str]) -> None:
    said = json.loads(train(environment, "wrong", str(tmp_path / "store")).splitlines()[0])
    assert "This name would resolve to '../x'" in said.pop(1)
    assert said == [
        "Metric 'm' must be a number, not str.",
        "There is no file nowhere.txt.",
        "Bytes need a name: run.artifact(data, name='report.txt').",
        "Invalid path '../up': it holds '.' or '..'.",
        "Step and time must be numbers of at most 64 bits, not 9223372036854775808 and None.",
        "'ftp://x' is not a store: give a folder, http://HOST:PORT or postgresql://…",
    ]


def test_threads_and_forked_children_may_log(tmp_path: Path, environment: dict[str, str]) -> None:
    train(environment, "threads", str(tmp_path / "store"))
    runs = {run.info.name: run for run in runs_of(tmp_path / "store")}
    for thread in range(4):
        found = points_of(tmp_path / "store", runs["parent"].info.id, f"t{thread}")
        assert [point.step for point in found] == list(range(200))
    assert [point.value for point in points_of(tmp_path / "store", runs["child"].info.id, "m")] == [1.0]


@pytest.mark.parametrize("library", ["lightgbm", "xgboost", "sklearn", "keras"])
def test_callbacks_log_real_trainings(tmp_path: Path, environment: dict[str, str], library: str) -> None:
    pytest.importorskip(library)
    train(environment, "callback", str(tmp_path / "store"), library)
    (run,) = runs_of(tmp_path / "store")
    assert len(run.params) > 1
    key = {"lightgbm": "valid_0-l2", "xgboost": "test-rmse", "sklearn": "test-score", "keras": "loss"}[library]
    found = points_of(tmp_path / "store", run.info.id, key)
    assert [point.step for point in found] == list(range(1 if library == "sklearn" else 5))


def test_what_was_tracked_is_searched_here_and_on_a_server(environment: dict[str, str], server: Server) -> None:
    train(environment, "all", server.address)
    for store in (server.address, str(server.store)):
        everything = search(experiment="e", store=store)
        assert [run.info.status for run in everything] == ["FAILED", "FINISHED"]
        (run,) = search(
            "metrics.loss < 0.3 and params.depth = '8'", experiment="e", order_by=["metrics.loss"], store=store
        )
        assert (run.params["name"], run.tags["colour"]) == ("x", "blue")
        assert [point.value for point in history(run.info.id, "loss", store=store)] == [4.0, 1.0, 0.5, 0.25]
        assert math.isnan(history(run.info.id, "odd", store=store)[0].value)
        with pytest.raises(NotFound):
            search(experiment="nothing", store=store)
        with pytest.raises(RequestError, match="quoted string"):
            search("params.depth = 8", experiment="e", store=store)
