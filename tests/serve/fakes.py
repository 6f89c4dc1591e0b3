"""A plane under models that do as a test says: no process, no training."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
from serving import Clock

from noria.errors import ModelError
from noria.records import BundleManifest, Deployment, Field, Profile, Route, Signature
from noria.serve import Plane
from noria.serve.batch import Batch, Layout
from noria.serve.control import Control
from noria.serve.engine import Backlog, Scores
from noria.serve.plane import Served
from noria.store import Store

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECONDS = 30.0  # for what would never end if it were wrong


def manifest_of(*fields: Field, key: str | None = None, digest: str = "digest") -> BundleManifest:
    """A regression of these fields."""
    features = tuple((field.name, field.dtype) for field in fields if field.required)
    return BundleManifest(
        loop="m", run="r", created=NOW, flavor="sklearn", model={}, code={}, entry="", loop_name="loop",
        signature=Signature(fields, features, "regression", key=key), frame="pandas", profile=Profile(0, ()),
        reference={}, environment="", params={}, model_digest=digest,
    )  # fmt: skip


def layout_of(*fields: Field) -> Layout:
    """How requests with these fields are laid out."""
    return Layout(manifest_of(*fields))


class Model:
    """A model whose answer is the value of the field ``a``."""

    native = False
    together = False

    def __init__(self, layout: Layout, fault: Exception | None) -> None:
        self.backlog = Backlog("a", 100)
        self.stopped = False
        self._place = layout.names.index("a")
        self._fault = fault

    def run(self, batch: Batch, deadline: float) -> asyncio.Future[Scores]:
        done: asyncio.Future[Scores] = asyncio.get_running_loop().create_future()
        if self.stopped:
            done.set_exception(ModelError("it was stopped"))
        elif self._fault is not None:
            done.set_exception(self._fault)
        else:
            done.set_result(Scores(batch.matrix[:, self._place].tolist(), None))
        return done

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        self.stopped = True


class House:
    """A plane, its deployments and its models by version."""

    def __init__(self, store: Store, control: Control | None = None) -> None:
        self.store = store
        self.deployments: dict[str, Deployment] = {}
        self.models: list[tuple[int, Model]] = []
        self.gates: dict[int, asyncio.Event] = {}  # a version comes up once it is open
        self.faults: dict[int, Exception] = {}
        self.broken: set[int] = set()
        self.plane = Plane(store, Clock(), ["false"], lambda: dict(self.deployments), refresh_s=0.01, control=control)
        self.plane._brought_up = self._brought_up  # type: ignore[method-assign]

    async def _brought_up(self, digest: str, loop: str, version: int) -> Served:
        if version in self.gates:
            await self.gates[version].wait()
        if version in self.broken:
            raise ModelError("it is broken")
        manifest = msgspec.json.decode(self.store.blobs.get(digest), type=BundleManifest)
        layout = Layout(manifest)
        model = Model(layout, self.faults.get(version))
        self.models.append((version, model))
        return Served(digest, manifest, layout, model)

    def deploy(self, name: str, *routes: tuple[int, str, float]) -> None:
        former = self.deployments.get(name)
        made = tuple(Route(version, self._bundle(version), role, percent) for version, role, percent in routes)
        self.deployments[name] = Deployment(name, former.revision + 1 if former else 1, NOW, made)

    def _bundle(self, version: int) -> str:
        names = ("a", "b") if version % 2 else ("b", "a")
        fields = Field("id", "Int64", False), *(Field(name, "Float64") for name in names)
        manifest = manifest_of(*fields, key="id", digest=f"digest-{version}")
        return self.store.blobs.put(msgspec.json.encode(manifest))

    def batch(self, rows: int = 1, name: str = "m") -> Batch:
        layout = self.plane.served(name)[1].layout
        return layout.from_columns({"id": list(range(rows)), "a": [1.0] * rows, "b": [2.0] * rows}, rows)

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(SECONDS):
            while not holds():
                await asyncio.sleep(0.001)

    def up(self) -> Counter[int]:
        """How many models of each version have not been stopped."""
        return Counter(version for version, model in self.models if not model.stopped)

    def recorded(self) -> list[tuple[str, int]]:
        return [(one.role, one.version) for _, one in self.store.predictions.rows("m")]
