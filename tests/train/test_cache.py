"""A step is run again when something it is made of changed, and only then."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from noria.errors import StepError
from noria.store import Store, open_store
from noria.store.ports import CacheEntry
from noria.train.cache import StepCache, compare_parts
from noria.train.identity import code_identity

NOW = datetime(2024, 1, 1, tzinfo=UTC)


def one(x: int) -> int:
    return x + 1


def two(x: int) -> int:
    return x + 2


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(open_store(tmp_path)) as found:
        yield found


class Steps:
    """Counts how often a step was really run."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.runs = 0

    def run(self, **changes: Any) -> dict[str, Any]:
        def compute() -> dict[str, Any]:
            self.runs += 1
            return {"model": self.store.blobs.put(b"weights"), "score": 0.5}

        asked: dict[str, Any] = {
            "step": "train",
            "identity": code_identity(one),
            "inputs": {"x": "blake3:" + "1" * 64},
            "knobs": {"C": 1.0},
        }
        cache = StepCache(self.store.ledger, self.store.blobs, "churn", NOW)
        found = cache.run(**(asked | changes), compute=compute)
        (trace,) = cache.traces
        self.cached, self.parts = trace.cached, trace.parts
        return found


def test_nothing_changed_nothing_is_run(store: Store) -> None:
    steps = Steps(store)
    first = steps.run()
    assert steps.runs == 1
    assert steps.run() == first
    assert steps.cached
    assert steps.runs == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"identity": code_identity(two)}, "code"),
        ({"inputs": {"x": "blake3:" + "2" * 64}}, "input x changed"),
        ({"inputs": {"x": "blake3:" + "1" * 64, "y": "blake3:" + "1" * 64}}, "input y is new"),
        ({"knobs": {"C": 2.0}}, "knob C changed"),
        ({"knobs": {"C": 1}}, "knob C changed"),
        ({"knobs": {}}, "knob C is gone"),
    ],
)
def test_any_change_runs_the_step_again_and_is_named(store: Store, changes: dict[str, Any], said: str) -> None:
    steps = Steps(store)
    steps.run()
    before = steps.parts
    steps.run(**changes)
    assert steps.runs == 2
    assert any(said in line for line in compare_parts(before, steps.parts))
    steps.run()
    assert steps.cached


def test_another_step_of_the_same_code_has_its_own_place(store: Store) -> None:
    steps = Steps(store)
    steps.run()
    steps.run(step="evaluate")
    assert steps.runs == 2


def test_outputs_that_are_gone_are_made_again(store: Store) -> None:
    steps = Steps(store)
    made = steps.run()
    (path,) = [found for found in (store.folder / "blobs").rglob("*") if found.is_file()]
    path.unlink()
    assert steps.run() == made
    assert steps.runs == 2
    assert store.blobs.get(made["model"]) == b"weights"


def test_a_step_that_raises_leaves_no_entry(store: Store) -> None:
    def fails() -> dict[str, Any]:
        raise StepError("no")

    cache = StepCache(store.ledger, store.blobs, "churn", NOW)
    with pytest.raises(StepError):
        cache.run("train", code_identity(one), {}, {}, fails)
    assert cache.traces == []
    with store.ledger.read() as db:
        assert db.count(CacheEntry) == 0
