"""Where on this machine the artifacts are that an address of MLflow's names."""

from __future__ import annotations

import re
from pathlib import Path

from noria.compat.mlflow.moving.source import Owner, local_path
from noria.compat.tree import Tree

__all__ = ["Places", "local_files"]

_PROXIED = re.compile(r"mlflow-artifacts:(//[^/]*)?/*")


class Places:
    """Where files were, and where they are now."""

    def __init__(self) -> None:
        self._now: dict[str, str] = {}

    def note(self, before: str, now: str) -> None:
        """What was below ``before`` is below ``now``."""
        self._now[_normal(before)] = now.rstrip("/")

    def now(self, uri: str) -> str:
        """The address now of what was at ``uri``; the same if it did not move."""
        head, tail = _normal(uri), ""
        while head:
            if head in self._now:
                return self._now[head] + tail
            head, slash, last = head.rpartition("/")
            tail = f"{slash}{last}{tail}"
        return uri


def _normal(uri: str) -> str:
    path = local_path(uri)
    return str(path) if path is not None else uri.rstrip("/")


def local_files(owner: Owner, artifacts: Path | None) -> Tree | None:
    """The artifacts at an owner's address, if they are on this machine.

    The address is the source's word. It is believed only if it leads where MLflow would have put the files, to a
    folder named for the owner: so no source can have other files taken along. Artifacts behind a server's proxy are
    looked for in ``artifacts``.
    """
    expected = (owner.id, "artifacts") if owner.kind == "run" else ("models", owner.id, "artifacts")
    proxied = _PROXIED.match(owner.uri)
    if proxied:
        parts = tuple(part for part in owner.uri[proxied.end() :].split("/") if part)
        if artifacts is None or parts[-len(expected) :] != expected:
            return None
        return Tree(artifacts).inner(*parts)
    path = local_path(owner.uri)
    if path is None or path.parts[-len(expected) :] != expected:
        return None
    if artifacts is not None:
        moved = Tree(artifacts).inner(str(owner.experiment), *expected)
        if moved is not None:
            return moved
    root = Path(*path.parts[: -len(expected)])
    return Tree(root).inner(*expected) if root.is_dir() else None
