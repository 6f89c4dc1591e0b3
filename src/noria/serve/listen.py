"""A server on an address: in this thread, or in one of its own."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from noria.errors import NoriaError
from noria.serve.address import listen
from noria.serve.asgi import Application
from noria.serve.http import DataPlane
from noria.serve.protocol import Front, Limits

__all__ = ["ServerThread", "run"]

_DRAIN_SECONDS = 30.0
Beside = tuple[Callable[[], Awaitable[None]], Callable[[], Awaitable[None]]]
_QUIET_SECONDS = 0.5
_HOLD_SECONDS = 0.15


class _Server(uvicorn.Server):
    """uvicorn, stopped by `_end` or by its thread."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _config(app: Application) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="none",
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=30,
        timeout_keep_alive=75,
    )


def _runner() -> asyncio.Runner:
    try:
        import uvloop
    except ImportError:  # not made for every system; the standard loop is slower and otherwise the same
        return asyncio.Runner()
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


class _Pages:
    """The pages' protocol, uvicorn's, for the connections the data plane hands on."""

    def __init__(self, app: Application) -> None:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
        from uvicorn.server import ServerState

        self._config = _config(app)
        self._config.load()
        self._state = ServerState()
        self._state.default_headers = self._config.encoded_headers
        self._kind: Any = HttpToolsProtocol

    def protocol(self) -> asyncio.Protocol:
        made: asyncio.Protocol = self._kind(config=self._config, server_state=self._state, app_state={})
        return made

    async def stop(self) -> None:
        for connection in list(self._state.connections):
            connection.shutdown()
        end = time.monotonic() + _DRAIN_SECONDS
        while (self._state.connections or self._state.tasks) and time.monotonic() < end:
            await asyncio.sleep(0.02)


class _Stop:
    """Told once to finish what is in flight, twice to end at once."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.hurry = False

    def told(self) -> None:
        self.hurry = self._event.is_set()
        self._event.set()

    async def wait(self) -> None:
        await self._event.wait()


async def _serve(
    data: DataPlane,
    app: Application | None,
    listening: socket.socket,
    ready: Callable[[_Stop], None],
    grace: float,
    limits: Limits | None,
    beside: Beside | None = None,
) -> None:
    pages = _Pages(app) if app is not None else None
    given: dict[str, Any] = {} if pages is None else {"fallback": pages.protocol, "mine": data.mine}
    data.grouping = True
    front = Front(data.handle, limits=limits, settle=data.settle, **given)
    stop = _Stop()
    try:
        await data.plane.start()
        if beside is not None:
            await beside[0]()
        server = await asyncio.get_running_loop().create_server(front.protocol, sock=listening, backlog=2048)
        front.listening = listening
        front.start()
        ready(stop)
        await stop.wait()
        await _drain(data, front, server, stop, grace, shared=data.plane.control is not None)
        if beside is not None:
            await beside[1]()
        if pages is not None and not stop.hurry:
            await pages.stop()
    finally:
        await data.plane.stop()  # whoever still waits for a model is told
        front.stop()


async def _drain(
    data: DataPlane, front: Front, server: asyncio.AbstractServer, stop: _Stop, grace: float, shared: bool = False
) -> None:
    """Stop so that no request is lost.

    First say "not ready" and end each connection with its next answer, while new ones are still taken. Then take no
    more: a connection that the system has accepted and this process has not would be lost, so answers are held back for
    a moment, in which callers that wait for one do not connect again, and those that were about to are let in. Then
    wait until every connection has been quiet for a while, since a request may be on its way.
    """
    data.draining = front.draining = True
    end = time.monotonic() + grace
    while time.monotonic() < end and not stop.hurry:
        await asyncio.sleep(0.02)
    if grace and not stop.hurry:
        front.hold(True)
        await asyncio.sleep(_HOLD_SECONDS)
    front.listening = None
    server.close()
    if front.holding and shared:  # until the other processes on this port take none either
        await asyncio.sleep(_HOLD_SECONDS)
    front.hold(False)
    end = time.monotonic() + _DRAIN_SECONDS
    while front.connections and time.monotonic() < end and not stop.hurry:
        now = time.monotonic()
        for connection in tuple(front.connections):
            if not connection.busy() and (now - connection.quiet_since > _QUIET_SECONDS or grace == 0):
                connection.close()
        await asyncio.sleep(0.02)


def run(
    app: Application | None,
    data: DataPlane | None,
    listening: socket.socket,
    ready: Callable[[], None],
    *,
    grace: float = 1.0,
    limits: Limits | None = None,
    beside: Beside | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM; requests in flight are finished first.

    Args:
        app: the pages; None without any.
        data: the models; its plane is started before the first request and stopped after the last. None if no
            models are served.
        listening: the socket.
        ready: called once the models are up, just before the first request is taken.
        grace: seconds after the signal in which new connections are still taken, so that callers can be told to
            go elsewhere.
        limits: what a client may ask for.
        beside: started after the models and stopped before them, such as another wire.
    """

    def begin(stop: _Stop) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, stop.told)
        gc.collect()
        gc.freeze()  # what is there now stays: nothing is gained by looking through it again and again
        ready()

    with _runner() as runner:
        if data is not None:
            runner.run(_serve(data, app, listening, begin, grace, limits, beside))
        elif app is not None:
            runner.run(_serve_pages(app, listening, ready))


async def _serve_pages(app: Application, listening: socket.socket, ready: Callable[[], None]) -> None:
    server = _Server(_config(app))
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, _end, server)
    ready()
    await server.serve(sockets=[listening])


def _end(server: uvicorn.Server) -> None:
    """First signal: finish what is in flight. Second: end at once."""
    server.force_exit = server.should_exit
    server.should_exit = True


class ServerThread:
    """A server in a thread of its own.

    Example:
        ``with ServerThread(DataPlane(plane)) as server: urlopen(server.address + "/v2")``
    """

    def __init__(
        self,
        data: DataPlane,
        app: Application | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        limits: Limits | None = None,
    ) -> None:
        self._data = data
        self._app = app
        self._limits = limits
        self._socket = listen(host, port)
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: _Stop | None = None
        self._thread = threading.Thread(target=self._run, name="server", daemon=True)
        name = f"[{host}]" if ":" in host else host
        self.port: int = self._socket.getsockname()[1]
        self.address = f"http://{name}:{self.port}"

    def _run(self) -> None:
        try:
            with _runner() as runner:
                self._loop = runner.get_loop()
                runner.run(_serve(self._data, self._app, self._socket, self._up, 0.0, self._limits))
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            self._failure = error
        finally:
            self._ready.set()

    def _up(self, stop: _Stop) -> None:
        self._stop = stop
        self._ready.set()

    def settle(self) -> None:
        """Return when the deployment now in force is up, for whoever drives a clock by hand."""
        loop = self._loop
        if loop is not None:
            asyncio.run_coroutine_threadsafe(self._data.plane.refresh(), loop).result(120)

    def __enter__(self) -> ServerThread:
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self._thread.join()
            self._socket.close()
            raise self._failure if isinstance(self._failure, NoriaError) else RuntimeError(str(self._failure))
        return self

    def __exit__(self, *_: object) -> None:
        if self._loop is not None and self._stop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop.told)
        self._thread.join()
        self._socket.close()
