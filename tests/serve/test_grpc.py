"""The Open Inference Protocol over real gRPC: Triton's own client, and plain calls with the published messages."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from serving import Clock, Served

from noria.errors import NoriaError, RequestError, StoreFull
from noria.records import ModelVersion
from noria.serve import DataPlane, Plane, choose, oip
from noria.serve.access import digest_of
from noria.serve.engine import Overloaded, ProcessEngine, TooLate
from noria.serve.grpc import GrpcServer
from noria.serve.listen import ServerThread
from noria.serve.reading import MAX_BODY_BYTES
from noria.store import Store
from noria.store.ports import ApiKey

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # as the server does, which here is not the first to load it
grpc: Any = pytest.importorskip("grpc")
triton: Any = pytest.importorskip("tritonclient.grpc")  # its messages live beside ours in this process
pb: Any = pytest.importorskip("tritonclient.grpc.service_pb2")
health_pb: Any = pytest.importorskip("grpc_health.v1.health_pb2")
health_stub: Any = pytest.importorskip("grpc_health.v1.health_pb2_grpc")

SERVICE = "inference.GRPCInferenceService"
NOW = datetime(2024, 1, 1, tzinfo=UTC)
TRACE = "0af7651916cd43dd8448eb211c80319c"
COLUMNS: dict[str, tuple[str, str, list[Any]]] = {
    "age": ("INT64", "int64_contents", [40, 50]),
    "city": ("BYTES", "bytes_contents", [b"Oslo", b"Rome"]),
    "bonus": ("FP64", "fp64_contents", [0.5, 0.25]),
}


class Refused(Exception):
    """What a call was refused with."""

    def __init__(self, error: Any) -> None:
        self.code: str = error.code().name
        self.text: str = error.details()
        super().__init__(f"{self.code}: {self.text}")


class Wire:
    """A gRPC server of what ``served`` serves, and a channel to it."""

    def __init__(self, served: Served, data: DataPlane | None = None, **options: Any) -> None:
        assert served.plane is not None
        assert served.plane._follower is not None
        self.loop = served.plane._follower.get_loop()
        self.data = data or DataPlane(served.plane, keys=served.keys)
        self.server = GrpcServer(self.data, "127.0.0.1", 0, **options)
        self.target = f"127.0.0.1:{self.run(self.server.start())}"
        most = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self.channel = grpc.insecure_channel(self.target, [*most, ("grpc.use_local_subchannel_pool", 1)])

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def method(self, name: str) -> Any:
        return self.channel.unary_unary(
            f"/{SERVICE}/{name}",
            request_serializer=lambda sent: sent if isinstance(sent, bytes) else sent.SerializeToString(),
            response_deserializer=getattr(pb, f"{name}Response").FromString,
        )

    def call(self, call: str, sent: Any = None, /, metadata: Any = None, timeout: float = 60, **fields: Any) -> Any:
        """Ask with a request, its bytes, or the fields of one."""
        request = getattr(pb, f"{call}Request")(**fields) if sent is None else sent
        try:
            return self.method(call)(request, timeout=timeout, metadata=metadata)
        except grpc.RpcError as error:
            refused = Refused(error)
        assert "Traceback" not in refused.text
        assert "/tmp/" not in refused.text
        raise refused

    def refused(self, call: str, sent: Any = None, /, **given: Any) -> Refused:
        with pytest.raises(Refused) as caught:
            self.call(call, sent, **given)
        return caught.value

    @property
    def health(self) -> Any:
        return health_stub.HealthStub(self.channel)

    def status(self, service: str = "") -> str:
        reply = self.health.Check(health_pb.HealthCheckRequest(service=service), timeout=30)
        found: str = health_pb.HealthCheckResponse.ServingStatus.Name(reply.status)
        return found

    def close(self) -> None:
        self.run(self.server.stop(5))
        self.channel.close()


@contextmanager
def wired(served: Served, data: DataPlane | None = None, **options: Any) -> Iterator[Wire]:
    found = Wire(served, data, **options)
    try:
        yield found
    finally:
        found.close()


@pytest.fixture(scope="module")
def wire(steady: Served) -> Iterator[Wire]:
    with wired(steady) as found:
        yield found


@pytest.fixture(scope="module")
def client(wire: Wire) -> Iterator[Any]:
    found = triton.InferenceServerClient(wire.target)
    yield found
    found.close()


def infer(**changed: Any) -> Any:
    """A request of typed contents: datatype, contents and values by name."""
    request = pb.ModelInferRequest(model_name="churn")
    for name, (kind, contents, values) in {**COLUMNS, **changed}.items():
        tensor = request.inputs.add(name=name, datatype=kind, shape=[len(values)])
        getattr(tensor.contents, contents).extend(values)
    return request


def raw_of(request: Any) -> Any:
    """The same request of raw contents."""
    found = pb.ModelInferRequest()
    found.CopyFrom(request)
    for tensor in found.inputs:
        (values,) = (list(given) for _, given in tensor.contents.ListFields())
        tensor.ClearField("contents")
        if tensor.datatype == "BYTES":
            data = b"".join(len(value).to_bytes(4, "little") + value for value in values)
        else:
            data = np.array(values, triton_numpy(tensor.datatype)).tobytes()
        found.raw_input_contents.append(data)
    return found


def triton_numpy(kind: str) -> Any:
    from tritonclient.utils import triton_to_np_dtype

    return triton_to_np_dtype(kind)


def ids(response: Any) -> list[str]:
    found: str = response.parameters["prediction_ids"].string_param
    return found.split(",")


def over_http(served: Served) -> list[Any]:
    """What HTTP says to the same rows."""
    records = [{"age": 40, "city": "Oslo", "bonus": 0.5}, {"age": 50, "city": "Rome", "bonus": 0.25}]
    found: list[Any] = served.post("/predict/churn", records).body["predictions"]
    return found


def count(served: Served) -> int:
    return len(served.store.predictions.predictions("churn", limit=1_000_000))


# -- every call, by Triton's own client


def test_the_server_and_its_models_say_they_are_there(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("churn")
    assert client.is_model_ready("churn", "2")
    for name, version in (("churn", "9"), ("churn", "x"), ("other", ""), ("stats", ""), ("", ""), ("../churn", "1/2")):
        assert not client.is_model_ready(name, version)


def test_the_server_and_its_models_describe_themselves_as_over_http(steady: Served, client: Any) -> None:
    assert client.get_server_metadata(as_json=True) == steady.get("/v2").body
    metadata = client.get_model_metadata("churn")
    told = steady.get("/v2/models/churn").body
    assert (metadata.name, list(metadata.versions), metadata.platform) == ("churn", ["1", "2"], told["platform"])
    for side in ("inputs", "outputs"):
        listed = [
            {"name": one.name, "datatype": one.datatype, "shape": list(one.shape)} for one in getattr(metadata, side)
        ]
        assert listed == told[side]


def test_the_configuration_is_in_tritons_types(client: Any) -> None:
    config = client.get_model_config("churn", "1", as_json=True)["config"]
    assert (config["name"], config["backend"]) == ("churn", "noria")
    inputs = {one["name"]: one["data_type"] for one in config["input"]}
    assert inputs == {"id": "TYPE_INT64", "age": "TYPE_INT64", "city": "TYPE_STRING", "bonus": "TYPE_FP64"}
    assert config["output"][1] == {"name": "probabilities", "data_type": "TYPE_FP64", "dims": ["-1", "2"]}


def test_statistics_count_what_was_asked(wire: Wire, client: Any) -> None:
    def counted() -> int:
        (one,) = client.get_inference_statistics("churn", "1").model_stats
        assert (one.name, one.version) == ("churn", "1")
        return int(one.inference_count)

    before = counted()
    wire.call("ModelInfer", infer())
    assert counted() == before + 2
    assert {one.version for one in client.get_inference_statistics().model_stats} == {"1", "2"}


def tensors(**changed: Any) -> list[Any]:
    columns = {
        "age": ("INT64", np.array([40, 50])),
        "city": ("BYTES", np.array(["Oslo", "Rome"], dtype=object)),
        "bonus": ("FP64", np.array([0.5, 0.25])),
    }
    found = []
    for name, (kind, values) in {**columns, **changed}.items():
        one = triton.InferInput(name, list(values.shape), kind)
        one.set_data_from_numpy(values)
        found.append(one)
    return found


def test_tritons_client_is_answered_as_http_is(steady: Served, client: Any) -> None:
    found = client.infer("churn", tensors(), request_id="mine")
    told = over_http(steady)
    assert found.get_response().id == "mine"
    assert (found.get_response().model_name, found.get_response().model_version) == ("churn", "1")
    assert found.as_numpy("prediction").tolist() == [one["prediction"] for one in told]
    assert found.as_numpy("probabilities").tolist() == [list(one["probabilities"].values()) for one in told]
    first = ids(found.get_response())[0]
    kept, _ = steady.store.predictions.find(first)
    assert kept.record is not None
    assert (kept.record["age"], kept.record["city"], kept.version) == (40, "Oslo", 1)


def test_a_version_and_outputs_can_be_chosen(client: Any) -> None:
    shares = {}
    for version in ("1", "2"):
        wanted = [triton.InferRequestedOutput("probabilities")]
        found = client.infer("churn", tensors(), model_version=version, outputs=wanted)
        assert found.get_response().model_version == version
        assert found.as_numpy("prediction") is None
        shares[version] = found.as_numpy("probabilities").tolist()
    assert shares["1"] != shares["2"]


def test_the_repository_is_listed_and_models_are_unloaded_and_loaded(served: Served) -> None:
    with wired(served) as wire:
        client = triton.InferenceServerClient(wire.target)
        (one,) = client.get_model_repository_index(as_json=True)["models"]
        assert one == {"name": "churn", "version": "1", "state": "READY"}
        client.unload_model("churn")
        assert not client.is_model_ready("churn")
        (one,) = client.get_model_repository_index().models
        assert (one.state, one.reason) == ("UNAVAILABLE", "unloaded")
        assert not wire.call("RepositoryIndex", ready=True).models
        assert wire.refused("ModelInfer", infer()).code == "NOT_FOUND"
        client.load_model("churn")
        assert client.is_model_ready("churn")
        assert wire.call("ModelInfer", infer()).model_version == "1"
        with pytest.raises(triton.InferenceServerException, match="not overridden"):
            client.load_model("churn", config=json.dumps({"backend": "mine"}))
        with pytest.raises(triton.InferenceServerException, match="Deployed: churn"):
            client.load_model("other")
        with pytest.raises(triton.InferenceServerException, match="Deployed: churn"):
            client.unload_model("other")
        client.close()


# -- plain calls: typed contents and raw ones


def test_typed_contents_are_answered_typed_and_raw_ones_raw(steady: Served, wire: Wire) -> None:
    told = over_http(steady)
    shares = [share for one in told for share in one["probabilities"].values()]
    typed, raw = wire.call("ModelInfer", infer()), wire.call("ModelInfer", raw_of(infer()))
    assert [(one.name, one.datatype, list(one.shape)) for one in typed.outputs] == [
        ("prediction", "INT64", [2]), ("probabilities", "FP64", [2, 2]),
    ]  # fmt: skip
    assert not typed.raw_output_contents
    assert list(typed.outputs[0].contents.int64_contents) == [one["prediction"] for one in told]
    assert list(typed.outputs[1].contents.fp64_contents) == shares
    assert [one.name for one in raw.outputs] == ["prediction", "probabilities"]
    assert not any(one.HasField("contents") for one in raw.outputs)
    values, probabilities = raw.raw_output_contents
    assert np.frombuffer(values, "<i8").tolist() == [one["prediction"] for one in told]
    assert np.frombuffer(probabilities, "<f8").tolist() == shares
    assert typed.id == ids(typed)[0]


TYPED = {
    "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents", "INT64": "int64_contents",
    "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents", "UINT64": "uint64_contents",
    "FP32": "fp32_contents", "FP64": "fp64_contents",
}  # fmt: skip


@pytest.mark.parametrize("kind", TYPED)
def test_a_column_is_taken_in_every_datatype_of_numbers(wire: Wire, kind: str) -> None:
    expected = wire.call("ModelInfer", infer()).outputs[1].contents.fp64_contents
    request = infer(age=(kind, TYPED[kind], [40, 50]))
    assert wire.call("ModelInfer", request).outputs[1].contents.fp64_contents == expected
    raw = wire.call("ModelInfer", raw_of(request)).raw_output_contents[1]
    assert np.frombuffer(raw, "<f8").tolist() == list(expected)


@pytest.mark.parametrize("kind", ["FP16", "BF16"])
def test_half_floats_travel_raw_only(wire: Wire, kind: str) -> None:
    request = raw_of(infer())
    request.inputs[0].datatype = kind
    numbers = np.array([40, 50], "<f4")
    request.raw_input_contents[0] = (
        numbers.astype("<f2").tobytes() if kind == "FP16" else (numbers.view("<u4") >> 16).astype("<u2").tobytes()
    )
    assert wire.call("ModelInfer", request).raw_output_contents
    refused = wire.refused("ModelInfer", infer(age=(kind, "fp32_contents", [40, 50])))
    assert (refused.code, "raw contents only" in refused.text) == ("INVALID_ARGUMENT", True)


def test_columns_may_be_upright_and_a_missing_number_is_nan(wire: Wire) -> None:
    request = infer(bonus=("FP64", "fp64_contents", [float("nan"), 0.25]))
    for tensor in request.inputs:
        tensor.shape[:] = [2, 1]
    assert list(wire.call("ModelInfer", request).outputs[0].shape) == [2]


def test_unknown_parameters_and_fields_do_no_harm(wire: Wire) -> None:
    request = infer()
    request.parameters["priority"].uint64_param = 1
    request.parameters["ratio"].double_param = 0.5
    request.inputs[0].parameters["note"].string_param = "x"
    later = request.SerializeToString() + b"\xfa\x07\x03new"  # field 127, of a protocol to come
    assert wire.call("ModelInfer", later).outputs


# -- refusals


def changed(**columns: Any) -> Any:
    return lambda: infer(**columns)


def edited(edit: Any, made: Any = infer) -> Any:
    def make() -> Any:
        request = made()
        edit(request)
        return request

    return make


def raw() -> Any:
    return raw_of(infer())


BAD: list[tuple[Any, str]] = [
    (lambda: b"\xff\xff\xff", "no ModelInferRequest"),
    (lambda: b"\x0a\x02\xff\xfe", "no ModelInferRequest"),
    (changed(age=("FP64", "fp64_contents", [40, 1.5])), "record 1, field 'age': 1.5 is not a whole number"),
    (changed(age=("FP64", "fp64_contents", [float("nan"), 1])), "record 0, field 'age': is missing"),
    (changed(bonus=("FP64", "fp64_contents", [0.5, float("inf")])), "record 1, field 'bonus': inf is not a finite"),
    (changed(age=("BYTES", "bytes_contents", [b"40", b"50"])), "record 0, field 'age'"),
    (changed(city=("INT64", "int64_contents", [1, 2])), "record 0, field 'city'"),
    (changed(city=("BYTES", "bytes_contents", [b"Oslo", b"Atlantis"])), "record 1: feature 'town' failed"),
    (changed(city=("BYTES", "bytes_contents", [b"Oslo", b"\xff"])), "'city' holds a value that is not UTF-8"),
    (changed(agee=("INT64", "int64_contents", [1, 2])), 'Did you mean "age"?'),
    (edited(lambda r: r.inputs.pop(0)), "field 'age': is missing"),
    (edited(lambda r: r.inputs.add().CopyFrom(r.inputs[0])), "'age' is there twice"),
    (edited(lambda r: r.ClearField("inputs")), "has no inputs"),
    (changed(age=("INT8", "int_contents", [40, 300])), "'age' is INT8, and its value 1 is outside -128 to 127"),
    (changed(age=("INT16", "int_contents", [-40_000, 1])), "its value 0 is outside -32768 to 32767"),
    (changed(age=("UINT8", "uint_contents", [40, 256])), "its value 1 is outside 0 to 255"),
    (changed(age=("UINT16", "uint_contents", [40, 2**16])), "its value 1 is outside 0 to 65535"),
    (changed(age=("INT65", "int64_contents", [40, 50])), "'age' needs a datatype: one of"),
    (changed(age=("", "int64_contents", [40, 50])), "'age' needs a datatype: one of"),
    (changed(age=("INT64", "fp64_contents", [40, 50])), "'age' has 0 values; its shape [2] needs 2"),
    (changed(age=("INT64", "int64_contents", [40])), "differ in their number of rows"),
    (edited(lambda r: r.inputs[0].shape.append(2)), "'age' has 2 values; its shape [2, 2] needs 4"),
    (edited(lambda r: r.inputs[0].ClearField("shape")), "needs a shape"),
    (edited(lambda r: r.inputs[0].shape.__setitem__(0, -2)), "needs a shape"),
    (edited(lambda r: r.inputs[0].shape.extend([2**62] * 7)), "'age' has 2 values"),
    (edited(lambda r: r.inputs[0].shape.extend([1] * 8)), "needs a shape"),
    (edited(lambda r: r.outputs.add(name="nothing")), "Unknown output ['nothing']"),
    (edited(lambda r: r.outputs.add(name="prediction").parameters["classification"].MergeFrom(number(2))), "'probabil"),
    (edited(lambda r: r.outputs.add(name="prediction").parameters["shared_memory_region"].Clear()), "Shared memory"),
    (edited(lambda r: r.inputs[0].parameters["shared_memory_region"].Clear()), "Shared memory is not supported"),
    (edited(lambda r: r.inputs[1].parameters["content_type"].MergeFrom(text("base64"))), "content type 'base64'"),
    (edited(lambda r: r.raw_input_contents.pop(), raw), "3 inputs and 2 raw contents"),
    (edited(lambda r: r.raw_input_contents.append(b""), raw), "3 inputs and 4 raw contents"),
    (edited(lambda r: r.raw_input_contents.__setitem__(0, b"\0" * 15), raw), "has 15 bytes of binary data"),
    (edited(lambda r: r.raw_input_contents.__setitem__(1, b"\xff" * 16), raw), "are not 2 texts"),
    (edited(lambda r: r.raw_input_contents.__setitem__(1, b"\1\0\0\0\xff\0\0\0\0"), raw), "value 0 is not UTF-8"),
    (edited(lambda r: r.inputs[0].contents.int64_contents.append(1), raw), "typed contents beside raw ones"),
    (lambda: infer(**{name: (kind, where, []) for name, (kind, where, _) in COLUMNS.items()}), "have no rows"),
]


def text(value: str) -> Any:
    return pb.InferParameter(string_param=value)


def number(value: int) -> Any:
    return pb.InferParameter(int64_param=value)


@pytest.mark.parametrize("place", range(len(BAD)))
def test_a_request_that_does_not_fit_is_refused_and_nothing_is_recorded(steady: Served, wire: Wire, place: int) -> None:
    make, said = BAD[place]
    before = count(steady)
    refused = wire.refused("ModelInfer", make())
    assert refused.code == "INVALID_ARGUMENT", refused
    assert said in refused.text
    assert count(steady) == before


def test_many_faults_are_named_as_far_as_a_header_holds(wire: Wire) -> None:
    rows = 400
    columns = {
        "age": ("FP64", "fp64_contents", [1.5] * rows),
        "city": ("BYTES", "bytes_contents", [b"Oslo"] * rows),
        "bonus": ("FP64", "fp64_contents", [0.5] * rows),
    }
    text = wire.refused("ModelInfer", infer(**columns)).text
    assert "record 0, field 'age'" in text
    assert "record 9, field 'age'" in text
    assert "and 90 more" in text
    odd = {f"{place}{chr(0x2603) * 90}": ("INT64", "int64_contents", [1, 2]) for place in range(20)}
    refused = wire.refused("ModelInfer", infer(**odd))
    assert refused.code == "INVALID_ARGUMENT"
    assert "is not known" in refused.text
    assert refused.text.endswith("…")


def test_a_record_is_named_by_its_place_in_the_request_when_versions_share_it(served: Served) -> None:
    served.deploy((1, 50.0), (2, 50.0))
    rows = 20
    champions = [row for row in range(rows) if choose(served.deployments["churn"], str(row)).version == 1]
    wrong = champions[-1]
    assert len(champions) - 1 < wrong  # its place among the champion's rows is another
    cities = [b"Oslo"] * rows
    cities[wrong] = b"Atlantis"
    with wired(served) as wire:
        served.until(lambda: len(wire.call("ModelMetadata", name="churn").versions) == 2)
        request = infer(
            id=("INT64", "int64_contents", list(range(rows))),
            age=("INT64", "int64_contents", [40] * rows),
            city=("BYTES", "bytes_contents", cities),
            bonus=("FP64", "fp64_contents", [0.5] * rows),
        )
        refused = wire.refused("ModelInfer", request)
        assert refused.code == "INVALID_ARGUMENT"
        assert refused.text.startswith(f"record {wrong}: ")


@pytest.mark.parametrize(
    ("call", "fields"),
    [
        ("ModelMetadata", {"name": "other"}),
        ("ModelMetadata", {"name": "stats"}),
        ("ModelMetadata", {"name": ""}),
        ("ModelMetadata", {"name": "churn/versions/1"}),
        ("ModelMetadata", {"name": "churn", "version": "9"}),
        ("ModelMetadata", {"name": "churn", "version": "one"}),
        ("ModelMetadata", {"name": "churn", "version": "1/stats"}),
        ("ModelMetadata", {"name": "☃" * 100_000}),
        ("ModelConfig", {"name": "other"}),
        ("ModelConfig", {"name": "churn", "version": "-1"}),
        ("ModelStatistics", {"name": "other"}),
        ("ModelStatistics", {"name": "churn", "version": "9"}),
        ("ModelInfer", {"model_name": "other"}),
        ("ModelInfer", {"model_name": "churn", "model_version": "9"}),
        ("ModelInfer", {"model_name": "churn", "model_version": "1.0"}),
        ("RepositoryModelLoad", {"model_name": "../other"}),
        ("RepositoryModelUnload", {"model_name": "other"}),
    ],
)
def test_what_is_not_there_is_not_found(wire: Wire, call: str, fields: dict[str, str]) -> None:
    assert wire.refused(call, **fields).code == "NOT_FOUND"


@pytest.mark.parametrize(
    "call",
    ["ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics", "RepositoryIndex", "RepositoryModelLoad"],
)
def test_bytes_that_are_no_message_are_refused(wire: Wire, call: str) -> None:
    assert wire.refused(call, b"\xff" * 9).code == "INVALID_ARGUMENT"


def test_a_call_there_is_not_is_said(wire: Wire) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        wire.channel.unary_unary(f"/{SERVICE}/SystemSharedMemoryStatus")(b"", timeout=30)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_metadata_that_means_something_over_http_changes_nothing(wire: Wire) -> None:
    odd = [("content-encoding", "gzip"), ("origin", "http://evil"), ("x-odd-bin", b"\xff\0"), ("host", "elsewhere")]
    assert wire.call("ServerMetadata", metadata=odd).name == "noria"
    assert wire.call("ModelConfig", metadata=odd, name="churn").config.name == "churn"
    assert wire.call("ModelInfer", infer(), metadata=odd).outputs


class Failing(DataPlane):
    """Fails at every prediction."""

    fault: Exception

    def version(self, text: str | None) -> int | None:  # type: ignore[override]
        raise self.fault


@pytest.mark.parametrize(
    ("fault", "code", "said"),
    [
        (RequestError("x is wrong", [{"record": 3, "field": "x", "problem": "bad"}]), "INVALID_ARGUMENT", "record 3"),
        (Overloaded("full", 5), "RESOURCE_EXHAUSTED", "full"),
        (TooLate("too late"), "DEADLINE_EXCEEDED", "too late"),
        (StoreFull("disk /var/lib/noria/log is full"), "UNAVAILABLE", "no space left"),
        (NoriaError("it is so"), "FAILED_PRECONDITION", "it is so"),
        (RuntimeError("secret of /tmp/noria/x.py"), "INTERNAL", "its log says why"),
        (OverflowError(3), "INTERNAL", "its log says why"),
    ],
    ids=lambda given: type(given).__name__ if isinstance(given, Exception) else "",
)
def test_every_error_has_its_status_and_shows_nothing_of_ours(
    steady: Served, fault: Exception, code: str, said: str
) -> None:
    assert steady.plane is not None
    data = Failing(steady.plane)
    data.fault = fault
    with wired(steady, data) as wire:
        refused = wire.refused("ModelInfer", infer())
        assert refused.code == code
        assert said in refused.text
        assert "secret" not in refused.text
        assert "/var" not in refused.text
        assert wire.call("ServerLive").live


def test_a_model_that_cannot_be_loaded_is_unavailable(trained: tuple[Store, list[ModelVersion]]) -> None:
    found = Served(*trained)
    found.deploy((1, 100.0))
    found.plane = Plane(found.store, Clock(), ["false"], lambda: dict(found.deployments))
    with ServerThread(DataPlane(found.plane)), wired(found) as wire:
        refused = wire.refused("ModelInfer", infer())
        assert (refused.code, "cannot be served" in refused.text) == ("UNAVAILABLE", True)
        assert not wire.call("ModelReady", name="churn").ready
        assert not wire.call("ServerReady").ready
        assert wire.status() == wire.status("churn") == "NOT_SERVING"
        assert wire.call("RepositoryIndex").models[0].state == "UNAVAILABLE"


SLOTH = ("BYTES", "bytes_contents", [b"Sloth", b"Sloth"])


def test_more_than_can_wait_is_turned_away(
    trained: tuple[Store, list[ModelVersion]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ProcessEngine.__init__, "__defaults__", (2,))
    found = Served(*trained)
    found.deploy((1, 100.0))
    with found.up(), wired(found) as wire:
        asked = [wire.method("ModelInfer").future(infer(city=SLOTH), timeout=60) for _ in range(12)]
        codes = {one.code().name for one in asked}
        assert codes == {"OK", "RESOURCE_EXHAUSTED"}
        assert wire.call("ModelInfer", infer()).outputs


# -- deadlines, traces


def test_a_call_whose_deadline_passes_in_the_queue_is_not_predicted(served: Served) -> None:
    with wired(served) as wire:
        first = wire.method("ModelInfer").future(infer(city=SLOTH), timeout=60)
        time.sleep(0.2)
        with pytest.raises(Refused) as late:
            wire.call("ModelInfer", infer(id=("INT64", "int64_contents", [777_001, 777_002])), timeout=0.1)
        assert late.value.code == "DEADLINE_EXCEEDED"
        assert first.result().outputs
        assert wire.call("ModelInfer", infer()).outputs
        keys = {one.key for _, one in served.store.predictions.predictions("churn", limit=1_000_000)}
        assert not {"777001", "777002"} & keys


def test_a_call_that_is_cancelled_does_not_harm_others(served: Served) -> None:
    with wired(served) as wire:
        for _ in range(3):
            one = wire.method("ModelInfer").future(infer(city=SLOTH), timeout=60)
            time.sleep(0.05)
            assert one.cancel()
        assert wire.call("ModelInfer", infer()).outputs


def test_a_trace_id_is_kept(steady: Served, wire: Wire) -> None:
    sent = [("traceparent", f"00-{TRACE}-b7ad6b7169203331-01")]
    for made in ids(wire.call("ModelInfer", infer(), metadata=sent)):
        assert steady.store.predictions.find(made)[0].trace == TRACE
    odd = wire.call("ModelInfer", infer(), metadata=[("traceparent", "x")])
    assert steady.store.predictions.find(ids(odd)[0])[0].trace is None


# -- size


def test_a_message_of_20_megabytes_is_answered(wire: Wire, client: Any) -> None:
    rows = 210
    cities = np.array(["x" * 100_000] * rows, dtype=object)
    large = tensors(age=("INT64", np.full(rows, 40)), city=("BYTES", cities), bonus=("FP64", np.full(rows, 0.5)))
    assert client.infer("churn", large).as_numpy("prediction").shape == (rows,)
    typed = infer(
        age=("INT64", "int64_contents", [40] * rows),
        city=("BYTES", "bytes_contents", [b"x" * 100_000] * rows),
        bonus=("FP64", "fp64_contents", [0.5] * rows),
    )
    assert typed.ByteSize() > 20 * 2**20 * 0.95
    assert list(wire.call("ModelInfer", typed).outputs[0].shape) == [rows]


def test_nobody_waits_while_a_large_message_is_read(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    async def current() -> threading.Thread:
        return threading.current_thread()

    loops, batch_of = wire.run(current()), oip.batch_of
    by_loop: list[bool] = []

    def read(*given: Any) -> Any:
        by_loop.append(threading.current_thread() is loops)
        return batch_of(*given)

    monkeypatch.setattr(oip, "batch_of", read)
    small, large = infer(), infer()
    large.parameters["more"].string_param = "x" * 2**20
    assert wire.call("ModelInfer", large).outputs[1] == wire.call("ModelInfer", small).outputs[1]
    assert by_loop == [False, True]


def test_an_answer_larger_than_grpcs_usual_limit_is_given(compiled: Served) -> None:
    rows = 120_000
    matrix = np.tile([0.25, 3.0, 0.5], (rows, 1))
    with wired(compiled) as wire:
        client = triton.InferenceServerClient(wire.target)
        one = triton.InferInput("x", [rows, 3], "FP64")
        one.set_data_from_numpy(matrix)
        found = client.infer("numbers", [one])
        client.close()
    assert found.get_response().ByteSize() > 4 * 2**20
    assert found.as_numpy("probabilities").shape == (rows, 2)
    assert len(set(ids(found.get_response()))) == rows


def test_a_message_over_the_limit_is_refused(steady: Served) -> None:
    with wired(steady, max_message=100_000) as wire:
        city = ("BYTES", "bytes_contents", [b"x" * 100_000] * 2)
        assert wire.refused("ModelInfer", infer(city=city)).code == "RESOURCE_EXHAUSTED"
        assert wire.call("ModelInfer", infer()).outputs


def test_a_message_may_be_as_large_as_a_body_over_http(wire: Wire) -> None:
    request = infer()
    request.parameters["more"].string_param = "x" * MAX_BODY_BYTES
    assert wire.refused("ModelInfer", request).code == "RESOURCE_EXHAUSTED"
    request.parameters["more"].string_param = "x" * (MAX_BODY_BYTES - 1000)
    assert wire.call("ModelInfer", request).outputs


# -- keys


@pytest.fixture
def keyed(served: Served) -> Iterator[tuple[Served, Wire]]:
    served.keys.update([ApiKey("mine", digest_of("of-churn"), NOW, "churn"), ApiKey("boss", digest_of("of-all"), NOW)])
    with wired(served) as wire:
        yield served, wire


ABOUT_A_MODEL: list[tuple[str, dict[str, Any]]] = [
    ("ModelReady", {"name": "churn"}),
    ("ModelMetadata", {"name": "churn"}),
    ("ModelConfig", {"name": "churn"}),
    ("ModelStatistics", {"name": "churn"}),
]
ABOUT_ALL: list[tuple[str, dict[str, Any]]] = [
    ("ModelStatistics", {}),
    ("RepositoryIndex", {}),
    ("RepositoryModelUnload", {"model_name": "churn"}),
    ("RepositoryModelLoad", {"model_name": "churn"}),
]


def test_a_model_that_has_keys_is_asked_with_one(keyed: tuple[Served, Wire]) -> None:
    _, wire = keyed
    for metadata in (
        None,
        [("authorization", "Bearer wrong")],
        [("authorization", "of-churn")],
        [("authorization", "")],
        [("x-api-key", "wrong")],
        [("x-api-key-bin", b"of-churn")],
        [("x-api-key", "of-churn"), ("authorization", "Bearer wrong")],
    ):
        for call, fields in ABOUT_A_MODEL:
            refused = wire.refused(call, metadata=metadata, **fields)
            assert (refused.code, "needs a key" in refused.text) == ("UNAUTHENTICATED", True)
        assert wire.refused("ModelInfer", infer(), metadata=metadata).code == "UNAUTHENTICATED"
        assert wire.refused("ModelInfer", b"\x0a\x05churn", metadata=metadata).code == "UNAUTHENTICATED"
    for metadata in (
        [("authorization", "Bearer of-churn")],
        [("authorization", "bearer of-all")],
        [("x-api-key", "of-churn")],
        [("x-api-key", "of-all")],
    ):
        for call, fields in ABOUT_A_MODEL:
            wire.call(call, metadata=metadata, **fields)
        assert wire.call("ModelInfer", infer(), metadata=metadata).outputs


def test_the_repository_is_changed_with_a_key_for_every_model(keyed: tuple[Served, Wire]) -> None:
    _, wire = keyed
    for metadata in (None, [("x-api-key", "of-churn")]):
        for call, fields in ABOUT_ALL:
            assert wire.refused(call, metadata=metadata, **fields).code == "UNAUTHENTICATED"
    for call, fields in ABOUT_ALL:
        wire.call(call, metadata=[("x-api-key", "of-all")], **fields)
    assert wire.call("ModelReady", metadata=[("x-api-key", "of-all")], name="churn").ready


def test_health_needs_no_key_but_a_models_own_does(keyed: tuple[Served, Wire]) -> None:
    _, wire = keyed
    assert wire.call("ServerLive").live
    assert wire.call("ServerReady").ready
    assert wire.status() == wire.status(SERVICE) == "SERVING"
    with pytest.raises(grpc.RpcError) as caught:
        wire.status("churn")
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    with pytest.raises(grpc.RpcError) as caught:
        next(wire.health.Watch(health_pb.HealthCheckRequest(service="churn"), timeout=30))
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


# -- health, and the end


def test_health_is_told_by_service(wire: Wire) -> None:
    assert wire.status("") == wire.status(SERVICE) == wire.status("churn") == "SERVING"
    for unknown in ("other", "☃" * 100_000):
        with pytest.raises(grpc.RpcError) as caught:
            wire.status(unknown)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    watch = wire.health.Watch(health_pb.HealthCheckRequest(service="other"), timeout=30)
    assert next(watch).status == health_pb.HealthCheckResponse.SERVICE_UNKNOWN
    watch.cancel()


def test_a_watcher_is_told_when_health_changes(served: Served) -> None:
    told = health_pb.HealthCheckResponse
    with wired(served) as wire:
        watch = wire.health.Watch(health_pb.HealthCheckRequest(service="churn"), timeout=60)
        assert next(watch).status == told.SERVING
        wire.call("RepositoryModelUnload", model_name="churn")
        assert next(watch).status == told.NOT_SERVING
        wire.call("RepositoryModelLoad", model_name="churn")
        assert next(watch).status == told.SERVING
        wire.data.draining = True
        assert next(watch).status == told.NOT_SERVING
        assert wire.status() == "NOT_SERVING"
        assert not wire.call("ServerReady").ready
        assert wire.call("ModelInfer", infer()).outputs  # and is answered all the same


def test_stopping_says_not_serving_first_and_loses_no_call_in_flight(served: Served) -> None:
    wire = Wire(served)
    seen: list[tuple[int, float]] = []

    def watch() -> None:
        for reply in wire.health.Watch(health_pb.HealthCheckRequest(), timeout=60):
            seen.append((reply.status, time.monotonic()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    served.until(lambda: len(seen) == 1)
    slow = [wire.method("ModelInfer").future(infer(city=SLOTH), timeout=60) for _ in range(3)]
    time.sleep(0.1)
    stopping = asyncio.run_coroutine_threadsafe(wire.server.stop(30), wire.loop)
    served.until(lambda: len(seen) == 2)
    assert wire.status() == "NOT_SERVING"
    assert not wire.call("ServerReady").ready
    assert not wire.call("ModelReady", name="churn").ready
    assert wire.call("ServerLive").live
    stopping.result(60)
    over = time.monotonic()
    assert [len(one.result().outputs) for one in slow] == [2, 2, 2]
    watcher.join(60)
    assert [status for status, _ in seen] == [1, 2]
    assert seen[1][1] < over
    assert wire.refused("ServerLive").code == "UNAVAILABLE"
    assert served.post("/predict/churn", {"age": 40, "city": "Oslo", "bonus": 0.5}).status == 200  # HTTP goes on
    wire.close()  # a second time does nothing


def test_stopped_under_load_every_answer_made_is_given(served: Served) -> None:
    wire = Wire(served)
    before, answered, codes = count(served), [], Counter[str]()

    def ask() -> None:
        while True:
            try:
                answered.extend(ids(wire.call("ModelInfer", infer(), timeout=60)))
            except Refused as error:
                codes[error.code] += 1
                return

    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(ask) for _ in range(8)]
        time.sleep(1)
        wire.run(wire.server.stop(30))
        for one in asking:
            one.result(60)
    wire.close()
    assert codes == {"UNAVAILABLE": 8}
    assert len(answered) > 16
    assert count(served) - before == len(answered) == len(set(answered))


def test_a_call_that_takes_longer_than_the_grace_does_not_hold_the_end_up(served: Served) -> None:
    wire = Wire(served)
    slow = [wire.method("ModelInfer").future(infer(city=SLOTH), timeout=60) for _ in range(40)]
    time.sleep(0.1)
    started = time.monotonic()
    wire.run(wire.server.stop(0.2))
    assert time.monotonic() - started < 10
    assert {one.code().name for one in slow} <= {"OK", "UNAVAILABLE", "CANCELLED", "UNKNOWN"}
    wire.close()


def test_a_server_never_started_can_be_stopped(steady: Served) -> None:
    assert steady.plane is not None
    asyncio.run(GrpcServer(DataPlane(steady.plane), "127.0.0.1", 0).stop(1))


@pytest.mark.parametrize("host", ["203.0.113.7", "no.such.host.invalid"])
def test_an_address_that_cannot_be_had_is_said(steady: Served, host: str) -> None:
    assert steady.plane is not None
    server = GrpcServer(DataPlane(steady.plane), host, 0)
    with pytest.raises(RequestError, match="cannot listen on"):
        asyncio.run(server.start())


def test_a_port_that_is_taken_is_said_unless_it_is_shared(steady: Served) -> None:
    async def both(shared: bool) -> None:
        first = GrpcServer(DataPlane(steady.plane), "127.0.0.1", 0, shared=shared)  # type: ignore[arg-type]
        port = await first.start()
        second = GrpcServer(DataPlane(steady.plane), "127.0.0.1", port, shared=shared)  # type: ignore[arg-type]
        try:
            await second.start()
            await second.stop(0)
        finally:
            await first.stop(0)

    asyncio.run(both(True))
    with pytest.raises(RequestError, match="cannot listen on"):
        asyncio.run(both(False))


def test_the_server_keeps_grpcs_threads_out_of_the_processes_it_starts() -> None:
    code = (
        "import os\nfrom noria.serve.grpc import GrpcServer\n"
        "GrpcServer(None, '127.0.0.1', 0)\nprint(os.environ['GRPC_ENABLE_FORK_SUPPORT'])\n"
    )
    for given, expected in ((None, "0"), ("1", "1")):  # who asks for it has it
        chosen = {name: value for name, value in os.environ.items() if name != "GRPC_ENABLE_FORK_SUPPORT"}
        chosen |= {} if given is None else {"GRPC_ENABLE_FORK_SUPPORT": given}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=chosen)
        assert done.stdout.strip() == expected


@pytest.mark.parametrize("missing", ["grpc", "google.protobuf"])
def test_a_missing_package_is_said_with_what_to_install(missing: str) -> None:
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from noria.serve.grpc import GrpcServer\n"
        "try:\n    GrpcServer(None, '127.0.0.1', 0)\n"
        "except Exception as error:\n    print(type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "MissingExtra grpcio is needed to serve gRPC: pip install 'noria[grpc]'"
