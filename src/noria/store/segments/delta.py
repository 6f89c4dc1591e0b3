"""A Delta Lake table of Parquet files that are there already: its log, written commit by commit.

Source: the Delta transaction log protocol, reader version 1, writer version 2. Each commit is one JSON file, made
under its number only if no other has it. What is written follows from the index, so that a commit that was cut off
is simply made again.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

__all__ = ["commit", "last_commit"]

_TYPES = {
    "Int64": "long",
    "Int32": "integer",
    "Float64": "double",
    "String": "string",
    "Boolean": "boolean",
    "Datetime(time_unit='us', time_zone='UTC')": "timestamp",
    "List(Float64)": {"type": "array", "elementType": "double", "containsNull": True},
}


def _schema(columns: Mapping[str, str]) -> str:
    fields = [{"name": name, "type": _TYPES[kind], "nullable": True, "metadata": {}} for name, kind in columns.items()]
    return json.dumps({"type": "struct", "fields": fields})


def _commits(folder: Path) -> list[Path]:
    try:
        return sorted(
            path for path in (folder / "_delta_log").iterdir() if path.name[:20].isdigit() and path.suffix == ".json"
        )
    except FileNotFoundError:
        return []


def last_commit(folder: Path) -> tuple[set[str], set[str], Mapping[str, Any] | None]:
    """Names the last commit added and removed, and the newest metadata there is."""
    added: set[str] = set()
    removed: set[str] = set()
    metadata: Mapping[str, Any] | None = None
    for place, path in enumerate(reversed(_commits(folder))):
        for line in path.read_text(encoding="utf-8").splitlines():
            action = json.loads(line)
            if place == 0 and "add" in action:
                added.add(action["add"]["path"])
            if place == 0 and "remove" in action:
                removed.add(action["remove"]["path"])
            metadata = action.get("metaData", metadata)
        if metadata is not None:
            break
    return added, removed, metadata


def commit(
    folder: Path,
    name: str,
    columns: Mapping[str, str],
    adds: Sequence[Mapping[str, Any]],
    removes: Sequence[str],
    now_ms: int,
) -> None:
    """Write one commit.

    Args:
        folder: the table's.
        name: what people call the table.
        columns: all columns and their Polars types.
        adds: files to add: ``name``, ``bytes``, ``rows``, and ``earliest`` and ``latest`` of ``at`` as text.
        removes: names of files that are part of it no more.
        now_ms: milliseconds since 1970.

    Raises:
        OSError: it cannot be written.
    """
    log = folder / "_delta_log"
    log.mkdir(parents=True, exist_ok=True)
    known = _commits(folder)
    _, _, metadata = last_commit(folder)
    actions: list[dict[str, Any]] = []
    schema = _schema(columns)
    if metadata is None:
        actions.append({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}})
    if metadata is None or (columns and metadata["schemaString"] != schema):  # one without files keeps its own
        actions.append(
            {
                "metaData": {
                    "id": metadata["id"] if metadata is not None else str(uuid.uuid4()),
                    "name": name,
                    "format": {"provider": "parquet", "options": {}},
                    "schemaString": schema,
                    "partitionColumns": [],
                    "configuration": {},
                    "createdTime": now_ms,
                }
            }
        )
    for one in adds:
        stats = {
            "numRecords": one["rows"],
            "minValues": {"at": one["earliest"], "sequence": one["first"]},
            "maxValues": {"at": one["latest"], "sequence": one["first"] + one["rows"] - 1},
            "nullCount": {"at": 0, "sequence": 0},
        }
        actions.append(
            {
                "add": {
                    "path": quote(one["name"]),
                    "partitionValues": {},
                    "size": one["bytes"],
                    "modificationTime": now_ms,
                    "dataChange": not removes,
                    "stats": json.dumps(stats),
                }
            }
        )
    for path in removes:
        actions.append({"remove": {"path": quote(path), "deletionTimestamp": now_ms, "dataChange": not adds}})
    actions.append({"commitInfo": {"timestamp": now_ms, "operation": "WRITE", "engineInfo": "noria"}})
    number = int(known[-1].name[:20]) + 1 if known else 0
    _place(log, number, "\n".join(json.dumps(action) for action in actions) + "\n")


def _place(log: Path, number: int, text: str) -> None:
    temporary = log / f".{uuid.uuid4().hex}.tmp"
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode())  # all of it: os.write() takes a part where little room is left, and says no word
            file.flush()
            os.fsync(handle)
        os.link(temporary, log / f"{number:020d}.json")  # whole or not at all; whoever comes first has the number
    finally:
        temporary.unlink()
    folder = os.open(log, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
