"""Which store, which loop: the same rules for every verb."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from noria.core.nearest import suggest
from noria.errors import NotFound
from noria.store import Store, open_store
from noria.store.ports import LoopRecord, Reader

__all__ = ["opened", "store_folder", "the_loop"]


def store_folder(store: Path | None, file: Path | None = None) -> Path:
    """``--store`` or ``NORIA_STORE``; else ``.noria`` beside the loop file, else in this folder."""
    if store is not None:
        return store
    return (file.resolve().parent if file is not None else Path.cwd()) / ".noria"


@contextmanager
def opened(store: Path | None, *, read_only: bool = False) -> Iterator[Store]:
    """An existing store, closed at the end."""
    found = open_store(store_folder(store), create=False, read_only=read_only)
    try:
        yield found
    finally:
        found.close()


def the_loop(db: Reader, name: str | None) -> str:
    """The loop meant: the one named, or the only one.

    Raises:
        NotFound: there is none, or the name is needed.
    """
    names = [record.name for record in db.list(LoopRecord)]
    if name is None:
        if len(names) == 1:
            return names[0]
        raise NotFound(f"This store has {len(names)} loops: {', '.join(sorted(names)) or 'none'}. Say which: --loop.")
    if name not in names:
        raise NotFound(f"There is no loop '{name[:80]}' in this store. {suggest(name, names)}")
    return name
