"""Blobs written and read in pieces: what is left behind, damaged or not finished."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noria.core.hashing import digest_bytes
from noria.errors import CorruptBlob
from noria.store.files import FolderBlobs

MEBIBYTE = 2**20


def stored(folder: Path) -> Path:
    """The one blob's file."""
    (path,) = [found for found in folder.rglob("*") if found.is_file()]
    return path


def test_what_dead_writers_left_is_removed_at_the_start_and_the_living_are_left_alone(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path)
    dead, alive = blobs.writer(), blobs.writer()
    dead.write(b"half a")
    alive.write(b"whole")
    long_ago = time.time() - 2 * 24 * 3600
    (left,) = [found for found in (tmp_path / "incoming").iterdir() if found.read_bytes() == b"half a"]
    os.utime(left, (long_ago, long_ago))
    FolderBlobs(tmp_path)
    assert len(list((tmp_path / "incoming").iterdir())) == 1
    digest, _ = alive.commit()
    assert blobs.get(digest) == b"whole"
    dead.abort()


KILLED = """
import os, signal, sys
from pathlib import Path
from noria.store.files import FolderBlobs
writer = FolderBlobs(Path(sys.argv[1])).writer()
for _ in range(int(sys.argv[2])):
    writer.write(b"x" * 2**20)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("pieces", [0, 1, 5])
def test_a_writer_that_is_killed_leaves_no_blob(tmp_path: Path, pieces: int) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), str(pieces)], check=False, timeout=60)
    assert done.returncode == -9
    assert list(FolderBlobs(tmp_path).digests()) == []


@pytest.mark.parametrize("at", [0, MEBIBYTE, 3 * MEBIBYTE])
def test_a_damaged_blob_is_never_given_whole(tmp_path: Path, at: int) -> None:
    blobs = FolderBlobs(tmp_path)
    data = os.urandom(3 * MEBIBYTE + 1)
    digest, path = blobs.put(data), stored(tmp_path)
    path.chmod(0o644)
    with path.open("r+b") as handle:
        handle.seek(at)
        handle.write(bytes([data[at] ^ 1]))
    given: list[bytes] = []
    with pytest.raises(CorruptBlob):
        given.extend(blobs.read(digest))
    assert sum(map(len, given)) < len(data)
    writer = blobs.writer()
    writer.write(data)
    assert writer.commit() == (digest, len(data))
    assert b"".join(blobs.read(digest)) == data


def test_a_blob_that_was_cut_short_is_noticed(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path)
    digest, path = blobs.put(b"x" * (2 * MEBIBYTE)), stored(tmp_path)
    path.chmod(0o644)
    os.truncate(path, MEBIBYTE)
    with pytest.raises(CorruptBlob):
        list(blobs.read(digest))


def test_what_is_removed_while_it_is_read_is_read_to_its_end(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path)
    data = os.urandom(3 * MEBIBYTE)
    pieces = blobs.read(blobs.put(data))
    first = next(pieces)
    stored(tmp_path).unlink()
    assert first + b"".join(pieces) == data


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(pieces=st.lists(st.binary(max_size=50)), start=st.integers(0, 300), length=st.integers(0, 300))
def test_pieces_and_ranges_are_those_of_the_bytes(tmp_path: Path, pieces: list[bytes], start: int, length: int) -> None:
    blobs, data = FolderBlobs(tmp_path), b"".join(pieces)
    writer = blobs.writer()
    for piece in pieces:
        writer.write(piece)
    digest, size = writer.commit()
    assert (digest, size) == (digest_bytes(data), len(data))
    assert b"".join(blobs.read(digest, start, start + length)) == data[start : start + length]
    assert b"".join(blobs.read(digest)) == data
