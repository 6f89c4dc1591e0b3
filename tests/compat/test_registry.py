"""MLflow's model registry over HTTP."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import count
from typing import Any

import httpx
import pytest
from noria_server import API, Wire, missing, pairs, refused

_COUNT = count()


@pytest.fixture
def name(wire: Wire) -> str:
    """A new registered model."""
    made = f"model-{next(_COUNT)}"
    wire.does("/registered-models/create", name=made, tags=[{"key": "team", "value": "a"}])
    return made


def version(wire: Wire, name: str, source: str = "runs:/abc/model", **more: Any) -> Any:
    return wire.does("/model-versions/create", name=name, source=source, **more)["model_version"]


def delete(wire: Wire, path: str, body: dict[str, Any]) -> httpx.Response:
    return wire.http.request("DELETE", API + path, json=body)


def patch(wire: Wire, path: str, body: dict[str, Any]) -> httpx.Response:
    return wire.http.patch(API + path, json=body)


def test_model_is_told_as_clients_read_it(wire: Wire, name: str) -> None:
    version(wire, name)
    wire.does("/registered-models/alias", name=name, alias="best", version="1")
    found = wire.reads("/registered-models/get", name=name)["registered_model"]
    assert found["name"] == name
    assert found["creation_timestamp"] <= found["last_updated_timestamp"]
    assert pairs(found["tags"]) == {"team": "a"}
    assert found["aliases"] == [{"alias": "best", "version": "1"}]
    (latest,) = found["latest_versions"]
    assert latest["aliases"] == ["best"]
    one = wire.reads("/model-versions/get", name=name, version="1")["model_version"]
    assert one == latest == wire.reads("/registered-models/alias", name=name, alias="best")["model_version"]
    assert (one["version"], one["status"], one["current_stage"]) == ("1", "READY", "None")
    assert isinstance(one["creation_timestamp"], int)


def test_changes(wire: Wire, name: str) -> None:
    version(wire, name, run_id="", description="first", tags=[{"key": "k", "value": "v"}])
    answer = patch(wire, "/registered-models/update", {"name": name, "description": "better"})
    assert answer.json()["registered_model"]["description"] == "better"
    answer = patch(wire, "/model-versions/update", {"name": name, "version": "1", "description": "second"})
    assert answer.json()["model_version"]["description"] == "second"
    moved = wire.does("/model-versions/transition-stage", name=name, version="1", stage="staging")
    assert moved["model_version"]["current_stage"] == "Staging"
    wire.does("/model-versions/set-tag", name=name, version="1", key="e", value="")
    assert delete(wire, "/model-versions/delete-tag", {"name": name, "version": "1", "key": "k"}).json() == {}
    found = wire.reads("/model-versions/get", name=name, version="1")["model_version"]
    assert pairs(found["tags"]) == {"e": ""}
    wire.does("/registered-models/rename", name=name, new_name=f"{name} new")
    missing(wire.get("/registered-models/get", name=name), f"Registered Model with name={name} not found")
    assert delete(wire, "/registered-models/delete", {"name": f"{name} new"}).json() == {}
    missing(wire.get("/model-versions/get", name=f"{name} new", version="1"), "not found")


def test_what_is_not_there(wire: Wire, name: str) -> None:
    missing(
        wire.get("/model-versions/get", name=name, version="7"), f"Model Version (name={name}, version=7) not found"
    )
    missing(delete(wire, "/model-versions/delete", {"name": name, "version": "7"}))
    missing(wire.post("/model-versions/create", {"name": "absent", "source": "s3://b"}))
    missing(wire.post("/registered-models/alias", {"name": name, "alias": "a", "version": "7"}))
    missing(wire.get("/registered-models/alias", name="absent", alias="a"))
    # an alias that is not there is a wrong parameter, in MLflow's words
    refused(wire.get("/registered-models/alias", name=name, alias="a"), "Registered model alias a not found.")
    missing(wire.get("/registered-models/alias", name=name, alias="latest"), "Latest version not found")


def test_wrong_parameters(wire: Wire, name: str) -> None:
    refused(wire.post("/registered-models/create", {"name": name}), "already exists", code="RESOURCE_ALREADY_EXISTS")
    refused(wire.post("/registered-models/create", {}), "Missing value for required parameter 'name'")
    refused(wire.post("/registered-models/create", {"name": 7}), "Invalid value 7 for parameter 'name'")
    refused(
        wire.get("/model-versions/get", name=name, version="x y"),
        "Parameter 'version' must be an integer, got 'x y'.",
    )
    refused(wire.get("/model-versions/get", name=name, version="9" * 30))
    refused(wire.get("/registered-models/search", max_results=1001), "max_results")
    refused(wire.get("/registered-models/search", filter="name BETWEEN 1"), "Invalid")
    refused(wire.get("/registered-models/search", order_by="nonsense"), "Invalid")
    refused(wire.post("/registered-models/alias", {"name": name, "alias": "v1", "version": "1"}), "reserved")


@pytest.mark.parametrize(
    "source",
    [
        "/etc/passwd",
        "model",
        "./model",
        "file:///etc/passwd",
        "FILE:/etc/passwd",
        "file://host/x",
        "%66ile:///etc/passwd",
        "c:/windows",
        "mlflow-artifacts:/1/../2",
        "mlflow-artifacts://h/..%2f..%2fx",
        "mlflow-artifacts:/%252e%252e/x",
        "mlflow-artifacts:/a\\..\\b",
        "http://h/api/2.0/mlflow-artifacts/artifacts/../../x",
        "http://h/a?b/../c",
        "s3://b/a\0b",
        "s3://b/%" + "25" * 20 + "41",
        "models:/",
        "models:/a/b/c",
        "",
    ],
)
def test_sources_that_lead_to_other_files(wire: Wire, name: str, source: str) -> None:
    refused(wire.post("/model-versions/create", {"name": name, "source": source}))


@pytest.mark.parametrize(
    "source", ["runs:/abc/model", "s3://b/m", "mlflow-artifacts:/1/abc/artifacts/m", "https://h/m", "dbfs:/m"]
)
def test_sources_that_are_fine(wire: Wire, name: str, source: str) -> None:
    version(wire, name, source)
    assert wire.reads("/model-versions/get-download-uri", name=name, version="1") == {"artifact_uri": source}


def test_a_version_of_a_version_is_where_that_one_is(wire: Wire, name: str) -> None:
    version(wire, name, "s3://b/m", run_id="abc")
    wire.does("/registered-models/alias", name=name, alias="best", version="1")
    for number, source in ((2, f"models:/{name}/1"), (3, f"models:/{name}@best"), (4, f"models:/{name}/3")):
        made = version(wire, name, source)
        assert (made["version"], made["source"], made["run_id"]) == (str(number), source, "abc")
        found = wire.reads("/model-versions/get-download-uri", name=name, version=str(number))
        assert found == {"artifact_uri": "s3://b/m"}


def pages(wire: Wire, path: str, key: str, **query: Any) -> list[Any]:
    found: list[Any] = []
    while True:
        page = wire.reads(path, **query)
        found += page.get(key, [])
        if not page.get("next_page_token"):
            return found
        query["page_token"] = page["next_page_token"]


def test_searches_and_pages(wire: Wire) -> None:
    stem = f"search{next(_COUNT)}x"
    names = [f"{stem}{number:02}" for number in range(12)]
    for number, name in enumerate(names):
        wire.does("/registered-models/create", name=name, tags=[{"key": "even", "value": str(number % 2 == 0)}])
        version(wire, name, run_id=f"run-{stem}")
    path, key = "/registered-models/search", "registered_models"
    for size in (1, 5, 100):
        found = pages(wire, path, key, filter=f"name LIKE '{stem}%'", max_results=size)
        assert [one["name"] for one in found] == names
    found = pages(
        wire, path, key, filter=f"name ILIKE '{stem.upper()}%1' AND tags.even = 'False'", order_by="name DESC"
    )
    assert [one["name"] for one in found] == [names[11], names[1]]
    found = pages(wire, "/model-versions/search", "model_versions", filter=f"run_id = 'run-{stem}'", max_results=5)
    assert sorted(one["name"] for one in found) == names
    terms = {"order_by": ["name DESC", "version_number DESC"], "max_results": 7}
    found = pages(wire, "/model-versions/search", "model_versions", filter=f"name LIKE '{stem}%'", **terms)
    assert [one["name"] for one in found] == names[::-1]


def test_page_tokens_are_checked(wire: Wire) -> None:
    stem = f"token{next(_COUNT)}x"
    for number in range(3):
        wire.does("/registered-models/create", name=f"{stem}{number}")
    query: dict[str, Any] = {"filter": f"name LIKE '{stem}%'", "max_results": 1}
    token = wire.reads("/registered-models/search", **query)["next_page_token"]
    refused(wire.get("/registered-models/search", **{**query, "filter": ""}, page_token=token), "page token")
    for forged in ("evil", token[:-3], token[::-1], "W10=", "W1siYSJdLDEsIngiXQ==", "é", "A" * 5000):
        refused(wire.get("/registered-models/search", **query, page_token=forged), "page token")
    # what went away between two pages neither doubles nor hides others
    delete(wire, "/registered-models/delete", {"name": f"{stem}0"})
    left = wire.reads("/registered-models/search", **query, page_token=token)
    assert [one["name"] for one in left["registered_models"]] == [f"{stem}1"]


def test_prompts_are_kept_apart_from_models(wire: Wire) -> None:
    name = f"prompt{next(_COUNT)}"
    tags = [{"key": "mlflow.prompt.is_prompt", "value": "true"}]
    wire.does("/registered-models/create", name=name, tags=tags)
    version(wire, name, "dummy-source", tags=[*tags, {"key": "mlflow.prompt.text", "value": "Hi"}])
    refused(wire.post("/model-versions/create", {"name": name, "source": "s3://b", "tags": tags}), "prompt")
    asked = "tags.`mlflow.prompt.is_prompt` = 'true'"
    for path, key in (("/registered-models/search", "registered_models"), ("/model-versions/search", "model_versions")):
        assert name not in [one["name"] for one in pages(wire, path, key)]
        assert name in [one["name"] for one in pages(wire, path, key, filter=asked)]


def test_a_logged_model_registered(wire: Wire, name: str) -> None:
    experiment = wire.experiment()
    run = wire.run(experiment, user_id="ann")
    info = wire.does("/logged-models", experiment_id=experiment, source_run_id=run)["model"]["info"]
    made = version(wire, name, f"models:/{info['model_id']}", model_id=info["model_id"])
    assert (made["run_id"], made["model_id"], made["user_id"]) == (run, info["model_id"], "ann")
    found = wire.reads("/model-versions/get-download-uri", name=name, version="1")
    assert found == {"artifact_uri": info["artifact_uri"]}
    tags = pairs(wire.reads(f"/logged-models/{info['model_id']}")["model"]["info"]["tags"])
    assert json.loads(tags["mlflow.modelVersions"]) == [{"name": name, "version": "1"}]
    missing(wire.post("/model-versions/create", {"name": name, "source": f"models:/m-{'0' * 32}"}))


LOOP = """
import sys
from datetime import UTC, datetime
from noria.records import ModelVersion, Stage
from noria.store.ports import AliasRecord, LoopRecord
from noria.store import open_store
now = datetime(2024, 1, 1, tzinfo=UTC)
from pathlib import Path
store = open_store(Path(sys.argv[1]))
def change(tx):
    tx.put(LoopRecord("arrivals", "loop.py", {}, "d", now, now))
    tx.put(ModelVersion("arrivals", 1, now, "run1", "b", "d", "r", Stage.champion))
    tx.put(AliasRecord("arrivals", "champion", 1, now))
store.ledger.write(change)
store.close()
"""


def test_a_loops_model_is_read_only(wire: Wire) -> None:
    subprocess.run([sys.executable, "-c", LOOP, str(wire.log.parent / "store")], check=True)
    found = wire.reads("/registered-models/alias", name="arrivals", alias="champion")["model_version"]
    assert (found["version"], found["current_stage"], found["run_id"]) == ("1", "Production", "run1")
    one = {"name": "arrivals", "version": "1"}
    for answer in (
        wire.post("/registered-models/alias", {**one, "alias": "champion"}),
        wire.post("/model-versions/transition-stage", {**one, "stage": "Archived"}),
        wire.post("/model-versions/create", {"name": "arrivals", "source": "s3://b"}),
        wire.post("/registered-models/rename", {"name": "arrivals", "new_name": "x"}),
        delete(wire, "/registered-models/delete", {"name": "arrivals"}),
        delete(wire, "/model-versions/delete", one),
        delete(wire, "/registered-models/alias", {"name": "arrivals", "alias": "champion"}),
    ):
        refused(answer, "gates and approvals", code="PERMISSION_DENIED", status=403)
