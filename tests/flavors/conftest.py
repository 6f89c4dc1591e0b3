from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

ROWS = 160


@pytest.fixture(params=["pandas", "polars"])
def x(request: pytest.FixtureRequest) -> Any:
    """Feature rows: two numbers and a text."""
    rng = np.random.default_rng(0)
    columns = {
        "size": rng.gamma(2.0, 3.0, ROWS),
        "age": rng.integers(1, 60, ROWS).astype(float),
        "kind": rng.choice(["a", "b", "c"], ROWS).tolist(),
    }
    return pd.DataFrame(columns) if request.param == "pandas" else pl.DataFrame(columns)


@pytest.fixture
def numbers() -> Any:
    rng = np.random.default_rng(1)
    return rng.gamma(2.0, 3.0, (ROWS, 3))


@pytest.fixture
def price() -> Any:
    return np.random.default_rng(2).gamma(3.0, 2.0, ROWS) + 0.5


Labels = Callable[..., Any]


@pytest.fixture
def labels() -> Labels:
    """Makes class labels: text, booleans or whole numbers not counted from zero."""

    def make(kind: str, classes: int = 2) -> Any:
        found = np.random.default_rng(3).integers(0, classes, ROWS)
        if kind == "bool":
            return found.astype(bool)
        return np.array(["no", "yes", "unsure"])[found] if kind == "text" else found + 5

    return make
