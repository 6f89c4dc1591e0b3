"""Full disks, locks, damage, other versions, other processes and sudden death."""

from __future__ import annotations

import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from noria.errors import CorruptBlob, NotFound, StoreBusy, StoreError, StoreFull, StoreReadOnly
from noria.govern import verify
from noria.records import AuditEntry, Turn, TurnState
from noria.store import open_store
from noria.store.files import FolderBlobs
from noria.store.ports import CacheEntry, Ledger, Prediction, Store, Transaction
from noria.store.sqlite import open_ledger, open_predictions

WRITER = Path(__file__).with_name("writer.py")
AT = datetime(2024, 1, 1, tzinfo=UTC)


def entry(key: str, size: int = 10) -> CacheEntry:
    return CacheEntry(key, "step", "churn", AT, {"text": "x" * size}, {}, 0.0)


def put(ledger: Ledger, key: str, size: int = 10) -> None:
    def change(tx: Transaction) -> None:
        tx.put(entry(key, size))
        tx.audit(AT, "test", "put", key)

    ledger.write(change)


def kept(ledger: Ledger) -> set[str]:
    with ledger.read() as db:
        return {found.key for found in db.list(CacheEntry)}


def start(folder: Path, who: str, count: int, threads: int) -> subprocess.Popen[str]:
    command = [sys.executable, str(WRITER), str(folder), who, str(count), str(threads)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def assert_whole(store: Store, acknowledged: set[str]) -> None:
    """Every acknowledged name is there with all its parts; no name is there in part."""
    with store.ledger.read() as db:
        turns = {turn.id for turn in db.list(Turn)}
        entries = {found.key.removeprefix("key-"): found for found in db.list(CacheEntry)}
        audited = {found.subject for found in db.list(AuditEntry)}
        assert verify(db).problems == ()
    assert turns == set(entries) == audited
    assert acknowledged <= turns
    for name, found in entries.items():
        assert store.blobs.get(found.outputs["blob"]) == name.encode()
    halves: dict[str, int] = {}
    for _, made in store.predictions.predictions("churn", limit=1_000_000):
        name = (made.key or "").split("/")[0]
        halves[name] = halves.get(name, 0) + 1
    assert set(halves.values()) <= {2}
    assert acknowledged <= set(halves)
    labelled = {(one.prediction.key or "").split("/")[0] for one in store.predictions.labelled("churn", limit=None)}
    assert acknowledged <= labelled


def test_two_processes_write_one_store(tmp_path: Path) -> None:
    writers = [start(tmp_path, who, 15, 3) for who in ("a", "b")]
    said = {line.strip() for writer in writers for line in writer.communicate()[0].splitlines()}
    assert [writer.returncode for writer in writers] == [0, 0]
    assert len(said) == 2 * 15 * 3
    with closing(open_store(tmp_path)) as store:
        assert_whole(store, said)


@pytest.mark.parametrize("seed", range(4))
def test_nothing_acknowledged_is_lost_when_a_writer_is_killed(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    acknowledged: set[str] = set()
    for attempt in range(2):
        writer = start(tmp_path, f"w{attempt}x", 1000, 4)
        assert writer.stdout is not None
        for _ in range(dice.randint(1, 60)):
            acknowledged.add(writer.stdout.readline().strip())
        writer.send_signal(signal.SIGKILL)
        rest = writer.communicate()[0]
        acknowledged |= {line.strip() for line in rest.splitlines(keepends=True) if line.endswith("\n")}
        with closing(open_store(tmp_path)) as store:
            assert_whole(store, acknowledged)


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A folder on a disk of one megabyte."""
    place = folder / "small"
    place.mkdir()
    mounted = os.geteuid() == 0 and (
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", place], capture_output=True).returncode == 0
    )
    if not mounted:
        pytest.skip("a small disk can only be mounted by root")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def test_a_full_disk_is_said_and_nothing_is_half_written(tmp_path: Path) -> None:
    with small_disk(tmp_path) as disk, closing(open_store(disk / "store")) as store:
        acknowledged = set()

        def fill() -> None:
            for number in range(1000):
                put(store.ledger, str(number), 20_000)
                acknowledged.add(str(number))

        with pytest.raises(StoreFull, match="No space"):
            fill()
        assert acknowledged
        assert kept(store.ledger) == acknowledged
        with pytest.raises(StoreFull):
            store.blobs.put(os.urandom(2_000_000))
        assert list(store.blobs.digests()) == []
        assert list((disk / "store" / "blobs" / "incoming").iterdir()) == []
        with store.ledger.read() as db:
            assert verify(db).problems == ()
            assert db.count(AuditEntry) == len(acknowledged)


def test_a_full_disk_for_predictions_keeps_whole_batches(tmp_path: Path) -> None:
    def batch(number: int) -> list[Prediction]:
        return [
            Prediction(f"{number}/{place}", "churn", AT, 1, "", "champion", {"text": "x" * 2000}) for place in range(10)
        ]

    with small_disk(tmp_path) as disk, closing(open_predictions(disk / "predictions")) as log:
        ballast = disk / "ballast"
        ballast.write_bytes(b"x" * 300_000)
        acknowledged = 0

        def fill() -> None:
            nonlocal acknowledged
            for number in range(1000):
                log.append(batch(number))
                acknowledged += 1

        with pytest.raises(StoreFull):
            fill()
        ballast.unlink()  # the index needs a little space to be brought up to date
        assert len(log.predictions("churn")) == 10 * acknowledged
        log.append(batch(acknowledged))
        assert len(log.predictions("churn")) == 10 * (acknowledged + 1)


def test_after_space_is_freed_the_store_goes_on(tmp_path: Path) -> None:
    with small_disk(tmp_path) as disk, closing(open_store(disk / "store")) as store:
        ballast = disk / "ballast"
        ballast.write_bytes(b"\0" * 600_000)

        def fill() -> None:
            for number in range(1000):
                put(store.ledger, str(number), 20_000)

        with pytest.raises(StoreFull):
            fill()
        before = kept(store.ledger)
        ballast.unlink()
        put(store.ledger, "after", 10)
        assert kept(store.ledger) == before | {"after"}


LIMITED = """
import resource, sys
from noria.errors import StoreFull
from noria.store.files import FolderBlobs
from pathlib import Path
blobs = FolderBlobs(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    blobs.put(b"x" * 200_000)
except StoreFull as error:
    print("full", error)
print(len(list(blobs.digests())), blobs.put(b"small"))
"""


def test_a_blob_over_the_file_size_limit_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("full No space left")
    assert "\n0 blake3:" in done.stdout
    assert list((tmp_path / "incoming").iterdir()) == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 100_000


def test_a_damaged_blob_is_noticed_and_mended_by_storing_it_again(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path)
    digest = blobs.put(b"the truth" * 100)
    (path,) = [found for found in tmp_path.rglob("*") if found.is_file()]
    assert path.stat().st_mode & 0o222 == 0
    path.chmod(0o644)
    path.write_bytes(b"the lie!!" * 100)
    with pytest.raises(CorruptBlob):
        blobs.get(digest)
    blobs.put(b"the truth" * 100)
    assert blobs.get(digest) == b"the truth" * 100
    path.unlink()
    path.mkdir()
    with pytest.raises(StoreError):
        blobs.get(digest)


def test_files_that_do_not_belong_are_no_digests(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path)
    digest = blobs.put(b"x")
    (tmp_path / "blake3" / "stray").write_text("x")
    (tmp_path / "blake3" / digest[7:9] / "stray").write_text("x")
    (tmp_path / "stray").write_text("x")
    assert list(blobs.digests()) == [digest]


def test_a_digest_never_leads_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    blobs = FolderBlobs(tmp_path / "blobs")
    for name in (
        "blake3:../../secret",
        "blake3:" + "../" * 21 + "s",
        f"blake3:{'0' * 62}/.",
        str(tmp_path / "secret"),
    ):
        assert not blobs.has(name)
        with pytest.raises(NotFound):
            blobs.get(name)


def test_a_locked_database_is_busy_and_free_again(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with closing(open_ledger(path, busy_s=0.2)) as ledger, closing(sqlite3.connect(path)) as other:
        put(ledger, "a")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusy, match="another process"):
            put(ledger, "b")
        assert kept(ledger) == {"a"}
        other.rollback()
        put(ledger, "c")
        assert kept(ledger) == {"a", "c"}


def test_a_writer_waits_for_a_lock_that_is_soon_given_back(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with (
        closing(open_ledger(path)) as ledger,
        closing(sqlite3.connect(path, check_same_thread=False)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        timer = threading.Timer(0.3, other.rollback)
        timer.start()
        put(ledger, "a")
        timer.join()
        assert kept(ledger) == {"a"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_store_is_said_to_an_ordinary_user(tmp_path: Path) -> None:
    open_store(tmp_path / "store").close()
    (tmp_path / "store").chmod(0o555)
    with pytest.raises(StoreReadOnly), closing(open_store(tmp_path / "store")) as store:
        put(store.ledger, "a")


def test_a_store_on_a_read_only_disk_is_said(tmp_path: Path) -> None:
    with small_disk(tmp_path) as disk:
        with closing(open_store(disk / "store")) as store:
            put(store.ledger, "a")
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        with pytest.raises(StoreError) as refused, closing(open_store(disk / "store")) as store:
            put(store.ledger, "b")
        assert "ermission" in str(refused.value) or "read" in str(refused.value)
        with pytest.raises(StoreReadOnly):
            FolderBlobs(disk / "store" / "blobs").put(b"x")
        with pytest.raises(StoreReadOnly):
            open_store(disk / "other")


@pytest.mark.parametrize("name", ["ledger.db", "predictions/index.db"])
def test_a_store_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path, name: str) -> None:
    open_store(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / name)) as other:
        other.execute("PRAGMA user_version=99")
    before = (tmp_path / name).read_bytes()
    with pytest.raises(StoreError, match="newer Noria"):
        open_store(tmp_path)
    assert (tmp_path / name).read_bytes() == before


@pytest.mark.parametrize("content", [b"name,age\nann,3\n" * 100, os.urandom(5000), b"SQLite format 3\0" + b"x" * 4096])
def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "ledger.db").write_bytes(content)
    with pytest.raises(StoreError, match="not a Noria store file"):
        open_store(tmp_path)
    assert (tmp_path / "ledger.db").read_bytes() == content


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as other:
        other.execute("CREATE TABLE runs (id TEXT)")
    with pytest.raises(StoreError):
        open_store(tmp_path)
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as other:
        assert other.execute("SELECT name FROM sqlite_schema").fetchall() == [("runs",)]


def test_a_store_that_is_not_there_is_not_made_unless_asked(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no store"):
        open_store(tmp_path / "none", create=False)
    assert not (tmp_path / "none").exists()
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="is a file"):
        open_store(tmp_path / "file")
    with pytest.raises(StoreError):
        open_store(tmp_path / "file" / "below")


def test_a_damaged_record_is_an_error_of_the_store(tmp_path: Path) -> None:
    with closing(open_ledger(tmp_path / "ledger.db")) as ledger:
        put(ledger, "a")
        with closing(sqlite3.connect(tmp_path / "ledger.db")) as other:
            other.execute("UPDATE cache SET body = '{'")
            other.commit()
        with pytest.raises(StoreError, match="damaged"):
            kept(ledger)
        with ledger.read() as db:
            assert len(db.flaws(CacheEntry)) == 1
            assert db.flaws(Turn) == []


def test_a_turn_is_written_as_it_was(tmp_path: Path) -> None:
    made = Turn("t", "churn", 1, TurnState.ordered, AT, AT, "manual", "because", overrides={"train.C": [1, 2.5]})
    with closing(open_ledger(tmp_path / "ledger.db")) as ledger:
        ledger.write(lambda tx: tx.put(made))
        with ledger.read() as db:
            assert db.find(Turn, state=TurnState.ordered) == made
