"""A real PostgreSQL server for tests, on a port of its own; each test gets a database."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PASSWORD = "tests-password"


def programs() -> Path | None:
    """The folder of ``postgres`` and ``initdb``, or None."""
    folders = [Path(found).parent for found in [shutil.which("initdb")] if found]
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((f for f in folders if (f / "initdb").exists() and (f / "postgres").exists()), None)


def why_not() -> str:
    """Why no server can be started here; empty where one can."""
    if programs() is None:
        return "PostgreSQL is not installed"
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        return "PostgreSQL does not run as root, and setpriv is not there to become another user"
    return ""


def _as_other() -> list[str]:
    """What makes a command run as somebody else than root, as PostgreSQL demands."""
    return ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []


class Server:
    """One server."""

    def __init__(self, folder: Path) -> None:
        found = programs()
        assert found is not None
        self.programs, self.folder = found, folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None
        self._count = 0

    def make(self) -> None:
        """Make its data."""
        self.folder.mkdir()
        self.folder.parent.chmod(0o755)
        if os.geteuid() == 0:
            os.chown(self.folder, 65534, 65534)
        (self.folder.parent / "password").write_text(PASSWORD)
        (self.folder.parent / "password").chmod(0o644)
        made = [*_as_other(), str(self.programs / "initdb"), "-D", str(self.folder / "data"), "-U", "noria", "-A",
                "scram-sha-256", f"--pwfile={self.folder.parent / 'password'}", "-E", "UTF8",
                "--locale=C.UTF-8"]  # fmt: skip
        done = subprocess.run(made, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        import psycopg

        command = [*_as_other(), str(self.programs / "postgres"), "-D", str(self.folder / "data"), "-p", str(self.port),
                   "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={self.folder}",
                   "-c", "recovery_init_sync_method=syncfs"]  # fmt: skip
        with (self.folder.parent / "postgres.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        while True:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=5).close()
                return
            except psycopg.OperationalError:
                assert self.process.poll() is None, (self.folder.parent / "postgres.log").read_text()[-2000:]
                time.sleep(0.05)

    def stop(self, number: int = signal.SIGINT) -> None:
        """Stop it (SIGINT: at once, with what is committed safe; SIGQUIT: as in a crash)."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(60)
            self.process = None

    def url(self, database: str, password: str = PASSWORD) -> str:
        """The address of a database."""
        return f"postgresql://noria:{password}@127.0.0.1:{self.port}/{database}"

    def database(self) -> str:
        """The address of a new database."""
        import psycopg

        self._count += 1
        name = f"test_{os.getpid()}_{self._count}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)


@contextmanager
def serving() -> Iterator[Server]:
    """A server that is up, in a folder that its user may reach (pytest's own is closed to others)."""
    with tempfile.TemporaryDirectory(prefix="postgres-", ignore_cleanup_errors=True) as folder:
        server = Server(Path(folder) / "server")
        server.make()
        server.start()
        try:
            yield server
        finally:
            server.stop()
