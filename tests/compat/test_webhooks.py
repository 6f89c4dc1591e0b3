"""Webhooks over HTTP, and their delivery to a real https server."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import shutil
import ssl
import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from noria_server import API, Wire, missing, refused

from noria.compat.mlflow import registry, webhooks
from noria.compat.mlflow.routing import Services
from noria.compat.mlflow.webhooks import Courier, NotDelivered, is_public
from noria.errors import Conflict
from noria.loop.clock import SystemClock
from noria.records.registry import Webhook
from noria.store import open_store

CREATED = {"entity": "MODEL_VERSION", "action": "CREATED"}
ALIASED = {"entity": "MODEL_VERSION_ALIAS", "action": "CREATED"}


def made(wire: Wire, name: str = "hook", **more: Any) -> Any:
    body = {"name": name, "url": "https://example.com/hook", "events": [CREATED], **more}
    return wire.does("/webhooks", **body)["webhook"]


def patch(wire: Wire, id: str, **body: Any) -> Any:
    return wire.http.patch(f"{API}/webhooks/{id}", json=body)


def test_webhook_is_kept_and_its_secret_never_told(wire: Wire) -> None:
    hook = made(wire, secret="s3cret", description="d", events=[CREATED, ALIASED, CREATED])
    assert hook["events"] == [CREATED, ALIASED]
    assert (hook["status"], hook["description"], hook["url"]) == ("ACTIVE", "d", "https://example.com/hook")
    found = wire.get(f"/webhooks/{hook['webhook_id']}")
    assert found.json()["webhook"] == hook
    changed = patch(wire, hook["webhook_id"], name="other", status="DISABLED", secret="new").json()["webhook"]
    assert (changed["name"], changed["status"]) == ("other", "DISABLED")
    assert changed["last_updated_timestamp"] > hook["last_updated_timestamp"]
    assert "s3cret" not in found.text
    assert "secret" not in changed
    assert "s3cret" not in wire.get("/webhooks").text
    assert wire.http.delete(f"{API}/webhooks/{hook['webhook_id']}").json() == {}
    missing(wire.get(f"/webhooks/{hook['webhook_id']}"), "Webhook with ID", "not found")
    missing(patch(wire, "nonexistent", name="x"), "Webhook with ID nonexistent not found")


def test_pages(wire: Wire) -> None:
    ids = {made(wire, f"page{number}")["webhook_id"] for number in range(5)}
    found: list[str] = []
    query: dict[str, Any] = {"max_results": 2}
    while True:
        page = wire.reads("/webhooks", **query)
        found += [one["webhook_id"] for one in page.get("webhooks", [])]
        if "next_page_token" not in page:
            break
        query["page_token"] = page["next_page_token"]
    assert len(found) == len(set(found))
    assert ids <= set(found)
    refused(wire.get("/webhooks", page_token="evil"), "page token")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("   ", "Webhook URL cannot be empty or just whitespace"),
        ("ftp://example.com", "Invalid webhook URL scheme"),
        ("http://example.com", "Invalid webhook URL scheme"),
        ("http://[invalid", "Invalid webhook URL"),
        ("https://", "hostname"),
        ("https://user:pass@example.com/", "password"),
        ("https://example.com:99999/", "Invalid webhook URL"),
        ("https://exam ple.com/\r\nHost: x", "Invalid webhook URL"),
        ("https://localhost/", "not a public address"),
        ("https://127.0.0.1/", "not a public address"),
        ("https://2130706433/", "not a public address"),
        ("https://0x7f.1/", "not a public address"),
        ("https://10.0.0.1/", "not a public address"),
        ("https://169.254.169.254/latest", "not a public address"),
        ("https://[::1]/", "not a public address"),
        ("https://[::ffff:10.0.0.1]/", "not a public address"),
        ("https://[64:ff9b::a00:1]/", "not a public address"),
        ("https://[2002:a00:1::]/", "not a public address"),
        ("https://224.0.0.1/", "not a public address"),
        ("https://example.com/" + "x" * 3000, "longer"),
    ],
)
def test_urls_that_are_not_sent_to(wire: Wire, url: str, words: str) -> None:
    refused(wire.post("/webhooks", {"name": "hook", "url": url, "events": [CREATED]}), words)


def test_wrong_parameters(wire: Wire) -> None:
    body = {"name": "hook", "url": "https://example.com", "events": [CREATED]}
    refused(wire.post("/webhooks", {**body, "name": "-x"}), "Webhook name")
    refused(wire.post("/webhooks", {**body, "name": "x" * 64}), "Webhook name")
    refused(wire.post("/webhooks", {**body, "events": []}), "Webhook events must be a non-empty list")
    refused(wire.post("/webhooks", {**body, "events": [{"entity": "MODEL_VERSION", "action": "DELETED"}]}), "events")
    refused(wire.post("/webhooks", {**body, "events": "all"}), "events")
    refused(wire.post("/webhooks", {**body, "status": "SLEEPING"}), "status")


def test_public_addresses() -> None:
    for address in ("1.1.1.1", "2606:4700:4700::1111"):
        assert is_public(address)
    for address in (
        "0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "169.254.169.254", "172.16.0.1", "192.168.0.1", "198.18.0.1",
        "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "::", "::1", "::ffff:1.1.1.1", "::7f00:1", "fe80::1",
        "fc00::1", "ff02::1", "64:ff9b::1.1.1.1", "2002:7f00:1::", "2001:0:1:2::", "2001:db8::1", "fe80::1%eth0", "x",
    ):  # fmt: skip
        assert not is_public(address), address


# -- delivery


class Receiver(ThreadingHTTPServer):
    """An https server that keeps what it is sent and answers with the statuses it was given."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.received: list[tuple[str, dict[str, str], bytes]] = []
        self.statuses: list[int] = []

    @property
    def url(self) -> str:
        return f"https://localhost:{self.server_address[1]}/hook?a=b"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.received.append((self.path, headers, body))
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        self.send_response(status)
        if status == 302:
            self.send_header("location", "https://localhost:1/elsewhere")
        self.end_headers()
        self.wfile.write(b"thank you")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    folder = tmp_path_factory.mktemp("tls")
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost "
        f"-addext subjectAltName=DNS:localhost -keyout {folder}/key.pem -out {folder}/cert.pem"
    )
    subprocess.run(command.split(), check=True, capture_output=True)
    return folder


@pytest.fixture
def receiver(certificate: Path) -> Iterator[Receiver]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    with Receiver(context) as found:
        thread = threading.Thread(target=found.serve_forever, daemon=True)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


@pytest.fixture
def courier(certificate: Path) -> Courier:
    """A courier that may send to this machine."""
    context = ssl.create_default_context(cafile=certificate / "cert.pem")
    return Courier(allowed=lambda address: address in ("127.0.0.1", "::1"), context=context, pause_s=0.01)


def hook(url: str, secret: str = "") -> Webhook:
    return Webhook("id", "hook", url, ("model_version.created",), 1, 1, secret=secret)


def test_delivery_is_signed(courier: Courier, receiver: Receiver) -> None:
    courier.post(hook(receiver.url, "s3cret"), "model_version.created", {"name": "m", "version": "1"})
    courier.wait()
    ((path, headers, body),) = receiver.received
    assert path == "/hook?a=b"
    told = json.loads(body)
    assert (told["entity"], told["action"], told["data"]) == ("model_version", "created", {"name": "m", "version": "1"})
    assert told["timestamp"].endswith("+00:00")
    signed = f"{headers['x-mlflow-delivery-id']}.{headers['x-mlflow-timestamp']}.{body.decode()}"
    digest = hmac.new(b"s3cret", signed.encode(), hashlib.sha256).digest()
    assert headers["x-mlflow-signature"] == f"v1,{base64.b64encode(digest).decode()}"
    assert headers["host"] == receiver.url.split("/")[2]
    assert uuid.UUID(headers["x-mlflow-delivery-id"])


def test_a_change_is_told_to_those_who_want_to_know(
    courier: Courier, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "courier", courier)
    routes = {(route.method, route.path.rsplit("/", 1)[1]): route.answer for route in registry.ROUTES[:12]}
    with closing(open_store(tmp_path)) as store:
        wanting = replace(hook(receiver.url), events=("registered_model.created", "model_version_alias.deleted"))
        off = replace(wanting, id="off", active=False)
        other = replace(wanting, id="other", events=("prompt.created",))
        for one in (wanting, off, other):
            store.ledger.write(lambda tx, one=one: tx.put(one))  # type: ignore[misc]
        services = Services(store.tracking, store.ledger, store.blobs, SystemClock())
        create, forget = routes["POST", "create"], routes["DELETE", "alias"]
        assert create is not None
        assert forget is not None
        create(services, {"name": "m"})
        with pytest.raises(Conflict):
            create(services, {"name": "m"})
        forget(services, {"name": "m", "alias": "a"})
        courier.wait()
    told = [json.loads(body) for _, _, body in receiver.received]
    assert [(one["entity"], one["action"]) for one in told] == [
        ("registered_model", "created"),
        ("model_version_alias", "deleted"),
    ]
    assert told[0]["data"] == {"name": "m", "tags": {}, "description": None}


def test_delivery_without_a_secret_is_not_signed(courier: Courier, receiver: Receiver) -> None:
    assert courier.send(hook(receiver.url), "prompt.created", {"name": "p"}, "d") == (200, "thank you")
    assert "x-mlflow-signature" not in receiver.received[0][1]


@pytest.mark.parametrize(
    ("statuses", "tries"),
    [([503, 429, 200], 3), ([500] * 9, 3), ([404], 1), ([302], 1), ([200], 1)],
)
def test_tries_are_bounded_and_redirects_not_followed(
    courier: Courier, receiver: Receiver, statuses: list[int], tries: int
) -> None:
    receiver.statuses = statuses
    courier.post(hook(receiver.url), "model_version.created", {})
    courier.wait()
    assert len(receiver.received) == tries
    assert len({headers["x-mlflow-delivery-id"] for _, headers, _ in receiver.received}) == 1


def test_one_address_that_is_not_public_is_enough_to_refuse(receiver: Receiver, certificate: Path) -> None:
    with pytest.raises(NotDelivered, match="not a public address"):
        Courier().send(hook(receiver.url), "model_version.created", {}, "d")
    assert receiver.received == []


def test_a_certificate_that_is_not_good(receiver: Receiver) -> None:
    strict = Courier(allowed=lambda _: True, context=ssl.create_default_context())
    with pytest.raises(NotDelivered, match="certificate") as error:
        strict.send(hook(receiver.url), "model_version.created", {}, "d")
    assert not error.value.again
    assert receiver.received == []
