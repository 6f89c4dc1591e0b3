"""Artifacts: names in a table for blobs by digest. A name is looked up and never becomes a path on a disk."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import unquote

from noria.errors import NotFound, RequestError
from noria.store.tracking import Artifact, TrackingReader

__all__ = ["MAX_PART", "MAX_PATH", "clean_path", "find_artifact", "list_folder"]

MAX_PATH = 4_000
MAX_PART = 1_000
_DRIVE = re.compile(r"[A-Za-z]:")
# a name must read as it is: nothing that turns the order of letters round, or cannot be seen, but for the joiners
# that some scripts and emoji are written with
_HIDDEN = ("Cc", "Cf", "Zl", "Zp")
_JOINERS = "\u200c\u200d"
_ESCAPES = 16


def clean_path(path: str, *, folder: bool = False) -> str:
    """The path of an artifact as it is kept, or an error: nothing is resolved or repaired.

    Args:
        path: names joined by ``/``, decoded once from its address. What would become hostile if decoded again,
            however often, is refused too.
        folder: a folder may be named with a ``/`` at the end, and the root by no text at all.

    Raises:
        RequestError: says why.
    """
    if folder:
        path = path.removesuffix("/")
        if not path:
            return ""
    text = path
    for _ in range(_ESCAPES):
        problem = _problem(text)
        if problem:
            raise RequestError(f"Invalid path '{_shown(path)}': {problem}.")
        decoded = unquote(text, errors="surrogateescape")
        if decoded == text:
            return path
        text = decoded
    raise RequestError(f"Invalid path '{_shown(path)}': it is escaped too often.")


def _shown(path: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in path[:80]) + ("…" if len(path) > 80 else "")


def _problem(path: str) -> str:
    if not path:
        return "it is empty"
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        return "it is not valid UTF-8"
    if size > MAX_PATH:
        return f"it is longer than {MAX_PATH} bytes"
    if "\ufffd" in path:
        return "it is not valid UTF-8"
    if "\\" in path:
        return "it holds a back-slash"
    if any(unicodedata.category(sign) in _HIDDEN and sign not in _JOINERS for sign in path):
        return "it holds a control or invisible character"
    if path.startswith("/"):
        return "it is absolute"
    for part in path.split("/"):
        if not part:
            return "it holds an empty name"
        if part.strip() in (".", ".."):
            return "it holds '.' or '..'"
        if _DRIVE.match(part):  # a client that saves it by the rest of its path would leave its folder
            return "it holds the letter of a drive"
        if len(part.encode()) > MAX_PART:
            return f"a name in it is longer than {MAX_PART} bytes"
    return ""


def find_artifact(reader: TrackingReader, path: str) -> Artifact:
    """The file of this path.

    Raises:
        NotFound: there is none.
    """
    found = reader.artifact(path)
    if found is None:
        raise NotFound(f"There is no artifact '{_shown(path)}'.")
    return found


def list_folder(reader: TrackingReader, path: str) -> list[tuple[str, Artifact | None]]:
    """What is directly in a folder, by name: a file's artifact, or None for a folder; nothing for a file."""
    return reader.folder(path)
