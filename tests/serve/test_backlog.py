"""What waits for a model, and what is turned away: early, and never so much that turning away is all that is done."""

from __future__ import annotations

import math
import time

import pytest
from serving import Served

from noria.serve.engine import Backlog, Overloaded
from noria.serve.http import DataPlane
from noria.serve.wire import Reply, Request


def full(seconds: float, requests: int = 100) -> Backlog:
    """So many requests of ten rows, to be answered in so many seconds."""
    found = Backlog("churn/1", 200)
    for _ in range(requests):
        found.add(10)
    found.took(seconds, 10 * requests)
    return found


def test_an_empty_one_takes_all() -> None:
    backlog = Backlog("churn/1", 200)
    backlog.check(None)
    backlog.check(time.monotonic() - 1)


def test_what_would_wait_too_long_is_turned_away_and_told_when_to_come() -> None:
    full(0.5).check(None)
    with pytest.raises(Overloaded, match="100 requests wait for the model 'churn/1'") as caught:
        full(3.0).check(None)
    assert caught.value.wait_ms == 3000


def test_a_patient_caller_may_wait_longer_and_a_hasty_one_less() -> None:
    full(3.0).check(time.monotonic() + 10)
    with pytest.raises(Overloaded):
        full(0.5).check(time.monotonic() + 0.8)


def test_a_few_may_always_wait_and_never_more_than_the_most() -> None:
    full(100.0, 31).check(None)
    full(0.001, 199).check(None)
    with pytest.raises(Overloaded):
        full(0.001, 200).check(None)


def test_what_is_done_no_longer_waits() -> None:
    backlog = full(3.0)
    backlog.done(60, 600)
    assert backlog.seconds == pytest.approx(1.2)
    backlog.done(40, 400)
    assert (backlog.requests, backlog.rows, backlog.seconds) == (0, 0, 0)


@pytest.mark.parametrize("path", ["/v2/models/numbers/infer", "/predict/numbers", "/invocations"])
def test_it_is_said_before_the_body_is_looked_at(compiled: Served, path: str) -> None:
    assert compiled.plane is not None
    engine = compiled.plane.served("numbers")[1].engine
    before, engine.backlog = engine.backlog, full(3.0)
    try:
        reply = compiled.request("POST", path, b"this is no JSON", **{"Content-Type": "application/json"})
        assert reply.status == 429
        assert int(reply.headers["retry-after-ms"]) >= 1
        patient = {"Content-Type": "application/json", "X-Request-Timeout-Ms": "60000"}
        assert compiled.request("POST", path, b"this is no JSON", **patient).status == 400
    finally:
        engine.backlog = before


def test_what_has_waited_longer_than_is_left_is_turned_away() -> None:
    backlog = Backlog("churn/1", 200)
    backlog.check(None, 0.4)
    backlog.check(time.monotonic() + 5, 2.0)
    with pytest.raises(Overloaded, match="More is asked of the model 'churn/1' than can be answered"):
        backlog.check(None, 0.6)
    with pytest.raises(Overloaded) as caught:
        backlog.check(time.monotonic() + 5, math.inf)
    assert caught.value.wait_ms == 1000


def test_the_latest_calls_say_how_long_a_row_takes_by_their_rows() -> None:
    """One row alone takes nearly as long as a hundred do together."""
    backlog = Backlog("churn/1", 9000)
    for _ in range(100):
        backlog.took(0.001, 1)
    backlog.took(0.002, 100)
    for _ in range(2000):
        backlog.add(1)
    assert backlog.seconds < 0.25


@pytest.mark.parametrize("path", ["/v2/models/numbers/infer", "/predict/numbers", "/invocations"])
def test_a_request_without_a_place_is_refused_and_others_are_answered(compiled: Served, path: str) -> None:
    """As the front tells it: `tests/serve/test_protocol.py` has how requests come to wait."""
    assert compiled.plane is not None
    data = DataPlane(compiled.plane)
    for _ in range(2):  # the second time the address is known
        asked = Request("POST", path.encode(), b"", {b"content-type": b"application/json"}, b"{}")
        found = data.handle(asked)
        assert isinstance(found, Reply)
        assert found.status in (400, 422)
        asked.waited = math.inf
        found = data.handle(asked)
        assert isinstance(found, Reply)
        assert (found.status, dict(found.headers)[b"retry-after-ms"]) == (429, b"1000")
    told = Request("GET", b"/v2/health/live", b"", {}, b"")
    told.waited = math.inf
    found = data.handle(told)
    assert isinstance(found, Reply)
    assert found.status == 200
