"""Moving house with real MLflow stores: made, read and compared by MLflow's own client in environments of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from environments import client_python
from noria_server import serving

from noria.store import open_store

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("moving")]

SEED = Path(__file__).parent / "moving_seed.py"
OLD = ("mlflow==2.10.0", "sqlalchemy<2.1", "setuptools<81")
NEW = ("mlflow==3.17.2",)


def mlflow(version: tuple[str, ...], verb: str, address: str, folder: Path) -> Any:
    """Let a real client do something; what it tells, if it does."""
    out = folder / "told.json"
    environment = {**os.environ, "MLFLOW_ALLOW_FILE_STORE": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}
    command = [str(client_python(*version)), str(SEED), verb, address, str(out)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(out.read_text()) if verb == "tell" else None


def noria(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "noria.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200"})
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def counts(done: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """The table at the end of a move."""
    found = {}
    for line in done.stdout.splitlines()[1:]:
        name, _, value = line.rpartition("  ")
        if name.strip():
            found[name.strip()] = int(value.split("(")[0].strip().replace(",", ""))
    return found


def nothing_new(done: subprocess.CompletedProcess[str]) -> bool:
    return not any(value for name, value in counts(done).items() if name != "runs unchanged")


def differences(left: Any, right: Any, where: str = "") -> list[str]:
    """Where two told stores differ, in a few words each."""
    if isinstance(left, dict) and isinstance(right, dict):
        return [
            found
            for key in {**left, **right}
            for found in differences(left.get(key, "absent"), right.get(key, "absent"), f"{where}/{key}")
        ]
    return [] if left == right else [f"{where}: {str(left)[:200]} | {str(right)[:200]}"]


class Made:
    """A store of MLflow's with all that is hard to keep, and what its own client tells of it."""

    def __init__(self, version: tuple[str, ...], kind: str, folder: Path) -> None:
        self.version, self.folder = version, folder
        self.address = str(folder / "mlruns") if kind == "folder" else f"sqlite:///{folder / 'mlflow.db'}"
        mlflow(version, "fill", self.address, folder)
        self.told = self.tell()

    def tell(self) -> Any:
        return mlflow(self.version, "tell", self.address, self.folder)


@pytest.fixture(
    scope="module",
    params=[(OLD, "folder"), (OLD, "sqlite"), (NEW, "folder"), (NEW, "sqlite")],
    ids=["2.10-folder", "2.10-sqlite", "3.17-folder", "3.17-sqlite"],
)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    version, kind = request.param
    return Made(version, kind, tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def newest(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(NEW, "sqlite", tmp_path_factory.mktemp("newest"))


@pytest.fixture(scope="module")
def imported(newest: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("imported") / "store"
    noria("import", "mlflow", newest.address, "--store", str(store))
    return store


def told_by_noria(version: tuple[str, ...], store: Path, folder: Path) -> Any:
    with serving(str(store), folder / "server.log") as url:
        return mlflow(version, "tell", url, folder)


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """A real MLflow server."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        str(client_python(*NEW)), "-m", "mlflow", "server", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{folder / 'there.db'}", "--artifacts-destination", str(folder / "there"),
    ]  # fmt: skip
    environment = {**os.environ, "PATH": f"{client_python(*NEW).parent}:{os.environ['PATH']}"}
    with (folder / "mlflow.log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=environment, start_new_session=True)
        try:
            url = f"http://127.0.0.1:{port}"
            for _ in range(600):
                try:
                    urllib.request.urlopen(f"{url}/health", timeout=1)
                    break
                except OSError:
                    assert process.poll() is None, (folder / "mlflow.log").read_text()
                    time.sleep(0.2)
            yield url
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)


def test_what_comes_over_is_what_was_there(made: Made, tmp_path: Path) -> None:
    store = tmp_path / "store"
    first = noria("import", "mlflow", made.address, "--store", str(store))
    assert counts(first)["runs"] == len(made.told["runs"])
    assert not differences(told_by_noria(made.version, store, tmp_path), made.told)
    assert made.told["loaded"] == ["hello", "hello"]
    assert nothing_new(noria("import", "mlflow", made.address, "--store", str(store)))


def test_a_later_import_brings_what_is_new(tmp_path: Path) -> None:
    made = Made(NEW, "folder", tmp_path)
    store = tmp_path / "store"
    noria("import", "mlflow", made.address, "--store", str(store))
    mlflow(made.version, "more", made.address, made.folder)
    again = counts(noria("import", "mlflow", made.address, "--store", str(store)))
    assert (again["runs"], again["metric points"], again["files"], again["experiments"]) == (2, 2, 1, 0)
    assert not differences(told_by_noria(made.version, store, tmp_path), made.tell())


def test_a_dry_run_changes_nothing(newest: Made, tmp_path: Path) -> None:
    store = tmp_path / "store"
    dry = counts(noria("import", "mlflow", newest.address, "--store", str(store), "--dry-run"))
    with_store = open_store(store)
    with with_store.tracking.read() as reader:
        assert [one.name for one in reader.experiments(("active", "deleted"))] == ["Default"]
    assert not list(with_store.blobs.digests())
    with_store.close()
    real = counts(noria("import", "mlflow", newest.address, "--store", str(store)))
    assert dry == real


def test_one_experiment_alone(newest: Made, tmp_path: Path) -> None:
    store = tmp_path / "store"
    wanted = [run for run in newest.told["runs"].values() if run["experiment"] == "second"]
    done = noria("import", "mlflow", newest.address, "--store", str(store), "--experiment", "second")
    assert counts(done)["runs"] == len(wanted)
    assert counts(done)["experiments"] == 1
    wrong = noria("import", "mlflow", newest.address, "--store", str(store), "--experiment", "secnd", check=False)
    assert wrong.returncode == 1
    assert "second" in wrong.stderr


def test_killed_in_the_middle_and_taken_up_again(newest: Made, tmp_path: Path) -> None:
    store = tmp_path / "store"
    command = [sys.executable, "-m", "noria.cli", "import", "mlflow", newest.address, "--store", str(store)]
    expected = {run: len(told["points"]) for run, told in newest.told["runs"].items()}
    seen = set()
    for round_ in range(12):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _until_runs(store, 2 * round_ + 1, process)
        process.kill()
        process.wait()
        kept = open_store(store)
        with kept.tracking.read() as reader:
            numbers = [one.id for one in reader.experiments(("active", "deleted"))]
            runs, _ = reader.search(numbers, stages=("active", "deleted"), limit=1000)
            for run in runs:
                points = sum(len(reader.history(run.info.id, newest.key)) for newest in run.metrics)
                assert points == expected[run.info.id]
                for file in reader.under(run.info.artifacts.removeprefix("mlflow-artifacts:/")):
                    assert len(kept.blobs.get(file.digest)) == file.size
        kept.close()
        seen.add(len(runs))
    assert any(0 < count < len(expected) for count in seen)
    noria("import", "mlflow", newest.address, "--store", str(store))
    assert not differences(told_by_noria(newest.version, store, tmp_path), newest.told)


def _until_runs(store: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        if (store / "tracking.db").exists():
            kept = open_store(store)
            try:
                with kept.tracking.read() as reader:
                    numbers = [one.id for one in reader.experiments(("active", "deleted"))]
                    runs, _ = reader.search(numbers, stages=("active", "deleted"), limit=1000)
            finally:
                kept.close()
            if len(runs) >= count:
                return
        time.sleep(0.005)


@pytest.mark.parametrize("version", [OLD, NEW], ids=["2.10", "3.17"])
def test_back_to_a_folder_that_mlflow_reads(
    newest: Made, imported: Path, version: tuple[str, ...], tmp_path: Path
) -> None:
    folder = tmp_path / "mlruns"
    noria("export", "mlflow", str(folder), "--store", str(imported))
    told = mlflow(version, "tell", str(folder), tmp_path)
    expected = newest.told
    if version == OLD:  # it knows no logged models, and not where their files are
        for side in (told, expected := json.loads(json.dumps(expected))):
            side["loaded"] = []
            for run in side["runs"].values():
                run["outputs"] = []
    assert not differences(told, expected)
    assert nothing_new(noria("export", "mlflow", str(folder), "--store", str(imported)))


def test_there_and_back_again_by_folder(newest: Made, imported: Path, tmp_path: Path) -> None:
    noria("export", "mlflow", str(tmp_path / "mlruns"), "--store", str(imported))
    noria("import", "mlflow", str(tmp_path / "mlruns"), "--store", str(tmp_path / "store"))
    assert not differences(told_by_noria(NEW, tmp_path / "store", tmp_path), newest.told)


def test_over_http_from_mlflow_and_from_noria(newest: Made, imported: Path, tmp_path: Path) -> None:
    with serving(str(imported), tmp_path / "first.log") as url:
        noria("import", "mlflow", url, "--store", str(tmp_path / "store"))
        assert nothing_new(noria("import", "mlflow", url, "--store", str(tmp_path / "store")))
    assert not differences(told_by_noria(NEW, tmp_path / "store", tmp_path), newest.told)
    with mlflow_server(tmp_path) as url:
        mlflow(NEW, "fill", url, tmp_path)
        told = mlflow(NEW, "tell", url, tmp_path)
        done = noria("import", "mlflow", url, "--store", str(tmp_path / "other"))
        assert counts(done)["runs"] == len(told["runs"])
        assert nothing_new(noria("import", "mlflow", url, "--store", str(tmp_path / "other")))
    assert not differences(told_by_noria(NEW, tmp_path / "other", tmp_path), told)


@pytest.mark.parametrize("kind", ["mlflow", "noria"])
def test_back_to_a_server(newest: Made, imported: Path, kind: str, tmp_path: Path) -> None:
    with mlflow_server(tmp_path) if kind == "mlflow" else serving(str(tmp_path / "t"), tmp_path / "t.log") as url:
        noria("export", "mlflow", url, "--store", str(imported))
        told = mlflow(NEW, "tell", url, tmp_path)
        assert not differences(_with_old_ids(told), _with_new_ids(newest.told))
        again = noria("export", "mlflow", url, "--store", str(imported))
        assert nothing_new(again), again.stdout


def _with_new_ids(told: Any) -> Any:
    """What was told, as a server can have it: it gives ids and times of its own, and deletes no experiment for us."""
    told = json.loads(json.dumps(told))
    for experiment in told["experiments"].values():
        experiment[0], experiment[1] = "active", 0
    for run in told["runs"].values():
        run["outputs"] = len(run["outputs"])
        run["tags"].pop("mlflow.log-model.history", None)
        if run["info"][1] == "RUNNING":
            run["info"][3] = None
    return told


def _with_old_ids(told: Any) -> Any:
    old = {at: run["tags"]["noria.run_id"] for at, run in told["runs"].items()}
    for experiment in told["experiments"].values():
        experiment[0], experiment[1] = "active", 0
    for run in told["runs"].values():
        run["outputs"] = len(run["outputs"])
        del run["tags"]["noria.run_id"]
        run["tags"].pop("mlflow.log-model.history", None)
        if "mlflow.parentRunId" in run["tags"]:
            run["tags"]["mlflow.parentRunId"] = old[run["tags"]["mlflow.parentRunId"]]
    for _, _, versions in told["models"].values():
        for version in versions.values():
            version[0] = old[version[0]]
    told["runs"] = {old[at]: run for at, run in told["runs"].items()}
    return told


def _mlruns(folder: Path) -> Path:
    """A small file store, written by hand."""
    run = folder / "7" / ("a" * 32)
    for name in ("metrics", "params", "tags", "artifacts"):
        (run / name).mkdir(parents=True)
    (folder / "7" / "meta.yaml").write_text("experiment_id: '7'\nname: small\nlifecycle_stage: active\n")
    (run / "meta.yaml").write_text(
        f"run_id: {'a' * 32}\nrun_name: one\nexperiment_id: '7'\nstatus: 3\nstart_time: 1\nend_time: 2\n"
        "lifecycle_stage: active\nuser_id: me\nartifact_uri: file:///etc\n"
    )
    (run / "metrics" / "m").write_text("1 0.5 0\n")
    return run


def test_hostile_folders_lead_nowhere(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("secret")
    run = _mlruns(tmp_path / "mlruns")
    (run / "artifacts" / "good.txt").write_text("good")
    (run / "artifacts" / "link.txt").symlink_to(secret / "key")
    (run / "artifacts" / "folder").symlink_to(secret)
    (run / "tags" / "linked").symlink_to(secret / "key")
    (run / "artifacts" / "back\\slash").write_text("x")
    (run / "artifacts" / "%2e%2e%2fup").write_text("x")
    os.mkfifo(run / "artifacts" / "pipe")
    (tmp_path / "mlruns" / "7" / ("b" * 32)).symlink_to(run)
    done = noria("import", "mlflow", str(tmp_path / "mlruns"), "--store", str(tmp_path / "store"), check=False)
    assert done.returncode == 1, done.stdout
    assert "slash" in done.stdout
    assert "up" in done.stdout
    store = open_store(tmp_path / "store")
    with store.tracking.read() as reader:
        kept = reader.run("a" * 32)
        assert kept is not None
        assert kept.tags == {}
        assert [one.path for one in reader.under("")] == [f"7/{'a' * 32}/artifacts/good.txt"]
        assert reader.info("b" * 32) is None
    assert {store.blobs.get(one) for one in store.blobs.digests()} == {b"good"}
    store.close()


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("meta.yaml", "!!python/object/apply:os.system ['true']\n", "not YAML"),
        ("meta.yaml", "a: &x [1]\nb: *x\n", "not YAML"),
        ("meta.yaml", "run_id: " + "a" * 32 + "\nstatus: 77\n", "status"),
        ("meta.yaml", "run_id: ../../x\n", "another id"),
        ("meta.yaml", "[1, 2]\n", "names and values"),
        ("metrics/m", "1 zwei 3\n", "line"),
        ("metrics/m", "1 2 3 4 5 6 7\n", "parts"),
        ("metrics/m", "-5 2 3\n", "nonnegative"),
        ("params/p", "\x00", "NUL"),
    ],
)
def test_a_run_that_cannot_be_read_is_named_and_the_rest_comes(file: str, text: str, said: str, tmp_path: Path) -> None:
    run = _mlruns(tmp_path / "mlruns")
    good = run.with_name("c" * 32)
    good.mkdir()
    (good / "meta.yaml").write_text((run / "meta.yaml").read_text().replace("a" * 32, "c" * 32))
    (run / file).write_text(text)
    done = noria("import", "mlflow", str(tmp_path / "mlruns"), "--store", str(tmp_path / "store"), check=False)
    assert done.returncode == 1
    assert said in done.stdout
    assert counts_of_runs(tmp_path / "store") == ["c" * 32]


def counts_of_runs(folder: Path) -> list[str]:
    store = open_store(folder)
    with store.tracking.read() as reader:
        runs, _ = reader.search([7], stages=("active", "deleted"), limit=10)
    store.close()
    return [run.info.id for run in runs]


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("/nowhere/at/all", "no folder"),
        ("sqlite:////nowhere.db", "no database"),
        ("http://127.0.0.1:9", "does not answer"),
        ("http://", "not the address"),
        ("ftp://somewhere", "no folder"),
    ],
)
def test_a_source_that_is_none_is_one_sentence(address: str, said: str, tmp_path: Path) -> None:
    done = noria("import", "mlflow", address, "--store", str(tmp_path / "store"), check=False)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
