"""The shell round the pages: who may come in, what is refused, where requests go."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from noria.errors import NoriaError
from noria.records import AuditEntry, ModelVersion, RetrainRequest, Stage
from noria.records.tracking import RunInfo
from noria.serve.http import ADDRESSES
from noria.server import ROUTES, Access, PageRoute, create_app
from noria.server.app import DATA_PLANE, ASGIApp, Receive, Scope, Send
from noria.server.guard import Tokens
from noria.store import Store, open_store, tracking
from noria.store.ports import LoopRecord, Transaction
from noria.store.tracking import TrackingTransaction

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ADDRESS = "http://127.0.0.1:8000"
OWN = {"origin": ADDRESS, "sec-fetch-site": "same-origin"}


@dataclass(frozen=True, slots=True)
class StillClock:
    """Always the same moment."""

    def now(self) -> datetime:
        return NOW


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Store]:
    """A store with one loop whose only version awaits a yes."""
    opened = open_store(tmp_path / "store")

    def change(tx: Transaction) -> None:
        plan = {"approval": {"type": "Approval", "role": "risk-officer"}}
        tx.put(LoopRecord("churn", "loop.py", plan, "blake3:00", NOW, NOW))
        tx.put(ModelVersion("churn", 1, NOW, "r" * 32, "blake3:00", "blake3:00", "report", Stage.awaiting_approval))

    opened.ledger.write(change)
    yield opened
    opened.close()


def request(app: ASGIApp, path: str, method: str = "GET", **more: Any) -> httpx.Response:
    """One request to the application."""

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=ADDRESS) as client:
            return await client.request(method, path, **more)

    return asyncio.run(send())


def make(store: Store, **more: Any) -> ASGIApp:
    """The application of a store."""
    return create_app(store, StillClock(), address=ADDRESS, **more)


def pair(store: Store) -> tuple[dict[str, str], str]:
    """A cookie header and the form token that goes with it."""
    cookie = "0123456789abcdef" * 2
    return {"cookie": f"noria_pages={cookie}"}, Tokens(store.folder).sign(cookie)


def fill_in(path: str) -> str:
    """A route's path with something in each parameter."""
    for parameter, value in {"{loop}": "churn", "{version}": "1", "{id}": "x", "{name:path}": "x"}.items():
        path = path.replace(parameter, value)
    return path.replace("{path:path}", "noria.css")


def test_every_route_declares_its_access_and_every_change_is_a_post() -> None:
    assert all(isinstance(route.access, Access) for route in ROUTES)
    assert {route.method for route in ROUTES if route.access is Access.change} == {"POST"}
    assert {route.method for route in ROUTES if route.access is Access.read} == {"GET"}


def test_route_without_declared_access_stops_the_start(shop: Store) -> None:
    with pytest.raises(ValueError, match="/secret does not declare its access"):
        make(shop, routes=(*ROUTES, PageRoute("/secret", view="home")))


def test_change_declared_as_reading_stops_the_start(shop: Store) -> None:
    with pytest.raises(ValueError, match=r"needs Access\.change"):
        make(shop, routes=(PageRoute("/sly", Access.read, action="decide"),))


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "localhost.evil", "[::ffff:1.2.3.4]"])
def test_every_route_refuses_a_foreign_host(shop: Store, route: PageRoute, host: str) -> None:
    answer = request(make(shop), fill_in(route.path), route.method, headers={"host": host, **OWN})
    assert answer.status_code == 421


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:9999", "LOCALHOST"])
def test_names_of_this_machine_are_let_in(shop: Store, host: str) -> None:
    assert request(make(shop), "/health", headers={"host": host}).text == "OK"


CHANGES = [route for route in ROUTES if route.access is Access.change]


@pytest.mark.parametrize("route", CHANGES, ids=lambda route: route.path)
@pytest.mark.parametrize(
    "headers",
    [{}, {"origin": "http://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"},
     {"sec-fetch-site": "same-site"}, {"origin": ADDRESS, "sec-fetch-site": "cross-site"},
     {"origin": "https://127.0.0.1:8000"}, {"origin": "http://127.0.0.1:9000"}],
)  # fmt: skip
def test_change_from_another_site_is_refused_even_with_a_token(
    shop: Store, route: PageRoute, headers: dict[str, str]
) -> None:
    cookie, token = pair(shop)
    answer = request(make(shop), fill_in(route.path), "POST", headers={**headers, **cookie}, data={"token": token})
    assert answer.status_code == 403


@pytest.mark.parametrize("route", CHANGES, ids=lambda route: route.path)
def test_change_without_a_matching_token_is_refused(shop: Store, route: PageRoute) -> None:
    app, path = make(shop), fill_in(route.path)
    cookie, token = pair(shop)
    other = {"cookie": "noria_pages=" + "f" * 32}
    tries: list[tuple[dict[str, str], dict[str, str]]] = [
        (cookie, {"other": ""}),
        (cookie, {"token": ""}),
        (cookie, {"token": "é" * 64}),
        (cookie, {"token": token[:-1] + "x"}),
        ({}, {"token": token}),
        (other, {"token": token}),
        ({"cookie": "noria_pages=x"}, {"token": token}),
    ]
    for headers, fields in tries:
        assert request(app, path, "POST", headers={**OWN, **headers}, data=fields).status_code == 403
    with shop.ledger.read() as db:
        assert db.count(AuditEntry) == 0


def test_approval_is_recorded_with_the_plans_role(shop: Store) -> None:
    cookie, token = pair(shop)
    fields = {"token": token, "decision": "approve", "by": "Ada\x00\u202e", "comment": "looks right"}
    answer = request(make(shop), "/loops/churn/models/1/decision", "POST", headers={**OWN, **cookie}, data=fields)
    assert (answer.status_code, answer.headers["location"]) == (303, "/loops/churn/models/1")
    with shop.ledger.read() as db:
        version = db.find(ModelVersion, loop="churn", version=1)
    assert version is not None
    assert version.decision is not None
    assert (version.decision.approved, version.decision.by, version.decision.role) == (
        True,
        "Ada",
        "risk-officer",
    )
    again = request(make(shop), "/loops/churn/models/1/decision", "POST", headers={**OWN, **cookie}, data=fields)
    assert again.status_code == 409


@pytest.mark.parametrize(
    ("path", "fields", "status"),
    [("/loops/churn/models/1/decision", {"decision": "maybe", "by": "Ada"}, 422),
     ("/loops/churn/models/1/decision", {"decision": "approve", "by": "  "}, 422),
     ("/loops/churn/models/1/decision", {"decision": "approve", "by": "a" * 101}, 422),
     ("/loops/churn/models/9/decision", {"decision": "approve", "by": "Ada"}, 404),
     ("/loops/churn/models/x/decision", {"decision": "approve", "by": "Ada"}, 404),
     ("/loops/nothing/turns", {}, 404)],
)  # fmt: skip
def test_wrong_forms_change_nothing(shop: Store, path: str, fields: dict[str, str], status: int) -> None:
    cookie, token = pair(shop)
    answer = request(make(shop), path, "POST", headers={**OWN, **cookie}, data={**fields, "token": token})
    assert answer.status_code == status
    with shop.ledger.read() as db:
        assert db.count(AuditEntry) == 0


def test_a_turn_is_ordered_once(shop: Store) -> None:
    cookie, token = pair(shop)
    app, fields = make(shop), {"token": token, "by": "Ada", "reason": "new rows"}
    statuses = [
        request(app, "/loops/churn/turns", "POST", headers={**OWN, **cookie}, data=fields).status_code for _ in range(2)
    ]
    assert statuses == [303, 409]
    with shop.ledger.read() as db:
        (made,) = db.list(RetrainRequest, loop="churn")
    assert (made.trigger, made.reason, made.at) == ("manual", "new rows", NOW)


def test_large_or_strange_bodies_are_refused(shop: Store) -> None:
    cookie, token = pair(shop)
    app, headers = make(shop), {**OWN, **cookie}
    big = {"token": token, "reason": "x" * 100_000}
    assert request(app, "/loops/churn/turns", "POST", headers=headers, data=big).status_code == 413
    assert request(app, "/loops/churn/turns", "POST", headers=headers, json={"token": token}).status_code == 422
    many = {f"f{i}": "" for i in range(200)}
    assert request(app, "/loops/churn/turns", "POST", headers=headers, data=many).status_code == 422


def test_every_answer_carries_the_protecting_headers(shop: Store) -> None:
    app = make(shop)
    for path in ("/", "/health", "/static/noria.css", "/loops/churn.json", "/nothing"):
        headers = request(app, path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert "cache-control" in headers


def test_cookie_is_out_of_reach_of_scripts_and_other_sites(shop: Store) -> None:
    cookie = request(make(shop), "/").headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie


def test_wrong_method_is_a_405_and_head_works(shop: Store) -> None:
    app = make(shop)
    assert request(app, "/loops/churn/models/1/decision").status_code == 405
    assert request(app, "/audit", "DELETE").status_code == 405
    assert request(app, "/audit", "HEAD").status_code == 200


def test_artifacts_are_streamed_as_files_and_only_pixels_are_shown(shop: Store) -> None:
    run, large = "ab" * 16, b"<script>" * 400_000
    files = {"large.html": large, "ночь.png": b"\x89PNG\r\n\x1a\n" + b"0" * 50, "drawing.svg": b"<svg/>"}

    def change(tx: TrackingTransaction) -> None:
        tx.add_run(RunInfo(run, 0, "r", "u", "RUNNING", "active", 1, None, "place"), {})
        for name, data in files.items():
            tx.put_artifact(tracking.Artifact(f"0/{run}/artifacts/{name}", shop.blobs.put(data), len(data), 1))

    shop.tracking.write(change)
    app = make(shop)
    for name, data in files.items():
        answer = request(app, f"/runs/{run}/artifacts/{name}")
        assert (answer.status_code, answer.content) == (200, data)
        assert answer.headers["content-disposition"].startswith("attachment; filename=")
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
    head = request(app, f"/runs/{run}/artifacts/large.html", "HEAD")
    assert (head.headers["content-length"], head.content) == (str(len(large)), b"")
    assert "filename*=UTF-8''%D0%BD%D0%BE%D1%87%D1%8C.png" in answer_of(app, run, "ночь.png")
    shown = {name: request(app, f"/runs/{run}/pictures/{name}") for name in files}
    assert {name: found.status_code for name, found in shown.items()} == {
        "large.html": 404, "ночь.png": 200, "drawing.svg": 404,
    }  # fmt: skip
    assert shown["ночь.png"].headers["content-type"] == "image/png"
    assert request(app, f"/runs/{run}/artifacts/large.html", headers={"host": "evil.example"}).status_code == 421


def answer_of(app: ASGIApp, run: str, name: str) -> str:
    """What a file is to be called."""
    return request(app, f"/runs/{run}/artifacts/{name}").headers["content-disposition"]


def test_the_pages_secret_is_for_its_owner_only_and_lasts(shop: Store) -> None:
    first = Tokens(shop.folder).sign("a" * 32)
    file = shop.folder / "pages.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert Tokens(shop.folder).sign("a" * 32) == first
    file.chmod(0o644)
    assert Tokens(shop.folder).sign("a" * 32) != first  # others could have read it
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("address", ["http://0.0.0.0:8000", "192.168.1.5:80", "example.org", "[::]:80", ""])
def test_addresses_beyond_this_machine_are_refused(shop: Store, address: str) -> None:
    with pytest.raises(NoriaError, match="only this machine"):
        create_app(shop, StillClock(), address=address)


def test_pages_and_data_plane_agree_whose_an_address_is() -> None:
    assert tuple(one.encode() for one in DATA_PLANE) == ADDRESSES


def test_the_data_plane_gets_its_paths_and_nothing_else(shop: Store) -> None:
    async def plane(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"plane"})

    app = make(shop, data_plane=plane)
    for path in ("/v2", "/v2/health/live", "/predict/churn", "/labels/churn", "/overrides/churn"):
        assert request(app, path).content == b"plane"
        assert request(app, path, headers={"host": "attacker.example"}).status_code == 403
        assert request(app, path, headers={"origin": "https://attacker.example"}).status_code == 403
    for path in ("/", "/v2x", "/predictions", "/health", "/audit"):
        assert request(app, path).content != b"plane"
    assert request(make(shop), "/predict/churn").status_code == 404


def test_fault_of_ours_is_a_500_that_tells_nothing(shop: Store, caplog: pytest.LogCaptureFixture) -> None:
    app = make(replace_ledger(shop))
    answer = request(app, "/", headers={"accept": "text/html"})
    assert answer.status_code == 500
    assert "secret detail" not in answer.text
    assert "secret detail" in caplog.text


class _BrokenLedger:
    def read(self) -> Any:
        raise RuntimeError("secret detail")


def replace_ledger(store: Store) -> Store:
    """The store with a ledger that fails in a way nobody foresaw."""
    broken: Any = _BrokenLedger()
    return Store(broken, store.blobs, store.predictions, store.tracking, store.folder)


def test_a_route_value_is_plain() -> None:
    assert replace(ROUTES[0], path="/x").twin == "/x.json"
