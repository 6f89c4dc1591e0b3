"""``noria gc``: removes for ever what was deleted long ago."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from noria.cli.places import store_folder
from noria.core.units import parse_duration
from noria.loop.clock import SystemClock
from noria.store import open_store
from noria.track.garbage import collect

__all__ = ["collect_garbage"]


def collect_garbage(store: Path | None, older_than: str, dry_run: bool) -> None:
    """Collect, and say what went and what stayed."""
    kept = open_store(store_folder(store), create=False)
    console = Console(highlight=False)
    try:
        found = collect(kept, SystemClock().now(), parse_duration(older_than), dry_run=dry_run)
    finally:
        kept.close()
    console.print(
        f"{'Would remove' if dry_run else 'Removed'} {found.runs:,} runs, {found.experiments:,} experiments, "
        f"{found.models:,} logged models, {found.artifacts:,} artifacts; {found.blobs:,} files of "
        f"{found.bytes / 2**20:,.1f} MiB."
    )
    for reason in found.kept:
        console.print(f"Kept {reason}.", markup=False)
