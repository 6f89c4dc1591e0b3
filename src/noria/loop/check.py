"""A declaration -> every fault in it, at once. Pure, in milliseconds, without reading a byte of data."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from noria.errors import DeclarationError, Fault
from noria.loop.check_policies import column_faults, policy_faults
from noria.loop.check_steps import step_faults
from noria.loop.steps import Declaration

__all__ = ["check", "require_sound"]


def check(loop: Declaration, columns: Mapping[str, str] | None = None) -> tuple[Fault, ...]:
    """Every fault, in the order of the file; empty when the declaration is sound.

    Args:
        loop: what was declared.
        columns: name and type of the data's columns, once they are known: then names of columns are checked
        too.
    """
    found = [*policy_faults(loop), *step_faults(loop)]
    if columns is not None:
        found += column_faults(loop, columns)
    here = str(Path.cwd()) + os.sep
    shown = {
        Fault(fault.where.removeprefix(here), _shorten(fault.what, here), fault.hint.strip()): None for fault in found
    }
    return tuple(sorted(shown, key=_place))


def require_sound(loop: Declaration, columns: Mapping[str, str] | None = None) -> None:
    """Raise a `DeclarationError` with every fault, if there is one."""
    faults = check(loop, columns)
    if faults:
        raise DeclarationError(faults)


def _shorten(text: str, here: str) -> str:
    return text.replace(here, "").rstrip()


def _place(fault: Fault) -> tuple[str, int]:
    file, _, line = fault.where.rpartition(":")
    return (file, int(line)) if line.isdigit() else (fault.where, 0)
