"""What people see of a canary: its steps with requests, latencies and agreement, on the loop's page and the turn's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from asking import Page, ask
from seed_story import NOW, StoppedClock

from noria.deploy.evidence import KIND, canary_window
from noria.deploy.rollout import SHADOW_STEP
from noria.records import Deployment, ModelVersion, Route, Stage, Turn, TurnState
from noria.server.app import ASGIApp, create_app
from noria.store import Store, open_store
from noria.store.ports import AliasRecord, LoopRecord, Transaction, Window
from noria.ui.pages.monitoring import promotions

HOUR = timedelta(hours=1)
SENTENCE = "As a shadow, asked along and never given, waiting for 5h more of 1d."


def window(step: int, **more: Any) -> Window:
    def side(version: int, requests: int, p95: float | None) -> dict[str, Any]:
        latency = None if p95 is None else {"n": 90.0, "p50": p95 / 2, "p95": p95, "low": p95, "high": p95}
        return {"version": version, "requests": requests, "errors": 1, "latency_ms": latency, "loss": None}

    facts = {
        "step": step,
        "percent": 0.0 if step == SHADOW_STEP else 25.0,
        "turn": "t1",
        "action": "hold",
        "sentence": SENTENCE,
        "challenger": side(2, 1200, 12.5),
        "champion": side(1, 3456, None),
        "agreement": {"compared": 1200, "agreed": 1176},
        **more,
    }
    return Window(canary_window("t1", step), "churn", 2, KIND, NOW - 9 * HOUR, NOW - HOUR, 1200, facts)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path)

    def change(tx: Transaction) -> None:
        tx.put(LoopRecord("churn", "loop.py", {}, "blake3:0", NOW, NOW))
        tx.put(Turn("t1", "churn", 1, TurnState.canary, NOW - DAY, NOW - 9 * HOUR, "manual", "x", version=2))
        for number, stage in ((1, Stage.champion), (2, Stage.challenger)):
            tx.put(ModelVersion("churn", number, NOW - DAY, "r", "blake3:b", "blake3:m", "none", stage))
        tx.put(AliasRecord("churn", "champion", 1, NOW))
        routes = (Route(1, "blake3:b", "champion", 100.0), Route(2, "blake3:c", "shadow", 100.0))
        tx.put(Deployment("churn", 1, NOW - 9 * HOUR, routes, SHADOW_STEP, "t1"))
        tx.put(window(SHADOW_STEP))

    opened.ledger.write(change)
    yield opened
    opened.close()


DAY = 24 * HOUR
PLACES = ("/loops/churn", "/loops/churn/turns/t1")


@pytest.fixture
def app(store: Store) -> ASGIApp:
    return create_app(store, StoppedClock(), address="http://127.0.0.1:8000")


@pytest.mark.parametrize("place", PLACES)
def test_a_shadow_is_shown_with_its_numbers(app: ASGIApp, place: str) -> None:
    answer = ask(app, place)
    page = Page(answer.text)
    shown = " ".join(" ".join(page.text).split())
    assert page.faults == []
    levels = [int(tag[1]) for tag, _ in page.found if tag in ("h1", "h2", "h3")]
    assert all(after <= before + 1 for before, after in pairwise(levels))
    for words in ("The canary", "shadow", "1,200", "3,456", "12.50 ms", "98 % of 1,200", SENTENCE):
        assert words in shown


def test_the_wheel_and_the_routes_name_the_shadow_and_give_it_no_share(app: ASGIApp) -> None:
    shown = " ".join(" ".join(Page(ask(app, PLACES[0]).text).text).split())
    assert "v2 as shadow" in shown
    assert "asked along with v1" in shown
    assert "v1 champion 100 % · v2 shadow, asked along" in shown


def test_the_versions_pages_give_a_shadow_no_traffic(app: ASGIApp) -> None:
    shown = " ".join(" ".join(Page(ask(app, "/loops/churn/models").text).text).split())
    assert "v2 challenger shadow" in shown
    assert "v1 champion 100 %" in shown
    shown = " ".join(" ".join(Page(ask(app, "/loops/churn/models/2").text).text).split())
    assert "shadow, asked along" in shown
    assert "100 %" not in shown


def test_the_twins_have_every_step(app: ASGIApp, store: Store) -> None:
    store.ledger.write(lambda tx: tx.put(window(0)))
    for place, path in zip(PLACES, (("turn",), ()), strict=True):
        found = json.loads(ask(app, f"{place}.json").content)
        for name in path:
            found = found[name]
        shadow, first = found["canary"]
        assert (shadow["name"], shadow["running"]) == ("shadow", False)
        assert (first["name"], first["running"], first["agreement"]) == ("25 %", True, 0.98)
        assert first["challenger"] == {
            "version": 2, "requests": 1200, "errors": 1, "p50_ms": 6.25, "p95_ms": 12.5, "loss": None,
        }  # fmt: skip


def test_numbers_that_are_missing_are_dashes(app: ASGIApp, store: Store) -> None:
    bare = window(SHADOW_STEP, challenger=None, champion="?", agreement={}, sentence=None, percent=None)
    store.ledger.write(lambda tx: tx.put(bare))
    for place in PLACES:
        answer = ask(app, place)
        assert answer.status_code == 200
        assert Page(answer.text).faults == []


def test_a_champion_that_was_put_back_is_marked_so() -> None:
    routes = [(Route(number, "b", "champion", 100.0),) for number in (1, 2, 1)]
    found = promotions([Deployment("churn", n, NOW + n * DAY, one) for n, one in enumerate(routes, 1)])
    assert [(marker.kind, marker.label) for marker in found] == [
        ("promotion", "v1"), ("promotion", "v2"), ("rollback", "v1 back"),
    ]  # fmt: skip
