"""The data plane over real HTTP: right answers, and clear refusals of everything else."""

from __future__ import annotations

import json
import math
import socket
from typing import Any

import pytest
from serving import Served

GOOD = {"id": 1, "age": 40, "city": "Oslo", "bonus": 0.5}


def problems(body: Any) -> dict[tuple[int, str], str]:
    return {(detail["record"], detail.get("field", "")): detail["problem"] for detail in body["details"]}


@pytest.mark.parametrize("body", [GOOD, [GOOD], {"records": [GOOD]}])
def test_one_record_a_list_and_an_object_of_records_are_answered(steady: Served, body: Any) -> None:
    reply = steady.post("/predict/churn", body)
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    (one,) = reply.body["predictions"]
    assert one["version"] == 1
    assert one["prediction"] in (0, 1)
    assert set(one["probabilities"]) == {"0", "1"}
    assert sum(one["probabilities"].values()) == pytest.approx(1)
    found, label = steady.store.predictions.find(one["id"])
    assert (found.record, found.value, found.version, found.key, label) == (
        GOOD,
        one["prediction"],
        1,
        "1",
        None,
    )
    assert found.model_digest == steady.versions[0].model_digest


def test_a_record_is_answered_the_same_alone_and_among_others(steady: Served) -> None:
    records = [{**GOOD, "age": age} for age in range(18, 80)]
    together = steady.post("/predict/churn", records).body["predictions"]
    alone = [steady.post("/predict/churn", record).body["predictions"][0] for record in records[::10]]
    for one, again in zip(alone, together[::10], strict=True):
        assert one["probabilities"] == pytest.approx(again["probabilities"], abs=1e-12)
    assert len({one["id"] for one in together}) == len(records)


def test_what_may_be_missing_may_be_missing(steady: Served) -> None:
    for record in (
        {"age": 40, "city": "Oslo", "bonus": None},
        {**GOOD, "city": "Never seen"},
        {**GOOD, "churned": 1},
    ):
        assert steady.post("/predict/churn", record).status == 200


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        ({"agee": 1}, "agee", 'Did you mean "age"?'),
        ({"age": "forty"}, "age", "not a number"),
        ({"age": True}, "age", "not a number"),
        ({"age": 40.5}, "age", "not a whole number"),
        ({"age": math.inf}, "age", "inf is not a finite number"),
        ({"bonus": -math.inf}, "bonus", "-inf is not a finite number"),
        ({"city": math.inf}, "city", "inf is not text"),
        ({"age": 10**30}, "age", "outside"),
        ({"age": [40]}, "age", "not a number"),
        ({"age": {"a": [1, {"b": 2}]}}, "age", "not a number"),
        ({"city": 5}, "city", "not text"),
        ({"city": "x" * 200_000}, "city", "characters long"),
        ({"bonus": "0.5"}, "bonus", "not a number"),
    ],
)
def test_a_field_that_does_not_fit_is_named_with_its_record(
    steady: Served, change: dict[str, Any], field: str, said: str
) -> None:
    reply = steady.post("/predict/churn", [GOOD, {**GOOD, **change}, GOOD])
    assert reply.status == 422
    ((place, name),) = problems(reply.body)
    assert (place, name) == (1, field)
    assert said in problems(reply.body)[1, field]


def test_a_missing_field_is_named(steady: Served) -> None:
    reply = steady.post("/predict/churn", [GOOD, {"age": 40}])
    assert reply.status == 422
    assert problems(reply.body)[1, "city"] == "is missing"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b'{"age": NaN}',
        b'{"age": Infinity}',
        b'{"age": 1e400}',
        b"\xff\xfe\x00",
        b'{"city": "\\ud800"}',
        b"[" * 10_000 + b"]" * 10_000,
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        b'[{"age": ' + b"[" * 500 + b"]" * 500 + b"}]",
        b"[]",
        b'{"records": []}',
        b"null",
        b"5",
        b'"text"',
        b"[1, 2]",
        b"[[]]",
        b'{"records": [null]}',
    ],
    ids=lambda body: body[:20].decode("latin-1"),
)
def test_a_body_that_is_no_records_is_refused(steady: Served, body: bytes) -> None:
    for path in ("/predict/churn", "/labels/churn", "/v2/models/churn/infer"):
        reply = steady.request("POST", path, body)
        assert 400 <= reply.status < 500, (path, reply)
        assert reply.body["error"]


@pytest.mark.parametrize(
    "kind",
    [
        *("application/json", "Application/JSON; charset=UTF-8", "text/json", "application/vnd.api+json", "x-own/json"),
        *("application/x-www-form-urlencoded", ""),  # as `curl -d` and `curl -H 'Content-Type;'` send it
    ],
)
def test_json_is_read_whichever_way_it_is_called(steady: Served, kind: str) -> None:
    headers = {"Content-Type": kind}
    reply = steady.request("POST", "/predict/churn", json.dumps(GOOD).encode(), **headers)
    assert reply.status == 200
    made = reply.body["predictions"][0]["id"]
    label = json.dumps({"id": made, "label": 1}).encode()
    assert steady.request("POST", "/labels/churn", label, **headers).status == 200
    override = json.dumps({"id": made, "value": 1, "by": "me", "reason": "why"}).encode()
    assert steady.request("POST", "/overrides/churn", override, **headers).status == 200


OTHERS = ("application/xml", "image/png", "text/plain", "application/jsonp", "json", "a; b=/json")


@pytest.mark.parametrize("kind", OTHERS)
def test_another_content_type_is_refused_with_those_taken(steady: Served, kind: str) -> None:
    body, headers = json.dumps({**GOOD, "label": 1}).encode(), {"Content-Type": kind}
    reply = steady.request("POST", "/predict/churn", body, **headers)
    assert reply.status == 415
    for taken in ("application/json", "application/x-ndjson", "text/csv", "arrow.stream", "apache.parquet"):
        assert taken in reply.body["error"]
    assert f"not '{kind.partition(';')[0]}'" in reply.body["error"]
    assert steady.request("POST", "/predict/nobody", body, **headers).status == 404
    for path in ("/labels/churn", "/overrides/churn"):
        reply = steady.request("POST", path, body, **headers)
        assert (reply.status, "must be application/json, not" in reply.body["error"]) == (415, True)


def test_too_large_bodies_and_batches_are_refused_and_the_server_goes_on(steady: Served) -> None:
    huge = steady.request("POST", "/predict/churn", b'[{"city": "' + b"x" * 100 * 2**20 + b'"}]')
    assert huge.status == 413
    many = steady.post("/predict/churn", [GOOD] * 10_001)
    assert many.status == 413
    assert steady.post("/predict/churn", GOOD).status == 200


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/predict/churn", "POST"),
        ("DELETE", "/predict/churn", "POST"),
        ("GET", "/labels/churn", "POST"),
        ("POST", "/v2", "GET"),
        ("POST", "/v2/health/live", "GET"),
        ("POST", "/v2/models/churn", "GET"),
        ("GET", "/v2/models/churn/infer", "POST"),
    ],
)
def test_a_wrong_method_is_said_with_the_right_one(steady: Served, method: str, path: str, allowed: str) -> None:
    reply = steady.request(method, path)
    assert reply.status == 405
    assert reply.headers["allow"] == allowed


@pytest.mark.parametrize(
    "path",
    [
        "/predict/other",
        "/predict/",
        "/predict",
        "/predict/churn/more",
        "/predict/churn?version=9",
        "/predict/churn?version=x",
        "/predict/churn?version=-1",
        "/predict/churn?version=99999999999999999999",
        "/predict/churn?version=%D9%A1",
        "/predict/..%2f..%2fetc%2fpasswd",
        "/predict/%2e%2e/churn",
        "/predict/churn%00",
        "/predict/%ff%fe",
        "/predict/%F0%9F%8C%8A",
        "/predict/churn%0d%0aSet-Cookie:x",
        "//predict/churn",
        "/PREDICT/churn",
        "/labels/other",
        "/v2/models/other/infer",
        "/v2/models/churn/versions/9/infer",
        "/v2/models/churn/versions/one/infer",
        "/v2/models/churn/versions/../infer",
        "/v2/models/churn/nothing",
    ],
)
def test_what_is_not_there_is_not_found(steady: Served, path: str) -> None:
    reply = steady.post(path, GOOD)
    assert reply.status in (404, 405), reply
    assert "Set-Cookie" not in reply.headers


@pytest.mark.parametrize(
    "path",
    ["/v2/trace/setting", "/v2/systemsharedmemory/status", "/v2/models/churn/generate", "/v3/home/x", "//v2/models"],
)
def test_an_address_that_is_not_there_is_named_whole(steady: Served, path: str) -> None:
    for method in ("GET", "POST"):
        reply = steady.request(method, path, b"{}")
        assert (reply.status, reply.body["error"]) == (404, f"There is nothing at {path.lstrip('/')}.")


def test_an_unknown_loop_is_told_what_is_deployed(steady: Served) -> None:
    assert "Deployed: churn" in steady.post("/predict/chrun", GOOD).body["error"]
    assert "Deployed: 1, 2" in steady.post("/predict/churn?version=3", GOOD).body["error"]


def test_a_version_can_be_asked_for(steady: Served) -> None:
    answers = {number: steady.post(f"/predict/churn?version={number}", GOOD).body for number in (1, 2)}
    assert [answers[number]["predictions"][0]["version"] for number in (1, 2)] == [1, 2]
    first, second = (answers[number]["predictions"][0]["probabilities"] for number in (1, 2))
    assert first != second


@pytest.mark.parametrize("version", ["", "?version=1", "?version=2"])
def test_a_record_the_model_fails_on_is_named_and_no_trace_is_shown(steady: Served, version: str) -> None:
    reply = steady.post(f"/predict/churn{version}", [GOOD, {**GOOD, "city": "Atlantis"}, GOOD])
    assert reply.status == 422
    (detail,) = reply.body["details"]
    assert detail["record"] == 1
    assert "Atlantis has sunk" in detail["problem"]
    assert steady.post("/predict/churn", [GOOD, GOOD]).status == 200


def test_what_a_record_must_hold_can_be_asked(steady: Served) -> None:
    body = steady.get("/predict/churn").body
    fields = {one["name"]: one for one in body["fields"]}
    assert fields["age"]["type"] == "Int64"
    assert fields["age"]["required"]
    assert fields["bonus"]["may_be_null"]
    assert (body["task"], body["classes"], body["key"], body["label"]) == ("binary", [0, 1], "id", "churned")


# -- labels


def test_labels_meet_predictions_by_key_and_by_id(steady: Served) -> None:
    answers = steady.post("/predict/churn", [{**GOOD, "id": 900}, {**GOOD, "id": 901}, {**GOOD, "id": 902}]).body
    ids = [one["id"] for one in answers["predictions"]]
    reply = steady.post(
        "/labels/churn",
        {"labels": [{"key": 900, "label": 1}, {"id": 901.0, "churned": 0}, {"id": ids[2], "label": True}]},
    )
    assert reply.status == 422  # an id is text
    labels = [{"key": 900.0, "label": 1}, {"key": "901", "churned": 0}, {"id": ids[2], "label": True}]
    reply = steady.post("/labels/churn", {"labels": [*labels, {"key": "nobody", "label": 1}]})
    assert (reply.status, reply.body) == (200, {"received": 4, "matched": 3, "unmatched": ["nobody"]})
    found = [steady.store.predictions.find(one)[1] for one in ids]
    assert [label.value if label else None for label in found] == [1, 0, 1]
    assert [type(label.value) for label in found if label] == [int, int, int]


@pytest.mark.parametrize("label", ["yes", 2, None, [], {}, 0.5, math.inf, "1", "x" * 10_000])
def test_a_label_that_cannot_be_is_refused_and_none_is_kept(steady: Served, label: Any) -> None:
    reply = steady.post("/labels/churn", [{"key": 7, "label": 1}, {"key": 8, "label": label}])
    assert reply.status == 422
    assert [detail["record"] for detail in reply.body["details"]] == [1]
    assert len(json.dumps(reply.body)) < 1000


NO_OWNER: list[Any] = [
    *({}, 5, None, [], {"label": 1}, {"key": None, "label": 1}, {"key": [1], "label": 1}),
    *({"key": True, "label": 1}, {"id": 5, "label": 1}, {"key": "k" * 200_000, "label": 1}),
    *({"key": math.inf, "label": 1}, {"key": -math.inf, "label": 1}, {"id": math.inf, "label": 1}),
]


@pytest.mark.parametrize("entry", NO_OWNER, ids=lambda entry: str(entry)[:30])
def test_a_label_without_an_owner_is_refused(steady: Served, entry: Any) -> None:
    assert steady.post("/labels/churn", [entry]).status == 422


# -- the Open Inference Protocol

COLUMNS = {"age": ("INT64", [40, 50]), "city": ("BYTES", ["Oslo", "Rome"]), "bonus": ("FP64", [0.5, None])}


def tensors(shape: list[int] | None = None) -> list[dict[str, Any]]:
    return [
        {"name": name, "datatype": kind, "shape": shape or [2], "data": data} for name, (kind, data) in COLUMNS.items()
    ]


def test_the_server_and_its_models_describe_themselves(steady: Served) -> None:
    assert steady.get("/v2").body["name"] == "noria"
    assert steady.get("/v2/health/live").body == {"live": True}
    assert steady.get("/v2/health/ready").body == {"ready": True}
    assert steady.get("/v2/models/churn/ready").body == {"name": "churn", "ready": True}
    body = steady.get("/v2/models/churn/versions/2").body
    assert body["versions"] == ["1", "2"]
    assert {"name": "age", "datatype": "INT64", "shape": [-1]} in body["inputs"]
    assert [output["name"] for output in body["outputs"]] == ["prediction", "probabilities"]


@pytest.mark.parametrize("shape", [[2], [2, 1]])
def test_tensors_give_what_records_give(steady: Served, shape: list[int]) -> None:
    reply = steady.post("/v2/models/churn/infer", {"id": "my-5", "inputs": tensors(shape)})
    assert reply.status == 200
    assert (reply.body["id"], reply.body["model_name"], reply.body["model_version"]) == ("my-5", "churn", "1")
    plain = steady.post(
        "/predict/churn",
        [{"age": 40, "city": "Oslo", "bonus": 0.5}, {"age": 50, "city": "Rome", "bonus": None}],
    ).body["predictions"]
    outputs = {output["name"]: output for output in reply.body["outputs"]}
    assert outputs["prediction"] == {
        "name": "prediction", "datatype": "INT64", "shape": [2], "data": [one["prediction"] for one in plain],
    }  # fmt: skip
    assert outputs["probabilities"]["shape"] == [2, 2]
    assert outputs["probabilities"]["data"] == [share for one in plain for share in one["probabilities"].values()]


def test_nested_data_is_flat_data(steady: Served) -> None:
    inputs = tensors([2, 1])
    for tensor in inputs:
        tensor["data"] = [[value] for value in tensor["data"]]
    nested = steady.post("/v2/models/churn/infer", {"inputs": inputs})
    flat = steady.post("/v2/models/churn/infer", {"inputs": tensors()})
    assert nested.status == flat.status == 200
    assert nested.body["outputs"] == flat.body["outputs"]


def test_a_matrix_is_taken_in_the_order_of_the_inputs(steady: Served) -> None:
    names = [one["name"] for one in steady.get("/v2/models/churn").body["inputs"]]
    row = [{**GOOD, "id": 5}[name] for name in names]
    body = {"inputs": [{"name": "x", "datatype": "BYTES", "shape": [2, len(names)], "data": [row, row]}]}
    reply = steady.post("/v2/models/churn/versions/1/infer", body)
    assert reply.status == 200
    one = steady.post("/predict/churn", GOOD).body["predictions"][0]
    assert reply.body["outputs"][0]["data"] == [one["prediction"]] * 2


def test_outputs_can_be_chosen(steady: Served) -> None:
    for names in (["prediction"], ["probabilities"], ["probabilities", "prediction"]):
        body = {"inputs": tensors(), "outputs": [{"name": name} for name in names]}
        found = steady.post("/v2/models/churn/infer", body).body["outputs"]
        assert {output["name"] for output in found} == set(names)


BAD_REQUESTS: list[dict[str, Any]] = [
    {"inputs": None},
    {"inputs": []},
    {"inputs": [5]},
    {"inputs": {"name": "age"}},
    {"inputs": [{**tensors()[0], "name": 5}, *tensors()[1:]]},
    {"inputs": [{**tensors()[0], "name": "agee"}, *tensors()[1:]]},
    {"inputs": [*tensors(), tensors()[0]]},
    {"inputs": [*tensors()[:2], {**tensors()[2], "data": [0.5]}]},
    {"inputs": tensors([3])},
    {"inputs": tensors([1, 2])},
    {"inputs": tensors([2, 1, 1])},
    {"inputs": tensors([-2])},
    {"inputs": tensors([0])},
    {"inputs": [{**tensors()[0], "shape": []}]},
    {"inputs": [{**tensors()[0], "shape": [10**30]}]},
    {"inputs": [{**tensors()[0], "shape": [10**18] * 9}]},
    {"inputs": [{**tensors()[0], "shape": "2"}]},
    {"inputs": [{**tensors()[0], "shape": [True]}]},
    {"inputs": [{**tensors()[0], "datatype": "INT65"}, *tensors()[1:]]},
    {"inputs": [{**tensors()[0], "datatype": {"a": 1}}, *tensors()[1:]]},
    {"inputs": [{**tensors()[0], "datatype": None}, *tensors()[1:]]},
    {"inputs": [{**tensors()[0], "data": ["forty", 5]}, *tensors()[1:]]},
    {"inputs": [{**tensors()[0], "data": "x"}, *tensors()[1:]]},
    {"inputs": [{**tensors()[0], "data": [[40], 50]}, *tensors()[1:]]},
    {"inputs": [{**tensors()[0], "data": [[[40]], [[50]]]}, *tensors()[1:]]},
    {"inputs": [tensors()[0], {**tensors()[1], "parameters": {"content_type": "base64"}}, tensors()[2]]},
    {"inputs": [{"name": "x", "datatype": "FP64", "shape": [1, 2], "data": [1, 2]}]},
    {"inputs": [{**tensors([2, 1])[0], "data": [[40, 50]]}, *tensors()[1:]]},
    {"inputs": tensors(), "outputs": [{"name": "nothing"}]},
    {"inputs": tensors(), "outputs": [{"name": {}}]},
    {"inputs": tensors(), "outputs": [5]},
    {"inputs": tensors(), "outputs": {"name": "prediction"}},
]


@pytest.mark.parametrize("place", range(len(BAD_REQUESTS)))
def test_tensors_that_do_not_fit_are_refused(steady: Served, place: int) -> None:
    before = len(steady.store.predictions.predictions("churn", limit=1_000_000))
    reply = steady.post("/v2/models/churn/infer", BAD_REQUESTS[place])
    assert reply.status in (400, 422), reply
    assert reply.body["error"]
    assert len(steady.store.predictions.predictions("churn", limit=1_000_000)) == before


# -- odd clients


def test_odd_clients_do_not_harm_others(steady: Served) -> None:
    for sent in (
        b"GARBAGE\r\n\r\n",
        b"POST /predict/churn HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
        b"POST /predict/churn HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"GET /v2 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"",
    ):
        with socket.create_connection(("127.0.0.1", steady.port), timeout=10) as raw:
            raw.sendall(sent)
    assert steady.post("/predict/churn", GOOD).status == 200


def test_while_nothing_can_be_recorded_it_says_so_and_goes_on_by_itself_after(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    folder = served.store.folder / "predictions" / "segments"
    aside = folder.with_name("aside")
    if folder.exists():
        folder.rename(aside)
    folder.write_text("a file where the folder was")
    try:
        for _ in range(5):
            reply = served.post("/predict/churn", GOOD)
            assert (reply.status, reply.headers["retry-after"]) == (503, "1")
        assert served.get("/v2/health/ready").status == 503
        assert served.get("/v2/health/live").status == 200
        assert sum("cannot be used" in one.message or "refused" in one.message for one in caplog.records) == 1
    finally:
        folder.unlink()
        if aside.exists():
            aside.rename(folder)
    served.until(lambda: served.get("/v2/health/ready").status == 200)
    made = served.post("/predict/churn", GOOD).body["predictions"][0]["id"]
    assert served.store.predictions.find(made)[0].id == made
