# ruff: noqa: D102 - tests, whose names say what they show
"""What every back-end owes, as pytest classes: subclass one and give it the fixture it names.

Example::

    class TestMyLedger(LedgerContract):
        @pytest.fixture
        def opened(self, tmp_path):
            return lambda: MyLedger(tmp_path)
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta, timezone

import pytest

from noria.core.hashing import digest_bytes
from noria.core.ids import new_id
from noria.errors import Conflict, NotFound, StoreError
from noria.records import AuditEntry, ModelVersion, Turn, TurnState
from noria.store.ports import (
    AliasRecord,
    Blobs,
    CacheEntry,
    Label,
    Ledger,
    Prediction,
    PredictionLog,
    Reader,
    Transaction,
)

__all__ = ["HOSTILE_NAMES", "BlobsContract", "LedgerContract", "PredictionLogContract"]

HOSTILE_NAMES = (
    "../../etc/passwd",
    "blake3:../../../etc/passwd",
    "blake3:" + "../" * 21 + "x",
    "/etc/passwd",
    "blake3:" + "a" * 63 + "/",
    "blake3:" + "A" * 64,
    "blake3:" + "a" * 64 + "\n",
    "blake3:" + "a" * 64 + "\0",
    "blake3:" + "a" * 10_000,
    "blake3:",
    "",
    "\0",
    "\ud800",
    "md5:" + "a" * 64,
    "..",
    "incoming",
    "'; DROP TABLE turns; --",
)
"""Names that are no digests, and must never become a path or a query."""

START = datetime(2024, 1, 1, tzinfo=UTC)


def _turn(number: int, loop: str = "churn", name: str = "") -> Turn:
    at = START + timedelta(minutes=number)
    return Turn(name or new_id(), loop, number, TurnState.ordered, at, at, "manual", "because")


def _entry(key: str, value: object = 1) -> CacheEntry:
    return CacheEntry(key, "train", "churn", START, {"value": value}, {}, 0.5)


def _write(ledger: Ledger, *records: Turn | CacheEntry | AliasRecord | ModelVersion) -> None:
    def change(tx: Transaction) -> None:
        for record in records:
            tx.put(record)

    ledger.write(change)


def _audit(ledger: Ledger, count: int, **facts: object) -> None:
    def change(tx: Transaction) -> None:
        for number in range(count):
            tx.audit(START, "test", "counted", "loop:churn", at_number=number, **facts)

    ledger.write(change)


def _trail(db: Reader) -> list[AuditEntry]:
    return db.list(AuditEntry, oldest_first=True)


class LedgerContract:
    """What a :class:`noria.store.ports.Ledger` owes. Fixture ``opened``: a function that opens it."""

    @pytest.fixture
    def opened(self) -> Callable[[], Ledger]:
        """Opens the ledger under test; several may be open at once."""
        raise NotImplementedError

    @pytest.fixture
    def ledger(self, opened: Callable[[], Ledger]) -> Iterator[Ledger]:
        with closing(opened()) as found:
            yield found

    def test_what_was_put_is_found_and_replaced_by_its_primary_key(self, ledger: Ledger) -> None:
        first = _turn(1, name="a" * 32)
        _write(ledger, first)
        moved = _turn(1, name="a" * 32)
        ledger.write(lambda tx: tx.put(moved))
        with ledger.read() as db:
            assert db.find(Turn, id=first.id) == moved
            assert db.count(Turn) == 1
            assert db.find(Turn, id="b" * 32) is None

    def test_a_change_returns_its_value_and_sees_its_own_writes(self, ledger: Ledger) -> None:
        def change(tx: Transaction) -> int:
            tx.put(_turn(1))
            tx.put(_turn(2))
            return tx.count(Turn, loop="churn")

        assert ledger.write(change) == 2

    def test_a_change_that_raises_leaves_no_trace(self, ledger: Ledger) -> None:
        def change(tx: Transaction) -> None:
            tx.put(_turn(1))
            tx.audit(START, "test", "tried", "turn:1")
            raise ValueError("no")

        with pytest.raises(ValueError, match=r"^no$"):
            ledger.write(change)
        with ledger.read() as db:
            assert db.count(Turn) == 0
            assert db.count(AuditEntry) == 0

    def test_changes_in_one_group_stand_and_fall_alone(self, ledger: Ledger) -> None:
        hold, entered = threading.Event(), threading.Event()

        def slow(tx: Transaction) -> None:
            entered.set()
            hold.wait(10)

        def one(number: int) -> str:
            def change(tx: Transaction) -> None:
                tx.put(_turn(number))
                if number % 3 == 0:
                    raise ValueError(str(number))

            try:
                ledger.write(change)
            except ValueError as error:
                return str(error)
            return "kept"

        with ThreadPoolExecutor(13) as pool:
            first = pool.submit(ledger.write, slow)
            entered.wait(10)
            outcomes = [pool.submit(one, number) for number in range(12)]  # queue up behind the slow one
            hold.set()
            first.result()
            said = [outcome.result() for outcome in outcomes]
        assert said == [str(n) if n % 3 == 0 else "kept" for n in range(12)]
        with ledger.read() as db:
            assert {turn.number for turn in db.list(Turn)} == {n for n in range(12) if n % 3}

    def test_a_record_that_takes_anothers_place_is_refused(self, ledger: Ledger) -> None:
        _write(ledger, _turn(1, name="a" * 32))
        with pytest.raises(Conflict):
            _write(ledger, _turn(1, name="b" * 32))
        with ledger.read() as db:
            assert [turn.id for turn in db.list(Turn)] == ["a" * 32]

    def test_a_reader_sees_one_moment(self, ledger: Ledger) -> None:
        _write(ledger, _turn(1))
        with ledger.read() as db:
            before = db.count(Turn)
            _write(ledger, _turn(2))
            assert db.count(Turn) == before
        with ledger.read() as db:
            assert db.count(Turn) == 2

    def test_a_reader_that_is_left_by_an_error_harms_nobody(self, ledger: Ledger) -> None:
        def leave() -> None:
            with ledger.read() as db:
                db.count(Turn)
                raise KeyError("the caller's own")

        for _ in range(20):
            with pytest.raises(KeyError):
                leave()
        _write(ledger, _turn(1))
        with ledger.read() as db:
            assert db.count(Turn) == 1

    def test_lists_are_newest_first_and_paged_by_key(self, ledger: Ledger) -> None:
        for number in (3, 1, 5, 2, 4):
            _write(ledger, _turn(number), _turn(number, loop="other"))
        with ledger.read() as db:
            newest = db.list(Turn, loop="churn")
            assert [turn.number for turn in newest] == [5, 4, 3, 2, 1]
            assert db.find(Turn, loop="churn") == newest[0]
            oldest = db.list(Turn, loop="churn", oldest_first=True, limit=2)
            assert [turn.number for turn in oldest] == [1, 2]
            pages, after = [], None
            while page := db.list(Turn, loop="churn", limit=2, after=after):
                pages.append([turn.number for turn in page])
                after = page[-1].number
            assert pages == [[5, 4], [3, 2], [1]]
            more = db.list(Turn, loop="churn", oldest_first=True, after=2)
            assert [turn.number for turn in more] == [3, 4, 5]
            assert db.list(Turn, loop="churn", limit=0) == []

    def test_of_records_made_at_the_same_time_the_last_is_the_newest(self, ledger: Ledger) -> None:
        for name in ("b", "a", "c"):
            _write(ledger, _entry(name))
        with ledger.read() as db:
            assert [entry.key for entry in db.list(CacheEntry)] == ["c", "a", "b"]
            newest = db.find(CacheEntry, loop="churn")
            assert newest is not None
            assert newest.key == "c"

    def test_times_sort_by_moment_whatever_their_zone(self, ledger: Ledger) -> None:
        east = timezone(timedelta(hours=9))
        _write(ledger, CacheEntry("early", "s", "l", START.astimezone(east), {}, {}, 0.0))
        _write(ledger, CacheEntry("late", "s", "l", START + timedelta(microseconds=1), {}, {}, 0.0))
        with ledger.read() as db:
            assert [entry.key for entry in db.list(CacheEntry)] == ["late", "early"]
            later = db.list(CacheEntry, oldest_first=True, after=START.astimezone(east))
            assert [entry.key for entry in later] == ["late"]

    def test_unknown_columns_and_kinds_are_refused(self, ledger: Ledger) -> None:
        with ledger.read() as db:
            with pytest.raises(TypeError):
                db.find(Turn, reason="because")
            with pytest.raises(TypeError):
                db.find(Turn, **{"id = id OR 1": 1})
            with pytest.raises(TypeError):
                db.count(Label)

    @pytest.mark.parametrize("name", HOSTILE_NAMES)
    def test_hostile_names_find_nothing(self, ledger: Ledger, name: str) -> None:
        _write(ledger, _turn(1))
        with ledger.read() as db:
            assert db.find(Turn, id=name) is None
            assert db.list(Turn, loop=name) == []
            assert db.count(Turn) == 1

    def test_numbers_of_any_size_can_be_looked_for(self, ledger: Ledger) -> None:
        _write(ledger, _turn(1))
        with ledger.read() as db:
            for number in (2**63, -(2**63) - 1, 10**40):
                assert db.find(Turn, number=number) is None
            assert len(db.list(Turn, after=10**40)) == 1

    def test_a_record_that_could_not_be_read_back_is_refused(self, ledger: Ledger) -> None:
        with pytest.raises(ValueError, match="read back"):
            _write(ledger, CacheEntry("a", "s", "l", START, {}, {}, float("nan")))
        with ledger.read() as db:
            assert db.count(CacheEntry) == 0

    def test_removed_records_are_gone(self, ledger: Ledger) -> None:
        _write(ledger, *(AliasRecord("churn", name, 1, START) for name in ("champion", "challenger")))
        removed = ledger.write(lambda tx: tx.remove(AliasRecord, loop="churn", alias="challenger", version=1))
        assert removed == 1
        assert ledger.write(lambda tx: tx.remove(AliasRecord, loop="churn", alias="challenger")) == 0
        with ledger.read() as db:
            assert [record.alias for record in db.list(AliasRecord)] == ["champion"]

    def test_the_audit_trail_is_a_chain(self, ledger: Ledger) -> None:
        _audit(ledger, 3)
        _audit(ledger, 2, ratio=float("nan"), when=START, nested={"a": [1, (2, 3)], 5: b"x"}, tiny=-0.0)
        with ledger.read() as db:
            trail = _trail(db)
            assert db.flaws(AuditEntry) == []
        assert [entry.number for entry in trail] == [1, 2, 3, 4, 5]
        assert [entry.previous for entry in trail] == ["", *(entry.digest for entry in trail[:-1])]

    def test_audit_entries_are_not_put_or_removed(self, ledger: Ledger) -> None:
        _audit(ledger, 1)
        with ledger.read() as db:
            entry = _trail(db)[0]
        with pytest.raises(TypeError):
            ledger.write(lambda tx: tx.put(entry))
        with pytest.raises(TypeError):
            ledger.write(lambda tx: tx.remove(AuditEntry, number=1))

    def test_threads_lose_no_write(self, ledger: Ledger) -> None:
        def add(place: int) -> None:
            def change(tx: Transaction) -> None:
                newest = tx.find(Turn, loop="churn")
                tx.put(_turn(newest.number + 1 if newest else 1))
                tx.audit(START, str(place), "ordered", "loop:churn")

            for _ in range(10):
                ledger.write(change)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(add, range(8)))
        with ledger.read() as db:
            assert [turn.number for turn in db.list(Turn, oldest_first=True)] == list(range(1, 81))
            trail = _trail(db)
        assert [entry.previous for entry in trail] == ["", *(entry.digest for entry in trail[:-1])]

    def test_two_openings_of_one_ledger_see_each_other(self, opened: Callable[[], Ledger]) -> None:
        with closing(opened()) as one, closing(opened()) as two:
            for number in range(1, 21):
                _write(one if number % 2 else two, _turn(number))
            for ledger in (one, two):
                with ledger.read() as db:
                    assert db.count(Turn) == 20

    def test_opening_at_the_same_time_works(self, opened: Callable[[], Ledger]) -> None:
        with ExitStack() as stack, ThreadPoolExecutor(6) as pool:
            ledgers = [stack.enter_context(closing(found)) for found in pool.map(lambda _: opened(), range(6))]
            _write(ledgers[0], _turn(1))
            with ledgers[5].read() as db:
                assert db.count(Turn) == 1

    def test_a_closed_ledger_says_so_and_closes_twice(self, opened: Callable[[], Ledger]) -> None:
        ledger = opened()
        _write(ledger, _turn(1))
        ledger.close()
        ledger.close()
        with pytest.raises(StoreError, match="closed"):
            _write(ledger, _turn(2))
        with pytest.raises(StoreError, match="closed"), ledger.read():
            pass

    def test_what_was_queued_before_closing_is_kept(self, opened: Callable[[], Ledger]) -> None:
        ledger = opened()
        kept = []

        def add(number: int) -> None:
            try:
                _write(ledger, _turn(number))
            except StoreError:
                return
            kept.append(number)

        with ThreadPoolExecutor(8) as pool:
            waiting = [pool.submit(add, number) for number in range(100)]
            ledger.close()
            for one in waiting:
                one.result()
        with closing(opened()) as again, again.read() as db:
            assert {turn.number for turn in db.list(Turn)} == set(kept)

    def test_a_change_must_not_write_by_itself(self, ledger: Ledger) -> None:
        with pytest.raises(RuntimeError):
            ledger.write(lambda tx: _write(ledger, _turn(1)))


class BlobsContract:
    """What a :class:`noria.store.ports.Blobs` owes. Fixture ``blobs``: an empty one."""

    @pytest.fixture
    def blobs(self) -> Blobs:
        """The blobs under test, empty."""
        raise NotImplementedError

    @pytest.mark.parametrize("data", [b"", b"x", b"\0\xff" * 100_000], ids=["empty", "one", "many"])
    def test_bytes_come_back_by_their_digest(self, blobs: Blobs, data: bytes) -> None:
        digest = blobs.put(data)
        assert digest == digest_bytes(data)
        assert blobs.get(digest) == data
        assert blobs.has(digest)

    def test_the_same_bytes_are_kept_once(self, blobs: Blobs) -> None:
        assert blobs.put(b"same") == blobs.put(b"same")
        assert len(list(blobs.digests())) == 1

    def test_every_digest_is_listed(self, blobs: Blobs) -> None:
        made = {blobs.put(str(number).encode()) for number in range(50)}
        assert set(blobs.digests()) == made

    def test_what_is_not_there_is_said(self, blobs: Blobs) -> None:
        digest = digest_bytes(b"never stored")
        assert not blobs.has(digest)
        with pytest.raises(NotFound):
            blobs.get(digest)

    @pytest.mark.parametrize("name", HOSTILE_NAMES)
    def test_names_that_are_no_digests_reach_nothing(self, blobs: Blobs, name: str) -> None:
        blobs.put(b"something")
        assert not blobs.has(name)
        with pytest.raises(NotFound):
            blobs.get(name)

    @pytest.mark.parametrize("sizes", [(), (0,), (1,), (3_000_000, 1, 0, 2_000_000)], ids=["none", "0", "1", "many"])
    def test_a_blob_written_in_pieces_is_the_same_blob(self, blobs: Blobs, sizes: tuple[int, ...]) -> None:
        pieces = [bytes([number]) * size for number, size in enumerate(sizes)]
        writer = blobs.writer()
        for piece in pieces:
            writer.write(piece)
        whole = b"".join(pieces)
        assert writer.commit() == (digest_bytes(whole), len(whole))
        writer.abort()
        assert blobs.get(digest_bytes(whole)) == whole
        assert blobs.size(digest_bytes(whole)) == len(whole)

    def test_a_blob_given_up_is_not_there(self, blobs: Blobs) -> None:
        writer = blobs.writer()
        writer.write(b"x" * 100_000)
        writer.abort()
        writer.abort()
        assert list(blobs.digests()) == []

    def test_nobody_sees_a_blob_before_it_is_committed(self, blobs: Blobs) -> None:
        writer = blobs.writer()
        writer.write(b"x" * 3_000_000)
        digest = digest_bytes(b"x" * 3_000_000)
        assert not blobs.has(digest)
        assert list(blobs.digests()) == []
        writer.commit()
        assert list(blobs.digests()) == [digest]

    def test_reading_in_pieces_and_ranges(self, blobs: Blobs) -> None:
        data = bytes(range(256)) * 20_000
        digest = blobs.put(data)
        for start, end in ((0, None), (0, 1), (5, 5), (100, 3_000_000), (5_119_999, None), (4_000_000, 9_999_999)):
            assert b"".join(blobs.read(digest, start, end)) == data[start:end]
        assert len(list(blobs.read(digest))) > 1
        for missing in (digest_bytes(b"never stored"), "../x"):
            with pytest.raises(NotFound):
                next(iter(blobs.read(missing)))
            with pytest.raises(NotFound):
                blobs.size(missing)

    def test_a_blob_is_removed_unless_it_was_stored_since(self, blobs: Blobs) -> None:
        digest = blobs.put(b"garbage")
        now = datetime.now(UTC)
        assert blobs.remove(digest, now - timedelta(days=1)) == 0
        assert blobs.has(digest)
        assert blobs.remove(digest, now + timedelta(days=1)) == 7
        assert not blobs.has(digest)
        assert blobs.remove(digest, now + timedelta(days=1)) == 0

    def test_threads_may_store_the_same_bytes_at_once(self, blobs: Blobs) -> None:
        with ThreadPoolExecutor(8) as pool:
            digests = set(pool.map(lambda n: blobs.put(b"%d" % (n % 4) * 1000), range(64)))
        assert set(blobs.digests()) == digests
        assert all(blobs.get(digest) for digest in digests)


def _prediction(key: str | None, value: object = 1, **more: object) -> Prediction:
    fields: dict[str, object] = {
        "id": new_id(),
        "loop": "churn",
        "at": START,
        "version": 1,
        "model_digest": "blake3:" + "0" * 64,
        "role": "champion",
        "record": {"key": key},
        "value": value,
        "key": key,
    }
    return Prediction(**(fields | more))  # type: ignore[arg-type]  # fields by name


def _label(key: str | None, value: object, **more: object) -> Label:
    fields: dict[str, object] = {"loop": "churn", "at": START, "value": value, "key": key}
    return Label(**(fields | more))  # type: ignore[arg-type]  # fields by name


class PredictionLogContract:
    """What a :class:`noria.store.ports.PredictionLog` owes. Fixture ``log``: an empty one."""

    @pytest.fixture
    def log(self) -> PredictionLog:
        """The log under test, empty."""
        raise NotImplementedError

    def test_a_prediction_is_found_by_its_id(self, log: PredictionLog) -> None:
        made = _prediction("a", {"nested": [1, None]}, probabilities=[0.25, 0.75], latency_us=3)
        log.append([made])
        assert log.find(made.id) == (made, None)

    @pytest.mark.parametrize("name", HOSTILE_NAMES)
    def test_an_unknown_id_is_said(self, log: PredictionLog, name: str) -> None:
        with pytest.raises(NotFound):
            log.find(name)

    def test_predictions_come_in_order_of_arrival_and_by_pages(self, log: PredictionLog) -> None:
        made = [_prediction(str(number), number, version=number % 2 + 1) for number in range(25)]
        for start in range(0, 25, 5):
            log.append(made[start : start + 5])
        found, after = [], 0
        while page := log.predictions("churn", after=after, limit=7):
            found += [one for _, one in page]
            after = page[-1][0]
        assert found == made
        assert [one for _, one in log.predictions("churn", version=2)] == made[1::2]
        assert log.predictions("other") == []

    def test_the_newest_come_first_by_pages_with_their_labels(self, log: PredictionLog) -> None:
        made = [_prediction(str(number % 5), number) for number in range(23)]
        failed, shadow = _prediction("2", None, error="no"), _prediction("2", role="shadow", answered=1)
        for start in range(0, 23, 5):
            log.append([*made[start : start + 5], _prediction("x", loop="other")])
        log.append([failed, shadow])
        log.label([_label(None, 0, prediction=made[7].id), _label(None, 1, prediction=made[7].id), _label("4", 0)])
        found, before = [], None
        while page := log.recent("churn", before=before, limit=7):
            found += [(one, label.value if label else None) for _, one, label in page]
            before = page[-1][0]
        labels = {made[7].id: 1, made[19].id: 0}
        assert found == [(one, labels.get(one.id)) for one in (shadow, failed, *reversed(made))]
        assert log.recent("nothing") == []

    def test_the_newest_of_a_key(self, log: PredictionLog) -> None:
        made = [_prediction(str(number % 5), number) for number in range(23)]
        log.append([*made, _prediction("2", None, error="no"), _prediction("2", loop="other")])
        log.label([_label("2", 0)])
        (first, newest, label), (second, older, none) = log.recent("churn", key="2", limit=2)
        assert (newest, older, first > second) == (made[22], made[17], True)
        assert (label.value if label else None, none) == (0, None)
        assert [one for _, one, _ in log.recent("churn", key="2", before=second)] == [made[12], made[7], made[2]]
        for key in HOSTILE_NAMES:
            assert log.recent("churn", key=key) == []

    def test_a_batch_with_an_id_that_is_there_is_refused_whole(self, log: PredictionLog) -> None:
        first = _prediction("a")
        log.append([first])
        with pytest.raises(Conflict):
            log.append([_prediction("b"), first])
        assert [one for _, one in log.predictions("churn")] == [first]

    def test_a_label_meets_its_prediction_by_key_and_by_id(self, log: PredictionLog) -> None:
        by_key, by_id = _prediction("a"), _prediction(None)
        log.append([by_key, by_id])
        receipt = log.label([_label("a", 0), _label(None, 1, prediction=by_id.id), _label("z", 1)])
        assert (receipt.received, receipt.matched, receipt.unmatched) == (3, 2, ("z",))
        found = {one.prediction.id: one.value for one in log.labelled("churn")}
        assert found == {by_key.id: 0, by_id.id: 1}
        label = log.find(by_id.id)[1]
        assert label is not None
        assert label.value == 1

    def test_a_label_by_key_belongs_to_the_newest_prediction_of_its_loop(self, log: PredictionLog) -> None:
        old, new = _prediction("a", "old"), _prediction("a", "new")
        log.append([old])
        log.append([new])
        log.append([_prediction("a", loop="other")])
        log.label([_label("a", 1)])
        assert [one.prediction for one in log.labelled("churn")] == [new]
        assert log.labelled("other") == []

    def test_a_label_may_come_before_its_prediction(self, log: PredictionLog) -> None:
        made = _prediction("a", id="f" * 32)
        early = log.label([_label("a", 0), _label(None, 5, prediction="e" * 32)])
        assert early.matched == 0
        seen = log.labelled("churn")
        assert seen == []
        log.append([_prediction("b")])
        log.append([made, _prediction(None, id="e" * 32)])
        assert {one.prediction.id: one.value for one in log.labelled("churn")} == {"f" * 32: 0, "e" * 32: 5}

    def test_a_label_that_waited_is_seen_by_whoever_has_read_past_it(self, log: PredictionLog) -> None:
        log.append([_prediction("b")])
        log.label([_label("a", 0), _label("b", 1)])
        cursor = log.labelled("churn")[-1].label_sequence
        log.append([_prediction("a")])
        assert [one.value for one in log.labelled("churn", after=cursor)] == [0]

    def test_a_corrected_label_replaces_the_earlier_one(self, log: PredictionLog) -> None:
        made = _prediction("a")
        log.append([made])
        log.label([_label("a", 0)])
        first = log.labelled("churn")
        log.label([_label("a", 1)])
        assert [one.value for one in log.labelled("churn")] == [1]
        assert [one.value for one in log.labelled("churn", after=first[-1].label_sequence)] == [1]
        label = log.find(made.id)[1]
        assert label is not None
        assert label.value == 1

    def test_of_labels_that_waited_the_last_counts(self, log: PredictionLog) -> None:
        for value in (0, 1, 2):
            log.label([_label("a", value)])
        log.append([_prediction("a")])
        assert [one.value for one in log.labelled("churn")] == [2]

    def test_a_failed_prediction_takes_no_label(self, log: PredictionLog) -> None:
        failed = _prediction("a", None, error="The model failed.")
        log.append([failed])
        receipt = log.label([_label("a", 1), _label(None, 1, prediction=failed.id)])
        assert receipt.matched == 0
        assert log.labelled("churn") == []
        assert log.predictions("churn") == []
        assert log.find(failed.id)[0] == failed

    def test_a_labels_target_is_known_without_the_label(self, log: PredictionLog) -> None:
        old, new, other = _prediction("a"), _prediction("a"), _prediction("b", loop="other")
        failed = _prediction("c", None, error="no")
        log.append([old, new, other, failed])
        asked = [_label("a", 0), _label(None, 0, prediction=old.id), _label(None, 0, prediction=other.id)]
        asked += [_label("b", 0, loop="other"), _label("c", 0), _label("z", 0)]
        assert log.targets(asked) == [new, old, None, other, None, None]
        assert log.targets([]) == []
        assert log.labelled("churn") == []

    def test_keys_whose_newest_prediction_waits_for_its_label_are_told(self, log: PredictionLog) -> None:
        log.append([_prediction("a"), _prediction("b"), _prediction("c", None, error="no")])
        log.append([_prediction("d", loop="other"), *(_prediction(f"many-{number}") for number in range(1200))])
        log.label([_label("a", 1), _label("b", 1), _label("many-7", 1), _label("early", 1)])
        log.append([_prediction("b")])
        many = {f"many-{number}" for number in range(1200)}
        keys = ["a", "b", "c", "d", "z", "", *many]
        assert log.unlabelled("churn", keys) == {"b", *many} - {"many-7"}
        assert log.unlabelled("other", keys) == {"d"}
        assert log.unlabelled("churn", []) == set()

    def test_labelled_is_narrowed_by_version_time_and_limit(self, log: PredictionLog) -> None:
        log.append([_prediction(str(number), version=number % 2) for number in range(6)])
        log.label([_label(str(number), number, at=START + timedelta(hours=number)) for number in range(6)])
        assert [one.value for one in log.labelled("churn", version=1)] == [1, 3, 5]
        assert [one.value for one in log.labelled("churn", since=START + timedelta(hours=4))] == [4, 5]
        assert [one.value for one in log.labelled("churn", limit=2)] == [0, 1]
        assert len(log.labelled("churn", limit=None)) == 6

    def test_counts_are_of_predictions_errors_and_labels(self, log: PredictionLog) -> None:
        late = START + timedelta(hours=1)
        log.append([_prediction(str(number), at=late) for number in range(4)])
        log.append([_prediction("x", None, error="no", at=late, version=2), _prediction("early")])
        log.label([_label("0", 1), _label("0", 2), _label("early", 1)])
        assert log.counts("churn", late) == (5, 1, 1)
        assert log.counts("churn", START) == (6, 1, 2)
        assert log.counts("churn", late, version=2) == (1, 1, 0)
        assert log.counts("nothing", START) == (0, 0, 0)

    def test_nothing_is_a_batch_too(self, log: PredictionLog) -> None:
        log.append([])
        assert log.label([]).received == 0

    def test_threads_lose_nothing(self, log: PredictionLog) -> None:
        def add(place: int) -> None:
            for number in range(10):
                log.append([_prediction(f"{place}/{number}")])
                log.label([_label(f"{place}/{number}", place)])

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(add, range(6)))
        assert len(log.predictions("churn")) == 60
        assert {one.prediction.key: one.value for one in log.labelled("churn")} == {
            f"{place}/{number}": place for place in range(6) for number in range(10)
        }
