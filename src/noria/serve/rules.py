"""Which version answers a record: pure, and sticky when the record has a key."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import Any

from noria.records import Deployment, Route, Signature


def choose(deployment: Deployment, key: str | None) -> Route:
    """The route for one record.

    A record with a key goes the same way for as long as the deployment's shares only grow: a key that has
    met the canary at 5 % meets it at 25 % too.

    Args:
        deployment: routes with their shares.
        key: the record's key, or None: then by chance.
    """
    canary = deployment.route("canary")
    main = deployment.route("champion") or deployment.routes[0]
    if canary is None or canary.percent <= 0:
        return main
    if canary.percent >= 100:
        return canary
    if key is None:
        place = random.random() * 100  # noqa: S311 - a share of traffic, no secret
    else:
        salted = f"{deployment.loop}/{canary.version}/{key}".encode()
        place = int.from_bytes(hashlib.blake2b(salted, digest_size=8).digest()) / 2**64 * 100
    return canary if place < canary.percent else main


def mirrored(deployment: Deployment, shadow: Route, keys: Sequence[str | None] | None) -> bool:
    """Whether a request is one of those the shadow is asked too; by its first key, else by chance."""
    if shadow.percent >= 100:
        return True
    key = keys[0] if keys else None
    if key is None:
        place = random.random() * 100  # noqa: S311 - a share of traffic, no secret
    else:
        salted = f"{deployment.loop}/{shadow.version}/{key}".encode()
        place = int.from_bytes(hashlib.blake2b(salted, digest_size=8).digest()) / 2**64 * 100
    return place < shadow.percent


def key_text(value: Any, signature: Signature) -> str | None:
    """A record's key as text, the same however a client writes it: 7 and 7.0 are one whole number."""
    if value is None:
        return None
    dtype = next((field.dtype for field in signature.inputs if field.name == signature.key), "Int64")
    if isinstance(value, float) and value.is_integer() and "Int" in dtype:
        return str(int(value))
    if isinstance(value, int) and not isinstance(value, bool) and dtype.startswith("Float"):
        return str(float(value))
    return str(value)
