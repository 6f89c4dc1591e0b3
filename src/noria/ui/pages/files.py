"""A run's artifacts: the tree of their names, and previews that can do nothing but be looked at."""

from __future__ import annotations

import csv
import io
import json
from collections import deque
from collections.abc import Iterator
from datetime import datetime
from itertools import chain, islice
from typing import Any

import msgspec

from noria.errors import CorruptBlob, NotFound, RequestError
from noria.records.tracking import RunInfo
from noria.store.ports import Blobs
from noria.store.tracking import Artifact
from noria.track.artifacts import clean_path, find_artifact
from noria.ui.ask import Ask, href
from noria.ui.pages.tracking import info_of, moment, named, run_href

_MOST_ENTRIES = 400
_PREVIEW = 256 * 1024
_LARGEST_PICTURE = 32 * 1024 * 1024
_TABLE_ROWS, _TABLE_COLUMNS, _CELL = 200, 50, 500
_TABLES = {".csv": ",", ".tsv": "\t"}


class Entry(msgspec.Struct, frozen=True):
    """A file or folder of the tree; ``depth`` below the folder that is shown, ``size`` None for a folder.

    Attributes:
        href: where the file is previewed, or the folder shown alone.
        unread: whether a folder's content is not in this list.
    """

    name: str
    path: str
    depth: int
    size: int | None
    href: str
    unread: bool = False


class Tree(msgspec.Struct, frozen=True):
    """The start of a folder's tree; ``ups`` lead to the folders about it, ``more`` files are not listed."""

    ups: list[tuple[str, str]]
    entries: list[Entry]
    more: int = 0


class FilePage(msgspec.Struct, frozen=True):
    """One artifact, or one folder; ``kind`` is ``picture``, ``text``, ``table``, ``none`` or ``folder``."""

    title: str
    run: str
    run_name: str
    run_href: str
    path: str
    kind: str
    why: str
    size: int | None
    digest: str
    created: datetime | None
    download: str
    picture: str
    text: str
    table: list[list[str]]
    cut: bool
    tree: Tree
    twin: str


def base(run: RunInfo) -> str:
    """The folder of a run's artifacts in the store's table of names."""
    return f"{run.experiment}/{run.id}/artifacts"


def tree(ask: Ask, run: RunInfo, folder: str = "") -> Tree:
    """What is in a folder of a run, nearest first, until the list is long enough."""
    root = base(run)
    found: dict[str, list[Entry]] = {}
    waiting, left, more = deque([(folder, 0)]), _MOST_ENTRIES, 0
    while waiting and left > 0:
        path, depth = waiting.popleft()
        entries: list[Entry] = []
        inside = ask.tracked.folder(f"{root}/{path}" if path else root)
        more += max(len(inside) - _MOST_ENTRIES, 0)
        for name, file in inside[:_MOST_ENTRIES]:
            whole = f"{path}/{name}" if path else name
            size = file.size if file else None
            entries.append(Entry(name, whole, depth, size, href("runs", run.id, "artifact", path=whole), file is None))
            if file is None:
                waiting.append((whole, depth + 1))
        left -= len(entries)
        found[path] = entries

    def listed(path: str) -> Iterator[Entry]:
        for entry in found[path]:
            read = entry.unread and entry.path in found
            yield msgspec.structs.replace(entry, unread=False) if read else entry
            if read:
                yield from listed(entry.path)

    parts = folder.split("/") if folder else []
    ups = [
        (part, href("runs", run.id, "artifact", path="/".join(parts[: number + 1])))
        for number, part in enumerate(parts)
    ]
    return Tree(ups, list(listed(folder)), more)


def _run(ask: Ask) -> RunInfo:
    found = info_of(ask, ask.path["id"])
    if found is None:
        raise NotFound(f"There is no run '{ask.path['id'][:80]}' in this store.")
    return found


def _file(ask: Ask, run: RunInfo, path: str) -> Artifact:
    try:
        return find_artifact(ask.tracked, f"{base(run)}/{clean_path(path)}")
    except RequestError as error:
        raise NotFound(str(error)) from None


def file(ask: Ask) -> FilePage:
    """A preview of the artifact that the query names, beside the tree of its folder; a folder's tree alone."""
    run, path = _run(ask), ask.one("path") or ""
    try:
        path = clean_path(path, folder=True)
    except RequestError as error:
        raise NotFound(str(error)) from None
    found = ask.tracked.artifact(f"{base(run)}/{path}") if path else None
    if found is None:
        return _page(run, path, None, "folder", tree(ask, run, path))
    beside = tree(ask, run, path.rpartition("/")[0])
    try:
        return _preview(ask.blobs, run, path, found, beside)
    except (CorruptBlob, NotFound) as error:
        return _page(run, path, found, "none", beside, why=str(error))


def _page(run: RunInfo, path: str, found: Artifact | None, kind: str, beside: Tree, **more: Any) -> FilePage:
    if found is None and path and not beside.entries:
        raise NotFound(f"Run {run.id[:8]} has no artifact '{path[:80]}'.")
    facts: dict[str, Any] = {"why": "", "picture": "", "text": "", "table": [], "cut": False}
    return FilePage(
        title=f"{path or 'Artifacts'} of {named(run)}",
        run=run.id,
        run_name=named(run),
        run_href=run_href(run.id),
        path=path,
        kind=kind,
        size=found.size if found else None,
        digest=found.digest if found else "",
        created=moment(found.created) if found else None,
        download=href("runs", run.id, "artifacts", *path.split("/")) if found else "",
        tree=beside,
        twin=href("runs", run.id, "artifact.json"),
        **(facts | more),
    )


def _preview(blobs: Blobs, run: RunInfo, path: str, found: Artifact, beside: Tree) -> FilePage:
    start = b"".join(islice(blobs.read(found.digest, 0, _PREVIEW), 64))
    if raster(start):
        if found.size > _LARGEST_PICTURE:
            return _page(run, path, found, "none", beside, why="The picture is too large to be shown here.")
        return _page(run, path, found, "picture", beside, picture=href("runs", run.id, "pictures", *path.split("/")))
    text = None if start.startswith(b"%PDF-") else _text(start, cut=found.size > len(start))
    if text is None:
        return _page(run, path, found, "none", beside, why="This kind of file is not shown, only downloaded.")
    cut = found.size > len(start)
    ending = path[path.rfind(".") :].lower() if "." in path else ""
    if ending in _TABLES:
        table = _table(text, _TABLES[ending], cut)
        if table:
            return _page(run, path, found, "table", beside, table=table, cut=cut or len(table) > _TABLE_ROWS)
    if ending == ".json" and not cut:
        text = _laid_out(text)
    return _page(run, path, found, "text", beside, text=text, cut=cut)


def raster(start: bytes) -> str:
    """The type of a picture made of pixels, from its first bytes; "" for anything else."""
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if start.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if start.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    return "image/webp" if start.startswith(b"RIFF") and start[8:12] == b"WEBP" else ""


def _text(data: bytes, *, cut: bool) -> str | None:
    """Bytes as text, or None when they are not UTF-8 text."""
    if b"\0" in data:
        return None
    for short in range(4 if cut else 1):  # what was cut may end within a character
        try:
            return data[: len(data) - short].decode("utf-8-sig")
        except UnicodeDecodeError:
            continue
    return None


def _table(text: str, delimiter: str, cut: bool) -> list[list[str]]:
    lines = text[: text.rfind("\n")] if cut else text
    rows = []
    try:
        for row in islice(csv.reader(io.StringIO(lines), delimiter=delimiter), _TABLE_ROWS + 1):
            rows.append([cell[:_CELL] for cell in row[:_TABLE_COLUMNS]])
    except csv.Error:
        return []
    width = max((len(row) for row in rows), default=0)
    return [row + [""] * (width - len(row)) for row in rows if row]


def _laid_out(text: str) -> str:
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


def download(ask: Ask) -> tuple[str, int, Iterator[bytes]]:
    """Name, size and bytes of an artifact.

    Raises:
        NotFound: there is no such run or artifact.
    """
    run = _run(ask)
    found = _file(ask, run, ask.path["name"])
    pieces = ask.blobs.read(found.digest)
    first = next(pieces, b"")  # what is missing is said before the answer begins
    return found.path.rpartition("/")[2], found.size, chain((first,), pieces)


def picture(ask: Ask) -> tuple[str, bytes]:
    """Type and bytes of an artifact that is a picture made of pixels.

    Raises:
        NotFound: there is no such run or artifact, or it is no such picture.
    """
    found = _file(ask, _run(ask), ask.path["name"])
    start = next(ask.blobs.read(found.digest, 0, 32), b"")
    kind = raster(start)
    if not kind or found.size > _LARGEST_PICTURE:
        raise NotFound("This artifact is not a picture that can be shown.")
    return kind, ask.blobs.get(found.digest)
