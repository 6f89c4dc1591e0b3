"""Takes what a store holds to an MLflow server or folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from noria.compat.mlflow.moving.places import Places
from noria.compat.mlflow.moving.source import Registered, local_path
from noria.compat.moved import Moved, Report
from noria.core.nearest import suggest
from noria.errors import DataError, NoriaError, NotFound
from noria.records.registry import LoggedModel
from noria.records.tracking import ACTIVE, DELETED, Experiment, ModelPoint, Point, TrackedRun
from noria.register import registry
from noria.store.ports import Blobs, Store
from noria.store.tracking import Artifact, TrackingReader

__all__ = ["TakenFiles", "Target", "export_store"]

_PROXIED = "mlflow-artifacts:/"
_PAGE = 100
_POINTS = 10_000


class TakenFiles(NamedTuple):
    """The files of a run or model: where the store keeps them, and each below that."""

    root: str
    files: Sequence[Artifact]
    blobs: Blobs

    def each(self) -> Iterator[tuple[str, Artifact]]:
        """Every file with its path below the root."""
        for file in self.files:
            yield file.path[len(self.root) + 1 :], file


class Target(Protocol):
    """A place to export to. Each method counts what it changed in ``moved``."""

    def experiment(self, experiment: Experiment) -> None:
        """Make it, or find it by its name."""
        ...

    def run(self, run: TrackedRun, points: Iterator[Point], files: TakenFiles) -> None:
        """Take a run with every point and file there, or what is new of it."""
        ...

    def model(self, model: LoggedModel, points: Sequence[tuple[ModelPoint, str]], files: TakenFiles) -> None:
        """Take a logged model there; its run is there already."""
        ...

    def linked(self, run: TrackedRun) -> None:
        """Link a run with the models it read and made, which are there now."""
        ...

    def finish(self) -> None:
        """Do what needs that all runs are there."""
        ...

    def registered(self, found: Registered) -> None:
        """Take a registered model there; what it was registered from is there already."""
        ...

    def close(self) -> None:
        """Finish."""
        ...


def export_store(
    store: Store,
    address: str,
    *,
    experiment: str | None = None,
    dry_run: bool = False,
    report: Report = lambda done, of, what: None,
) -> Moved:
    """Take what is new in a store to an ``http(s)`` address or a folder.

    Args:
        store: where from.
        address: where to.
        experiment: only the experiment of this name, and the versions registered from its runs.
        dry_run: count what there is, and change nothing.
        report: told how far it is.

    Raises:
        NotFound: there is no such experiment.
    """
    with store.tracking.read() as reader:
        experiments = sorted(reader.experiments((ACTIVE, DELETED)), key=lambda one: one.id)
    if experiment is not None:
        names = [one.name for one in experiments]
        experiments = [one for one in experiments if one.name == experiment]
        if not experiments:
            raise NotFound(f"There is no experiment '{experiment[:80]}' in this store. {suggest(experiment, names)}")
    moved, places = Moved(), Places()
    target = None if dry_run else _target(address, moved, places)
    try:
        _Export(store, target, moved, report).all(experiments, experiment is not None)
    finally:
        if target is not None:
            target.close()
    return moved


def _target(address: str, moved: Moved, places: Places) -> Target:
    if address.startswith(("http://", "https://")):
        from noria.compat.mlflow.moving.to_server import ServerTarget

        return ServerTarget(address, moved, places)
    folder = local_path(address) if address.startswith("file:") else Path(address)
    if folder is None or "://" in address or address.startswith("sqlite:"):
        raise DataError(f"Give the address of a server (http://…) or a folder, not '{address[:200]}'.")
    from noria.compat.mlflow.moving.to_folder import FolderTarget

    return FolderTarget(folder, moved, places)


class _Export:
    def __init__(self, store: Store, target: Target | None, moved: Moved, report: Report) -> None:
        self._store, self._target, self._moved, self._report = store, target, moved, report
        self._ids: set[str] = set()

    def all(self, experiments: Sequence[Experiment], only: bool) -> None:
        """These experiments, and what was registered (``only`` from them)."""
        done = 0
        for one in experiments:
            self._report(done, None, one.name)
            if self._target is None:
                self._moved.experiments += 1
            elif not self._tried(f"Experiment {one.name!r}", self._target.experiment, one):
                continue
            for run in self._runs(one.id):
                done += 1
                self._report(done, None, f"{one.name} · {run.info.name}")
                self._run(run)
            for model in self._logged_models(one.id):
                self._model(model)
            if self._target is not None:
                for run in self._runs(one.id):
                    if run.models:
                        self._tried(f"Links of run {run.info.id}", self._target.linked, run)
        if self._target is not None:
            self._tried("What runs say of each other", self._target.finish)
        for found in self._registered(only):
            if self._target is None:
                self._moved.models += 1
                self._moved.versions += len(found.versions)
            else:
                name = found.model.name
                self._tried(f"Registered model {name!r}", self._target.registered, found)

    def _tried(self, what: str, act: Callable[..., None], *given: object) -> bool:
        """Do one thing; what goes wrong with it is told at the end, and the rest goes on."""
        try:
            act(*given)
        except NoriaError as error:
            self._moved.problem(what, error)
            return False
        return True

    def _runs(self, experiment: int) -> Iterator[TrackedRun]:
        """Every run: read page by page, so that no reader stays open while they are sent."""
        after = None
        while True:
            with self._store.tracking.read() as reader:
                runs, after = reader.search([experiment], stages=(ACTIVE, DELETED), limit=_PAGE, after=after)
            yield from runs
            if after is None:
                return

    def _points(self, run: TrackedRun) -> Iterator[Point]:
        for newest in run.metrics:
            last: Point | None = None
            while True:
                with self._store.tracking.read() as reader:
                    some = reader.history(run.info.id, newest.key, limit=_POINTS, after=last)
                yield from some
                if len(some) < _POINTS:
                    break
                last = some[-1]

    def _files(self, uri: str) -> TakenFiles:
        blobs = self._store.blobs
        if not uri.startswith(_PROXIED):
            self._moved.apart += 1
            return TakenFiles("", (), blobs)
        root = uri.removeprefix(_PROXIED).strip("/")
        with self._store.tracking.read() as reader:
            return TakenFiles(root, _under(reader, root), blobs)

    def _run(self, run: TrackedRun) -> None:
        self._ids.add(run.info.id)
        files = self._files(run.info.artifacts)
        if self._target is None:
            self._moved.runs += 1
            self._moved.points += sum(1 for _ in self._points(run))
            self._counted(files)
        else:
            self._tried(f"Run {run.info.id}", self._target.run, run, self._points(run), files)

    def _counted(self, files: TakenFiles) -> None:
        self._moved.files += len(files.files)
        self._moved.bytes += sum(file.size for file in files.files)

    def _logged_models(self, experiment: int) -> list[LoggedModel]:
        with self._store.ledger.read() as db:
            return [one for one in db.list(LoggedModel, experiment=experiment) if one.deleted is None]

    def _model(self, model: LoggedModel) -> None:
        self._ids.add(model.id)
        files = self._files(model.artifacts)
        with self._store.tracking.read() as reader:
            points = reader.model_points([model.id])
        if self._target is None:
            self._moved.logged_models += 1
            self._counted(files)
        else:
            self._tried(f"Logged model {model.id}", self._target.model, model, points, files)

    def _registered(self, only: bool) -> list[Registered]:
        found = []
        with self._store.ledger.read() as db:
            for model in registry.models(db):
                if registry.of_loop(db, model.name):
                    self._moved.note(f"Model '{model.name}' is a loop's: its versions stay here.")
                    continue
                versions = sorted(registry.versions(db, name=model.name), key=lambda one: one.version)
                if only:
                    versions = [one for one in versions if one.run in self._ids or one.model in self._ids]
                if versions or not only:
                    numbers = {one.version for one in versions}
                    aliases = {
                        at: number for at, number in registry.aliases(db, model.name).items() if number in numbers
                    }
                    found.append(Registered(model, versions, aliases))
        return found


def _under(reader: TrackingReader, root: str) -> list[Artifact]:
    return reader.under(root) if root else []
