"""An address, and a server on it: in this thread, or in one of its own."""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from noria.errors import Conflict, NoriaError
from noria.serve.http import Application
from noria.serve.plane import Plane

__all__ = ["ServerThread", "listen", "run"]


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        Conflict: the port is taken, or may not be used.
    """
    found = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
    except OSError as error:
        found.close()
        if error.errno == errno.EADDRINUSE:
            raise Conflict(f"Port {port} on {host} is in use; choose another with --port.") from None
        raise Conflict(f"Cannot listen on {host} port {port}: {error.strerror}.") from None
    except OverflowError:
        found.close()
        raise Conflict(f"There is no port {port}; choose one up to 65535.") from None
    found.listen(2048)
    found.set_inheritable(False)
    return found


class _Server(uvicorn.Server):
    """uvicorn's server, which leaves signals to us: it would raise them again before the plane stopped."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _server(app: Application) -> uvicorn.Server:
    return _Server(
        uvicorn.Config(
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
    )


def _runner() -> asyncio.Runner:
    try:
        import uvloop
    except ImportError:  # not made for every system; the standard loop is slower and otherwise the same
        return asyncio.Runner()
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


async def _serve(
    server: uvicorn.Server, plane: Plane | None, listening: socket.socket, ready: Callable[[], None]
) -> None:
    try:
        if plane is not None:
            await plane.start()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, _end, server)
        ready()
        await server.serve(sockets=[listening])
    finally:
        if plane is not None:
            await plane.stop()


def _end(server: uvicorn.Server) -> None:
    """First signal: finish what is in flight. Second: end at once."""
    server.force_exit = server.should_exit
    server.should_exit = True


def run(app: Application, plane: Plane | None, listening: socket.socket, ready: Callable[[], None]) -> None:
    """Serve until SIGINT or SIGTERM; requests in flight are finished first.

    Args:
        app: the application.
        plane: started before the first request, stopped after the last; None if no models are served.
        listening: the socket.
        ready: called once the models are up, just before the first request is taken.
    """
    with _runner() as runner:
        runner.run(_serve(_server(app), plane, listening, ready))


class ServerThread:
    """A server in a thread of its own.

    Example:
        ``with ServerThread(app, plane) as server: urlopen(server.address + "/v2")``
    """

    def __init__(self, app: Application, plane: Plane, host: str = "127.0.0.1", port: int = 0) -> None:
        self._server = _server(app)
        self._plane = plane
        self._socket = listen(host, port)
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="server", daemon=True)
        name = f"[{host}]" if ":" in host else host
        self.port: int = self._socket.getsockname()[1]
        self.address = f"http://{name}:{self.port}"

    def _run(self) -> None:
        try:
            with _runner() as runner:
                self._loop = runner.get_loop()
                runner.run(_serve(self._server, self._plane, self._socket, self._ready.set))
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            self._failure = error
        finally:
            self._ready.set()

    def settle(self) -> None:
        """Return when the deployment now in force is up, for whoever drives a clock by hand."""
        loop = self._loop
        if loop is not None:
            asyncio.run_coroutine_threadsafe(self._plane.refresh(), loop).result(120)

    def __enter__(self) -> ServerThread:
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self._thread.join()
            self._socket.close()
            raise self._failure if isinstance(self._failure, NoriaError) else RuntimeError(str(self._failure))
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()
