"""The prediction log against the plainest possible model of it, in any order of events."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from noria.errors import Conflict
from noria.store.ports import Label, Prediction
from noria.store.segments.log import FolderPredictions
from noria.store.sqlite import open_predictions

AT = datetime(2024, 1, 1, tzinfo=UTC)
KEYS = st.sampled_from(["a", "b", "c", "", "ü", "'; --", None])
LOOPS = st.sampled_from(["one", "two"])


class Log(RuleBasedStateMachine):
    ids = Bundle("ids")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.log = self.open()
        self.made: list[Prediction] = []
        self.labels: list[tuple[Label, str | None]] = []  # with the id of its prediction, in order of joining
        self.cursor = {"one": 0, "two": 0}
        self.heard: dict[str, object] = {}

    def open(self) -> FolderPredictions:
        return open_predictions(Path(self.folder.name) / "predictions")

    def target(self, label: Label) -> str | None:
        fits = [
            one.id
            for one in self.made
            if one.loop == label.loop
            and one.error is None
            and (one.id == label.prediction if label.prediction is not None else one.key == label.key)
        ]
        return fits[-1] if fits else None

    @rule(
        target=ids,
        name=st.integers(0, 10_000),
        key=KEYS,
        loop=LOOPS,
        failed=st.booleans(),
        version=st.integers(1, 2),
    )
    def predict(self, name: int, key: str | None, loop: str, failed: bool, version: int) -> str:
        error = "no" if failed else None
        made = Prediction(str(name), loop, AT, version, "", "champion", {}, 1, key=key, error=error)
        with suppress(Conflict):
            self.log.append([made])
            assert made.id not in {one.id for one in self.made}
            self.made.append(made)
            waiting = [label for label, found in self.labels if found is None]
            for label in waiting:
                found = self.target(label)
                if found is not None:
                    self.labels.remove((label, None))
                    self.labels.append((label, found))
        return str(name)

    @rule(key=st.sampled_from(["a", "b", "c", "", "ü", "'; --"]), loop=LOOPS, value=st.integers())
    def label_by_key(self, key: str, loop: str, value: int) -> None:
        self.label(Label(loop, AT, value, key=key))

    @rule(name=ids, loop=LOOPS, value=st.integers())
    def label_by_id(self, name: str, loop: str, value: int) -> None:
        self.label(Label(loop, AT, value, prediction=name))

    def label(self, label: Label) -> None:
        receipt = self.log.label([label])
        found = self.target(label)
        assert receipt.matched == (found is not None)
        self.labels.append((label, found))

    @rule(loop=LOOPS, limit=st.integers(1, 3))
    def listen(self, loop: str, limit: int) -> None:
        """A reader that keeps its place hears every newest label, never one twice at the same place."""
        for one in self.log.labelled(loop, after=self.cursor[loop], limit=limit):
            assert one.label_sequence > self.cursor[loop]
            self.cursor[loop] = one.label_sequence
            self.heard[one.prediction.id] = one.value

    @rule()
    def reopen(self) -> None:
        self.log.close()
        self.log = self.open()

    @invariant()
    def log_is_as_the_model(self) -> None:
        newest = {found: label.value for label, found in self.labels if found is not None}
        for loop in ("one", "two"):
            good = [one for one in self.made if one.loop == loop and one.error is None]
            assert [one for _, one in self.log.predictions(loop)] == good
            labelled = self.log.labelled(loop, limit=None)
            mine = {one.id for one in good}
            assert {one.prediction.id: one.value for one in labelled} == {k: v for k, v in newest.items() if k in mine}
            assert len(labelled) == len({one.prediction.id for one in labelled})
            total = [one for one in self.made if one.loop == loop]
            assert self.log.counts(loop, AT) == (len(total), len(total) - len(good), len(labelled))

    def teardown(self) -> None:
        for loop in ("one", "two"):
            while self.log.labelled(loop, after=self.cursor[loop], limit=2):
                self.listen(loop, 2)
        for one in self.log.labelled("one", limit=None) + self.log.labelled("two", limit=None):
            assert self.heard[one.prediction.id] == one.value
        self.log.close()
        self.folder.cleanup()


TestPredictionLog = Log.TestCase
TestPredictionLog.settings = settings(
    max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
