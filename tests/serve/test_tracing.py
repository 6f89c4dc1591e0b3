"""Spans of predictions, by the real OpenTelemetry SDK."""

from __future__ import annotations

import json
from typing import Any

import pytest
from serving import Clock, Served

from noria.loop.staging import worker_command
from noria.records import ModelVersion
from noria.serve import DataPlane, Plane
from noria.serve.listen import ServerThread
from noria.serve.tracing import Tracing, configured
from noria.store import Store

sdk = pytest.importorskip("opentelemetry.sdk.trace")
BODY: dict[str, Any] = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP64", "data": [0.25, 3, 0.5]}]}


def test_a_span_a_prediction_below_its_callers(numeric: tuple[Store, list[ModelVersion]]) -> None:
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), sdk.TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    found = Served(*numeric, name="numbers")
    found.deploy((1, 100.0))
    plane = Plane(found.store, Clock(), worker_command(found.store), lambda: dict(found.deployments))
    trace = "0af7651916cd43dd8448eb211c80319c"
    with ServerThread(DataPlane(plane, tracing=Tracing(provider))) as server:
        found.port = server.port
        sent = f"00-{trace}-b7ad6b7169203331-01"
        reply = found.request("POST", "/v2/models/numbers/infer", json.dumps(BODY).encode(), traceparent=sent)
        assert reply.status == 200
        other = found.post("/v2/models/numbers/infer", BODY)
        assert other.status == 200
    spans: Any = exporter.get_finished_spans()
    below, alone = spans
    assert (f"{below.context.trace_id:032x}", f"{below.parent.span_id:016x}") == (trace, "b7ad6b7169203331")
    assert alone.parent is None
    assert below.attributes["noria.model"] == "numbers"
    assert below.attributes["noria.version"] == 1
    assert below.attributes["http.response.status_code"] == 200
    assert below.end_time >= below.start_time
    for answer, span in ((reply, below), (other, alone)):
        made, _ = found.store.predictions.find(answer.body["parameters"]["prediction_ids"])
        assert made.trace == f"{span.context.trace_id:032x}"


def test_a_prediction_over_grpc_has_its_span_too(numeric: tuple[Store, list[ModelVersion]]) -> None:
    grpc = pytest.importorskip("grpc")
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    from test_grpc import Wire, pb

    exporter, provider = InMemorySpanExporter(), sdk.TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    found = Served(*numeric, name="numbers")
    found.deploy((1, 100.0))
    trace = "1af7651916cd43dd8448eb211c80319c"
    with found.up():
        assert found.plane is not None
        wire = Wire(found, DataPlane(found.plane, tracing=Tracing(provider)))
        contents = pb.InferTensorContents(fp64_contents=[0.25, 3, 0.5])
        tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP64", shape=[1, 3], contents=contents)
        asked: dict[str, Any] = {"model_name": "numbers", "inputs": [tensor]}
        answer = wire.call("ModelInfer", metadata=(("traceparent", f"00-{trace}-b7ad6b7169203331-01"),), **asked)
        wire.refused("ModelInfer", model_name="numbers", model_version="9", inputs=[tensor])
        wire.close()
    assert grpc is not None
    done: Any = exporter.get_finished_spans()
    (span,) = done
    assert f"{span.context.trace_id:032x}" == trace
    assert span.attributes["noria.version"] == 1
    made, _ = found.store.predictions.find(answer.parameters["prediction_ids"].string_param)
    assert made.trace == trace


def test_it_is_asked_for_by_the_standard_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    assert configured() is None
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    made = configured()
    assert made is not None
    made.close()
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert configured() is None
