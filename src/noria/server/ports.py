"""What the server asks of the pages it mounts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol


class Pages(Protocol):
    """What the server mounts as its pages. Obligation: never writes, and never trusts what it shows."""

    static: Path

    def names(self) -> frozenset[str]:
        """Every view."""
        ...

    def html(self, view: str, path: Mapping[str, str], query: Mapping[str, list[str]], token: str) -> bytes:
        """A view as HTML."""
        ...

    def json(self, view: str, path: Mapping[str, str], query: Mapping[str, list[str]]) -> bytes:
        """A view as JSON."""
        ...

    def artifact(self, path: Mapping[str, str]) -> tuple[str, bytes]:
        """Name and bytes of a run's file."""
        ...

    def file(self, path: Mapping[str, str]) -> tuple[str, int, Iterator[bytes]]:
        """Name, size and bytes of a tracked run's artifact."""
        ...

    def picture(self, path: Mapping[str, str]) -> tuple[str, bytes]:
        """Type and bytes of an artifact that is a picture made of pixels."""
        ...

    def problem(self, status: int, title: str, sentence: str, details: list[Any]) -> bytes:
        """A page that says what went wrong."""
        ...
