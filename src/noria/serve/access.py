"""Who may ask which model: keys, kept as digests and compared in constant time; and where a request comes from."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from noria.errors import NoriaError
from noria.store.ports import ApiKey

__all__ = ["Keys", "Unauthorized", "digest_of", "foreign", "new_secret"]

_LOCAL = frozenset(("localhost", "127.0.0.1", "::1"))


class Unauthorized(NoriaError):
    """The model needs a key, and none that fits came."""


def new_secret() -> str:
    """A key to give to a client: 256 random bits."""
    return f"noria_{secrets.token_urlsafe(32)}"


def digest_of(secret: str) -> str:
    """What is kept of a key. Its 256 random bits need no slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()


class Keys:
    """The keys in force.

    Args:
        needed: whether every model needs a key, also those that have none (then nobody can ask them).
    """

    def __init__(self, needed: bool = False) -> None:
        self.needed = needed
        self._keys: dict[str, list[ApiKey]] = {}

    def update(self, keys: Sequence[ApiKey]) -> None:
        """Take these keys for those in force; one without a model opens every model."""
        found: dict[str, list[ApiKey]] = {}
        for key in keys:
            found.setdefault(key.model or "", []).append(key)
        self._keys = found

    @property
    def open(self) -> bool:
        """Whether no model needs a key."""
        return not self.needed and not self._keys

    def check(self, model: str | None, headers: Mapping[bytes, bytes]) -> str:
        """Let the request pass, or not; returns the name of the key that opened, empty where none was needed.

        Args:
            model: whose prediction or description is asked; None for what is about the server.
            headers: with ``Authorization: Bearer KEY`` or ``X-API-Key: KEY``.

        Raises:
            Unauthorized: a key is needed and none that fits is there.
        """
        if self.open:
            return ""
        every = self._keys.get("", [])
        allowed = [*every, *self._keys.get(model, [])] if model is not None else every
        if not self.needed and not allowed and model is not None:
            return ""
        if not self.needed and model is None and not every:
            return ""
        given = headers.get(b"x-api-key", b"")
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() == b"bearer":
            given = token.strip()
        found, fits = hashlib.sha256(given).hexdigest(), None
        for key in allowed:
            if hmac.compare_digest(found, key.digest):
                fits = key.name
        if not given or fits is None:
            named = f"Model '{model[:80]}'" if model is not None else "This address"
            raise Unauthorized(f"{named} needs a key: send Authorization: Bearer KEY, or X-API-Key: KEY.")
        return fits


def foreign(headers: Mapping[bytes, bytes], bound: str | None) -> str:
    """Why a request comes from a stranger's page; empty when it does not.

    Programs send no ``Origin``. A browser does, and then it must be our own; and the name asked for must be ours,
    or a stranger's name that resolves to this machine could read the answers.

    Args:
        headers: by lower-case name.
        bound: the host listened on; None where others are let in, and keys decide.
    """
    host = headers.get(b"host", b"").decode("latin-1").lower()
    origin = headers.get(b"origin")
    if bound is not None:
        try:
            asked = (urlsplit(f"//{host}").hostname or "").lower()
        except ValueError:
            asked = ""
        if asked != bound and asked not in _LOCAL:
            return "This server answers only under its own address."
    if origin is not None and origin.decode("latin-1").lower().partition("://")[2] != host:
        return "The request came from another site."
    return ""
