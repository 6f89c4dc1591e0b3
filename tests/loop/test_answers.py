"""What is read of a canary's answers: each row once, latencies of single-row requests, agreement, losses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.loop.answers import Answers, agrees
from noria.records import BundleManifest, Profile, Signature
from noria.store.ports import LabelledPrediction, Prediction, PredictionLog

BEGAN = datetime(2024, 5, 1, tzinfo=UTC)


def manifest(task: str = "binary") -> BundleManifest:
    return BundleManifest(
        loop="churn",
        run="r",
        created=BEGAN,
        flavor="sklearn",
        model={},
        code={},
        entry="loop.py",
        loop_name="loop",
        signature=Signature(inputs=(), features=(), task=task, classes=(0, 1) if task == "binary" else ()),
        frame="polars",
        profile=cast("Profile", None),
        reference={"cap": 10.0},
        environment="",
        params={},
        model_digest="",
    )


def said(
    version: int = 2, role: str = "canary", *, second: float = 0.0, latency_us: int = 1000, **more: Any
) -> Prediction:
    at = BEGAN + timedelta(seconds=second)
    return Prediction("", "churn", at, version, "", role, {}, latency_us=latency_us, **more)


class Log:
    """A prediction log in a list: `rows` has a shadow's rows too."""

    def __init__(self, *rows: Prediction, labelled: dict[int, list[LabelledPrediction]] | None = None) -> None:
        self.kept = list(rows)
        self.asked = 0
        self.known = labelled or {}

    def rows(self, loop: str, *, after: int = 0, limit: int = 10_000) -> list[tuple[int, Prediction]]:
        self.asked += 1
        return [(place, row) for place, row in enumerate(self.kept, 1) if place > after][:limit]

    def predictions(self, loop: str, **more: Any) -> list[tuple[int, Prediction]]:
        return [(place, row) for place, row in self.rows(loop, **more) if row.role != "shadow"]

    def labelled(self, loop: str, *, version: int, since: datetime, limit: None) -> list[LabelledPrediction]:
        return self.known.get(version, [])


def answers(log: Log, task: str = "binary") -> Answers:
    found = Answers(cast("PredictionLog", log), manifest(task), 2, BEGAN)
    found.read()
    return found


def test_only_requests_of_a_single_row_count_as_latencies() -> None:
    single = [said(second=place, latency_us=1000 + place) for place in range(3)]
    batch = [said(second=10, latency_us=90_000)] * 5
    last = [said(second=11, latency_us=2000)]
    champion = [said(1, "champion", second=12, latency_us=7)]
    found = answers(Log(*single, *batch, *last, *champion))
    assert found.latencies_ms(2, "canary") == [1.0, 1.001, 1.002, 2.0]
    assert found.latencies_ms(1, "champion") == [0.007]
    assert found.latencies_ms(1, "shadow") == []


def test_a_request_that_comes_in_two_looks_is_still_one() -> None:
    log = Log(*[said(second=1, latency_us=90_000)] * 2)
    found = answers(log)
    log.kept += [said(second=1, latency_us=90_000), said(second=2, latency_us=3000)]
    found.read()
    assert found.latencies_ms(2, "canary") == [3.0]


def test_what_came_before_the_canary_or_failed_is_left_out() -> None:
    before = [said(1, "champion", second=-1, latency_us=1)]
    failed = [said(second=1, latency_us=5, error="broken")]
    found = answers(Log(*before, *failed, said(second=2, latency_us=6)))
    assert found.latencies_ms(1, "champion") == []
    assert found.latencies_ms(2, "canary") == [0.006]


@given(st.integers(0, 300), st.integers(0, 300))
def test_the_first_row_is_found_without_reading_what_came_before(old: int, new: int) -> None:
    log = Log(
        *(said(1, "champion", second=place - 1000, latency_us=place) for place in range(old)),
        *(said(1, "champion", second=place, latency_us=place) for place in range(new)),
    )
    found = answers(log)
    assert len(found.latencies_ms(1, "champion")) == new
    assert log.asked <= 25


def test_agreement_is_counted_over_the_shadows_answers_once_each() -> None:
    log = Log(*(said(role="shadow", second=place, value=1, answered=int(place > 2)) for place in range(10)))
    log.kept += [said(role="shadow", value=1), said(3, "shadow", value=1, answered=1)]
    found = answers(log)
    found.read()
    assert (found.compared, found.agreed) == (10, 7)
    assert len(found.latencies_ms(2, "shadow")) == 11


@pytest.mark.parametrize(
    ("task", "given", "shadow", "same"),
    [
        ("binary", 1, 1, True),
        ("multiclass", 100, 101, False),
        ("multiclass", "a", "a", True),
        ("regression", 100.0, 100.9, True),
        ("regression", 100.0, 101.1, False),
        ("regression", -2.0, 2.0, False),
        ("regression", 0.0, 0.0, True),
        ("regression", None, 1.0, False),
    ],
)
def test_classes_agree_exactly_and_numbers_within_a_hundredth(task: str, given: Any, shadow: Any, same: bool) -> None:
    assert agrees(task, given, shadow) is same


def labelled(prediction: Prediction, value: Any) -> LabelledPrediction:
    return LabelledPrediction(prediction, value, BEGAN, 1)


def test_a_shadows_loss_is_taken_where_the_answer_given_has_a_key_and_a_label() -> None:
    given = [said(1, "champion", second=n, value=0, key=str(n), probabilities=[0.8, 0.2]) for n in range(40)]
    shadows = [said(role="shadow", second=n, value=1, key=str(n), probabilities=[0.1, 0.9]) for n in range(30)]
    log = Log(*given, *shadows, labelled={1: [labelled(one, 0) for one in given]})
    losses = answers(log).losses(1)
    ours, theirs = losses["challenger"], losses["champion"]
    assert ours is not None
    assert theirs is not None
    assert (ours["n"], theirs["n"]) == (30, 40)
    assert ours["mean"] > theirs["mean"]


def test_without_labels_there_is_no_loss() -> None:
    assert answers(Log(said())).losses(1) == {"challenger": None, "champion": None}


class Plain:
    """A log that has no `rows` and keeps a shadow's to itself."""

    def __init__(self, log: Log) -> None:
        self.predictions = log.predictions


def test_a_log_that_keeps_shadows_to_itself_still_gives_latencies() -> None:
    log = Plain(Log(said(1, "champion", latency_us=8), said(role="shadow", value=1, answered=1)))
    found = Answers(cast("PredictionLog", log), manifest(), 2, BEGAN)
    found.read()
    assert found.latencies_ms(1, "champion") == [0.008]
    assert found.compared == 0
