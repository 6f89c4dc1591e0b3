"""The data plane's logic, whatever the wire: which version answers, who computes it, what is recorded."""

from __future__ import annotations

import asyncio
import logging
import math
import re
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, Literal

import msgspec

from noria.core.clock import Clock
from noria.errors import ModelError, NoriaError, NotFound, RequestError, StoreError
from noria.records import BundleManifest, Deployment, Override, Route, Signature
from noria.serve import overrides
from noria.serve.batch import Batch, Layout, problem_error, refused_records, stacked
from noria.serve.control import Control
from noria.serve.engine import Engine, Overloaded, ProcessEngine, Scores
from noria.serve.metrics import Metrics
from noria.serve.native import NativeEngine, fits
from noria.serve.outage import Outage, Unrecorded
from noria.serve.process import WorkerProcess
from noria.serve.recording import Recorder
from noria.serve.rules import choose, mirrored
from noria.serve.wire import Held
from noria.store.ports import Label, LabelReceipt, Store
from noria.store.segments.rows import ids_of

__all__ = ["Answered", "Part", "Plane", "Served", "laid_out", "without_folders"]

_log = logging.getLogger("noria.serve")
_TRY_AGAIN_SECONDS = 30.0
_DEADLINE_SECONDS = 60.0
_OTHERS_SECONDS = 10.0  # how long a model that is up waits for the others before the first request is taken
_LAST_SECONDS = 3.0
_MAX_SHADOWS = 64
_FOLDERS = re.compile(r"(?<![\w:/.])/(?:[^\s/:'\"]+/)+")
_MANIFEST = msgspec.json.Decoder(BundleManifest)

Level = Literal["os", "disk", "off"]
_Way = tuple[Batch, list[int], Route, "Served", Scores]
"""Rows, their places in the request, and what which version said of them."""


class Served:
    """A version that is up. It is not ended while requests use it: ``users`` counts them."""

    __slots__ = ("digest", "engine", "layout", "manifest", "templates", "users")

    def __init__(self, digest: str, manifest: BundleManifest, layout: Layout, engine: Engine) -> None:
        self.digest = digest
        self.manifest = manifest
        self.layout = layout
        self.engine = engine
        self.users = 0
        self.templates: dict[tuple[str, int], Any] = {}  # what a wire keeps to write its replies by


class Part:
    """Rows of one request that one version answered.

    Attributes:
        places: their places in the request; None: all of them, in order.
        first: the id of the first; those of the others count up from it.
    """

    __slots__ = ("first", "places", "route", "scores", "served")

    def __init__(self, places: list[int] | None, route: Route, served: Served, scores: Scores, first: str) -> None:
        self.places = places
        self.route = route
        self.served = served
        self.scores = scores
        self.first = first

    def ids(self) -> list[str]:
        """One id a row."""
        return ids_of(self.first, len(self.scores.values))


class Answered:
    """A request's answer; ``held``: the records of it that are not written yet."""

    __slots__ = ("held", "parts", "rows")

    def __init__(self, rows: int, parts: list[Part], held: Held | None = None) -> None:
        self.rows = rows
        self.parts = parts
        self.held = held


class _Line:
    """One loop's way through: its deployment with what is up of it."""

    __slots__ = ("alone", "deployment", "main", "main_route", "shadow", "together")

    def __init__(self, deployment: Deployment, served: Mapping[str, Served]) -> None:
        self.deployment = deployment
        self.main_route = deployment.route("champion") or deployment.routes[0]
        self.main = served.get(self.main_route.bundle)
        canary = deployment.route("canary")
        self.shadow = deployment.route("shadow")
        self.alone = canary is None or canary.percent <= 0 or canary.bundle not in served
        main, one_way = self.main, self.alone and self.shadow is None
        self.together = main if one_way and main is not None and main.engine.together else None


class Plane:
    """Serves every loop that has a deployment, and follows deployments as they change.

    Args:
        store: where bundles, deployments and the prediction log are.
        clock: stamps predictions.
        worker: command line that serves the bundle whose manifest digest is appended, and behind it ``original`` if
            its compiled graph is not to be used.
        deployments: the deployments in force, by loop; read again and again.
        level: ``os``: a prediction is with the operating system before it is answered, and survives the end of this
            process; ``disk``: on disk, and survives a power cut; ``off``: not recorded.
        refresh_s: how often deployments are read.
        crashing: called, in a thread, with loop, version and reason when a version keeps crashing.
        max_memory: bytes a model process may hold.
        native: whether compiled graphs are used.
        control: what other processes on the same port are told, and tell.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        worker: Sequence[str],
        deployments: Callable[[], Mapping[str, Deployment]],
        *,
        level: Level = "os",
        refresh_s: float = 0.25,
        crashing: Callable[[str, int, str], None] | None = None,
        max_memory: int | None = None,
        native: bool = True,
        control: Control | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._command = tuple(worker)
        self._read = deployments
        self._refresh_s = refresh_s
        self._crashing = crashing
        self._max_memory = max_memory
        self._native = native
        self._served: dict[str, Served] = {}  # by bundle digest
        self._leaving: set[Served] = set()
        self._broken: dict[str, tuple[str, float]] = {}  # why, and when to try again
        self._lines: dict[str, _Line] = {}
        self._found: Mapping[str, Deployment] = {}  # as they were read last
        self._threads = ThreadPoolExecutor(8, thread_name_prefix="store")
        self.recorder = Recorder(store, level, self._threads, self._lost)
        self.outage = Outage(getattr(store.predictions, "check_writable", None))
        self._follower: asyncio.Task[None] | None = None
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)  # one change of a loop at a time
        self._coming: dict[str, tuple[Deployment, asyncio.Task[None]]] = {}  # what each loop is changing to
        self._background: set[asyncio.Task[None]] = set()
        self._shadows: Counter[str] = Counter()  # by loop: one that hangs takes no place from another's
        self._unloaded: set[str] = set()
        self.control = control
        self._heard: dict[str, int] = {}
        self._doing: set[asyncio.Task[None]] = set()  # what other processes were told
        self.metrics = Metrics()
        self.ready = False

    async def start(self) -> None:
        """Bring up what is deployed, then follow changes. One of several that takes long is soon waited for no more."""
        for name, (number, loaded) in self.control.changes().items() if self.control is not None else ():
            self._heard[name] = number
            if not loaded:
                self._unloaded.add(name)
        coming = self._changes(await self._in_thread(self._read))
        if coming:
            await asyncio.wait(coming, timeout=_OTHERS_SECONDS if len(coming) > 1 else None)
        self.ready = True
        self._follower = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """Drain, and end every model process."""
        self.ready = False
        if self._follower is not None:
            self._follower.cancel()
            await asyncio.gather(self._follower, return_exceptions=True)
        coming = [*self._doing, *(task for _, task in self._coming.values())]
        for task in coming:
            task.cancel()
        await asyncio.gather(*coming, return_exceptions=True)
        ending = (*self._served.values(), *self._leaving)
        for served in ending:
            if isinstance(served.engine, ProcessEngine):
                # Callers have had their time to be answered: what is still asked is a shadow's, or hangs.
                served.engine.patience = _LAST_SECONDS
        await asyncio.gather(*self._background, *(served.engine.stop() for served in ending))
        self._served.clear()
        await self.recorder.close()
        self._threads.shutdown(wait=True)

    async def _follow(self) -> None:
        said = ""
        while True:
            await asyncio.sleep(self._refresh_s)
            try:
                if self.outage.cause is not None:
                    await self._in_thread(self.outage.look)
                self._changes(await self._in_thread(self._read))
                if self.control is not None:
                    self._listen(self.control)
                said = ""
            except Exception as error:  # noqa: BLE001 - following must go on, whatever one reading met
                if str(error) != said:
                    said = str(error)
                    _log.warning("deployments could not be read: %s", error)

    def _listen(self, control: Control) -> None:
        """Do as another process on this port was told."""
        for name, (number, loaded) in control.changes().items():
            if number > self._heard.get(name, 0):
                self._heard[name] = number
                if not loaded:
                    self._unloaded.add(name)  # one too that is not deployed yet as far as this process knows
                self._doing.add(task := asyncio.get_running_loop().create_task(self._do(name, loaded)))
                task.add_done_callback(self._doing.discard)

    async def _do(self, name: str, loaded: bool) -> None:
        try:
            await (self.load(name) if loaded else self.unload(name))
        except NoriaError as error:
            _log.warning("another process was told to %s %s: %s", "load" if loaded else "unload", name, error)

    def _beside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def told(self, name: str, loaded: bool) -> None:
        """Let the other processes on this port do as this one did."""
        if self.control is not None:
            self._heard[name] = self.control.tell(name, loaded)

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    # what is served

    async def refresh(self) -> None:
        """Read deployments; bring up new versions, switch over, then drain the ones no longer named."""
        if coming := self._changes(await self._in_thread(self._read)):
            await asyncio.wait(coming)  # which go on, whatever becomes of the one who waits

    def _changes(self, found: Mapping[str, Deployment]) -> list[asyncio.Task[None]]:
        """What is under way to what was found: each loop by itself, so that a slow one keeps no other waiting."""
        self._found = found
        for loop in self._lines.keys() - (found.keys() - self._unloaded):
            self._give_up(loop)
            del self._lines[loop]
        for loop in found.keys() - self._unloaded:
            deployment, line = found[loop], self._lines.get(loop)
            if loop in self._coming:
                if self._coming[loop][0] == deployment:
                    continue
                self._give_up(loop)
            if line is not None and line.deployment == deployment and not self._missing(deployment):
                continue
            if line is None:  # it is loading, and says so
                self._lines[loop] = _Line(deployment, self._served)
            self._coming[loop] = deployment, asyncio.get_running_loop().create_task(self._change(loop, deployment))
        self._let_go()
        return [task for _, task in self._coming.values()]

    def _missing(self, deployment: Deployment) -> set[str]:
        """Bundles to be brought up."""
        return {r.bundle for r in deployment.routes if r.bundle not in self._served and self._may_try(r.bundle)}

    async def _change(self, loop: str, deployment: Deployment) -> None:
        try:
            async with self._locks[loop]:
                await asyncio.gather(*(self._bring_up(digest, deployment) for digest in self._missing(deployment)))
                line, old = _Line(deployment, self._served), self._lines.get(loop)
                if line.main is not None or old is None or old.main is None:
                    self._lines[loop] = line
        finally:
            if self._coming.get(loop, (None, None))[1] is asyncio.current_task():
                del self._coming[loop]
        self._let_go()

    def _give_up(self, loop: str) -> None:
        """Change a loop no further."""
        if loop in self._coming:
            self._coming.pop(loop)[1].cancel()

    def _let_go(self) -> None:
        wanted = [line.deployment for line in self._lines.values()]
        wanted += [one for loop, one in self._found.items() if loop not in self._unloaded]
        named = {route.bundle for deployment in wanted for route in deployment.routes}
        for digest in self._served.keys() - named:
            self._retire(self._served.pop(digest))

    def _retire(self, served: Served) -> None:
        self._leaving.add(served)
        self._beside(self._retired(served))

    async def _retired(self, served: Served) -> None:
        """End a version once the requests that chose it have been answered."""
        while True:
            await asyncio.sleep(0.01)  # first of all: who has just chosen it counts as its user a turn or two later
            if not served.users:
                break
        await served.engine.stop()
        self._leaving.discard(served)

    def _may_try(self, digest: str) -> bool:
        return digest not in self._broken or time.monotonic() > self._broken[digest][1]

    async def _bring_up(self, digest: str, deployment: Deployment) -> None:
        version = next(route.version for route in deployment.routes if route.bundle == digest)
        try:
            served = await self._brought_up(digest, deployment.loop, version)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one bundle, the others are served
            self._broken[digest] = (str(error), time.monotonic() + _TRY_AGAIN_SECONDS)
            _log.error("bundle %s cannot be served: %s", digest, error)
            return
        self._broken.pop(digest, None)
        if digest in self._served:  # another loop has the same, and was quicker
            self._retire(served)
        else:
            self._served[digest] = served

    async def _brought_up(self, digest: str, loop: str, version: int) -> Served:
        manifest = _MANIFEST.decode(await self._in_thread(lambda: self._store.blobs.get(digest)))
        layout = Layout(manifest)
        if self._native and fits(manifest):
            try:
                engine: Engine = await self._in_thread(lambda: self._compiled(manifest, layout))
                await engine.start()
                return Served(digest, manifest, layout, engine)
            except (ModelError, StoreError) as error:
                _log.warning("version %d of %s is served by its original model: %s", version, loop, error)

        def crashing(reason: str) -> None:
            _log.error("version %d of %s keeps crashing: %s", version, loop, reason)
            if self._crashing is not None:
                self._threads.submit(self._crashing, loop, version, reason)

        worker = WorkerProcess(
            [*self._command, digest, *([] if self._native else ["original"])],
            f"{loop}/{version}",
            max_memory=self._max_memory,
            crashing=crashing,
        )
        engine = ProcessEngine(worker, layout.names)
        try:
            await engine.start()
        except asyncio.CancelledError:  # stopped while a version comes up: its process must not be left behind
            await engine.stop()
            raise
        return Served(digest, manifest, layout, engine)

    def _compiled(self, manifest: BundleManifest, layout: Layout) -> NativeEngine:
        """The compiled graph, once it has given the stored answers to the stored sample."""
        engine = NativeEngine(self._store.blobs, manifest, layout)
        sample: Mapping[str, Any] = manifest.reference.get("sample", {})
        records = sample.get("records", [])
        if not records:
            return engine
        try:
            found = engine.scores(layout.from_records(records)).values
        except RequestError as error:
            raise ModelError(f"the compiled graph refuses its own sample: {error}") from error
        for given, stored in zip(found, sample["values"], strict=True):
            same = given == stored
            if isinstance(given, float) and isinstance(stored, (int, float)):
                assert manifest.compiled is not None
                same = abs(given - stored) <= max(1e-6, manifest.compiled.tolerance) * max(1.0, abs(stored))
            if not same:
                raise ModelError(f"the compiled graph gives {given!r} where training gave {stored!r}")
        return engine

    def names(self) -> list[str]:
        """Names of every model there is, loaded or not."""
        return sorted(self._lines.keys() | self._unloaded)

    def loading(self, name: str) -> bool:
        """Whether a model is being brought up, or another version of it."""
        return name in self._coming

    def loaded(self, name: str) -> bool:
        """Whether a model answers."""
        line = self._lines.get(name)
        if line is None or line.main is None:
            return False
        engine = line.main.engine
        return not (isinstance(engine, ProcessEngine) and engine.worker.down)

    async def load(self, name: str) -> None:
        """Bring a model up anew and switch over to it, without a request failing.

        Raises:
            NotFound: there is no such model.
            ModelError: it cannot be loaded; what was up stays.
        """
        self._unloaded.discard(name)
        if name in self._lines:
            async with self._locks[name]:
                if name in self._lines:  # it is not, if it was unloaded meanwhile
                    await self._load_anew(name)
                    return
        self._changes(await self._in_thread(self._read))
        if name in self._coming:
            await asyncio.wait((self._coming[name][1],))
        line = self._lines.get(name)
        if line is None:
            self._no_such(name)
        elif line.main is None:
            raise ModelError(f"'{name}' cannot be loaded: {self._why(line.main_route)}")

    async def _load_anew(self, name: str) -> None:
        fresh: dict[str, Served] = {}
        try:
            for digest, version in {r.bundle: r.version for r in self._lines[name].deployment.routes}.items():
                self._broken.pop(digest, None)
                fresh[digest] = await self._brought_up(digest, name, version)
        except BaseException as error:
            for served in fresh.values():
                self._retire(served)
            if isinstance(error, (NoriaError, msgspec.DecodeError)):
                raise ModelError(f"'{name}' cannot be loaded: {error}") from error
            raise
        old = [self._served[digest] for digest in fresh if digest in self._served]
        self._served.update(fresh)
        for other, its in self._lines.items():  # loops may share a bundle
            self._lines[other] = _Line(its.deployment, self._served)
        for served in old:
            self._retire(served)

    async def unload(self, name: str) -> None:
        """Let a model go once its requests are answered.

        Raises:
            NotFound: there is no such model.
        """
        if name not in self._lines and name not in self._unloaded:
            self._no_such(name)
        self._unloaded.add(name)  # at once: no change is to begin meanwhile
        self._give_up(name)
        async with self._locks[name]:
            self._lines.pop(name, None)
            self._let_go()

    def _no_such(self, name: str) -> Any:
        there = ", ".join(sorted(self._lines)) or "none yet"
        raise NotFound(f"No model '{name[:80]}' is deployed. Deployed: {there}.")

    def deployment(self, loop: str) -> Deployment:
        """The deployment in force.

        Raises:
            NotFound: nothing is deployed under this name; says what is.
        """
        line = self._lines.get(loop)
        if line is None:
            self._no_such(loop)
            raise AssertionError
        return line.deployment

    def loops(self) -> list[str]:
        """Names of what is deployed."""
        return sorted(self._lines)

    def served(self, loop: str, version: int | None = None) -> tuple[Route, Served]:
        """A version that is up, the champion unless told, and its route.

        Raises:
            NotFound: that version is not deployed; says which are.
            ModelError: it is deployed but its model cannot be loaded.
        """
        line = self._lines.get(loop)
        if line is None:
            self._no_such(loop)
            raise AssertionError
        if version is None:
            if line.main is not None:
                return line.main_route, line.main
            route = line.main_route
        else:
            routes = line.deployment.routes
            route = next((r for r in routes if r.version == version), None) or _unknown(loop, version, routes)
        found = self._served.get(route.bundle)
        if found is None:
            raise ModelError(f"Version {route.version} of '{loop}' cannot be served: {self._why(route)}")
        return route, found

    def _why(self, route: Route) -> str:
        return self._broken.get(route.bundle, ("it is loading", 0.0))[0]

    def manifest(self, loop: str, version: int | None = None) -> tuple[Route, BundleManifest]:
        """As `served`, the manifest only."""
        route, found = self.served(loop, version)
        return route, found.manifest

    # predictions

    def predict(
        self,
        loop: str,
        batch: Batch,
        *,
        version: int | None = None,
        trace: str | None = None,
        deadline: float | None = None,
        hold: bool = False,
    ) -> Answered | Awaitable[Answered]:
        """Answer a batch by the versions its routes choose, and record every answer; at once where that is possible.

        Args:
            loop: the loop's name.
            batch: rows, laid out as the champion's (or the pinned version's) layout says.
            version: pin to this deployed version instead of routing.
            trace: W3C trace id to keep with the predictions.
            deadline: ``time.monotonic()`` by which it must have begun; a minute from now by default.
            hold: an answer may be on record only after ``recorder.flush()``; its ``held`` then says if it is.

        Raises:
            NotFound: unknown loop or version.
            RequestError: a record cannot be predicted; no answer is given or recorded.
            ModelError: the model failed or is restarting.
            Overloaded: too much waits for the model.
            TooLate: the deadline passed before its turn.
            StoreError: the prediction cannot be recorded.
        """
        if self.outage.cause is not None:
            raise Unrecorded(self.outage.cause)
        started = time.perf_counter()
        line = self._lines.get(loop)
        if version is not None or line is None or line.main is None:
            route, main = self.served(loop, version)
            line = self._lines[loop]
        else:
            route, main = line.main_route, line.main
        ends = time.monotonic() + _DEADLINE_SECONDS if deadline is None else deadline
        one_way = version is not None or line.alone
        chosen = None
        if not one_way and (batch.keys is None or batch.rows == 1):  # as a whole by one way: most by the champion's
            chosen = choose(line.deployment, None if batch.keys is None else batch.keys[0])
            one_way = chosen.bundle == route.bundle
        if one_way:
            try:
                scores = main.engine.run(batch, ends)
            except ModelError as error:
                self._failed(loop, batch, route, main, str(error), started, trace)
                raise
            if isinstance(scores, Scores):
                held = hold and self.recorder.level == "os"
                part = self._recorded(loop, batch, None, route, main, scores, started, trace, held)
                if line.shadow is not None and version is None:
                    self._mirror(loop, line, batch, scores, trace)
                answered = Answered(batch.rows, [part], self.recorder.held if held else None)
                return self._synced(loop, answered) if self.recorder.level == "disk" else answered
            return self._later(loop, line, batch, route, main, scores, started, trace, version, hold)
        return self._divided(loop, line, batch, route, main, started, trace, ends, chosen)

    def together(self, loop: str) -> tuple[Route, Served] | None:
        """The route by which `answer_together` would answer a loop's requests; None if each goes its own way.

        Whoever takes it counts as a user of the version until then.
        """
        line = self._lines.get(loop)
        if line is None or line.together is None or self.recorder.level == "disk":
            return None
        return line.main_route, line.together

    def answer_together(self, loop: str, route: Route, served: Served, batches: Sequence[Batch]) -> list[Answered]:
        """Answer several requests of one row each, at once, and record every answer, to be written by `flush`.

        One call of the model costs little more for many rows than for one; and what is written has one frame.

        Raises:
            RequestError: a record cannot be predicted; no answer is given or recorded.
            ModelError: the model failed.
            StoreError: the predictions cannot be recorded.
        """
        if self.outage.cause is not None:
            raise Unrecorded(self.outage.cause)
        started, rows = time.perf_counter(), len(batches)
        batch = batches[0] if rows == 1 else stacked(batches)
        try:
            scores = served.engine.run(batch, math.inf)
            assert isinstance(scores, Scores)
        except ModelError as error:
            if rows == 1:
                self._failed(loop, batch, route, served, str(error), started, None)
            raise
        part = self._recorded(loop, batch, None, route, served, scores, started, None, hold=True, requests=rows)
        held = self.recorder.held
        if rows == 1:
            return [Answered(1, [part], held)]
        each = zip(scores.each(), part.ids(), strict=True)
        return [Answered(1, [Part(None, route, served, one, made)], held) for one, made in each]

    async def _synced(self, loop: str, answered: Answered) -> Answered:
        try:
            await self.recorder.sync(loop)
        except StoreError:
            for part in answered.parts:
                self._lost(loop, part.route, part.served, part.scores)
            raise
        return answered

    async def _later(
        self,
        loop: str,
        line: _Line,
        batch: Batch,
        route: Route,
        main: Served,
        waiting: Awaitable[Scores],
        started: float,
        trace: str | None,
        version: int | None,
        hold: bool,
    ) -> Answered:
        main.users += 1
        try:
            scores = await waiting
        except ModelError as error:
            self._failed(loop, batch, route, main, str(error), started, trace)
            raise
        finally:
            main.users -= 1
        held = hold and self.recorder.level == "os"
        part = self._recorded(loop, batch, None, route, main, scores, started, trace, held)
        if line.shadow is not None and version is None:
            self._mirror(loop, line, batch, scores, trace)
        answered = Answered(batch.rows, [part], self.recorder.held if held else None)
        return await self._synced(loop, answered) if self.recorder.level == "disk" else answered

    async def _divided(
        self,
        loop: str,
        line: _Line,
        batch: Batch,
        main_route: Route,
        main: Served,
        started: float,
        trace: str | None,
        deadline: float,
        chosen: Route | None,
    ) -> Answered:
        """Rows by the way they go: all as ``chosen``, or each by its key."""
        ways: dict[str, tuple[Route, list[int]]] = {}
        if chosen is not None:
            ways[chosen.bundle] = (chosen, list(range(batch.rows)))
        else:
            for place, key in enumerate(batch.keys or ()):
                route = choose(line.deployment, key)
                ways.setdefault(route.bundle, (route, []))[1].append(place)
        asked = []
        for route, places in ways.values():
            served = self._served.get(route.bundle) or main
            route = route if served is not main else main_route
            part = batch if len(places) == batch.rows else batch.take(places)
            asked.append(self._one_way(loop, part, places, route, served, (main_route, main), started, trace, deadline))
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        refused = [error for error in errors if isinstance(error, RequestError)]
        if refused:
            raise _together(refused)
        if errors:
            raise errors[0]
        # Only now, as a request that is refused is not to be on record in part.
        parts = [
            self._recorded(loop, *one, time.perf_counter() - spent, trace)
            for one, spent in (outcome for outcome in outcomes if not isinstance(outcome, BaseException))
        ]
        if line.shadow is not None and len(parts) == 1:
            self._mirror(loop, line, batch, parts[0].scores, trace)
        answered = Answered(batch.rows, parts)
        return await self._synced(loop, answered) if self.recorder.level == "disk" else answered

    async def _one_way(
        self,
        loop: str,
        batch: Batch,
        places: list[int],
        route: Route,
        served: Served,
        fallback: tuple[Route, Served],
        started: float,
        trace: str | None,
        deadline: float,
    ) -> tuple[_Way, float]:
        """One version's rows, and their time. Where a challenger fails or does not keep up, the champion answers."""
        served.users += 1
        try:
            found = served.engine.run(laid_out(batch, served, fallback[1]), deadline)
            scores = found if isinstance(found, Scores) else await found
            return (batch, places, route, served, scores), time.perf_counter() - started
        except (ModelError, RequestError, Overloaded) as error:
            met: NoriaError = error
        finally:
            served.users -= 1
        if served is not fallback[1]:
            # Refused by the champion too: the client's fault, not the challenger's, and raised as it is.
            instead = await self._one_way(loop, batch, places, *fallback, fallback, started, trace, deadline)
            self._failed(loop, batch, route, served, str(met), started, trace)
            return instead
        if isinstance(met, RequestError):
            raise _placed(met, places)
        if isinstance(met, ModelError):
            self._failed(loop, batch, route, served, str(met), started, trace)
        raise met

    def _recorded(
        self,
        loop: str,
        batch: Batch,
        places: list[int] | None,
        route: Route,
        served: Served,
        scores: Scores,
        started: float,
        trace: str | None,
        hold: bool = False,
        requests: int = 1,
    ) -> Part:
        spent = time.perf_counter() - started
        now, spent_us = self._clock.now(), int(spent * 1e6)
        try:
            first = self.recorder.keep(
                loop, now, batch, route, served, scores, spent_us, trace, hold=hold, requests=requests
            )
        except StoreError as error:
            self.outage.met(error)
            self.metrics.failed(loop, route, batch.rows, spent)
            raise
        self.metrics.answered(loop, route, served.manifest.signature.classes, scores, spent, requests)
        return Part(places, route, served, scores, first)

    def _lost(self, loop: str, route: Route, served: Served, scores: Scores, requests: int = 1) -> None:
        self.metrics.lost(loop, route, served.manifest.signature.classes, scores, requests)

    def _failed(
        self, loop: str, batch: Batch, route: Route, served: Served, why: str, started: float, trace: str | None
    ) -> None:
        spent = time.perf_counter() - started
        self.metrics.failed(loop, route, batch.rows, spent)
        now, spent_us = self._clock.now(), int(spent * 1e6)
        try:
            self.recorder.keep(loop, now, batch, route, served, None, spent_us, trace, error=without_folders(why))
        except StoreError as error:  # it changes nothing for the caller, who may have an answer from another version
            self.outage.met(error)

    # shadow

    def _mirror(self, loop: str, line: _Line, batch: Batch, given: Scores, trace: str | None) -> None:
        """Ask the shadow too, after the answer; what it does changes nothing for the caller."""
        route = line.shadow
        served = self._served.get(route.bundle) if route is not None else None
        if route is None or served is None or not mirrored(line.deployment, route, batch.keys):
            return
        if self._shadows[loop] >= _MAX_SHADOWS:
            self.metrics.dropped(loop, route)
            return
        self._shadows[loop] += 1
        task = asyncio.ensure_future(self._shadowed(loop, batch, route, served, line, given, trace))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _shadowed(
        self, loop: str, batch: Batch, route: Route, served: Served, line: _Line, given: Scores, trace: str | None
    ) -> None:
        await asyncio.sleep(0)  # the answer goes out first
        started = time.perf_counter()
        served.users += 1
        try:
            assert line.main is not None
            found = served.engine.run(laid_out(batch, served, line.main), time.monotonic() + _DEADLINE_SECONDS)
            scores = found if isinstance(found, Scores) else await found
            # A shadow's turns are its own: one stall must not count for all that then stood behind it.
            spent = time.perf_counter() - started if scores.seconds is None else scores.seconds
            now = self._clock.now()
            self.recorder.keep(loop, now, batch, route, served, scores, int(spent * 1e6), trace, answered=given.values)
            self.metrics.answered(loop, route, served.manifest.signature.classes, scores, spent)
            self.metrics.compared(loop, route, given.values, scores.values)
        except (ModelError, RequestError) as error:
            self._failed(loop, batch, route, served, str(error), started, trace)
        except NoriaError as error:
            self.metrics.dropped(loop, route)
            _log.warning("a shadow answer of %s was dropped: %s", loop, error)
        except Exception:  # noqa: BLE001 - a fault in what nobody waits for must be seen, and do no more
            _log.exception("the shadow of %s failed", loop)
        finally:
            served.users -= 1
            self._shadows[loop] -= 1

    # what people say

    async def label(self, labels: list[Label]) -> LabelReceipt:
        """Record labels; durable on return."""
        receipt: LabelReceipt = await self._in_thread(lambda: self._store.predictions.label(labels))
        return receipt

    async def override(self, entries: list[Any], loop: str, signature: Signature, api_key: str) -> list[Override]:
        """Record what people decided instead, as `overrides.record` has it; durable on return."""
        now = self._clock.now()
        made: list[Override] = await self._in_thread(
            lambda: overrides.record(self._store, entries, loop, signature, now, api_key)
        )
        return made

    def now(self) -> datetime:
        """The clock's present."""
        return self._clock.now()


def _unknown(loop: str, version: int, routes: Sequence[Route]) -> Route:
    there = ", ".join(str(route.version) for route in routes)
    raise NotFound(f"Version {version} of '{loop}' is not deployed. Deployed: {there}.")


def laid_out(batch: Batch, served: Served, main: Served) -> Batch:
    """The batch as this version takes it, when its columns differ from those of the version it was made for."""
    if served.layout.names == main.layout.names and served.layout.required == main.layout.required:
        return batch
    columns: dict[str, Any] = {name: batch.matrix[:, place] for place, name in enumerate(main.layout.names)}
    columns |= batch.columns
    known = {name: values for name, values in columns.items() if name in served.layout.fields}
    found = served.layout.from_columns(known, batch.rows)
    found.keys = batch.keys
    return found


def _placed(error: RequestError, places: list[int]) -> RequestError:
    """The error with its records numbered as in the request."""
    details = [{**one, "record": places[int(str(one["record"]))]} for one in error.details]
    return RequestError(str(error), details)


def _together(errors: list[RequestError]) -> RequestError:
    """One error of several parts' errors."""
    details = sorted((d for error in errors for d in error.details), key=lambda d: int(str(d["record"])))
    if not details:
        return errors[0]
    return problem_error(details) if "field" in details[0] else refused_records(details)


def without_folders(text: str) -> str:
    """The text with each file of this machine by its bare name: where it lies is no client's business."""
    return _FOLDERS.sub("", text)
