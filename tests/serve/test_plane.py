"""Which versions are up and answer, as deployments, loads and unloads come."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from fakes import NOW, SECONDS, House

from noria.errors import ModelError, RequestError, StoreFull
from noria.serve import DataPlane, tables
from noria.serve.batch import Batch
from noria.serve.control import Control
from noria.serve.engine import Overloaded, Scores
from noria.serve.plane import Answered
from noria.serve.wire import Reply, Request
from noria.store import Store


def run(house: House, work: Coroutine[Any, Any, None]) -> None:
    async def whole() -> None:
        try:
            await work
        finally:
            for gate in house.gates.values():
                gate.set()
            await asyncio.wait_for(house.plane.stop(), SECONDS)

    asyncio.run(whole())


async def answered(found: Any) -> list[float]:
    whole: Answered = await found
    values = [0.0] * whole.rows
    for part in whole.parts:
        for place, value in zip(part.places or range(whole.rows), part.scores.values, strict=True):
            values[place] = value
    return values


@pytest.mark.parametrize("rows", [1, 20])
def test_no_request_fails_in_whichever_moment_versions_change(store: Store, rows: int) -> None:
    house = House(store)

    async def work() -> None:
        house.deploy("m", (1, "champion", 50), (2, "canary", 50))
        await house.plane.start()
        asked = []
        for version in (3, 5, 7):
            house.deploy("m", (version, "champion", 50), (version + 1, "canary", 50))
            while house.up().keys() != {version, version + 1}:
                asked.append(asyncio.ensure_future(answered(house.plane.predict("m", house.batch(rows)))))
                await asyncio.sleep(0)
        assert {tuple(await one) for one in asked} == {(1.0,) * rows}
        assert {role for role, _ in house.recorded()} == {"champion", "canary"}
        assert store.predictions.counts("m", NOW)[:2] == (rows * len(asked), 0)

    run(house, work())


def test_a_model_is_loaded_though_another_never_is(store: Store) -> None:
    house = House(store)

    async def work() -> None:
        house.deploy("m", (1, "champion", 100))
        await house.plane.start()
        await house.plane.unload("m")
        house.gates[2] = asyncio.Event()
        house.deploy("stuck", (2, "champion", 100))
        await house.until(lambda: house.plane.loading("stuck"))
        await asyncio.wait_for(house.plane.load("m"), SECONDS)
        assert await answered(house.plane.predict("m", house.batch())) == [1.0]

    run(house, work())


def test_whoever_gives_up_waiting_for_a_model_keeps_no_other_from_coming_up(store: Store) -> None:
    house = House(store)

    async def work() -> None:
        house.deploy("m", (1, "champion", 100))
        await house.plane.start()
        await house.plane.unload("m")
        house.gates |= {1: asyncio.Event(), 2: asyncio.Event()}
        house.deploy("other", (2, "champion", 100))
        await house.until(lambda: house.plane.loading("other"))
        coming = house.plane._coming["other"][1]
        loading = asyncio.create_task(house.plane.load("m"))
        await house.until(lambda: house.plane.loading("m"))
        loading.cancel()
        await asyncio.wait((loading,))
        house.gates[2].set()
        await asyncio.wait_for(coming, SECONDS)
        assert house.up() == {2: 1}

    run(house, work())


def test_a_load_that_is_given_up_leaves_no_model_behind(store: Store) -> None:
    house = House(store)

    async def work() -> None:
        house.deploy("m", (1, "champion", 50), (2, "canary", 50))
        await house.plane.start()
        house.gates[2] = asyncio.Event()
        loading = asyncio.create_task(house.plane.load("m"))
        await house.until(lambda: house.up()[1] == 2)
        loading.cancel()
        await house.until(lambda: house.up() == {1: 1, 2: 1})

    run(house, work())


def test_of_an_unload_and_a_load_the_last_holds(store: Store) -> None:
    house = House(store)

    async def work() -> None:
        house.deploy("m", (1, "champion", 100))
        await house.plane.start()
        house.gates[1] = asyncio.Event()
        tasks = [asyncio.create_task(house.plane.load("m"))]
        await house.until(lambda: house.plane._locks["m"].locked())
        for call in (house.plane.unload, house.plane.load):
            tasks.append(asyncio.create_task(call("m")))
            await asyncio.sleep(0.05)
        house.gates[1].set()
        assert await asyncio.gather(*tasks) == [None] * 3
        assert await answered(house.plane.predict("m", house.batch())) == [1.0]
        house.gates[1] = asyncio.Event()
        tasks = [asyncio.create_task(house.plane.load("m"))]
        await house.until(lambda: house.plane._locks["m"].locked())
        tasks.append(asyncio.create_task(house.plane.unload("m")))
        house.gates[1].set()
        await asyncio.gather(*tasks)
        await house.until(lambda: not house.up())
        assert not house.plane.loaded("m")
        assert house.plane.loops() == []

    run(house, work())


def test_an_unload_is_not_undone_by_a_change_that_began_meanwhile(store: Store) -> None:
    house = House(store)

    async def work() -> None:
        house.deploy("m", (1, "champion", 100))
        await house.plane.start()
        house.gates[3] = asyncio.Event()
        house.deploy("m", (3, "champion", 100))
        await house.until(lambda: house.plane.loading("m"))
        async with house.plane._locks["other"]:
            unloading = asyncio.create_task(house.plane.unload("m"))
            for _ in range(20):
                house.plane._changes(dict(house.deployments))
                await asyncio.sleep(0)
        await unloading
        house.gates[3].set()
        await asyncio.sleep(0.1)
        assert house.plane.loops() == []
        assert house.up() == {}
        assert [version for version, _ in house.models] == [1]

    run(house, work())


def test_a_process_that_is_started_again_loads_nothing_that_was_unloaded(store: Store, tmp_path: Path) -> None:
    Control(tmp_path, 0).tell("m", False)
    Control(tmp_path, 0).tell("other", True)
    house = House(store, Control(tmp_path, 1))

    async def work() -> None:
        house.deploy("m", (1, "champion", 100))
        house.deploy("other", (2, "champion", 100))
        await house.plane.start()
        await asyncio.sleep(0.1)
        assert house.plane.loops() == ["other"]
        assert [version for version, _ in house.models] == [2]
        Control(tmp_path, 0).tell("m", True)
        await house.until(lambda: house.plane.loaded("m"))
        Control(tmp_path, 0).tell("late", False)
        await house.until(lambda: "late" in house.plane._heard)
        house.deploy("late", (3, "champion", 100))
        await asyncio.sleep(0.1)
        assert house.plane.loops() == ["m", "other"]

    run(house, work())


def test_a_load_that_was_told_keeps_nobody_from_stopping(store: Store, tmp_path: Path) -> None:
    house = House(store, Control(tmp_path, 1))

    async def work() -> None:
        house.deploy("m", (1, "champion", 100))
        await house.plane.start()
        house.gates[1] = asyncio.Event()
        Control(tmp_path, 0).tell("m", True)
        await house.until(lambda: house.plane._locks["m"].locked())
        await asyncio.wait_for(house.plane.stop(), SECONDS)
        house.gates[1].set()
        await asyncio.sleep(0.1)
        assert house.up() == {}

    run(house, work())


def test_a_challenger_whose_champion_is_broken_is_brought_up_once(store: Store) -> None:
    house = House(store)

    async def work() -> None:
        house.deploy("m", (1, "champion", 100))
        await house.plane.start()
        house.broken.add(2)
        house.deploy("m", (2, "champion", 50), (3, "canary", 50))
        await asyncio.sleep(0.3)
        assert [version for version, _ in house.models] == [1, 3]
        assert await answered(house.plane.predict("m", house.batch())) == [1.0]
        house.deploy("m", (1, "champion", 100))
        await house.until(lambda: house.up() == {1: 1})

    run(house, work())


def test_a_request_that_is_refused_leaves_nothing_on_record(store: Store) -> None:
    house = House(store)

    async def work() -> None:
        house.deploy("m", (1, "champion", 50), (2, "canary", 50))
        await house.plane.start()
        answers = [(model, model.run) for _, model in house.models]

        def refuse(batch: Batch, deadline: float, answer: Any) -> asyncio.Future[Scores]:
            if batch.keys is not None and "7" in batch.keys:
                raise RequestError("no", [{"record": batch.keys.index("7"), "problem": "no"}])
            return answer(batch, deadline)  # type: ignore[no-any-return]

        for model, answer in answers:
            model.run = partial(refuse, answer=answer)  # type: ignore[method-assign]
        with pytest.raises(RequestError) as refused:
            await answered(house.plane.predict("m", house.batch(20)))
        assert [one["record"] for one in refused.value.details] == [7]
        assert house.recorded() == []
        assert house.plane.metrics.of("m") == []
        assert await answered(house.plane.predict("m", house.batch(7))) == [1.0] * 7
        assert {role for role, _ in house.recorded()} == {"champion", "canary"}

    run(house, work())


def test_a_canary_for_which_too_much_waits_costs_no_caller_an_answer(store: Store) -> None:
    house = House(store)

    async def work() -> None:
        house.deploy("m", (1, "champion", 50), (2, "canary", 50))
        house.faults[2] = Overloaded("too much waits", 1000)
        await house.plane.start()
        assert await answered(house.plane.predict("m", house.batch(20))) == [1.0] * 20
        canary = house.plane.metrics.of("m", 2)
        assert sum(one.errors for one in canary) == sum(one.requests for one in canary) > 0

    run(house, work())


def test_a_failure_that_cannot_be_recorded_costs_no_caller_an_answer(store: Store) -> None:
    house = House(store)

    async def work() -> None:
        house.deploy("m", (1, "champion", 50), (2, "canary", 100), (3, "shadow", 100))
        house.faults |= {2: ModelError("it fails"), 3: ModelError("it fails too")}
        await house.plane.start()
        keep = house.plane.recorder.keep

        def full(*given: Any, error: str | None = None, **more: Any) -> str:
            if error is not None:
                raise StoreFull("no space left")
            return keep(*given, **more)

        house.plane.recorder.keep = full  # type: ignore[method-assign]
        assert await answered(house.plane.predict("m", house.batch())) == [1.0]
        await house.until(lambda: house.plane.metrics.of("m", 3) != [])

    run(house, work())


def test_a_body_that_was_read_for_the_version_before_is_laid_out_anew(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = House(store)
    read, changed = threading.Event(), threading.Event()
    from_table = tables.from_table

    def slow(*given: Any) -> Batch:
        batch = from_table(*given)
        read.set()
        assert changed.wait(SECONDS)
        return batch

    monkeypatch.setattr(tables, "from_table", slow)
    sent, out = io.BytesIO(), pl.DataFrame({"a": [1.0, 3.0], "b": [2.0, 4.0], "id": [1, 2]})
    out.write_ipc_stream(sent)

    async def work() -> None:
        house.deploy("m", (1, "champion", 100))
        await house.plane.start()
        headers = {b"content-type": tables.ARROW.encode()}
        found = DataPlane(house.plane).handle(Request("POST", b"/predict/m", b"", headers, sent.getvalue()))
        assert not isinstance(found, Reply)
        asked = asyncio.ensure_future(found)
        await house.until(read.is_set)
        house.deploy("m", (2, "champion", 100))
        await house.until(lambda: house.plane.served("m")[0].version == 2)
        changed.set()
        answer = pl.read_ipc_stream((await asked).body)
        assert answer["version"].to_list() == [2, 2]
        assert answer["prediction"].to_list() == [1.0, 3.0]
        assert [one.key for _, one in store.predictions.predictions("m")] == ["1", "2"]

    run(house, work())
