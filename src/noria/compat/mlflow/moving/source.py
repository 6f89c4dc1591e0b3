"""What a place to import from gives, whichever kind it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol, TypeVar
from urllib.parse import unquote, urlsplit

import msgspec

from noria.errors import DataError, NoriaError, NotFound
from noria.records.registry import LoggedModel, RegisteredModel, RegisteredVersion
from noria.records.tracking import Experiment, ModelPoint, Point, TrackedRun

__all__ = [
    "GONE",
    "Files",
    "Owner",
    "Registered",
    "Source",
    "integer",
    "local_path",
    "open_source",
    "read_as",
]

T = TypeVar("T")
GONE = "Deleted_Internal"
"""The stage under which MLflow keeps the number of a version that was deleted."""


class Owner(NamedTuple):
    """Whose files are meant: ``kind`` is ``run`` or ``model``; ``uri`` is where the source says they are."""

    kind: str
    id: str
    experiment: int
    uri: str


class Registered(NamedTuple):
    """A registered model with all that hangs on it."""

    model: RegisteredModel
    versions: Sequence[RegisteredVersion]
    aliases: dict[str, int]


class Files(Protocol):
    """The artifacts of one run or model."""

    def walk(self) -> Iterator[tuple[str, int]]:
        """Every file: its path below the root, with ``/``, and its size."""
        ...

    def open(self, path: str) -> AbstractContextManager[BinaryIO]:
        """One file's bytes."""
        ...


class Source(Protocol):
    """A place to import from.

    Attributes:
        remote: reading a history or a file costs a request: what looks unchanged is not read again.
    """

    remote: bool

    def experiments(self) -> list[Experiment]:
        """Every experiment, deleted ones too."""
        ...

    def count(self, experiment: int) -> int | None:
        """How many runs it has, if that is cheap to know."""
        ...

    def runs(self, experiment: int) -> Iterator[TrackedRun | NoriaError]:
        """Its runs, deleted ones too, and an error for each that cannot be read. ``metrics`` may be empty."""
        ...

    def points(self, run: TrackedRun) -> list[Point]:
        """Every point of every metric of a run."""
        ...

    def logged_models(self, experiment: int) -> Iterator[tuple[LoggedModel, list[tuple[ModelPoint, str]]]]:
        """Its logged models, each with its points and the runs that logged those."""
        ...

    def files(self, owner: Owner) -> Files | None:
        """The artifacts, or None when they are where this source cannot reach."""
        ...

    def registry(self) -> Iterator[Registered]:
        """Every registered model."""
        ...

    def close(self) -> None:
        """Release everything."""
        ...


def open_source(address: str, artifacts: Path | None = None) -> Source:
    """The source at an address.

    Args:
        address: ``http(s)://…`` of a tracking server, ``sqlite:///file`` of a database, or an ``mlruns`` folder.
        artifacts: a folder that holds artifacts: what ``mlflow server`` calls its artifacts destination.

    Raises:
        NoriaError: nothing can be read there.
    """
    if address.startswith(("http://", "https://")):
        from noria.compat.mlflow.moving.rest import RestSource

        return RestSource(address)
    if address.startswith("sqlite:"):
        from noria.compat.mlflow.moving.database import DatabaseSource

        return DatabaseSource(Path(address.removeprefix("sqlite:///").removeprefix("sqlite:")), artifacts)
    found = local_path(address) if address.startswith("file:") else Path(address)
    if found is None or not found.is_dir():
        raise NotFound(
            f"There is no folder {address[:200]}. Give an mlruns folder, sqlite:///file, or http(s)://server."
        )
    from noria.compat.mlflow.moving.folder import FolderSource

    return FolderSource(found, artifacts)


def local_path(uri: str) -> Path | None:
    """The local path that a plain path or ``file:`` address names, or None; never with ``..`` in it."""
    if uri.startswith("file:"):
        parts = urlsplit(uri)
        if parts.netloc not in ("", "localhost"):
            return None
        uri = unquote(parts.path)
    elif "://" in uri or uri.partition(":")[0] in ("mlflow-artifacts", "runs", "models", "dbfs"):
        return None
    if not uri or "\0" in uri:
        return None
    path = Path(uri)
    return None if ".." in path.parts else path


def read_as(kind: type[T], values: Any, what: str) -> T:
    """What a source holds as one of our records.

    Raises:
        DataError: it is not of that form.
    """
    try:
        return msgspec.convert(values, kind, strict=False)
    except (msgspec.ValidationError, TypeError, ValueError) as error:
        raise DataError(f"{what} is not as MLflow writes it: {error}") from None


def integer(value: Any, what: str) -> int:
    """A whole number, or text of one.

    Raises:
        DataError: it is none.
    """
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"{what} is {str(value)[:80]!r}, not a whole number.") from None
