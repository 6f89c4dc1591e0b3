"""A real ``noria server`` in a process of its own, and a client of its wire."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

API = "/api/2.0/mlflow"
_ADDRESS = re.compile(r"MLFLOW_TRACKING_URI=(http://\S+)")


@contextmanager
def serving(store: str, log: Path, *more: str) -> Iterator[str]:
    """Run ``noria server`` on a store, with its words in ``log``; gives its address."""
    command = [sys.executable, "-m", "noria.cli", "server", "--store", store, "--port", "0", *more]
    with log.open("w") as words:
        process = subprocess.Popen(command, stdout=words, stderr=words, env={**os.environ, "COLUMNS": "200"})
        try:
            yield _address(process, log)
        finally:
            process.terminate()
            process.wait(30)


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    while process.poll() is None:
        found = _ADDRESS.search(log.read_text())
        if found:
            return found[1]
        time.sleep(0.05)
    raise RuntimeError(f"noria server ended with {process.returncode}: {log.read_text()}")


class Wire:
    """Speaks MLflow's REST to a server."""

    def __init__(self, url: str, log: Path) -> None:
        self.url, self.log = url, log
        self.http = httpx.Client(base_url=url, timeout=60)
        self._names = iter(range(10**9))

    def post(self, path: str, body: Any = None, **more: Any) -> httpx.Response:
        """``POST`` a JSON body to a path under the API."""
        return self.http.post(API + path, json={} if body is None else body, **more)

    def get(self, path: str, **query: Any) -> httpx.Response:
        """``GET`` a path under the API."""
        return self.http.get(API + path, params=query)

    def does(self, path: str, **body: Any) -> Any:
        """``POST``, which must succeed; gives the answer."""
        return _succeeded(self.post(path, body))

    def reads(self, path: str, **query: Any) -> Any:
        """``GET``, which must succeed; gives the answer."""
        return _succeeded(self.get(path, **query))

    def experiment(self, name: str = "", **more: Any) -> str:
        """A new experiment's id."""
        name = name or f"experiment {next(self._names)}"
        return str(self.does("/experiments/create", name=name, **more)["experiment_id"])

    def run(self, experiment: str = "0", **more: Any) -> str:
        """A new run's id."""
        found = self.does("/runs/create", experiment_id=experiment, **{"start_time": 1, **more})
        return str(found["run"]["info"]["run_id"])

    def of(self, run: str) -> Any:
        """A run as the server tells it."""
        return self.reads("/runs/get", run_id=run)["run"]

    def metrics(self, run: str) -> dict[str, Any]:
        """The newest value of each metric of a run."""
        return {one["key"]: one["value"] for one in self.of(run)["data"].get("metrics", [])}

    def params(self, run: str) -> dict[str, str]:
        """The params of a run."""
        return pairs(self.of(run)["data"].get("params", []))

    def tags(self, run: str) -> dict[str, str]:
        """The tags of a run."""
        return pairs(self.of(run)["data"].get("tags", []))

    def search(self, experiment: str, **body: Any) -> list[str]:
        """Ids of the runs that a search of one experiment finds, all pages."""
        found: list[str] = []
        while True:
            page = self.does("/runs/search", experiment_ids=[experiment], **body)
            found += [run["info"]["run_id"] for run in page.get("runs", [])]
            body["page_token"] = page.get("next_page_token")
            if not body["page_token"]:
                return found


def pairs(listed: list[dict[str, str]]) -> dict[str, str]:
    """Tags or params as a mapping."""
    return {one["key"]: one["value"] for one in listed}


def _succeeded(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(answer: httpx.Response, *words: str, code: str = "INVALID_PARAMETER_VALUE", status: int = 400) -> str:
    """The message of an answer that must be an error with this code and status, and hold these words."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json"), answer.text
    found = answer.json()
    assert found["error_code"] == code, found
    message = str(found["message"])
    for word in words:
        assert word in message, message
    return message


def missing(answer: httpx.Response, *words: str) -> str:
    """As ``refused``, for a thing that is not there."""
    return refused(answer, *words, code="RESOURCE_DOES_NOT_EXIST", status=404)
