"""Feature functions run in the model's own process, and the compiled graph answers what they made."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.errors import RequestError
from noria.flavors.compile.session import Graph
from noria.loop.scoring import Scorer, manifest_of
from noria.records import BundleManifest, ModelVersion
from noria.store import Store

records = st.lists(
    st.fixed_dictionaries(
        {
            "age": st.integers(0, 120),
            "bonus": st.one_of(st.none(), st.floats(-1e6, 1e6)),
            "city": st.sampled_from(["Oslo", "Rome", "Nowhere", ""]),
        }
    ),
    min_size=1,
    max_size=200,
)


@pytest.fixture(scope="module")
def manifest(trained: tuple[Store, list[ModelVersion]]) -> BundleManifest:
    store, versions = trained
    return manifest_of(store.blobs, versions[0].bundle)


@pytest.fixture(scope="module")
def both(trained: tuple[Store, list[ModelVersion]], manifest: BundleManifest) -> Iterator[tuple[Scorer, Scorer]]:
    """With the graph, and without."""
    store, _ = trained
    with (
        closing(Scorer(manifest, store.blobs)) as quick,
        closing(Scorer(manifest, store.blobs, compiled=False)) as slow,
    ):
        yield quick, slow


@settings(max_examples=100, deadline=None)
@given(rows=records)
def test_the_graph_says_what_the_model_says(both: tuple[Scorer, Scorer], rows: list[dict[str, Any]]) -> None:
    quick, slow = both
    assert quick._graph is not None
    assert slow._graph is None
    given, expected = quick.predict(rows), slow.predict(rows)
    assert given[0] == expected[0]
    assert given[1] is not None
    assert expected[1] is not None
    assert np.allclose(given[1], expected[1], atol=1e-9)


def test_the_graph_is_asked(both: tuple[Scorer, Scorer], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    real = Graph.answer

    def answer(self: Graph, rows: Any) -> Any:
        asked.append(rows.height)
        return real(self, rows)

    monkeypatch.setattr(Graph, "answer", answer)
    for scorer in both:
        scorer.predict([{"age": 40, "bonus": 1.0, "city": "Oslo"}] * 3)
    assert asked == [3]


def test_where_the_graph_cannot_answer_the_model_does(
    both: tuple[Scorer, Scorer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gap that the model takes no part in, a refusal, a number that is none: all are the model's to answer."""
    row = [{"age": 40, "bonus": 1.0, "city": "Oslo"}]
    expected = both[1].predict(row)
    monkeypatch.setattr(Graph, "_gap", lambda self, feed: True)
    assert both[0].predict(row) == expected


def test_a_fault_of_a_feature_function_names_the_record(both: tuple[Scorer, Scorer]) -> None:
    rows = [{"age": 40, "bonus": 1.0, "city": city} for city in ("Oslo", "Atlantis", "Rome")]
    for scorer in both:
        with pytest.raises(RequestError) as caught:
            scorer.predict(rows)
        assert [detail["record"] for detail in caught.value.details] == [1]


def test_a_graph_that_does_not_give_what_training_gave_is_not_used(
    trained: tuple[Store, list[ModelVersion]],
    numeric: tuple[Store, list[ModelVersion]],
    manifest: BundleManifest,
    caplog: pytest.LogCaptureFixture,
) -> None:
    store, _ = trained
    other = manifest_of(numeric[0].blobs, numeric[1][0].bundle).compiled
    assert other is not None
    assert other.graph is not None
    assert manifest.compiled is not None
    wrong = store.blobs.put(numeric[0].blobs.get(other.graph))
    broken = store.blobs.put(b"no graph")
    for graph in (wrong, broken):
        changed = msgspec.structs.replace(manifest, compiled=msgspec.structs.replace(manifest.compiled, graph=graph))
        with caplog.at_level(logging.WARNING), closing(Scorer(changed, store.blobs)) as scorer:
            assert scorer._graph is None or graph == wrong
            values, _ = scorer.predict([{"age": 40, "bonus": 1.0, "city": "Oslo"}])
            assert values
    assert "the model itself answers" in caplog.text
