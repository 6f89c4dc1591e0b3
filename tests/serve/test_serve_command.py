"""``noria serve`` and ``noria predict`` as a user runs them, with the clients users have."""

from __future__ import annotations

import http.client
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psutil
import pytest
from environments import client_python
from msgspec.structs import replace

from noria.cli.rows import Streamed
from noria.deploy.rollout import serve_only
from noria.records import ModelVersion, Stage
from noria.store import Store, open_store

BODY = json.dumps({"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP64", "data": [0.25, 3, 0.5]}]}).encode()
INFER = "/v2/models/numbers/infer"


class Command:
    """``noria serve``, run."""

    def __init__(self, store: Path, *options: str) -> None:
        command = [sys.executable, "-m", "noria.cli", "serve", *options, "--port", "0", "--store", str(store)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
        self.said: list[str] = []
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)
            if "/invocations" in line:
                break
        else:
            raise AssertionError("".join(self.said))
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        text = "".join(self.said)
        self.port = int(re.findall(r"http://127\.0\.0\.1:(\d+)", text)[0])
        self.grpc = re.findall(r"gRPC +(\S+)", text)

    def _listen(self) -> None:
        assert self.process.stderr is not None
        self.said += list(self.process.stderr)

    def post(self, path: str, body: bytes = BODY, **headers: str) -> tuple[int, Any]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                return reply.status, json.loads(reply.read() or b"null")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"null")

    def tree(self) -> list[psutil.Process]:
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]

    def servers(self) -> list[psutil.Process]:
        """The processes that answer."""
        found = []
        for one in self.tree():
            with suppress(psutil.NoSuchProcess):  # a zombie among them
                if "noria.cli.model_server" in " ".join(one.cmdline()):
                    found.append(one)
        return found

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.ended()

    def ended(self) -> int:
        status = self.process.wait(60)
        self._listener.join(60)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return status

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()


@pytest.fixture(scope="module")
def folder(numeric: tuple[Store, list[ModelVersion]]) -> Path:
    return numeric[0].folder


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[Command]:
    with Command(folder, "numbers", "--grpc-port", "0") as command:
        yield command


def test_it_says_where_to_ask(running: Command) -> None:
    assert "numbers version 2, compiled" in "".join(running.said)
    assert running.post(INFER)[0] == 200


TRITON = """
import sys
import numpy as np
kind, target = sys.argv[1:]
if kind == "http":
    import tritonclient.http as t
else:
    import tritonclient.grpc as t
client = t.InferenceServerClient(target)
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("numbers")
assert client.is_model_ready("numbers", "2") and not client.is_model_ready("numbers", "9")
client.get_server_metadata(); client.get_model_metadata("numbers"); client.get_model_config("numbers")
client.get_inference_statistics("numbers")
rows = np.array([[0.25, 3, 0.5], [0.75, 9, -0.5], [0.5, 0, np.nan]])
matrix = t.InferInput("x", rows.shape, "FP64")
matrix.set_data_from_numpy(rows)
found = client.infer("numbers", [matrix], request_id="mine")
assert found.as_numpy("prediction").shape == (3,) and found.as_numpy("probabilities").shape == (3, 2)
columns = []
for place, (name, kind_of) in enumerate((("a", "FP64"), ("b", "INT64"), ("c", "FP64"))):
    one = t.InferInput(name, [3], kind_of)
    one.set_data_from_numpy(rows[:, place].astype(np.int64 if kind_of == "INT64" else np.float64))
    columns.append(one)
again = client.infer("numbers", columns, outputs=[t.InferRequestedOutput("prediction")])
assert (again.as_numpy("prediction") == found.as_numpy("prediction")).all()
client.unload_model("numbers")
assert not client.is_model_ready("numbers")
client.load_model("numbers")
assert client.is_model_ready("numbers")
try:
    wrong = t.InferInput("x", [1, 2], "FP64")
    wrong.set_data_from_numpy(rows[:1, :2].copy())
    client.infer("numbers", [wrong])
except Exception as error:
    assert "2 columns" in str(error), error
else:
    raise SystemExit("a wrong width was taken")
print("all well")
"""

KSERVE = """
import asyncio, sys
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
async def main():
    client, base = InferenceRESTClient(RESTConfig(protocol="v2", timeout=30)), sys.argv[1]
    assert await client.is_server_live(base) and await client.is_server_ready(base)
    assert await client.is_model_ready(base, "numbers")
    for binary in (False, True):
        given = InferInput("x", [2, 3], "FP64")
        given.set_data_from_numpy(np.array([[0.25, 3, 0.5], [0.75, 9, -0.5]]), binary_data=binary)
        found = await client.infer(base, InferRequest("numbers", [given], request_id="k"), model_name="numbers")
        assert found.id == "k" and found.outputs[0].as_numpy().shape == (2,)
    print("all well")
asyncio.run(main())
"""


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_tritons_client(running: Command, kind: str) -> None:
    target = running.grpc[0] if kind == "grpc" else f"127.0.0.1:{running.port}"
    done = subprocess.run([sys.executable, "-c", TRITON, kind, target], capture_output=True, text=True, timeout=120)
    assert "all well" in done.stdout, done.stdout + done.stderr


@pytest.mark.slow
def test_kserves_client(running: Command) -> None:
    python = client_python("kserve==0.21.0")
    address = f"http://127.0.0.1:{running.port}"
    done = subprocess.run([python, "-c", KSERVE, address], capture_output=True, text=True, timeout=120)
    assert "all well" in done.stdout, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("binary", [(), ("--binary-data",)])
def test_mlservers_client(running: Command, tmp_path: Path, binary: tuple[str, ...]) -> None:
    python = client_python("mlserver==1.7.1", "uvloop==0.21.0")
    given, out = tmp_path / "in.json", tmp_path / "out.json"
    given.write_bytes(BODY + b"\n")
    command: list[str | Path] = [
        python.parent / "mlserver",
        "infer",
        "-u",
        f"127.0.0.1:{running.port}",
        "-m",
        "numbers",
        *binary,
    ]
    command += ["-i", given, "-o", out, "--transport", "rest"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    outputs = {one["name"]: one for one in json.loads(out.read_text())["outputs"]}
    assert outputs["prediction"]["data"] in ([0], [1])


MLFLOW = """
import sys
import numpy as np, pandas as pd
from mlflow.pyfunc.scoring_server.client import ScoringServerClient
client = ScoringServerClient("127.0.0.1", int(sys.argv[1]))
client.ping()
assert client.get_version()
rows = np.array([[0.25, 3, 0.5], [0.75, 9, np.nan]])
frame = pd.DataFrame(rows, columns=["a", "b", "c"])
asked = (frame, frame[["c", "a", "b"]], frame.to_dict("records"), rows)
answers = [client.invoke(one).get_predictions() for one in asked]
assert all(one.equals(answers[0]) and len(one) == 2 for one in answers), answers
try:
    client.invoke(frame.assign(a="x"))
except Exception as error:
    assert "422" in str(error) and "record 0, field 'a'" in str(error), error
else:
    raise SystemExit("text was taken for a number")
print("all well")
"""


@pytest.mark.slow
def test_mlflows_client(running: Command) -> None:
    python = client_python("mlflow==3.17.2", "scikit-learn")
    done = subprocess.run([python, "-c", MLFLOW, str(running.port)], capture_output=True, text=True, timeout=120)
    assert "all well" in done.stdout, done.stdout + done.stderr


class Callers:
    """Keep-alive callers that count what went wrong."""

    def __init__(self, port: int, count: int) -> None:
        self.port = port
        self.over = threading.Event()
        self.answered: list[str] = []
        self.errors: list[str] = []
        self.lost: list[str] = []
        self._threads = [threading.Thread(target=self._call) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _call(self) -> None:
        while not self.over.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            try:
                connection.connect()
            except OSError:
                return  # it is gone, and says so
            with closing(connection):
                if not self._ask(connection):
                    return

    def _ask(self, connection: http.client.HTTPConnection) -> bool:
        """Ask until the server closes the connection; False when an answer was lost."""
        while not self.over.is_set():
            try:
                connection.request("POST", INFER, BODY)
                reply = connection.getresponse()
                body = reply.read()
            except (OSError, http.client.HTTPException) as error:
                self.lost.append(repr(error))
                return False
            if reply.status == 200:
                self.answered.append(json.loads(body)["id"])
            else:
                self.errors.append(f"{reply.status} {body[:200]!r}")
            if reply.will_close:
                return True
        return True

    def join(self) -> None:
        self.over.set()
        for thread in self._threads:
            thread.join(60)


@pytest.mark.parametrize("options", [(), ("--original",)], ids=["compiled", "in a process of its own"])
def test_told_to_stop_it_loses_no_request(folder: Path, options: tuple[str, ...]) -> None:
    command = Command(folder, "numbers", *options)
    callers = Callers(command.port, 12)
    time.sleep(0.5)
    assert command.stop() == 0
    callers.join()
    assert callers.errors == callers.lost == []
    assert len(callers.answered) > 50


def test_reloads_and_rollbacks_under_load_fail_no_request(folder: Path) -> None:
    with Command(folder, "numbers") as command, closing(open_store(folder)) as store:
        callers = Callers(command.port, 4)
        with store.ledger.read() as db:
            versions = db.list(ModelVersion, oldest_first=True)
        try:
            for turn in range(6):
                assert command.post("/v2/repository/models/numbers/load", b"")[0] == 200
                chosen = versions[turn % 2]
                store.ledger.write(lambda tx, v=chosen: serve_only(tx, v, v.created, None))  # type: ignore[misc]
                end = time.monotonic() + 30
                while command.post(INFER)[1]["model_version"] != str(chosen.version):
                    assert time.monotonic() < end
        finally:
            callers.join()
            store.ledger.write(lambda tx: serve_only(tx, versions[1], versions[1].created, None))
        assert callers.errors == callers.lost == []
        assert len(callers.answered) > 100


def test_killed_in_mid_load_it_has_kept_what_it_acknowledged(folder: Path) -> None:
    acknowledged: list[str] = []
    for _ in range(3):
        command = Command(folder, "numbers")
        callers = Callers(command.port, 4)
        time.sleep(0.5)
        for process in reversed(command.tree()):
            process.kill()
        callers.join()
        command.ended()
        assert callers.errors == []
        acknowledged += callers.answered
    assert len(acknowledged) > 100
    with closing(open_store(folder)) as store:
        for made in acknowledged[:: max(1, len(acknowledged) // 200)]:
            assert store.predictions.find(made)[0].id == made
        there = {one.id for _, one in store.predictions.predictions("numbers", limit=10_000_000)}
    assert set(acknowledged) <= there


def test_a_model_that_computes_for_ever_ends_with_its_server(trained: tuple[Store, list[ModelVersion]]) -> None:
    with Command(trained[0].folder, "churn") as command:
        body = json.dumps({"age": 40, "city": "Sisyphus", "bonus": 0.5}).encode()
        with closing(http.client.HTTPConnection("127.0.0.1", command.port)) as connection:
            connection.request("POST", "/predict/churn", body, {"content-type": "application/json"})
            (model,) = (one for one in command.tree() if "noria.loop.worker" in one.cmdline())
            before = model.cpu_times().user
            end = time.monotonic() + 60
            while model.cpu_times().user < before + 0.2:  # it is at it
                assert time.monotonic() < end
                time.sleep(0.02)
            for process in command.tree():
                if process != model:
                    process.kill()
            assert psutil.wait_procs([model], timeout=60)[1] == []
        command.ended()


def test_several_processes_share_the_port_and_one_that_dies_is_replaced(folder: Path) -> None:
    with Command(folder, "numbers", "--workers", "2") as command:
        before = command.servers()
        assert len(before) == 2
        before[0].kill()
        end = time.monotonic() + 30
        while len(command.servers()) < 2 or before[0] in command.servers():
            assert time.monotonic() < end
            time.sleep(0.05)
        for _ in range(20):
            assert command.post(INFER)[0] == 200
        assert command.post("/v2/repository/models/numbers/unload", b"")[0] == 200
        end = time.monotonic() + 30
        while any(command.post(INFER)[0] == 200 for _ in range(10)):  # the other process hears of it
            assert time.monotonic() < end
        assert command.post("/v2/repository/models/numbers/load", b"")[0] == 200


def test_what_a_process_counted_stays_in_the_sum_when_it_dies(folder: Path) -> None:
    def asked() -> float:
        return shown("noria_requests_total{")

    def shown(name: str) -> float:
        with urllib.request.urlopen(f"http://127.0.0.1:{command.port}/metrics", timeout=30) as reply:
            lines = reply.read().decode().splitlines()
        return sum(float(line.split()[1]) for line in lines if line.startswith(name))

    with Command(folder, "numbers", "--workers", "2") as command:
        for _ in range(40):
            assert command.post(INFER)[0] == 200
        end = time.monotonic() + 30
        told = Path(json.loads(command.servers()[0].cmdline()[3])["control"])

        def counted(path: Path) -> int:
            return sum(one["requests"] for one in json.loads(path.read_bytes())["series"])

        while sum(map(counted, told.glob("counts-*.json"))) < 40:  # each process has told the other
            assert time.monotonic() < end
            time.sleep(0.05)
        assert (shown("noria_model_up"), shown("noria_model_share_percent")) == (1, 100)
        before = command.servers()
        for process in before:
            process.kill()
            while len(command.servers()) < 2 or process in command.servers():
                assert time.monotonic() < end + 30
                time.sleep(0.05)
            assert [asked() for _ in range(10)] == [40] * 10


@pytest.mark.parametrize(
    ("model", "said"),
    [("numbers@champion", "version 2"), ("numbers/1", "version 1"), ("models:/numbers/2", "version 2")],
)
def test_an_alias_or_a_version_is_served(folder: Path, model: str, said: str) -> None:
    with Command(folder, model) as command:
        assert said in "".join(command.said)
        assert command.post(INFER)[1]["model_version"] == said.split()[1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["numbres"], 'Did you mean "numbers"?'),
        (["numbers/9"], "no version 9"),
        (["numbers/x"], "not a version"),
        (["numbers@nobody"], "no alias 'nobody'"),
        (["numbers", "--host", "0.0.0.0"], "noria keys add"),
        (["numbers", "--host", "203.0.113.7"], "noria keys add"),
        (["numbers", "--record", "never"], "never"),
        (["numbers", "--log-format", "xml"], "xml"),
    ],
)
def test_what_cannot_be_served_is_said(folder: Path, options: list[str], said: str) -> None:
    command = [sys.executable, "-m", "noria.cli", "serve", *options, "--store", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_said(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "noria.cli", "serve", "numbers", "--port", port, "--store", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert "in use" in done.stderr


def test_the_original_answers_where_it_is_asked_for(folder: Path) -> None:
    with Command(folder, "numbers", "--original") as command:
        assert "in a process of its own" in "".join(command.said)
        assert command.post(INFER)[0] == 200
        # A model's process that held the listening socket too would take connections that nobody answers.
        holders = [one for one in command.tree() if one.net_connections("tcp")]
        (model,) = [one for one in command.tree() if "noria.loop.worker" in " ".join(one.cmdline())]
        assert "original" in model.cmdline()
        assert model not in holders
        assert command.servers()[0] in holders


def predict(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "noria.cli", "predict", "numbers", *arguments, "--store", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("kind", ["csv", "parquet", "ndjson", "arrow"])
def test_a_file_is_predicted(folder: Path, tmp_path: Path, kind: str) -> None:
    dice = np.random.default_rng(1)
    rows: Any = pl.DataFrame({"a": dice.random(25_000), "b": dice.integers(0, 9, 25_000), "c": dice.random(25_000)})
    file = tmp_path / f"rows.{kind}"
    writers: Any = {
        "csv": rows.write_csv,
        "parquet": rows.write_parquet,
        "ndjson": rows.write_ndjson,
        "arrow": rows.write_ipc,
    }
    writers[kind](file)
    done = predict(folder, str(file))
    assert done.returncode == 0, done.stderr
    assert "25,000 predictions" in done.stdout
    read: Any = {"csv": pl.read_csv, "parquet": pl.read_parquet, "ndjson": pl.read_ndjson, "arrow": pl.read_ipc}[kind]
    found = read(tmp_path / f"rows.predictions.{kind}")
    assert found.height == 25_000
    assert set(found.columns) >= {"a", "b", "c", "prediction", "model_version", "probability_0", "probability_1"}
    assert found["a"].to_list() == pytest.approx(rows["a"].to_list())


def test_a_row_that_does_not_fit_is_named_and_nothing_is_left(folder: Path, tmp_path: Path) -> None:
    rows = pl.DataFrame({"a": [0.5] * 20_000, "b": [1.0] * 20_000, "c": [0.1] * 20_000})
    rows[15_000, "b"] = 1.5
    rows.write_parquet(tmp_path / "rows.parquet")
    done = predict(folder, str(tmp_path / "rows.parquet"))
    assert done.returncode == 1
    assert "Row 15000, field 'b': 1.5 is not a whole number" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.parquet"]
    for name, text in (("none.csv", None), ("odd.xls", "x"), ("empty.csv", "a,b,c\n"), ("less.csv", "a,b\n1,2\n")):
        if text is not None:
            (tmp_path / name).write_text(text)
        done = predict(folder, str(tmp_path / name))
        assert done.returncode == 1, name
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("kind", ["csv", "ndjson"])
@pytest.mark.parametrize("out", ["csv", "parquet", "ndjson", "arrow"])
def test_the_model_says_which_types_text_has_and_not_its_first_rows(
    folder: Path, tmp_path: Path, kind: str, out: str
) -> None:
    whole, parts = {"a": 1, "b": 3, "c": None}, {"a": 0.5, "b": 3, "c": 0.25}
    records = [whole] * 15_000 + [parts] * 6_000
    if kind == "csv":
        lines = ["a,b,c"] + [",".join("" if one is None else str(one) for one in row.values()) for row in records]
    else:
        lines = [json.dumps(row) for row in records]
    (tmp_path / f"rows.{kind}").write_text("\n".join(lines))
    done = predict(folder, str(tmp_path / f"rows.{kind}"), "--out", str(tmp_path / f"out.{out}"))
    assert done.returncode == 0, done.stderr
    read: Any = {"csv": pl.read_csv, "parquet": pl.read_parquet, "ndjson": pl.read_ndjson, "arrow": pl.read_ipc}[out]
    found = read(tmp_path / f"out.{out}", **({"infer_schema_length": None} if out in ("csv", "ndjson") else {}))
    assert found["a"].to_list() == [1.0] * 15_000 + [0.5] * 6_000
    assert found["c"].to_list() == [None] * 15_000 + [0.25] * 6_000
    assert found.select("prediction", "probability_1")[[0, -1]].n_unique() == 2


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        ("csv", '"oops"', "'oops' is not a number"),
        ("ndjson", '"oops"', "'oops'"),
        ("csv", "inf", "inf is not a finite number"),
        ("ndjson", "Infinity", "inf is not a finite number"),
    ],
)
def test_what_is_no_number_is_named_by_row_and_field(
    folder: Path, tmp_path: Path, kind: str, value: str, said: str
) -> None:
    line = {"csv": "0.5,3,{}", "ndjson": '{{"a": 0.5, "b": 3, "c": {}}}'}[kind]
    good, bad = line.format(0.1), line.format(value)
    lines = [*(["a,b,c"] if kind == "csv" else []), *[good] * 12_345, bad, good]
    (tmp_path / f"rows.{kind}").write_text("\n".join(lines))
    done = predict(folder, str(tmp_path / f"rows.{kind}"))
    assert done.returncode == 1
    assert "Row 12345, field 'c'" in done.stderr
    assert said in done.stderr


def test_a_place_that_cannot_be_written_is_said(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a,b,c\n0.5,3,0.1\n")
    for name in ("none/out.csv", "none/out.parquet"):
        done = predict(folder, str(tmp_path / "rows.csv"), "--out", str(tmp_path / name))
        assert (done.returncode, "cannot be written" in done.stderr) == (1, True)
        assert "Traceback" not in done.stderr


def piped(folder: Path, text: str, *arguments: str, model: str = "numbers") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "noria.cli", "predict", model, *arguments, "--store", str(folder)]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("kind", ["csv", "ndjson"])
def test_standard_input_is_predicted_as_a_file_is(folder: Path, tmp_path: Path, kind: str) -> None:
    dice = np.random.default_rng(1)
    rows: Any = pl.DataFrame({"a": dice.random(25_000), "b": dice.integers(0, 9, 25_000), "c": dice.random(25_000)})
    file = tmp_path / f"rows.{kind}"
    (rows.write_csv if kind == "csv" else rows.write_ndjson)(file)
    assert predict(folder, str(file)).returncode == 0
    expected = (tmp_path / f"rows.predictions.{kind}").read_text()
    for arguments in ((), ("-",)):
        done = piped(folder, file.read_text(), *arguments)
        assert done.returncode == 0, done.stderr
        assert done.stdout == expected
        assert "25,000 predictions of 'numbers'" in done.stderr
    for out in ("csv", "parquet"):
        done = piped(folder, file.read_text(), "-", "--out", str(tmp_path / f"out.{out}"))
        assert done.returncode == 0, done.stderr
        assert "25,000 predictions" in done.stdout
        found = (pl.read_csv if out == "csv" else pl.read_parquet)(tmp_path / f"out.{out}")
        assert (found.height, found["prediction"].n_unique()) == (25_000, 2)


def test_what_comes_on_standard_input_is_answered_as_it_comes(folder: Path) -> None:
    command = [sys.executable, "-m", "noria.cli", "predict", "numbers", "--store", str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for a in (0.25, 1):
            process.stdin.write(json.dumps({"a": a, "b": 3, "c": None}).encode() + b"\n")
            process.stdin.flush()
            found = json.loads(process.stdout.readline())
            assert (found["a"], found["prediction"] in (0, 1)) == (a, True)
        process.stdin.close()
        assert process.wait(60) == 0


def test_what_cannot_be_predicted_on_standard_input_is_said(folder: Path, tmp_path: Path) -> None:
    good, out = '{"a": 0.5, "b": 3, "c": 0.1}\n', tmp_path / "out.ndjson"
    for text, said in (
        (good * 20_005 + '{"a": 0.5, "b": 3, "c": "oops"}\n', "Row 20005, field 'c': 'oops' is not a number"),
        ("a,b,c\n" + "0.5,3,0.1\n" * 20_005 + "0.5,3,oops\n", "Row 20005, field 'c': 'oops' is not a number"),
        ("", "standard input has no rows to predict"),
        ("\n\n", "standard input has no rows to predict"),
        ("a,b,c\n", "standard input has no rows to predict"),
        ("a,b,c\n1,2,3,4\n", "standard input cannot be read"),
        ("a,b\n1,2\n", "field 'c': is missing"),
    ):
        done = piped(folder, text, "-", "--out", str(out))
        assert (done.returncode, said in done.stderr, done.stdout) == (1, True, ""), (said, done.stderr)
        assert "Traceback" not in done.stderr
        assert list(tmp_path.iterdir()) == []
    assert "no model 'nobody'" in piped(folder, good, model="nobody").stderr.lower()
    assert "give a name that ends in" in piped(folder, good, "--out", str(tmp_path / "out.xls")).stderr


def test_nobody_waits_for_rows_from_a_terminal(folder: Path) -> None:
    terminal, other = os.openpty()
    command = [sys.executable, "-m", "noria.cli", "predict", "numbers", "--store", str(folder)]
    done = subprocess.run(command, stdin=other, capture_output=True, text=True, timeout=120)
    os.close(other)
    os.close(terminal)
    assert (done.returncode, "Give a FILE" in done.stderr) == (1, True)


def test_who_has_read_enough_may_go(folder: Path) -> None:
    lines = '{"a": 0.5, "b": 3, "c": 0.1}\n' * 50_000
    command = f"{sys.executable} -m noria.cli predict numbers --store {folder} | head -n 1"
    done = subprocess.run(command, shell=True, input=lines, capture_output=True, text=True, timeout=120)
    assert '"prediction"' in done.stdout
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_what_a_model_prints_and_reads_is_not_in_the_stream(trained: tuple[Store, list[ModelVersion]]) -> None:
    lines = [json.dumps({"id": n, "age": 40, "city": city, "bonus": 0.5}) for n, city in enumerate(("Oslo", "Babel"))]
    done = piped(trained[0].folder, "\n".join(lines), model="churn/1")
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == [0, 1]
    assert "many words" in done.stderr


@pytest.mark.parametrize("size", [1, 3, 7, 10**6])
def test_a_row_of_csv_is_one_however_it_comes(size: int) -> None:
    class Slow(io.BytesIO):
        def read1(self, most: int | None = -1) -> bytes:
            return self.read(size)

    rows = [b'id,"a ""name\n"\r\n', b'1,"two\nlines"\n', b"\n", b'2,"a ""quoted""\n\n,word"\n', b"3,last"]
    assert [*Streamed(Slow(b"\r\n\n" + b"".join(rows)), eager=False)._rows()] == [rows]


def test_logs_for_machines_are_one_object_a_line_from_beginning_to_end(folder: Path) -> None:
    with Command(folder, "numbers", "--log-format", "json", "--workers", "2") as command:
        killed = command.servers()[1]
        killed.kill()
        end = time.monotonic() + 30
        while len(command.servers()) < 2 or killed in command.servers():
            assert time.monotonic() < end
            time.sleep(0.05)
        assert command.stop() == 0
    lines = [json.loads(line) for line in command.said]
    assert {"time", "level", "logger", "message", "process"} == set.intersection(*map(set, lines))
    assert {line["level"] for line in lines} == {"info", "warning"}


def test_a_version_that_may_be_served_no_more_is_said_once(trained: tuple[Store, list[ModelVersion]]) -> None:
    store, versions = trained

    def stage(stage: Stage) -> None:
        store.ledger.write(lambda tx: tx.put(replace(versions[0], stage=stage)))

    with Command(store.folder, "churn/1") as command:
        stage(Stage.rejected)
        try:
            time.sleep(2)
        finally:
            stage(versions[0].stage)
        assert command.stop() == 0
    assert sum("stays as it was" in line for line in command.said) <= 1


def test_keys_are_made_listed_and_taken_back(folder: Path) -> None:
    def keys(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "noria.cli", "keys", *arguments, "--store", str(folder)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    secret = keys("add", "me", "--model", "numbers").stdout.strip()
    assert secret.startswith("noria_")
    try:
        assert keys("add", "me").returncode == 1
        assert keys("add", "other", "--model", "nobody").returncode == 1
        assert "me" in keys("list").stdout
        assert secret not in keys("list").stdout
        stored = b"".join(path.read_bytes() for path in folder.glob("ledger.db*"))
        assert secret.encode() not in stored
        with Command(folder, "numbers") as command:
            assert command.post(INFER)[0] == 401
            assert command.post(INFER, Authorization=f"Bearer {secret}")[0] == 200
            assert "anybody may ask model 'numbers' now" in keys("remove", "me").stdout
            end = time.monotonic() + 30
            while command.post(INFER)[0] != 200:
                assert time.monotonic() < end
    finally:
        keys("remove", "me")
