"""``noria import`` and ``noria export``: moving between a store and other tools."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from noria.compat.moved import Moved, Report

__all__ = ["exporting", "importing"]

importing = typer.Typer(no_args_is_help=True, help="Bring runs and models over from another tool.")
exporting = typer.Typer(no_args_is_help=True, help="Take runs and models to another tool.")

StoreAddress = Annotated[
    str, typer.Option("--store", envvar="NORIA_STORE", help="The store's folder, or its address in PostgreSQL.")
]
Only = Annotated[str | None, typer.Option(help="Only the experiment of this name.", show_default=False)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count; change nothing.")]
_STORE = ".noria"


@importing.command("mlflow")
def import_mlflow(
    source: Annotated[
        str, typer.Argument(help="http(s)://server, an mlruns folder, or sqlite:///file.", show_default=False)
    ],
    store: StoreAddress = _STORE,
    experiment: Only = None,
    artifacts: Annotated[
        Path | None,
        typer.Option(
            help="Folder with the artifacts, e.g. mlartifacts, if not where the source says.", show_default=False
        ),
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Bring experiments, runs, artifacts and registered models over; again, and only what is new comes."""
    from noria.compat.mlflow.moving import import_source, open_source
    from noria.loop.clock import SystemClock
    from noria.store import open_store

    opened = open_source(source, artifacts)
    try:
        kept = open_store(store)
        try:
            with _bar() as report:
                moved = import_source(
                    opened, kept, SystemClock(), experiment=experiment, dry_run=dry_run, report=report
                )
        finally:
            kept.close()
    finally:
        opened.close()
    raise typer.Exit(_told(moved, "would be imported" if dry_run else "imported"))


@exporting.command("mlflow")
def export_mlflow(
    target: Annotated[str, typer.Argument(help="http(s)://server, or a folder for mlruns.", show_default=False)],
    store: StoreAddress = _STORE,
    experiment: Only = None,
    dry_run: DryRun = False,
) -> None:
    """Take experiments, runs, artifacts and registered models to an MLflow server or folder."""
    from noria.compat.mlflow.moving import export_store
    from noria.store import open_store

    kept = open_store(store, create=False, read_only=True)
    try:
        with _bar() as report:
            moved = export_store(kept, target, experiment=experiment, dry_run=dry_run, report=report)
    finally:
        kept.close()
    raise typer.Exit(_told(moved, "would be exported" if dry_run else "exported"))


@importing.command("tensorboard")
def import_tensorboard(
    folder: Annotated[Path, typer.Argument(help="Folder with event files, at any depth.", show_default=False)],
    store: StoreAddress = _STORE,
    experiment: Annotated[
        str | None, typer.Option(help="Experiment for the runs; the folder's name by default.", show_default=False)
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on reading what is written, until stopped.")] = False,
    dry_run: DryRun = False,
) -> None:
    """Read event files into runs: scalars, texts, images and hyperparameters."""
    from noria.compat.tensorboard import import_events
    from noria.loop.clock import SystemClock
    from noria.store import open_store

    kept = open_store(store)
    try:
        with _bar() as report:
            moved = import_events(
                folder, kept, SystemClock(), experiment=experiment, follow=follow, dry_run=dry_run, report=report
            )
    finally:
        kept.close()
    raise typer.Exit(_told(moved, "would be imported" if dry_run else "imported"))


@exporting.command("tensorboard")
def export_tensorboard(
    folder: Annotated[Path, typer.Argument(help="Folder for the event files.", show_default=False)],
    store: StoreAddress = _STORE,
    experiment: Only = None,
    dry_run: DryRun = False,
) -> None:
    """Write the metrics and params of every run as event files that TensorBoard opens."""
    from noria.compat.tensorboard import export_events
    from noria.store import open_store

    kept = open_store(store, create=False, read_only=True)
    try:
        with _bar() as report:
            moved = export_events(kept, folder, experiment=experiment, dry_run=dry_run, report=report)
    finally:
        kept.close()
    raise typer.Exit(_told(moved, "would be exported" if dry_run else "exported"))


@contextmanager
def _bar() -> Iterator[Report]:
    """A bar of runs done, on the error stream; nothing where that is no terminal."""
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (
        SpinnerColumn(),
        TextColumn("runs"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("", total=None)

        def report(done: int, of: int | None, what: str) -> None:
            progress.update(task, completed=done, total=of, description=escape(what[:60]))

        yield report


def _told(moved: Moved, verb: str) -> int:
    """Say what moved; the exit status is 1 if something did not."""
    from rich.console import Console
    from rich.text import Text

    from noria.cli.tables import bytes_text, table

    console = Console(highlight=False)
    shown = table("", f"#{verb}")
    for name, count in (
        ("experiments", moved.experiments),
        ("runs", moved.runs),
        ("runs unchanged", moved.unchanged),
        ("metric points", moved.points),
        ("files", moved.files),
        ("logged models", moved.logged_models),
        ("registered models", moved.models),
        ("model versions", moved.versions),
    ):
        size = f" ({bytes_text(moved.bytes)})" if name == "files" and count else ""
        shown.add_row(name, f"{count:,}{size}")
    console.print(shown)
    for note in moved.notes:
        console.print(Text(note, style="dim"), soft_wrap=True)
    for problem in moved.problems:
        console.print(Text(f"Not moved: {problem}", style="red"), soft_wrap=True)
    return 1 if moved.problems else 0
