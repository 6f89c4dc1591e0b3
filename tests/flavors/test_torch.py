"""PyTorch modules: saved as graphs that need no torch, asked as they were."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import polars as pl
import pytest

from noria.errors import ModelError
from noria.flavors import flavor_for
from noria.flavors.compile import compile_model
from noria.loop.build import build
from noria.loop.load import load
from noria.records import BundleManifest, Run
from noria.store import open_store

if TYPE_CHECKING:
    import torch
    from torch import nn
else:
    torch = pytest.importorskip("torch")
    nn = torch.nn

ROWS = np.random.default_rng(0).normal(size=(200, 5))
WORKS = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))
LOOP = """
import pandas as pd
import torch

from noria import AtLeast, Loop, NoSkew, Parquet, RandomSplit

loop = Loop(name="net", source=Parquet("rows.parquet", label="y"), split=RandomSplit(test=0.3),
            gates=(AtLeast("accuracy", 0.5), NoSkew()))


@loop.train
def train(x_train: pd.DataFrame, y_train: pd.Series) -> torch.nn.Module:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(5, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
    x, y = torch.tensor(x_train.to_numpy(), dtype=torch.float32), torch.tensor(y_train.to_numpy())
    steps = torch.optim.Adam(net.parameters(), 0.05)
    for _ in range(60):
        steps.zero_grad()
        torch.nn.functional.cross_entropy(net(x), y).backward()
        steps.step()
    return net


@loop.evaluate
def evaluate(model: torch.nn.Module, x_test: pd.DataFrame, y_test: pd.Series) -> dict[str, float]:
    with torch.no_grad():
        found = model(torch.tensor(x_test.to_numpy(), dtype=torch.float32)).argmax(1).numpy()
    return {"accuracy": float((found == y_test.to_numpy()).mean())}
"""


def plain(module: Any, dtype: Any = None) -> Any:
    with torch.no_grad():
        return module.eval()(torch.tensor(ROWS, dtype=dtype or torch.float32)).numpy()


def softmax(scores: Any) -> Any:
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


class Squeezed(nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(5, 1)

    def forward(self, x: Any) -> Any:
        return torch.sigmoid(self.inner(x)).squeeze(1)


@pytest.mark.parametrize(
    ("module", "classes", "expected"),
    [
        (WORKS, (0, 1, 2), softmax),
        (nn.Sequential(nn.Linear(5, 3), nn.Softmax(dim=1)), (0, 1, 2), lambda found: found),
        (nn.Sequential(nn.Linear(5, 3), nn.LogSoftmax(dim=1)), (0, 1, 2), np.exp),
        (nn.Sequential(nn.Linear(5, 1), nn.Sigmoid()), (0, 1), lambda p: np.hstack([1 - p, p])),
        (Squeezed(), (0, 1), lambda p: np.column_stack([1 - p, p])),
        (nn.Sequential(nn.Linear(5, 3), nn.Softmax(dim=1)).double(), (0, 1, 2), lambda found: found),
    ],
    ids=["scores", "softmax", "log softmax", "sigmoid", "squeezed", "float64"],
)
def test_classifiers_give_probabilities(module: Any, classes: tuple[int, ...], expected: Any) -> None:
    name, flavor = flavor_for(module)
    module.train()
    files = flavor.save(module)
    assert module.training
    loaded = flavor.load(files)
    dtype = next(module.parameters()).dtype
    assert (name, list(files), loaded.classes) == ("torch", ["model.onnx"], classes)
    shares = expected(plain(module, dtype))
    found = loaded.probabilities(ROWS)
    assert found is not None
    np.testing.assert_allclose(found, shares, atol=1e-5)
    assert loaded.predict(ROWS).tolist() == shares.argmax(axis=1).tolist()
    np.testing.assert_allclose(plain(loaded.unwrap()), plain(module, dtype), atol=1e-5)
    features = [(f"c{place}", "Float64") for place in range(5)]
    rows = pl.DataFrame(ROWS, schema=[name for name, _ in features])
    kept: dict[str, bytes] = {}

    def put(data: bytes) -> str:
        kept["graph"] = data
        return "graph"

    source = files["model.onnx"]
    compiled = compile_model("torch", loaded, features, "ndarray", rows, put=put, source=source)
    assert compiled.graph == "graph", compiled.reason


@pytest.mark.parametrize("last", [nn.Linear(4, 1), nn.Sequential(nn.Linear(4, 1), nn.Flatten(0))])
def test_one_number_a_row_is_a_regression(last: Any) -> None:
    module = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), last)
    _, flavor = flavor_for(module)
    loaded = flavor.load(flavor.save(module))
    assert loaded.classes is None
    assert loaded.probabilities(ROWS) is None
    np.testing.assert_allclose(loaded.predict(ROWS).ravel(), plain(module).ravel(), atol=1e-5)


def test_how_many_columns_it_takes_is_told_by_an_example() -> None:
    class Mean(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, x: Any) -> Any:
            return self.weight * x.mean(dim=1)

    module = Mean()
    _, flavor = flavor_for(module)
    with pytest.raises(ModelError, match="How many columns the Mean takes cannot be told"):
        flavor.save(module)
    module.example_input_array = torch.zeros((2, 5))
    np.testing.assert_allclose(flavor.load(flavor.save(module)).predict(ROWS), ROWS.mean(axis=1), atol=1e-5)


def test_what_cannot_be_exported_says_why() -> None:
    class Odd(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(5, 2)

        def forward(self, x: Any) -> Any:
            return torch.linalg.eigvals(self.inner(x).T @ self.inner(x)).real.expand(len(x), 2)

    _, flavor = flavor_for(Odd())
    with pytest.raises(ModelError, match="The Odd cannot be saved: torch cannot export it to ONNX"):
        flavor.save(Odd())
    deep = nn.Sequential(nn.Linear(5, 4), nn.Unflatten(1, (2, 2)))
    with pytest.raises(ModelError, match="numbers a row in several dimensions"):
        flavor.save(deep)


def test_saved_it_answers_where_torch_is_not() -> None:
    _, flavor = flavor_for(WORKS)
    code = (
        "import sys; sys.modules['torch'] = None; from noria.flavors import torch; import numpy as np;"
        "loaded = torch.load({'model.onnx': sys.stdin.buffer.read()});"
        "print(loaded.predict(np.zeros((2, 5))).tolist())\n"
        "try: loaded.unwrap()\nexcept Exception as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=flavor.save(WORKS)["model.onnx"], capture_output=True, check=True
    )
    label, said = done.stdout.decode().splitlines()
    assert label in ("[0, 0]", "[1, 1]", "[2, 2]")
    assert said == "torch is needed to ask this model as a module: pip install 'noria[torch]'"


def test_a_loop_of_a_module_is_built_and_compiled(tmp_path: Path) -> None:
    frame = pl.DataFrame(ROWS, schema=[f"c{place}" for place in range(5)]).with_columns(
        y=(pl.col("c0") + pl.col("c1") > 0).cast(pl.Int64)
    )
    (tmp_path / "net_loop.py").write_text(LOOP)
    store, now = open_store(tmp_path / "store"), datetime(2024, 1, 1, tzinfo=UTC)
    run = Run("a" * 32, "net", "t", "running", now)
    made = build(load(tmp_path / "net_loop.py"), store, frame, run=run, now=now, overrides={})
    manifest = msgspec.json.decode(store.blobs.get(made.bundle), type=BundleManifest)
    store.close()
    assert made.metrics["accuracy"] > 0.7
    assert manifest.flavor == "torch"
    assert manifest.compiled is not None
    assert manifest.compiled.graph is not None, manifest.compiled.reason
