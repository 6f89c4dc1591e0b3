"""Cut the power while the store takes metrics and files, or predictions: what was acknowledged must be there after.

    pip install mfusepy
    python bench/powercut.py [--cuts 10] [--predictions]     as root, with fuse3, losetup and mkfs.ext4

The store lies on a disk image behind a file system of ours that keeps writes in a "drive cache" until they are flushed.
At the cut the cache is dropped, or a random part of it kept; the image as it then is, is mounted again and looked at.
"""

from __future__ import annotations

import argparse
import errno
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil

from noria.core.hashing import digest_bytes
from noria.records.tracking import Point
from noria.store.files import FolderBlobs
from noria.store.sqlite import open_tracking
from noria.track import verbs

SECONDS = 4.0
EVERY = 20  # one file to so many metrics


def drive(image: str, mount: str, seed: str, keep: str) -> None:
    """Serve the image as ``mount/disk``; SIGUSR1 cuts the power and writes what is left to ``image.cut``."""
    import mfusepy

    class Drive(mfusepy.Operations):  # type: ignore[misc]
        use_ns = True

        def __init__(self) -> None:
            self.durable = bytearray(Path(image).read_bytes())
            self.current = bytearray(self.durable)
            self.cached: list[tuple[int, bytes]] = []
            self.guard = threading.Lock()
            signal.signal(signal.SIGUSR1, self.cut)

        def cut(self, *_: object) -> None:
            chance = random.Random(int(seed))
            with self.guard:
                for offset, data in self.cached:
                    if chance.random() < float(keep):
                        self.durable[offset : offset + len(data)] = data
                Path(f"{image}.cut").write_bytes(self.durable)

        def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
            if path == "/":
                return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2}
            if path == "/disk":
                return {"st_mode": stat.S_IFREG | 0o600, "st_size": len(self.current)}
            raise mfusepy.FuseOSError(errno.ENOENT)

        def readdir(self, path: str, fh: int) -> list[str]:
            return [".", "..", "disk"]

        def open(self, path: str, flags: int) -> int:
            return 1

        def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
            return bytes(self.current[offset : offset + size])

        def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
            with self.guard:
                self.current[offset : offset + len(data)] = data
                self.cached.append((offset, bytes(data)))
            return len(data)

        def fsync(self, path: str, datasync: int, fh: int) -> int:
            with self.guard:
                for offset, data in self.cached:
                    self.durable[offset : offset + len(data)] = data
                self.cached.clear()
            return 0

        def flush(self, path: str, fh: int) -> int:
            return 0

        def truncate(self, path: str, length: int, fh: int | None = None) -> int:
            return 0

    mfusepy.FUSE(Drive(), mount, foreground=True, nothreads=True)


def write(folder: str, acknowledged: str) -> None:
    """Write until killed; the number of each acknowledged metric goes to a file that survives."""
    place = Path(folder)
    with closing(open_tracking(place / "tracking.db")) as tracking, Path(acknowledged).open("w") as told:
        blobs = FolderBlobs(place / "blobs")
        run = tracking.write(lambda t: verbs.create_run(t, 0, 1)).id
        (place / "run").write_text(run)
        os.sync()
        for number in range(1, 10**9):
            point = Point("m", float(number), number, number)
            tracking.write(lambda t, point=point: t.log(run, points=[point]))  # type: ignore[misc]
            if number % EVERY == 0:
                blobs.put(file_of(number))
            told.write(f"{number}\n")
            told.flush()


def file_of(number: int) -> bytes:
    return b"%d" % number * 500


def look(folder: Path, acknowledged: int) -> tuple[int, int]:
    """Metrics and files that were acknowledged and are not there, or not whole."""
    with closing(open_tracking(folder / "tracking.db")) as tracking, tracking.read() as reader:
        kept = {point.step for point in reader.history((folder / "run").read_text(), "m")}
    blobs = FolderBlobs(folder / "blobs")
    lost = sum(number not in kept for number in range(1, acknowledged + 1))
    files = range(EVERY, acknowledged + 1, EVERY)
    return lost, sum(not blobs.has(digest_bytes(file_of(number))) or not blobs.get(digest_bytes(file_of(number)))
                     for number in files)  # fmt: skip


LOOP = """
import pandas as pd
from sklearn.linear_model import LogisticRegression

from noria import Csv, Loop

loop = Loop(name="m", source=Csv("rows.csv", label="y"))


@loop.train
def train(x_train: pd.DataFrame, y_train: pd.Series) -> LogisticRegression:
    return LogisticRegression().fit(x_train, y_train)
"""


def trained(place: Path) -> Path:
    """A store with one small model."""
    (place / "power.py").write_text(LOOP)
    (place / "rows.csv").write_text("a,y\n" + "".join(f"{n / 100},{int(n % 7 > 2)}\n" for n in range(300)))
    run(sys.executable, "-m", "noria.cli", "turn", str(place / "power.py"))
    return place / ".noria"


def ask(store: str, told: str) -> None:
    """Serve with ``--record disk`` and ask until killed; each answered prediction's id goes to a file that survives."""
    import http.client
    import re

    command = [sys.executable, "-m", "noria.cli", "serve", "m", "--record", "disk", "--port", "0", "--store", store]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    found = re.search(r"127\.0\.0\.1:(\d+)", server.stderr.readline())
    assert found is not None
    port, guard = int(found[1]), threading.Lock()

    def call() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        with Path(told).open("a") as file:
            while True:
                connection.request("POST", "/predict/m", b'{"a": 0.5}')
                body = connection.getresponse().read().decode()
                with guard:
                    file.write(body.partition('"id":"')[2][:32] + "\n")
                    file.flush()

    for _ in range(8):
        threading.Thread(target=call, daemon=True).start()
    server.wait()


def look_for_predictions(store: Path, told: Path) -> tuple[int, int]:
    """Predictions that were acknowledged, and how many of them are not there."""
    from noria.store.sqlite import open_predictions

    ids = [line for line in told.read_text().split() if len(line) == 32]
    with closing(open_predictions(store / "predictions")) as log:
        kept = {made.id for _, made in log.predictions("m", limit=10**9)}
    return len(ids), sum(made not in kept for made in ids)


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def wait_for(path: Path) -> None:
    for _ in range(200):
        if path.exists():
            return
        time.sleep(0.05)
    sys.exit(f"{path} does not appear: is this root, with /dev/fuse?")


def one_cut(seed: int, keep: float, prepared: Path | None) -> tuple[int, int, int]:
    """One cut: acknowledged metrics (or predictions), lost ones, files lost."""
    place = Path(tempfile.mkdtemp(prefix="powercut-"))
    image, disk, mounted, told = place / "image", place / "drive", place / "mounted", place / "told"
    disk.mkdir()
    mounted.mkdir()
    with image.open("wb") as empty:
        empty.truncate(64 * 2**20)
    run("mkfs.ext4", "-q", "-F", str(image))
    me: list[Any] = [sys.executable, __file__]
    server = subprocess.Popen([*me, "drive", image, disk, str(seed), str(keep)])
    wait_for(disk / "disk")
    loop = run("losetup", "-f", "--show", str(disk / "disk"))
    run("mount", loop, str(mounted))
    if prepared is None:
        (mounted / "store").mkdir()
    else:
        shutil.copytree(prepared, mounted / "store")
        os.sync()
    verb = "write" if prepared is None else "ask"
    writer = subprocess.Popen([*me, verb, mounted / "store", told], start_new_session=True)
    if prepared is not None:
        wait_for(told)
    time.sleep(SECONDS)
    before = told.read_text()
    server.send_signal(signal.SIGUSR1)
    wait_for(Path(f"{image}.cut"))
    time.sleep(0.3)
    for process in [*psutil.Process(writer.pid).children(recursive=True), psutil.Process(writer.pid)]:
        process.kill()
    writer.wait()
    time.sleep(0.5)
    subprocess.run(["umount", str(mounted)], check=False)
    run("losetup", "-d", loop)
    run("fusermount3", "-u", str(disk))
    server.wait()
    loop = run("losetup", "-f", "--show", f"{image}.cut")
    run("mount", loop, str(mounted))
    try:
        if prepared is None:
            acknowledged = int(before.split()[-1])
            lost, files = look(mounted / "store", acknowledged)
        else:
            told.write_text(before[: before.rfind("\n")])
            (acknowledged, lost), files = look_for_predictions(mounted / "store", told), 0
    finally:
        run("umount", str(mounted))
        run("losetup", "-d", loop)
    shutil.rmtree(place)
    return acknowledged, lost, files


def main() -> int:
    if len(sys.argv) > 1 and sys.argv[1] in ("drive", "write", "ask"):
        parts: dict[str, Callable[..., None]] = {"drive": drive, "write": write, "ask": ask}
        parts[sys.argv[1]](*sys.argv[2:])
        return 0
    parser = argparse.ArgumentParser()
    parser.add_argument("--cuts", type=int, default=10)
    parser.add_argument("--predictions", action="store_true", help="cut while a model is served, level disk")
    given = parser.parse_args()
    what, prepared = "metrics", None
    if given.predictions:
        what, prepared = "predictions", trained(Path(tempfile.mkdtemp(prefix="powercut-model-")))
    found = []
    for seed in range(given.cuts):
        found.append(one_cut(seed, (0.0, 0.5)[seed % 2], prepared))
        told = "cut {}: {} acknowledged, {} {what} lost, {} files lost"
        print(told.format(seed + 1, *found[-1], what=what), flush=True)
    total, lost, files = (sum(column) for column in zip(*found, strict=True))
    print(f"{given.cuts} cuts: {total:,} acknowledged, {lost} {what} lost, {files} files lost")
    return 1 if lost or files else 0


if __name__ == "__main__":
    sys.exit(main())
