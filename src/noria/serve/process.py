"""One model version in a process of its own: started, asked, restarted when it dies, stopped when drained.

Messages on the pipes are a 4-byte big-endian length, an 8-byte request number and a MessagePack body. The first
message from the child says that it is ready, or why it cannot be. A process that crashes, hangs or grows without
end is replaced; other models do not notice.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import struct
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from noria.errors import ModelError

HEADER = struct.Struct(">IQ")
_START_SECONDS = 120.0
_RESTART_SECONDS = 20.0
_STEADY_SECONDS = 5.0
_LOOK_SECONDS = 2.0
_CRASHES, _CRASHES_SECONDS = 5, 60.0
_LAST_SECONDS = 3.0
_SIGNALS = {one.value: one.name for one in signal.Signals}
_PAGE = os.sysconf("SC_PAGE_SIZE")
_log = logging.getLogger("noria.serve")

# What a model process may see of the environment: nothing that could be a credential.
_PASSED_ON = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TZ",
    "VIRTUAL_ENV",
    "PYTHONPATH",
    "LD_LIBRARY_PATH",
)


class WorkerProcess:
    """A model version's process.

    Args:
        command: the command line that starts it.
        name: for logs and messages, e.g. ``churn/3``.
        timeout_s: how long one request may take before the process is restarted.
        max_memory: bytes of memory the process may hold; above that it is restarted between two requests, and at
            half as much again it is killed. None: four times what it held when it was ready, at least 2 GiB more.
        crashing: called when it has died five times within a minute.
    """

    def __init__(
        self,
        command: Sequence[str],
        name: str,
        timeout_s: float = 60.0,
        max_memory: int | None = None,
        crashing: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.name = name
        self._command = tuple(command)
        self._timeout_s = timeout_s
        self._process: asyncio.subprocess.Process | None = None
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._next = 1
        self._stop = asyncio.Event()
        self._ready: asyncio.Future[None] | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._failure = ""
        self._up = asyncio.Event()  # set while the process runs and has its model
        self._fell = 0.0  # when it was up last
        self._falls = 0  # restarts in a row, each soon after the one before
        self._crashes: list[float] = []
        self._crashing = crashing
        self._max_memory = max_memory
        self._full = False  # it holds too much: it ends once it has answered
        self.restarts = 0

    async def start(self) -> None:
        """Start the process; returns when it is ready to answer.

        Raises:
            ModelError: it could not load its model; says why.
        """
        self._ready = asyncio.get_running_loop().create_future()
        self._supervisor = asyncio.create_task(self._supervise())
        try:
            await asyncio.wait_for(asyncio.shield(self._ready), _START_SECONDS)
        except TimeoutError:
            self._ready.cancel()
            await self.stop()
            raise ModelError(f"Model {self.name} was not ready after {_START_SECONDS:.0f} s.") from None

    async def ask(self, body: bytes) -> bytes:
        """Send one request and wait for its answer.

        Raises:
            ModelError: the process died or took too long.
        """
        process = await self._running()
        number = self._next
        self._next += 1
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        pipe = process.stdin
        try:
            if pipe is None:
                raise BrokenPipeError
            async with asyncio.timeout(self._timeout_s):  # one that hangs does not read either
                pipe.write(HEADER.pack(len(body), number) + body)
                await pipe.drain()
                return await answer
        except TimeoutError:
            _end(process)
            raise ModelError(f"Model {self.name} gave no answer in {self._timeout_s:g} s; it is restarted.") from None
        except (BrokenPipeError, ConnectionResetError, RuntimeError):  # a closed pipe, by whichever loop
            raise ModelError(f"Model {self.name} stopped while answering; it is restarted.") from None
        finally:
            self._waiting.pop(number, None)

    async def _running(self) -> asyncio.subprocess.Process:
        """The process, which may be restarting: worth a moment's wait."""
        with suppress(TimeoutError):
            if not self._stop.is_set():
                await asyncio.wait_for(self._up.wait(), min(self._timeout_s, _RESTART_SECONDS))
        process = self._process
        if process is None or not self._up.is_set() or process.returncode is not None:
            why = f" ({self._failure})" if self._failure else ""
            raise ModelError(f"Model {self.name} is restarting{why}.")
        return process

    def _fall(self) -> None:
        if self._up.is_set():
            self._up.clear()
            self._fell = time.monotonic()

    @property
    def down(self) -> bool:
        """Whether it has been restarting for longer than a request waits for it."""
        return not self._up.is_set() and time.monotonic() - self._fell > _RESTART_SECONDS

    @property
    def idle(self) -> bool:
        """Whether no request is in flight."""
        return not self._waiting

    async def stop(self) -> None:
        """Let requests in flight finish, then end the process. Idempotent."""
        self._stop.set()
        deadline = time.monotonic() + 30
        while self._waiting and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        process = self._process
        if process is not None and process.returncode is None:
            if process.stdin is not None:
                process.stdin.close()
            try:
                await asyncio.wait_for(process.wait(), _LAST_SECONDS)
            except TimeoutError:
                _end(process)
                await process.wait()
        if self._supervisor is not None:
            await self._supervisor
            self._supervisor = None

    async def _supervise(self) -> None:
        while not self._stop.is_set():
            started, begun = time.monotonic(), True
            try:
                died = await self._run_once()
            except OSError as error:  # a full disk, say: not the version's fault
                died, begun = f"its process cannot be started: {error.strerror}", False
            self._fall()
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(ModelError(f"Model {self.name} stopped while answering; it is restarted."))
            if self._ready is not None and not self._ready.done():  # never came up: not worth another try
                self._ready.set_exception(ModelError(self._failure or f"Model {self.name}: {died}."))
                return
            if self._stop.is_set():
                return
            self.restarts += 1
            if self._full:
                died, self._full = "it held too much memory", False
            elif begun:
                self._count_crash(died)
            steady = time.monotonic() - started > _STEADY_SECONDS
            self._falls = 0 if steady else self._falls + 1
            _log.warning("model %s: %s; restarting", self.name, died)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), 0.05 if steady else min(5.0, 0.1 * 2**self._falls))

    def _count_crash(self, died: str) -> None:
        now = time.monotonic()
        self._crashes = [crash for crash in self._crashes if now - crash < _CRASHES_SECONDS] + [now]
        if len(self._crashes) >= _CRASHES:
            self._crashes.clear()
            self._crashing(f"{died}, {_CRASHES} times within {_CRASHES_SECONDS:.0f} s")

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        """Replace a process that never comes up, or grows without end: between two requests if that can wait."""
        try:
            await asyncio.wait_for(self._up.wait(), _START_SECONDS)
        except TimeoutError:
            _end(process)
            return
        held = _memory(process.pid)
        limit = self._max_memory or max(4 * held, held + 2 * 2**30)
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            held = _memory(process.pid)
            if held > limit and (not self._waiting or held > 1.5 * limit):
                _log.warning("model %s holds %d MiB; replacing its process", self.name, held // 2**20)
                self._full = True
                self._fall()
                _end(process)
                return

    async def _run_once(self) -> str:
        """Start the process and hear it out; returns how it ended. Its temporary files go with it."""
        with tempfile.TemporaryDirectory(prefix="noria-model-", ignore_cleanup_errors=True) as temporary:
            return await self._run(temporary)

    async def _run(self, temporary: str) -> str:
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=environment() | {"TMPDIR": temporary},
            start_new_session=True,  # a Ctrl-C at the terminal is for the server, which drains first
        )
        self._process = process
        if self._stop.is_set():
            _end(process)
        assert process.stdout is not None
        heard = asyncio.ensure_future(self._listen(process.stdout))
        ended = asyncio.ensure_future(process.wait())
        watch = asyncio.ensure_future(self._watch(process))
        try:
            # Either alone will do: what the model has started may hold the pipe open for ever, and a process that has
            # closed it can answer no more.
            await asyncio.wait((heard, ended), return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait((ended,), timeout=_LAST_SECONDS)
            _end(process)
            await asyncio.wait((heard,), timeout=_LAST_SECONDS)
            return _died(await ended)
        finally:
            for task in (heard, ended, watch):
                task.cancel()

    async def _listen(self, answers: asyncio.StreamReader) -> None:
        first = True
        while True:
            try:
                size, number = HEADER.unpack(await answers.readexactly(HEADER.size))
                body = await answers.readexactly(size)
            except (asyncio.IncompleteReadError, ConnectionResetError):
                return
            if first:
                first = False
                self._failure = msgspec.msgpack.decode(body).get("error", "")
                if not self._failure:
                    self._up.set()
                    if self._ready is not None and not self._ready.done():
                        self._ready.set_result(None)
                continue
            answer = self._waiting.get(number)
            if answer is not None and not answer.done():
                answer.set_result(body)


def _end(process: asyncio.subprocess.Process) -> None:
    """End a process and what it has started, which is one group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def environment() -> dict[str, str]:
    """What a process may see of ours: one thread for each library, and nothing that could be a credential."""
    passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return passed | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}


def _memory(pid: int) -> int:
    """Bytes a process holds; 0 where the system does not say."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return 0


def _died(code: int) -> str:
    if code < 0:
        return f"its process was ended by {_SIGNALS.get(-code, f'signal {-code}')}"
    return f"its process ended with status {code}"
