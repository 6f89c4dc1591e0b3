"""MLflow's traces, assessments and evaluation datasets over HTTP."""

from __future__ import annotations

import json
import os
from typing import Any

import httpx
import pytest
from noria_server import Wire, missing, pairs, refused

NEW = "/api/3.0/mlflow/traces"
OLD = "/api/2.0/mlflow/traces"
DATASETS = "/api/3.0/mlflow/datasets"


@pytest.fixture
def experiment(wire: Wire) -> str:
    return wire.experiment()


def post(wire: Wire, path: str, **body: Any) -> httpx.Response:
    return wire.http.post(path, json=body)


def does(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    return answer.json()


def delete(wire: Wire, path: str, **body: Any) -> httpx.Response:
    return wire.http.request("DELETE", path, json=body)


def sent(experiment: str, **more: Any) -> dict[str, Any]:
    return {
        "trace_id": f"tr-{os.urandom(16).hex()}",
        "trace_location": {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": experiment}},
        "request_time": "2026-01-31T12:00:00.123456Z",
        "execution_duration": "1.500s",
        "state": "OK",
        "request_preview": "how much?",
        "trace_metadata": {"mlflow.source.name": "x"},
        "tags": {"mlflow.traceName": "call"},
        **more,
    }


def started(wire: Wire, experiment: str, **more: Any) -> Any:
    return does(post(wire, NEW, trace={"trace_info": sent(experiment, **more)}))["trace"]["trace_info"]


def test_trace_comes_back_as_it_was_sent(wire: Wire, experiment: str) -> None:
    found = started(wire, experiment)
    assert (found["request_time"], found["execution_duration"]) == ("2026-01-31T12:00:00.123Z", "1.500s")
    assert (found["state"], found["request_preview"]) == ("OK", "how much?")
    assert found["trace_metadata"] == {"mlflow.source.name": "x"}
    id = found["trace_id"]
    assert found["tags"] == {
        "mlflow.traceName": "call",
        "mlflow.artifactLocation": f"mlflow-artifacts:/{experiment}/traces/{id}/artifacts",
    }
    assert does(wire.http.get(f"{NEW}/{id}"))["trace"]["trace_info"] == found
    assert does(post(wire, f"{NEW}/batchGetInfos", trace_ids=[id, "tr-absent"]))["trace_infos"] == [found]
    old = does(wire.http.get(f"{OLD}/{id}/info"))["trace_info"]
    assert (old["request_id"], old["timestamp_ms"], old["execution_time_ms"]) == (id, 1769860800123, 1500)


def test_trace_sent_twice_is_joined(wire: Wire, experiment: str) -> None:
    first = started(wire, experiment)
    id = first["trace_id"]
    does(wire.http.patch(f"{OLD}/{id}/tags", json={"key": "k", "value": "v"}))
    again = started(wire, experiment, trace_id=id, state="ERROR", trace_metadata={"more": "1"})
    assert again["state"] == "ERROR"
    assert again["trace_metadata"] == {"mlflow.source.name": "x", "more": "1"}
    assert again["tags"]["k"] == "v"
    refused(post(wire, NEW, trace={"trace_info": sent(wire.experiment(), trace_id=id)}), "another experiment")


def test_trace_of_clients_before_three(wire: Wire, experiment: str) -> None:
    made = does(post(wire, OLD, experiment_id=experiment, timestamp_ms="1000", tags=[{"key": "a", "value": "b"}]))[
        "trace_info"
    ]
    assert (made["status"], made["timestamp_ms"]) == ("IN_PROGRESS", 1000)
    ended = does(
        wire.http.patch(
            f"{OLD}/{made['request_id']}",
            json={"timestamp_ms": 1250, "status": "OK", "request_metadata": [{"key": "m", "value": "n"}]},
        )
    )["trace_info"]
    assert (ended["status"], ended["execution_time_ms"]) == ("OK", 250)
    assert pairs(ended["request_metadata"]) == {"m": "n"}
    assert pairs(ended["tags"])["a"] == "b"
    found = does(wire.http.get(OLD, params={"experiment_ids": [experiment], "filter": "tags.a = 'b'"}))
    assert [one["request_id"] for one in found["traces"]] == [made["request_id"]]


def search(wire: Wire, experiment: str, **body: Any) -> list[str]:
    found: list[str] = []
    body["locations"] = [{"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": experiment}}]
    while True:
        page = does(post(wire, f"{NEW}/search", **body))
        found += [one["trace_id"] for one in page["traces"]]
        body["page_token"] = page.get("next_page_token")
        if not body["page_token"]:
            return found


def test_search(wire: Wire, experiment: str) -> None:
    run = wire.run(experiment)
    ids = [
        started(
            wire,
            experiment,
            request_time=f"2026-01-0{day}T00:00:00Z",
            execution_duration=f"{10 - day}s",
            state="ERROR" if day == 2 else "OK",
            trace_metadata={"mlflow.sourceRun": run} if day == 1 else {},
            tags={"mlflow.traceName": f"call {day}"},
        )["trace_id"]
        for day in (1, 2, 3)
    ]
    assert search(wire, experiment, max_results=1) == ids[::-1]
    assert search(wire, experiment, order_by=["timestamp_ms ASC"], max_results=2) == ids
    assert search(wire, experiment, order_by=["execution_time ASC"]) == ids[::-1]
    assert search(wire, experiment, filter="trace.status = 'ERROR'") == [ids[1]]
    assert search(wire, experiment, filter="name LIKE 'call %' AND timestamp_ms > 1767312000000") == [ids[2]]
    assert search(wire, experiment, filter=f"run_id = '{run}'") == [ids[0]]
    does(post(wire, f"{OLD}/link-to-run", trace_ids=[ids[2], "tr-absent"], run_id=run))
    assert search(wire, experiment, filter=f"run_id = '{run}'") == [ids[2], ids[0]]
    missing(post(wire, f"{OLD}/link-to-run", trace_ids=ids, run_id="0" * 32))
    refused(post(wire, f"{OLD}/link-to-run", trace_ids=[str(one) for one in range(101)], run_id=run), "100")


def test_wrong_searches(wire: Wire, experiment: str) -> None:
    where = [{"mlflow_experiment": {"experiment_id": experiment}}]
    refused(post(wire, f"{NEW}/search"), "locations")
    refused(post(wire, f"{NEW}/search", locations=where, filter="span.name = 'x'"), "spans")
    refused(post(wire, f"{NEW}/search", locations=where, filter="a = "), "Invalid")
    refused(post(wire, f"{NEW}/search", locations=where, page_token="x"), "page token")
    refused(post(wire, f"{NEW}/search", locations=where, max_results=501), "max_results")


def test_tags(wire: Wire, experiment: str) -> None:
    id = started(wire, experiment)["trace_id"]
    for base in (OLD, NEW):
        assert does(wire.http.patch(f"{base}/{id}/tags", json={"key": "k", "value": "v"})) == {}
        assert does(delete(wire, f"{base}/{id}/tags", key="k")) == {}
        missing(delete(wire, f"{base}/{id}/tags", key="k"), "No trace tag with key 'k'")
    for key in ("mlflow.artifactLocation", "", "x" * 251):
        refused(wire.http.patch(f"{NEW}/{id}/tags", json={"key": key, "value": "file:///etc"}))
    missing(wire.http.patch(f"{NEW}/tr-absent/tags", json={"key": "k", "value": "v"}), "not found")


@pytest.mark.parametrize(
    "wrong",
    [
        {"trace_id": "../up"},
        {"trace_id": ""},
        {"trace_id": "a\0"},
        {"request_time": "yesterday"},
        {"request_time": "2026-13-45T00:00:00Z"},
        {"execution_duration": 5},
        {"state": "FINE"},
        {"tags": {"a": 1}},
        {"tags": ["a"]},
        {"trace_location": {"type": "INFERENCE_TABLE"}},
        {"trace_location": {"mlflow_experiment": {"experiment_id": "x"}}},
        {"assessments": [{"assessment_name": "neither"}]},
    ],
)
def test_wrong_traces(wire: Wire, experiment: str, wrong: dict[str, Any]) -> None:
    refused(post(wire, NEW, trace={"trace_info": sent(experiment, **wrong)}))


def test_deletion(wire: Wire, experiment: str) -> None:
    ids = [started(wire, experiment, request_time=f"2026-01-0{day}T00:00:00Z")["trace_id"] for day in (1, 2, 3)]
    path = f"{OLD}/delete-traces"
    refused(post(wire, path, experiment_id=experiment), "Either `max_timestamp_millis` or `trace_ids`")
    refused(post(wire, path, experiment_id=experiment, request_ids=ids, max_timestamp_millis=1), "Only one")
    refused(post(wire, path, experiment_id=experiment, max_timestamp_millis=1, max_traces=0), "positive")
    assert does(post(wire, path, experiment_id=wire.experiment(), request_ids=ids)) == {"traces_deleted": 0}
    assert does(post(wire, path, experiment_id=experiment, max_timestamp_millis="1800000000000", max_traces=1)) == {
        "traces_deleted": 1
    }
    assert search(wire, experiment) == [ids[2], ids[1]]
    assert does(post(wire, path, experiment_id=experiment, request_ids=ids)) == {"traces_deleted": 2}
    missing(wire.http.get(f"{NEW}/{ids[2]}"), "not found")


def assessed(wire: Wire, id: str, **more: Any) -> Any:
    body = {"assessment_name": "good", "source": {"source_type": "HUMAN", "source_id": "ann"}, **more}
    return does(post(wire, f"{NEW}/{id}/assessments", assessment=body))["assessment"]


def test_assessments(wire: Wire, experiment: str) -> None:
    id = started(wire, experiment)["trace_id"]
    first = assessed(wire, id, feedback={"value": True}, metadata={"a": "b"}, rationale="because")
    path = f"{NEW}/{id}/assessments/{first['assessment_id']}"
    assert does(wire.http.get(path))["assessment"] == first
    assert does(wire.http.get(f"{NEW}/{id}"))["trace"]["trace_info"]["assessments"] == [first]
    assert search(wire, experiment, filter="feedback.good = 'true'") == [id]
    changed = does(
        wire.http.patch(
            path,
            json={
                "assessment": {"feedback": {"value": 0.5}, "metadata": {"c": "d"}, "rationale": "no"},
                "update_mask": "feedback,metadata",
            },
        )
    )["assessment"]
    assert (changed["feedback"], changed["metadata"]) == ({"value": 0.5}, {"a": "b", "c": "d"})
    assert changed["rationale"] == "because"
    second = assessed(wire, id, feedback={"value": False}, overrides=first["assessment_id"])
    assert does(wire.http.get(path))["assessment"]["valid"] is False
    assert search(wire, experiment, filter="feedback.good = 'false'") == [id]
    assert does(wire.http.delete(f"{NEW}/{id}/assessments/{second['assessment_id']}")) == {}
    assert does(wire.http.delete(f"{NEW}/{id}/assessments/{second['assessment_id']}")) == {}
    assert does(wire.http.get(path))["assessment"]["valid"] is True
    missing(wire.http.get(f"{NEW}/{id}/assessments/a-absent"), "Assessment with ID 'a-absent' not found")
    missing(post(wire, f"{NEW}/tr-absent/assessments", assessment={"feedback": {"value": 1}}))
    refused(post(wire, f"{NEW}/{id}/assessments", assessment={"feedback": {}, "expectation": {}}), "exactly one")
    refused(wire.http.patch(path, json={"assessment": {"expectation": {}}, "update_mask": "expectation"}))


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/v1/traces"), ("GET", f"{NEW}/get"), ("GET", f"{NEW}/batchGet")]
)
def test_what_is_not_supported_says_so(wire: Wire, method: str, path: str) -> None:
    refused(wire.http.request(method, path, content=b"\x0a\x00"), "artifacts", code="NOT_IMPLEMENTED", status=501)


def test_evaluation_datasets(wire: Wire, experiment: str) -> None:
    made = does(
        post(wire, f"{DATASETS}/create", name="questions", experiment_ids=[experiment], tags=json.dumps({"a": "b"}))
    )["dataset"]
    path = f"{DATASETS}/{made['dataset_id']}"
    assert (json.loads(made["tags"]), made["experiment_ids"]) == ({"a": "b"}, [experiment])
    rows = [{"inputs": {"q": "1", "n": 2}, "expectations": {"a": 1}}, {"inputs": {"q": "2"}, "outputs": "x"}]
    assert does(post(wire, f"{path}/records", records=json.dumps(rows))) == {"inserted_count": 2, "updated_count": 0}
    again = [{"inputs": {"n": 2, "q": "1"}, "expectations": {"b": 2}}, {"inputs": {"q": "3"}}]
    assert does(post(wire, f"{path}/records", records=json.dumps(again))) == {"inserted_count": 1, "updated_count": 1}
    page = does(wire.http.get(f"{path}/records", params={"max_results": 2}))
    found = json.loads(page["records"])
    rest = does(wire.http.get(f"{path}/records", params={"max_results": 2, "page_token": page["next_page_token"]}))
    found += json.loads(rest["records"])
    assert [one["inputs"].get("q") for one in found] == ["1", "2", "3"]
    assert found[0]["expectations"] == {"a": 1, "b": 2}
    told = does(wire.http.get(path))["dataset"]
    assert json.loads(told["profile"]) == {"num_records": 3}
    assert json.loads(told["schema"])["inputs"] == {"q": "string", "n": "integer"}
    assert told["digest"] != made["digest"] or told["last_update_time"] == made["last_update_time"]
    gone = [found[0]["dataset_record_id"], "dr-absent"]
    assert does(delete(wire, f"{path}/records", dataset_record_ids=gone)) == {"deleted_count": 1}
    does(wire.http.patch(f"{path}/tags", json={"tags": json.dumps({"c": "d"})}))
    does(wire.http.delete(f"{path}/tags/a"))
    other = wire.experiment()
    does(post(wire, f"{path}/add-experiments", experiment_ids=[other]))
    assert does(wire.http.get(f"{path}/experiment-ids"))["experiment_ids"] == [experiment, other]
    does(post(wire, f"{path}/remove-experiments", experiment_ids=[other]))
    body = {"experiment_ids": [experiment], "filter_string": "tags.c = 'd' AND name = 'questions'"}
    (only,) = does(post(wire, f"{DATASETS}/search", **body))["datasets"]
    assert only["dataset_id"] == made["dataset_id"]
    does(wire.http.delete(path))
    missing(wire.http.get(path), f"Evaluation dataset with id '{made['dataset_id']}' not found")


def test_wrong_evaluation_datasets(wire: Wire, experiment: str) -> None:
    refused(post(wire, f"{DATASETS}/create", name=""), "name")
    refused(post(wire, f"{DATASETS}/create", name="x", tags="[1]"), "tags")
    missing(post(wire, f"{DATASETS}/create", name="x", experiment_ids=["99999"]), "No Experiment")
    missing(post(wire, f"{DATASETS}/d-absent/records", records="[]"), "not found")
    made = does(post(wire, f"{DATASETS}/create", name="x"))["dataset"]["dataset_id"]
    for records in ("{}", "[1]", "nonsense", '[{"inputs": 1}]', "[" * 100_000):
        refused(post(wire, f"{DATASETS}/{made}/records", records=records), "records")
