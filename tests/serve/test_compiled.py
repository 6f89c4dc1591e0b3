"""A compiled model behind every wire: the same answers as the original's, and precise refusals."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import threading
import time
import zlib
from typing import Any

import numpy as np
import polars as pl
import pytest
from serving import Reply, Served

from noria.loop.scoring import Scorer, manifest_of
from noria.records import ModelVersion
from noria.serve.access import Keys, digest_of
from noria.serve.native import NativeEngine
from noria.store import Store
from noria.store.ports import ApiKey

ROWS: list[list[Any]] = [[0.25, 3.0, 0.5], [0.75, 9.0, -0.5], [0.5, 0.0, None]]
RECORDS: list[dict[str, Any]] = [dict(zip("abc", row, strict=True)) for row in ROWS]


@pytest.fixture(scope="module")
def expected(numeric: tuple[Store, list[ModelVersion]]) -> tuple[list[Any], list[list[float]]]:
    """What the original model says of `ROWS`."""
    store, versions = numeric
    scorer = Scorer(manifest_of(store.blobs, versions[0].bundle), store.blobs)
    values, shares = scorer.predict(RECORDS)
    scorer.close()
    assert shares is not None
    return values, shares


def matrix(rows: list[list[Any]], kind: str = "FP64") -> dict[str, Any]:
    flat = [value for row in rows for value in row]
    return {"inputs": [{"name": "x", "shape": [len(rows), 3], "datatype": kind, "data": flat}]}


def binary(rows: np.ndarray[Any, Any], kind: str, outputs: bool | None = True) -> tuple[bytes, dict[str, str]]:
    raw = rows.tobytes()
    tensor = {"name": "x", "shape": list(rows.shape), "datatype": kind, "parameters": {"binary_data_size": len(raw)}}
    body: dict[str, Any] = {"id": "b", "inputs": [tensor]}
    if outputs is not None:
        body["parameters"] = {"binary_data_output": outputs}
    head = json.dumps(body).encode()
    return head + raw, {"Inference-Header-Content-Length": str(len(head))}


def test_the_graph_answers(compiled: Served) -> None:
    assert compiled.plane is not None
    assert isinstance(compiled.plane.served("numbers")[1].engine, NativeEngine)


def test_every_wire_says_what_the_original_says(
    compiled: Served, expected: tuple[list[Any], list[list[float]]]
) -> None:
    values, shares = expected
    found = compiled.post("/predict/numbers", RECORDS).body["predictions"]
    assert [one["prediction"] for one in found] == values
    assert np.allclose([list(one["probabilities"].values()) for one in found], shares, atol=1e-12)
    body = compiled.post("/v2/models/numbers/infer", matrix(ROWS)).body
    assert body["outputs"][0]["data"] == values
    assert np.allclose(np.reshape(body["outputs"][1]["data"], (-1, 2)), shares, atol=1e-12)
    assert len(body["parameters"]["prediction_ids"].split(",")) == 3
    columns = [
        {"name": name, "shape": [3], "datatype": "FP64", "data": [row[place] for row in ROWS]}
        for place, name in enumerate("abc")
    ]
    assert compiled.post("/v2/models/numbers/infer", {"inputs": columns}).body["outputs"][0]["data"] == values
    for shape in (
        {"dataframe_split": {"columns": ["c", "a", "b"], "data": [[row[2], row[0], row[1]] for row in ROWS]}},
        {"dataframe_records": RECORDS},
        {"instances": ROWS},
        {"instances": RECORDS},
        {"inputs": ROWS},
        {"inputs": {name: [row[place] for row in ROWS] for place, name in enumerate("abc")}},
        {"inputs": ROWS, "params": {}},
    ):
        reply = compiled.post("/invocations", shape)
        assert (reply.status, reply.body) == (200, {"predictions": values}), shape


def test_binary_tensors_both_ways(compiled: Served, expected: tuple[list[Any], list[list[float]]]) -> None:
    values, shares = expected
    rows = np.array(ROWS, dtype=np.float64)
    body, headers = binary(rows, "FP64")
    reply = compiled.request("POST", "/v2/models/numbers/infer", body, **headers)
    assert reply.status == 200
    length = int(reply.headers["inference-header-content-length"])
    head, raw = json.loads(reply.body[:length]), reply.body[length:]
    assert head["id"] == "b"
    assert [one["parameters"]["binary_data_size"] for one in head["outputs"]] == [24, 48]
    assert np.frombuffer(raw[:24], "<i8").tolist() == values
    assert np.allclose(np.frombuffer(raw[24:], "<f8").reshape(-1, 2), shares, atol=1e-12)
    body, headers = binary(rows, "FP64", outputs=None)
    assert compiled.request("POST", "/v2/models/numbers/infer", body, **headers).body["outputs"][0]["data"] == values
    body, headers = binary(rows.astype("<f4"), "FP32", outputs=None)
    assert compiled.request("POST", "/v2/models/numbers/infer", body, **headers).status == 200
    body, headers = binary(rows.astype("<f2"), "FP16", outputs=None)
    assert compiled.request("POST", "/v2/models/numbers/infer", body, **headers).status == 200
    many = np.resize(rows, (5000, 3))
    body, headers = binary(many, "FP64")
    reply = compiled.request("POST", "/v2/models/numbers/infer", body, **headers)
    length = int(reply.headers["inference-header-content-length"])
    assert np.frombuffer(reply.body[length : length + 40_000], "<i8").tolist() == (values * 1667)[:5000]


def test_one_output_binary_and_the_other_not(compiled: Served) -> None:
    outputs = [{"name": "probabilities", "parameters": {"binary_data": True}}, {"name": "prediction"}]
    reply = compiled.post("/v2/models/numbers/infer", {**matrix(ROWS), "outputs": outputs})
    head = json.loads(reply.body[: int(reply.headers["inference-header-content-length"])])
    assert [("data" in one) for one in head["outputs"]] == [False, True]


@pytest.mark.parametrize("length", ["", "x", "-1", "99999999", "5", "1e3", "0", "٣"])
def test_a_wrong_header_length_is_refused(compiled: Served, length: str) -> None:
    body, _ = binary(np.array(ROWS), "FP64")
    try:
        reply = compiled.request(
            "POST", "/v2/models/numbers/infer", body, **{"Inference-Header-Content-Length": length}
        )
    except UnicodeEncodeError:
        pytest.skip("the client itself refuses it")
    assert reply.status == 400


@pytest.mark.parametrize("change", [-8, -1, 1, 8])
def test_binary_data_of_another_size_are_refused(compiled: Served, change: int) -> None:
    body, headers = binary(np.array(ROWS), "FP64")
    data = body[:change] if change < 0 else body + b"x" * change
    assert compiled.request("POST", "/v2/models/numbers/infer", data, **headers).status == 400


BAD: list[tuple[Any, str]] = [
    ([[0.5, 1.0]], "2 columns"),
    ([[0.5, 1.0, 0.5, 1.0]], "4 columns"),
    ([["x", 1.0, 0.5]], "'x'"),
    ([[True, 1.0, 0.5]], "True"),
    ([[[0.5], 1.0, 0.5]], "nested"),
    ([[0.5, 1.5, 0.5]], "field 'b': 1.5 is not a whole number"),
    ([[0.5, 1.0, 0.5], [None, 1.0, 0.5]], "record 1, field 'a'"),
]


@pytest.mark.parametrize(("rows", "said"), BAD)
def test_what_does_not_fit_is_named(compiled: Served, rows: list[list[Any]], said: str) -> None:
    flat = [value for row in rows for value in row]
    tensor = {"name": "x", "shape": [len(rows), len(rows[0])], "datatype": "FP64", "data": flat}
    reply = compiled.post("/v2/models/numbers/infer", {"inputs": [tensor]})
    assert reply.status in (400, 422)
    assert said in reply.body["error"]
    assert compiled.post("/v2/models/numbers/infer", matrix(ROWS)).status == 200


def test_rows_nested_as_columns_are_refused_rather_than_read_in_another_order(compiled: Served) -> None:
    tensor: dict[str, Any] = {"name": "x", "shape": [2, 3], "datatype": "FP64", "data": [[0.5, 1, 0.5], [0.5, 2, 0.5]]}
    assert compiled.post("/v2/models/numbers/infer", {"inputs": [tensor]}).status == 200
    tensor["data"] = [[0.5, 0.5], [1, 2], [0.5, 0.5]]
    reply = compiled.post("/v2/models/numbers/infer", {"inputs": [tensor]})
    assert (reply.status, "nested otherwise than its shape [2, 3]" in reply.body["error"]) == (400, True)


@pytest.mark.parametrize(("value", "fits"), [(2**53 + 1, True), (2**63 - 1, True), (-(2**63), True), (2**63, False)])
def test_large_whole_numbers_are_kept_as_they_are_or_named(compiled: Served, value: int, fits: bool) -> None:
    record = {"a": 0.5, "b": value, "c": None}
    columns = {
        "inputs": [
            {"name": "a", "shape": [1], "datatype": "FP64", "data": [0.5]},
            {"name": "b", "shape": [1], "datatype": "INT64" if fits else "UINT64", "data": [value]},
            {"name": "c", "shape": [1], "datatype": "FP64", "data": [None]},
        ]
    }
    whole, headers = binary(np.array([[0, value, 0]], dtype="<i8" if fits else "<u8"), "INT64" if fits else "UINT64")
    replies = [
        compiled.post("/predict/numbers", record),
        compiled.post("/invocations", {"inputs": [[0.5, value, None]]}),
        compiled.post("/v2/models/numbers/infer", columns),
        compiled.request_raw("POST", "/v2/models/numbers/infer", whole, **headers),
        compiled.request("POST", "/invocations", f"a,b,c\n0.5,{value},\n".encode(), **{"Content-Type": "text/csv"}),
    ]
    assert [reply.status for reply in replies] == [200 if fits else 422] * 5
    if fits:
        ids = [replies[0].body["predictions"][0]["id"], replies[2].body["id"]]
        assert [compiled.store.predictions.find(one)[0].record["b"] for one in ids] == [value] * 2
    else:
        assert [reply.body["details"][0]["field"] for reply in (*replies[:3], replies[4])] == ["b"] * 4


def test_infinity_and_missing_values_in_binary_data(compiled: Served) -> None:
    for value, said in ((np.inf, "record 1, field 'c'"), (-np.inf, "not a finite number")):
        body, headers = binary(np.array([[0.5, 1, 0.5], [0.5, 1, value]]), "FP64")
        reply = compiled.request("POST", "/v2/models/numbers/infer", body, **headers)
        assert reply.status == 422
        assert said in reply.body["error"]
    body, headers = binary(np.array([[0.5, 1, np.nan]]), "FP64")
    assert compiled.request("POST", "/v2/models/numbers/infer", body, **headers).status == 200


def test_nan_as_python_writes_it_is_a_missing_value_on_every_wire(
    compiled: Served, expected: tuple[list[Any], list[list[float]]]
) -> None:
    rows = [[math.nan if value is None else value for value in row] for row in ROWS]
    records = [dict(zip("abc", row, strict=True)) for row in rows]
    split = {"dataframe_split": {"columns": ["a", "b", "c"], "data": rows}}
    lines = "\n".join(map(json.dumps, records)).encode()
    assert compiled.post("/v2/models/numbers/infer", matrix(rows)).body["outputs"][0]["data"] == expected[0]
    assert compiled.post("/invocations", split).body["predictions"] == expected[0]
    assert [one["prediction"] for one in compiled.post("/predict/numbers", records).body["predictions"]] == expected[0]
    reply = compiled.request_raw("POST", "/predict/numbers", lines, **{"Content-Type": "application/x-ndjson"})
    assert [json.loads(line)["prediction"] for line in reply.body.splitlines()] == expected[0]
    rows[0][0] = math.nan
    refused = compiled.post("/v2/models/numbers/infer", matrix(rows))
    assert (refused.status, refused.body["details"][0]["field"]) == (422, "a")


@pytest.mark.parametrize("number", ["Infinity", "-Infinity", "1e999"])
def test_a_number_that_is_infinite_is_named_with_its_record_and_field_on_every_wire(
    compiled: Served, number: str
) -> None:
    def ask(path: str, body: str, kind: str = "application/json") -> Any:
        return compiled.request("POST", path, body.encode(), **{"Content-Type": kind})

    good = '{"a": 0.5, "b": 1, "c": 0.5}'
    tensor = f'"shape": [2, 3], "datatype": "FP64", "data": [0.5, 1, 0.5, 0.5, 1, {number}]'
    of_a, of_b = (f'"name": "{name}", "shape": [2], "datatype": "FP64", "data": [0.5, 1]' for name in "ab")
    of_c = f'"name": "c", "shape": [2], "datatype": "FP64", "data": [0.5, {number}]'
    for reply in (
        ask("/predict/numbers", f'[{good}, {{"a": 0.5, "b": 1, "c": {number}}}]'),
        ask("/predict/numbers", f'{good}\n{{"a": 0.5, "b": 1, "c": {number}}}', "application/x-ndjson"),
        ask("/v2/models/numbers/infer", f'{{"inputs": [{{"name": "x", {tensor}}}]}}'),
        ask("/v2/models/numbers/infer", f'{{"inputs": [{{{of_a}}}, {{{of_b}}}, {{{of_c}}}]}}'),
        ask("/invocations", f'{{"dataframe_records": [{good}, {{"a": 0.5, "b": 1, "c": {number}}}]}}'),
        ask("/invocations", f'{{"inputs": [[0.5, 1, 0.5], [0.5, 1, {number}]]}}'),
    ):
        assert reply.status == 422
        assert reply.body["details"] == [
            {"record": 1, "field": "c", "problem": f"{float(number)} is not a finite number"}
        ]
    assert "record 0, field 'b'" in ask("/predict/numbers", f'{{"a": 0.5, "b": {number}, "c": 1}}').body["error"]
    whole = f'{{"inputs": [{{"name": "x", {tensor.replace("FP64", "INT64").replace("0.5", "1")}}}]}}'
    assert "its value 5" in ask("/v2/models/numbers/infer", whole).body["error"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"a": 1, "b": 2, "c": 3}\n\n\n{"a": 1', "Line 4 is not JSON"),
        (b'\n{"a": 1, "b": 2, "c": 3}\n7', "Line 3 is not a JSON object"),
        (b'{"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 2\n"c": 3}', "Line 1 is not JSON"),
    ],
)
def test_a_line_that_is_no_record_is_named_by_its_number(compiled: Served, body: bytes, said: str) -> None:
    reply = compiled.request("POST", "/predict/numbers", body, **{"Content-Type": "application/x-ndjson"})
    assert reply.status == 400
    assert said in reply.body["error"]


@pytest.mark.parametrize(
    ("row", "same"),
    [("0.25,3,0.5", True), (" 2.5e-1,+3.0, .5 ", True), ("0.25,3e0,0.5", True)]
    + [(row, False) for row in ("0.2_5,3,0.5", "\u0663,3,0.5", "0x1,3,0.5", "1,3.5,0.5", "1,3_0,0.5", "inf,3,0.5")],
)
def test_a_csv_field_is_a_number_or_named(compiled: Served, row: str, same: bool) -> None:
    reply = compiled.request("POST", "/invocations", f"a,b,c\n{row}\n".encode(), **{"Content-Type": "text/csv"})
    if same:
        assert reply.body == compiled.post("/invocations", {"inputs": ROWS[:1]}).body
    else:
        assert (reply.status, reply.body["details"][0]["record"]) == (422, 0)


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"inputs": []},
        {"instances": []},
        {"inputs": [[1, 2]]},
        {"inputs": [[1, 2, 3], [1, 2]]},
        {"inputs": {"a": [1], "b": [1, 2], "c": [1]}},
        {"inputs": {"a": [1], "b": [1]}},
        {"inputs": ROWS, "instances": ROWS},
        {"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2]]}},
        {"dataframe_split": {"columns": ["a", "a", "b"], "data": [[1, 2, 3]]}},
        {"dataframe_split": {"columns": ["a", "b", "c"]}},
        {"dataframe_split": [1]},
        {"dataframe_records": {"a": 1}},
        {"dataframe_records": [{"a": 1, "b": 2, "c": 3, "d": 4}]},
        {"inputs": ROWS, "odd": 1},
        {"columns": ["a"], "data": [[1]]},
    ],
)
def test_a_scoring_body_that_cannot_be_is_refused(compiled: Served, body: Any) -> None:
    reply = compiled.post("/invocations", body)
    assert 400 <= reply.status < 500
    assert reply.body["error_code"]
    assert reply.body["message"]


def test_csv_and_files(compiled: Served, expected: tuple[list[Any], list[list[float]]]) -> None:
    values, _ = expected
    out = io.StringIO()
    csv.writer(out).writerows([["a", "b", "c"], *[["" if v is None else v for v in row] for row in ROWS]])
    frame = pl.DataFrame(RECORDS)
    parquet, stream, file = io.BytesIO(), io.BytesIO(), io.BytesIO()
    frame.write_parquet(parquet)
    frame.write_ipc_stream(stream)
    frame.write_ipc(file)
    for kind, body in (
        ("text/csv", out.getvalue().encode()),
        ("text/csv; charset=utf-8", out.getvalue().encode()),
        ("application/vnd.apache.parquet", parquet.getvalue()),
    ):
        reply = compiled.request("POST", "/invocations", body, **{"Content-Type": kind})
        assert (reply.status, reply.body) == (200, {"predictions": values}), kind
    reply = compiled.request(
        "POST", "/predict/numbers", parquet.getvalue(), **{"Content-Type": "application/vnd.apache.parquet"}
    )
    assert pl.read_parquet(io.BytesIO(reply.body))["prediction"].to_list() == values
    for kind, data in (("stream", stream), ("file", file)):
        name = f"application/vnd.apache.arrow.{kind}"
        reply = compiled.request("POST", "/predict/numbers", data.getvalue(), **{"Content-Type": name})
        read = pl.read_ipc_stream if kind == "stream" else pl.read_ipc
        assert read(io.BytesIO(reply.body))["prediction"].to_list() == values
    lines = "\n".join(json.dumps(record) for record in RECORDS).encode()
    reply = compiled.request_raw("POST", "/predict/numbers", lines, **{"Content-Type": "application/x-ndjson"})
    assert [json.loads(line)["prediction"] for line in reply.body.splitlines()] == values


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("application/vnd.apache.parquet", b"no parquet", 400),
        ("application/vnd.apache.parquet", b"PAR1" + b"\0" * 50 + b"PAR1", 400),
        ("application/vnd.apache.arrow.stream", b"\xff\xff\xff\xff" + b"\0" * 9, 400),
        ("application/x-ndjson", b'{"a": 1}\nnonsense', 400),
        ("application/x-ndjson", b"", 400),
        ("text/csv", b"a,b,c\n1,2", 400),
        ("text/csv", b"a,b,c\n1,x,3", 422),
        ("text/csv", b"a,b,c", 400),
        ("text/csv", b"\xff\xfe", 400),
        ("application/json; charset=utf-16", b"{}", 415),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(compiled: Served, kind: str, body: bytes, status: int) -> None:
    reply = compiled.request("POST", "/predict/numbers", body, **{"Content-Type": kind})
    assert reply.status == status
    assert reply.body["error"]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/csv", b"a,b,c\n" + b"0.25,3,0.5\n" * 200_000),
        ("application/x-ndjson", b'{"a": 0.25, "b": 3, "c": 0.5}\n' * 200_000),
    ],
    ids=["csv", "ndjson"],
)
def test_others_are_answered_while_a_large_body_is_read(compiled: Served, kind: str, body: bytes) -> None:
    one = compiled.post("/predict/numbers", RECORDS[0]).body["predictions"][0]
    done: list[Reply] = []
    asking = threading.Thread(
        target=lambda: done.append(compiled.request_raw("POST", "/predict/numbers", body, **{"Content-Type": kind}))
    )
    began, longest = time.monotonic(), 0.0
    asking.start()
    while asking.is_alive():
        asked = time.monotonic()
        assert compiled.get("/v2/health/live").status == 200
        longest = max(longest, time.monotonic() - asked)
    asking.join()
    assert longest < (time.monotonic() - began) / 3
    text = done[0].body
    found = json.loads(text)["predictions"] if kind == "text/csv" else list(map(json.loads, text.splitlines()))
    assert len(found) == 200_000
    assert {(row["prediction"], row["probabilities"]["1"]) for row in found} == {
        (one["prediction"], one["probabilities"]["1"])
    }


def test_a_csv_of_too_many_rows_is_refused(compiled: Served) -> None:
    reply = compiled.request("POST", "/predict/numbers", b"a\n" + b"1\n" * 1_000_001, **{"Content-Type": "text/csv"})
    assert (reply.status, reply.body["error"]) == (400, "The CSV has more than 1000000 rows; send it in parts.")


def test_numbers_of_a_file_are_numbers_whatever_their_type(compiled: Served) -> None:
    frame = pl.DataFrame(RECORDS[:2])
    same = frame.with_columns(pl.col("a").cast(pl.Decimal(9, 3)), pl.col("b").cast(pl.Int128), pl.col("c").cast(float))
    found = []
    for one in (frame, same):
        body = io.BytesIO()
        one.write_parquet(body)
        kind = {"Content-Type": "application/vnd.apache.parquet"}
        found.append(compiled.request("POST", "/invocations", body.getvalue(), **kind))
    assert found[0].status == 200
    assert found[0].body == found[1].body


@pytest.mark.parametrize("value", [2**63 - 1, -(2**63)])
def test_a_time_that_is_none_is_refused_with_its_column(compiled: Served, value: int) -> None:
    body = io.BytesIO()
    pl.DataFrame({"a": [0.5], "b": [1], "c": pl.Series([value]).cast(pl.Datetime("us"))}).write_ipc_stream(body)
    kind = {"Content-Type": "application/vnd.apache.arrow.stream"}
    reply = compiled.request("POST", "/predict/numbers", body.getvalue(), **kind)
    assert reply.status == 400
    assert "Column 'c' cannot be read" in reply.body["error"]


def test_another_content_type_is_said_at_invocations(compiled: Served) -> None:
    reply = compiled.request("POST", "/invocations", b"x", **{"Content-Type": "image/png"})
    assert reply.status == 415


def test_compressed_bodies_and_answers(compiled: Served) -> None:
    plain = json.dumps(matrix(ROWS * 50)).encode()
    for name, packed in (
        ("gzip", gzip.compress(plain)),
        ("x-gzip", gzip.compress(plain)),
        ("deflate", zlib.compress(plain)),
        ("identity", plain),
    ):
        reply = compiled.request("POST", "/v2/models/numbers/infer", packed, **{"Content-Encoding": name})
        assert reply.status == 200
    body = zlib.compressobj(wbits=-15)
    bare = body.compress(plain) + body.flush()
    assert compiled.request("POST", "/v2/models/numbers/infer", bare, **{"Content-Encoding": "deflate"}).status == 200
    for name in ("gzip", "deflate"):
        reply = compiled.request_raw("POST", "/v2/models/numbers/infer", plain, **{"Accept-Encoding": name})
        assert reply.headers["content-encoding"] == name
        assert json.loads(zlib.decompress(reply.body, 47))["model_name"] == "numbers"


@pytest.mark.parametrize(
    ("coding", "body", "status"),
    [
        ("gzip", b"no gzip", 400),
        ("gzip", gzip.compress(b"{}")[:-3], 400),
        ("gzip", gzip.compress(b"{}") + b"more", 400),
        ("deflate", b"\xff\xff", 400),
        ("br", b"x", 415),
        ("gzip", gzip.compress(b" " * (65 * 2**20)), 413),
    ],
    ids=["not compressed", "cut short", "more behind it", "no deflate", "not supported", "too large"],
)
def test_bad_compression_is_refused(compiled: Served, coding: str, body: bytes, status: int) -> None:
    reply = compiled.request("POST", "/v2/models/numbers/infer", body, **{"Content-Encoding": coding})
    assert reply.status == status


def test_the_repository_is_listed_loaded_and_unloaded(numeric: tuple[Store, list[ModelVersion]]) -> None:
    found = Served(*numeric, name="numbers")
    found.deploy((1, 100.0))
    with found.up():
        for body in (b"", b"{}", b'{"ready": true}'):
            reply = found.request("POST", "/v2/repository/index", body)
            assert reply.body == [{"name": "numbers", "version": "1", "state": "READY", "reason": ""}]
        assert found.request("POST", "/v2/repository/models/numbers/unload", b"").status == 200
        assert found.get("/v2/models/numbers/ready").status == 404
        assert found.post("/v2/models/numbers/infer", matrix(ROWS)).status == 404
        assert found.request("POST", "/v2/repository/index", b"").body[0]["state"] == "UNAVAILABLE"
        time.sleep(0.2)  # the deployment is read again meanwhile
        assert found.get("/v2/models/numbers/ready").status == 404
        assert found.request("POST", "/v2/repository/models/numbers/load", b"").status == 200
        assert found.post("/v2/models/numbers/infer", matrix(ROWS)).status == 200
        assert found.request("POST", "/v2/repository/models/other/load", b"").status == 404
        overridden = json.dumps({"parameters": {"config": "{}"}}).encode()
        assert found.request("POST", "/v2/repository/models/numbers/load", overridden).status == 400
        assert found.get("/v2/models/numbers/config").body["input"][0]["data_type"] == "TYPE_FP64"
        stats = found.get("/v2/models/numbers/stats").body["model_stats"][0]
        assert stats["inference_count"] == 3
        assert found.get("/v2/models/stats").body["model_stats"]


def test_keys_open_their_model_only(numeric: tuple[Store, list[ModelVersion]]) -> None:
    now = numeric[1][0].created
    keys = Keys()
    keys.update([ApiKey("one", digest_of("s3cret"), now, "numbers"), ApiKey("two", digest_of("other"), now, "else")])
    found = Served(*numeric, name="numbers", keys=keys)
    found.deploy((1, 100.0))
    with found.up():
        asked: list[tuple[dict[str, str], int]] = [
            ({}, 401),
            ({"Authorization": "Bearer s3cret"}, 200),
            ({"X-API-Key": "s3cret"}, 200),
            ({"Authorization": "Bearer other"}, 401),
            ({"Authorization": "Basic s3cret"}, 401),
            ({"X-API-Key": ""}, 401),
        ]
        body = json.dumps(matrix(ROWS)).encode()
        for headers, status in asked:
            for path in ("/v2/models/numbers/infer", "/invocations"):
                data = body if "v2" in path else b'{"inputs": [[0.5, 1, 0.5]]}'
                assert found.request("POST", path, data, **headers).status == status, (path, headers)
            assert found.request("POST", "/predict/numbers", b'{"a":1,"b":1,"c":1}', **headers).status == status
            assert found.request("GET", "/v2/models/numbers", None, **headers).status == status
        assert found.get("/v2/health/ready").status == 200


def test_counts_are_told(compiled: Served) -> None:
    compiled.post("/v2/models/numbers/infer", matrix(ROWS))
    compiled.post("/v2/models/numbers/infer", {})
    text = compiled.get("/metrics").body.decode()
    labels = 'model="numbers",version="1",role="champion"'
    for name in ("noria_requests_total", "noria_predictions_total", "noria_request_seconds_count"):
        (line,) = [line for line in text.splitlines() if line.startswith(f"{name}{{{labels}}}")]
        assert float(line.rpartition(" ")[2]) >= 1
    assert f'noria_prediction_class_total{{{labels},class="' in text
    assert 'noria_refused_total{status="400"}' in text
    assert 'noria_model_up{model="numbers"} 1.0' in text


def test_a_shadow_is_asked_too_and_compared(numeric: tuple[Store, list[ModelVersion]]) -> None:
    found = Served(*numeric, name="numbers")
    found.deploy((1, 100.0), shadow=(2, 100.0))
    with found.up():
        reply = found.post("/v2/models/numbers/infer", matrix(ROWS)).body
        assert reply["model_version"] == "1"
        log = found.store.predictions
        assert found.plane is not None
        metrics = found.plane.metrics
        found.until(lambda: any(one.compared == 3 for one in metrics.of("numbers", 2)))
        series = next(one for one in metrics.of("numbers", 2) if one.role == "shadow")
        assert 0 <= series.agreed <= 3
        first = reply["parameters"]["prediction_ids"].split(",")[0]
        assert log.find(first)[0].role == "champion"
        assert log.counts("numbers", log.find(first)[0].at, version=2)[0] == 3


def test_a_trace_id_is_kept(compiled: Served) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    sent, body = f"00-{trace}-b7ad6b7169203331-01", json.dumps(matrix(ROWS)).encode()
    reply = compiled.request("POST", "/v2/models/numbers/infer", body, traceparent=sent)
    first = reply.body["parameters"]["prediction_ids"].split(",")[0]
    assert compiled.store.predictions.find(first)[0].trace == trace
    odd = compiled.request("POST", "/v2/models/numbers/infer", json.dumps(matrix(ROWS)).encode(), traceparent="x")
    assert odd.status == 200


def test_openapi_says_what_a_record_holds(compiled: Served) -> None:
    for path in ("/predict/numbers/openapi.json", "/openapi.json"):
        body = compiled.get(path).body
        assert body["openapi"].startswith("3.1")
        schema = body["paths"]["/predict/numbers"]["post"]["requestBody"]["content"]["application/json"]["schema"]
        record = schema["oneOf"][2]
        assert set(record["required"]) == {"a", "b", "c"}
        assert record["properties"]["b"]["type"] == "integer"
        assert record["properties"]["c"]["type"] == ["number", "null"]


def test_openapi_says_what_is_answered(compiled: Served) -> None:
    made = compiled.post("/predict/numbers", RECORDS[0]).body["predictions"][0]["id"]
    decided = {"id": made, "value": 1, "by": "me", "reason": "why"}
    paths = compiled.get("/openapi.json").body["paths"]
    for path, body, status in (
        ("/predict/numbers", RECORDS, 200),
        ("/predict/numbers", [], 400),
        ("/predict/numbers", [{"a": "x"}], 422),
        ("/predict/numbers", RECORDS * 4000, 413),
        ("/predict/numbers?version=9", RECORDS, 404),
        ("/labels/numbers", {"labels": [{"id": made, "label": 1}]}, 200),
        ("/labels/numbers", {"labels": []}, 400),
        ("/labels/numbers", {"labels": [{"id": made, "label": 7}]}, 422),
        ("/overrides/numbers", {"overrides": [decided]}, 200),
        ("/overrides/numbers", {"overrides": []}, 400),
        ("/overrides/numbers", {"overrides": [{**decided, "value": 7}]}, 422),
    ):
        reply = compiled.post(path, body)
        documented = paths[path.partition("?")[0]]["post"]["responses"][str(status)]
        schema = documented["content"]["application/json"]["schema"]
        assert reply.status == status
        assert set(schema.get("required", ())) <= set(reply.body) <= set(schema["properties"])


def test_a_deadline_that_is_over_is_kept(served: Served) -> None:
    slow = {"id": 1, "age": 40, "city": "Sloth", "bonus": 0.5}
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(served.post, "/predict/churn", slow)
        time.sleep(0.2)
        reply = served.request(
            "POST", "/predict/churn", json.dumps({**slow, "city": "Oslo"}).encode(), **{"X-Request-Timeout-Ms": "1"}
        )
        assert reply.status == 504
        assert first.result().status == 200


def test_more_than_can_wait_is_turned_away(trained: tuple[Store, list[ModelVersion]], monkeypatch: Any) -> None:
    from concurrent.futures import ThreadPoolExecutor

    import noria.serve.engine as engine

    monkeypatch.setattr(engine.ProcessEngine.__init__, "__defaults__", (2,))
    found = Served(*trained)
    found.deploy((1, 100.0))
    slow = {"id": 1, "age": 40, "city": "Sloth", "bonus": 0.5}
    with found.up(), ThreadPoolExecutor(12) as pool:
        replies = [one.result() for one in [pool.submit(found.post, "/predict/churn", slow) for _ in range(12)]]
        statuses = {reply.status for reply in replies}
        assert statuses == {200, 429}
        away = next(reply for reply in replies if reply.status == 429)
        assert int(away.headers["retry-after-ms"]) >= 1
        assert int(away.headers["retry-after"]) >= 1
        assert found.post("/predict/churn", {**slow, "city": "Oslo"}).status == 200


def test_a_request_that_crashes_the_model_fails_alone(
    trained: tuple[Store, list[ModelVersion]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    import noria.serve.process

    monkeypatch.setattr(noria.serve.process, "_CRASHES", 3)
    told: list[tuple[str, int, str]] = []
    found = Served(*trained, settings={"crashing": lambda *crash: told.append(crash)})
    found.deploy((1, 100.0))
    good = {"id": 1, "age": 40, "city": "Oslo", "bonus": 0.5}
    with found.up(), ThreadPoolExecutor(17) as pool:
        slow = pool.submit(found.post, "/predict/churn", {**good, "city": "Sloth"})  # the others wait together
        time.sleep(0.2)
        poisoned = pool.submit(found.post, "/predict/churn", {**good, "city": "Pompeii"})
        others = [pool.submit(found.post, "/predict/churn", good) for _ in range(15)]
        assert [one.result().status for one in (slow, *others)] == [200] * 16
        assert poisoned.result().status == 503
        assert told == []  # it has crashed twice: among the others, and alone
        for _ in range(2):
            assert found.post("/predict/churn", {**good, "city": "Pompeii"}).status == 503
        found.until(lambda: bool(told))
        assert told[0][:2] == ("churn", 1)
        assert "status 3" in told[0][2]
        assert found.post("/predict/churn", good).status == 200


def test_what_was_lost_with_another_request_is_not_answered_either(
    numeric: tuple[Store, list[ModelVersion]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from noria.errors import StoreFull
    from noria.serve import oip
    from noria.store.segments.writer import SegmentWriter

    writing, lost, encode = threading.Event(), threading.Event(), oip.encode

    def slowly(*given: Any) -> Any:
        if not writing.is_set():
            writing.set()
            assert lost.wait(60)
        return encode(*given)

    def full(writer: SegmentWriter, data: bytes) -> None:
        raise StoreFull("No space left.")

    found = Served(*numeric, name="numbers")
    found.deploy((1, 100.0))
    before = len(found.store.predictions.predictions("numbers", limit=10**6))
    path = "/v2/models/numbers/infer"
    with found.up(), ThreadPoolExecutor(1) as pool:
        monkeypatch.setattr(oip, "encode", slowly)
        # A large body's answer is written aside, while its records wait with those of others.
        large = pool.submit(found.post, path, {**matrix(ROWS), "parameters": {"filling": " " * 2**20}})
        assert writing.wait(60)
        with monkeypatch.context() as patch:
            patch.setattr(SegmentWriter, "_write", full)
            assert found.post(path, matrix(ROWS)).status == 503
        lost.set()
        assert large.result().status == 503
    assert len(found.store.predictions.predictions("numbers", limit=10**6)) == before


def test_what_cannot_be_recorded_is_not_answered(
    numeric: tuple[Store, list[ModelVersion]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from noria.errors import StoreFull
    from noria.store.segments.writer import SegmentWriter

    def full(writer: SegmentWriter, data: bytes) -> None:
        raise StoreFull("No space left.")

    found = Served(*numeric, name="numbers")
    found.deploy((1, 100.0))
    before = len(found.store.predictions.predictions("numbers", limit=10**6))
    with found.up(), ThreadPoolExecutor(8) as pool:

        def ask() -> int:
            return found.post("/v2/models/numbers/infer", matrix(ROWS)).status

        with monkeypatch.context() as patch:
            patch.setattr(SegmentWriter, "_write", full)
            assert {one.result() for one in [pool.submit(ask) for _ in range(24)]} == {503}
        found.until(lambda: found.get("/v2/health/ready").status == 200)
        assert {one.result() for one in [pool.submit(ask) for _ in range(24)]} == {200}
    assert len(found.store.predictions.predictions("numbers", limit=10**6)) == before + 24 * 3


@pytest.mark.parametrize("level", ["os", "disk"])
@pytest.mark.parametrize("native", [True, False])
def test_what_cannot_be_recorded_counts_once_and_as_an_error(
    numeric: tuple[Store, list[ModelVersion]], monkeypatch: pytest.MonkeyPatch, level: str, native: bool
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from noria.errors import StoreFull
    from noria.serve.outage import Outage
    from noria.store.segments.writer import SegmentWriter

    def full(*given: Any) -> None:
        raise StoreFull("No space left.")

    found = Served(*numeric, name="numbers", settings={"level": level, "native": native})
    found.deploy((1, 100.0))
    labels = 'model="numbers",version="1",role="champion"'
    with found.up(), ThreadPoolExecutor(8) as pool:

        def ask(path: str = "/v2/models/numbers/infer") -> int:
            return found.post(path, matrix(ROWS) if "infer" in path else RECORDS).status

        def count(name: str, more: str = "") -> float:
            lines = found.get("/metrics").body.decode().splitlines()
            return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name}{{{labels}{more}"))

        assert [ask(), ask("/predict/numbers")] == [200, 200]
        before = count("noria_prediction_class_total")
        with monkeypatch.context() as patch:
            patch.setattr(Outage, "met", lambda outage, error: None)  # so that every request is asked
            patch.setattr(SegmentWriter, "sync" if level == "disk" else "_write", full)
            assert {one.result() for one in [pool.submit(ask) for _ in range(24)]} == {503}
            assert ask("/predict/numbers") == 503
        assert (count("noria_requests_total"), count("noria_request_errors_total")) == (27, 25)
        assert count("noria_predictions_total") == 2 * 3
        assert count("noria_prediction_class_total") == before == 2 * 3
        assert 'noria_refused_total{status="503"} 25' in found.get("/metrics").body.decode()
        (stats,) = found.get("/v2/models/numbers/versions/1/stats").body["model_stats"]
        assert (stats["inference_stats"]["success"]["count"], stats["inference_stats"]["fail"]["count"]) == (2, 25)
