"""The demo, start to end: first model, the stream, the two baselines, the comparison."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Mapping
from datetime import datetime
from importlib import resources
from pathlib import Path

import numpy as np
import polars as pl
from rich.console import Console

from noria.cli.demo.baselines import left_alone, monthly
from noria.cli.demo.figures import compare, print_figures, write_figures
from noria.cli.demo.stream import START, STOP, Replay
from noria.deploy.rollout import deployed
from noria.errors import NoriaError
from noria.loop.controller import Controller
from noria.loop.keeper import LeaseKeeper
from noria.loop.load import LoadedLoop, load
from noria.loop.staging import worker_command
from noria.records import Alert, Deployment, Run, TurnState
from noria.register import champion
from noria.serve import DataPlane, Plane, data_plane
from noria.serve.address import listen
from noria.serve.listen import ServerThread
from noria.server import create_app
from noria.store import Store, open_store
from noria.testing.clock import FakeClock

__all__ = ["run"]


def run(
    folder: Path | None,
    port: int,
    json_path: Path | None,
    wait: bool,
    *,
    stop: datetime = STOP,
    console: Console | None = None,
) -> int:
    """Run the demo; returns the exit status.

    Args:
        folder: where to keep it; None takes a temporary folder, removed at the end.
        port: of the pages and the server.
        json_path: where to write the figures, if anywhere.
        wait: keep the pages up until Ctrl-C.
        stop: end of the replay.
        console: where to print.
    """
    console = console or Console(highlight=False)
    kept = folder or Path(tempfile.mkdtemp(prefix="noria-demo-"))
    try:
        return _Demo(kept, port, console).run(json_path, wait, stop)
    finally:
        if folder is None:
            shutil.rmtree(kept, ignore_errors=True)


class _Demo:
    def __init__(self, folder: Path, port: int, console: Console) -> None:
        self._console = console
        self._status = console.status("")
        self._clock = FakeClock(START)
        self._loaded = self._write_loop(folder)
        self.store: Store = open_store(folder / ".noria")
        with self.store.ledger.read() as db:
            if db.count(Run):
                raise NoriaError(f"{folder} holds a demo already; give another folder with --store.")
        self._port = port

    def _write_loop(self, folder: Path) -> LoadedLoop:
        """The template's own files, as ``noria new`` writes them."""
        folder.mkdir(parents=True, exist_ok=True)
        with resources.as_file(resources.files("noria.templates") / "arrival_time") as source:
            for name in ("loop.py", "nyc_taxi.parquet"):
                shutil.copyfile(source / name, folder / name)
        return load(folder / "loop.py")

    def _deployed(self) -> Mapping[str, Deployment]:
        with self.store.ledger.read() as db:
            return deployed(db)

    def _say(self, stage: str, what: str) -> None:
        """An event of the loop, dated by the simulated clock."""
        if stage in ("monitor", "deploy", "retrain", "failed") or (stage == "train" and "mae" in what):
            self._console.print(f"[dim]{self._clock.now():%Y-%m-%d %H:%M}[/]  [bold]{stage:<9}[/]", end="")
            self._console.print(what, markup=False)
        else:
            self._status.update(f"{stage}: {what}")

    def run(self, json_path: Path | None, wait: bool, stop: datetime) -> int:
        began = time.monotonic()
        name = self._loaded.loop.name
        plane = Plane(self.store, self._clock, worker_command(self.store), self._deployed, refresh_s=0.1)
        probe = listen("127.0.0.1", self._port)
        port = int(probe.getsockname()[1])
        probe.close()
        address = f"http://127.0.0.1:{port}"
        data = DataPlane(plane, bound="127.0.0.1", alone=False)
        app = create_app(self.store, self._clock, data_plane=data_plane(data), address=address)
        try:
            with LeaseKeeper(self.store.ledger, "noria demo", address) as keeper:
                controller = Controller(
                    self._loaded,
                    self.store,
                    self._clock,
                    lease=keeper.lease,
                    live=lambda: True,
                    progress=self._say,
                )
                with self._status, ServerThread(data, app, port=port) as server:
                    self._console.print(f"Watch it at [bold link={address}/loops/{name}]{address}/loops/{name}[/]\n")
                    status = self._live(controller, server, json_path, stop, began)
                    if wait and status == 0:
                        self._status.stop()
                        self._console.print(f"\nThe pages stay up at {address} until Ctrl-C.")
                        threading.Event().wait()
                    return status
        except KeyboardInterrupt:
            self._console.print("Stopped.")
            return 0 if wait else 130
        finally:
            self.store.close()

    def _live(
        self,
        controller: Controller,
        server: ServerThread,
        json_path: Path | None,
        stop: datetime,
        began: float,
    ) -> int:
        loop = self._loaded.loop
        source = loop.step("source")
        assert source is not None
        rows: pl.DataFrame = source.function(until=f"{stop:%Y-%m-%d}").sort("pickup_at")
        stream = rows.filter(pl.col("pickup_at") >= START.replace(tzinfo=None))
        history = source.function()
        first = controller.tick()
        if first is None or first.state is not TurnState.promoted:
            raise NoriaError(f"The first model was not promoted: {first.outcome if first else 'no turn'}")
        server.settle()
        with self.store.ledger.read() as db:
            serving = champion(db, loop.name)
        assert serving is not None
        replay = Replay(stream, server, loop.name, self._clock, controller)
        truth = stream["minutes"].to_numpy()

        def step(now: datetime, sent: int) -> None:
            recent = slice(max(0, sent - 2000), sent)
            error = np.abs(replay.answers[recent] - truth[recent])
            shown = f"{error.mean():.2f}" if error.size else "-"
            self._status.update(
                f"{now:%Y-%m-%d}  {sent:,} of {stream.height:,} trips  mean error of the last 2,000: {shown} min  "
                f"served by v{replay.versions[max(0, sent - 1)]}"
            )

        started = time.monotonic()
        replay.run(stop, step)
        self._console.print(f"[dim]replayed {stream.height:,} trips in {time.monotonic() - started:.0f} s[/]")
        self._status.update("the first model, left alone")
        alone = left_alone(self.store, loop, serving.bundle, stream)
        by_month, retrained = monthly(loop, history, stream, alone, START, stop, self._status.update)
        with self.store.ledger.read() as db:
            alarms = [a.at for a in db.list(Alert, oldest_first=True) if a.severity == "alarm"]
            runs = db.count(Run) - 1
            changes = [d for d in db.list(Deployment, loop=loop.name, oldest_first=True) if d.step is None]
        champions = [(d.since, d.routes[0].version) for d in changes]
        promotions = [since for n, (since, v) in enumerate(champions) if n and v != champions[n - 1][1]]
        figures = compare(
            stream,
            {"static": alone, "monthly": by_month, "noria": replay.answers},
            {"monthly": retrained, "noria": runs},
            alarms,
            promotions,
            START,
            stop,
            time.monotonic() - began,
        )
        self._status.stop()
        self._console.print()
        print_figures(figures, self._console)
        if json_path is not None:
            write_figures(figures, json_path)
            self._console.print(f"Figures written to {json_path}.", markup=False)
        return 0
