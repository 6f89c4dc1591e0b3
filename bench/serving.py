"""What a prediction costs over HTTP: `noria serve`, and other servers of the same model, in one run on one machine.

    python -m bench.serving [--seconds 4] [--only WORD] [--wires] [--quiet MINUTES] [--tries 3]
        [--json FILE] [--mlserver PYTHON] [--bentoml PYTHON] [--kserve PYTHON] [--mlflow PYTHON]

The model: HistGradientBoostingClassifier of 100 trees, 30 columns. Closed loop, keep-alive, by wrk if it is there.
Server CPU a request is the figure to compare: it counts all processes of the server and nothing else; "others" is
what the rest of the machine used meanwhile, in cores, and says how far to trust the times. Noria records every
prediction and gives probabilities too; the peers do neither. Compaction, which a server begins after half a minute,
is not in these figures: `bench/explain.py` has it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import resource
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

COLUMNS, ROWS = 30, 1000
_DISTURBED = 0.25
NAMES = [f"c{place}" for place in range(COLUMNS)]
NORIA = str(Path(sys.executable).with_name("noria"))
INFER = "/v2/models/m/infer"
TICK, ENV = os.sysconf("SC_CLK_TCK"), {**os.environ, "OMP_NUM_THREADS": "1"}
LOOP = """
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier

from noria import AtLeast, Loop, Parquet, RandomSplit

loop = Loop(
    name="m", source=Parquet("rows.parquet", label="label"), split=RandomSplit(test=0.3),
    gates=(AtLeast("accuracy", 0.5),),
)


@loop.train
def train(x_train: pd.DataFrame, y_train: pd.Series) -> HistGradientBoostingClassifier:
    return HistGradientBoostingClassifier(max_iter=100, random_state={seed}, l2_regularization={seed}).fit(
        x_train, y_train
    )


@loop.evaluate
def evaluate(model: HistGradientBoostingClassifier, x_test: pd.DataFrame, y_test: pd.Series) -> dict[str, float]:
    return {{"accuracy": float((model.predict(x_test) == y_test).mean())}}
"""


# the model and what it is asked


def table() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    from sklearn.datasets import load_breast_cancer

    found = load_breast_cancer()
    return np.asarray(found.data, dtype=np.float64), np.asarray(found.target, dtype=np.int64)


def like_real(count: int, seed: int = 0) -> NDArray[np.float64]:
    """Rows like the table's, no two alike: with noise, and four significant digits as the table has."""
    data, _ = table()
    draw = np.random.default_rng(seed)
    rows = data[draw.integers(0, len(data), count)] * draw.normal(1, 0.05, (count, COLUMNS))
    scale = 10.0 ** (np.floor(np.log10(np.maximum(np.abs(rows), 1e-12))) - 3)
    found: NDArray[np.float64] = np.abs(np.round(rows / scale) * scale).round(12)
    return found


def make_store(folder: Path, versions: int = 1) -> Path:
    """A store whose loop ``m`` has so many versions, the last of them deployed."""
    import polars as pl

    folder.mkdir(parents=True, exist_ok=True)
    data, label = table()
    pl.DataFrame(data, schema=NAMES).with_columns(label=pl.Series(label)).write_parquet(folder / "rows.parquet")
    for seed in range(versions):
        (folder / "loop.py").write_text(LOOP.format(seed=seed))
        done = subprocess.run([NORIA, "turn", "loop.py"], cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stdout + done.stderr)
    return folder / ".noria"


def body_of(kind: str, rows: NDArray[np.float64]) -> tuple[bytes, dict[str, str]]:
    """A request's body and headers: ``v2``, ``binary`` (V2 tensors), ``inputs`` (MLflow's) or ``x`` (BentoML's)."""
    tensor: dict[str, Any] = {"name": "x", "shape": list(rows.shape), "datatype": "FP64"}
    if kind == "binary":
        raw = struct.pack(f"<{rows.size}d", *rows.ravel().tolist())
        head = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": len(raw)}}]}).encode()
        length = {"Inference-Header-Content-Length": str(len(head))}
        return head + raw, {"Content-Type": "application/octet-stream", **length}
    found = {"inputs": [{**tensor, "data": rows.ravel().tolist()}]} if kind == "v2" else {kind: rows.tolist()}
    return json.dumps(found, separators=(",", ":")).encode(), {"Content-Type": "application/json"}


# servers


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def tree(pid: int) -> list[int]:
    """A process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                parent = int((path / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(path.name))
    found, left = [], [pid]
    while left:
        one = left.pop()
        found.append(one)
        left += children.get(one, [])
    return found


def cpu_seconds(pids: Sequence[int]) -> float:
    """What these have used, with the children of theirs that have ended."""
    total = 0
    for pid in pids:
        try:
            parts = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        total += sum(map(int, parts[11:15]))
    return total / TICK


def pss_mib(pids: Sequence[int]) -> float:
    """Proportional memory: what is shared is divided among those who share it."""
    total = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total / 1024


def machine_seconds() -> float:
    parts = list(map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9]))
    return (sum(parts) - parts[3] - parts[4]) / TICK


def ask(url: str, body: bytes, headers: Mapping[str, str], seconds: float = 60) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, body, dict(headers)), timeout=seconds) as reply:
        found: bytes = reply.read()
    return found


class Server:
    """A server's processes, from the start to the end of a ``with``.

    Attributes:
        start_s: seconds from the command to the first prediction, with all imports and the model's loading.
    """

    def __init__(
        self, command: Sequence[str], url: str, first: tuple[bytes, Mapping[str, str]], cwd: Path, patience: float = 90
    ) -> None:
        self.url = url
        self._command = list(command)
        self._first = first
        self._cwd = cwd
        self._patience = patience
        self.log = cwd / "server.log"
        self.start_s = self.start_cpu_s = 0.0

    def __enter__(self) -> Server:
        began = time.perf_counter()
        with self.log.open("ab") as log:
            beside = {"PATH": f"{Path(self._command[0]).parent}:{os.environ['PATH']}"}  # what it starts itself
            self._process = subprocess.Popen(
                self._command, cwd=self._cwd, env={**ENV, **beside}, stdout=log, stderr=log, start_new_session=True
            )
        try:
            while True:
                try:
                    ask(self.url, *self._first)
                    break
                except OSError as error:
                    over = time.perf_counter() - began > self._patience
                    if over or self._process.poll() is not None:
                        tail = self.log.read_text(errors="replace")[-1500:]
                        raise RuntimeError(f"{self._command[0]} does not answer: {error}\n{tail}") from None
                    time.sleep(0.01)
        except BaseException:
            self.__exit__()
            raise
        self.start_s = time.perf_counter() - began
        self.start_cpu_s = cpu_seconds(self.pids)
        return self

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def pids(self) -> list[int]:
        return tree(self._process.pid)

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def wait(self, seconds: float) -> int | None:
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        """All of it at once, as ``kill -9`` does: stopped first, so that nobody sees another one go."""
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in self.pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
        self._process.wait()

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            if self.wait(15) is None:
                self.kill()


def noria(place: Path, *options: str, port: int | None = None, patience: float = 90) -> Server:
    """`noria serve m` on a store of `make_store`."""
    port = port or free_port()
    command = [NORIA, "serve", "m", "--port", str(port), *options]
    return Server(command, f"http://127.0.0.1:{port}{INFER}", body_of("v2", like_real(1)), place, patience=patience)


# load


@dataclass
class Load:
    """What a load met; times in milliseconds."""

    requests: int
    seconds: float
    p50: float
    p99: float
    errors: int


_SCRIPT = """
local file = io.open("{body}", "rb"); wrk.body = file:read("*a"); file:close(); wrk.method = "POST"
{headers}
done = function(all, latency, _)
  io.write(string.format("\\nFOUND %d %d %d %d %d\\n", all.requests, all.duration, latency:percentile(50),
    latency:percentile(99), all.errors.status + all.errors.connect + all.errors.read + all.errors.write
    + all.errors.timeout))
end
"""


def by_wrk(url: str, body: bytes, headers: Mapping[str, str], clients: int, seconds: int) -> Load:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "body").write_bytes(body)
        lines = "\n".join(f'wrk.headers["{key}"] = "{value}"' for key, value in headers.items())
        (folder / "script.lua").write_text(_SCRIPT.format(body=folder / "body", headers=lines))
        options = ["-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "20s", "-s", str(folder / "script.lua")]
        done = subprocess.run(["wrk", *options, url], capture_output=True, text=True, timeout=seconds + 60, check=True)
    count, spent, p50, p99, errors = map(int, done.stdout.split("FOUND", 1)[1].split()[:5])
    return Load(count, spent / 1e6, p50 / 1e3, p99 / 1e3, errors)


def by_python(url: str, body: bytes, headers: Mapping[str, str], clients: int, seconds: int) -> Load:
    host, _, path = url.removeprefix("http://").partition("/")
    name, _, port = host.partition(":")
    lines = "".join(f"{key}: {value}\r\n" for key, value in headers.items())
    head = f"POST /{path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n{lines}\r\n"
    request, times, errors, began = head.encode() + body, list[float](), 0, time.perf_counter()

    async def client() -> None:
        nonlocal errors
        while time.perf_counter() - began < seconds:
            try:
                reader, writer = await asyncio.open_connection(name, int(port), limit=2**24)
                closing = False
                while not closing and time.perf_counter() - began < seconds:
                    sent = time.perf_counter()
                    writer.write(request)
                    found = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)).lower()
                    await reader.readexactly(int(found.split(b"content-length:")[1].split(b"\r\n")[0]))
                    times.append(time.perf_counter() - sent)
                    errors += found.split(b" ", 2)[1] != b"200"
                    closing = b"connection: close" in found
                writer.close()
            except (OSError, EOFError, TimeoutError):
                errors += 1

    async def all_clients() -> None:
        await asyncio.gather(*(client() for _ in range(clients)))

    asyncio.run(all_clients())
    times.sort()
    p50, p99 = (1e3 * times[int(share * len(times))] if times else 0.0 for share in (0.5, 0.99))
    return Load(len(times), time.perf_counter() - began, p50, p99, errors)


@dataclass
class Case:
    """What is asked of a server: so many rows a request, by so many clients."""

    kind: str
    rows: int
    clients: int


@dataclass
class Cell:
    """One case's figures."""

    server: str
    case: str
    clients: int
    cpu_us: float
    rps: float
    p50_ms: float
    p99_ms: float
    errors: int
    cores: float
    others: float


@dataclass
class Subject:
    """A server to measure, and what it is asked."""

    name: str
    make: Callable[[], Server]
    cases: list[Case]


@dataclass
class Found:
    """Everything measured."""

    cells: list[Cell] = field(default_factory=list)
    servers: list[dict[str, Any]] = field(default_factory=list)
    alone: dict[str, float] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)

    @property
    def disturbed(self) -> float:
        """Cores that others used, on average."""
        return statistics.fmean(one.others for one in self.cells)


def measure(name: str, server: Server, case: Case, seconds: int) -> Cell:
    body, headers = body_of(case.kind, like_real(case.rows))
    for _ in range(3):
        ask(server.url, body, headers)
    load = by_wrk if shutil.which("wrk") else by_python
    cpu, machine, own = cpu_seconds(server.pids), machine_seconds(), _own_seconds()
    met = load(server.url, body, headers, case.clients, seconds)
    used, all_used, own_used = cpu_seconds(server.pids) - cpu, machine_seconds() - machine, _own_seconds() - own
    words = {"v2": "JSON", "binary": "binary", "inputs": "JSON", "x": "JSON"}[case.kind]
    return Cell(
        name, f"{case.rows} row{'s' * (case.rows > 1)} {words}", case.clients, 1e6 * used / max(1, met.requests),
        met.requests / met.seconds, met.p50, met.p99, met.errors, used / met.seconds,
        max(0.0, all_used - used - own_used) / met.seconds,
    )  # fmt: skip


def _own_seconds() -> float:
    """CPU of this process and of those it started that have ended: the load's own."""
    return sum(
        one.ru_utime + one.ru_stime for one in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def wait_for_quiet(minutes: float) -> None:
    """Return when others have used less than a seventh of a core for three seconds, or the time is over."""
    end = time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        before = machine_seconds()
        time.sleep(3)
        if machine_seconds() - before < 3 / 7:
            return


def best_of(subject: Subject, given: argparse.Namespace) -> Found:
    """A subject's figures; taken again while others were busy, and then the quietest."""
    tries: list[Found] = []
    for _ in range(given.tries):
        wait_for_quiet(given.quiet)
        found = Found()
        try:
            with subject.make() as server:
                pids = server.pids
                facts = {"start_s": server.start_s, "start_cpu_s": server.start_cpu_s, "processes": len(pids)}
                idle = pss_mib(pids)
                for case in subject.cases:
                    found.cells.append(measure(subject.name, server, case, given.seconds))
                    print(found.cells[-1], file=sys.stderr, flush=True)
                loaded = pss_mib(server.pids)
                found.servers.append({"server": subject.name, **facts, "pss_idle": idle, "pss_loaded": loaded})
        except (RuntimeError, OSError) as error:
            return Found(skipped=[f"{subject.name}: {error}"])
        tries.append(found)
        if found.disturbed < _DISTURBED:
            break
    return min(tries, key=lambda one: one.disturbed)


# what there is to measure


ROW = [Case("v2", 1, clients) for clients in (1, 16, 64)]
MANY = [Case(kind, ROWS, clients) for kind in ("v2", "binary") for clients in (1, 4)]


def of_noria(place: Path) -> list[Subject]:
    def serve(*options: str) -> Callable[[], Server]:
        return lambda: noria(place, *options)

    return [
        Subject("noria", serve(), ROW),
        Subject("noria, 1000 rows", serve(), MANY),  # a server of its own: none lives until compaction begins
        Subject("noria --workers 2", serve("--workers", "2"), ROW[1:]),
        Subject("noria --record disk", serve("--record", "disk"), ROW),
        Subject("noria --record off", serve("--record", "off"), ROW[1:2]),
        Subject("noria --original", serve("--original"), [*ROW, MANY[0]]),
    ]


def of_wires(folder: Path) -> list[Subject]:
    """A constant answer through the protocol of `noria serve`, and through uvicorn as bare ASGI."""

    def serve(wire: str) -> Callable[[], Server]:
        def made() -> Server:
            port = free_port()
            command = [sys.executable, str(Path(__file__).resolve()), "--answer", wire, "--port", str(port)]
            return Server(command, f"http://127.0.0.1:{port}{INFER}", body_of("v2", like_real(1)), folder)

        return made

    return [Subject(f"a constant, {wire}", serve(wire), ROW) for wire in ("noria's protocol", "uvicorn")]


def answer(wire: str, port: int) -> None:
    """Serve a constant on a wire until told to stop."""
    import uvicorn
    import uvloop

    from noria.serve.protocol import Front
    from noria.serve.wire import Reply

    said = b'{"model_name":"m","outputs":[{"name":"prediction","shape":[1],"datatype":"INT64","data":[1]}]}'

    async def application(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(said)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": said})

    async def protocol() -> None:
        front = Front(lambda request: Reply(200, said))
        await asyncio.get_running_loop().create_server(front.protocol, "127.0.0.1", port, backlog=2048)
        front.start()
        await asyncio.Event().wait()

    if wire == "uvicorn":
        uvicorn.run(
            application, port=port, loop="uvloop", http="httptools", lifespan="off", access_log=False,
            log_level="warning", server_header=False,
        )  # fmt: skip
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(protocol())


def model_alone(store: Path) -> dict[str, float]:
    """Milliseconds of the compiled model, of ONNX Runtime alone and of the model itself: here, on one thread."""
    import msgspec
    from sklearn.ensemble import HistGradientBoostingClassifier

    from noria.flavors.compile.opening import OpenGraph
    from noria.records import BundleManifest, ModelVersion
    from noria.store import open_store

    opened = open_store(store, create=False)
    try:
        with opened.ledger.read() as db:
            version = db.find(ModelVersion, loop="m")
        assert version is not None
        manifest = msgspec.json.decode(opened.blobs.get(version.bundle), type=BundleManifest)
        assert manifest.compiled is not None
        assert manifest.compiled.graph is not None, manifest.compiled.reason
        assert manifest.compiled.trees is not None
        graph = opened.blobs.get(manifest.compiled.graph)
        compiled, plain = OpenGraph(graph, opened.blobs.get(manifest.compiled.trees)), OpenGraph(graph)
    finally:
        opened.close()
    data, label = table()
    model = HistGradientBoostingClassifier(max_iter=100, random_state=0).fit(data[:388], label[:388])
    one, many = like_real(1), like_real(ROWS)

    def median(work: Callable[[], object], times: int) -> float:
        spent = []
        for _ in range(times):
            began = time.perf_counter()
            work()
            spent.append(time.perf_counter() - began)
        return 1e3 * statistics.median(spent)

    return {
        "1 row, compiled": median(lambda: compiled.run({"x": one}), 2000),
        "1 row, original": median(lambda: model.predict_proba(one), 200),
        f"{ROWS} rows, compiled": median(lambda: compiled.run({"x": many}), 200),
        f"{ROWS} rows, compiled, ONNX Runtime alone": median(lambda: plain.run({"x": many}), 200),
        f"{ROWS} rows, original": median(lambda: model.predict_proba(many), 100),
    }


def show(found: Found) -> None:
    head = f"{'server':<29}{'asked':<19}{'clients':>8}{'CPU us/req':>12}{'req/s':>9}{'p50 ms':>9}{'p99 ms':>9}"
    print(f"{head}{'errors':>8}{'cores':>7}{'others':>8}")
    for one in found.cells:
        print(
            f"{one.server:<29}{one.case:<19}{one.clients:>8}{one.cpu_us:>12.1f}{one.rps:>9.0f}{one.p50_ms:>9.2f}"
            f"{one.p99_ms:>9.2f}{one.errors:>8}{one.cores:>7.2f}{one.others:>8.2f}"
        )
    print(f"\n{'server':<29}{'first prediction s':>19}{'CPU s':>8}{'PSS MiB idle':>14}{'loaded':>8}{'processes':>11}")
    for row in found.servers:
        print(
            f"{row['server']:<29}{row['start_s']:>19.2f}{row['start_cpu_s']:>8.2f}{row['pss_idle']:>14.0f}"
            f"{row['pss_loaded']:>8.0f}{row['processes']:>11}"
        )
    for what, spent in found.alone.items():
        print(f"the model alone, {what:<42}{spent:9.3f} ms")
    for line in found.skipped:
        print(line)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--only", default="", help="servers whose name has this in it")
    parser.add_argument("--wires", action="store_true", help="also a constant through the protocol and through uvicorn")
    parser.add_argument("--quiet", type=float, default=0, help="minutes to wait at most, before each server")
    parser.add_argument("--tries", type=int, default=3, help="a server is measured again while others are busy")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--answer", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    for peer in ("mlserver", "bentoml", "kserve", "mlflow"):
        parser.add_argument(f"--{peer}", type=Path, metavar="PYTHON", help="of a virtual environment that has it")
    given = parser.parse_args()
    if given.answer:
        answer(given.answer, given.port)
        return 0
    found = Found()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = make_store(folder / "noria")
        subjects = of_noria(folder / "noria") + (of_wires(folder) if given.wires else [])
        from bench.serving_peers import of_peers

        made, found.skipped = of_peers(vars(given), folder)
        for subject in subjects + made:
            if given.only in subject.name:
                taken = best_of(subject, given)
                found.cells += taken.cells
                found.servers += taken.servers
                found.skipped += taken.skipped
        wait_for_quiet(given.quiet)
        found.alone = model_alone(store)
    show(found)
    if given.json:
        given.json.write_text(json.dumps(asdict(found), indent=1))
    return 1 if any(cell.errors for cell in found.cells if cell.server.startswith("noria")) else 0


if __name__ == "__main__":
    sys.exit(main())
