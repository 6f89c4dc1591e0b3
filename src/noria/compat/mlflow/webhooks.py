"""Webhooks on MLflow's wire: who wants to hear of changes to the registry, and telling them.

What happened is sent after its commit, by one background thread, to public https addresses only: the name is resolved
once, every address it has must be public, and the connection goes to the address that was checked. Redirects are not
followed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import ipaddress
import json
import logging
import queue
import re
import socket
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from msgspec.structs import replace

from noria.compat.mlflow.documents import enum, page
from noria.compat.mlflow.errors import not_found
from noria.compat.mlflow.fields import Field, Wrong, integer, struct, text
from noria.compat.mlflow.routing import Need, Params, Route, Services
from noria.errors import RequestError
from noria.records.registry import Webhook
from noria.store.ports import Reader, Transaction

__all__ = ["ROUTES", "Courier", "announce", "is_public"]

log = logging.getLogger("noria.webhooks")

_ACTIONS = {
    "registered_model": ("created",),
    "model_version": ("created",),
    "model_version_tag": ("set", "deleted"),
    "model_version_alias": ("created", "deleted"),
    "prompt": ("created",),
    "prompt_version": ("created",),
    "prompt_tag": ("set", "deleted"),
    "prompt_version_tag": ("set", "deleted"),
    "prompt_alias": ("created", "deleted"),
    "budget_policy": ("exceeded",),
}
_EXAMPLE = {
    "name": "example",
    "version": "1",
    "alias": "example_alias",
    "key": "example_key",
    "value": "example_value",
    "source": "models:/m-00000000000000000000000000000000",
    "run_id": "00000000000000000000000000000000",
    "template": "Hello {{name}}",
    "tags": {"example_key": "example_value"},
    "description": "An example",
}
_TOLD = {
    "created": {
        "registered_model": ("name", "tags", "description"),
        "model_version": ("name", "version", "source", "run_id", "tags", "description"),
        "model_version_alias": ("name", "alias", "version"),
        "prompt": ("name", "tags", "description"),
        "prompt_version": ("name", "version", "template", "tags", "description"),
        "prompt_alias": ("name", "alias", "version"),
    },
    "set": {
        "model_version_tag": ("name", "version", "key", "value"),
        "prompt_tag": ("name", "key", "value"),
        "prompt_version_tag": ("name", "version", "key", "value"),
    },
    "deleted": {
        "model_version_tag": ("name", "version", "key"),
        "model_version_alias": ("name", "alias"),
        "prompt_tag": ("name", "key"),
        "prompt_version_tag": ("name", "version", "key"),
        "prompt_alias": ("name", "alias"),
    },
}

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
MAX_URL = 2_000
_IPV6_PUBLIC = ipaddress.IPv6Network("2000::/3")
_CONNECT_SECONDS = 5.0
_WHOLE_SECONDS = 15.0
_ATTEMPTS = 3
_QUEUED = 1_000
_ANSWER_BYTES = 4_096


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet, and not another address in disguise."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address) and (
        found not in _IPV6_PUBLIC or found.sixtofour is not None or found.teredo is not None
    ):
        return False
    return found.is_global and not (found.is_multicast or found.is_reserved or found.is_unspecified)


class NotDelivered(Exception):
    """Why nothing could be sent; ``again`` says whether trying again may help."""

    def __init__(self, why: str, *, again: bool) -> None:
        self.again = again
        super().__init__(why)


@dataclass(frozen=True, slots=True)
class _Address:
    host: str
    port: int
    target: str


def _parsed(url: str) -> _Address:
    """The parts of a webhook's URL.

    Raises:
        RequestError: it is none that can be sent to.
    """
    if not url.strip():
        raise RequestError(f"Webhook URL cannot be empty or just whitespace: {url!r}")
    if len(url) > MAX_URL:
        raise RequestError(f"Invalid webhook URL: it is longer than {MAX_URL} characters.")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise RequestError(f"Invalid webhook URL {url!r}: {error}") from None
    if parts.scheme != "https":
        raise RequestError(f"Invalid webhook URL scheme: {parts.scheme!r}. Allowed schemes are: https.")
    if not host:
        raise RequestError(f"Invalid webhook URL {url!r}: it must include a hostname.")
    if parts.username is not None or parts.password is not None:
        raise RequestError("Invalid webhook URL: it may hold no password; give a secret, which signs what is sent.")
    if any(ord(sign) <= 32 or ord(sign) >= 127 for sign in url):
        raise RequestError(f"Invalid webhook URL {url!a}: it holds signs that must be encoded.")
    target = parts.path or "/"
    return _Address(host, port or 443, f"{target}?{parts.query}" if parts.query else target)


def _resolved(address: _Address, allowed: Callable[[str], bool]) -> list[tuple[socket.AddressFamily, tuple[Any, ...]]]:
    """Where the name leads.

    Raises:
        NotDelivered: nowhere, or anywhere that is not public.
    """
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    except (OSError, UnicodeError) as error:
        raise NotDelivered(f"The name '{address.host}' does not resolve: {error}", again=True) from None
    for *_, where in found:
        if not allowed(str(where[0])):
            raise NotDelivered(
                f"'{address.host}' leads to {where[0]}, which is not a public address: webhooks go to those only.",
                again=False,
            )
    return [(family, where) for family, _, _, _, where in found]


@dataclass(slots=True)
class Courier:
    """Sends what happened to webhooks, in a daemon thread that starts with the first message.

    Attributes:
        allowed: says of an IP address whether it may be sent to.
        context: checks the other side's certificate.
        pause_s: wait before the second try; it doubles.
    """

    allowed: Callable[[str], bool] = is_public
    context: ssl.SSLContext | None = None
    pause_s: float = 2.0
    _waiting: queue.Queue[tuple[Webhook, str, Mapping[str, Any]]] = field(default_factory=lambda: queue.Queue(_QUEUED))
    _thread: threading.Thread | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def post(self, webhook: Webhook, event: str, told: Mapping[str, Any]) -> None:
        """Send it soon. When too much waits already, it is dropped, and the log says so."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="noria-webhooks", daemon=True)
                self._thread.start()
        try:
            self._waiting.put_nowait((webhook, event, told))
        except queue.Full:
            log.warning("webhook %s was not told of %s: %d messages wait already", webhook.id, event, _QUEUED)

    def _run(self) -> None:
        while True:
            webhook, event, told = self._waiting.get()
            try:
                self._deliver(webhook, event, told)
            except Exception:
                log.exception("webhook %s was not told of %s", webhook.id, event)
            finally:
                self._waiting.task_done()

    def wait(self) -> None:
        """Until all that was posted has been tried."""
        self._waiting.join()

    def _deliver(self, webhook: Webhook, event: str, told: Mapping[str, Any]) -> None:
        pause = self.pause_s
        delivery = str(uuid.uuid4())
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                status, _ = self.send(webhook, event, told, delivery)
                if status < 400:
                    return
                why, again = f"it answered {status}", status == 429 or status >= 500
            except NotDelivered as error:
                why, again = str(error), error.again
            if not again or attempt == _ATTEMPTS:
                log.warning("webhook %s was not told of %s: %s", webhook.id, event, why)
                return
            time.sleep(pause)
            pause *= 2

    def send(self, webhook: Webhook, event: str, told: Mapping[str, Any], delivery: str) -> tuple[int, str]:
        """Send once; returns the answer's status and the beginning of its text.

        Raises:
            NotDelivered: nothing came back.
        """
        entity, _, action = event.partition(".")
        body = json.dumps(
            {"entity": entity, "action": action, "timestamp": datetime.now(UTC).isoformat(), "data": dict(told)}
        )
        stamp = str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "noria",
            "Connection": "close",
            "X-MLflow-Delivery-Id": delivery,
            "X-MLflow-Timestamp": stamp,
        }
        if webhook.secret:
            signed = hmac.new(webhook.secret.encode(), f"{delivery}.{stamp}.{body}".encode(), hashlib.sha256).digest()
            headers["X-MLflow-Signature"] = f"v1,{base64.b64encode(signed).decode()}"
        try:
            address = _parsed(webhook.url)
        except RequestError as error:
            raise NotDelivered(str(error), again=False) from None
        host = f"[{address.host}]" if ":" in address.host else address.host
        headers["Host"] = host if address.port == 443 else f"{host}:{address.port}"
        return self._exchange(address, body.encode(), headers)

    def _exchange(self, address: _Address, body: bytes, headers: Mapping[str, str]) -> tuple[int, str]:
        family, where = _resolved(address, self.allowed)[0]
        context = self.context or ssl.create_default_context()
        with socket.socket(family, socket.SOCK_STREAM) as plain:
            # A server that answers byte by byte would outlast every timeout of a single read.
            open_ones: list[socket.socket] = [plain]
            end = threading.Timer(_WHOLE_SECONDS, _cut, (open_ones,))
            end.daemon = True
            end.start()
            try:
                plain.settimeout(_CONNECT_SECONDS)
                plain.connect(where)
                with context.wrap_socket(plain, server_hostname=address.host) as secured:
                    open_ones.append(secured)
                    connection = http.client.HTTPConnection(address.host, address.port, timeout=_CONNECT_SECONDS)
                    connection.sock = secured
                    connection.request("POST", address.target, body, dict(headers))
                    answer = connection.getresponse()
                    return answer.status, answer.read(_ANSWER_BYTES).decode("utf-8", "replace")
            except ssl.SSLCertVerificationError as error:
                raise NotDelivered(f"The certificate of '{address.host}' is not good: {error}", again=False) from None
            except (OSError, http.client.HTTPException) as error:
                why = str(error) or type(error).__name__
                raise NotDelivered(f"'{address.host}' did not answer: {why}", again=True) from None
            finally:
                end.cancel()


def _cut(open_ones: list[socket.socket]) -> None:
    """End a connection that another thread waits on, whatever TLS thinks of it."""
    for connection in open_ones:
        with suppress(OSError):
            socket.socket.shutdown(connection, socket.SHUT_RDWR)


courier = Courier()
"""Sends for this process."""


def announce(services: Services, event: str, told: Mapping[str, Any]) -> None:
    """Tell every webhook that wants to know of the event; call it after the change is committed."""
    with services.ledger.read() as db:
        wanting = [one for one in db.list(Webhook) if one.active and event in one.events]
    for webhook in wanting:
        courier.post(webhook, event, told)


def _webhook_json(kept: Webhook) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "webhook_id": kept.id,
        "name": kept.name,
        "url": kept.url,
        "events": [_event_json(event) for event in kept.events],
        "status": "ACTIVE" if kept.active else "DISABLED",
        "creation_timestamp": kept.created,
        "last_updated_timestamp": kept.updated,
    }
    return shown | ({"description": kept.description} if kept.description else {})


def _event_json(event: str) -> dict[str, str]:
    entity, _, action = event.partition(".")
    return {"entity": entity.upper(), "action": action.upper()}


def _event() -> Field:
    parts = struct({"entity": text(required=True), "action": text(required=True)})

    def read(value: Any) -> str:
        found = parts.read(value)
        entity, action = found["entity"].lower(), found["action"].lower()
        if action not in _ACTIONS.get(entity, ()):
            known = ", ".join(f"{name}.{one}" for name, actions in _ACTIONS.items() for one in actions)
            raise Wrong(f"{entity[:40]}.{action[:40]}", why=f"there are the events {known}")
        return f"{entity}.{action}"

    return Field(read)


def _events(*, required: bool) -> Field:
    one = _event()

    def read(value: Any) -> tuple[str, ...]:
        if not isinstance(value, list):
            raise Wrong(value, why="it must be a list")
        if required and not value:
            raise Wrong(value, why="Webhook events must be a non-empty list")
        return tuple(dict.fromkeys(one.read(item) for item in value[:100]))

    return Field(read, required)


def _existing(db: Reader, id: str) -> Webhook:
    found = db.find(Webhook, id=id)
    if found is None:
        raise not_found(f"Webhook with ID {id[:80]} not found.")
    return found


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise RequestError(
            f"Webhook name {name[:80]!r} is invalid. It starts and ends with a letter or digit, has at most 63 "
            "characters, and holds letters, digits, dots, underscores and hyphens only."
        )


def _check_url(url: str) -> None:
    """Refuse what is seen now not to be public; a name that does not resolve yet is checked when sent to."""
    address = _parsed(url)
    if address.host == "localhost" or address.host.endswith(".localhost"):
        raise RequestError(f"Invalid webhook URL {url!r}: '{address.host}' is not a public address.")
    try:
        _resolved(address, courier.allowed)
    except NotDelivered as error:
        if not error.again:
            raise RequestError(f"Invalid webhook URL {url!r}: {error}") from None


def _create(services: Services, params: Params) -> Any:
    _check_name(params["name"])
    _check_url(params["url"])
    now = services.clock.now()
    at = services.now_ms()
    made = Webhook(
        id=str(uuid.uuid4()),
        name=params["name"],
        url=params["url"],
        events=params["events"],
        created=at,
        updated=at,
        description=params.get("description", ""),
        secret=params.get("secret", ""),
        active=params.get("status", "ACTIVE") == "ACTIVE",
    )

    def change(tx: Transaction) -> None:
        tx.put(made)
        tx.audit(now, "mlflow client", "webhook created", f"webhook:{made.id}", name=made.name, events=made.events)

    services.ledger.write(change)
    return {"webhook": _webhook_json(made)}


def _list(services: Services, params: Params) -> Any:
    with services.ledger.read() as db:
        kept = db.list(Webhook)
    shown, token = page(kept, lambda one: one.id, ["webhooks"], params["max_results"], params.get("page_token"))
    answer: dict[str, Any] = {"webhooks": [_webhook_json(one) for one in shown]}
    return answer | ({"next_page_token": token} if token else {})


def _get(services: Services, params: Params) -> Any:
    with services.ledger.read() as db:
        return {"webhook": _webhook_json(_existing(db, params["webhook_id"]))}


def _update(services: Services, params: Params) -> Any:
    if params.get("name"):
        _check_name(params["name"])
    if params.get("url"):
        _check_url(params["url"])
    changes: dict[str, Any] = {key: params[key] for key in ("name", "url", "events") if params.get(key)}
    changes |= {key: params[key] for key in ("description", "secret") if key in params}
    if "status" in params:
        changes["active"] = params["status"] == "ACTIVE"
    now, at = services.clock.now(), services.now_ms()

    def change(tx: Transaction) -> Webhook:
        kept = _existing(tx, params["webhook_id"])
        changed = replace(kept, updated=max(at, kept.updated + 1), **changes)
        tx.put(changed)
        tx.audit(now, "mlflow client", "webhook changed", f"webhook:{kept.id}", changed=sorted(changes))
        return changed

    return {"webhook": _webhook_json(services.ledger.write(change))}


def _delete(services: Services, params: Params) -> Any:
    now = services.clock.now()

    def change(tx: Transaction) -> None:
        kept = _existing(tx, params["webhook_id"])
        tx.remove(Webhook, id=kept.id)
        tx.audit(now, "mlflow client", "webhook deleted", f"webhook:{kept.id}", name=kept.name)

    services.ledger.write(change)
    return {}


def _test(services: Services, params: Params) -> Any:
    with services.ledger.read() as db:
        kept = _existing(db, params["webhook_id"])
    event: str = params.get("event") or kept.events[0]
    entity, _, action = event.partition(".")
    told = {key: _EXAMPLE[key] for key in _TOLD.get(action, {}).get(entity, ("name",))}
    try:
        status, body = courier.send(kept, event, told, str(uuid.uuid4()))
    except NotDelivered as error:
        return {"result": {"success": False, "error_message": f"Failed to test webhook: {error}"}}
    return {"result": {"success": status < 400, "response_status": status, "response_body": body}}


_BASE = "/api/2.0/mlflow/webhooks"
_ONE = f"{_BASE}/{{webhook_id}}"
_STATUS = enum(("ACTIVE", "DISABLED"), first=1)

ROUTES: tuple[Route, ...] = (
    Route(
        "POST",
        _BASE,
        Need.write,
        {
            "name": text(required=True),
            "url": text(required=True),
            "events": _events(required=True),
            "description": text(limit=1_000),
            "secret": text(limit=1_000),
            "status": _STATUS,
        },
        answer=_create,
    ),
    Route(
        "GET",
        _BASE,
        Need.read,
        {"max_results": integer(default=100, low=1, high=1_000), "page_token": text()},
        answer=_list,
    ),
    Route("GET", _ONE, Need.read, answer=_get),
    Route(
        "PATCH",
        _ONE,
        Need.write,
        {
            "name": text(),
            "url": text(),
            "events": _events(required=False),
            "description": text(limit=1_000),
            "secret": text(limit=1_000),
            "status": _STATUS,
        },
        answer=_update,
    ),
    Route("DELETE", _ONE, Need.delete, answer=_delete),
    Route("POST", f"{_ONE}/test", Need.write, {"event": _event()}, answer=_test),
)
