"""The store on a real PostgreSQL server: the shipped suites, several processes at once, and servers that fail."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

pytest.importorskip("psycopg")

sys.path.insert(0, str(Path(__file__).parent))

from postgres import Server, serving, why_not

from noria.errors import NoriaError, StoreError
from noria.records.tracking import Point
from noria.store import open_store
from noria.store.ports import Ledger, PredictionLog
from noria.store.postgres import open_ledger, open_predictions, open_tracking
from noria.store.postgres.database import Database
from noria.store.tracking import Tracking
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
        for writer in writers:
            _, said = writer.communicate(timeout=120)
            assert writer.returncode == 0, said.decode()
        with tracking.read() as reader:
            assert {point.step for point in reader.history(info.id, "m")} == set(range(300))
            assert sorted(one.id for one in reader.experiments(["active"])) == list(range(31))
        from noria.records import AuditEntry

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
    ):
        with pytest.raises(StoreError, match=words) as caught:
            open_tracking(address)
        assert "not-it" not in str(caught.value)
        assert "hidden" not in str(caught.value)


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
