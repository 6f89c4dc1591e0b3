"""Other servers of the same model, for `bench/serving.py`: their files, and the commands that start them.

Each is given the Python of a virtual environment that has it, with the same scikit-learn:

    mlserver==1.7.1 mlserver-sklearn==1.7.1 uvloop==0.21.0 | bentoml==1.4.39 | kserve==0.21.0 | mlflow==3.17.2
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from bench.serving import INFER, ROWS, Case, Server, Subject, body_of, free_port, like_real

TRAIN = """
import joblib
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import HistGradientBoostingClassifier
data = load_breast_cancer()
model = HistGradientBoostingClassifier(max_iter=100, random_state=0).fit(data.data[:388], data.target[:388])
joblib.dump(model, "model.joblib")
"""
MLFLOW = """
import shutil, joblib, mlflow.sklearn
shutil.rmtree("model", ignore_errors=True)
mlflow.sklearn.save_model(joblib.load("model.joblib"), "model", serialization_format="cloudpickle")
"""
BENTOML = """
import bentoml, joblib, numpy as np

@bentoml.service
class Model:
    def __init__(self) -> None:
        self.model = joblib.load("model.joblib")

    @bentoml.api(batchable={batchable})
    def predict(self, x: np.ndarray) -> np.ndarray:
        return self.model.predict(x)
"""
KSERVE = """
import argparse, joblib
from kserve import Model, ModelServer, model_server
from kserve.utils.utils import get_predict_response

class One(Model):
    def load(self):
        self.model = joblib.load("model.joblib")
        self.ready = True
        return True

    def predict(self, payload, headers=None, response_headers=None):
        return get_predict_response(payload, self.model.predict(payload.inputs[0].as_numpy()), self.name)

args, _ = argparse.ArgumentParser(parents=[model_server.parser]).parse_known_args()
one = One("m")
one.load()
ModelServer(http_port=args.http_port, enable_grpc=False).start([one])
"""


def of_peers(pythons: Mapping[str, Path | None], folder: Path) -> tuple[list[Subject], list[str]]:
    """The peers there is a Python for, and a line for each other."""
    found: list[Subject] = []
    skipped = []
    kinds: dict[str, Callable[[Path, Path], list[Subject]]] = {
        "mlserver": _mlserver, "bentoml": _bentoml, "kserve": _kserve, "mlflow": _mlflow,
    }  # fmt: skip
    for name, make in kinds.items():
        python = pythons.get(name)
        if python is None or not python.exists():
            skipped.append(f"{name}: skipped; give --{name} the Python of a virtual environment that has it.")
            continue
        place = folder / name
        place.mkdir()
        _run(python, TRAIN, place)
        found += make(python.absolute(), place)
    return found, skipped


def _run(python: Path, code: str, place: Path) -> None:
    done = subprocess.run([python.absolute(), "-c", code], cwd=place, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{python}: {done.stderr[-1500:]}")


def _cases(kind: str) -> list[Case]:
    return [*(Case(kind, 1, clients) for clients in (1, 16, 64)), *(Case(kind, ROWS, clients) for clients in (1, 4))]


def _subject(name: str, kind: str, place: Path, path: str, command: Callable[[int], list[str]]) -> Subject:
    def make() -> Server:
        port = free_port()
        return Server(command(port), f"http://127.0.0.1:{port}{path}", body_of(kind, like_real(1)), place, patience=120)

    return Subject(name, make, _cases(kind))


def _mlserver(python: Path, place: Path) -> list[Subject]:
    model = {"name": "m", "implementation": "mlserver_sklearn.SKLearnModel", "parameters": {"uri": "../model.joblib"}}

    def one(name: str, settings: dict[str, object], more: dict[str, object]) -> Subject:
        own = place / f"of {name}"
        own.mkdir()
        (own / "model-settings.json").write_text(json.dumps({**model, **more}))

        def command(port: int) -> list[str]:
            ports = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port()}
            (own / "settings.json").write_text(json.dumps({"host": "127.0.0.1", "debug": False, **ports, **settings}))
            return [str(python.with_name("mlserver")), "start", "."]

        return _subject(name, "v2", own, INFER, command)

    return [
        one("mlserver", {}, {}),
        one("mlserver, no workers", {"parallel_workers": 0}, {}),
        one("mlserver, batching", {"parallel_workers": 0}, {"max_batch_size": 64, "max_batch_time": 0.002}),
    ]


def _bentoml(python: Path, place: Path) -> list[Subject]:
    options = ["--host", "127.0.0.1", "-p"]

    def one(name: str, batchable: bool) -> Subject:
        module = "batching" if batchable else "plain"
        (place / f"{module}.py").write_text(BENTOML.format(batchable=batchable))

        def command(port: int) -> list[str]:
            return [str(python.with_name("bentoml")), "serve", f"{module}:Model", *options, str(port)]

        return _subject(name, "x", place, "/predict", command)

    return [one("bentoml", False), one("bentoml, batching", True)]


def _kserve(python: Path, place: Path) -> list[Subject]:
    (place / "server.py").write_text(KSERVE)
    return [_subject("kserve", "v2", place, INFER, lambda port: [str(python), "server.py", "--http_port", str(port)])]


def _mlflow(python: Path, place: Path) -> list[Subject]:
    _run(python, MLFLOW, place)
    options = ["models", "serve", "-m", "model", "--env-manager", "local", "-h", "127.0.0.1", "-p"]

    def command(port: int) -> list[str]:
        return [str(python.with_name("mlflow")), *options, str(port)]

    return [_subject("mlflow models serve", "inputs", place, "/invocations", command)]
