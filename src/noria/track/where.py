"""Which store is meant: what was said, else what the environment says, else ``.noria``."""

from __future__ import annotations

import os
from pathlib import Path

from noria.errors import RequestError

__all__ = ["destination"]


def destination(store: str | os.PathLike[str] | None) -> str:
    """The address of a store: an absolute folder, ``http://HOST:PORT`` or ``postgresql://…``.

    Raises:
        RequestError: it is none of these.
    """
    said = os.environ.get("NORIA_TRACKING_URI") or os.environ.get("NORIA_STORE") or ".noria"
    found = os.fspath(store) if store is not None else said
    if "://" in found:
        if not found.startswith(("http://", "https://", "postgresql://")):
            raise RequestError(f"'{found[:80]}' is not a store: give a folder, http://HOST:PORT or postgresql://…")
        return found.rstrip("/")
    return str(Path(found).resolve())
