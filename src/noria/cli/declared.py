"""``noria check`` and ``noria plan``."""

from __future__ import annotations

import json
from pathlib import Path

from noria.errors import DataError, DeclarationError
from noria.loop.check import require_sound
from noria.loop.load import LoadedLoop, load

__all__ = ["check_file", "load_sound", "print_plan"]


def load_sound(file: Path) -> LoadedLoop:
    """The loop of a file, checked with the columns of its data if they are there.

    Raises:
        DeclarationError: every fault at once.
        DataError: the data file is missing or unreadable.
    """
    from noria.data.read import columns_of

    loaded = load(file)
    require_sound(loaded.loop)
    if loaded.loop.origin is not None:
        columns = columns_of(loaded.loop.origin, loaded.path.parent)
        if columns is not None:
            require_sound(loaded.loop, columns)
    return loaded


def check_file(file: Path) -> None:
    """Say that the declaration is sound, or raise with every fault."""
    try:
        loaded = load_sound(file)
    except DataError as error:
        print(f"Note: {error} Column names were not checked.")
        loaded = load(file)
    loop = loaded.loop
    features, gates = len(loop.of_kind("feature")), len(loop.gates) + len(loop.of_kind("gate"))
    print(f"{loop.name}: sound. {features} features, {gates} gates, {len(loop.retrain)} triggers.")


def print_plan(file: Path) -> None:
    """The declaration as JSON on standard output."""
    loaded = load(file)
    faults = loaded.loop.check()
    if faults:
        raise DeclarationError(faults)
    print(json.dumps(loaded.loop.plan(), indent=2, ensure_ascii=False))
