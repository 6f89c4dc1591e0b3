"""Page tokens: a place in an order, opaque to the client and checked when it comes back."""

from __future__ import annotations

import base64
import binascii
import math
from typing import Any, Literal

import msgspec

from noria.compat.mlflow.errors import WireError

__all__ = ["FORGED", "read_token", "write_token"]

FORGED = "Invalid page token: it is not one that this search gave."
_Infinite = tuple[Literal["inf", "-inf"]]
_DECODER = msgspec.json.Decoder(list[str | int | float | _Infinite | None])
_INT64 = range(-(2**63), 2**63)


def write_token(place: list[Any] | None) -> str | None:
    """A place as text; None for none."""
    if place is None:
        return None
    # JSON has no infinities: they go as a list of their name, which no other value is
    parts = [(str(value),) if isinstance(value, float) and math.isinf(value) else value for value in place]
    return base64.urlsafe_b64encode(msgspec.json.encode(parts)).decode()


def read_token(token: str | None, parts: int) -> list[Any] | None:
    """The place in a token; None for none.

    Args:
        token: what the client sent.
        parts: how many values a place has.

    Raises:
        WireError: it is not one of ours.
    """
    if not token:
        return None
    try:
        place = _DECODER.decode(base64.urlsafe_b64decode(token.encode()[:100_000]))
    except (binascii.Error, ValueError, UnicodeEncodeError, msgspec.MsgspecError):
        place = []
    if len(place) != parts or any(
        (isinstance(value, int) and value not in _INT64) or (isinstance(value, str) and "\0" in value)
        for value in place
    ):
        raise WireError("INVALID_PARAMETER_VALUE", FORGED)
    return [float(value[0]) if isinstance(value, tuple) else value for value in place]
