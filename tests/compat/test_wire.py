"""Experiments, runs and metrics on MLflow's wire, as its clients of several languages send and expect them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from noria_server import Wire, missing, pairs, refused

AJAX = "/ajax-api/2.0/mlflow"
LONG = "9223372036854775807"


# -- experiments


def test_experiment_is_created_and_told(wire: Wire) -> None:
    number = wire.experiment("told", tags=[{"key": "a", "value": "1"}, {"key": "b"}])
    by_id = wire.reads("/experiments/get", experiment_id=number)["experiment"]
    by_name = wire.reads("/experiments/get-by-name", experiment_name="told")["experiment"]
    assert by_id == by_name
    assert (by_id["experiment_id"], by_id["name"], by_id["lifecycle_stage"]) == (number, "told", "active")
    assert by_id["artifact_location"] == f"mlflow-artifacts:/{number}"
    assert by_id["creation_time"] == by_id["last_update_time"] > 0
    assert pairs(by_id["tags"]) == {"a": "1", "b": ""}


def test_default_experiment_is_there_from_the_start(wire: Wire) -> None:
    found = wire.reads("/experiments/get", experiment_id="0")["experiment"]
    assert (found["name"], found["lifecycle_stage"]) == ("Default", "active")


def test_artifact_location_of_the_client_is_kept(wire: Wire) -> None:
    number = wire.experiment(artifact_location="s3://bucket/some/where")
    assert wire.reads("/experiments/get", experiment_id=number)["experiment"]["artifact_location"] == (
        "s3://bucket/some/where"
    )
    run = wire.of(wire.run(number))
    assert run["info"]["artifact_uri"] == f"s3://bucket/some/where/{run['info']['run_id']}/artifacts"


def test_relative_artifact_location_is_told_whole(wire: Wire) -> None:
    number = wire.experiment(artifact_location="my_location")
    found = wire.reads("/experiments/get", experiment_id=number)["experiment"]
    assert found["artifact_location"] == str(Path.cwd() / "my_location")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"name": 123}, "Invalid value 123 for parameter 'name'"),
        ({"name": None}, "Missing value for required parameter 'name'."),
        ({}, "Missing value for required parameter 'name'."),
        ({"name": ""}, "Missing value for required parameter 'name'."),
        ({"name": "x", "artifact_location": 9.0}, "Invalid value 9.0 for parameter 'artifact_location'"),
        ({"name": "x", "tags": "5"}, "Invalid value \"5\" for parameter 'tags'"),
        ({"name": "x", "tags": [{"value": "v"}]}, "tags[0].key"),
        ({"name": "x" * 501}, "'name' exceeds the maximum length of 500 characters"),
    ],
)
def test_wrong_experiment_is_refused(wire: Wire, body: dict[str, Any], words: str) -> None:
    refused(wire.post("/experiments/create", body), words)


def test_name_of_an_experiment_is_taken_once(wire: Wire) -> None:
    number = wire.experiment("taken")
    for stage in ("active", "deleted"):
        if stage == "deleted":
            wire.does("/experiments/delete", experiment_id=number)
        answer = wire.post("/experiments/create", {"name": "taken"})
        refused(answer, "Experiment(name=taken) already exists", code="RESOURCE_ALREADY_EXISTS")


def test_experiment_is_renamed_deleted_and_restored_with_its_runs(wire: Wire) -> None:
    number = wire.experiment("before")
    run = wire.run(number)
    wire.does("/experiments/update", experiment_id=number, new_name="after")
    assert wire.reads("/experiments/get", experiment_id=number)["experiment"]["name"] == "after"
    wire.does("/experiments/delete", experiment_id=number)
    assert wire.reads("/experiments/get", experiment_id=number)["experiment"]["lifecycle_stage"] == "deleted"
    assert wire.of(run)["info"]["lifecycle_stage"] == "deleted"
    refused(wire.post("/runs/create", {"experiment_id": number}), f"The experiment {number} must be in the 'active'")
    refused(
        wire.post("/experiments/update", {"experiment_id": number, "new_name": "again"}),
        "Cannot rename a non-active experiment.",
        code="INVALID_STATE",
    )
    missing(wire.post("/experiments/delete", {"experiment_id": number}), f"No Experiment with id={number} exists")
    wire.does("/experiments/restore", experiment_id=number)
    assert wire.of(run)["info"]["lifecycle_stage"] == "active"
    missing(wire.post("/experiments/restore", {"experiment_id": number}))


def test_unknown_experiment(wire: Wire) -> None:
    missing(wire.get("/experiments/get", experiment_id="987654"), "No Experiment with id=987654 exists")
    missing(wire.get("/experiments/get-by-name", experiment_name="none"), "Could not find experiment with name 'none'")
    missing(wire.post("/runs/create", {"experiment_id": "987654"}))
    refused(wire.get("/experiments/get", experiment_id="abc"), "Invalid experiment ID 'abc'")


def test_tags_of_experiments(wire: Wire) -> None:
    number, other = wire.experiment(), wire.experiment()
    for value in ("imagenet", "line\nline\nline", ""):
        wire.does("/experiments/set-experiment-tag", experiment_id=number, key="a key", value=value)
        assert pairs(wire.reads("/experiments/get", experiment_id=number)["experiment"]["tags"]) == {"a key": value}
    assert "tags" not in wire.reads("/experiments/get", experiment_id=other)["experiment"]
    wire.does("/experiments/delete-experiment-tag", experiment_id=number, key="a key")
    assert "tags" not in wire.reads("/experiments/get", experiment_id=number)["experiment"]
    missing(
        wire.post("/experiments/delete-experiment-tag", {"experiment_id": number, "key": "a key"}),
        f"No tag with name: a key in experiment with id {number}",
    )


def test_search_of_experiments(wire: Wire) -> None:
    tags = {"a": [{"key": "key", "value": "value"}], "ab": [{"key": "key", "value": "vaLue"}], "Abc": []}
    made = {name: wire.experiment(f"s-{name}", tags=given) for name, given in tags.items()}

    def names(filter: str, **more: Any) -> list[str]:
        query = {"filter": f"{filter} AND name LIKE 's-%'" if filter else "name LIKE 's-%'", "max_results": 100, **more}
        found = wire.does("/experiments/search", **query)
        assert wire.reads("/experiments/search", **query) == found
        return [one["name"][2:] for one in found.get("experiments", [])]

    assert names("") == ["Abc", "ab", "a"]
    assert names("attribute.name = 's-a'") == ["a"]
    assert names("attribute.name != 's-a'") == ["Abc", "ab"]
    assert names("name LIKE 's-a%'") == ["ab", "a"]
    assert names("name ILIKE 'S-A%'") == ["Abc", "ab", "a"]
    assert names("tag.key = 'value'") == ["a"]
    assert names("tags.`key` != 'value'") == ["ab"]
    assert names("tag.key ILIKE '%alu%'") == ["ab", "a"]
    assert names("", order_by=["name DESC"]) == ["ab", "a", "Abc"]
    assert names("", order_by=["name ASC"]) == ["Abc", "a", "ab"]
    assert names("", order_by=["experiment_id"]) == ["a", "ab", "Abc"]
    assert names("creation_time > 0 AND last_update_time >= 1") == ["Abc", "ab", "a"]
    wire.does("/experiments/delete", experiment_id=made["ab"])
    assert names("", view_type="ACTIVE_ONLY") == ["Abc", "a"]
    assert names("", view_type="DELETED_ONLY") == ["ab"]
    assert names("", view_type="ALL") == names("", view_type="3") == ["Abc", "ab", "a"]


def test_search_of_experiments_by_pages(wire: Wire) -> None:
    made = [wire.experiment(f"page {number}") for number in range(5)]
    found, body = [], {"max_results": 2, "filter": "name LIKE 'page %'"}
    while True:
        page = wire.does("/experiments/search", **body)
        assert len(page["experiments"]) <= 2
        found += [one["experiment_id"] for one in page["experiments"]]
        if "next_page_token" not in page:
            break
        body["page_token"] = page["next_page_token"]
    assert found == made[::-1]


# -- runs


def test_run_is_created_with_all_it_is_given(wire: Wire) -> None:
    number = wire.experiment()
    tags = [{"key": "mlflow.user", "value": "ada"}, {"key": "mlflow.parentRunId", "value": "7"}, {"key": "my"}]
    made = wire.does(
        "/runs/create", experiment_id=number, user_id="ada", start_time="456", run_name="my name", tags=tags
    )["run"]
    run = made["info"]["run_id"]
    fetched = wire.of(run)
    assert fetched["info"] == made["info"]
    info = made["info"]
    assert len(run) == 32
    assert int(run, 16) >= 0
    assert info == {
        "run_id": run, "run_uuid": run, "run_name": "my name", "experiment_id": number, "user_id": "ada",
        "status": "RUNNING", "start_time": 456, "lifecycle_stage": "active",
        "artifact_uri": f"mlflow-artifacts:/{number}/{run}/artifacts",
    }  # fmt: skip
    want = {"mlflow.user": "ada", "mlflow.parentRunId": "7", "my": "", "mlflow.runName": "my name"}
    assert pairs(made["data"]["tags"]) == pairs(fetched["data"]["tags"]) == want
    (found,) = wire.does("/runs/search", experiment_ids=[number])["runs"]
    assert found == fetched


def test_run_without_a_name_is_given_one(wire: Wire) -> None:
    run = wire.of(wire.run())
    assert run["info"]["run_name"]
    assert pairs(run["data"]["tags"]) == {"mlflow.runName": run["info"]["run_name"]}


def test_name_of_a_run_may_come_as_a_tag(wire: Wire) -> None:
    tags = [{"key": "mlflow.runName", "value": "tagged"}]
    run = wire.run(tags=tags)
    assert wire.of(run)["info"]["run_name"] == "tagged"
    refused(
        wire.post("/runs/create", {"experiment_id": "0", "run_name": "other", "tags": tags}),
        "Both 'run_name' argument and 'mlflow.runName' tag are specified, but with different values",
    )
    wire.does("/runs/set-tag", run_id=run, key="mlflow.runName", value="renamed")
    assert wire.of(run)["info"]["run_name"] == "renamed"
    wire.does("/runs/update", run_id=run, run_name="again")
    assert wire.tags(run)["mlflow.runName"] == "again"


@pytest.mark.parametrize(
    ("status", "told"), [("FINISHED", "FINISHED"), (4, "FAILED"), ("5", "KILLED"), ("SCHEDULED",) * 2]
)
def test_run_ends(wire: Wire, status: str | int, told: str) -> None:
    run = wire.run()
    assert "end_time" not in wire.of(run)["info"]
    info = wire.does("/runs/update", run_id=run, status=status, end_time="123")["run_info"]
    assert (info["status"], info["end_time"]) == (told, 123)
    assert wire.of(run)["info"] == info
    wire.does("/runs/update", run_uuid=run, run_name="named later")
    info = wire.of(run)["info"]
    assert (info["status"], info["end_time"], info["run_name"]) == (told, 123, "named later")


def test_ended_run_takes_more_and_may_be_resumed(wire: Wire) -> None:
    run = wire.run()
    wire.does("/runs/update", run_id=run, status="FINISHED", end_time=1)
    wire.does("/runs/log-metric", run_id=run, key="late", value=1, timestamp=2)
    wire.does("/runs/update", run_id=run, status="RUNNING")
    assert (wire.of(run)["info"]["status"], wire.metrics(run)) == ("RUNNING", {"late": 1.0})


def test_deleted_run(wire: Wire) -> None:
    number = wire.experiment()
    run, other = wire.run(number), wire.run(number)
    wire.does("/runs/set-tag", run_id=run, key="t", value="v")
    wire.does("/runs/delete", run_id=run)
    assert wire.of(run)["info"]["lifecycle_stage"] == "deleted"
    gone = f"The run {run} must be in the 'active' state. Current state is deleted."
    point = {"key": "m", "value": 1, "timestamp": 1}
    for path, body in (
        ("log-metric", point),
        ("log-parameter", {"key": "p", "value": "v"}),
        ("set-tag", {"key": "t", "value": "v"}),
        ("delete-tag", {"key": "t"}),
        ("log-batch", {"metrics": [point]}),
        ("log-inputs", {"datasets": []}),
        ("update", {"status": "FINISHED"}),
    ):
        refused(wire.post(f"/runs/{path}", {"run_id": run, **body}), gone)
    assert wire.search(number) == [other]
    assert wire.search(number, run_view_type="DELETED_ONLY") == [run]
    assert set(wire.search(number, run_view_type="ALL")) == {run, other}
    wire.does("/runs/restore", run_id=run)
    assert set(wire.search(number)) == {run, other}


def test_unknown_run(wire: Wire) -> None:
    unknown = "f" * 32
    missing(wire.get("/runs/get", run_id=unknown), f"Run with id={unknown} not found")
    missing(wire.get("/metrics/get-history", run_id=unknown, metric_key="m"))
    point = {"key": "m", "value": 1, "timestamp": 1}
    for path, body in (
        ("log-metric", point),
        ("log-parameter", {"key": "p", "value": "v"}),
        ("set-tag", {"key": "t", "value": "v"}),
        ("delete-tag", {"key": "t"}),
        ("log-batch", {"metrics": [point]}),
        ("log-inputs", {"datasets": []}),
        ("update", {"status": "FINISHED"}),
        ("delete", {}),
        ("restore", {}),
    ):
        missing(wire.post(f"/runs/{path}", {"run_id": unknown, **body}), f"Run with id={unknown} not found")


def test_tag_is_removed(wire: Wire) -> None:
    run = wire.run()
    wire.does("/runs/set-tag", run_uuid=run, key="t", value="v")
    wire.does("/runs/delete-tag", run_id=run, key="t")
    assert "t" not in wire.tags(run)
    missing(wire.post("/runs/delete-tag", {"run_id": run, "key": "t"}), f"No tag with name: t in run with id {run}")


# -- metrics, params, tags


def test_metrics_params_and_tags_one_by_one(wire: Wire) -> None:
    run = wire.run()
    wire.does("/runs/log-metric", run_id=run, key="m", value=123.456, timestamp=789, step=2)
    for key, value in (("nan", "NaN"), ("inf", "Infinity"), ("-inf", "-Infinity")):
        wire.does("/runs/log-metric", run_id=run, key=key, value=value, timestamp="1")
    wire.does("/runs/log-metric", run_uuid=run, key="no step", value="987.5", timestamp=321)
    wire.does("/runs/log-parameter", run_id=run, key="p", value="value")
    wire.does("/runs/log-parameter", run_id=run, key="empty", value="")
    wire.does("/runs/set-tag", run_id=run, key="t", value="do-dah")
    wire.does("/runs/set-tag", run_id=run, key="empty")
    assert wire.metrics(run) == {"m": 123.456, "nan": "NaN", "inf": "Infinity", "-inf": "-Infinity", "no step": 987.5}
    assert wire.params(run) == {"p": "value", "empty": ""}
    assert wire.tags(run).items() >= {"t": "do-dah", "empty": ""}.items()
    history = wire.reads("/metrics/get-history", run_id=run, metric_key="m")
    assert history == {"metrics": [{"key": "m", "value": 123.456, "timestamp": 789, "step": 2}]}
    (point,) = wire.reads("/metrics/get-history", run_uuid=run, metric_key="no step")["metrics"]
    assert point["step"] == 0
    assert not wire.reads("/metrics/get-history", run_id=run, metric_key="none").get("metrics")


def test_numbers_come_as_text_too(wire: Wire) -> None:
    run = wire.run(start_time=LONG)
    assert wire.of(run)["info"]["start_time"] == int(LONG)
    wire.does("/runs/log-metric", run_id=run, key="m", value="1e3", timestamp=LONG, step="-9223372036854775807")
    (point,) = wire.reads("/metrics/get-history", run_id=run, metric_key="m")["metrics"]
    assert point == {"key": "m", "value": 1000.0, "timestamp": int(LONG), "step": -int(LONG)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"run_id": 31}, "Invalid value 31 for parameter 'run_id' supplied"),
        ({"key": 31}, "Invalid value 31 for parameter 'key' supplied"),
        ({"step": "foo"}, "Invalid value \"foo\" for parameter 'step' supplied"),
        ({"timestamp": "foo"}, "Invalid value \"foo\" for parameter 'timestamp' supplied"),
        ({"value": "foo"}, "Invalid value \"foo\" for parameter 'value' supplied"),
        ({"run_id": None}, "Missing value for required parameter 'run_id'"),
        ({"key": None}, "Missing value for required parameter 'key'"),
        ({"value": None}, "Missing value for required parameter 'value'"),
        ({"timestamp": None}, "Missing value for required parameter 'timestamp'"),
        ({"timestamp": -1}, "Invalid value -1 for parameter 'timestamp' supplied"),
        ({"value": True}, "Invalid value true for parameter 'value' supplied"),
        ({"key": "a" * 251}, "exceeds the maximum length of 250 characters"),
    ],
)
def test_wrong_metric_is_refused(wire: Wire, change: dict[str, Any], words: str) -> None:
    run = wire.run()
    body = {"run_id": run, "key": "metric", "value": 41, "timestamp": 59, "step": 26, **change}
    refused(wire.post("/runs/log-metric", body), words)
    assert wire.metrics(run) == {}


@pytest.mark.parametrize("path", ["log-parameter", "set-tag"])
def test_wrong_param_or_tag_is_refused(wire: Wire, path: str) -> None:
    run = wire.run()
    for change, words in (
        ({"run_id": 31}, "Invalid value 31 for parameter 'run_id' supplied"),
        ({"key": 31}, "Invalid value 31 for parameter 'key' supplied"),
        ({"value": 41}, "Invalid value 41 for parameter 'value' supplied"),
        ({"key": None}, "Missing value for required parameter 'key'"),
        ({"key": "a//b"}, "Invalid value \"a//b\" for parameter 'key' supplied"),
    ):
        refused(wire.post(f"/runs/{path}", {"run_id": run, "key": "k", "value": "v", **change}), words)


def test_batch(wire: Wire) -> None:
    run = wire.run()
    wire.does(
        "/runs/log-batch",
        run_id=run,
        metrics=[{"key": "m", "value": 123.456, "timestamp": 789, "step": 3}, {"key": "m", "value": 1, "timestamp": 5}],
        params=[{"key": "p", "value": "value"}, {"key": "empty"}],
        tags=[{"key": "t", "value": "do-dah"}, {"key": "empty", "value": ""}],
    )
    assert (wire.metrics(run), wire.params(run)) == ({"m": 123.456}, {"p": "value", "empty": ""})
    assert wire.tags(run).items() >= {"t": "do-dah", "empty": ""}.items()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"metrics": "foo"}, "Invalid value \"foo\" for parameter 'metrics' supplied"),
        ({"params": "foo"}, "Invalid value \"foo\" for parameter 'params' supplied"),
        ({"tags": "foo"}, "Invalid value \"foo\" for parameter 'tags' supplied"),
        ({"metrics": [{"key": "m", "value": 2.5}]}, "Missing value for required parameter 'metrics[0].timestamp'"),
        ({"metrics": [{"key": "m", "timestamp": 1}]}, "Missing value for required parameter 'metrics[0].value'"),
        ({"params": [{"value": "v"}]}, "Missing value for required parameter 'params[0].key'"),
        ({"tags": [{"key": "t"}, {"key": ""}]}, "Missing value for required parameter 'tags[1].key'"),
        ({"params": [{"key": "p", "value": "1"}] * 2}, "Duplicate parameter keys have been submitted: ['p']"),
        ({"metrics": [{"key": "../m", "value": 1, "timestamp": 1}]}, "for parameter 'metrics[0].name' supplied"),
    ],
)
def test_wrong_batch_is_refused_whole(wire: Wire, body: dict[str, Any], words: str) -> None:
    run = wire.run()
    good = {"metrics": [{"key": "good", "value": 1, "timestamp": 1}], "params": [{"key": "good", "value": "1"}]}
    refused(wire.post("/runs/log-batch", {"run_id": run, **good, **body}), words)
    assert (wire.metrics(run), wire.params(run)) == ({}, {})


def test_metric_that_is_sent_again_is_not_doubled(wire: Wire) -> None:
    run = wire.run()
    point = {"key": "m", "value": 0.5, "timestamp": 1, "step": 1}
    for _ in range(3):
        wire.does("/runs/log-batch", run_id=run, metrics=[point, point])
        wire.does("/runs/log-metric", run_id=run, **point)
    assert wire.reads("/metrics/get-history", run_id=run, metric_key="m") == {"metrics": [point]}


def test_newest_value_is_of_the_highest_step_then_time_then_value(wire: Wire) -> None:
    run = wire.run()
    for step, time, value in ((3, 1, 1.0), (2, 9, 9.0), (3, 2, 2.0), (3, 2, 1.0), (-1, 99, 7.0)):
        wire.does("/runs/log-metric", run_id=run, key="m", value=value, timestamp=time, step=step)
    assert wire.metrics(run) == {"m": 2.0}


def test_param_is_written_once(wire: Wire) -> None:
    run = wire.run()
    wire.does("/runs/log-parameter", run_id=run, key="p", value="1")
    wire.does("/runs/log-parameter", run_id=run, key="p", value="1")
    wire.does("/runs/log-batch", run_id=run, params=[{"key": "p", "value": "1"}])
    refused(
        wire.post("/runs/log-parameter", {"run_id": run, "key": "p", "value": "2"}),
        "Changing param values is not allowed. Param with key='p' was already logged with value='1'",
        f"for run ID='{run}'",
    )
    both = [{"key": "new", "value": "1"}, {"key": "p", "value": "2"}]
    refused(wire.post("/runs/log-batch", {"run_id": run, "params": both}), "Changing param values is not allowed.")
    assert wire.params(run) == {"p": "1"}


def test_long_values_are_cut_at_the_limits(wire: Wire) -> None:
    run = wire.run()
    wire.does("/runs/log-parameter", run_id=run, key="p", value="p" * 6001)
    wire.does("/runs/log-parameter", run_id=run, key="p", value="p" * 7000)
    wire.does("/runs/set-tag", run_id=run, key="t", value="t" * 8001)
    assert (wire.params(run)["p"], wire.tags(run)["t"]) == ("p" * 6000, "t" * 8000)


# -- inputs and outputs


DATASET = {"name": "name1", "digest": "digest1", "source_type": "local", "source": "source1"}


def test_inputs(wire: Wire) -> None:
    number = wire.experiment()
    run = wire.run(number)
    tags = [{"key": "foo", "value": "baz"}, {"key": "mlflow.data.context", "value": "training"}]
    given = [{"dataset": {**DATASET, "schema": "{}", "profile": "{}"}, "tags": tags}]
    for _ in range(2):
        wire.does("/runs/log-inputs", run_id=run, datasets=given)
    (told,) = wire.of(run)["inputs"]["dataset_inputs"]
    assert told == given[0]
    for path in (f"{AJAX}/experiments/search-datasets", "/api/2.0mlflow/experiments/search-datasets"):
        found = wire.http.post(path, json={"experiment_ids": [number]}).json()
        assert found["dataset_summaries"] == [
            {"experiment_id": number, "name": "name1", "digest": "digest1", "context": "training"}
        ]
    assert wire.search(number, filter="dataset.name = 'name1' AND datasets.context LIKE 'train%'") == [run]
    assert wire.search(number, filter="dataset.digest IN ('other')") == []


def test_models_that_a_run_read_and_made(wire: Wire) -> None:
    run = wire.run()
    wire.does("/runs/log-inputs", run_id=run, models=[{"model_id": "m-1"}])
    wire.does("/runs/outputs", run_id=run, models=[{"model_id": "m-2", "step": "3"}])
    told = wire.of(run)
    assert told["inputs"]["model_inputs"] == [{"model_id": "m-1"}]
    assert told["outputs"]["model_outputs"] == [{"model_id": "m-2", "step": 3}]


def test_wrong_inputs_are_refused(wire: Wire) -> None:
    run = wire.run()
    refused(wire.post("/runs/log-inputs", {"datasets": [{"dataset": DATASET}]}), "required parameter 'run_id'")
    for change, words in (
        ({"name": "n" * 501}, "dataset.name"),
        ({"digest": "d" * 37}, "dataset.digest"),
        ({"source": None}, "dataset.source"),
    ):
        refused(wire.post("/runs/log-inputs", {"run_id": run, "datasets": [{"dataset": {**DATASET, **change}}]}), words)
    assert wire.of(run)["inputs"] == {}


def test_search_of_datasets_needs_experiments(wire: Wire) -> None:
    path = f"{AJAX}/experiments/search-datasets"
    for none in ({}, {"experiment_ids": list[str]()}):
        refused(wire.http.post(path, json=none), "SearchDatasets request must specify at least one experiment_id.")
    many = {"experiment_ids": [f"id_{number}" for number in range(1000)]}
    refused(wire.http.post(path, json=many), "SearchDatasets request cannot specify more than")


# -- histories

CURVE = [(1, 2, 10.0), (1, 3, 11.0), (1, 3, 12.0), (2, 3, 12.0), (7, -2, -100.0)]


def curve(wire: Wire, run: str, points: list[tuple[int, int, float]]) -> list[dict[str, Any]]:
    told = [{"key": "m", "value": value, "timestamp": time, "step": step} for time, step, value in points]
    wire.does("/runs/log-batch", run_id=run, metrics=told)
    return told


def test_history_by_pages(wire: Wire) -> None:
    run = wire.run()
    points = curve(wire, run, [(1000 + number, number, float(number)) for number in range(10)])
    query: dict[str, Any] = {"run_id": run, "metric_key": "m", "max_results": 4}
    found, sizes = [], []
    while True:
        page = wire.reads("/metrics/get-history", **query)
        found += page["metrics"]
        sizes.append(len(page["metrics"]))
        if "next_page_token" not in page:
            break
        query["page_token"] = page["next_page_token"]
    assert (found, sizes) == (points, [4, 4, 2])
    whole = wire.reads("/metrics/get-history", run_id=run, metric_key="m")
    assert whole == {"metrics": points}
    refused(wire.get("/metrics/get-history", run_id=run, metric_key="m", page_token="invalid_token"))
    refused(wire.get("/metrics/get-history", run_id=run, metric_key="m", max_results=0), "max_results")


def test_history_of_what_is_not_finite_by_pages(wire: Wire) -> None:
    run = wire.run()
    values = [-math.inf, -1.0, 0.0, 1.0, math.inf]
    for value in [*values, math.nan]:
        sent = value if math.isfinite(value) else {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}[str(value)]
        wire.does("/runs/log-metric", run_id=run, key="m", value=sent, timestamp=5, step=5)
    query: dict[str, Any] = {"run_id": run, "metric_key": "m", "max_results": 1}
    found = []
    for _ in range(10):
        page = wire.reads("/metrics/get-history", **query)
        found += [point["value"] for point in page["metrics"]]
        if "next_page_token" not in page:
            break
        query["page_token"] = page["next_page_token"]
    assert sorted(map(str, found)) == sorted(["-Infinity", "-1.0", "0.0", "1.0", "Infinity", "NaN"])


def test_histories_of_several_runs(wire: Wire) -> None:
    runs = sorted(wire.run() for _ in range(3))
    told = {run: curve(wire, run, [(t, s, v + place) for t, s, v in CURVE]) for place, run in enumerate(runs[:2])}
    path = f"{AJAX}/metrics/get-history-bulk"

    def bulk(**query: Any) -> Any:
        answer = wire.http.get(path, params={"metric_key": "m", **query})
        assert answer.status_code == 200, answer.text
        return answer.json()["metrics"]

    want = [{**point, "run_id": run} for run in runs[:2] for point in told[run]]
    assert bulk(run_id=runs[::-1]) == want
    assert bulk(run_id=runs[:1]) == want[: len(CURVE)]
    assert bulk(run_id=runs[:1], max_results=2) == want[:2]
    for query, words in (
        ({"metric_key": "m"}, "GetMetricHistoryBulk request must specify at least one run_id"),
        ({"metric_key": "m", "run_id": [f"id_{n}" for n in range(1000)]}, "request cannot specify more than"),
        ({"run_id": ["123"]}, "GetMetricHistoryBulk request must specify a metric_key"),
    ):
        refused(wire.http.get(path, params=query), words)


def test_sampled_histories(wire: Wire) -> None:
    first, second = wire.run(), wire.run()
    points = {first: curve(wire, first, [(1, step, 10.0) for step in range(10)]),
              second: curve(wire, second, [(1, step, 10.0) for step in range(20)])}  # fmt: skip

    def sampled(runs: list[str], **query: Any) -> Any:
        query = {"run_ids": runs, "metric_key": "m", "max_results": 5, **query}
        return wire.http.get(f"{AJAX}/metrics/get-history-bulk-interval", params=query).json()["metrics"]

    def at(steps: set[int], *runs: str) -> list[dict[str, Any]]:
        return [{**point, "run_id": run} for run in runs for point in points[run] if point["step"] in steps]

    assert sampled([first]) == at({0, 2, 4, 6, 8, 9}, first)
    assert sampled([first], start_step=0, end_step=4) == at({0, 1, 2, 3, 4}, first)
    assert sampled([first, second]) == at({0, 4, 8, 9, 12, 16, 19}, first, second)
    again = curve(wire, first, [(2, step, 10.0) for step in range(10)])
    points[first] = sorted(points[first] + again, key=lambda point: (point["step"], point["timestamp"]))
    assert sampled([first]) == at({0, 2, 4, 6, 8, 9}, first)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"metric_key": "m"}, "Missing value for required parameter 'run_ids'."),
        ({"metric_key": "m", "run_ids": [f"id_{number}" for number in range(1000)]},
         "GetMetricHistoryBulkInterval request must specify at most 100 run_ids."),
        ({"metric_key": "m", "run_ids": ["1"], "max_results": 0}, "max_results must be between 1 and 2500"),
        ({"metric_key": "m", "run_ids": ["1"], "max_results": 2501}, "max_results must be between 1 and 2500"),
        ({"metric_key": "", "run_ids": ["1"]}, "Missing value for required parameter 'metric_key'"),
        ({"run_ids": ["1"]}, "Missing value for required parameter 'metric_key'"),
        ({"metric_key": "m", "run_ids": ["1"], "start_step": 1, "end_step": 0},
         "end_step must be greater than start_step. "),
        ({"metric_key": "m", "run_ids": ["1"], "start_step": 1},
         "If either start step or end step are specified, both must be specified."),
    ],
)  # fmt: skip
def test_wrong_sampled_history_is_refused(wire: Wire, query: dict[str, Any], words: str) -> None:
    refused(wire.http.get(f"{AJAX}/metrics/get-history-bulk-interval", params=query), words)


# -- searches


def test_runs_by_pages(wire: Wire) -> None:
    number = wire.experiment()
    runs = sorted(wire.run(number) for _ in range(10))
    assert wire.search(number, max_results=4) == wire.search(number) == runs
    assert wire.search(number, max_results="10") == runs
    refused(
        wire.post("/runs/search", {"max_results": 123456789}), "Invalid value 123456789 for parameter 'max_results'"
    )


def test_newer_runs_come_first(wire: Wire) -> None:
    number = wire.experiment()
    runs = [wire.run(number, start_time=time) for time in (5, 7, 6)]
    assert wire.search(number) == [runs[1], runs[2], runs[0]]
    assert wire.search(number, order_by=["attributes.start_time ASC"]) == [runs[0], runs[2], runs[1]]


@pytest.mark.parametrize(
    "term", ["metrics.m", "metrics.m DESC", "metrics.m ASC", 'metric."m" desc', "params.p", "tags.t DESC"]
)
@pytest.mark.parametrize("size", [1, 2, 100])
def test_order_puts_nan_and_absent_last_on_every_page(wire: Wire, term: str, size: int) -> None:
    number = wire.experiment()
    runs = {}
    for place, value in enumerate(["-Infinity", -2.5, 0.0, 2.5, "Infinity", "NaN", None]):
        run = runs[value] = wire.run(number, start_time=place)
        if value is not None:
            wire.does("/runs/log-metric", run_id=run, key="m", value=value, timestamp=1)
            wire.does("/runs/log-parameter", run_id=run, key="p", value=str(place))
            wire.does("/runs/set-tag", run_id=run, key="t", value=str(place))
    known = ["-Infinity", -2.5, 0.0, 2.5, "Infinity"] + ([] if "m" in term.split(".")[1] else ["NaN"])
    if term.lower().endswith("desc"):
        known.reverse()
    rest = ["NaN", None] if "NaN" not in known else [None]
    assert wire.search(number, order_by=[term], max_results=size) == [runs[value] for value in (*known, *rest)]


def test_every_operator_of_a_filter(wire: Wire) -> None:
    number = wire.experiment()
    one = wire.run(number, run_name="One", start_time=10, tags=[{"key": "team", "value": "Rivers"}], user_id="ada")
    two = wire.run(number, run_name="two", start_time=20, tags=[{"key": "a.b c", "value": "x"}], user_id="bob")
    wire.does("/runs/update", run_id=two, status="FAILED", end_time=25)
    for run, acc, depth in ((one, 0.5, "8"), (two, 0.75, "16")):
        wire.does("/runs/log-metric", run_id=run, key="acc", value=acc, timestamp=1)
        wire.does("/runs/log-metric", run_id=run, key="val/acc top", value=acc, timestamp=1)
        wire.does("/runs/log-parameter", run_id=run, key="depth", value=depth)

    def names(filter: str) -> set[str]:
        return {{one: "one", two: "two"}[run] for run in wire.search(number, filter=filter)}

    for filter, want in {
        "metrics.acc = 0.5": "one", "metrics.acc != 0.5": "two", "metric.acc > 0.5": "two",
        "metrics.acc >= 0.5": "one two", "metrics.acc < .75": "one", "metrics.acc <= 7.5e-1": "one two",
        "metrics.`acc` > 0.6": "two", 'metrics."acc" > 0.6': "two", "metrics.`val/acc top` < 0.6": "one",
        "metrics.acc > -1": "one two", "metrics.none > 0": "",
        "params.depth = '8'": "one", 'params.depth = "8"': "one", "params.depth != '8'": "two",
        "parameters.depth LIKE '1%'": "two", "param.depth ILIKE '%6'": "two",
        "params.depth IS NULL": "", "params.none IS NULL": "one two", "params.depth IS NOT NULL": "one two",
        "tags.team = 'Rivers'": "one", "tag.team LIKE 'riv%'": "", "tags.team ILIKE 'riv%'": "one",
        "tags.`a.b c` = 'x'": "two", 'tags."a.b c" = \'x\'': "two", "tags.a.b IS NULL": "one two",
        "tags.team IS NULL": "two", "tags.team is not null": "one",
        "attributes.status = 'RUNNING'": "one", "status != 'RUNNING'": "two", "attr.status ILIKE 'fail%'": "two",
        "attributes.start_time > 10": "two", "start_time <= 10": "one", "created = 20": "two", "end_time >= 25": "two",
        "attributes.run_name = 'One'": "one", "run_name LIKE 'O%'": "one", "`run name` = 'two'": "two",
        "attributes.`Run name` ILIKE 'ONE'": "one", "run.run_name != 'One'": "two",
        "attributes.user_id = 'ada'": "one", f"attributes.artifact_uri LIKE '%{two}%'": "two",
        f"run_id = '{one}'": "one", f"attributes.run_id IN ('{one}', 'x')": "one",
        f"run_id NOT IN ('{one}')": "two", f"run_id in ('{one}','{two}')": "one two",
        "attributes.status IN ('FAILED', 'KILLED')": "two",
        "metrics.acc > 0.1 AND params.depth = '16' and tags.`a.b c` LIKE '%'": "two",
        "metrics.acc > 0.6 AND params.depth = '8'": "", "": "one two",
    }.items():  # fmt: skip
        assert names(filter) == set(want.split()), filter


@pytest.mark.parametrize(
    ("filter", "words"),
    [
        ("metrics.acc > 'x'", "Expected numeric value type for metric"),
        ("params.p = 3", "Expected a quoted string value for param"),
        ("params.p > '3'", "Invalid comparator '>'"),
        ("metrics.acc LIKE 'x'", "Invalid comparator 'LIKE'"),
        ("acc.metrics > 1", "Invalid entity type 'acc'"),
        ("attribute.speed = 'x'", "Invalid attribute key 'speed'"),
        ("metrics.a > 1 OR metrics.b > 1", "Invalid clause(s) in filter string"),
        ("metrics.a >", "it ends too early"),
        ("metrics.a", "it ends too early"),
        ("datasets.colour = 'x'", "Invalid dataset key 'colour'"),
        ("start_time LIKE '1'", "Invalid comparator 'LIKE'"),
    ],
)
def test_wrong_filter_is_refused(wire: Wire, filter: str, words: str) -> None:
    refused(wire.post("/runs/search", {"experiment_ids": ["0"], "filter": filter}), words)


@pytest.mark.parametrize(
    "term", ["metrics", "acc.m", "metrics.m UP", "attribute.speed", "", "dataset.name", "metrics.m DESC x"]
)
def test_wrong_order_is_refused(wire: Wire, term: str) -> None:
    refused(wire.post("/runs/search", {"experiment_ids": ["0"], "order_by": [term]}), "order_by")


def test_search_of_several_experiments(wire: Wire) -> None:
    numbers = [wire.experiment() for _ in range(20)]
    runs = [wire.run(number, start_time=place % 7) for place, number in enumerate(numbers)]
    body: dict[str, Any] = {"experiment_ids": numbers, "max_results": 3}
    found = []
    while True:
        page = wire.does("/runs/search", **body)
        found += [run["info"]["run_id"] for run in page["runs"]]
        if "next_page_token" not in page:
            break
        body["page_token"] = page["next_page_token"]
    assert found == sorted(runs, key=lambda run: (-(runs.index(run) % 7), run))
    assert wire.does("/runs/search", experiment_ids=[]) == {"runs": []}


# -- addresses


def test_twin_addresses_and_the_servers_own(wire: Wire) -> None:
    assert wire.http.get(f"{AJAX}/experiments/get", params={"experiment_id": "0"}).status_code == 200
    assert wire.http.get("/health").text == "OK"
    assert wire.http.get("/version").text.count(".") == 2
    assert wire.http.get("/api/3.0/mlflow/server-info").json()["store_type"]
    refused(wire.http.get("/api/2.0/mlflow/nothing/here"), code="ENDPOINT_NOT_FOUND", status=404)
    refused(wire.http.get("/api/2.0/mlflow/runs/create"), code="BAD_REQUEST", status=405)


def test_body_may_be_json_in_json_or_without_a_type(wire: Wire) -> None:
    for number, content in enumerate(
        (b'"{\\"name\\": \\"twice %d\\"}"', b'{"name": "plain %d", "unknown": {"a": []}}')
    ):
        answer = wire.http.post("/api/2.0/mlflow/experiments/create", content=content % number)
        assert answer.status_code == 200, answer.text
