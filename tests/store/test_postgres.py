"""The store on a real PostgreSQL server: the shipped suites, several processes at once, and servers that fail."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

pytest.importorskip("psycopg")

sys.path.insert(0, str(Path(__file__).parent))

from postgres import Server, serving, why_not

from noria.errors import NoriaError, NotFound, StoreBusy, StoreError
from noria.records import AuditEntry
from noria.records.tracking import Point
from noria.store import open_store
from noria.store.ports import Ledger, PredictionLog
from noria.store.postgres import open_ledger, open_predictions, open_tracking
from noria.store.postgres.database import Database
from noria.store.tracking import Artifact, Tracking, TrackingTransaction
from noria.testing.contracts import LedgerContract, PredictionLogContract
from noria.testing.tracking import TrackingContract, a_run

pytestmark = [pytest.mark.skipif(bool(why_not()), reason=why_not()), pytest.mark.xdist_group("postgres")]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as found:
        yield found


@pytest.fixture
def url(server: Server) -> str:
    return server.database()


class TestPostgresTracking(TrackingContract):
    @pytest.fixture
    def open(self, url: str) -> Callable[[], Tracking]:
        return lambda: open_tracking(url)


class TestPostgresLedger(LedgerContract):
    @pytest.fixture
    def opened(self, url: str) -> Callable[[], Ledger]:
        return lambda: open_ledger(url)


class TestPostgresPredictionLog(PredictionLogContract):
    @pytest.fixture
    def log(self, url: str) -> Iterator[PredictionLog]:
        with closing(open_predictions(url)) as found:
            yield found


WRITER = """
import sys
from datetime import UTC, datetime
from noria.records.tracking import Point
from noria.store.postgres import open_ledger, open_tracking
url, part, run = sys.argv[1:]
tracking, ledger = open_tracking(url), open_ledger(url)
for i in range(100):
    tracking.write(lambda t: t.log(run, points=[Point("m", float(part), i, int(part) * 100 + i)]))
    ledger.write(lambda tx: tx.audit(datetime.now(UTC), part, "did", str(i)))
    if i % 10 == 0:
        tracking.write(lambda t: t.add_experiment(f"{part} {i}", "place", 1, {}))
tracking.close(); ledger.close()
"""


def test_several_processes_lose_and_double_nothing(url: str) -> None:
    with closing(open_tracking(url)) as tracking, closing(open_ledger(url)) as ledger:
        info = a_run(0)
        tracking.write(lambda t: t.add_run(info, {}))
        writers = [
            subprocess.Popen([sys.executable, "-c", WRITER, url, str(part), info.id], stderr=subprocess.PIPE)
            for part in range(3)
        ]
        said = [writer.communicate(timeout=120)[1].decode() for writer in writers]
        assert [writer.returncode for writer in writers] == [0, 0, 0], said
        with tracking.read() as reader:
            assert {point.step for point in reader.history(info.id, "m")} == set(range(300))
            assert sorted(one.id for one in reader.experiments(["active"])) == list(range(31))
        with ledger.read() as db:
            assert sorted(entry.number for entry in db.list(AuditEntry)) == list(range(1, 301))


def test_a_server_that_was_killed_and_came_back_has_what_was_acknowledged(server: Server) -> None:
    url = server.database()
    with closing(open_tracking(url)) as tracking:
        info = a_run(0)
        tracking.write(lambda t: t.add_run(info, {}))
        acknowledged: list[int] = []
        refused: list[NoriaError] = []
        over = threading.Event()

        def work() -> None:
            step = 0
            while not over.is_set():
                try:
                    tracking.write(lambda t, step=step: t.log(info.id, points=[Point("m", 1.0, step, step)]))  # type: ignore[misc]
                    acknowledged.append(step)
                    step += 1
                except StoreError as error:
                    refused.append(error)
                    over.wait(0.02)

        worker = threading.Thread(target=work)
        worker.start()
        for _ in range(3):
            over.wait(0.3)
            server.stop(signal.SIGQUIT)
            over.wait(0.1)
            server.start()
        over.wait(0.3)
        over.set()
        worker.join()
        with tracking.read() as reader:
            kept = [point.step for point in reader.history(info.id, "m")]
        assert refused
        assert kept == sorted(set(kept))
        assert set(acknowledged) <= set(kept)


def test_what_is_wrong_with_an_address_is_said_without_the_password(server: Server) -> None:
    for address, words in (
        (server.url("postgres", "not-it"), "does not accept"),
        (server.url("nowhere"), "There is no database"),
        ("postgresql://noria:hidden@127.0.0.1:9/x", "does not answer"),
        ("postgresql://noria:hid/den@127.0.0.1/x", "cannot be read"),
        ("postgresql://noria:12/34hidden@127.0.0.1/x", "cannot be read"),
        ("postgresql://noria:hid%zzden@127.0.0.1/x", "cannot be read"),
        ("postgresql://noria:hidden@127.0.0.1:port/x", "cannot be read"),
    ):
        with pytest.raises(StoreError, match=words) as caught:
            open_tracking(address)
        assert "not-it" not in str(caught.value)
        assert "hid" not in f"{caught.value}{caught.value.__cause__}"


def test_a_newer_schema_is_refused(url: str) -> None:
    open_tracking(url).close()
    import psycopg

    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO noria_tracking.migrations (number) VALUES (99)")
    with pytest.raises(StoreError, match="newer Noria"):
        Database(url, "tracking")


def test_a_whole_store_opens_on_an_address(url: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="--blobs"):
        open_store(url)
    for _ in range(2):
        store = open_store(url, blobs=tmp_path / "blobs")
        assert store.blobs.get(store.blobs.put(b"x")) == b"x"
        store.close()


def test_a_write_after_the_server_was_started_again_is_taken(server: Server) -> None:
    with closing(open_tracking(server.database())) as tracking:
        info = a_run(0)
        tracking.write(lambda t: t.add_run(info, {}))
        server.stop()
        server.start()
        tracking.write(lambda t: t.log(info.id, tags={"after": "yes"}))
        with tracking.read() as reader:
            found = reader.run(info.id)
        assert found is not None
        assert found.tags == {"after": "yes"}


def test_a_user_who_may_not_make_tables_can_use_them(server: Server) -> None:
    import psycopg

    url = server.database()
    open_tracking(url).close()
    name = url.rpartition("/")[2]
    with psycopg.connect(url) as connection:
        connection.execute("CREATE ROLE worker LOGIN PASSWORD 'worker'")
        connection.execute("GRANT USAGE ON SCHEMA noria_tracking TO worker")
        connection.execute("GRANT ALL ON ALL TABLES IN SCHEMA noria_tracking TO worker")
        connection.execute("GRANT ALL ON ALL SEQUENCES IN SCHEMA noria_tracking TO worker")
    with closing(open_tracking(f"postgresql://worker:worker@127.0.0.1:{server.port}/{name}")) as tracking:
        info = a_run(0)
        tracking.write(lambda t: t.add_run(info, {}))
        with tracking.read() as reader:
            assert reader.info(info.id) == info


def test_many_readers_share_a_few_connections(url: str) -> None:
    with closing(open_tracking(url)) as tracking:

        def look() -> None:
            with tracking.read() as reader:
                reader.experiments(["active"])

        threads = [threading.Thread(target=look) for _ in range(200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        import psycopg

        with psycopg.connect(url) as connection:
            row = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            ).fetchone()
        assert row is not None
        assert row[0] <= 10


Two = tuple[Tracking, Tracking]


@pytest.fixture
def two(url: str) -> Iterator[Two]:
    """The same store, opened as two processes do: each with a writer of its own."""
    with closing(open_tracking(url)) as one, closing(open_tracking(url)) as other:
        yield one, other


def at_once(stores: Two, *changes: Callable[[TrackingTransaction], Any]) -> list[Any]:
    """What the changes return or raise; each has been begun before the other is recorded, where the store lets it."""
    begun = threading.Barrier(2)

    def held(change: Callable[[TrackingTransaction], Any]) -> Callable[[TrackingTransaction], Any]:
        def run(transaction: TrackingTransaction) -> Any:
            result = change(transaction)
            with suppress(threading.BrokenBarrierError):  # the other waits for this one, or comes a second time
                begun.wait(0.5)
            return result

        return run

    waiting = [store.submit(held(change)) for store, change in zip(stores, changes, strict=True)]
    return [future.exception(30) or future.result() for future in waiting]


def test_changes_of_one_run_do_not_undo_one_another(two: Two) -> None:
    info = a_run(0)
    two[0].write(lambda t: t.add_run(info, {}))

    def change(**fields: Any) -> Callable[[TrackingTransaction], None]:
        def run(transaction: TrackingTransaction) -> None:
            found = transaction.info(info.id)
            assert found is not None
            transaction.set_run(msgspec.structs.replace(found, **fields))

        return run

    assert at_once(two, change(status="FINISHED", ended=9), change(name="renamed")) == [None, None]
    with two[0].read() as reader:
        assert reader.info(info.id) == msgspec.structs.replace(info, status="FINISHED", ended=9, name="renamed")


def test_a_path_is_never_file_and_folder(two: Two) -> None:
    def put(path: str) -> Callable[[TrackingTransaction], None]:
        return lambda t: t.put_artifact(Artifact(path, "blake3:" + "a" * 64, 1, 1))

    outcomes = at_once(two, put("model"), put("model/weights"))
    with two[0].read() as reader:
        assert len(reader.under("")) == 1
    assert outcomes.count(None) == 1


def test_nothing_stays_of_a_purged_run(two: Two, url: str) -> None:
    import psycopg

    info = a_run(0)
    two[0].write(lambda t: t.add_run(info, {}))
    removed, logged = at_once(
        two, lambda t: t.purge([info.id]), lambda t: t.log(info.id, points=[Point("m", 1.0, 1, 1)], tags={"a": "b"})
    )
    assert removed == 1
    assert logged is None or isinstance(logged, NotFound)
    with psycopg.connect(url) as connection:
        for table in ("runs", "metrics", "latest", "tags"):
            row = connection.execute(f"SELECT count(*) FROM noria_tracking.{table}").fetchone()
            assert row == (0,), table


def test_processes_that_log_to_the_same_runs_crosswise_do_not_block_one_another(two: Two, url: str) -> None:
    import psycopg

    runs = [a_run(0).id for _ in range(2)]
    for run in runs:
        two[0].write(lambda t, run=run: t.add_run(a_run(0, run=run), {"who": "nobody"}))  # type: ignore[misc]
    begun = threading.Barrier(2)

    def log(who: str, order: list[str]) -> Callable[[TrackingTransaction], None]:
        def run(transaction: TrackingTransaction) -> None:
            transaction.log(order[0], tags={"who": who})
            with suppress(threading.BrokenBarrierError):
                begun.wait(0.5)
            transaction.log(order[1], tags={"who": who})

        return run

    assert at_once(two, log("one", runs), log("other", runs[::-1])) == [None, None]
    with two[0].read() as reader:
        found = [reader.run(run) for run in runs]
    assert len({run.tags["who"] for run in found if run is not None}) == 1
    for store in two:
        store.close()
    with psycopg.connect(url) as connection:  # a session's counts are there when it has ended
        row = connection.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").fetchone()
    assert row == (0,)


def test_a_change_that_cannot_be_kept_falls_alone(url: str) -> None:
    import random

    too_long = random.Random(1).randbytes(6000).hex()
    with closing(open_tracking(url)) as tracking:
        hold = threading.Event()
        first = tracking.submit(lambda t: hold.wait(10))
        good = tracking.submit(lambda t: t.add_experiment("good", "place", 1, {}))
        bad = tracking.submit(lambda t: t.put_artifact(Artifact(too_long, "blake3:" + "a" * 64, 1, 1)))
        given_up = tracking.submit(lambda t: t.add_experiment("given up", "place", 1, {}))
        last = tracking.submit(lambda t: t.add_experiment("last", "place", 1, {}))
        assert given_up.cancel()
        hold.set()
        assert first.result(10)
        assert (good.result(10), last.result(10)) == (1, 2)
        with pytest.raises(StoreError, match="so long a name") as caught:
            bad.result(10)
        assert too_long not in str(caught.value)


def test_a_commit_of_unknown_outcome_is_said_and_not_sent_again(url: str) -> None:
    import psycopg

    with closing(Database(url, "tracking")) as database:
        with psycopg.connect(url) as connection:
            connection.execute("CREATE FUNCTION go() RETURNS trigger LANGUAGE plpgsql AS "
                               "'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END'")  # fmt: skip
            connection.execute(
                "CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON noria_tracking.experiment_tags "
                "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION go()"
            )
        tries = []

        def change(connection: Any) -> None:
            tries.append(1)
            connection.execute("INSERT INTO experiment_tags (experiment, key, value) VALUES (0, 'a', 'b')")

        with pytest.raises(StoreError, match="may be kept or not") as caught:
            database.write(change)
        assert not isinstance(caught.value, StoreBusy)  # which says that nothing was kept
        assert len(tries) == 1
        assert database.write(lambda c: c.execute("SELECT 1").fetchone()) == (1,)


def test_a_connection_lost_before_its_commit_is_made_again(url: str) -> None:
    with closing(Database(url, "tracking")) as database:
        tries = []

        def change(connection: Any) -> None:
            tries.append(1)
            connection.execute("INSERT INTO experiment_tags (experiment, key, value) VALUES (0, 'a', 'b')")
            if len(tries) == 1:
                connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

        database.write(change)
        assert len(tries) == 2
        with database.read() as connection:
            assert connection.execute("SELECT count(*) FROM experiment_tags").fetchone() == (1,)


def test_another_default_isolation_changes_nothing(url: str) -> None:
    import psycopg

    with psycopg.connect(url) as connection:
        name = url.rpartition("/")[2]
        connection.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'")
    ledgers = [open_ledger(url) for _ in range(3)]

    def work(ledger: Ledger) -> None:
        for number in range(30):
            ledger.write(lambda tx, number=number: tx.audit(datetime.now(UTC), "x", "did", str(number)))  # type: ignore[misc]

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, ledgers))
    with ledgers[0].read() as db:
        assert sorted(entry.number for entry in db.list(AuditEntry)) == list(range(1, 91))
    for ledger in ledgers:
        ledger.close()
