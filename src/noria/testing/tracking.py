# ruff: noqa: D102 - tests, whose names say what they show
"""What a tracking store owes, as tests: subclass with an ``open`` fixture and pytest runs them against yours."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import pytest

from noria.core.ids import new_id
from noria.errors import Conflict, NotFound, ParamChanged
from noria.records.tracking import (
    ACTIVE,
    DELETED,
    Clause,
    Input,
    ModelLink,
    ModelPoint,
    Order,
    Point,
    RunInfo,
    TrackedDataset,
    TrackedRun,
)
from noria.store.tracking import Artifact, Tracking

__all__ = ["TrackingContract", "brute_force"]

STAGES = (ACTIVE, DELETED)


def a_run(experiment: int, started: int = 1, run: str = "", **more: Any) -> RunInfo:
    """A run that has just begun."""
    given = {
        "id": run or new_id(),
        "experiment": experiment,
        "name": "a",
        "user": "u",
        "status": "RUNNING",
        "stage": ACTIVE,
        "started": started,
        "ended": None,
        "artifacts": "place",
    }
    return RunInfo(**{**given, **more})


class TrackingContract:
    """The suite. A subclass gives ``open``: a function that opens the same, at first empty, store again and again."""

    @pytest.fixture
    def open(self) -> Callable[[], Tracking]:
        """Opens the store under test."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, open: Callable[[], Tracking]) -> Iterator[Tracking]:
        """The store, open."""
        with closing(open()) as found:
            yield found

    def experiment(self, store: Tracking, name: str = "e") -> int:
        """A new experiment."""
        return store.write(lambda t: t.add_experiment(name, "place/{id}", 5, {"a": "b"}))

    def run(self, store: Tracking, experiment: int = 0, **more: Any) -> str:
        """A new run's id."""
        info = a_run(experiment, **more)
        store.write(lambda t: t.add_run(info, {}))
        return info.id

    def read(self, store: Tracking, run: str) -> TrackedRun:
        """A run, which must be there."""
        with store.read() as reader:
            found = reader.run(run)
        assert found is not None
        return found

    # -- experiments

    def test_the_default_experiment_is_there_from_the_start(self, store: Tracking) -> None:
        with store.read() as reader:
            found = reader.experiment(id=0)
        assert found is not None
        assert (found.name, found.stage) == ("Default", ACTIVE)

    def test_experiments_are_numbered_without_gaps_and_found_by_id_and_name(self, store: Tracking) -> None:
        first, second = self.experiment(store, "e"), self.experiment(store, "f")
        assert second == first + 1
        with store.read() as reader:
            found = reader.experiment(name="f")
            assert found is not None
            assert found == reader.experiment(id=second)
            assert reader.experiment(id=10_000) is None
            assert reader.experiment(name="g") is None
        assert (found.id, found.artifacts, found.tags) == (second, f"place/{second}", {"a": "b"})

    def test_a_name_is_taken_once_by_deleted_experiments_too(self, store: Tracking) -> None:
        number, other = self.experiment(store, "e"), self.experiment(store, "f")
        store.write(lambda t: t.set_experiment(number, 6, stage=DELETED))
        with pytest.raises(Conflict):
            self.experiment(store, "e")
        with pytest.raises(Conflict):
            store.write(lambda t: t.set_experiment(other, 6, name="e"))
        with store.read() as reader:
            assert [found.name for found in reader.experiments([ACTIVE])] == ["f", "Default"]
            assert [found.name for found in reader.experiments([DELETED])] == ["e"]

    def test_tags_of_experiments_are_set_replaced_and_removed(self, store: Tracking) -> None:
        number = self.experiment(store)
        assert store.write(lambda t: t.tag_experiment(number, {"a": "c", "n": "é\u202e"})) == 0
        assert store.write(lambda t: t.tag_experiment(number, {"a": None, "absent": None})) == 1
        with store.read() as reader:
            found = reader.experiment(id=number)
        assert found is not None
        assert found.tags == {"n": "é\u202e"}

    # -- runs and what they log

    def test_a_run_comes_back_as_it_was_put(self, store: Tracking) -> None:
        info = a_run(self.experiment(store), started=7, name="näme", user="ü")
        store.write(lambda t: t.add_run(info, {"k": "v"}))
        assert self.read(store, info.id) == TrackedRun(info, tags={"k": "v"})
        with store.read() as reader:
            assert reader.info(info.id) == info
            assert reader.info("f" * 32) is None
            assert reader.run("f" * 32) is None

    def test_a_run_id_is_taken_once(self, store: Tracking) -> None:
        run = self.run(store)
        with pytest.raises(Conflict):
            self.run(store, run=run)

    @pytest.mark.parametrize("value", [0.0, -0.5, 1e308, 5e-324, math.inf, -math.inf, math.nan])
    def test_every_number_is_kept_exactly(self, store: Tracking, value: float) -> None:
        run = self.run(store)
        store.write(lambda t: t.log(run, points=[Point("m", value, 3, -2)]))
        with store.read() as reader:
            (point,) = reader.history(run, "m")
        assert (point.key, point.time, point.step) == ("m", 3, -2)
        assert point.value == value or (math.isnan(point.value) and math.isnan(value))
        (latest,) = self.read(store, run).metrics
        assert str(latest) == str(point)

    def test_the_latest_point_is_the_last_by_step_then_time_then_value(self, store: Tracking) -> None:
        run = self.run(store)
        points = [Point("m", 1.0, 5, 3), Point("m", 9.0, 9, 2), Point("m", 2.0, 4, 3), Point("m", 0.5, 5, 3)]
        for point in points:
            store.write(lambda t, point=point: t.log(run, points=[point]))  # type: ignore[misc]
        assert self.read(store, run).metrics == (Point("m", 1.0, 5, 3),)
        other = self.run(store)
        store.write(lambda t: t.log(other, points=points))
        assert self.read(store, other).metrics == (Point("m", 1.0, 5, 3),)

    def test_the_same_point_again_is_not_doubled(self, store: Tracking) -> None:
        run = self.run(store)
        points = [Point("m", float(i), i, i) for i in range(50)] + [Point("m", math.nan, 1, 1)]
        for _ in range(3):
            store.write(lambda t: t.log(run, points=points))
        with store.read() as reader:
            assert len(reader.history(run, "m")) == 51

    def test_history_is_in_order_of_time_and_read_in_pages(self, store: Tracking) -> None:
        run = self.run(store)
        points = [Point("m", math.nan if i % 7 == 0 else float(i % 3), i // 4, i) for i in range(200)]
        store.write(lambda t: t.log(run, points=points[::-1]))
        store.write(lambda t: t.log(run, points=[Point("n", 1.0, 1, 1)]))
        with store.read() as reader:
            whole = reader.history(run, "m")
            assert [(p.time, p.step) for p in whole] == sorted((p.time, p.step) for p in points)
            pages: list[Point] = []
            while page := reader.history(run, "m", limit=7, after=pages[-1] if pages else None):
                assert len(page) <= 7
                pages += page
        assert str(pages) == str(whole)

    def test_a_param_is_written_once_and_a_refused_batch_leaves_nothing(self, store: Tracking) -> None:
        run = self.run(store)
        store.write(lambda t: t.log(run, params={"p": "1", "q": ""}))
        store.write(lambda t: t.log(run, params={"p": "1"}))
        with pytest.raises(ParamChanged) as caught:
            store.write(
                lambda t: t.log(run, points=[Point("m", 1.0, 1, 1)], params={"z": "0", "p": "2"}, tags={"t": "x"})
            )
        assert (caught.value.key, caught.value.old, caught.value.new) == ("p", "1", "2")
        assert self.read(store, run).params == {"p": "1", "q": ""}
        assert self.read(store, run).metrics == ()
        assert self.read(store, run).tags == {}

    def test_long_values_are_kept_whole_and_found(self, store: Tracking) -> None:
        run, value = self.run(store), "x" * 5_999 + "é"
        store.write(lambda t: t.log(run, params={"p": value}, tags={"t": value + "!"}))
        found = self.read(store, run)
        assert (found.params, found.tags) == ({"p": value}, {"t": value + "!"})
        with store.read() as reader:
            for entity, key, wanted in (("param", "p", value), ("tag", "t", value + "!")):
                runs, _ = reader.search([0], [Clause(entity, key, "=", wanted)], stages=STAGES, limit=5)
                assert [one.info.id for one in runs] == [run]
                assert reader.search([0], [Clause(entity, key, "=", wanted[:-1])], stages=STAGES, limit=5) == ([], None)

    def test_tags_of_runs_are_set_replaced_and_removed(self, store: Tracking) -> None:
        run = self.run(store)
        store.write(lambda t: t.log(run, tags={"a": "1", "b": "2"}))
        store.write(lambda t: t.log(run, tags={"a": "3", "b": None, "c": None}))
        assert self.read(store, run).tags == {"a": "3"}

    def test_logging_to_no_run_is_refused(self, store: Tracking) -> None:
        with pytest.raises(NotFound):
            store.write(lambda t: t.log("f" * 32, points=[Point("m", 1.0, 1, 1)]))

    def test_inputs_and_model_links_come_back_with_the_run(self, store: Tracking) -> None:
        number = self.experiment(store)
        run = self.run(store, number)
        dataset = TrackedDataset("d", "abc", "local", '{"a": 1}', "schema", "profile")
        given = [Input(dataset, {"mlflow.data.context": "training"}), Input(TrackedDataset("e", "x", "http", ""))]
        links = [ModelLink("m-1", "output", 3), ModelLink("m-2", "input")]
        for _ in range(2):
            store.write(lambda t: t.add_inputs(run, given))
            store.write(lambda t: t.link_models(run, links))
        found = self.read(store, run)
        assert found.inputs == tuple(given)
        assert sorted(found.models, key=str) == sorted(links, key=str)
        with store.read() as reader:
            assert reader.datasets([number]) == [(number, dataset, "training"), (number, given[1].dataset, "")]
            for key, value in (("name", "d"), ("digest", "abc"), ("context", "training")):
                runs, _ = reader.search([number], [Clause("dataset", key, "=", value)], stages=STAGES, limit=5)
                assert [one.info.id for one in runs] == [run]

    def test_points_of_logged_models_are_kept_with_their_dataset(self, store: Tracking) -> None:
        run = self.run(store)
        points = [
            ModelPoint("m-1", Point("auc", 0.5, 2, 1), "d", "abc"),
            ModelPoint("m-1", Point("auc", 0.6, 3, 2), "", ""),
        ]
        for _ in range(2):
            store.write(lambda t: t.log_model_points(run, points))
        with store.read() as reader:
            assert reader.model_points(["m-1", "m-2"]) == [(points[0], run), (points[1], run)]

    def test_deleting_an_experiments_runs_and_restoring_them(self, store: Tracking) -> None:
        number = self.experiment(store)
        runs = [self.run(store, number) for _ in range(3)]
        store.write(lambda t: t.set_stages(number, ACTIVE, DELETED, 77))
        assert {self.read(store, run).info.deleted for run in runs} == {77}
        with store.read() as reader:
            assert reader.search([number], stages=[ACTIVE], limit=9)[0] == []
        store.write(lambda t: t.set_stages(number, DELETED, ACTIVE, None))
        assert {self.read(store, run).info.stage for run in runs} == {ACTIVE}

    def test_activity_counts_the_active_runs_of_each_experiment(self, store: Tracking) -> None:
        busy, empty = self.experiment(store, "e"), self.experiment(store, "f")
        self.run(store, busy, started=3)
        self.run(store, busy, started=5, ended=9, status="FINISHED")
        self.run(store, busy, started=99, stage=DELETED)
        with store.read() as reader:
            found = reader.activity()
        assert found == {busy: (2, 1, 9)}
        assert empty not in found

    def test_purged_runs_leave_nothing(self, store: Tracking) -> None:
        number = self.experiment(store)
        run, other = self.run(store, number), self.run(store, number)
        for each in (run, other):
            store.write(
                lambda t, each=each: t.log(  # type: ignore[misc]
                    each, points=[Point("m", 1.0, 1, 1)], params={"p": "1"}, tags={"t": "1"}
                )
            )
        assert store.write(lambda t: t.purge_experiments([number])) == 0
        assert store.write(lambda t: t.purge([run, "f" * 32])) == 1
        with store.read() as reader:
            assert reader.run(run) is None
            assert reader.history(run, "m") == []
            assert reader.history(other, "m") == [Point("m", 1.0, 1, 1)]
        assert store.write(lambda t: t.purge([other])) == 1
        assert store.write(lambda t: t.purge_experiments([number])) == 1
        with store.read() as reader:
            assert reader.experiment(id=number) is None

    # -- artifacts

    def put(self, store: Tracking, *paths: str) -> None:
        """Name blobs."""
        for path in paths:
            store.write(lambda t, path=path: t.put_artifact(Artifact(path, f"digest of {path}", 3, 1)))  # type: ignore[misc]

    def test_folders_list_what_is_directly_in_them(self, store: Tracking) -> None:
        self.put(store, "1/a", "1/b/c", "1/b/d/e", "1/b!", "1/b-/x", "1/bb", "2/z", "1/é/ü")
        with store.read() as reader:
            assert [(name, found is None) for name, found in reader.folder("1")] == [
                ("a", False), ("b", True), ("b!", False), ("b-", True), ("bb", False), ("é", True),
            ]  # fmt: skip
            assert [name for name, _ in reader.folder("1/b")] == ["c", "d"]
            assert [name for name, _ in reader.folder("")] == ["1", "2"]
            assert reader.folder("absent") == []
            assert reader.folder("1/a") == []
            found = reader.artifact("1/b/c")
            assert found is not None
            assert found.digest == "digest of 1/b/c"
            assert reader.artifact("1/b") is None
            assert [one.path for one in reader.under("1/b")] == ["1/b/c", "1/b/d/e"]

    def test_a_large_folder_is_listed_whole(self, store: Tracking) -> None:
        names = [f"{i:05}" for i in range(1_700)]
        store.write(lambda t: [t.put_artifact(Artifact(f"f/{name}", "d", 1, 1)) for name in names])  # type: ignore[func-returns-value]
        with store.read() as reader:
            assert [name for name, _ in reader.folder("f")] == names

    def test_a_file_is_replaced_but_never_becomes_a_folder_or_the_other_way(self, store: Tracking) -> None:
        self.put(store, "1/a", "1/b/c")
        store.write(lambda t: t.put_artifact(Artifact("1/a", "other", 4, 2)))
        with store.read() as reader:
            assert reader.artifact("1/a") == Artifact("1/a", "other", 4, 2)
        for path in ("1/a/x", "1/a/x/y", "1/b"):
            with pytest.raises(Conflict):
                self.put(store, path)

    def test_removing_takes_a_file_or_all_of_a_folder_and_nothing_beside(self, store: Tracking) -> None:
        self.put(store, "1/b/c", "1/b/d/e", "1/bb", "1/b!", "1/a")
        assert store.write(lambda t: t.remove_artifacts("1/b")) == 2
        assert store.write(lambda t: t.remove_artifacts("1/a")) == 1
        assert store.write(lambda t: t.remove_artifacts("1/absent")) == 0
        with store.read() as reader:
            assert [one.path for one in reader.under("")] == ["1/b!", "1/bb"]

    # -- search

    def test_search_finds_in_order_and_pages_without_gap_or_repeat(self, store: Tracking) -> None:
        number = self.experiment(store)
        runs = self.some_runs(store, number)
        searches: list[tuple[list[Clause], list[Order]]] = [
            ([], []),
            ([], [Order("metric", "m", True)]),
            ([], [Order("metric", "m", False)]),
            ([], [Order("metric", "m", True), Order("param", "p"), Order("metric", "n")]),
            ([], [Order("param", "p", True), Order("metric", "m")]),
            ([], [Order("tag", "t", False)]),
            ([], [Order("attribute", "end_time", True), Order("attribute", "run_name")]),
            ([], [Order("attribute", "start_time", False)]),
            ([Clause("metric", "m", ">", 1.0)], [Order("metric", "m", True)]),
            ([Clause("metric", "m", "<=", 2.0), Clause("param", "p", "=", "b")], [Order("metric", "n", False)]),
            ([Clause("metric", "m", "!=", 2.0)], [Order("metric", "m", False)]),
            ([Clause("param", "p", "!=", "b")], []),
            ([Clause("param", "p", "LIKE", "%b_")], []),
            ([Clause("param", "p", "ILIKE", "B%")], []),
            ([Clause("tag", "t", "LIKE", "*[x?]%")], []),
            ([Clause("tag", "t", "IS NULL", None)], [Order("metric", "m", True)]),
            ([Clause("param", "p", "IS NOT NULL", None)], [Order("param", "p", False)]),
            ([Clause("attribute", "run_id", "IN", (runs[3].info.id, runs[5].info.id))], []),
            ([Clause("attribute", "run_id", "NOT IN", (runs[3].info.id,))], []),
            ([Clause("attribute", "end_time", ">", 4)], []),
            ([Clause("attribute", "status", "=", "FINISHED")], [Order("metric", "absent", True)]),
        ]
        for clauses, order in searches:
            self.compare(store, [number], runs, clauses, order, [ACTIVE])
        self.compare(store, [number], runs, [], [Order("metric", "m", True)], list(STAGES))

    def test_search_goes_over_several_experiments(self, store: Tracking) -> None:
        numbers = [self.experiment(store, f"e{i}") for i in range(20)]
        runs = [run for number in numbers[:3] for run in self.some_runs(store, number, 12)]
        orders = [[], [Order("metric", "m", True)], [Order("param", "p", True)], [Order("attribute", "run_name", True)]]
        for order in orders:
            for wanted in (numbers[:3], numbers):
                self.compare(store, wanted, runs, [], order, [ACTIVE])

    def some_runs(self, store: Tracking, experiment: int, count: int = 40) -> list[TrackedRun]:
        """Runs with many equal and absent values."""
        values = [1.0, 2.0, math.nan, 3.0, math.inf, -math.inf, 2.0, 0.0]
        words = ["b", "bé", "a", "B!", "abc", "*[x?] and", "zz"]
        made = []
        for i in range(count):
            info = a_run(
                experiment,
                started=i // 3,
                name=f"n{i % 5}",
                status="FINISHED" if i % 4 else "RUNNING",
                ended=i % 6 if i % 4 else None,
                stage=DELETED if i % 11 == 10 else ACTIVE,
            )
            points = [Point("m", values[i % len(values)], 1, 0)] if i % 5 else []
            points += [Point("n", float(i % 3), 1, 0)] if i % 7 else []
            params = {"p": words[i % len(words)]} if i % 6 else {}
            tags = {"t": words[(i * 3) % len(words)]} if i % 8 else {}
            store.write(
                lambda t, given=(info, points, params, tags): (  # type: ignore[misc]
                    t.add_run(given[0], given[3]),
                    t.log(given[0].id, points=given[1], params=given[2]),
                )
            )
            made.append(TrackedRun(info, tuple(points), params, tags))
        return made

    def compare(
        self,
        store: Tracking,
        experiments: Sequence[int],
        runs: Sequence[TrackedRun],
        clauses: Sequence[Clause],
        order: Sequence[Order],
        stages: Sequence[str],
    ) -> None:
        """A search by pages gives what a look at every run gives."""
        wanted = [run.info.id for run in brute_force(experiments, runs, clauses, order, stages)]
        for limit in (1, 7, 1_000):
            found: list[str] = []
            place: list[Any] | None = None
            with store.read() as reader:
                while True:
                    page, place = reader.search(experiments, clauses, order, stages=stages, limit=limit, after=place)
                    found += [run.info.id for run in page]
                    if place is None:
                        break
                    assert len(page) == limit
            assert found == wanted, (clauses, order, limit)

    # -- durability

    def test_what_was_acknowledged_is_there_after_opening_again(self, open: Callable[[], Tracking]) -> None:
        with closing(open()) as store:
            run = self.run(store)
            store.write(lambda t: t.log(run, points=[Point("m", 1.0, 1, 1)], params={"p": "1"}))
        with closing(open()) as store:
            assert self.read(store, run).params == {"p": "1"}

    def test_many_threads_lose_and_double_nothing(self, store: Tracking) -> None:
        run = self.run(store)

        def work(part: int) -> None:
            for i in range(50):
                point = Point("m", float(part), i, part * 50 + i)
                store.write(lambda t, point=point: t.log(run, points=[point]))  # type: ignore[misc]

        threads = [threading.Thread(target=work, args=(part,)) for part in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with store.read() as reader:
            assert {p.step for p in reader.history(run, "m")} == set(range(400))

    def test_submit_is_done_when_the_change_is_kept(self, store: Tracking) -> None:
        run = self.run(store)
        futures = [
            store.submit(lambda t, i=i: t.log(run, points=[Point("m", 1.0, i, i)]))  # type: ignore[misc]
            for i in range(100)
        ]
        refused = store.submit(lambda t: t.log("f" * 32, points=[Point("m", 1.0, 1, 1)]))
        for future in futures:
            future.result(30)
        with pytest.raises(NotFound):
            refused.result(30)
        with store.read() as reader:
            assert len(reader.history(run, "m")) == 100

    def test_a_reader_sees_one_moment(self, store: Tracking) -> None:
        run = self.run(store)
        with store.read() as reader:
            assert reader.history(run, "m") == []
            store.write(lambda t: t.log(run, points=[Point("m", 1.0, 1, 1)]))
            assert reader.history(run, "m") == []
        with store.read() as reader:
            assert len(reader.history(run, "m")) == 1


def _value(run: TrackedRun, entity: str, key: str) -> Any:
    if entity == "attribute":
        info = run.info
        return {
            "run_id": info.id,
            "run_name": info.name,
            "status": info.status,
            "start_time": info.started,
            "end_time": info.ended,
        }[key]
    if entity == "metric":
        return next((point.value for point in run.metrics if point.key == key), None)
    return (run.params if entity == "param" else run.tags).get(key)


def _like(text: str, pattern: str) -> bool:
    if not pattern:
        return not text
    if pattern[0] == "%":
        return any(_like(text[start:], pattern[1:]) for start in range(len(text) + 1))
    return bool(text) and pattern[0] in ("_", text[0]) and _like(text[1:], pattern[1:])


def _meets(run: TrackedRun, clause: Clause) -> bool:
    found, wanted = _value(run, clause.entity, clause.key), clause.value
    match clause.operator:
        case "IS NULL":
            return found is None
        case "IS NOT NULL":
            return found is not None
    if found is None or (isinstance(found, float) and math.isnan(found)):
        return False
    match clause.operator:
        case "=":
            return bool(found == wanted)
        case "!=":
            return bool(found != wanted)
        case "<":
            return bool(found < wanted)
        case "<=":
            return bool(found <= wanted)
        case ">":
            return bool(found > wanted)
        case ">=":
            return bool(found >= wanted)
        case "IN":
            return found in wanted  # type: ignore[operator]
        case "NOT IN":
            return found not in wanted  # type: ignore[operator]
        case "LIKE":
            return _like(found, str(wanted))
    return _like(found.lower(), str(wanted).lower())


def brute_force(
    experiments: Sequence[int],
    runs: Sequence[TrackedRun],
    clauses: Sequence[Clause],
    order: Sequence[Order],
    stages: Sequence[str],
) -> list[TrackedRun]:
    """The search, by looking at every run: what every store's search must agree with."""
    found = [
        run
        for run in runs
        if run.info.experiment in experiments
        and run.info.stage in stages
        and all(_meets(run, clause) for clause in clauses)
    ]
    found.sort(key=lambda run: run.info.id)
    found.sort(key=lambda run: -run.info.started)
    for term in reversed(order):
        values = {run.info.id: _value(run, term.entity, term.key) for run in found}

        def absent(run: TrackedRun, values: dict[str, Any] = values) -> int:
            value = values[run.info.id]
            return 2 if value is None else 1 if isinstance(value, float) and math.isnan(value) else 0

        known = [run for run in found if absent(run) == 0]
        rest = sorted((run for run in found if absent(run)), key=absent)
        # a reverse sort keeps equals as they were
        known.sort(key=lambda run: values[run.info.id], reverse=term.descending)
        found = known + rest
    return found
