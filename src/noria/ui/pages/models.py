"""Model versions: the table, and one version with its report, bundle and lineage."""

from __future__ import annotations

import msgspec

from noria.errors import CorruptBlob, NotFound
from noria.records import (
    BundleManifest,
    DatasetVersion,
    Deployment,
    GateResult,
    ModelVersion,
    Run,
    Stage,
    ValidationReport,
)
from noria.ui import format as say
from noria.ui.ask import PAGE, Ask, approval_role, href, numbered
from noria.ui.draw import Gauge, gauge

_MANIFEST = msgspec.json.Decoder(BundleManifest)


class VersionRow(msgspec.Struct, frozen=True):
    """One line of the versions table; a shadow takes no traffic."""

    version: ModelVersion
    href: str
    run_href: str
    gates: str
    metrics: list[float | None]
    percent: float | None
    role: str | None


class ModelsPage(msgspec.Struct, frozen=True):
    """The loop's versions."""

    title: str
    loop: str
    metrics: list[str]
    rows: list[VersionRow]
    older: str | None


class Gate(msgspec.Struct, frozen=True):
    """A gate's result with its drawing."""

    result: GateResult
    gauge: Gauge | None


class Link(msgspec.Struct, frozen=True):
    """One station of a version's lineage."""

    kind: str
    name: str
    note: str
    href: str


class ModelPage(msgspec.Struct, frozen=True):
    """One version."""

    title: str
    loop: str
    version: ModelVersion
    awaiting: bool
    role: str
    report: ValidationReport | None
    gates: list[Gate]
    manifest: BundleManifest | None
    damaged: str
    compiled: str
    files: list[tuple[str, str, str]]
    lineage: list[Link]
    action: str


def models(ask: Ask) -> ModelsPage:
    """The loop's versions, newest first."""
    loop = ask.loop().name
    found = ask.db.list(ModelVersion, limit=PAGE + 1, loop=loop, after=ask.whole("after"))
    page = found[:PAGE]
    runs = {version.run: ask.db.find(Run, id=version.run) for version in page}
    names = list(dict.fromkeys(metric.name for run in runs.values() if run for metric in run.metrics))[:6]
    newest = ask.db.find(Deployment, loop=loop)
    routes = {route.version: route for route in newest.routes} if newest else {}
    rows = []
    for version in page:
        run, route = runs[version.run], routes.get(version.version)
        rows.append(
            VersionRow(
                version=version,
                href=href("loops", loop, "models", version.version),
                run_href=href("loops", loop, "runs", version.run),
                gates=_gates_text(ask.db.find(ValidationReport, id=version.report)),
                metrics=[run.metric(name) if run else None for name in names],
                percent=None if route is None else 0.0 if route.role == "shadow" else route.percent,
                role=route.role if route is not None else None,
            )
        )
    older = href("loops", loop, "models", after=page[-1].version) if len(found) > PAGE else None
    return ModelsPage(f"Models of {loop}", loop, names, rows, older)


def _gates_text(report: ValidationReport | None) -> str:
    if report is None:
        return say.NONE
    good = sum(result.outcome.value == "pass" for result in report.results)
    return f"{good} of {len(report.results)}"


def model(ask: Ask) -> ModelPage:
    """One version with everything needed to trust it or not."""
    record = ask.loop()
    loop = record.name
    number = numbered(ask.path["version"], "a version number")
    found = ask.db.find(ModelVersion, loop=loop, version=number)
    if found is None:
        raise NotFound(f"Model '{loop}' has no version {number}.")
    report = ask.db.find(ValidationReport, id=found.report)
    manifest, damaged = read_manifest(ask, found.bundle)
    return ModelPage(
        title=f"{loop} v{number}",
        loop=loop,
        version=found,
        awaiting=found.stage is Stage.awaiting_approval and found.decision is None,
        role=approval_role(record.plan) or "owner",
        report=report,
        gates=[Gate(r, gauge(r.value, r.threshold, r.interval)) for r in report.results] if report else [],
        manifest=manifest,
        damaged=damaged,
        compiled=manifest.compiled.sentence if manifest and manifest.compiled else "",
        files=_files(manifest) if manifest else [],
        lineage=_lineage(ask, found),
        action=href("loops", loop, "models", number, "decision"),
    )


def read_manifest(ask: Ask, digest: str) -> tuple[BundleManifest | None, str]:
    """A bundle's manifest, or None and the reason why it cannot be shown."""
    try:
        return _MANIFEST.decode(ask.blobs.get(digest)), ""
    except (NotFound, CorruptBlob) as error:
        return None, str(error)
    except msgspec.DecodeError as error:
        return None, f"The bundle's manifest cannot be read: {error}."


def _files(manifest: BundleManifest) -> list[tuple[str, str, str]]:
    files = [("model", name, digest) for name, digest in sorted(manifest.model.items())]
    if manifest.compiled is not None and manifest.compiled.graph is not None:
        files.append(("graph", "compiled.onnx", manifest.compiled.graph))
        if manifest.compiled.trees is not None:
            files.append(("graph", "compiled.trees", manifest.compiled.trees))
    files += [("code", name, digest) for name, digest in sorted(manifest.code.items())]
    return [*files, ("environment", "environment lock", manifest.environment)]


def _lineage(ask: Ask, version: ModelVersion) -> list[Link]:
    loop = version.loop
    run = ask.db.find(Run, id=version.run, loop=loop)
    links = []
    if run is not None and run.dataset:
        dataset = ask.db.find(DatasetVersion, id=run.dataset, loop=loop)
        note = say.plural(dataset.rows, "row") if dataset else "no longer recorded"
        links.append(Link("dataset", say.short(run.dataset, 10), note, href("loops", loop, "data", run.dataset)))
    if run is not None:
        links.append(Link("run", run.id[:8], say.duration(run.seconds), href("loops", loop, "runs", run.id)))
    this = href("loops", loop, "models", version.version)
    links.append(Link("version", f"v{version.version}", version.stage.value, this))
    deployments = ask.db.list(Deployment, limit=1000, oldest_first=True, loop=loop)
    served = [d for d in deployments if any(route.version == version.version for route in d.routes)]
    if served:
        share = next(route for route in served[-1].routes if route.version == version.version)
        current = served[-1].revision == deployments[-1].revision
        part = "shadow, asked along" if share.role == "shadow" else f"{share.role} {share.percent:g} %"
        note = part if current else f"until revision {served[-1].revision + 1}"
        name = f"since {say.day(served[0].since)}"
        links.append(Link("deployment", name, note, href("loops", loop, "monitoring")))
    return links
