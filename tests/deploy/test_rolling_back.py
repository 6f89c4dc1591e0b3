"""Going back: to the champion alone while another is on its way, else to the champion before."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from noria.deploy.rollout import (
    SHADOW_STEP,
    current,
    former_champions,
    roll_back,
    serve_only,
    start_canary,
    start_shadow,
)
from noria.errors import Conflict, NotFound
from noria.govern import verify
from noria.records import Alert, AuditEntry, Deployment, ModelVersion, Stage
from noria.register import champion, version
from noria.store import Store, open_store
from noria.store.ports import AliasRecord, Transaction

NOW = datetime(2024, 5, 1, tzinfo=UTC)
WHY = "Version keeps crashing: exit status -11."


def made(number: int, stage: Stage) -> ModelVersion:
    return ModelVersion("churn", number, NOW, f"run{number}", f"blake3:{number}", "blake3:m", f"report{number}", stage)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path)
    yield opened
    opened.close()


def champions(store: Store, count: int) -> None:
    """Versions 1 to ``count``, each champion in its turn."""

    def change(tx: Transaction) -> None:
        for number in range(1, count + 1):
            one = made(number, Stage.champion if number == count else Stage.retired)
            tx.put(one)
            tx.put(AliasRecord("churn", "champion", number, NOW))
            serve_only(tx, one, NOW, None)

    store.ledger.write(change)


def beside(store: Store, number: int, shadow: bool) -> None:
    def change(tx: Transaction) -> None:
        one = made(number, Stage.challenger)
        tx.put(one)
        tx.put(AliasRecord("churn", "challenger", number, NOW))
        serving = champion(tx, "churn")
        assert serving is not None
        if shadow:
            start_shadow(tx, serving, one, NOW, "t")
        else:
            start_canary(tx, serving, one, 25.0, 1, NOW, "t")

    store.ledger.write(change)


def back(store: Store, **more: Any) -> Deployment:
    return store.ledger.write(lambda tx: roll_back(tx, "churn", NOW, WHY, **more))


def stages(store: Store) -> dict[int, Stage]:
    with store.ledger.read() as db:
        return {one.version: one.stage for one in db.list(ModelVersion)}


def serving(store: Store) -> list[tuple[int, str, float]]:
    with store.ledger.read() as db:
        found, alias = current(db, "churn"), champion(db, "churn")
        assert found is not None
        assert alias is not None
        assert alias.version == found.routes[0].version
        return [(route.version, route.role, route.percent) for route in found.routes]


def test_a_shadow_takes_no_share_of_the_traffic(store: Store) -> None:
    champions(store, 1)
    beside(store, 2, shadow=True)
    assert serving(store) == [(1, "champion", 100.0), (2, "shadow", 100.0)]
    with store.ledger.read() as db:
        found = current(db, "churn")
    assert found is not None
    assert found.step == SHADOW_STEP


def test_the_champion_before_serves_again_with_audit_entry_and_alert(store: Store) -> None:
    champions(store, 2)
    assert back(store, version=2).routes[0].version == 1
    assert serving(store) == [(1, "champion", 100.0)]
    assert stages(store) == {1: Stage.champion, 2: Stage.rejected}
    with store.ledger.read() as db:
        assert version(db, "churn", 2).reason == f"rolled back: {WHY}"
        (alert,) = db.list(Alert)
        (entry,) = db.list(AuditEntry)
        assert verify(db).problems == ()
    assert (alert.kind, alert.severity, alert.version) == ("serving", "alarm", 2)
    assert alert.sentence == f"Version 2 was rolled back and version 1 serves: {WHY}"
    assert (entry.actor, entry.action, entry.subject) == ("server", "version rolled back", "model:churn/2")
    assert entry.facts["to"] == 1


def test_going_back_twice_goes_further_back_and_never_to_what_was_taken_out(store: Store) -> None:
    champions(store, 3)
    back(store)
    assert serving(store) == [(2, "champion", 100.0)]
    back(store)
    assert serving(store) == [(1, "champion", 100.0)]
    with pytest.raises(Conflict, match=r"Version 1 of 'churn' has no former champion .* Rolled back before: 2, 3\."):
        back(store)
    assert serving(store) == [(1, "champion", 100.0)]


def test_there_may_be_nothing_to_go_back_to(store: Store) -> None:
    with pytest.raises(NotFound, match="Nothing of 'churn' is deployed"):
        back(store)
    champions(store, 1)
    with pytest.raises(Conflict, match="Version 1 of 'churn' has no former champion to go back to"):
        back(store)
    with store.ledger.read() as db:
        assert db.list(Alert) == []
        assert db.list(AuditEntry) == []


@pytest.mark.parametrize("shadow", [True, False])
@pytest.mark.parametrize("more", [{}, {"version": 3}, {"to": 2}])
def test_what_is_on_its_way_is_taken_out_first(store: Store, shadow: bool, more: dict[str, int]) -> None:
    champions(store, 2)
    beside(store, 3, shadow)
    back(store, **more)
    assert serving(store) == [(2, "champion", 100.0)]
    assert stages(store) == {1: Stage.retired, 2: Stage.champion, 3: Stage.rejected}
    with store.ledger.read() as db:
        assert db.find(AliasRecord, loop="churn", alias="challenger") is None


@pytest.mark.parametrize("shadow", [True, False])
def test_a_champion_that_crashes_during_a_canary_ends_the_canary_too(store: Store, shadow: bool) -> None:
    champions(store, 2)
    beside(store, 3, shadow)
    back(store, version=2)
    assert serving(store) == [(1, "champion", 100.0)]
    assert stages(store) == {1: Stage.champion, 2: Stage.rejected, 3: Stage.rejected}
    with store.ledger.read() as db:
        assert version(db, "churn", 3).reason == "rolled back: version 1 was put back in service"


def test_every_server_may_report_the_same_crash(store: Store) -> None:
    champions(store, 3)
    first = back(store, version=3)
    assert back(store, version=3) == first
    with store.ledger.read() as db:
        assert len(db.list(Alert)) == 1


def test_a_person_may_name_the_former_champion_even_one_that_was_taken_out(store: Store) -> None:
    champions(store, 3)
    back(store, to=1, by="ann")
    assert serving(store) == [(1, "champion", 100.0)]
    back(store, to=3, by="ann")
    assert stages(store) == {1: Stage.rejected, 2: Stage.retired, 3: Stage.champion}
    with store.ledger.read() as db:
        assert {alert.severity for alert in db.list(Alert)} == {"warning"}
        assert former_champions(db, "churn") == [1, 2]


def test_only_a_former_champion_can_be_put_back(store: Store) -> None:
    champions(store, 2)
    store.ledger.write(lambda tx: tx.put(made(3, Stage.rejected)))
    for to, error, said in (
        (2, Conflict, "Version 2 of 'churn' serves already"),
        (3, Conflict, "Version 3 of 'churn' was never champion, so it cannot be put back; these were: 1"),
        (9, NotFound, "no version 9; it has versions 1 to 3"),
    ):
        with pytest.raises(error, match=said):
            back(store, to=to)
    assert stages(store)[2] is Stage.champion
