"""Equal models give equal bytes: a skops file without the addresses, random names and times in it."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

__all__ = ["repeatable"]

_SCHEMA = "schema.json"
_LONG_AGO = (1980, 1, 1, 0, 0, 0)


def repeatable(data: bytes) -> bytes:
    """The same skops file, its parts named and numbered in the order in which they are met."""
    with zipfile.ZipFile(io.BytesIO(data)) as given:
        schema = json.loads(given.read(_SCHEMA))
        _sort_sets(schema)
        files: dict[str, str] = {}
        _renumber(schema, {}, files)
        written = io.BytesIO()
        with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as result:
            text = json.dumps(schema, separators=(",", ":"))
            result.writestr(_entry(_SCHEMA), text)
            for old, new in files.items():
                result.writestr(_entry(new), given.read(old))
    return written.getvalue()


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _LONG_AGO)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o600 << 16
    return entry


def _sort_sets(node: Any) -> None:
    """Put what sets hold into an order that does not depend on the process."""
    for child in _children(node):
        _sort_sets(child)
    if isinstance(node, dict) and node.get("__loader__") == "SetNode":
        node["content"].sort(key=lambda item: json.dumps(_without_addresses(item), sort_keys=True))


def _without_addresses(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_addresses(item) for key, item in node.items() if key not in ("__id__", "file")}
    return [_without_addresses(item) for item in node] if isinstance(node, list) else node


def _renumber(node: Any, numbers: dict[int, int], files: dict[str, str]) -> None:
    if isinstance(node, dict) and "__loader__" in node:
        if node["__loader__"] == "JsonNode":
            node.pop("__id__", None)  # plain values need not be the same object again, and by chance are
        elif "__id__" in node:
            node["__id__"] = numbers.setdefault(node["__id__"], len(numbers) + 1)
        if isinstance(node.get("file"), str):
            suffix = node["file"].rpartition(".")[2]
            node["file"] = files.setdefault(node["file"], f"{len(files) + 1}.{suffix}")
    for child in _children(node):
        _renumber(child, numbers, files)


def _children(node: Any) -> list[Any]:
    if isinstance(node, dict):
        return list(node.values())
    return node if isinstance(node, list) else []
