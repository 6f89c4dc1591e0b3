"""A small loop, and a server of its versions to talk to."""

from __future__ import annotations

import http.client
import json
import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from noria.loop.staging import worker_command
from noria.records import Deployment, ModelVersion, Route
from noria.serve import DataPlane, Plane
from noria.serve.access import Keys
from noria.serve.listen import ServerThread
from noria.store import Store

LOOP = """
import os
import time

import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder

from noria import AtLeast, Csv, Loop, RandomSplit

loop = Loop(
    name="churn",
    source=Csv("people.csv", key="id", label="churned"),
    split=RandomSplit(test=0.3),
    gates=(AtLeast("accuracy", 0.1),),
)


@loop.feature
def years(data: pd.DataFrame) -> pd.Series:
    return data["age"] + data["bonus"].fillna(0.0)


@loop.feature
def town(data: pd.DataFrame) -> pd.Series:
    if (data["city"] == "Atlantis").any():
        raise ValueError("Atlantis has sunk")
    if (data["city"] == "Sloth").any():
        time.sleep(0.5)
    if (data["city"] == "Snail").any():
        time.sleep(2.0)
    if (data["city"] == "Pompeii").any():
        os._exit(3)
    if (data["city"] == "Sisyphus").any():
        while True:
            pass
    if (data["city"] == "Lerna").any() and os.fork() == 0:
        time.sleep(600)
    if (data["city"] == "Babel").any():
        print("many words")
        os.system("cat")
    return data["city"]


@loop.train
def train(x_train: pd.DataFrame, y_train: pd.Series, *, C: float = 1.0) -> Pipeline:
    towns = OneHotEncoder(handle_unknown="ignore")
    coded = make_column_transformer((towns, ["town"]), remainder="passthrough")
    return make_pipeline(coded, LogisticRegression(C=C, max_iter=500)).fit(x_train, y_train)


@loop.evaluate
def evaluate(model: Pipeline, x_test: pd.DataFrame, y_test: pd.Series) -> dict[str, float]:
    return {"accuracy": float((model.predict(x_test) == y_test).mean())}
"""


class Clock:
    def now(self) -> datetime:
        return datetime.now(UTC)


@dataclass
class Reply:
    status: int
    body: Any
    headers: Mapping[str, str]


@dataclass
class Served:
    """A server, and what it is told to serve."""

    store: Store
    versions: list[ModelVersion]
    deployments: dict[str, Deployment] = field(default_factory=dict)
    port: int = 0
    plane: Plane | None = None
    name: str = "churn"
    settings: dict[str, Any] = field(default_factory=dict)
    keys: Keys = field(default_factory=Keys)

    def deploy(self, *shares: tuple[int, float], shadow: tuple[int, float] | None = None) -> None:
        """Serve versions in these shares; the first is the champion."""
        former = self.deployments.get(self.name)
        routes = tuple(
            Route(number, self.versions[number - 1].bundle, "canary" if place else "champion", percent)
            for place, (number, percent) in enumerate(shares)
        )
        if shadow is not None:
            routes += (Route(shadow[0], self.versions[shadow[0] - 1].bundle, "shadow", shadow[1]),)
        revision = former.revision + 1 if former else 1
        self.deployments[self.name] = Deployment(self.name, revision, datetime.now(UTC), routes)

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait for something to become true."""
        end = time.monotonic() + 60
        while not holds():
            assert time.monotonic() < end, "it never became true"
            time.sleep(0.02)

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            raw = response.read()
        finally:
            connection.close()
        text = raw.decode("latin-1")
        assert "Traceback" not in text
        assert "/tmp/" not in text
        assert str(self.store.folder) not in text
        kind = response.getheader("content-type", "")
        return Reply(response.status, json.loads(raw) if raw and "json" in kind else raw, dict(response.getheaders()))

    def request_raw(self, method: str, path: str, body: bytes, **headers: str) -> Reply:
        """As `request`, the body as it came."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return Reply(response.status, response.read(), dict(response.getheaders()))
        finally:
            connection.close()

    def post(self, path: str, body: Any) -> Reply:
        return self.request("POST", path, json.dumps(body).encode())

    def get(self, path: str) -> Reply:
        return self.request("GET", path)

    @contextmanager
    def up(self) -> Iterator[Served]:
        read = lambda: dict(self.deployments)  # noqa: E731
        plane = Plane(self.store, Clock(), worker_command(self.store), read, refresh_s=0.05, **self.settings)
        with ServerThread(DataPlane(plane, keys=self.keys)) as server:
            self.port, self.plane = server.port, plane
            yield self


@contextmanager
def nothing_written(folder: Path) -> Iterator[None]:
    """Let nobody write below a folder, whoever they are."""
    if os.geteuid() != 0:
        below = [folder, *folder.rglob("*")]
        modes = [(path, path.stat().st_mode) for path in below]
        for path, mode in modes:
            path.chmod(mode & ~0o222)
        try:
            yield
        finally:
            for path, mode in modes:
                path.chmod(mode)
        return
    if subprocess.run(["mount", "--bind", folder, folder], capture_output=True).returncode:
        pytest.skip("root may write anywhere, and nothing can be mounted here")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def write_people(path: Path) -> None:
    dice = random.Random(7)
    lines = ["id,age,city,bonus,churned"]
    for number in range(300):
        age, city = dice.randint(18, 80), dice.choice(["Oslo", "Paris", "Rome"])
        bonus = "" if dice.random() < 0.2 else f"{dice.random():.2f}"
        lines.append(f"{number},{age},{city},{bonus},{int(dice.random() < age / 100)}")
    path.write_text("\n".join(lines))
