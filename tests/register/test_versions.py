"""Versions are dense, one is champion, and none becomes it that may not."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.core.hashing import digest_json
from noria.core.ids import new_id
from noria.errors import Conflict, NotFound
from noria.records import (
    Artifact,
    AuditEntry,
    GateResult,
    ModelVersion,
    Outcome,
    Run,
    Stage,
    ValidationReport,
)
from noria.register import alias, champion, decide, move, promote, register, version
from noria.store.ports import AliasRecord, Ledger, Transaction
from noria.store.sqlite import open_ledger

NOW = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with closing(open_ledger(tmp_path / "ledger.db")) as found:
        yield found


def add(ledger: Ledger, stage: Stage = Stage.candidate, outcome: Outcome = Outcome.passed, loop: str = "churn") -> int:
    name = new_id()
    files = (Artifact("bundle.json", "b", 1), Artifact("model.skops", name, 5), Artifact("code/l.py", "c", 1))
    run = Run(name, loop, "turn", "finished", NOW, bundle=f"blake3:{name}", artifacts=files)
    results = (GateResult('AtLeast("roc_auc", 0.8)', outcome, "because"),)
    report = ValidationReport(new_id(), loop, name, "turn", NOW, results)

    def change(tx: Transaction) -> ModelVersion:
        tx.put(report)
        return register(tx, run, report, NOW, stage=stage, reason="test")

    made = ledger.write(change)
    assert made.model_digest == digest_json({"model.skops": name})
    return made.version


def make_champion(ledger: Ledger, number: int) -> ModelVersion:
    return ledger.write(lambda tx: promote(tx, "churn", number, NOW, "test"))


def stages(ledger: Ledger) -> list[Stage]:
    with ledger.read() as db:
        return [one.stage for one in db.list(ModelVersion, loop="churn", oldest_first=True)]


def test_versions_count_from_one_for_each_loop(ledger: Ledger) -> None:
    assert [add(ledger), add(ledger, loop="other"), add(ledger), add(ledger, loop="other")] == [1, 1, 2, 2]


def test_versions_are_dense_whoever_registers(ledger: Ledger) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(lambda _: add(ledger), range(24))) == list(range(1, 25))


@pytest.mark.parametrize("outcome", [Outcome.failed, Outcome.inconclusive])
def test_what_did_not_pass_is_registered_as_rejected_only(ledger: Ledger, outcome: Outcome) -> None:
    for stage in set(Stage) - {Stage.rejected}:
        with pytest.raises(Conflict, match="did not pass"):
            add(ledger, stage, outcome)
    number = add(ledger, Stage.rejected, outcome)
    assert number == 1
    with pytest.raises(Conflict, match="did not pass"):
        make_champion(ledger, number)
    with ledger.read() as db:
        assert champion(db, "churn") is None
        assert alias(db, "churn", "challenger") is None


@pytest.mark.parametrize("stage", [Stage.rejected, Stage.awaiting_approval])
def test_a_rejected_or_waiting_version_is_not_promoted(ledger: Ledger, stage: Stage) -> None:
    number = add(ledger)
    ledger.write(lambda tx: move(tx, "churn", number, stage, "test"))
    with pytest.raises(Conflict, match=stage.value):
        make_champion(ledger, number)
    assert stages(ledger) == [stage]


def test_nothing_but_promoting_makes_a_champion(ledger: Ledger) -> None:
    number = add(ledger)
    with pytest.raises(Conflict, match="promote"):
        ledger.write(lambda tx: move(tx, "churn", number, Stage.champion, "test"))


def test_the_former_champion_retires(ledger: Ledger) -> None:
    for number in (add(ledger), add(ledger)):
        make_champion(ledger, number)
    assert stages(ledger) == [Stage.retired, Stage.champion]
    with ledger.read() as db:
        found = champion(db, "churn")
        assert found is not None
        assert found.version == 2
        assert alias(db, "churn", "challenger") is None


def test_an_unknown_version_says_which_there_are(ledger: Ledger) -> None:
    with ledger.read() as db, pytest.raises(NotFound, match="no versions yet"):
        version(db, "churn", 1)
    add(ledger)
    with ledger.read() as db, pytest.raises(NotFound, match="versions 1 to 1"):
        version(db, "churn", 10**30)


@pytest.mark.parametrize("approved", [True, False])
def test_a_decision_is_made_once_and_audited(ledger: Ledger, approved: bool) -> None:
    number = add(ledger)
    with pytest.raises(Conflict, match="awaits no decision"):
        decide(ledger, "churn", number, approved=approved, by="ann", role="risk", now=NOW)
    ledger.write(lambda tx: move(tx, "churn", number, Stage.awaiting_approval, "test"))
    decided = decide(ledger, "churn", number, approved=approved, by="ann", role="risk", now=NOW, comment="fine")
    assert decided.decision is not None
    assert decided.decision.approved is approved
    with pytest.raises(Conflict, match=r"already (approved|rejected) by ann"):
        decide(ledger, "churn", number, approved=not approved, by="bob", role="risk", now=NOW)
    with pytest.raises(NotFound):
        decide(ledger, "churn", 99, approved=True, by="ann", role="risk", now=NOW)
    with ledger.read() as db:
        (entry,) = db.list(AuditEntry)
        assert (entry.actor, entry.subject) == ("ann", f"model:churn/{number}")


def test_of_two_people_deciding_at_once_one_is_told(ledger: Ledger) -> None:
    number = add(ledger)
    ledger.write(lambda tx: move(tx, "churn", number, Stage.awaiting_approval, "test"))

    def say(who: int) -> bool:
        with suppress(Conflict):
            decide(ledger, "churn", number, approved=bool(who % 2), by=str(who), role="risk", now=NOW)
            return True
        return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(say, range(8))) == 1


moves = st.tuples(st.sampled_from(["add", "fail", "promote", "move"]), st.integers(1, 4), st.sampled_from(list(Stage)))


@settings(max_examples=40, deadline=None)
@given(st.lists(moves, max_size=15))
def test_whatever_is_tried_there_is_one_champion_at_most_and_it_passed(
    steps: list[tuple[str, int, Stage]],
) -> None:
    with TemporaryDirectory() as folder, closing(open_ledger(Path(folder) / "ledger.db")) as ledger:
        for what, number, stage in steps:
            with suppress(Conflict, NotFound):
                if what == "add":
                    add(ledger)
                elif what == "fail":
                    add(ledger, Stage.rejected, Outcome.failed)
                elif what == "promote":
                    make_champion(ledger, number)
                else:
                    ledger.write(lambda tx, n=number, s=stage: move(tx, "churn", n, s, "test"))  # type: ignore[misc]
            with ledger.read() as db:
                found = db.list(ModelVersion, loop="churn", oldest_first=True)
                assert [one.version for one in found] == list(range(1, len(found) + 1))
                champions = [one for one in found if one.stage is Stage.champion]
                assert len(champions) <= 1
                assert len(db.list(AliasRecord, loop="churn", alias="champion")) <= 1
                for one in champions:
                    report = db.find(ValidationReport, id=one.report)
                    assert report is not None
                    assert report.passed
                    assert champion(db, "churn") == one
