"""What users do with MLflow's Python client, against any server: ``python scenario.py URL [SECTION ...]``.

Runs in an environment that has MLflow (2.10 or later) and scikit-learn, never in Noria's own. Prints a line for each
section; the exit status says whether all went well.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

import mlflow
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException
from sklearn.linear_model import LinearRegression, LogisticRegression

VERSION = tuple(int(part) for part in mlflow.__version__.split(".")[:2])
SECTIONS: dict[str, Callable[[], None]] = {}
DATA = pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0, 4.0, 5.0], "b": [1.0, 0.0, 1.0, 0.0, 1.0, 0.0]})
TARGET = [0, 0, 0, 1, 1, 1]


class Skipped(Exception):
    """This client cannot do it."""


def section(run: Callable[[], None]) -> Callable[[], None]:
    """Make a function a section of its name."""
    SECTIONS[run.__name__] = run
    return run


def client() -> MlflowClient:
    """A client of the server under test."""
    return MlflowClient()


def fresh(name: str) -> str:
    """A name that no other run of this script uses."""
    return f"{name} {uuid.uuid4().hex[:8]}"


def experiment(name: str = "scenario") -> str:
    """A new experiment, which is also the fluent API's."""
    number = client().create_experiment(fresh(name))
    mlflow.set_experiment(experiment_id=number)
    return str(number)


@contextmanager
def refused(words: str, code: str = "INVALID_PARAMETER_VALUE") -> Iterator[None]:
    """The server must refuse what is done here, with this code and these words."""
    try:
        yield
    except MlflowException as error:
        found = error
    else:
        raise AssertionError(f"it was not refused: {words}")
    assert found.error_code == code, (found.error_code, str(found))
    assert words in str(found), str(found)


def log_model(model: Any, name: str, **more: Any) -> Any:
    """Log a scikit-learn model under a name, as this version of the client calls it."""
    place = {"name" if VERSION >= (3, 0) else "artifact_path": name}
    return mlflow.sklearn.log_model(model, pip_requirements=["scikit-learn"], **place, **more)


@section
def experiments() -> None:
    """Create, find, rename, tag, delete, restore, page."""
    name = fresh("experiments")
    number = client().create_experiment(name, tags={"team": "rivers"})
    found = client().get_experiment(number)
    assert (found.name, found.lifecycle_stage, found.tags["team"]) == (name, "active", "rivers")
    assert client().get_experiment_by_name(name).experiment_id == number
    assert client().get_experiment_by_name(fresh("none")) is None
    with refused("already exists", "RESOURCE_ALREADY_EXISTS"):
        client().create_experiment(name)
    client().set_experiment_tag(number, "note", "line\nline")
    client().rename_experiment(number, f"{name} renamed")
    found = client().get_experiment(number)
    assert (found.name, found.tags["note"]) == (f"{name} renamed", "line\nline")
    client().delete_experiment(number)
    assert client().get_experiment(number).lifecycle_stage == "deleted"
    words = f"name = '{name} renamed'"
    assert not client().search_experiments(filter_string=words)
    assert [number] == [e.experiment_id for e in client().search_experiments(ViewType.ALL, filter_string=words)]
    client().restore_experiment(number)
    assert [number] == [
        e.experiment_id for e in client().search_experiments(filter_string="tags.team = 'rivers' AND " + words)
    ]
    prefix = fresh("paged")
    made = [client().create_experiment(f"{prefix} {place}") for place in range(5)]
    first = client().search_experiments(filter_string=f"name LIKE '{prefix}%'", order_by=["name ASC"], max_results=3)
    second = client().search_experiments(
        filter_string=f"name LIKE '{prefix}%'", order_by=["name ASC"], max_results=3, page_token=first.token
    )
    assert [e.experiment_id for e in [*first, *second]] == made
    assert not second.token
    with refused("", "RESOURCE_DOES_NOT_EXIST"):
        client().get_experiment("123456789")


@section
def command_line() -> None:
    """``mlflow experiments`` from a shell."""
    name = fresh("shell")

    def run(*words: str) -> None:
        command = [sys.executable, "-W", "ignore", "-m", "mlflow", "experiments", *words]
        done = subprocess.run(
            command, env={**os.environ, "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri()}, check=False
        )
        assert done.returncode == 0, (words, done.returncode)

    run("create", "--experiment-name", name)
    number = client().get_experiment_by_name(name).experiment_id
    run("rename", "--experiment-id", number, "--new-name", f"{name} renamed")
    run("delete", "-x", number)
    found = client().get_experiment(number)
    assert (found.name, found.lifecycle_stage) == (f"{name} renamed", "deleted")
    run("restore", "-x", number)
    assert client().get_experiment(number).lifecycle_stage == "active"


@section
def runs() -> None:
    """Start, end, fail, name, delete and restore runs."""
    number = experiment()
    with mlflow.start_run(run_name="named", description="what it is", tags={"k": "v"}) as run:
        assert run.info.status == "RUNNING"
        assert mlflow.active_run().info.run_id == run.info.run_id
    found = client().get_run(run.info.run_id)
    assert (found.info.status, found.info.run_name, found.info.experiment_id) == ("FINISHED", "named", number)
    assert found.info.end_time >= found.info.start_time > 0
    assert found.data.tags["k"] == "v"
    assert found.data.tags["mlflow.note.content"] == "what it is"
    assert found.data.tags["mlflow.source.type"] == "LOCAL"
    assert found.data.tags["mlflow.user"] == found.info.user_id
    try:
        with mlflow.start_run() as failed:
            raise KeyError("on purpose")
    except KeyError:
        pass
    assert client().get_run(failed.info.run_id).info.status == "FAILED"
    plain = client().create_run(number, start_time=456, run_name="plain")
    assert (plain.info.start_time, plain.info.end_time) == (456, None)
    client().set_terminated(plain.info.run_id, "KILLED", end_time=789)
    client().update_run(plain.info.run_id, name="again")
    found = client().get_run(plain.info.run_id)
    assert (found.info.status, found.info.end_time, found.info.run_name) == ("KILLED", 789, "again")
    client().delete_run(plain.info.run_id)
    assert client().get_run(plain.info.run_id).info.lifecycle_stage == "deleted"
    with refused("must be in the 'active' state"):
        client().log_metric(plain.info.run_id, "late", 1)
    client().restore_run(plain.info.run_id)
    client().log_metric(plain.info.run_id, "late", 1)
    with refused("not found", "RESOURCE_DOES_NOT_EXIST"):
        client().get_run(uuid.uuid4().hex)


@section
def nested() -> None:
    """Runs in runs, found by their parent, and a run that goes on later."""
    number = experiment()
    with mlflow.start_run() as parent:
        for depth in range(2):
            with mlflow.start_run(nested=True):
                mlflow.log_param("depth", depth)
    children = client().search_runs([number], f"tags.mlflow.parentRunId = '{parent.info.run_id}'")
    assert sorted(run.data.params["depth"] for run in children) == ["0", "1"]
    with mlflow.start_run(run_id=parent.info.run_id) as resumed:
        assert resumed.info.run_id == parent.info.run_id
        mlflow.log_metric("more", 1.0)
    found = client().get_run(parent.info.run_id)
    assert (found.info.status, found.data.metrics) == ("FINISHED", {"more": 1.0})


@section
def metrics() -> None:
    """Metrics with steps and times, what is not finite, histories."""
    experiment()
    with mlflow.start_run() as run:
        for step in range(5):
            mlflow.log_metric("loss", 1.0 / (step + 1), step=step)
        mlflow.log_metrics({"nan": math.nan, "inf": math.inf, "minus": -math.inf, "negative step/a b": -1.5}, step=-3)
        mlflow.log_metric("numpy", np.float32(0.5))
    values = client().get_run(run.info.run_id).data.metrics
    assert math.isnan(values["nan"])
    assert values["inf"] >= 1.7976931348623157e308
    assert values["minus"] <= -1.7976931348623157e308
    assert (values["loss"], values["negative step/a b"], values["numpy"]) == (0.2, -1.5, 0.5)
    history = client().get_metric_history(run.info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(step, 1.0 / (step + 1)) for step in range(5)]
    assert [point.step for point in client().get_metric_history(run.info.run_id, "nan")] == [-3]
    assert client().get_metric_history(run.info.run_id, "none") == []


@section
def batches() -> None:
    """Many at once: all or nothing, never doubled."""
    run = client().create_run(experiment()).info.run_id
    points = [Metric("m", float(step), 1000 + step, step) for step in range(1000)]
    for _ in range(2):
        client().log_batch(run, metrics=points)
    client().log_batch(
        run, params=[Param(f"p{n}", str(n)) for n in range(100)], tags=[RunTag("t", ""), RunTag("u", "v")]
    )
    found = client().get_run(run)
    assert (found.data.metrics, len(found.data.params), found.data.tags["t"]) == ({"m": 999.0}, 100, "")
    assert [point.value for point in client().get_metric_history(run, "m")] == [float(step) for step in range(1000)]
    with refused("Changing param values is not allowed"):
        client().log_batch(run, metrics=[Metric("other", 1.0, 1, 1)], params=[Param("p0", "changed")])
    assert "other" not in client().get_run(run).data.metrics


@section
def params_and_tags() -> None:
    """Params are written once; tags change and go."""
    experiment()
    with mlflow.start_run() as run:
        mlflow.log_param("p", 1)
        mlflow.log_param("p", 1)
        mlflow.log_params({"none": None, "list": [1, 2], "text": "täxt 😀", "empty": ""})
        with refused("Changing param values is not allowed"):
            mlflow.log_param("p", 2)
        mlflow.set_tags({"t": "1", "text": "täxt 😀"})
        mlflow.set_tag("t", "2")
    found = client().get_run(run.info.run_id).data
    assert found.params == {"p": "1", "none": "None", "list": "[1, 2]", "text": "täxt 😀", "empty": ""}
    assert (found.tags["t"], found.tags["text"]) == ("2", "täxt 😀")
    client().delete_tag(run.info.run_id, "t")
    assert "t" not in client().get_run(run.info.run_id).data.tags
    with refused("No tag with name: t", "RESOURCE_DOES_NOT_EXIST"):
        client().delete_tag(run.info.run_id, "t")


@section
def search() -> None:
    """Every operator, every order, and pages."""
    number = experiment()
    made = []
    for place in range(6):
        run = client().create_run(
            number, start_time=100 + place, run_name=f"Run {place}", tags={"group": "ab"[place % 2]}
        )
        made.append(run.info.run_id)
        client().log_param(run.info.run_id, "depth", str(place))
        if place < 4:
            client().log_metric(run.info.run_id, "acc top", [0.25, math.nan, 0.75, 0.5][place])

    def places(filter_string: str = "", **more: Any) -> list[int]:
        return [made.index(run.info.run_id) for run in client().search_runs([number], filter_string, **more)]

    assert places() == [5, 4, 3, 2, 1, 0]
    for words, want in {
        "metrics.`acc top` > 0.25": [3, 2], "metrics.`acc top` >= 0.25": [3, 2, 0], "metrics.`acc top` = 0.5": [3],
        'metrics."acc top" < 0.5': [0], "metrics.`acc top` <= 0.5": [3, 0], "metrics.`acc top` != 0.5": [2, 0],
        "params.depth = '3'": [3], "params.depth != '3'": [5, 4, 2, 1, 0], "params.depth LIKE '%4'": [4],
        "params.depth ILIKE '5%'": [5], "tags.group = 'a'": [4, 2, 0], "tags.group != 'a'": [5, 3, 1],
        "tags.group LIKE 'A'": [], "tags.group ILIKE 'A'": [4, 2, 0],
        "attributes.status = 'RUNNING'": [5, 4, 3, 2, 1, 0],
        "attributes.run_name LIKE 'Run 1'": [1], "run_name ILIKE 'run 2'": [2], "start_time > 103": [5, 4],
        "attributes.start_time <= 100": [0], f"run_id = '{made[3]}'": [3],
        f"attributes.run_id IN ('{made[1]}', '{made[2]}')": [2, 1], f"run_id NOT IN ('{made[5]}')": [4, 3, 2, 1, 0],
        "tags.group = 'a' and params.depth != '0' AND metrics.`acc top` > 0.7": [2],
    }.items():  # fmt: skip
        assert places(words) == want, (words, places(words))
    for order, want in {
        "metrics.`acc top` ASC": [0, 3, 2, 1, 5, 4], "metrics.`acc top` DESC": [2, 3, 0, 1, 5, 4],
        "params.depth": [0, 1, 2, 3, 4, 5], "attributes.start_time DESC": [5, 4, 3, 2, 1, 0],
        "run_name ASC": [0, 1, 2, 3, 4, 5],
    }.items():  # fmt: skip
        assert places(order_by=[order]) == want, (order, places(order_by=[order]))
        paged: list[str] = []
        token = None
        while True:
            page = client().search_runs([number], order_by=[order], max_results=2, page_token=token)
            paged += [run.info.run_id for run in page]
            token = page.token
            if not token:
                break
        assert [made.index(run) for run in paged] == want
    table = mlflow.search_runs([number], filter_string="tags.group = 'b'", order_by=["params.depth DESC"])
    assert list(table["params.depth"]) == ["5", "3", "1"]
    with refused("Invalid"):
        client().search_runs([number], "metrics.a LIKE 'x'")
    with refused("Invalid value 123456789 for parameter 'max_results' supplied"):
        client().search_runs([number], max_results=123456789)


@section
def artifacts() -> None:
    """Texts, documents, figures, folders: up, listed, down."""
    experiment()
    with tempfile.TemporaryDirectory() as folder, mlflow.start_run() as run:
        source = Path(folder, "source")
        Path(source, "deep", "er").mkdir(parents=True)
        Path(source, "top.txt").write_text("top")
        Path(source, "deep", "er", "ä b.bin").write_bytes(bytes(range(256)) * 1000)
        mlflow.log_artifact(str(source / "top.txt"))
        mlflow.log_artifacts(str(source), "tree")
        mlflow.log_text("héllo", "notes/hello.txt")
        mlflow.log_dict({"a": [1, 2]}, "config.json")
        mlflow.log_table({"q": ["x"], "a": ["y"]}, "table.json")
        for path, names in (
            (None, ["config.json", "notes", "table.json", "top.txt", "tree"]),
            ("tree", ["tree/deep", "tree/top.txt"]),
            ("tree/deep/er", ["tree/deep/er/ä b.bin"]),
            ("nothing", []),
        ):
            listed = client().list_artifacts(run.info.run_id, path)
            assert [one.path for one in listed] == names, (path, [one.path for one in listed])
        size = {one.path: one.file_size for one in client().list_artifacts(run.info.run_id, "tree/deep/er")}
        assert size == {"tree/deep/er/ä b.bin": 256_000}
        assert mlflow.artifacts.load_text(f"{run.info.artifact_uri}/notes/hello.txt") == "héllo"
        assert mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/config.json") == {"a": [1, 2]}
        tree = client().download_artifacts(run.info.run_id, "tree", folder)
        assert Path(tree, "deep", "er", "ä b.bin").read_bytes() == bytes(range(256)) * 1000
        whole = Path(
            mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="", dst_path=f"{folder}/all")
        )
        assert sorted(path.name for path in whole.rglob("*") if path.is_file()) == sorted(
            ["config.json", "hello.txt", "table.json", "top.txt", "top.txt", "ä b.bin"]
        )


@section
def models() -> None:
    """A model is logged, registered, found by version and alias, loaded and used."""
    experiment()
    name = fresh("model")
    model = LinearRegression().fit(DATA, [2 * a for a in DATA["a"]])
    with mlflow.start_run() as run:
        info = log_model(model, "model", registered_model_name=name, input_example=DATA.head(1))
        log_model(model, "model", registered_model_name=name)
    want = list(model.predict(DATA))
    assert np.allclose(mlflow.sklearn.load_model(info.model_uri).predict(DATA), want)
    assert np.allclose(mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/model").predict(DATA), want)
    first, second = (client().get_model_version(name, str(version)) for version in (1, 2))
    assert (first.status, first.run_id, second.version) == (
        "READY",
        run.info.run_id,
        "2" if isinstance(second.version, str) else 2,
    )
    client().set_registered_model_alias(name, "champion", "2")
    assert str(client().get_model_version_by_alias(name, "champion").version) == "2"
    for address in (f"models:/{name}@champion", f"models:/{name}/1", f"models:/{name}/latest"):
        assert np.allclose(mlflow.pyfunc.load_model(address).predict(DATA), want), address
    assert mlflow.models.get_model_info(f"models:/{name}/1").flavors["sklearn"]


@section
def registry() -> None:
    """Models, versions, tags, descriptions, stages, aliases and their searches."""
    number = experiment()
    name, run = fresh("registered"), client().create_run(number)
    client().create_registered_model(name, tags={"team": "rivers"}, description="first")
    with refused("already exists", "RESOURCE_ALREADY_EXISTS"):
        client().create_registered_model(name)
    for _ in range(3):
        client().create_model_version(name, f"{run.info.artifact_uri}/model", run.info.run_id, tags={"k": "v"})
    client().update_registered_model(name, "second")
    client().set_registered_model_tag(name, "more", "x")
    client().delete_registered_model_tag(name, "more")
    found = client().get_registered_model(name)
    assert (found.name, found.description, dict(found.tags)) == (name, "second", {"team": "rivers"})
    client().update_model_version(name, "1", "about it")
    client().set_model_version_tag(name, "1", "checked", "yes")
    client().delete_model_version_tag(name, "1", "k")
    version = client().get_model_version(name, "1")
    assert (version.description, dict(version.tags)) == ("about it", {"checked": "yes"})
    assert client().get_model_version_download_uri(name, "1") == f"{run.info.artifact_uri}/model"
    client().transition_model_version_stage(name, "2", "Production")
    assert client().get_model_version(name, "2").current_stage == "Production"
    assert [str(one.version) for one in client().get_latest_versions(name, ["Production"])] == ["2"]
    client().set_registered_model_alias(name, "champion", "1")
    client().set_registered_model_alias(name, "champion", "3")
    assert {alias: str(to) for alias, to in client().get_registered_model(name).aliases.items()} == {"champion": "3"}
    client().delete_registered_model_alias(name, "champion")
    with refused("champion"):
        client().get_model_version_by_alias(name, "champion")
    found = client().search_model_versions(f"name = '{name}'", order_by=["version_number ASC"])
    assert [str(one.version) for one in found] == ["1", "2", "3"]
    client().delete_model_version(name, "3")
    with refused("", "RESOURCE_DOES_NOT_EXIST"):
        client().get_model_version(name, "3")
    assert [one.name for one in client().search_registered_models(f"name = '{name}'")] == [name]
    client().rename_registered_model(name, f"{name} renamed")
    assert len(client().search_model_versions(f"name = '{name} renamed'")) == 2
    client().delete_registered_model(f"{name} renamed")
    with refused("", "RESOURCE_DOES_NOT_EXIST"):
        client().get_registered_model(f"{name} renamed")


@section
def autolog() -> None:
    """scikit-learn's training logs itself, the model included."""
    experiment()
    mlflow.autolog(silent=True)
    try:
        with mlflow.start_run() as run:
            LogisticRegression(C=0.5).fit(DATA, TARGET)
    finally:
        mlflow.autolog(disable=True, silent=True)
    found = client().get_run(run.info.run_id)
    assert found.data.params["C"] == "0.5"
    assert 0 <= found.data.metrics["training_accuracy_score"] <= 1
    assert found.data.tags["estimator_name"] == "LogisticRegression"
    assert found.inputs.dataset_inputs
    assert len(mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/model").predict(DATA)) == len(DATA)


@section
def inputs() -> None:
    """Datasets that a run read."""
    number = experiment()
    dataset = mlflow.data.from_pandas(DATA, source="https://example.org/a.csv", name="rivers", targets="b")
    with mlflow.start_run() as run:
        mlflow.log_input(dataset, context="training", tags={"foo": "baz"} if VERSION >= (2, 12) else None)
    (found,) = client().get_run(run.info.run_id).inputs.dataset_inputs
    assert (found.dataset.name, found.dataset.digest) == ("rivers", dataset.digest)
    assert json.loads(found.dataset.profile)["num_rows"] == len(DATA)
    assert {tag.key: tag.value for tag in found.tags}["mlflow.data.context"] == "training"
    words = "dataset.name = 'rivers' AND dataset.context = 'training'"
    assert [one.info.run_id for one in client().search_runs([number], words)] == [run.info.run_id]
    again = mlflow.data.get_source(client().get_run(run.info.run_id).inputs.dataset_inputs[0])
    assert again.url == "https://example.org/a.csv"


@section
def logged_models() -> None:
    """Models as things of their own, with params, tags and metrics (3.0)."""
    if VERSION < (3, 0):
        raise Skipped("needs MLflow 3")
    number = experiment()
    model = client().create_logged_model(number, name="net", model_type="test", params={"depth": "3"}, tags={"k": "v"})
    with mlflow.start_run() as run:
        mlflow.log_metric("acc", 0.5, step=1, model_id=model.model_id)
    client().finalize_logged_model(model.model_id, "READY")
    client().set_logged_model_tags(model.model_id, {"more": "x"})
    client().delete_logged_model_tag(model.model_id, "k")
    found = client().get_logged_model(model.model_id)
    assert (found.name, str(found.status), found.params, found.tags["more"]) == ("net", "READY", {"depth": "3"}, "x")
    assert [(one.key, one.value, one.run_id) for one in found.metrics] == [("acc", 0.5, run.info.run_id)]
    search = client().search_logged_models([number], filter_string="metrics.acc > 0.1 AND params.depth = '3'")
    assert [one.model_id for one in search] == [model.model_id]


@section
def traces() -> None:
    """Traces are kept and found (2.14)."""
    if VERSION < (2, 14):
        raise Skipped("needs MLflow 2.14")
    number = experiment()

    def outer(x: int) -> int:
        with mlflow.start_span("inner") as span:
            span.set_inputs({"x": x})
            return x + 1

    assert mlflow.trace(outer, name="outer")(1) == 2
    flush = getattr(mlflow, "flush_trace_async_logging", None)
    if flush is not None:
        flush()
    found: list[Any] = []
    for _ in range(100):
        found = list(client().search_traces(experiment_ids=[number]))
        if found and found[0].data.spans:
            break
        time.sleep(0.1)
    (trace,) = found
    assert sorted(span.name for span in trace.data.spans) == ["inner", "outer"]
    client().set_trace_tag(trace.info.request_id, "k", "v")
    assert [one.info.request_id for one in client().search_traces([number], "tags.k = 'v'")] == [trace.info.request_id]
    assert client().get_trace(trace.info.request_id).info.tags["k"] == "v"
    assert client().delete_traces(number, trace_ids=[trace.info.request_id]) == 1


def main(url: str, names: list[str]) -> int:
    """Run sections; returns how many failed."""
    mlflow.set_tracking_uri(url)
    mlflow.set_registry_uri(url)
    failed = 0
    for name in names or SECTIONS:
        try:
            SECTIONS[name]()
            print(f"ok      {name}", flush=True)
        except Skipped as why:
            print(f"skipped {name}: {why}", flush=True)
        except Exception:  # noqa: BLE001 - whatever it was, the other sections are tried
            failed += 1
            print(f"FAILED  {name}\n{traceback.format_exc()}", flush=True)
            mlflow.end_run()
    return failed


if __name__ == "__main__":
    sys.exit(1 if main(sys.argv[1], sys.argv[2:]) else 0)
