"""The Open Inference Protocol over gRPC, beside the one over HTTP: the same models, keys, limits and records.

Source: the Open Inference Protocol's gRPC service ``inference.GRPCInferenceService``, Triton's repository calls in the
same service, and ``grpc.health.v1``. A call costs several times what the same over HTTP does: gRPC is here for clients
that speak nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, NoReturn

import numpy as np
import orjson

from noria.errors import MissingExtra, ModelError, NoriaError, NotFound, RequestError
from noria.serve import oip
from noria.serve.batch import Batch
from noria.serve.http import DataPlane
from noria.serve.plane import Answered, laid_out
from noria.serve.reading import LARGE_BYTES, MAX_BODY_BYTES, MAX_ROWS
from noria.serve.refusals import refusal
from noria.serve.wire import Reply, Request

__all__ = ["GrpcServer"]

_log = logging.getLogger("noria.serve")
_CONTENTS = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip
_TYPES = ("INVALID", "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32",
          "FP64", "STRING", "BF16")  # fmt: skip
_WIDE = {"INT8": "<i4", "INT16": "<i4", "UINT8": "<u4", "UINT16": "<u4"}  # as their typed contents hold them
_STATUS = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
    409: "FAILED_PRECONDITION", 413: "INVALID_ARGUMENT", 415: "INVALID_ARGUMENT", 422: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED",
}  # fmt: skip
_SERVICE = "inference.GRPCInferenceService"
_SERVING, _NOT_SERVING, _UNKNOWN = 1, 2, 3  # grpc.health.v1.HealthCheckResponse.ServingStatus
_ALWAYS = frozenset(("ServerLive", "ServerReady", "ModelReady", "HealthCheck"))  # answered until the very end
_SAID_SECONDS = 0.15
_QUIET_SECONDS = 0.1
_RESTLESS_SECONDS = 1.0
_LOOK_SECONDS = 0.25
_LONGEST_TEXT = 4000  # bytes as sent: clients refuse a reply whose trailers are over 8 KB
_NAMED = 10
_ACCESS = (b"authorization", b"x-api-key")


def _libraries() -> tuple[Any, Callable[[str], Any]]:
    # gRPC's own care for forked processes starts a thread in each, which crashes some of our models' processes before
    # they become what they are to run (grpc/grpc#43055). They need none of it.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    try:
        import grpc

        from noria.serve.grpc_messages import message
    except ImportError:
        raise MissingExtra("grpcio", "grpc", "to serve gRPC") from None
    return grpc, message


class GrpcServer:
    """A gRPC server of the same models as ``data``.

    Args:
        data: what answers over HTTP.
        host: address to listen on.
        port: port; 0 takes a free one.
        max_message: largest message that is taken, bytes; as over HTTP by default.
        shared: whether other processes listen on the same port.

    Raises:
        MissingExtra: grpcio is not installed.
    """

    def __init__(
        self, data: DataPlane, host: str, port: int, *, max_message: int = MAX_BODY_BYTES, shared: bool = False
    ) -> None:
        self._grpc, self._message = _libraries()
        self._data = data
        name = f"[{host}]" if ":" in host else host
        self._address = f"{name}:{port}"
        self._options = [
            ("grpc.max_receive_message_length", max_message),
            ("grpc.max_send_message_length", -1),  # an answer may be larger than what was asked
            ("grpc.so_reuseport", int(shared)),
        ]
        self._server: Any = None
        self._stopping = asyncio.Event()
        self._closing = False
        self._in_flight = 0
        self._last_call = 0.0
        self._calls: dict[str, Callable[[Any, dict[bytes, bytes], Any], Awaitable[Any]]] = {
            "ServerLive": self._live,
            "ServerReady": self._ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelInfer": self._infer,
            "ModelConfig": self._config,
            "ModelStatistics": self._statistics,
            "RepositoryIndex": self._index,
            "RepositoryModelLoad": self._load,
            "RepositoryModelUnload": self._unload,
        }

    async def start(self) -> int:
        """Listen; returns the port.

        Raises:
            RequestError: the address cannot be listened on.
        """
        grpc = self._grpc
        self._server = grpc.aio.server(options=self._options)
        methods = {name: self._handler(name, call) for name, call in self._calls.items()}
        health = {"Check": self._handler("HealthCheck", self._health), "Watch": self._watcher()}
        self._server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(_SERVICE, methods),
                grpc.method_handlers_generic_handler("grpc.health.v1.Health", health),
            )
        )
        try:
            port = int(self._server.add_insecure_port(self._address))
        except RuntimeError:
            raise RequestError(f"gRPC cannot listen on {self._address}; choose another --grpc-port.") from None
        await self._server.start()
        return port

    async def stop(self, grace: float) -> None:
        """Say "not serving" while calls are still taken, then turn new ones away, finish those in flight, and close.

        gRPC cancels calls that it has received and not yet handed on when it is closed, and a client cannot tell those
        from calls that were begun. So calls are turned away as unavailable, until for a while none comes, before that.

        Args:
            grace: seconds that calls in flight may still take; those that take longer are cancelled.
        """
        self._stopping.set()
        if self._server is None:
            return
        end = time.monotonic() + grace
        await asyncio.sleep(min(grace, _SAID_SECONDS))
        self._closing = True
        while self._in_flight and time.monotonic() < end:
            await asyncio.sleep(0.01)
        until = min(end, time.monotonic() + _RESTLESS_SECONDS)
        while (now := time.monotonic()) < until and now - self._last_call < _QUIET_SECONDS:
            await asyncio.sleep(0.01)
        await self._server.stop(max(0.0, end - time.monotonic()))

    def _handler(self, name: str, call: Callable[[Any, dict[bytes, bytes], Any], Awaitable[Any]]) -> Any:
        kind = self._message(f"{name}Request")

        async def handle(body: bytes, context: Any) -> bytes:
            if name not in _ALWAYS:
                self._last_call = time.monotonic()
                if self._closing:
                    await context.abort(self._grpc.StatusCode.UNAVAILABLE, "The server is about to stop.")
            self._in_flight += 1
            try:
                found = await call(_parsed(kind, name, body), _headers(context), context)
                sent: bytes = found.SerializeToString()
            except Exception as error:  # noqa: BLE001 - the edge: a fault of ours must not reach the client as a trace
                await self._refuse(name, error, context)
            finally:
                self._in_flight -= 1
            return sent

        return self._grpc.unary_unary_rpc_method_handler(handle)

    def _watcher(self) -> Any:
        kind = self._message("HealthCheckRequest")

        async def watch(body: bytes, context: Any) -> AsyncIterator[bytes]:
            try:
                service, headers, said = _parsed(kind, "HealthCheck", body).service, _headers(context), 0
                while True:
                    status = self._health_of(service, headers)
                    if status == _UNKNOWN and said in (_SERVING, _NOT_SERVING):  # unloaded, or about to be loaded
                        status = _NOT_SERVING
                    if status != said:
                        yield self._made("HealthCheckResponse", status=status).SerializeToString()
                        said = status
                    if self._stopping.is_set():
                        return
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._stopping.wait(), _LOOK_SECONDS)
            except Exception as error:  # noqa: BLE001 - as in the other calls
                await self._refuse("HealthWatch", error, context)

        return self._grpc.unary_stream_rpc_method_handler(watch)

    async def _refuse(self, name: str, error: Exception, context: Any) -> NoReturn:
        reply = refusal(error)
        if not isinstance(error, NoriaError):
            _log.error("the call %s failed", name, exc_info=error)
        self._data.plane.metrics.refused(reply.status)
        code = getattr(self._grpc.StatusCode, _STATUS.get(reply.status, "INTERNAL"))
        await context.abort(code, _text(orjson.loads(reply.body)))
        raise AssertionError from None  # abort has raised

    def _made(self, kind: str, /, **values: Any) -> Any:
        return self._message(kind)(**values)

    # about the server and its models

    async def _live(self, request: Any, headers: dict[bytes, bytes], context: Any) -> Any:
        return self._made("ServerLiveResponse", live=True)

    async def _ready(self, request: Any, headers: dict[bytes, bytes], context: Any) -> Any:
        return self._made("ServerReadyResponse", ready=self._data.ready and not self._stopping.is_set())

    async def _health(self, request: Any, headers: dict[bytes, bytes], context: Any) -> Any:
        status = self._health_of(request.service, headers)
        if status == _UNKNOWN:
            raise NotFound(f"There is no service '{request.service[:80]}'.")
        return self._made("HealthCheckResponse", status=status)

    def _health_of(self, service: str, headers: dict[bytes, bytes]) -> int:
        """The status of the server, or of one model by its name."""
        data = self._data
        if service in ("", _SERVICE):
            ready = data.ready
        else:
            data.keys.check(service, headers)
            if service not in data.plane.names():
                return _UNKNOWN
            ready = data.plane.ready and not data.draining and data.plane.loaded(service)
        return _SERVING if ready and not self._stopping.is_set() else _NOT_SERVING

    async def _ask(self, method: str, path: str, headers: dict[bytes, bytes], body: bytes = b"") -> Any:
        """What the HTTP route says, so that both say the same."""
        access = {name: headers[name] for name in _ACCESS if name in headers}  # others mean something over HTTP only
        found = self._data.route(Request(method, path.encode(), b"", access, body))
        reply = found if isinstance(found, Reply) else await found
        return orjson.loads(reply.body)

    @staticmethod
    def _path(name: str, version: str, rest: str = "") -> str:
        from urllib.parse import quote

        numbered = f"/versions/{quote(version, safe='')}" if version else ""
        return f"/v2/models/{quote(name, safe='')}{numbered}{rest}"

    async def _model_ready(self, request: Any, headers: dict[bytes, bytes], context: Any) -> Any:
        try:
            found = await self._ask("GET", self._path(request.name, request.version, "/ready"), headers)
        except (ModelError, NotFound):
            return self._made("ModelReadyResponse", ready=False)
        return self._made("ModelReadyResponse", ready=bool(found["ready"]) and not self._stopping.is_set())

    async def _server_metadata(self, request: Any, headers: dict[bytes, bytes], context: Any) -> Any:
        return self._made("ServerMetadataResponse", **await self._ask("GET", "/v2", headers))

    async def _model_metadata(self, request: Any, headers: dict[bytes, bytes], context: Any) -> Any:
        name, plane = request.name, self._data.plane  # not by its route: HTTP answers something else to "stats"
        self._data.keys.check(name, headers)
        _, manifest = plane.manifest(name, self._data.version(request.version or None))
        versions = [route.version for route in plane.deployment(name).routes]
        return self._made("ModelMetadataResponse", **oip.metadata(name, versions, manifest))

    async def _config(self, request: Any, headers: dict[bytes, bytes], context: Any) -> Any:
        found = await self._ask("GET", self._path(request.name, request.version, "/config"), headers)
        for side in ("input", "output"):
            for tensor in found[side]:
                tensor["data_type"] = _TYPES.index(tensor["data_type"].removeprefix("TYPE_"))
        return self._made("ModelConfigResponse", config=found)

    async def _statistics(self, request: Any, headers: dict[bytes, bytes], context: Any) -> Any:
        path = self._path(request.name, request.version, "/stats") if request.name else "/v2/models/stats"
        found = (await self._ask("GET", path, headers))["model_stats"]
        for one in found:
            one.pop("batch_stats")
            for name in ("cache_hit", "cache_miss"):
                one["inference_stats"].pop(name)
        return self._made("ModelStatisticsResponse", model_stats=found)

    async def _index(self, request: Any, headers: dict[bytes, bytes], context: Any) -> Any:
        body = orjson.dumps({"ready": request.ready})
        return self._made(
            "RepositoryIndexResponse", models=await self._ask("POST", "/v2/repository/index", headers, body)
        )

    async def _load(self, request: Any, headers: dict[bytes, bytes], context: Any) -> Any:
        await self._change(request, headers, "load")
        return self._made("RepositoryModelLoadResponse")

    async def _unload(self, request: Any, headers: dict[bytes, bytes], context: Any) -> Any:
        await self._change(request, headers, "unload")
        return self._made("RepositoryModelUnloadResponse")

    async def _change(self, request: Any, headers: dict[bytes, bytes], verb: str) -> None:
        from urllib.parse import quote

        body = orjson.dumps({"parameters": dict.fromkeys(request.parameters)})
        await self._ask("POST", f"/v2/repository/models/{quote(request.model_name, safe='')}/{verb}", headers, body)

    # predictions

    async def _infer(self, request: Any, headers: dict[bytes, bytes], context: Any) -> Any:
        self._data.keys.check(request.model_name, headers)
        version = self._data.version(request.model_version or None)
        served = self._data.plane.served(request.model_name, version)[1]
        left = context.time_remaining()
        deadline = time.monotonic() + min(left, 3600.0) if left is not None else None
        served.engine.backlog.check(deadline)
        raw = bool(request.raw_input_contents)
        signature, name, tracing = served.manifest.signature, request.model_name, self._data.tracing

        def read() -> tuple[list[tuple[str, bool]], Batch]:
            found = oip.InferRequest(request.id or None, self._tensors(request), _wanted(request), raw)
            return oip.outputs_of(found, signature), oip.batch_of(found, served.layout, MAX_ROWS)

        large = request.ByteSize() >= LARGE_BYTES
        if large:  # as over HTTP: nobody else is to wait for it
            wanted, batch = await asyncio.to_thread(read)
            batch = laid_out(batch, self._data.plane.served(name, version)[1], served)
        else:
            wanted, batch = read()
        if tracing is not None:
            asked: Any = self._data.traced(tracing, name, version, batch, headers, deadline)
        else:
            trace = self._data.trace(headers)
            asked = self._data.plane.predict(name, batch, version=version, trace=trace, deadline=deadline)
        answered = asked if isinstance(asked, Answered) else await asked
        given = (request, answered, signature, [name for name, _ in wanted], raw)
        return await asyncio.to_thread(self._response, *given) if large else self._response(*given)

    def _tensors(self, request: Any) -> list[oip.Tensor]:
        raw = request.raw_input_contents
        if not request.inputs:
            raise RequestError("The request has no inputs.")
        if raw and len(raw) != len(request.inputs):
            raise RequestError(f"{len(request.inputs)} inputs and {len(raw)} raw contents; send one for each, or none.")
        found = []
        for place, tensor in enumerate(request.inputs):
            name, kind, shape = tensor.name[:200], tensor.datatype, list(tensor.shape)
            if "shared_memory_region" in tensor.parameters:
                raise RequestError("Shared memory is not supported; send the tensors in the request.")
            if "content_type" in tensor.parameters:
                oip.check_codec(name, kind, tensor.parameters["content_type"].string_param)
            if kind not in _CONTENTS and kind not in ("FP16", "BF16"):
                raise RequestError(f"Input '{name}' needs a datatype: one of {', '.join(sorted(_CONTENTS))}.")
            if not shape or len(shape) > 8 or any(length < 0 for length in shape):
                raise RequestError(f"Input '{name}' needs a shape of one to eight whole numbers.")
            size = 1
            for length in shape:
                size *= length
            if raw:
                if tensor.HasField("contents"):
                    raise RequestError(f"Input '{name}' has typed contents beside raw ones.")
                found.append(oip.Tensor(name, kind, shape, oip.from_raw(name, kind, size, raw[place])))
                continue
            if kind not in _CONTENTS:
                raise RequestError(f"Input '{name}': {kind} travels as raw contents only.")
            values = getattr(tensor.contents, _CONTENTS[kind])
            if len(values) != size:
                raise RequestError(f"Input '{name}' has {len(values)} values; its shape {shape} needs {size}.")
            if kind == "BYTES":
                try:
                    found.append(oip.Tensor(name, kind, shape, [value.decode() for value in values]))
                except UnicodeDecodeError:
                    raise RequestError(f"Input '{name}' holds a value that is not UTF-8 text.") from None
            else:
                found.append(oip.Tensor(name, kind, shape, _numbers(name, kind, values)))
        return found

    def _response(self, request: Any, answered: Answered, signature: Any, wanted: list[str], raw: bool) -> Any:
        made = oip.tensors(answered, signature)
        ids = oip.ids(answered)
        response = self._made(
            "ModelInferResponse",
            model_name=request.model_name,
            model_version=str(max(part.route.version for part in answered.parts)),
            id=request.id or ids[0],
        )
        response.parameters["prediction_ids"].string_param = ",".join(ids)
        for name in wanted:
            if name not in made:
                continue
            kind, shape, values = made[name]
            output = response.outputs.add(name=name, datatype=kind, shape=shape)
            if raw:
                response.raw_output_contents.append(oip.to_raw(kind, values))
                continue
            plain = values if isinstance(values, list) else values.ravel().tolist()
            plain = [str(value).encode() for value in plain] if kind == "BYTES" else plain
            getattr(output.contents, _CONTENTS[kind]).extend(plain)
        return response


def _parsed(kind: Any, name: str, body: bytes) -> Any:
    try:
        return kind.FromString(body)
    except Exception as error:
        raise RequestError(f"The message is no {name}Request.") from error


def _headers(context: Any) -> dict[bytes, bytes]:
    """A call's metadata, as HTTP's headers are kept."""
    return {
        key.lower().encode(): value.encode() if isinstance(value, str) else value
        for key, value in context.invocation_metadata() or ()
    }


def _text(body: Mapping[str, Any]) -> str:
    """What HTTP says in a body, in one line: gRPC carries no more, so records and fields are named in it."""
    text, details = str(body["error"]), body.get("details", [])
    if details:
        named = []
        for one in details[:_NAMED]:
            field = f", field {str(one['field'])[:80]!r}" if "field" in one else ""
            named.append(f"record {one.get('record')}{field}: {str(one.get('problem', ''))[:200].rstrip('.')}")
        more = f"; and {len(details) - _NAMED} more" if len(details) > _NAMED else ""
        text = f"{'; '.join(named)}{more}."
    size = 0
    for place, letter in enumerate(text):
        size += 1 if " " <= letter <= "~" and letter != "%" else 3 * len(letter.encode())  # the others go as %XX
        if size > _LONGEST_TEXT:
            return f"{text[:place]} …"
    return text


def _wanted(request: Any) -> list[tuple[str, bool | None]] | None:
    """The outputs asked for; None for all."""
    for output in request.outputs:
        if "shared_memory_region" in output.parameters:
            raise RequestError("Shared memory is not supported; take the outputs in the reply.")
        if "classification" in output.parameters and output.parameters["classification"].int64_param:
            raise RequestError("The classification extension is not supported; ask for 'probabilities'.")
    return [(output.name, None) for output in request.outputs] or None


def _numbers(name: str, kind: str, values: Any) -> Any:
    """Typed contents as an array; what they hold may be wider than the tensor's datatype."""
    found = np.array(values, dtype=_WIDE.get(kind, oip.NUMPY[kind]))
    if kind in _WIDE:
        narrow = found.astype(oip.NUMPY[kind])
        if (narrow != found).any():
            row, limits = int(np.flatnonzero(narrow != found)[0]), np.iinfo(narrow.dtype)
            raise RequestError(
                f"Input '{name}' is {kind}, and its value {row} is outside {limits.min} to {limits.max}."
            )
        return narrow
    return found
