"""A real S3 server for tests: SeaweedFS, started on ports of its own."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

KEY, SECRET = "tests", "tests-secret"
REGION = "us-east-1"


def executable() -> str | None:
    """SeaweedFS beside this Python, or on the path."""
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.exists() else shutil.which("weed")


def _ports(count: int) -> list[int]:
    """Free ports whose port + 10000 is free too: each service also takes that one."""
    found: list[int] = []
    while len(found) < count:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            try:
                other.bind(("127.0.0.1", port + 10_000))
            except (OSError, OverflowError):
                continue
            found.append(port)
    return found


@contextmanager
def serving(folder: Path) -> Iterator[dict[str, str]]:
    """A server; gives the variables that lead to it."""
    for attempt in range(5):
        place = folder / str(attempt)
        process, address = _start(place)
        if _is_up(process, address):
            break
        process.kill()  # somebody took one of its ports since they were found free
        process.wait(30)
    else:
        raise RuntimeError((place / "log").read_text()[-2000:])
    try:
        yield {
            "AWS_ENDPOINT_URL": address,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": REGION,
        }
    finally:
        process.kill()
        process.wait(30)


def _start(folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    program = executable()
    assert program is not None
    master, volume, filer, s3 = _ports(4)
    who = {"name": KEY, "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": ["Admin", "Read", "Write"]}
    (folder / "data").mkdir(parents=True)
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": [who]}))
    command = [
        program, "server", f"-dir={folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-master.port={master}",
        f"-volume.port={volume}", "-filer", f"-filer.port={filer}", "-s3", f"-s3.port={s3}", f"-s3.config={config}",
        "-s3.port.iceberg=0", "-s3.port.lance=0",
        "-master.telemetry=false", "-volume.max=20", "-master.volumeSizeLimitMB=64",
    ]  # fmt: skip
    with (folder / "log").open("w") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, cwd=folder), f"http://127.0.0.1:{s3}"


def _is_up(process: subprocess.Popen[bytes], address: str) -> bool:
    end = time.monotonic() + 180
    while process.poll() is None and time.monotonic() < end:
        try:
            urllib.request.urlopen(address, timeout=2).close()
            return True
        except urllib.error.HTTPError as error:
            error.close()  # it answers, if only to say that we may not
            return True
        except OSError:
            time.sleep(0.1)
    return False
