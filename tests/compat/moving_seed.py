"""Run by a real MLflow's Python: fills a tracking store, or tells what one holds, as JSON."""

from __future__ import annotations

import hashlib
import json
import math
import sys
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag, ViewType

NEW = int(mlflow.__version__.split(".")[0]) >= 3


def fill(client: MlflowClient) -> None:
    """About thirty runs with all that is hard to keep."""
    first = client.create_experiment("häuser/äpfel 1", tags={"team": "Ω"})
    second = client.create_experiment("second")
    gone = client.create_experiment("deleted one")
    runs: list[str] = []
    for number in range(24):
        experiment = first if number % 3 else second
        tags = {"mlflow.user": f"user{number % 2}", "note/with path": "zwei\nZeilen: é ✓"}
        if number % 4 == 1:
            tags["mlflow.parentRunId"] = runs[-1]
        run = client.create_run(
            experiment, start_time=1_600_000_000_000 + number, tags=tags, run_name=f"läufer {number}"
        )
        at = run.info.run_id
        runs.append(at)
        metrics = [Metric("loss", 1 / (step + 1), 1_600_000_000_000 + step, step) for step in range(700)]
        metrics += [
            Metric("odd/nan", math.nan, 5, -3),
            Metric("odd/nan", 2.5, 6, 4),
            Metric("big", 1.7e308, 7, 0),
            Metric("same time", 0.1, 9, 1),
            Metric("same time", 0.2, 9, 1),
            Metric("same time", 0.3, 9, 2),
        ]
        if number == 2:
            metrics.append(Metric("inf", math.inf, 8, 0))
        params = [Param("lr", str(number / 7)), Param("a/b", "x" * 500), Param("leer", " "), Param("text", "ü\nz ")]
        client.log_batch(at, metrics[:700], params, [RunTag("k", "v")])
        client.log_batch(at, metrics[700:])
        if number % 2 == 0:
            client.log_dict(at, {"number": number}, "conf/ü mit raum/config.json")
            client.log_text(at, "same text", "text.txt")
        if number == 3:
            client.log_text(at, "z" * 3_000_000, "big.txt")
        if number % 5 != 4:
            client.set_terminated(at, ("FINISHED", "FAILED", "KILLED")[number % 3], 1_600_000_500_000 + number)
    client.delete_run(runs[7])
    client.create_run(gone)
    client.delete_experiment(gone)

    mlflow.set_experiment("second")
    with mlflow.start_run(run_name="with model") as active:
        import pandas

        data = mlflow.data.from_pandas(pandas.DataFrame({"a": [1.0, 2.0]}), name="points")
        mlflow.log_input(data, context="training")
        named: dict[str, Any] = {"name": "model"} if NEW else {"artifact_path": "model"}
        mlflow.pyfunc.log_model(python_model=Echo(), **named)
        mlflow.log_metric("after", 1.0, step=2)
        at = active.info.run_id

    client.create_registered_model("réel", tags={"owner": "me"}, description="long\nwords " * 30)
    made = client.get_run(at).outputs.model_outputs[0].model_id if NEW else ""
    for number in range(1, 5):
        model = f"models:/{made}" if NEW else f"{client.get_run(at).info.artifact_uri}/model"
        source = f"runs:/{runs[0]}/conf" if number != 2 else model
        of = {"model_id": made} if NEW and number == 2 else {}
        told = {"tags": {"n": str(number)}, "description": f"version {number}", **of}
        client.create_model_version("réel", source, runs[0] if number != 2 else at, **told)
    client.delete_model_version("réel", "3")
    client.set_registered_model_alias("réel", "champion", "2")
    client.set_registered_model_alias("réel", "old", "1")
    client.transition_model_version_stage("réel", "1", "Production")
    if NEW:
        client.create_registered_model("logged")
        client.create_model_version("logged", f"models:/{made}", at, model_id=made)


class Echo(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    def predict(self, context: Any, model_input: list[str], params: Any = None) -> list[str]:
        return model_input


def more(client: MlflowClient) -> None:
    """What happens after a first import."""
    experiment = client.get_experiment_by_name("second").experiment_id
    run = client.create_run(experiment, run_name="late", start_time=5)
    client.log_metric(run.info.run_id, "m", 1.0, 5, 0)
    going = next(
        one for one in client.search_runs([experiment], run_view_type=ViewType.ACTIVE_ONLY)
        if one.info.run_name == "läufer 9"
    )  # fmt: skip
    client.log_metric(going.info.run_id, "loss", 7.0, 1_700_000_000_000, 10_000)
    client.log_text(going.info.run_id, "more", "more.txt")
    client.set_terminated(going.info.run_id, "FINISHED", 1_700_000_000_001)
    client.set_registered_model_alias("réel", "champion", "4")


def _files(client: MlflowClient, run: str, path: str | None = None) -> list[str]:
    found: list[str] = []
    for one in client.list_artifacts(run, path):
        found += _files(client, run, one.path) if one.is_dir else [one.path]
    return found


def tell(client: MlflowClient) -> dict[str, Any]:
    """All that a store holds, in a form to compare."""
    told: dict[str, Any] = {"experiments": {}, "runs": {}, "models": {}, "loaded": []}
    for experiment in client.search_experiments(view_type=ViewType.ALL):
        created = experiment.creation_time if experiment.name != "Default" else 0  # each store makes its own
        told["experiments"][experiment.name] = [experiment.lifecycle_stage, created, dict(experiment.tags)]
        token = None
        while True:
            page = client.search_runs([experiment.experiment_id], run_view_type=ViewType.ALL, page_token=token)
            for run in page:
                told["runs"][run.info.run_id] = _run(client, experiment.name, run)
            token = page.token
            if not token:
                break
    for model in client.search_registered_models():
        versions = {}
        for one in client.search_model_versions(f"name = '{model.name}'"):
            whole = client.get_model_version(model.name, one.version)
            versions[str(one.version)] = [
                whole.run_id, whole.description or "", whole.current_stage, dict(whole.tags), sorted(whole.aliases)
            ]  # fmt: skip
        told["models"][model.name] = [model.description or "", dict(model.tags), versions]
    for address in ("models:/réel@champion", "models:/réel/2"):
        try:
            told["loaded"].append(mlflow.pyfunc.load_model(address).predict(["hello"])[0])
        except Exception as error:  # noqa: BLE001 - told, and compared
            told["loaded"].append(type(error).__name__)
    return told


def _run(client: MlflowClient, experiment: str, run: Any) -> dict[str, Any]:
    at = run.info.run_id
    points = sorted(
        [key, repr(one.value), one.timestamp, one.step]
        for key in run.data.metrics
        for one in client.get_metric_history(at, key)
    )
    active = run.info.lifecycle_stage == "active"
    files = {}
    for path in _files(client, at) if active else ():
        if path.endswith("registered_model_meta"):  # the client itself writes it when it loads a model
            continue
        data = Path(client.download_artifacts(at, path)).read_bytes()
        files[path] = [len(data), hashlib.sha256(data).hexdigest()]
    inputs = [
        [one.dataset.name, one.dataset.digest, one.dataset.source_type, one.dataset.source, one.dataset.schema,
         one.dataset.profile, {tag.key: tag.value for tag in one.tags}]
        for one in run.inputs.dataset_inputs
    ]  # fmt: skip
    outputs = getattr(run, "outputs", None)
    return {
        "experiment": experiment,
        "info": [run.info.run_name, run.info.status, run.info.start_time, run.info.end_time, run.info.lifecycle_stage],
        "params": dict(run.data.params),
        "tags": dict(run.data.tags),
        "latest": {key: repr(value) for key, value in run.data.metrics.items()},
        "points": points,
        "files": files,
        "inputs": inputs,
        "outputs": [one.model_id for one in outputs.model_outputs] if outputs else [],
    }


if __name__ == "__main__":
    verb, address = sys.argv[1:3]
    mlflow.set_tracking_uri(address)
    spoken = MlflowClient()
    if verb == "tell":
        Path(sys.argv[3]).write_text(json.dumps(tell(spoken)))
    else:
        {"fill": fill, "more": more}[verb](spoken)
