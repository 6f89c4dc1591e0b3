"""The data plane over HTTP: what is asked, by whom, and how the answer or the refusal looks.

Routes::

    POST /predict/{model}[?version=N]             records: JSON, NDJSON, Arrow, Parquet, CSV
    GET  /predict/{model}                         what a record must hold; /predict/{model}/openapi.json
    POST /labels/{model}                          the truth, by key or prediction id
    POST /overrides/{model}                       what a person decided instead, with who and why
    GET  /v2, /v2/health/live, /v2/health/ready   Open Inference Protocol
    GET  /v2/models/{model}[/versions/{N}][/ready|/config|/stats]
    POST /v2/models/{model}[/versions/{N}]/infer
    POST /v2/repository/index, /v2/repository/models/{model}/load|unload
    POST /invocations[?model=NAME]                MLflow's scoring protocol, with /ping, /health and /version
    GET  /metrics, /openapi.json

Access: a model that has keys is asked with one of them (`noria.serve.access`); the repository's changes and
``/metrics`` need a key for every model once there is one. Without keys these routes are open to whoever can reach
the address, which is loopback.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.metadata import version as package_version
from typing import Any

import orjson

from noria.errors import (
    ModelError,
    NoriaError,
    NotFound,
    RequestError,
    StoreError,
)
from noria.records import Route, Signature
from noria.serve import oip, scoring, tables
from noria.serve.access import Keys, foreign
from noria.serve.batch import Batch
from noria.serve.engine import ProcessEngine
from noria.serve.labels import labels_of
from noria.serve.metrics import Snapshot, render
from noria.serve.openapi import document
from noria.serve.plane import Answered, Plane, Served, laid_out, without_folders
from noria.serve.reading import (
    LARGE_BYTES,
    MAX_ROWS,
    compressed,
    deadline_of,
    entries_of,
    inflated,
    json_of,
    kind_of,
    need,
    need_json,
    query,
    records_of,
    version_of,
)
from noria.serve.refusals import Foreign, UnknownKindError, refusal
from noria.serve.tracing import Tracing
from noria.serve.wire import Reply, Request, json_reply

__all__ = ["DataPlane"]

_TRACE = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
ADDRESSES = (
    *(b"/v2/", b"/predict/", b"/labels/", b"/overrides/"),
    *(b"/invocations/", b"/ping/", b"/metrics/", b"/openapi.json/"),
)
"""What the addresses begin with that are answered here rather than by pages; ``noria.server.app`` has them too."""
EXTENSIONS = ["binary_tensor_data", "model_repository", "model_configuration", "statistics"]
_log = logging.getLogger("noria.serve")

Found = Reply | Awaitable[Reply]
Read = Callable[[], Batch]
Finish = Callable[[Answered], Reply]


class DataPlane:
    """Answers requests for ``plane``.

    Args:
        plane: the models.
        keys: who may ask; everybody by default.
        bound: the host listened on; None where strangers are let in and keys decide.
        tracing: makes a span a prediction; none by default.
        alone: whether nobody else answers at this address, so that ``/health`` and ``/`` are answered here too.
    """

    def __init__(
        self,
        plane: Plane,
        *,
        keys: Keys | None = None,
        bound: str | None = None,
        alone: bool = True,
        tracing: Tracing | None = None,
    ) -> None:
        self.plane = plane
        self.keys = keys or Keys()
        self._bound = bound
        self._alone = alone
        self.tracing = tracing
        self._hosts: set[bytes] = set()
        self._paths: dict[bytes, tuple[str, int | None]] = {}
        self.draining = False
        # One for all large bodies, as each may take gigabytes when it is read.
        self._thread = ThreadPoolExecutor(1, "noria-large")
        self._waiting = 0  # replies to be made by `settle`
        self.grouping = False  # whoever calls `handle` also calls `settle` before a reply goes out

    def settle(self, replies: list[Reply]) -> list[Reply]:
        """Make those that are to be made together, and put on record what all are about.

        What cannot be put on record is a refusal from here on.
        """
        if self._waiting:
            self._ask(replies)
        recorder = self.plane.recorder
        try:
            recorder.flush()
        except StoreError as error:
            self.plane.outage.met(error)
        if recorder.lost:
            for place, reply in enumerate(replies):
                if reply.held is not None and reply.held.problem is not None:
                    replies[place] = refusal(reply.held.problem)
                    self.plane.metrics.refused(replies[place].status)
        return replies

    def mine(self, target: bytes) -> bool:
        """Whether an address is answered here rather than by the pages."""
        return (target.partition(b"?")[0] + b"/").startswith(ADDRESSES)

    def handle(self, request: Request) -> Found:
        """Answer one request, at once if the model can."""
        try:
            headers = request.headers
            host = headers.get(b"host", b"")
            if (host not in self._hosts and self._bound is not None) or b"origin" in headers:
                self._admit(host, request)
            quick = self._paths.get(request.path)
            if quick is not None and request.method == "POST" and b"content-encoding" not in headers:
                found = self._infer(quick[0], quick[1], request)
            else:
                found = self.route(request)
        except Exception as error:  # noqa: BLE001 - the edge: a fault of ours must not reach the client as a trace
            return self._refuse(request, error)
        if isinstance(found, Reply):
            return found if b"accept-encoding" not in headers else compressed(found, request)
        return self._awaited(request, found)

    async def _awaited(self, request: Request, found: Awaitable[Reply]) -> Reply:
        try:
            return compressed(await found, request)
        except Exception as error:  # noqa: BLE001 - as in handle
            return self._refuse(request, error)

    def _admit(self, host: bytes, request: Request) -> None:
        problem = foreign(request.headers, self._bound)
        if problem:
            raise Foreign(problem)
        if b"origin" not in request.headers and len(self._hosts) < 100:
            self._hosts.add(host)

    def _refuse(self, request: Request, error: Exception) -> Reply:
        reply = refusal(error)
        if reply.status >= 500 and not isinstance(error, NoriaError):
            _log.exception("request %s failed", request.path[:200].decode("latin-1"), exc_info=error)
        self.plane.metrics.refused(reply.status)
        if request.path == b"/invocations":
            code = "INVALID_PARAMETER_VALUE" if reply.status < 500 else "INTERNAL_ERROR"
            body = orjson.loads(reply.body)
            code = {404: "RESOURCE_DOES_NOT_EXIST", 400: "BAD_REQUEST"}.get(reply.status, code)
            reply.body = orjson.dumps({"error_code": code, "message": body["error"], **body})
        return reply

    # routes

    def route(self, request: Request) -> Found:
        """What an address answers.

        Raises:
            NoriaError: what a client is told; see `refusal`.
        """
        if b"content-encoding" in request.headers:
            request.body = inflated(request.body, request.headers[b"content-encoding"])
        parts = request.parts
        match parts:
            case ["predict", model]:
                return self._predict(model, request)
            case ["predict", model, "openapi.json"]:
                self._may(request, "GET", model)
                return self._openapi([model])
            case ["labels", model]:
                self._may(request, "POST", model)
                return self._labels(model, request)
            case ["overrides", model]:
                api_key = self._may(request, "POST", model)
                return self._overrides(model, request, api_key)
            case ["invocations"]:
                need(request, "POST")
                return self._invocations(request)
            case ["v2", *rest]:
                return self._v2(rest, request)
            case ["openapi.json"]:
                self._may(request, "GET", None)
                return self._openapi(self.plane.loops())
            case ["metrics"]:
                self._may(request, "GET", None)
                others = self.plane.control.others() if self.plane.control is not None else ()
                body = render([self.snapshot(), *others])
                return Reply(200, body, b"text/plain; version=0.0.4; charset=utf-8")
            case ["ping"]:
                return self._health(request)
            case ["version"]:
                need(request, "GET")
                return Reply(200, _version_text().encode(), b"text/plain; charset=utf-8")
            case ["health"] if self._alone:
                return self._health(request)
            case [""] if self._alone:
                self._may(request, "GET", None)
                return json_reply(200, {"name": "noria", "version": _version_text(), "models": self.plane.loops()})
        raise _nothing_at(request)

    def _may(self, request: Request, method: str, model: str | None) -> str:
        """Refuse a wrong method and a missing key; the name of the key that opened."""
        need(request, method)
        return self.keys.check(model, request.headers)

    def _health(self, request: Request) -> Reply:
        need(request, "GET")
        return Reply(200 if self.ready else 503, b"\n", b"text/plain; charset=utf-8")

    @property
    def ready(self) -> bool:
        """Whether every model that is deployed answers, and the server is not about to stop."""
        able = self.plane.ready and not self.draining and self.plane.outage.cause is None
        return able and all(map(self.plane.loaded, self.plane.loops()))

    def snapshot(self) -> Snapshot:
        """The counts of this process."""
        gauges: dict[str, float] = {}
        for loop in self.plane.loops():
            gauges[f'noria_model_up{{model="{loop}"}}'] = float(self.plane.loaded(loop))
            for route in self.plane.deployment(loop).routes:
                named = f'model="{loop}",version="{route.version}"'
                gauges[f"noria_model_share_percent{{{named}}}"] = route.percent
                try:
                    engine = self.plane.served(loop, route.version)[1].engine
                except NoriaError:
                    continue
                if isinstance(engine, ProcessEngine):
                    gauges[f"noria_queue_requests{{{named}}}"] = float(engine.backlog.requests)
                    gauges[f"noria_model_restarts{{{named}}}"] = float(engine.worker.restarts)
        return self.plane.metrics.snapshot(gauges)

    def _openapi(self, names: Iterable[str]) -> Reply:
        return json_reply(200, document({name: self.plane.manifest(name)[1] for name in names}, _version_text()))

    # the Open Inference Protocol

    def _v2(self, rest: list[str], request: Request) -> Found:
        match rest:
            case [] | [""]:
                need(request, "GET")
                return json_reply(200, {"name": "noria", "version": _version_text(), "extensions": EXTENSIONS})
            case ["health", "live"]:
                need(request, "GET")
                return json_reply(200, {"live": True})
            case ["health", "ready"]:
                need(request, "GET")
                return json_reply(200 if self.ready else 503, {"ready": self.ready})
            case ["models", "stats"]:
                self._may(request, "GET", None)
                return json_reply(
                    200, {"model_stats": [one for name in self.plane.loops() for one in self._stats(name)]}
                )
            case ["models", model, *more]:
                return self._model(model, more, request)
            case ["repository", "index"]:
                self._may(request, "POST", None)
                return self._index(request.body)
            case ["repository", "models", model, ("load" | "unload") as verb]:
                self._may(request, "POST", None)
                return self._change(model, verb, request.body)
        raise _nothing_at(request)

    def _model(self, model: str, rest: list[str], request: Request) -> Found:
        version = None
        if rest[:1] == ["versions"] and len(rest) >= 2:
            version, rest = version_of(rest[1]), rest[2:]
        if rest == ["infer"]:
            self._may(request, "POST", model)
            self.plane.served(model, version)
            if len(self._paths) < 1000:
                self._paths[request.path] = (model, version)
            return self._infer(model, version, request)
        if rest not in ([], ["ready"], ["config"], ["stats"]):
            raise _nothing_at(request)
        self._may(request, "GET", model)
        if rest == ["ready"]:
            try:
                self.plane.served(model, version)
            except ModelError as error:
                return json_reply(503, {"name": model, "ready": False, "error": without_folders(str(error))})
            ready = not self.draining and (version is not None or self.plane.loaded(model))
            return json_reply(200 if ready else 503, {"name": model, "ready": ready})
        _, manifest = self.plane.manifest(model, version)
        versions = [route.version for route in self.plane.deployment(model).routes]
        if rest == []:
            return json_reply(200, oip.metadata(model, versions, manifest))
        if rest == ["config"]:
            return json_reply(200, _config(model, oip.metadata(model, versions, manifest)))
        return json_reply(200, {"model_stats": self._stats(model, version)})

    def _infer(self, model: str, version: int | None, request: Request) -> Found:
        if not self.keys.open:
            self.keys.check(model, request.headers)
        served = self.plane.served(model, version)[1]
        if request.waited or served.engine.backlog.requests:
            served.engine.backlog.check(deadline_of(request), request.waited)
        body, header = request.body, request.headers.get(b"inference-header-content-length")
        signature = served.manifest.signature
        if header is None and served.layout.plain and len(body) < LARGE_BYTES:
            known = oip.quick(body, served.layout)
            if known is not None and known[1].rows <= MAX_ROWS:
                if request.grouped and version is None and (found := self._together(model, known, request)) is not None:
                    return found
                return self._asked(model, version, known[1], request, self._finish(model, known[0]))
        asked: list[tuple[oip.InferRequest, list[tuple[str, bool]]]] = []

        def read() -> Batch:
            found = oip.parse(body, header)
            asked.append((found, oip.outputs_of(found, signature)))
            return oip.batch_of(found, served.layout, MAX_ROWS)

        def finish(answered: Answered) -> Reply:
            found, wanted = asked[0]
            data, length = oip.encode(model, answered, signature, wanted, found.id)
            if length is None:
                return Reply(200, data)
            given = (b"inference-header-content-length", str(length).encode())
            return Reply(200, data, b"application/octet-stream", (given,))

        return self._answer(model, version, request, read, finish)

    def _together(self, model: str, known: tuple[str | None, Batch], request: Request) -> Reply | None:
        """A reply to be made by `settle`, with others; None if this request has to be answered alone."""
        headers = request.headers
        if known[1].rows > 1 or not self.grouping or self.tracing is not None or b"traceparent" in headers:
            return None
        if b"x-request-timeout-ms" in headers:
            deadline_of(request)  # which may be no number; nothing is late that is answered at once
        way = self.plane.together(model)
        if way is None:
            return None
        way[1].users += 1
        self._waiting += 1
        return _Asked(model, *way, *known, request)

    def _ask(self, replies: list[Reply]) -> None:
        """Make the replies that are to be made together."""
        ways: dict[tuple[str, Served], dict[int, _Asked]] = {}
        for place, reply in enumerate(replies):
            if isinstance(reply, _Asked):
                ways.setdefault((reply.model, reply.served), {})[place] = reply
        for (_, served), asked in ways.items():
            try:
                made = self._made(list(asked.values()))
            finally:
                served.users -= len(asked)
                self._waiting -= len(asked)
            for place, reply in zip(asked, made, strict=True):
                replies[place] = reply

    def _made(self, asked: list[_Asked]) -> list[Reply]:
        """Their replies; where they cannot be made together each is made alone, to refuse only the one at fault."""
        try:
            return self._answered(asked)
        except Exception as error:  # noqa: BLE001 - as in handle
            if len(asked) == 1:
                return [self._refuse(asked[0].request, error)]
            return [reply for one in asked for reply in self._made([one])]

    def _answered(self, asked: list[_Asked]) -> list[Reply]:
        first = asked[0]
        batches = [one.batch for one in asked]
        found = self.plane.answer_together(first.model, first.route, first.served, batches)
        return [
            compressed(_finished(answered, self._finish(one.model, one.id)), one.request)
            for one, answered in zip(asked, found, strict=True)
        ]

    @staticmethod
    def _finish(model: str, request_id: str | None) -> Finish:
        def finish(answered: Answered) -> Reply:
            part = answered.parts[0]
            signature = part.served.manifest.signature
            if part.places is None:
                key = (model, part.route.version)
                template = part.served.templates.get(key)
                if template is None:
                    template = part.served.templates[key] = oip.Template(*key, signature)
                return Reply(200, template.encode(part, request_id))
            every = [(output["name"], False) for output in oip.outputs(signature)]
            return Reply(200, oip.encode(model, answered, signature, every, request_id)[0])

        return finish

    def _answer(self, model: str, version: int | None, request: Request, read: Read, finish: Finish) -> Found:
        """The model's answers to what ``read`` makes of the body, on whichever wire ``finish`` writes.

        A large body is read in a thread, and its answers are written there: Python takes microseconds for each row,
        and nobody else is to wait for them.
        """
        if len(request.body) < LARGE_BYTES:
            return self._asked(model, version, read(), request, finish)
        return self._aside(model, version, request, read, finish)

    def _aside(self, model: str, version: int | None, request: Request, read: Read, finish: Finish) -> Awaitable[Reply]:
        """As `_answer` of a large body."""
        return self._read_aside(self.plane.served(model, version)[1], model, version, request, read, finish)

    async def _read_aside(
        self, served: Served, model: str, version: int | None, request: Request, read: Read, finish: Finish
    ) -> Reply:
        """As `_aside`, of a body that is read for the version that is ``served`` now."""
        loop, thread = asyncio.get_running_loop(), self._thread if len(request.body) >= LARGE_BYTES else None
        batch = await loop.run_in_executor(thread, read)
        batch = laid_out(batch, self.plane.served(model, version)[1], served)  # there may be another version by now
        answered: list[Answered] = []

        def keep(found: Answered) -> Reply:
            answered.append(found)
            return Reply(200, b"")

        reply = self._asked(model, version, batch, request, keep)
        if not isinstance(reply, Reply):
            await reply
        return await loop.run_in_executor(thread, _finished, answered[0], finish)

    def _asked(self, model: str, version: int | None, batch: Batch, request: Request, finish: Finish) -> Found:
        """The batch's answers, on whichever wire ``finish`` writes."""
        headers = request.headers
        deadline = deadline_of(request)
        if self.tracing is not None:
            return _later(self.traced(self.tracing, model, version, batch, headers, deadline), finish)
        trace = self.trace(headers) if b"traceparent" in headers else None
        found = self.plane.predict(model, batch, version=version, trace=trace, deadline=deadline, hold=self.grouping)
        return _finished(found, finish) if isinstance(found, Answered) else _later(found, finish)

    async def traced(
        self,
        tracing: Tracing,
        model: str,
        version: int | None,
        batch: Batch,
        headers: Mapping[bytes, bytes],
        deadline: float | None,
    ) -> Answered:
        """As the plane's ``predict``, with a span of what it took, whatever the wire; its trace id is kept."""
        status, answering = 500, None
        span = tracing.begin(headers, model, batch.rows)
        try:
            found = self.plane.predict(model, batch, version=version, trace=span.trace, deadline=deadline)
            answered = found if isinstance(found, Answered) else await found
            status, answering = 200, max(part.route.version for part in answered.parts)
        except NoriaError as error:
            status = refusal(error).status
            raise
        finally:
            span.end(status, answering)
        return answered

    @staticmethod
    def trace(headers: Mapping[bytes, bytes]) -> str | None:
        """The trace id of a W3C ``traceparent``, if there is a whole one."""
        matched = _TRACE.fullmatch(headers.get(b"traceparent", b""))
        return matched.group(1).decode() if matched else None

    @staticmethod
    def version(text: str | None) -> int | None:
        """A version as a client writes it.

        Raises:
            NotFound: it is no number.
        """
        return version_of(text)

    def _stats(self, model: str, version: int | None = None) -> list[dict[str, Any]]:
        found = []
        for route in self.plane.deployment(model).routes:
            if version is not None and route.version != version:
                continue
            series = self.plane.metrics.of(model, route.version)
            good = sum(one.requests - one.errors for one in series)
            bad = sum(one.errors for one in series)
            spent = {"count": good, "ns": int(1e9 * sum(one.seconds for one in series))}
            none = {"count": good, "ns": 0}
            found.append(
                {
                    "name": model,
                    "version": str(route.version),
                    "last_inference": 0,
                    "inference_count": sum(one.predictions for one in series),
                    "execution_count": good,
                    "inference_stats": {
                        "success": spent,
                        "fail": {"count": bad, "ns": 0},
                        "queue": none,
                        "compute_input": none,
                        "compute_infer": spent,
                        "compute_output": none,
                        "cache_hit": {"count": 0, "ns": 0},
                        "cache_miss": {"count": 0, "ns": 0},
                    },
                    "batch_stats": [],
                }
            )
        return found

    def _index(self, body: bytes) -> Reply:
        asked = json_of(body) if body.strip() else {}
        only = bool(asked.get("ready")) if isinstance(asked, dict) else False
        found = []
        for name in self.plane.names():
            if not self.plane.loaded(name):
                state = "LOADING" if self.plane.loading(name) else "UNAVAILABLE"
                if not only:
                    found.append({"name": name, "version": "", "state": state, "reason": self._why_not(name)})
                continue
            for route in self.plane.deployment(name).routes:
                try:
                    self.plane.served(name, route.version)
                    found.append({"name": name, "version": str(route.version), "state": "READY", "reason": ""})
                except NoriaError as error:
                    why = without_folders(str(error))
                    if not only:
                        found.append(
                            {"name": name, "version": str(route.version), "state": "UNAVAILABLE", "reason": why}
                        )
        return json_reply(200, found)

    def _why_not(self, name: str) -> str:
        """Why a model does not answer; nothing while it loads."""
        if self.plane.loading(name):
            return ""
        try:
            self.plane.served(name)
        except ModelError as error:
            return without_folders(str(error))
        except NotFound:
            return "unloaded"
        return ""

    async def _change(self, model: str, verb: str, body: bytes) -> Reply:
        asked = json_of(body) if body.strip() else {}
        parameters = asked.get("parameters") if isinstance(asked, dict) else None
        if isinstance(parameters, dict) and any(key == "config" or key.startswith("file:") for key in parameters):
            raise RequestError("A model is loaded as it was validated; its configuration and files are not overridden.")
        if verb == "load":
            await self.plane.load(model)
        else:
            await self.plane.unload(model)
        self.plane.told(model, verb == "load")
        return json_reply(200, {})

    # plain records

    def _predict(self, model: str, request: Request) -> Found:
        if request.method in ("GET", "HEAD"):
            self.keys.check(model, request.headers)
            return json_reply(200, self._describe(model))
        need(request, "POST")
        self.keys.check(model, request.headers)
        version = version_of(query(request, "version"))
        served = self.plane.served(model, version)[1]  # an unknown model is said before a bad body
        served.engine.backlog.check(deadline_of(request), request.waited)
        kind = kind_of(request)
        body, layout, classes = request.body, served.layout, served.manifest.signature.classes
        if kind in (tables.ARROW, tables.ARROW_FILE, tables.PARQUET):
            return self._aside(
                model,
                version,
                request,
                lambda: tables.from_table(body, kind, layout, MAX_ROWS),
                lambda answered: Reply(200, tables.to_table(answered, classes, kind), kind.encode()),
            )
        if kind in (tables.NDJSON, "application/jsonl", "application/x-jsonlines"):
            return self._answer(
                model,
                version,
                request,
                lambda: tables.from_lines(body, layout, MAX_ROWS),
                lambda answered: Reply(200, tables.to_lines(answered, classes), tables.NDJSON.encode()),
            )
        if kind != "text/csv":
            need_json(kind, tables.NDJSON, "text/csv", tables.ARROW, tables.ARROW_FILE, tables.PARQUET)

        def read() -> Batch:
            if kind == "text/csv":
                return scoring.columns_of_csv(body, layout, MAX_ROWS)
            return layout.from_records(records_of(json_of(body)))

        return self._answer(model, version, request, read, lambda answered: _predictions(model, answered))

    def _describe(self, model: str) -> Any:
        _, manifest = self.plane.manifest(model)
        signature: Signature = manifest.signature
        return {
            "loop": model,
            "versions": {str(route.version): route.percent for route in self.plane.deployment(model).routes},
            "task": signature.task,
            "classes": list(signature.classes),
            "fields": [
                {
                    "name": f.name,
                    "type": f.dtype,
                    "required": f.required,
                    "may_be_null": f.nullable,
                    "example": f.example,
                }
                for f in signature.inputs
            ],
            "key": signature.key,
            "label": signature.label,
        }

    async def _labels(self, model: str, request: Request) -> Reply:
        _, manifest = self.plane.manifest(model)
        need_json(kind_of(request))
        entries = entries_of(request.body, "labels", '{"key": …, "label": …}')
        labels = labels_of(entries, model, manifest.signature, self.plane.now())
        receipt = await self.plane.label(labels)
        found = {"received": receipt.received, "matched": receipt.matched, "unmatched": list(receipt.unmatched)}
        return json_reply(200, found)

    async def _overrides(self, model: str, request: Request, api_key: str) -> Reply:
        _, manifest = self.plane.manifest(model)
        need_json(kind_of(request))
        entries = entries_of(request.body, "overrides", '{"id": …, "value": …, "by": …, "reason": …}')
        made = await self.plane.override(entries, model, manifest.signature, api_key)
        return json_reply(
            200, {"recorded": [{"id": one.id, "prediction": one.prediction, "given": one.given} for one in made]}
        )

    # MLflow's scoring

    def _invocations(self, request: Request) -> Found:
        names = self.plane.loops()
        asked = query(request, "model")
        if asked is None and len(names) != 1:
            raise RequestError(
                f"{len(names)} models are served; say which: /invocations?model=NAME of {', '.join(names)}."
            )
        model = names[0] if asked is None else asked
        self.keys.check(model, request.headers)
        served = self.plane.served(model)[1]
        served.engine.backlog.check(deadline_of(request), request.waited)
        kind, body, layout = kind_of(request), request.body, served.layout
        if kind == tables.PARQUET:
            return self._aside(model, None, request, lambda: tables.from_table(body, kind, layout, MAX_ROWS), _scored)
        if kind not in ("application/json", "text/csv"):
            taken = "application/json, text/csv or application/vnd.apache.parquet"
            raise UnknownKindError(f"The content type must be {taken}, not '{kind[:80]}'.")
        made = scoring.columns_of_csv if kind == "text/csv" else scoring.batch_of
        return self._answer(model, None, request, lambda: made(body, layout, MAX_ROWS), _scored)


class _Asked(Reply):
    """A reply that is yet to be made, with others: see `DataPlane.settle`."""

    __slots__ = ("batch", "id", "model", "request", "route", "served")

    def __init__(
        self, model: str, route: Route, served: Served, request_id: str | None, batch: Batch, request: Request
    ) -> None:
        super().__init__(500, b'{"error":"The server failed to answer."}')  # until it is made
        self.model = model
        self.route = route
        self.served = served
        self.id = request_id
        self.batch = batch
        self.request = request


def _nothing_at(request: Request) -> NotFound:
    # Without its first slashes, so that it is not taken for a folder of this machine and cut out.
    return NotFound(f"There is nothing at {request.path.lstrip(b'/')[:200].decode('latin-1')}.")


def _scored(answered: Answered) -> Reply:
    return Reply(200, scoring.predictions(oip.merged(answered)[0]))


def _predictions(model: str, answered: Answered) -> Reply:
    """The JSON answer to records."""
    predictions: list[Any] = [None] * answered.rows
    for part in answered.parts:
        classes, shares = part.served.manifest.signature.classes, part.scores.shares
        names = [str(name) for name in classes]
        listed = None if shares is None or shares.shape[1] != len(classes) else shares.tolist()
        places = range(answered.rows) if part.places is None else part.places
        for row, (place, made, value) in enumerate(zip(places, part.ids(), part.scores.values, strict=True)):
            one: dict[str, Any] = {"id": made, "version": part.route.version, "prediction": value}
            if listed is not None:
                one["probabilities"] = dict(zip(names, listed[row], strict=True))
            predictions[place] = one
    return Reply(200, orjson.dumps({"loop": model, "predictions": predictions}))


def _finished(answered: Answered, finish: Finish) -> Reply:
    reply = finish(answered)
    reply.held = answered.held
    return reply


async def _later(found: Awaitable[Answered], finish: Finish) -> Reply:
    return _finished(await found, finish)


def _config(name: str, described: dict[str, Any]) -> dict[str, Any]:
    """The model configuration in Triton's words, for clients that ask before they send."""

    def shaped(tensor: dict[str, Any]) -> dict[str, Any]:
        kind = "TYPE_STRING" if tensor["datatype"] == "BYTES" else f"TYPE_{tensor['datatype']}"
        return {"name": tensor["name"], "data_type": kind, "dims": tensor["shape"]}

    return {
        "name": name,
        "platform": described["platform"],
        "backend": "noria",
        "max_batch_size": 0,
        "input": [shaped(tensor) for tensor in described["inputs"]],
        "output": [shaped(tensor) for tensor in described["outputs"]],
    }


@cache
def _version_text() -> str:
    return package_version("noria")
