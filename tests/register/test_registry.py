"""Registered models: numbers are never given twice, aliases follow, every change is audited, loops keep their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from noria.errors import Conflict, Denied, NotFound, RequestError
from noria.records import AuditEntry, ModelVersion, Stage
from noria.records.registry import RegisteredVersion
from noria.register import registry
from noria.store.ports import AliasRecord, Ledger, LoopRecord, Transaction
from noria.store.sqlite import open_ledger

NOW = datetime(2024, 1, 1, tzinfo=UTC)
WHO: Any = {"now": NOW, "by": "ann"}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with closing(open_ledger(tmp_path / "ledger.db")) as found:
        yield found


def add(ledger: Ledger, name: str = "churn") -> int:
    """A new version's number."""
    return ledger.write(lambda tx: registry.create_version(tx, name, source="s3://b", location="s3://b", **WHO)).version


@pytest.fixture
def model(ledger: Ledger) -> str:
    ledger.write(lambda tx: registry.create_model(tx, "churn", tags={"team": "a"}, **WHO))
    return "churn"


def aliases(ledger: Ledger, name: str) -> dict[str, int]:
    with ledger.read() as db:
        return registry.aliases(db, name)


def test_numbers_are_dense_and_never_given_twice(ledger: Ledger, model: str) -> None:
    assert [add(ledger), add(ledger), add(ledger)] == [1, 2, 3]
    ledger.write(lambda tx: registry.delete_version(tx, model, 3, **WHO))
    assert add(ledger) == 4
    with ledger.read() as db:
        assert [one.version for one in registry.versions(db, name=model)] == [4, 2, 1]


def test_a_deleted_version_takes_its_aliases_along(ledger: Ledger, model: str) -> None:
    add(ledger)
    add(ledger)
    ledger.write(lambda tx: registry.set_alias(tx, model, "best", 1, **WHO))
    ledger.write(lambda tx: registry.set_alias(tx, model, "other", 2, **WHO))
    ledger.write(lambda tx: registry.set_alias(tx, model, "best", 2, **WHO))
    assert aliases(ledger, model) == {"best": 2, "other": 2}
    ledger.write(lambda tx: registry.delete_version(tx, model, 2, **WHO))
    assert aliases(ledger, model) == {}


def test_latest_is_the_newest_version_and_no_other_alias_may_be_called_so(ledger: Ledger, model: str) -> None:
    add(ledger)
    add(ledger)
    with ledger.read() as db:
        newest = registry.of_alias(db, model, "Latest")
        assert newest is not None
        assert newest.version == 2
        assert registry.of_alias(db, model, "absent") is None
    for alias in ("latest", "LATEST", "v3", "V12", "", "a b", "a/b", "é", "x" * 256):
        with pytest.raises(RequestError):
            ledger.write(partial(registry.set_alias, name=model, alias=alias, number=1, **WHO))


def test_renaming_takes_all_along(ledger: Ledger, model: str) -> None:
    add(ledger)
    ledger.write(lambda tx: registry.set_alias(tx, model, "best", 1, **WHO))
    ledger.write(lambda tx: registry.rename_model(tx, model, "leaving", **WHO))
    with ledger.read() as db:
        assert [kept.name for kept in registry.models(db)] == ["leaving"]
        assert registry.model(db, "leaving").tags == {"team": "a"}
        assert [(one.name, one.version) for one in registry.versions(db)] == [("leaving", 1)]
        with pytest.raises(NotFound, match="Registered Model with name=churn not found"):
            registry.model(db, model)
    assert aliases(ledger, "leaving") == {"best": 1}
    assert add(ledger, "leaving") == 2


def test_stages(ledger: Ledger, model: str) -> None:
    for _ in range(3):
        add(ledger)
    ledger.write(lambda tx: registry.set_stage(tx, model, 1, "production", **WHO))
    ledger.write(lambda tx: registry.set_stage(tx, model, 2, "Production", archive=True, **WHO))
    with ledger.read() as db:
        assert {one.stage: one.version for one in registry.latest(db, model)} == {
            "Archived": 1,
            "Production": 2,
            "None": 3,
        }
        assert [one.version for one in registry.latest(db, model, ["production"])] == [2]
    with pytest.raises(RequestError, match="Invalid Model Version stage"):
        ledger.write(lambda tx: registry.set_stage(tx, model, 1, "live", **WHO))
    with pytest.raises(RequestError, match="not an Active stage"):
        ledger.write(lambda tx: registry.set_stage(tx, model, 1, "Archived", archive=True, **WHO))


CHANGES: dict[str, Callable[[Transaction], object]] = {
    "model registered": lambda tx: registry.create_model(tx, "new", **WHO),
    "model described": lambda tx: registry.update_model(tx, "churn", "better", **WHO),
    "model renamed": lambda tx: registry.rename_model(tx, "churn", "leaving", **WHO),
    "model tagged": lambda tx: registry.tag_model(tx, "churn", "k", "v", **WHO),
    "model deleted": lambda tx: registry.delete_model(tx, "churn", **WHO),
    "version registered": lambda tx: registry.create_version(tx, "churn", source="s", location="s", **WHO),
    "version described": lambda tx: registry.update_version(tx, "churn", 1, "better", **WHO),
    "version moved": lambda tx: registry.set_stage(tx, "churn", 1, "Staging", **WHO),
    "version tagged": lambda tx: registry.tag_version(tx, "churn", 1, "k", None, **WHO),
    "version deleted": lambda tx: registry.delete_version(tx, "churn", 1, **WHO),
    "alias set": lambda tx: registry.set_alias(tx, "churn", "best", 1, **WHO),
    "alias deleted": lambda tx: registry.delete_alias(tx, "churn", "old", **WHO),
}


@pytest.mark.parametrize("action", CHANGES)
def test_every_change_is_audited_with_it(ledger: Ledger, model: str, action: str) -> None:
    add(ledger)
    ledger.write(lambda tx: registry.set_alias(tx, model, "old", 1, **WHO))
    with ledger.read() as db:
        before = db.count(AuditEntry)

    def fails(tx: Transaction) -> None:
        CHANGES[action](tx)
        raise RuntimeError

    with suppress(RuntimeError):
        ledger.write(fails)
    with ledger.read() as db:
        assert db.count(AuditEntry) == before
    ledger.write(CHANGES[action])
    with ledger.read() as db:
        newest = db.find(AuditEntry)
        assert newest is not None
        assert (db.count(AuditEntry), newest.action, newest.actor) == (before + 1, action, "ann")
        assert newest.subject.startswith("model:")


@pytest.mark.parametrize(
    "name",
    ["", "  ", "a/b", "a:b", ".", "..", "x\0y", "a\nb", "a\u202eb", "x" * 257, "\ud800"],
)
def test_hostile_names(ledger: Ledger, name: str) -> None:
    with pytest.raises(RequestError):
        ledger.write(lambda tx: registry.create_model(tx, name, **WHO))
    with ledger.read() as db, pytest.raises(RequestError):
        registry.model(db, name)


@pytest.mark.parametrize("name", ["modèle", "نموذج", "a b", "%2e%2e", "back\\slash", "x" * 256, "'; DROP TABLE models"])
def test_odd_names_that_are_names(ledger: Ledger, name: str) -> None:
    ledger.write(lambda tx: registry.create_model(tx, name, **WHO))
    with ledger.read() as db:
        assert registry.model(db, name).name == name


def test_a_taken_name(ledger: Ledger, model: str) -> None:
    with pytest.raises(Conflict, match="already exists"):
        ledger.write(lambda tx: registry.create_model(tx, model, **WHO))
    ledger.write(lambda tx: registry.create_model(tx, "other", **WHO))
    with pytest.raises(Conflict, match="already exists"):
        ledger.write(lambda tx: registry.rename_model(tx, "other", model, **WHO))


@pytest.fixture
def loop(ledger: Ledger) -> str:
    """A loop with two versions, one of them champion."""

    def change(tx: Transaction) -> None:
        tx.put(LoopRecord("arrivals", "loop.py", {}, "d", NOW, NOW))
        for number, stage in ((1, Stage.retired), (2, Stage.champion)):
            tx.put(ModelVersion("arrivals", number, NOW, f"run{number}", "b", "d", "r", stage))
        tx.put(AliasRecord("arrivals", "champion", 2, NOW))

    ledger.write(change)
    return "arrivals"


def test_a_loops_model_is_shown(ledger: Ledger, model: str, loop: str) -> None:
    add(ledger)
    with ledger.read() as db:
        assert [kept.name for kept in registry.models(db)] == [loop, model]
        champion = registry.of_alias(db, loop, "champion")
        assert champion is not None
        assert (champion.version, champion.stage, champion.run) == (2, "Production", "run2")
        assert {one.stage: one.version for one in registry.latest(db, loop)} == {"Archived": 1, "Production": 2}
        assert [one.version for one in registry.versions(db, run="run1")] == [1]
        assert len(registry.versions(db)) == 3


@pytest.mark.parametrize("action", [name for name in CHANGES if name != "model registered"])
def test_a_loops_model_is_never_changed_here(ledger: Ledger, action: str) -> None:
    def change(tx: Transaction) -> None:
        tx.put(LoopRecord("churn", "loop.py", {}, "d", NOW, NOW))
        tx.put(ModelVersion("churn", 1, NOW, "run", "b", "d", "r", Stage.champion))

    ledger.write(change)
    with pytest.raises(Denied, match="gates and approvals"):
        ledger.write(CHANGES[action])
    with ledger.read() as db:
        assert (db.count(RegisteredVersion), db.count(AuditEntry)) == (0, 0)


def test_a_loops_name_is_taken(ledger: Ledger, model: str, loop: str) -> None:
    with pytest.raises(Conflict, match="already exists"):
        ledger.write(lambda tx: registry.create_model(tx, loop, **WHO))
    with pytest.raises(Conflict, match="already exists"):
        ledger.write(lambda tx: registry.rename_model(tx, model, loop, **WHO))
