"""The data plane's logic, whatever the wire: which version answers, in which process, what is recorded."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import orjson
from msgspec.structs import replace

from noria.core.clock import Clock
from noria.core.ids import new_id
from noria.errors import ModelError, NoriaError, NotFound, RequestError
from noria.records import BundleManifest, Deployment, Route
from noria.serve.process import WorkerProcess
from noria.serve.rules import choose, key_text
from noria.store.ports import Label, LabelReceipt, Prediction, Store

_log = logging.getLogger("noria.serve")
_TRY_AGAIN_SECONDS = 30.0
_FOLDERS = re.compile(r"(?<![\w:/.])/(?:[^\s/:'\"]+/)+")
_MANIFEST = msgspec.json.Decoder(BundleManifest)


class Answer(msgspec.Struct, frozen=True):
    """One record's prediction."""

    id: str
    version: int
    role: str
    value: Any
    probabilities: list[float] | None
    classes: tuple[Any, ...] = ()


class _Served(msgspec.Struct):
    """A version that is up. It is not ended while requests use it: ``users`` counts them."""

    manifest: BundleManifest
    worker: WorkerProcess
    users: int = 0


class _Part(msgspec.Struct, frozen=True):
    """Records of one request that go one way, by their places in it."""

    places: list[int]
    route: Route
    served: _Served


class _Outcome(msgspec.Struct):
    """What became of a part: answers by place, failures to record, and the error to raise."""

    answers: list[tuple[int, Answer, _Served]] = []
    failed: list[tuple[int, Route, _Served, str]] = []
    error: NoriaError | None = None


class Plane:
    """Serves every loop that has a deployment, and follows deployments as they change.

    Args:
        store: where bundles, deployments and the prediction log are.
        clock: stamps predictions.
        worker: command line that serves the bundle whose manifest digest is appended.
        deployments: the deployments in force, by loop; read again and again.
        record: whether predictions are written to the log.
        refresh_s: how often deployments are read.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        worker: Sequence[str],
        deployments: Callable[[], Mapping[str, Deployment]],
        *,
        record: bool = True,
        refresh_s: float = 0.25,
    ) -> None:
        self._store = store
        self._clock = clock
        self._command = tuple(worker)
        self._read = deployments
        self._record = record
        self._refresh_s = refresh_s
        self._served: dict[str, _Served] = {}  # by bundle digest
        self._broken: dict[str, tuple[str, float]] = {}  # why, and when to try again
        self._deployments: dict[str, Deployment] = {}
        self._threads = ThreadPoolExecutor(8, thread_name_prefix="store")
        self._follower: asyncio.Task[None] | None = None
        self._changing = asyncio.Lock()  # one change at a time: two would bring the same version up twice
        self._background: set[asyncio.Task[None]] = set()
        self.ready = False

    async def start(self) -> None:
        """Bring up what is deployed, then follow changes."""
        await self.refresh()
        self.ready = True
        self._follower = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """Drain and end every model process."""
        self.ready = False
        if self._follower is not None:
            self._follower.cancel()
            await asyncio.gather(self._follower, return_exceptions=True)
        await asyncio.gather(*self._background, *(served.worker.stop() for served in self._served.values()))
        self._served.clear()
        self._threads.shutdown(wait=True)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self._refresh_s)
            try:
                await self.refresh()
            except Exception as error:  # noqa: BLE001 - following must go on, whatever one reading met
                _log.warning("deployments could not be read: %s", error)

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def refresh(self) -> None:
        """Read deployments; bring up new versions, switch over, then drain the ones no longer named."""
        async with self._changing:
            await self._refresh()

    async def _refresh(self) -> None:
        found: Mapping[str, Deployment] = await self._in_thread(self._read)
        for loop, deployment in found.items():
            bundles = {route.bundle for route in deployment.routes}
            missing = [digest for digest in bundles if digest not in self._served and self._may_try(digest)]
            if self._deployments.get(loop) == deployment and not missing:
                continue
            await asyncio.gather(*(self._bring_up(digest) for digest in missing))
            if bundles & self._served.keys() or loop not in self._deployments:
                self._deployments[loop] = deployment
        for loop in self._deployments.keys() - found.keys():
            del self._deployments[loop]
        named = {route.bundle for deployment in self._deployments.values() for route in deployment.routes}
        for digest in self._served.keys() - named:
            task = asyncio.create_task(_retire(self._served.pop(digest)))
            self._background.add(task)
            task.add_done_callback(self._background.discard)

    def _may_try(self, digest: str) -> bool:
        return digest not in self._broken or time.monotonic() > self._broken[digest][1]

    async def _bring_up(self, digest: str) -> None:
        try:
            manifest = _MANIFEST.decode(await self._in_thread(lambda: self._store.blobs.get(digest)))
            worker = WorkerProcess([*self._command, digest], manifest.loop)
            try:
                await worker.start()
            except asyncio.CancelledError:  # stopped while a version comes up: its process must not be left behind
                await worker.stop()
                raise
        except (NoriaError, msgspec.DecodeError) as error:
            self._broken[digest] = (str(error), time.monotonic() + _TRY_AGAIN_SECONDS)
            _log.error("bundle %s cannot be served: %s", digest, error)
            return
        self._broken.pop(digest, None)
        self._served[digest] = _Served(manifest, worker)

    def deployment(self, loop: str) -> Deployment:
        """The deployment in force.

        Raises:
            NotFound: nothing is deployed under this name; says what is.
        """
        found = self._deployments.get(loop)
        if found is None:
            there = ", ".join(sorted(self._deployments)) or "none yet"
            raise NotFound(f"No model '{loop[:80]}' is deployed. Deployed: {there}.")
        return found

    def loops(self) -> list[str]:
        """Names of what is deployed."""
        return sorted(self._deployments)

    def manifest(self, loop: str, version: int | None = None) -> tuple[Route, BundleManifest]:
        """Route and manifest of a version, the champion's unless told.

        Raises:
            NotFound: that version is not deployed; says which are.
            ModelError: it is deployed but its model cannot be loaded.
        """
        route, served = self._up(loop, version)
        return route, served.manifest

    def _up(self, loop: str, version: int | None) -> tuple[Route, _Served]:
        deployment = self.deployment(loop)
        routes = deployment.routes
        if version is None:
            route = deployment.route("champion") or routes[0]
        else:
            route = next((r for r in routes if r.version == version), None) or _unknown(loop, version, routes)
        served = self._served.get(route.bundle)
        if served is None:
            why, _ = self._broken.get(route.bundle, ("it is loading", 0.0))
            raise ModelError(f"Version {route.version} of '{loop}' cannot be served: {why}")
        return route, served

    async def predict(self, loop: str, records: list[dict[str, Any]], *, version: int | None = None) -> list[Answer]:
        """Answer records, each by the version its route chooses, and record every answer.

        Args:
            loop: the loop's name.
            records: plain JSON records.
            version: pin to this deployed version instead of routing.

        Raises:
            NotFound: unknown loop or version.
            RequestError: a record does not fit the signature; no answer is given or recorded.
            ModelError: the model failed or is restarting.
        """
        started = time.perf_counter()
        main = _Part(list(range(len(records))), *self._up(loop, version))
        signature = main.served.manifest.signature
        keys = [key_text(record.get(signature.key) if signature.key else None, signature) for record in records]
        parts = [main] if version is not None else self._divide(loop, main, keys)
        held = [main.served, *(part.served for part in parts if part.served is not main.served)]
        for served in held:
            served.users += 1
        try:
            fallback = main if version is None else None
            outcomes = await asyncio.gather(*(self._outcome(part, fallback, records) for part in parts))
        finally:
            for served in held:
                served.users -= 1
        errors = [outcome.error for outcome in outcomes if outcome.error is not None]
        refused = next((error for error in errors if isinstance(error, RequestError)), None)
        if refused is not None:
            raise _together([error for error in errors if isinstance(error, RequestError)])
        if self._record:
            latency_us = int((time.perf_counter() - started) * 1e6)
            rows = self._rows(outcomes, loop, records, keys, latency_us)
            await self._in_thread(lambda: self._store.predictions.append(rows))
        if errors:
            raise errors[0]
        found = sorted(((place, answer) for outcome in outcomes for place, answer, _ in outcome.answers), key=_place)
        return [answer for _, answer in found]

    def _divide(self, loop: str, main: _Part, keys: list[str | None]) -> list[_Part]:
        """The records by the way they go; the champion's while the chosen version is not up."""
        deployment = self._deployments[loop]
        parts: dict[str, _Part] = {}
        for place, key in enumerate(keys):
            route = choose(deployment, key)
            served = self._served.get(route.bundle)
            if served is None:
                route, served = main.route, main.served
            parts.setdefault(route.bundle, _Part([], route, served)).places.append(place)
        return list(parts.values())

    async def _outcome(self, part: _Part, fallback: _Part | None, records: list[dict[str, Any]]) -> _Outcome:
        """A part's answers. A broken challenger costs no caller an answer: the champion gives it instead."""
        try:
            return _Outcome(answers=await self._ask(part, records))
        except (ModelError, RequestError) as error:
            met = error
        failed = [(place, part.route, part.served, str(met)) for place in part.places]
        if part.route.role == "canary" and fallback is not None and fallback.served is not part.served:
            instead = _Part(part.places, fallback.route, fallback.served)
            second = await self._outcome(instead, None, records)
            refused = isinstance(second.error, RequestError)
            return _Outcome(second.answers, [] if refused else failed + second.failed, second.error)
        return _Outcome(failed=failed if isinstance(met, ModelError) else [], error=met)

    async def _ask(self, part: _Part, records: list[dict[str, Any]]) -> list[tuple[int, Answer, _Served]]:
        try:
            body = orjson.dumps({"records": [records[place] for place in part.places]})
        except orjson.JSONEncodeError:
            raise RequestError("The records are nested too deeply: a field holds one value.") from None
        reply = orjson.loads(await part.served.worker.ask(body))
        if "error" in reply:
            if reply.get("kind") == "request":
                raise RequestError(reply["error"], [_placed(detail, part.places) for detail in reply["details"]])
            raise ModelError(without_folders(reply["error"]))
        values = reply["values"]
        shares = reply.get("probabilities") or [None] * len(values)
        classes, route = part.served.manifest.signature.classes, part.route
        return [
            (place, Answer(new_id(), route.version, route.role, value, row, classes), part.served)
            for place, value, row in zip(part.places, values, shares, strict=True)
        ]

    def _rows(
        self,
        outcomes: list[_Outcome],
        loop: str,
        records: list[dict[str, Any]],
        keys: list[str | None],
        latency_us: int,
    ) -> list[Prediction]:
        now = self._clock.now()

        def row(place: int, made: str, version: int, role: str, served: _Served) -> Prediction:
            return Prediction(
                id=made,
                loop=loop,
                at=now,
                version=version,
                model_digest=served.manifest.model_digest,
                role=role,
                record=records[place],
                key=keys[place],
                latency_us=latency_us,
            )

        rows = []
        for place, answer, served in sorted((a for o in outcomes for a in o.answers), key=_place):
            plain = row(place, answer.id, answer.version, answer.role, served)
            rows.append(replace(plain, value=answer.value, probabilities=answer.probabilities))
        for place, route, served, error in (failure for o in outcomes for failure in o.failed):
            rows.append(replace(row(place, new_id(), route.version, route.role, served), error=error))
        return rows

    async def label(self, labels: list[Label]) -> LabelReceipt:
        """Record labels; durable on return."""
        receipt: LabelReceipt = await self._in_thread(lambda: self._store.predictions.label(labels))
        return receipt

    def now(self) -> Any:
        """The clock's present."""
        return self._clock.now()


def _unknown(loop: str, version: int, routes: Sequence[Route]) -> Route:
    there = ", ".join(str(route.version) for route in routes)
    raise NotFound(f"Version {version} of '{loop}' is not deployed. Deployed: {there}.")


async def _retire(served: _Served) -> None:
    """End a version once the requests that chose it have been answered."""
    while served.users:
        await asyncio.sleep(0.01)
    await served.worker.stop()


def _place(row: tuple[Any, ...]) -> int:
    return int(row[0])


def _placed(detail: dict[str, Any], places: list[int]) -> dict[str, Any]:
    """A worker's detail, by the record's place in the request and without folders of this machine."""
    problem = without_folders(str(detail.get("problem", "")))
    return {**detail, "record": places[detail["record"]], "problem": problem}


def _together(errors: list[RequestError]) -> RequestError:
    """One error of several parts' errors."""
    details = sorted((d for error in errors for d in error.details), key=lambda d: str(d["record"]).zfill(9))
    return errors[0] if len(errors) == 1 else RequestError(str(errors[0]), details[:100])


def without_folders(text: str) -> str:
    """The text with each file of this machine by its bare name: where it lies is no client's business."""
    return _FOLDERS.sub("", text)
