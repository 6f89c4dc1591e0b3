"""No change of the trail goes unnoticed."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from noria.errors import NotFound
from noria.govern import explain, verify
from noria.store import Store, open_store
from noria.store.ports import Transaction
from noria.store.sql.ledger import SqlLedger
from noria.store.sqlite import open_ledger

START = datetime(2024, 1, 1, tzinfo=UTC)
ENTRIES = 12


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(open_store(tmp_path)) as found:
        yield found


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqlLedger]:
    with closing(open_ledger(tmp_path / "ledger.db")) as found:

        def change(tx: Transaction) -> None:
            for number in range(ENTRIES):
                at = START + timedelta(seconds=number)
                facts: dict[str, Any] = {"ratio": number / 7, "names": ["ü", None, True], "nan": float("nan")}
                tx.audit(at, "ann", "did", f"turn:{number % 5}", place=number, **facts)

        found.write(change)
        yield found


def problems(ledger: SqlLedger) -> tuple[str, ...]:
    with ledger.read() as db:
        return verify(db).problems


def test_an_honest_trail_has_no_problems(ledger: SqlLedger) -> None:
    with ledger.read() as db:
        finding = verify(db)
    assert finding.problems == ()
    assert finding.entries == ENTRIES
    assert finding.head.startswith("blake3:")


def edit_body(dice: random.Random, body: bytes) -> bytes:
    """One field changed, one byte changed, or a byte more or less."""
    how = dice.choice(["field", "byte", "more", "less", "space", "extra"])
    if how == "field":
        fields = json.loads(body)
        name = dice.choice(sorted(fields))
        value = fields[name]
        fields[name] = (
            value + 1 if isinstance(value, int) else {**value, "place": -1} if name == "facts" else f"{value}0"
        )
        return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
    if how == "space":
        return json.dumps(json.loads(body)).encode()
    if how == "extra":
        return body[:-1] + b',"more":1}'
    place = dice.randrange(len(body))
    if how == "byte":
        return body[:place] + bytes([body[place] ^ (1 << dice.randrange(8))]) + body[place + 1 :]
    return body[:place] + body[place + (how == "less") :] if how == "less" else body[:place] + b"0" + body[place:]


def test_each_of_a_thousand_edits_is_found(ledger: SqlLedger, tmp_path: Path) -> None:
    dice = random.Random(5)
    with closing(sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)) as other:
        rows = other.execute("SELECT * FROM audit").fetchall()
        for number in range(1000):
            chosen = list(dice.choice(rows))
            kind = dice.choice(["body", "body", "column", "remove", "repeat", "swap"])
            if kind == "remove" and chosen[0] == ENTRIES:
                continue  # a trail cut short is noticed by keeping its head elsewhere
            if kind == "body":
                made = edit_body(dice, chosen[4])
                if made == chosen[4]:
                    continue
                other.execute("UPDATE audit SET body = ? WHERE number = ?", (made, chosen[0]))
            elif kind == "column":
                column = dice.choice(["at", "subject", "digest"])
                other.execute(f"UPDATE audit SET {column} = {column} || 'x' WHERE number = ?", (chosen[0],))
            elif kind == "remove":
                other.execute("DELETE FROM audit WHERE number = ?", (chosen[0],))
            elif kind == "repeat":
                other.execute("INSERT INTO audit VALUES (?, ?, ?, ?, ?)", [chosen[0] + 1000, *chosen[1:]])
            else:
                other.execute("UPDATE audit SET number = 999 WHERE number = ?", (chosen[0],))
            assert problems(ledger), (number, kind, chosen)
            other.execute("DELETE FROM audit")
            other.executemany("INSERT INTO audit VALUES (?, ?, ?, ?, ?)", rows)
    assert problems(ledger) == ()


def test_the_head_tells_a_trail_that_was_cut_short(ledger: SqlLedger, tmp_path: Path) -> None:
    with ledger.read() as db:
        before = verify(db)
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as other:
        other.execute("DELETE FROM audit WHERE number = ?", (ENTRIES,))
        other.commit()
    with ledger.read() as db:
        after = verify(db)
    assert (after.entries, after.head) != (before.entries, before.head)


def test_a_prediction_nobody_made_cannot_be_explained(store: Store) -> None:
    for name in ("nothing", "../x", "\0", ""):
        with pytest.raises(NotFound):
            explain(store, name)
