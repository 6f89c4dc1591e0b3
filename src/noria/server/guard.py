"""What stands between a stranger's page and ours: host, origin, token, size and headers."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import secrets
import stat
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from starlette.requests import Request

from noria.errors import NoriaError, RequestError, StoreError, StoreReadOnly
from noria.serve import access

COOKIE = "noria_pages"
FIELD = "token"
MAX_FORM_BYTES = 64 * 1024
_SECRET_BYTES = 32
_POLICY = (
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'; "
    "img-src 'self' data:"
)

HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
"""On every answer of the pages."""


class Forbidden(RequestError):
    """The request did not come from one of our own pages."""


class Misdirected(RequestError):
    """The request names a host that is not this server."""


class TooLarge(RequestError):
    """The body is over the limit."""


def bound_host(address: str) -> str:
    """The host part of the address the server listens on.

    Raises:
        NoriaError: it is not a loopback address: there are no users yet, so nobody else may come in.
    """
    host = (urlsplit(address if "//" in address else f"//{address}").hostname or "").lower()
    if host != "localhost" and not _is_loopback(host):
        raise NoriaError(
            f"Noria cannot listen on '{address}': it has no users yet, so only this machine may reach it. "
            "Use 127.0.0.1 or localhost."
        )
    return host


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_host(request: Request, bound: str) -> None:
    """Refuse a name that is not ours: a stranger's name that resolves to this machine is an attack.

    Raises:
        Misdirected: the Host header is absent, malformed or foreign.
    """
    hosts = request.headers.getlist("host")
    try:
        host = (urlsplit(f"//{hosts[0]}").hostname or "").lower() if len(hosts) == 1 else ""
    except ValueError:
        host = ""
    if host not in {bound, "localhost", "127.0.0.1", "::1"}:
        raise Misdirected("This server answers only under its own address.")


def check_origin(request: Request) -> None:
    """Refuse a change that one of our own pages did not ask for.

    Raises:
        Forbidden: the browser says it came from elsewhere, or nobody says where it came from.
    """
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
    if origin is None and site is None:
        raise Forbidden("The request does not say which page it came from.")
    own = f"{request.url.scheme}://{request.headers['host']}"
    if (origin is not None and origin.lower() != own.lower()) or (site is not None and site != "same-origin"):
        raise Forbidden("The request came from another site.")


def foreign(headers: Sequence[tuple[bytes, bytes]], bound: str) -> str:
    """Why a request comes from a stranger's page; empty when it does not. See `noria.serve.access.foreign`."""
    return access.foreign(dict(headers), bound)


class Tokens:
    """Signs form tokens: a browser's cookie and its forms must match, and only we can make a pair.

    Args:
        folder: the store's folder, where the secret is kept.
    """

    def __init__(self, folder: Path) -> None:
        self._secret = _secret(folder / "pages.key")

    def cookie(self, request: Request) -> tuple[str, bool]:
        """The browser's cookie value, and whether it is new."""
        found = request.cookies.get(COOKIE, "")
        if len(found) == 32 and all(character in "0123456789abcdef" for character in found):
            return found, False
        return secrets.token_hex(16), True

    def sign(self, cookie: str) -> str:
        """The token that goes with a cookie."""
        return hmac.new(self._secret, b"form:" + cookie.encode(), hashlib.sha256).hexdigest()

    def check(self, request: Request, token: str) -> None:
        """Refuse a form whose token does not match its cookie.

        Raises:
            Forbidden: it does not.
        """
        cookie, new = self.cookie(request)
        if new or not hmac.compare_digest(self.sign(cookie).encode(), token.encode("utf-8", "replace")):
            raise Forbidden("The form has expired. Go back, reload the page and try again.")


def _secret(path: Path) -> bytes:
    """The store's secret, made once; replaced when others could have read it."""
    try:
        for _ in range(2):
            if not path.exists():
                _make_secret(path)
            mode = path.lstat().st_mode
            secret = path.read_bytes() if stat.S_ISREG(mode) and not mode & 0o077 else b""
            if len(secret) == _SECRET_BYTES:
                return secret
            path.unlink()
    except OSError as error:
        raise StoreReadOnly(f"Cannot keep the pages' secret in the store ({error.strerror}).") from error
    raise StoreError("The pages' secret in the store keeps changing; is another program writing it?")


def _make_secret(path: Path) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        os.write(handle, secrets.token_bytes(_SECRET_BYTES))
        os.fsync(handle)
    finally:
        os.close(handle)
    try:
        os.link(temporary, path)  # whole or not at all; whoever comes first wins
    except FileExistsError:
        return
    finally:
        temporary.unlink()


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form.

    Raises:
        TooLarge: the body is over the limit.
        RequestError: it is not a form.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise RequestError("Send a form (application/x-www-form-urlencoded).")
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_FORM_BYTES:
            raise TooLarge(f"The form is larger than {MAX_FORM_BYTES // 1024} kB.")
    try:
        fields = parse_qs(body.decode("utf-8"), keep_blank_values=True, max_num_fields=50)
    except ValueError:
        raise RequestError("The form cannot be read: it is not UTF-8, or has too many fields.") from None
    return {name: values[-1] for name, values in fields.items()}
