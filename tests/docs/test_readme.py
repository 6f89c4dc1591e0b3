"""What the README promises for your own data, run as written."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

README = (Path(__file__).parent.parent.parent / "README.md").read_text(encoding="utf-8")
NORIA = Path(sys.executable).with_name("noria")


def block(first: str) -> list[str]:
    """The lines of the shell block that holds ``first``."""
    for found in re.findall(r"```sh\n(.*?)```", README, re.S):
        if first in found:
            return str(found).strip().splitlines()
    raise AssertionError(first)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("readme")
    draw, rows = np.random.default_rng(0), 600
    age, spend = draw.integers(18, 90, rows), draw.gamma(2, 200, rows).round(2)
    plan = draw.choice(["basic", "plus", "pro"], rows)
    churned = (draw.random(rows) < 1 / (1 + np.exp(-(age - 50) / 10))).astype(int)
    table = {"customer_id": range(rows), "age": age, "spend": spend, "plan": plan, "churned": churned}
    pl.DataFrame(table).write_csv(made / "customers.csv")
    return made


def sh(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ) | {"PATH": f"{NORIA.parent}:{os.environ['PATH']}"}
    return subprocess.run(
        line,
        shell=True,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture(scope="module")
def port() -> int:
    """A port nobody has; the README's own may be taken by another Noria on this machine."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture(scope="module")
def served(folder: Path, port: int) -> Iterator[Path]:
    """The README's own commands up to `noria up`, which is left running."""
    commands = [line for line in block("noria new churn") if line.startswith("noria")]
    for line in commands[:-1]:
        done = sh(line, folder)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    up = commands[-1].split()
    process = subprocess.Popen(
        [str(NORIA), *up[1:], "--port", str(port)], cwd=folder, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/predict/churn", timeout=5).close()
            break
        except OSError:
            time.sleep(0.3)
    yield folder
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said


@pytest.mark.xdist_group("readme")
def test_own_data_goes_all_the_way_round_to_a_served_champion(served: Path, port: int) -> None:
    requests = [line.replace(":8500/", f":{port}/") for line in block("curl -X POST")]
    predict, label, metadata = (sh(f"{line} -s", served) for line in requests)
    answer = json.loads(predict.stdout)["predictions"][0]
    assert answer["prediction"] in (0, 1)
    assert json.loads(label.stdout)["matched"] == 1
    assert json.loads(metadata.stdout)["name"] == "churn"
    told = sh(f"noria explain {answer['id']} --store churn/.noria", served)
    assert told.returncode == 0
    assert "data version" in told.stdout
    for verb in ("status", "turns", "runs", "models", "data", "report", "monitor", "why train", "audit"):
        done = sh(f"noria {verb} --store churn/.noria", served)
        assert done.returncode == 0, f"{verb}: {done.stdout}{done.stderr}"
    second = sh("noria up churn/loop.py --port 0", served)
    assert second.returncode == 1
    assert "already looked after by process" in second.stderr


@pytest.mark.xdist_group("readme")
def test_a_model_is_served_alone_and_a_file_predicted(served: Path) -> None:
    serve, predict = block("noria serve churn")
    text = (Path(__file__).parent.parent.parent / "docs" / "serving.md").read_text(encoding="utf-8")
    lines = re.findall(r"```sh\n(.*?)```", text, re.S)[0].splitlines()
    commands = [serve, *(f"{line} --store churn/.noria" for line in lines if line.startswith("noria serve"))]
    for line in commands:
        command = [*re.sub(r" --port \d+", "", line).replace("churn/3", "churn/1").split(), "--port", "0"]
        server = subprocess.Popen([NORIA, *command[1:]], cwd=served, stderr=subprocess.PIPE, text=True)
        assert server.stderr is not None
        try:
            said = server.stderr.readline()
            address = re.search(r"http://\S+", said)
            assert address is not None, line + said
            with urllib.request.urlopen(f"{address[0]}/v2/models/churn") as answer:
                assert json.load(answer)["name"] == "churn"
        finally:
            server.send_signal(signal.SIGTERM)
            server.communicate(timeout=60)
        assert server.returncode == 0, line
    done = sh(predict, served)
    assert done.returncode == 0, done.stderr
    assert pl.read_csv(served / "customers.predictions.csv").height == 600


def test_the_example_loop_is_sound(tmp_path: Path) -> None:
    (example,) = (found for found in re.findall(r"```python\n(.*?)```", README, re.S) if "loop = Loop(" in found)
    (tmp_path / "example.py").write_text(example)
    done = sh("noria check example.py", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "churn: sound" in done.stdout


def test_every_verb_is_in_the_readme() -> None:
    shown = subprocess.run([str(NORIA), "--help"], capture_output=True, text=True, check=True).stdout
    verbs = re.findall(r"^  ([a-z]+)  ", shown[shown.index("Commands:") :], re.M)
    assert len(verbs) > 10
    missing = [verb for verb in verbs if not re.search(rf"\b{verb}\b", README)]
    assert missing == []


def test_a_training_of_your_own_is_tracked_as_the_readme_says(tmp_path: Path) -> None:
    code = next(found for found in re.findall(r"```python\n(.*?)```", README, re.S) if "noria.run(" in found)
    environment = dict(os.environ) | {"NORIA_SPOOL": str(tmp_path / "spool")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    from noria.store import open_store

    store = open_store(tmp_path / ".noria", create=False)
    with store.tracking.read() as reader:
        experiment = reader.experiment(name="churn")
        assert experiment is not None
        ((run,), _) = reader.search([experiment.id], stages=["active"], limit=5)
        assert [point.value for point in reader.history(run.info.id, "loss")] == [0.9, 0.5, 0.4]
        assert run.params == {"depth": "8"}
    store.close()


def test_what_was_tracked_elsewhere_is_brought_over_and_taken_away_again(tmp_path: Path) -> None:
    commands = block("noria import mlflow ./mlruns")
    run = tmp_path / "mlruns" / "0" / ("a" * 32)
    (run / "metrics").mkdir(parents=True)
    (run / "params").mkdir()
    (run / "metrics" / "loss").write_text("1600000000000 0.5 0\n1600000000001 0.25 1\n")
    (run / "params" / "depth").write_text("8")
    (run.parent / "meta.yaml").write_text(
        "artifact_location: file:///gone\nexperiment_id: '0'\nlifecycle_stage: active\nname: Default\n"
    )
    (run / "meta.yaml").write_text(
        f"run_id: {'a' * 32}\nrun_name: old\nexperiment_id: '0'\nuser_id: me\nstatus: 3\nstart_time: 1600000000000\n"
        "end_time: 1600000000002\nlifecycle_stage: active\nartifact_uri: file:///gone\n"
    )
    for line in (commands[0], commands[3], commands[4]):
        done = sh(line, tmp_path)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    (moved,) = (tmp_path / "elsewhere").glob("*/" + "a" * 32)
    assert (moved / "params" / "depth").read_text() == "8"
    assert len((moved / "metrics" / "loss").read_text().splitlines()) == 2


def test_the_server_answers_mlflows_clients_as_the_readme_says(tmp_path: Path) -> None:
    (line,) = [line for line in block("MLFLOW_TRACKING_URI") if line.startswith("noria server")]
    command = line.replace("--port 5000", "--port 0").split()
    server = subprocess.Popen([NORIA, *command[1:]], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    try:
        said = server.stderr.readline() + server.stderr.readline()
        address = re.search(r"MLFLOW_TRACKING_URI=(http://\S+)", said)
        assert address is not None, said
        with urllib.request.urlopen(f"{address[1]}/api/2.0/mlflow/experiments/get?experiment_id=0") as answer:
            assert json.load(answer)["experiment"]["name"] == "Default"
    finally:
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=30)
    assert server.returncode == 0
