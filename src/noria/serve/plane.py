"""The data plane's logic, whatever the wire: which version answers, in which process, and what is recorded."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import orjson

from noria.core.clock import Clock
from noria.core.ids import new_id
from noria.errors import ModelError, NoriaError, NotFound, RequestError
from noria.records import BundleManifest, Deployment, Route
from noria.serve.process import WorkerProcess
from noria.serve.rules import choose
from noria.store.ports import Label, LabelReceipt, Prediction, Store

_log = logging.getLogger("noria.serve")
_MANIFEST = msgspec.json.Decoder(BundleManifest)


class Answer(msgspec.Struct, frozen=True):
    """One record's prediction."""

    id: str
    version: int
    role: str
    value: Any
    probabilities: list[float] | None


class _Served(msgspec.Struct):
    """A version that is up."""

    manifest: BundleManifest
    worker: WorkerProcess


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
        self._broken: dict[str, str] = {}
        self._deployments: dict[str, Deployment] = {}
        self._threads = ThreadPoolExecutor(8, thread_name_prefix="store")
        self._follower: asyncio.Task[None] | None = None
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
            except NoriaError as error:
                _log.warning("deployments could not be read: %s", error)

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def refresh(self) -> None:
        """Read deployments; bring up new versions, switch over, then drain the ones no longer named."""
        found: Mapping[str, Deployment] = await self._in_thread(self._read)
        if all(self._deployments.get(loop) == deployment for loop, deployment in found.items()):
            return
        for loop, deployment in found.items():
            if self._deployments.get(loop) == deployment:
                continue
            missing = [route.bundle for route in deployment.routes if route.bundle not in self._served]
            await asyncio.gather(*(self._bring_up(digest) for digest in missing if digest not in self._broken))
            usable = [route for route in deployment.routes if route.bundle in self._served]
            if usable or loop not in self._deployments:
                self._deployments[loop] = deployment
        named = {route.bundle for deployment in self._deployments.values() for route in deployment.routes}
        for digest in [digest for digest in self._served if digest not in named]:
            task = asyncio.create_task(self._served.pop(digest).worker.stop())
            self._background.add(task)
            task.add_done_callback(self._background.discard)

    async def _bring_up(self, digest: str) -> None:
        try:
            manifest = _MANIFEST.decode(await self._in_thread(lambda: self._store.blobs.get(digest)))
            worker = WorkerProcess([*self._command, digest], manifest.loop)
            await worker.start()
        except NoriaError as error:
            self._broken[digest] = str(error)
            _log.error("bundle %s cannot be served: %s", digest, error)
            return
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
        deployment = self.deployment(loop)
        routes = deployment.routes
        if version is None:
            route = deployment.route("champion") or routes[0]
        else:
            route = next((r for r in routes if r.version == version), None) or _unknown(loop, version, routes)
        served = self._served.get(route.bundle)
        if served is None:
            raise ModelError(
                f"Version {route.version} of '{loop}' cannot be served: {self._broken.get(route.bundle, 'loading')}"
            )
        return route, served.manifest

    async def predict(
        self, loop: str, records: list[dict[str, Any]], *, version: int | None = None
    ) -> list[Answer]:
        """Answer records, each by the version its route chooses, and record every answer.

        Args:
            records: plain JSON records.
            version: pin to this deployed version instead of routing.

        Raises:
            NotFound: unknown loop or version.
            RequestError: a record does not fit the signature; nothing was predicted.
            ModelError: the model failed or is restarting.
        """
        started = time.perf_counter()
        deployment = self.deployment(loop)
        _, main = self.manifest(loop, version)
        key_column = main.signature.key
        keys = [_key(record, key_column) for record in records]
        if version is not None:
            pinned, _ = self.manifest(loop, version)
            routes = [pinned] * len(records)
        else:
            routes = [self._usable(deployment, choose(deployment, key)) for key in keys]
        groups: dict[str, list[int]] = {}
        for place, route in enumerate(routes):
            groups.setdefault(route.bundle, []).append(place)
        answers: list[Answer | None] = [None] * len(records)
        failed: list[tuple[int, Route, str]] = []
        for places, route, outcome in await self._ask_all(routes, records):
            if isinstance(outcome, ModelError) and route.role == "canary":
                # A broken challenger must not cost a caller an answer: note the error, let the champion answer.
                failed += [(place, route, str(outcome)) for place in places]
                route = self.manifest(loop)[0]
                outcome = await self._ask(route.bundle, [records[place] for place in places], places)
            if isinstance(outcome, ModelError):
                failed += [(place, route, str(outcome)) for place in places]
                continue
            if isinstance(outcome, BaseException):
                raise outcome
            for place, value, row in zip(places, *outcome, strict=True):
                answers[place] = Answer(new_id(), route.version, route.role, value, row)
        latency_us = int((time.perf_counter() - started) * 1e6)
        if self._record:
            await self._write(loop, answers, failed, records, keys, latency_us)
        if any(answer is None for answer in answers):
            raise ModelError(failed[-1][2])
        return [answer for answer in answers if answer is not None]

    async def _ask_all(
        self, routes: list[Route], records: list[dict[str, Any]]
    ) -> list[tuple[list[int], Route, Any]]:
        """Each version's records asked together; an outcome is its answers or the error it met."""
        groups: dict[str, list[int]] = {}
        for place, route in enumerate(routes):
            groups.setdefault(route.bundle, []).append(place)
        outcomes = await asyncio.gather(
            *(self._ask(digest, [records[place] for place in places], places) for digest, places in groups.items()),
            return_exceptions=True,
        )
        by_bundle = {route.bundle: route for route in routes}
        return [
            (places, by_bundle[digest], outcome)
            for (digest, places), outcome in zip(groups.items(), outcomes, strict=True)
        ]

    def _usable(self, deployment: Deployment, route: Route) -> Route:
        """The chosen route, or the champion's while the chosen one is not up."""
        if route.bundle in self._served:
            return route
        return deployment.route("champion") or route

    async def _ask(
        self, digest: str, records: list[dict[str, Any]], places: list[int]
    ) -> tuple[list[Any], list[list[float] | None]]:
        served = self._served[digest]
        reply = orjson.loads(await served.worker.ask(orjson.dumps({"records": records})))
        if "error" in reply:
            if reply.get("kind") == "request":
                details = [{**d, "record": places[d["record"]]} if "record" in d else d for d in reply["details"]]
                raise RequestError(reply["error"], details)
            raise ModelError(reply["error"])
        values = reply["values"]
        return values, reply.get("probabilities") or [None] * len(values)

    async def _write(
        self,
        loop: str,
        answers: list[Answer | None],
        failed: list[tuple[int, Route, str]],
        records: list[dict[str, Any]],
        keys: list[str | None],
        latency_us: int,
    ) -> None:
        now = self._clock.now()
        digests = {route.version: self._digest(route) for route in self._deployments[loop].routes}
        rows = [
            Prediction(
                id=answer.id,
                loop=loop,
                at=now,
                version=answer.version,
                model_digest=digests.get(answer.version, ""),
                role=answer.role,
                record=record,
                value=answer.value,
                probabilities=answer.probabilities,
                key=key,
                latency_us=latency_us,
            )
            for answer, record, key in zip(answers, records, keys, strict=True)
            if answer is not None
        ]
        rows += [
            Prediction(
                id=new_id(),
                loop=loop,
                at=now,
                version=route.version,
                model_digest=digests.get(route.version, ""),
                role=route.role,
                record=records[place],
                key=keys[place],
                latency_us=latency_us,
                error=error,
            )
            for place, route, error in failed
        ]
        await self._in_thread(lambda: self._store.predictions.append(rows))

    def _digest(self, route: Route) -> str:
        served = self._served.get(route.bundle)
        return served.manifest.model_digest if served else ""

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


def _key(record: Mapping[str, Any], column: str | None) -> str | None:
    value = record.get(column) if column is not None else None
    return None if value is None else str(value)
