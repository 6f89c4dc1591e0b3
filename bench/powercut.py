"""Cut the power while the store takes metrics and files: what was acknowledged must be there when it comes back.

    pip install mfusepy
    python bench/powercut.py [--cuts 10]                     as root, with fuse3, losetup and mkfs.ext4

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


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def wait_for(path: Path) -> None:
    for _ in range(200):
        if path.exists():
            return
        time.sleep(0.05)
    sys.exit(f"{path} does not appear: is this root, with /dev/fuse?")


def one_cut(seed: int, keep: float) -> tuple[int, int, int]:
    """One cut: acknowledged metrics, metrics lost, files lost."""
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
    (mounted / "store").mkdir()
    writer = subprocess.Popen([*me, "write", mounted / "store", told])
    time.sleep(SECONDS)
    acknowledged = int(told.read_text().split()[-1])
    server.send_signal(signal.SIGUSR1)
    wait_for(Path(f"{image}.cut"))
    time.sleep(0.3)
    writer.kill()
    writer.wait()
    subprocess.run(["umount", str(mounted)], check=False)
    run("losetup", "-d", loop)
    run("fusermount3", "-u", str(disk))
    server.wait()
    loop = run("losetup", "-f", "--show", f"{image}.cut")
    run("mount", loop, str(mounted))
    try:
        lost, files = look(mounted / "store", acknowledged)
    finally:
        run("umount", str(mounted))
        run("losetup", "-d", loop)
    shutil.rmtree(place)
    return acknowledged, lost, files


def main() -> int:
    if len(sys.argv) > 1 and sys.argv[1] in ("drive", "write"):
        parts: dict[str, Callable[..., None]] = {"drive": drive, "write": write}
        parts[sys.argv[1]](*sys.argv[2:])
        return 0
    parser = argparse.ArgumentParser()
    parser.add_argument("--cuts", type=int, default=10)
    given = parser.parse_args()
    found = []
    for seed in range(given.cuts):
        found.append(one_cut(seed, keep=(0.0, 0.5)[seed % 2]))
        print("cut {}: {} acknowledged, {} metrics lost, {} files lost".format(seed + 1, *found[-1]), flush=True)
    total, lost, files = (sum(column) for column in zip(*found, strict=True))
    print(f"{given.cuts} cuts: {total:,} acknowledged, {lost} metrics lost, {files} files lost")
    return 1 if lost or files else 0


if __name__ == "__main__":
    sys.exit(main())
