"""What a careless or hostile client may send to the routes of experiments, runs and metrics."""

from __future__ import annotations

import base64
import gzip
import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from noria_server import API, Wire, missing, refused

from noria.compat.mlflow import experiments, runs
from noria.compat.mlflow.routing import Route

ROUTES = {f"{route.method} {route.path}": route for route in (*experiments.ROUTES, *runs.ROUTES)}
CODES = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS", "INVALID_STATE"}
NAMES = {
    "up": "..", "up one": "../secret", "up within": "a/../b", "up encoded": "%2e%2e%2fsecret",
    "up encoded twice": "%252e%252e%252fsecret", "up encoded thrice": "%25252e%25252e%25252fsecret",
    "here": ".", "absolute": "/etc/passwd", "drive": "C:\\Windows", "back-slashes": "..\\..\\secret",
    "doubled": "a//b", "trailing": "a/", "NUL": "a\0b", "NUL encoded": "a%00b", "line": "a\nb", "escape": "\x1b[31mred",
    "right to left": "a\u202egnp.exe", "zero width": "a\u200bb", "astral": "😀" * 10, "long": "x" * 10_000,
    "long path": "a/" * 5000 + "b", "empty": "", "space": " ", "quotes": "'\"`", "SQL": "x'; DROP TABLE runs; --",
    "HTML": "<script>alert(1)</script>", "template": "{{7*7}}${7*7}{id}", "percent": "%s%n%x",
    "file": "file:///etc/passwd",
    "half a pair": "\ud800", "device": "CON", "dash": "--help", "wildcards": "%_*?[",
}  # fmt: skip
VALUES: list[Any] = [
    None, True, False, 0, -1, 2**31, 2**63, -(2**63) - 1, 10**400, 1.5, 1e308, "", "x", "-1", "1e400", "NaN",
    "9" * 5000,
    [], [[]], [None], [1], ["x"], [{}], {}, {"a": {}}, {"key": 1}, [{"key": "k", "value": "v"}], [{"key": None}],
    [{"dataset": None}], [{"dataset": {"name": []}}], [[{"key": "k"}]],
]  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def unharmed(wire: Wire) -> Iterator[None]:
    """After all of it the server works, and nothing in it has failed."""
    yield
    assert wire.http.get("/health").text == "OK"
    run = wire.run(wire.experiment("after all"))
    wire.does("/runs/log-metric", run_id=run, key="m", value=1, timestamp=1)
    assert wire.metrics(run) == {"m": 1.0}
    words = wire.log.read_text()
    assert "Traceback" not in words, words[:5000]


@pytest.fixture(scope="module")
def run(wire: Wire) -> str:
    """A run that many tests try to spoil."""
    return wire.run()


def answered(answer: httpx.Response) -> httpx.Response:
    """An answer that is well, or says with one of MLflow's codes what was wrong with the request."""
    assert answer.status_code in (200, 400, 404), (answer.status_code, answer.text[:500])
    if answer.status_code != 200:
        told = answer.json()
        assert told["error_code"] in CODES, told
        assert 0 < len(told["message"]) < 2500, told
    return answer


def send(wire: Wire, route: Route, body: dict[str, Any]) -> httpx.Response:
    """One request to a route: as JSON, or as a query for GET."""
    if route.method == "GET":
        query = [(name, one) for name, value in body.items() for one in (value if isinstance(value, list) else [value])]
        return wire.http.get(route.path, params=[(name, _text(value)) for name, value in query if value is not None])
    return wire.http.post(route.path, content=json.dumps(body), headers={"content-type": "application/json"})


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text.encode("utf-8", "replace").decode()


def good(wire: Wire, run: str, number: str) -> dict[str, Any]:
    """A right value for every field of every route."""
    return {
        "experiment_id": number, "experiment_ids": [number], "run_id": run, "run_uuid": run, "run_ids": [run],
        "name": "n", "new_name": "n", "experiment_name": "Default", "key": "k", "value": "1", "timestamp": 1, "step": 1,
        "metric_key": "k", "metrics": [], "params": [], "tags": [], "datasets": [], "models": [], "model_json": "{}",
    }  # fmt: skip


# -- every route, every field


@pytest.mark.parametrize("address", ROUTES)
def test_every_field_of_every_route_with_wrong_values(wire: Wire, address: str) -> None:
    route = ROUTES[address]
    number = wire.experiment()
    run = wire.run(number)
    whole = {name: value for name, value in good(wire, run, number).items() if name in route.fields}
    for field in route.fields:
        for value in [*VALUES, *NAMES.values()]:
            if route.method == "GET" and field == "run_id" and isinstance(value, list):
                continue
            given = {**whole, field: value}
            given.pop("run_uuid" if field == "run_id" else "run_id" if field == "run_uuid" else "", None)
            answered(send(wire, route, given))


@pytest.mark.parametrize("address", [address for address in ROUTES if address.startswith("POST")])
@pytest.mark.parametrize(
    "body",
    [b"", b" ", b"[]", b"1", b"true", b"null", b'"x"', b'"{"', b"{", b'{"run_id"', b"{'run_id': 1}", b"\xff\xfe",
     b"NaN",
     b'{"run_id": "\xff"}', b'{"run_id": "\\ud800"}', b"[" * 100_000, b'{"a":' * 100_000, b'{"run_id": ' + b"[" * 5000,
     b'{"run_id": ' + b"[" * 500 + b"]" * 500 + b"}", b"<xml/>", b"run_id=1&key=2", b"9" * 100_000, b'{"run_id": NaN}'],
    ids=lambda body: repr(body[:20]),
)  # fmt: skip
def test_every_route_with_a_wrong_body(wire: Wire, address: str, body: bytes) -> None:
    answered(wire.http.post(ROUTES[address].path, content=body))


# -- names


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_name_of_an_experiment_is_kept_as_it_is_or_refused(wire: Wire, name: str) -> None:
    answer = wire.http.post(f"{API}/experiments/create", content=json.dumps({"name": name}))
    if answered(answer).status_code == 200 or answer.json()["error_code"] == "RESOURCE_ALREADY_EXISTS":
        found = wire.reads("/experiments/get-by-name", experiment_name=name)["experiment"]
        assert found["name"] == name
        assert found["artifact_location"] == f"mlflow-artifacts:/{found['experiment_id']}"
    else:
        assert name in (NAMES["NUL"], NAMES["half a pair"], NAMES["long"], NAMES["long path"], "", " ")


@pytest.mark.parametrize("key", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("what", ["metrics", "params", "tags"])
def test_key_that_other_tools_could_not_take_is_refused(wire: Wire, run: str, what: str, key: str) -> None:
    takes = key in (NAMES[name] for name in ("space", "device", "dash"))
    one: dict[str, Any] = (
        {"key": key, "value": 1.0, "timestamp": 1} if what == "metrics" else {"key": key, "value": "v"}
    )
    batch = wire.http.post(f"{API}/runs/log-batch", content=json.dumps({"run_id": run, what: [one]}))
    path = {"metrics": "log-metric", "params": "log-parameter", "tags": "set-tag"}[what]
    single = wire.http.post(f"{API}/runs/{path}", content=json.dumps({"run_id": run, **one}))
    if takes:
        assert (batch.status_code, single.status_code) == (200, 200)
        assert key in getattr(wire, what)(run)
    else:
        refused(batch)
        refused(single)
        assert key not in getattr(wire, what)(run)


@pytest.mark.parametrize("text", NAMES.values(), ids=NAMES)
def test_text_is_kept_as_it_is_or_refused(wire: Wire, text: str) -> None:
    run = wire.run()
    for path, body in (
        ("log-parameter", {"key": "p", "value": text}),
        ("set-tag", {"key": "t", "value": text}),
        ("update", {"run_name": text}),
    ):
        answer = answered(wire.http.post(f"{API}/runs/{path}", content=json.dumps({"run_id": run, **body})))
        assert (answer.status_code == 200) == (text not in (NAMES["NUL"], NAMES["half a pair"])) or path == "update"
    if text not in (NAMES["NUL"], NAMES["half a pair"]):
        assert (wire.params(run)["p"], wire.tags(run)["t"]) == (text[:6000], text[:8000])


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_id_that_no_run_or_experiment_has(wire: Wire, name: str) -> None:
    for answer in (
        wire.http.post(
            f"{API}/runs/log-metric", content=json.dumps({"run_id": name, "key": "k", "value": 1, "timestamp": 1})
        ),
        wire.http.post(f"{API}/runs/delete", content=json.dumps({"run_id": name})),
        wire.http.post(f"{API}/runs/create", content=json.dumps({"experiment_id": f"{name}-"})),
        wire.http.post(f"{API}/experiments/delete", content=json.dumps({"experiment_id": name})),
    ):
        assert answered(answer).status_code in (400, 404)


@pytest.mark.parametrize("number", ["-1", "1.0", "0x1", "1e1", "٣", "²", " 1", "1 ", "9" * 19, "9" * 400, "00x"])
def test_id_of_an_experiment_in_another_spelling(wire: Wire, number: str) -> None:
    refused(wire.get("/experiments/get", experiment_id=number), "Invalid experiment ID")


@pytest.mark.parametrize(
    "location",
    ["../../etc", "s3://bucket/../../x", "mlflow-artifacts:/../x", "file:///a/../b", "s3://b/x#y", "s3://b/x?y=1",
     "s3://b/%2e%2e/x", "s3://b/a\0b", "..\\x", "http://[x/y"],
)  # fmt: skip
def test_place_of_artifacts_that_leads_elsewhere_is_refused(wire: Wire, location: str) -> None:
    refused(wire.post("/experiments/create", {"name": f"at {location!r}", "artifact_location": location}))


# -- numbers


@pytest.mark.parametrize(
    "value",
    [True, False, "foo", "", [], {}, [1], None, 10**400, "1e400", "-1e400", "1" * 500, "0x10", "1,5", "one", "--1"],
    ids=lambda value: repr(value)[:20],
)
def test_value_that_is_no_number_is_refused(wire: Wire, run: str, value: Any) -> None:
    point = {"key": "bad", "value": value, "timestamp": 1}
    refused(wire.post("/runs/log-metric", {"run_id": run, **point}))
    refused(
        wire.post("/runs/log-batch", {"run_id": run, "metrics": [{"key": "good", "value": 1, "timestamp": 1}, point]})
    )
    assert not {"bad", "good"} & set(wire.metrics(run))


@pytest.mark.parametrize(
    "number", [b"1e400", b"-1e400", b"1" * 400, b"01", b"+1", b".5", b"1.", b"0x1", b"--1", b"Inf"]
)
def test_number_that_json_or_a_float_cannot_hold_is_refused(wire: Wire, run: str, number: bytes) -> None:
    body = b'{"run_id": "%s", "key": "bad", "value": %s, "timestamp": 1}' % (run.encode(), number)
    refused(wire.http.post(f"{API}/runs/log-metric", content=body))
    body = b'{"run_id": "%s", "metrics": [{"key": "bad", "value": %s, "timestamp": 1}]}' % (run.encode(), number)
    refused(wire.http.post(f"{API}/runs/log-batch", content=body))
    assert "bad" not in wire.metrics(run)


def test_bare_nan_and_infinity_are_taken_as_python_writes_them(wire: Wire) -> None:
    run = wire.run()
    for key, value in (("nan", b"NaN"), ("inf", b"Infinity"), ("minus", b"-Infinity")):
        body = b'{"run_id": "%s", "key": "%s", "value": %s, "timestamp": 1}' % (run.encode(), key.encode(), value)
        assert wire.http.post(f"{API}/runs/log-metric", content=body).status_code == 200
    assert wire.metrics(run) == {"nan": "NaN", "inf": "Infinity", "minus": "-Infinity"}


@pytest.mark.parametrize("field", ["timestamp", "step"])
@pytest.mark.parametrize("value", [True, 1.5, "1.5", "x", 2**63, -(2**63) - 1, str(2**63), 1e300, [], {}, "1" * 5000])
def test_time_or_step_that_is_no_integer_is_refused(wire: Wire, run: str, field: str, value: Any) -> None:
    point = {"key": "bad", "value": 1, "timestamp": 1, "step": 1, field: value}
    refused(wire.post("/runs/log-metric", {"run_id": run, **point}), f"parameter '{field}'")
    refused(wire.post("/runs/log-batch", {"run_id": run, "metrics": [point]}), f"metrics[0].{field}")


def test_negative_times_are_refused_and_negative_steps_kept(wire: Wire) -> None:
    run = wire.run()
    for time in (-1, "-1", -(2**63)):
        refused(wire.post("/runs/log-metric", {"run_id": run, "key": "m", "value": 1, "timestamp": time}), "timestamp")
    wire.does("/runs/log-metric", run_id=run, key="m", value=1, timestamp=0, step=-5)
    wire.does("/runs/log-metric", run_id=run, key="m", value=2, timestamp=1_700_000_000, step=-6)  # seconds
    points = wire.reads("/metrics/get-history", run_id=run, metric_key="m")["metrics"]
    assert [(point["timestamp"], point["step"]) for point in points] == [(0, -5), (1_700_000_000, -6)]


# -- sizes


def test_batch_over_a_limit_is_refused_whole(wire: Wire) -> None:
    run = wire.run()
    points = [{"key": f"m{number}", "value": 1, "timestamp": 1} for number in range(1001)]
    texts = [{"key": f"k{number}", "value": "v"} for number in range(101)]
    for body, words in (
        ({"metrics": points}, "at most 1000 metrics. Got 1001 metrics"),
        ({"params": texts}, "at most 100 params. Got 101 params"),
        ({"tags": texts}, "at most 100 tags. Got 101 tags"),
        ({"metrics": points[:1000], "params": texts[:1]}, "at most 1000 metrics, params, and tags. Got 1001"),
    ):
        refused(wire.post("/runs/log-batch", {"run_id": run, **body}), words)
    assert (wire.metrics(run), wire.params(run)) == ({}, {})
    wire.does("/runs/log-batch", run_id=run, metrics=points[:800], params=texts[:100], tags=texts[:100])
    assert len(wire.metrics(run)) == 800


def test_body_over_the_limit_is_refused(wire: Wire, run: str) -> None:
    body = b'{"run_id": "%s", "key": "k", "value": "' % run.encode() + b"v" * 65 * 2**20 + b'"}'
    assert wire.http.post(f"{API}/runs/set-tag", content=body).status_code == 413


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "GZIP", "br", "zstd", "gzip, gzip", "x"])
def test_packed_bodies(wire: Wire, run: str, encoding: str) -> None:
    body = json.dumps({"run_id": run, "key": "packed", "value": "v"}).encode()
    kind = encoding.lower()

    def post(content: bytes) -> int:
        answer = wire.http.post(f"{API}/runs/set-tag", content=content, headers={"content-encoding": encoding})
        return answer.status_code

    if kind != "gzip":
        assert post(gzip.compress(body)) == (200 if kind == "deflate" else 415)
        return
    packed = gzip.compress(body)
    bomb = gzip.compress(b" " * 2**20 * 70)
    assert post(packed) == 200
    assert post(bomb) == 413
    assert post(gzip.compress(bomb)) == 400
    for wrong in (b"", b"x", packed[:-9], packed[:12], body, b"\x1f\x8b" + b"\xff" * 100):
        assert post(wrong) == 400


def test_request_that_is_cut_half_way(wire: Wire, run: str) -> None:
    where = urlsplit(wire.url)
    for start in (
        b'POST /api/2.0/mlflow/runs/set-tag HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{"run_id"',
        b"POST /api/2.0/mlflow/runs/set-tag HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n{",
        b"POST /api/2.0/mlflow/runs/set-tag HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"GET /api/2.0/mlflow/runs/get?run_id=" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ):
        with socket.create_connection((where.hostname or "", where.port or 0)) as connection:
            connection.sendall(start)
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(60)
            told = connection.recv(1000)
            assert not told.startswith(b"HTTP/1.1 5"), told
    assert wire.of(run)["info"]["run_id"] == run


# -- searches


@pytest.mark.parametrize(
    "filter",
    ["metrics", "metrics.", ".", "metrics.a", "metrics.a =", "= 1", "metrics.a = 1 AND", "AND", "and and and",
     "metrics.a = 1 metrics.b = 2", "metrics.a = 1; DROP TABLE runs", "metrics.a = 1 OR 1 = 1", "1 = 1",
     "NOT metrics.a = 1",
     "metrics.a == 1", "metrics.a = 1e999", "metrics.a = " + "9" * 400, "metrics.a = NaN", "metrics.a = nan",
     "metrics.a = -",
     "params.a = 'x", "params.a = x", "params.`a = 'x'", "params.a LIKE", "params.a IN ('x')", "run_id IN ()",
     "run_id IN 'x'", "run_id IN ('x'", "run_id IN ('x',)", "run_id IN (1)", "status NOT ('x')", "tags.a IS",
     "tags.a IS NOT",
     "tags.a IS 1", "params.a = 'a\0b'", "tags.`\0` = 'x'", "(" * 10_000, "metrics.a = (1)", "🙂 = 1", "metrics.a = ٣",
     "start_time = 'x'", "start_time = 1.5.5", "metrics.a > 1 /* x */", "metrics.a > 1 -- x", "\\", "%",
     "params.a LIKE 5",
     "metrics.a = 1" + " AND metrics.a = 1" * 100, "params.a = '" + "x" * 200_000 + "'", "a" * 100_000, "." * 100_000,
     "params.a LIKE '" + "%" * 60_000 + "'", "params.a LIKE '" + "[" * 49_000 + "'",
     " AND ".join(["status IN (" + ",".join(["'a'"] * 9000) + ")"] * 4)],
    ids=lambda filter: filter[:30].replace("\0", "NUL"),
)  # fmt: skip
def test_filter_that_cannot_be_read_is_refused(wire: Wire, filter: str) -> None:
    body = {"experiment_ids": ["0"], "filter": filter}
    refused(wire.post("/runs/search", body))


@pytest.mark.parametrize(
    "filter",
    ["tags.a LIKE '" + "%a" * 40 + "%b'", "tags.a ILIKE '" + "%a" * 2000 + "%b'", "tags.a LIKE '" + "%_" * 2000 + "b'",
     "tags.a LIKE '" + "%a_" * 1000 + "b'", "params.a LIKE '%" + "a" * 3000 + "%b'",
     "run_name LIKE '" + "%a" * 40 + "%b'",
     " AND ".join(["tags.a LIKE '%a%a%a%a%a%b'"] * 100), " AND ".join(["metrics.a > 0"] * 100),
     "run_id IN (" + ",".join(f"'{number}'" for number in range(10_000)) + ")", "tags.`" + "a." * 5000 + "` = 'x'",
     "metrics." + "a." * 5000 + "a = 1"],
    ids=lambda filter: filter[:30],
)  # fmt: skip
def test_filter_that_is_meant_to_be_slow_is_answered(wire: Wire, filter: str) -> None:
    number = wire.experiment()
    for _ in range(5):
        run = wire.run(number, run_name="a" * 5000)
        wire.does("/runs/set-tag", run_id=run, key="a", value="a" * 8000)
        wire.does("/runs/log-parameter", run_id=run, key="a", value="a" * 6000)
        wire.does("/runs/log-metric", run_id=run, key="a", value=1, timestamp=1)
    found = wire.search(number, filter=filter)
    assert len(found) == (5 if filter.startswith("metrics.a >") else 0)


@pytest.mark.parametrize(
    "order_by",
    [[""], [" "], ["metrics.a ASC DESC"], ["1"], ["metrics.a, metrics.b"], ["(SELECT 1)"], ["random()"], ["metrics.a;"],
     ["datasets.name"], ["nothing"], [1], "metrics.a", [["metrics.a"]], [f"metrics.m{n}" for n in range(21)], ["\0"],
     ["metrics." + "a" * 200_001], ["params.a NULLS LAST"]],
    ids=lambda terms: str(terms)[:30].replace("\0", "NUL"),
)  # fmt: skip
def test_order_that_cannot_be_read_is_refused(wire: Wire, order_by: Any) -> None:
    refused(wire.post("/runs/search", {"experiment_ids": ["0"], "order_by": order_by}))


def test_long_orders_and_many_experiments_are_answered(wire: Wire) -> None:
    number = wire.experiment()
    made = sorted(wire.run(number) for _ in range(3))
    order = [f"{what}.k{place} DESC" for place in range(4) for what in ("metrics", "params")]
    assert wire.search(number, order_by=order, max_results=1) == made
    many = [str(place) for place in range(10_000)]
    assert wire.does("/runs/search", experiment_ids=[*many[:9999], number], max_results=1)["runs"]
    refused(wire.post("/runs/search", {"experiment_ids": many * 4}))


def token(place: Any) -> str:
    """A page token that holds ``place``."""
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode()


FORGED = {
    "text": "x", "no base64": "!!!!", "empty list": token([]), "no list": token({"a": 1}), "too few": token([1]),
    "too many": token([1] * 50), "wrong types": token(["x", "x", "x", "x"]), "other types": token([0, "x", "x", "x"]),
    "nested": token([[], {}, [[]], "x"]), "floats": token([0.5, 1, 1.5, "x"]), "huge": token([0, 10**30, 2**70, "x"]),
    "beyond": token([7, 1, 1, "x"]), "negative": token([-1, 1, 1, "x"]), "nulls": token([None] * 4),
    "booleans": token([True, True, True, "x"]), "NUL": token([0, 1.0, 1, "a\0b"]), "long": "QUJD" * 100_000,
    "surrogate": base64.urlsafe_b64encode(b'[0, 1, 1, "\\ud800"]').decode(), "unicode": "é" * 10,
}  # fmt: skip


@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED)
def test_page_token_that_was_not_given_is_refused(wire: Wire, run: str, forged: str) -> None:
    body = {"experiment_ids": ["0"], "order_by": ["metrics.m"], "page_token": forged}
    refused(wire.post("/runs/search", body), "page")
    refused(wire.get("/metrics/get-history", run_id=run, metric_key="m", page_token=forged[:3000]))
    if forged != FORGED["too few"]:
        refused(wire.post("/experiments/search", {"page_token": forged}))


def test_page_token_of_another_search_does_no_harm(wire: Wire) -> None:
    number = wire.experiment()
    for value in range(3):
        wire.does("/runs/log-metric", run_id=wire.run(number), key="m", value=value, timestamp=1)
    first = {"experiment_ids": [number], "max_results": 1}
    given = wire.does("/runs/search", **first, order_by=["metrics.m"])["next_page_token"]
    for order in (["params.p"], ["start_time"], ["metrics.m", "tags.t"], []):
        answered(wire.post("/runs/search", {**first, "order_by": order, "page_token": given}))


# -- addresses


@pytest.mark.parametrize(
    "path",
    ["/api/2.0/mlflow/../../etc/passwd", "/api/2.0/mlflow/%2e%2e/%2e%2e/etc/passwd", "/api/2.0/mlflow/runs/get%00",
     "/api/2.0/mlflow/runs/get/", "/api/2.0/mlflow//runs/get", "/api/2.0/mlflow/runs/%ff", "/api/2.0" + "/a" * 5000,
     "/api/2.0/", "/api/2.0", "/ajax-api/", "/ajax-api/9.9/x", "/api/2.0/mlflow/runs/get;x=1",
     "/api/2.0/mlflow/RUNS/GET"],
    ids=lambda path: path[:40],
)  # fmt: skip
def test_address_that_is_not_there(wire: Wire, path: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        answer = wire.http.request(method, path)
        assert answer.status_code in (400, 404, 405), (method, answer.status_code)


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW", "get"])
def test_method_that_an_address_does_not_take(wire: Wire, method: str) -> None:
    answer = wire.http.request(method, f"{API}/runs/create")
    assert answer.status_code in (400, 405), answer.status_code


@pytest.mark.parametrize(
    "query", ["run_id=%ff", "run_id=%00", "run_id", "=", "&&&", "run_id=a&run_id=b", "run_id=%zz", "x" * 50_000]
)
def test_query_that_cannot_be_read(wire: Wire, query: str) -> None:
    answer = answered(wire.http.get(f"{API}/runs/get?{query}"))
    assert answer.status_code in (400, 404)


def test_foreign_page_may_not_ask(wire: Wire) -> None:
    for headers in ({"host": "evil.example"}, {"origin": "http://evil.example"}):
        answer = wire.http.post(f"{API}/experiments/search", json={}, headers=headers)
        assert answer.status_code in (403, 421)


def test_unknown_ids_are_named(wire: Wire) -> None:
    missing(wire.get("/runs/get", run_id="nobody"), "Run with id=nobody not found")
    refused(wire.get("/runs/get", run_id="no body"), "Invalid value \"no body\" for parameter 'run_id' supplied")
