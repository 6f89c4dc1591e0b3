"""``noria rollback``: back to the champion before, or to the one named, with a word on what it did."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from noria.cli.rolling_back import roll_back_to
from noria.deploy.rollout import current, serve_only, start_shadow
from noria.errors import Conflict
from noria.records import AuditEntry, ModelVersion, Stage
from noria.store import open_store
from noria.store.ports import AliasRecord, LoopRecord, Transaction

NOW = datetime(2024, 5, 1, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Versions 1 and 2 served one after the other; 3 is a shadow."""
    store = open_store(tmp_path)

    def change(tx: Transaction) -> None:
        tx.put(LoopRecord("churn", "loop.py", {}, "blake3:0", NOW, NOW))
        stages = (Stage.retired, Stage.champion, Stage.challenger)
        made = [
            ModelVersion("churn", number, NOW, f"run{number}", f"blake3:{number}", "blake3:m", f"report{number}", stage)
            for number, stage in enumerate(stages, 1)
        ]
        for one in made:
            tx.put(one)
        serve_only(tx, made[0], NOW, None)
        serve_only(tx, made[1], NOW, None)
        start_shadow(tx, made[1], made[2], NOW, "turn")
        tx.put(AliasRecord("churn", "champion", 2, NOW))

    store.ledger.write(change)
    store.close()
    return tmp_path


def test_it_takes_back_what_is_on_its_way_then_goes_to_the_champion_before(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    roll_back_to(folder, None, None, by="ann", comment="")
    assert capsys.readouterr().out.startswith(
        "Version 2 of 'churn' serves all traffic; version 3 was taken out.\nRunning servers follow by themselves."
    )
    roll_back_to(folder, None, None, by="ann", comment="the orders broke")
    assert capsys.readouterr().out.startswith("Version 1 of 'churn' serves all traffic; version 2 was taken out.")
    with pytest.raises(Conflict, match="Version 1 of 'churn' has no former champion to go back to"):
        roll_back_to(folder, None, None, by="ann", comment="")
    store = open_store(folder)
    with store.ledger.read() as db:
        found = current(db, "churn")
        entries = db.list(AuditEntry, oldest_first=True)
    store.close()
    assert found is not None
    assert [route.version for route in found.routes] == [1]
    assert [(entry.actor, entry.facts["reason"]) for entry in entries] == [
        ("ann", "asked for by ann."),
        ("ann", "the orders broke"),
    ]


def test_it_goes_to_the_version_named_past_what_is_on_its_way(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    roll_back_to(folder, "churn", 1, by="ann", comment="")
    said = capsys.readouterr().out
    assert said.startswith("Version 1 of 'churn' serves all traffic; version 2 and version 3 were taken out.")
