"""MLflow's logged models over HTTP."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from noria_server import API, Wire, missing, pairs, refused


@pytest.fixture
def experiment(wire: Wire) -> str:
    return wire.experiment()


def made(wire: Wire, experiment: str, **more: Any) -> str:
    """A new logged model's id."""
    return str(wire.does("/logged-models", experiment_id=experiment, **more)["model"]["info"]["model_id"])


def told(wire: Wire, id: str, **query: Any) -> Any:
    return wire.reads(f"/logged-models/{id}", **query)["model"]


def patch(wire: Wire, path: str, body: dict[str, Any]) -> Any:
    return wire.http.patch(f"{API}/logged-models/{path}", json=body)


def measured(wire: Wire, id: str, experiment: str, value: float | str, **more: Any) -> None:
    run = wire.run(experiment)
    wire.does(
        "/runs/log-metric", **{"run_id": run, "key": "acc", "value": value, "timestamp": 1, "model_id": id, **more}
    )


def test_model_goes_from_pending_to_ready(wire: Wire, experiment: str) -> None:
    run = wire.run(experiment)
    model = wire.does(
        "/logged-models",
        experiment_id=experiment,
        name="forest",
        model_type="agent",
        source_run_id=run,
        params=[{"key": "depth", "value": "3"}],
        tags=[{"key": "team", "value": "a"}],
    )["model"]
    info = model["info"]
    assert re.fullmatch(r"m-[0-9a-f]{32}", info["model_id"])
    assert (info["status"], info["source_run_id"], info["model_type"]) == ("LOGGED_MODEL_PENDING", run, "agent")
    assert info["artifact_uri"] == f"mlflow-artifacts:/{experiment}/models/{info['model_id']}/artifacts"
    assert told(wire, info["model_id"]) == model
    ready = patch(wire, info["model_id"], {"model_id": info["model_id"], "status": "LOGGED_MODEL_READY"})
    assert ready.json()["model"]["info"]["status"] == "LOGGED_MODEL_READY"
    failed = patch(wire, info["model_id"], {"status": 3})
    assert failed.json()["model"]["info"]["status"] == "LOGGED_MODEL_UPLOAD_FAILED"
    refused(patch(wire, info["model_id"], {"status": "GONE"}), "status")


def test_params_are_written_once_and_tags_change(wire: Wire, experiment: str) -> None:
    id = made(wire, experiment)
    path = f"/logged-models/{id}"
    wire.does(f"{path}/params", params=[{"key": "depth", "value": "3"}])
    wire.does(f"{path}/params", params=[{"key": "depth", "value": "3"}, {"key": "trees", "value": "9"}])
    refused(wire.post(f"{path}/params", {"params": [{"key": "depth", "value": "4"}]}), "depth")
    patch(wire, f"{id}/tags", {"tags": [{"key": "a/b", "value": "1"}, {"key": "c", "value": ""}]})
    assert wire.http.delete(f"{API}{path}/tags/a/b").json() == {}
    missing(wire.http.delete(f"{API}{path}/tags/a%2Fb"), "No tag with key 'a/b'")
    model = told(wire, id)
    assert pairs(model["data"]["params"]) == {"depth": "3", "trees": "9"}
    assert pairs(model["info"]["tags"]) == {"c": ""}


def test_deleted_models_are_only_shown_on_request(wire: Wire, experiment: str) -> None:
    id = made(wire, experiment)
    assert wire.http.delete(f"{API}/logged-models/{id}").json() == {}
    missing(wire.get(f"/logged-models/{id}"), f"Logged model with ID '{id}' not found.")
    assert told(wire, id, allow_deleted="true")["info"]["model_id"] == id
    missing(wire.http.delete(f"{API}/logged-models/{id}"))
    assert wire.does("/logged-models/search", experiment_ids=[experiment])["models"] == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "experiment_id"),
        ({"experiment_id": "x"}, "Invalid experiment ID"),
        ({"experiment_id": "0", "name": "a/b"}, "Invalid model name"),
        ({"experiment_id": "0", "name": "a.b"}, "Invalid model name"),
        ({"experiment_id": "0", "name": "a\0b"}, "name"),
        ({"experiment_id": "0", "params": [{"key": "k", "value": "x" * 6001}]}, "params"),
        ({"experiment_id": "0", "params": [{"value": "x"}]}, "params[0].key"),
        ({"experiment_id": "0", "tags": {"a": "b"}}, "tags"),
    ],
)
def test_wrong_parameters(wire: Wire, body: dict[str, Any], words: str) -> None:
    refused(wire.post("/logged-models", body), words)


def test_unknown_experiment(wire: Wire) -> None:
    missing(wire.post("/logged-models", {"experiment_id": "99999"}), "No Experiment with id=99999 exists")


def ids(wire: Wire, experiment: str, **body: Any) -> list[str]:
    found: list[str] = []
    while True:
        page = wire.does("/logged-models/search", experiment_ids=[experiment], **body)
        found += [one["info"]["model_id"] for one in page["models"]]
        body["page_token"] = page.get("next_page_token")
        if not body["page_token"]:
            return found


def test_search(wire: Wire, experiment: str) -> None:
    low = made(wire, experiment, name="low", params=[{"key": "depth", "value": "3"}])
    high = made(wire, experiment, name="high", model_type="agent")
    nan = made(wire, experiment, name="nan")
    bare = made(wire, experiment, name="bare")
    measured(wire, low, experiment, 0.5, timestamp=1)
    measured(wire, low, experiment, 0.4, timestamp=2, dataset_name="test", dataset_digest="d1")
    measured(wire, high, experiment, 0.9)
    measured(wire, nan, experiment, "NaN")
    assert ids(wire, experiment, max_results=1) == [bare, nan, high, low]
    by = [{"field_name": "metrics.acc"}]
    assert ids(wire, experiment, order_by=by, max_results=3) == [low, high, nan, bare]
    assert ids(wire, experiment, order_by=[{**by[0], "ascending": False}]) == [high, low, nan, bare]
    assert ids(wire, experiment, order_by=[{**by[0], "dataset_name": "test"}])[0] == low
    assert ids(wire, experiment, order_by=[{"field_name": "creation_timestamp"}]) == [low, high, nan, bare]
    assert ids(wire, experiment, filter="metrics.acc > 0.45 AND metrics.acc < 0.45") == [low]  # some point of each
    assert ids(wire, experiment, filter="metrics.acc > 0.45", datasets=[{"dataset_name": "test"}]) == []
    assert ids(wire, experiment, datasets=[{"dataset_name": "test", "dataset_digest": "d1"}]) == [low]
    assert ids(wire, experiment, filter="params.depth = '3'") == [low]
    assert ids(wire, experiment, filter="name LIKE '%h' AND model_type = 'agent'") == [high]
    (found,) = wire.does("/logged-models/search", experiment_ids=[experiment], filter="name = 'nan'")["models"]
    (metric,) = found["data"]["metrics"]
    assert (metric["key"], metric["value"], metric["model_id"]) == ("acc", "NaN", nan)
    assert math.isnan(float(metric["value"]))


def test_wrong_searches(wire: Wire, experiment: str) -> None:
    path = "/logged-models/search"
    refused(wire.post(path, {}), "experiment_ids")
    refused(wire.post(path, {"experiment_ids": [experiment], "filter": "x y z"}), "Invalid")
    refused(wire.post(path, {"experiment_ids": [experiment], "order_by": [{"field_name": "params.x"}]}), "params.x")
    refused(wire.post(path, {"experiment_ids": [experiment], "order_by": [{"field_name": "nonsense"}]}), "nonsense")
    refused(wire.post(path, {"experiment_ids": [experiment], "datasets": [{"dataset_digest": "d"}]}), "dataset_name")
    refused(wire.post(path, {"experiment_ids": [experiment], "page_token": "x"}), "page token")


def test_directories(wire: Wire, experiment: str) -> None:
    id = made(wire, experiment)
    found = wire.reads(f"/logged-models/{id}/artifacts/directories")
    assert found == {"root_uri": told(wire, id)["info"]["artifact_uri"], "files": []}
    for path in ("..", "/etc", "a/../b", "a\\b"):
        refused(wire.get(f"/logged-models/{id}/artifacts/directories", artifact_directory_path=path), "Invalid path")
