"""The verbs. Each imports what it needs when it is called, so that ``noria --help`` is quick."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from noria.cli.keys import keys
from noria.cli.moving import exporting, importing
from noria.core.units import parse_duration, parse_size

__all__ = ["application"]

application = typer.Typer(
    help="Keeps machine-learning models right in real life: data, train, validate, deploy, monitor, retrain.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
application.add_typer(importing, name="import")
application.add_typer(exporting, name="export")
application.add_typer(keys, name="keys")

File = Annotated[Path, typer.Argument(help="The Python file with your loop.", show_default=False)]
StoreFolder = Annotated[
    Path | None,
    typer.Option("--store", envvar="NORIA_STORE", help="Where everything is kept; .noria beside the loop file.",
                 show_default=False),
]  # fmt: skip


def _readable(parse: Callable[[str], object]) -> Callable[[str | None], str | None]:
    """A check that an option's text means something."""

    def check(text: str | None) -> str | None:
        try:
            if text is not None:
                parse(text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
        return text

    return check


KeepPredictions = Annotated[
    str | None,
    typer.Option(callback=_readable(parse_duration), help="Remove predictions older than this, e.g. 90d.",
                 show_default=False),
]  # fmt: skip
KeepSize = Annotated[
    str | None,
    typer.Option(callback=_readable(parse_size), help="Remove the oldest predictions over this size, e.g. 20GB.",
                 show_default=False),
]  # fmt: skip
LoopName = Annotated[str | None, typer.Option("--loop", "-l", help="Which loop, when the store has several.")]


@application.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        from noria import __version__

        print(f"noria {__version__}")
        raise typer.Exit


@application.command()
def new(
    name: Annotated[str, typer.Argument(help="Name of the loop; a folder of this name is made.", show_default=False)],
    data: Annotated[Path | None, typer.Option(help="Your CSV or Parquet file.", show_default=False)] = None,
    key: Annotated[str | None, typer.Option(help="Column that names a row; 'none' if there is none.")] = None,
    time: Annotated[str | None, typer.Option(help="Column with the time of a row; 'none' if there is none.")] = None,
    label: Annotated[str | None, typer.Option(help="Column to predict.", show_default=False)] = None,
    template: Annotated[str | None, typer.Option(help="Start from a template, e.g. arrival-time.")] = None,
) -> None:
    """Write a loop for your own data file, or from a template."""
    from noria.cli.new import write_loop

    write_loop(name, data=data, key=key, time=time, label=label, template=template)


@application.command()
def check(file: File) -> None:
    """Find every fault of a declaration at once, with file and line."""
    from noria.cli.declared import check_file

    check_file(file)


@application.command()
def plan(file: File) -> None:
    """Print the whole declaration as JSON."""
    from noria.cli.declared import print_plan

    print_plan(file)


@application.command()
def turn(
    file: File,
    store: StoreFolder = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="A knob for this turn: train.C=0.5")] = None,
    accept_schema: Annotated[bool, typer.Option(help="Take the data's new columns and types for right.")] = False,
) -> None:
    """Do one turn: data, training, gates, registration and, if they pass, promotion."""
    from noria.cli.turning import one_turn

    raise typer.Exit(one_turn(file, store, set_ or [], accept_schema))


@application.command()
def up(
    file: File,
    store: StoreFolder = None,
    host: Annotated[str, typer.Option(help="Address to listen on; loopback only, for now.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8500,
    keep_predictions: KeepPredictions = None,
    keep_size: KeepSize = None,
) -> None:
    """Train, gate, serve over HTTP, watch and retrain, until stopped."""
    from noria.cli.compaction import Retention
    from noria.cli.up import up as run

    raise typer.Exit(run(file, store, host, port, Retention(keep_predictions, keep_size)))


@application.command()
def serve(
    model: Annotated[
        str | None,
        typer.Argument(
            help="MODEL as deployed, MODEL@alias or MODEL/VERSION; all that is deployed by default.", show_default=False
        ),
    ] = None,
    store: StoreFolder = None,
    host: Annotated[str, typer.Option(help="Address to listen on; beyond loopback models need keys.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8080,
    grpc_port: Annotated[int | None, typer.Option(min=0, max=65535, help="Also gRPC, on this port.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes that share the port.")] = 1,
    record: Annotated[
        str, typer.Option(help="When a prediction is recorded: os, disk (survives a power cut) or off.")
    ] = "os",
    grace: Annotated[
        float, typer.Option(min=0, max=600, help="Seconds to go on taking connections when told to stop.")
    ] = 1.0,
    max_memory: Annotated[int | None, typer.Option(min=64, help="MiB a model's process may hold.")] = None,
    native: Annotated[
        bool, typer.Option("--compiled/--original", help="Use the compiled graph where it is equal.")
    ] = True,
    log_format: Annotated[str, typer.Option(help="text or json.")] = "text",
    keep_predictions: KeepPredictions = None,
    keep_size: KeepSize = None,
) -> None:
    """Serve a model over HTTP: plain records, the Open Inference Protocol, MLflow's scoring."""
    from noria.cli.compaction import Retention
    from noria.cli.serving import serve_model

    for value, allowed in ((record, ("os", "disk", "off")), (log_format, ("text", "json"))):
        if value not in allowed:
            raise typer.BadParameter(f"'{value}' is none of {', '.join(allowed)}.")
    limit = None if max_memory is None else max_memory * 2**20
    serve_model(
        model, store, host=host, port=port, grpc_port=grpc_port, workers=workers, record=record, grace=grace,
        max_memory=limit, native=native, log_format=log_format, keep=Retention(keep_predictions, keep_size),
    )  # fmt: skip


@application.command()
def predict(
    model: Annotated[str, typer.Argument(help="MODEL, MODEL@alias or MODEL/VERSION.", show_default=False)],
    file: Annotated[
        Path | None,
        typer.Argument(
            help="CSV, Parquet, NDJSON or Arrow; a Delta table's folder; - or none: CSV or NDJSON on standard input.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Where to; beside the file, or standard output, by default.", show_default=False),
    ] = None,
    store: StoreFolder = None,
) -> None:
    """Predict every row of a file or of standard input, however many there are."""
    from noria.cli.predicting import predict_file, predict_stream

    if file is None or str(file) == "-":
        predict_stream(model, out, store)
    else:
        predict_file(model, file, out, store)


@application.command()
def server(
    store: Annotated[
        str,
        typer.Option("--store", envvar="NORIA_STORE", help="A folder, or postgresql://USER:PASSWORD@HOST/DATABASE."),
    ] = ".noria",
    blobs: Annotated[
        str | None,
        typer.Option(
            envvar="NORIA_BLOBS", help="Where files are kept: a folder or s3://BUCKET/PREFIX; in the store by default."
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; loopback only, for now.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 5000,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes; more than one needs PostgreSQL.")] = 1,
) -> None:
    """Serve tracking, registry, artifacts and pages; MLflow's clients work with it unchanged."""
    from noria.cli.tracking_server import serve_store

    raise typer.Exit(serve_store(store, blobs, host, port, workers))


@application.command()
def demo(
    store: Annotated[Path | None, typer.Option(help="Where to keep it; a temporary folder by default.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the pages; 0 takes a free one.")] = 8500,
    json: Annotated[Path | None, typer.Option("--json", help="Also write the figures to this file.")] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Keep the pages up at the end.")] = True,
) -> None:
    """Watch a real model live through 2020: taxi arrival times, replayed as a stream."""
    from noria.cli.demo import run

    raise typer.Exit(run(store, port, json, wait))


@application.command()
def status(store: StoreFolder = None) -> None:
    """Where every loop stands."""
    from noria.cli.show import show_status

    show_status(store)


@application.command()
def runs(loop: LoopName = None, store: StoreFolder = None, limit: int = 20) -> None:
    """Training runs, newest first."""
    from noria.cli.show import show_runs

    show_runs(store, loop, limit)


@application.command()
def models(loop: LoopName = None, store: StoreFolder = None, limit: int = 20) -> None:
    """Model versions, newest first."""
    from noria.cli.show import show_models

    show_models(store, loop, limit)


@application.command()
def data(loop: LoopName = None, store: StoreFolder = None, limit: int = 20) -> None:
    """Dataset versions, newest first."""
    from noria.cli.show import show_data

    show_data(store, loop, limit)


@application.command()
def turns(loop: LoopName = None, store: StoreFolder = None, limit: int = 20) -> None:
    """Turns, newest first."""
    from noria.cli.show import show_turns

    show_turns(store, loop, limit)


@application.command()
def report(
    version: Annotated[int | None, typer.Argument(help="Model version; the newest by default.")] = None,
    loop: LoopName = None,
    store: StoreFolder = None,
) -> None:
    """The validation report of a version: every gate with its numbers."""
    from noria.cli.show import show_report

    show_report(store, loop, version)


@application.command()
def monitor(loop: LoopName = None, store: StoreFolder = None, limit: int = 12) -> None:
    """Error and drift by window, and what was raised."""
    from noria.cli.show import show_monitor

    show_monitor(store, loop, limit)


@application.command()
def approve(
    version: Annotated[int, typer.Argument(help="The version that waits.")],
    loop: LoopName = None,
    store: StoreFolder = None,
    by: Annotated[str | None, typer.Option(help="Who approves; your user name by default.")] = None,
    comment: str = "",
) -> None:
    """Say yes to a version that awaits approval."""
    from noria.cli.deciding import answer

    answer(store, loop, version, approved=True, by=by, comment=comment)


@application.command()
def reject(
    version: Annotated[int, typer.Argument(help="The version that waits.")],
    loop: LoopName = None,
    store: StoreFolder = None,
    by: Annotated[str | None, typer.Option(help="Who rejects; your user name by default.")] = None,
    comment: str = "",
) -> None:
    """Say no to a version that awaits approval."""
    from noria.cli.deciding import answer

    answer(store, loop, version, approved=False, by=by, comment=comment)


@application.command()
def rollback(
    to: Annotated[int | None, typer.Option(help="The former champion to put back; the last by default.")] = None,
    loop: LoopName = None,
    store: StoreFolder = None,
    by: Annotated[str | None, typer.Option(help="Who asks; your user name by default.")] = None,
    comment: str = "",
) -> None:
    """Take back what was deployed last: the version on its way, or else the champion for the one before."""
    from noria.cli.rolling_back import roll_back_to

    roll_back_to(store, loop, to, by=by, comment=comment)


@application.command()
def why(
    step: Annotated[str, typer.Argument(help="A step: the name of your function, or 'bundle'.")],
    loop: LoopName = None,
    store: StoreFolder = None,
) -> None:
    """Why a step ran again, or did not: which part of its key changed since the run before."""
    from noria.cli.show import show_why

    show_why(store, loop, step)


@application.command()
def explain(prediction: Annotated[str, typer.Argument(help="The prediction's id.")], store: StoreFolder = None) -> None:
    """Why a prediction was made: model, gates, approver, run, data version, commit, environment."""
    from noria.cli.show import show_explanation

    show_explanation(store, prediction)


@application.command()
def override(
    prediction: Annotated[str, typer.Argument(help="The prediction's id.")],
    value: Annotated[str, typer.Argument(help="What holds instead: one of the classes, or a number.")],
    reason: Annotated[str, typer.Option(help="Why.")],
    by: Annotated[str | None, typer.Option(help="Who decided; your user name by default.")] = None,
    store: StoreFolder = None,
) -> None:
    """Put on record what a person decided in place of a prediction; `noria explain` shows it."""
    from noria.cli.overriding import override_prediction

    override_prediction(store, prediction, value, by=by, reason=reason)


@application.command()
def gc(
    older_than: Annotated[str, typer.Option(help="How long deleted things can still be restored, e.g. 30d.")] = "30d",
    keep_predictions: KeepPredictions = None,
    keep_size: KeepSize = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    store: StoreFolder = None,
) -> None:
    """Remove for ever what was deleted long ago, and free its space; never what a model needs."""
    from noria.cli.collecting import collect_garbage
    from noria.cli.compaction import Retention

    collect_garbage(store, older_than, dry_run, Retention(keep_predictions, keep_size))


@application.command()
def audit(store: StoreFolder = None, limit: int = 20) -> None:
    """The audit trail, checked; exit status 1 if an entry was changed."""
    from noria.cli.show import show_audit

    raise typer.Exit(show_audit(store, limit))
