"""``noria gc``: removes for ever what was deleted long ago."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from noria.cli.compaction import Retention
from noria.cli.compactor import remove_old
from noria.cli.places import store_folder
from noria.core.units import parse_duration
from noria.loop.clock import SystemClock
from noria.store import open_store
from noria.store.segments.compact import compact
from noria.store.segments.log import FolderPredictions
from noria.track.garbage import collect

__all__ = ["collect_garbage"]


def collect_garbage(store: Path | None, older_than: str, dry_run: bool, keep: Retention) -> None:
    """Collect, and say what went and what stayed."""
    kept = open_store(store_folder(store), create=False)
    console = Console(highlight=False)
    predictions = None
    try:
        found = collect(kept, SystemClock().now(), parse_duration(older_than), dry_run=dry_run)
        if any(keep) and isinstance(kept.predictions, FolderPredictions):
            try:
                if not dry_run:
                    compact(kept.predictions)
            finally:  # on a full disk above all
                predictions = remove_old(kept.predictions, keep, dry_run=dry_run)
    finally:
        kept.close()
    console.print(
        f"{'Would remove' if dry_run else 'Removed'} {found.runs:,} runs, {found.experiments:,} experiments, "
        f"{found.models:,} logged models, {found.artifacts:,} artifacts; {found.blobs:,} files of "
        f"{found.bytes / 2**20:,.1f} MiB."
    )
    if predictions is not None:
        console.print(f"{'Would remove' if dry_run else 'Removed'} {predictions:,} predictions, with their labels.")
    for reason in found.kept:
        console.print(f"Kept {reason}.", markup=False)
