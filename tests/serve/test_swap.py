"""Versions come, go and die under load; callers do not notice."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving import Clock, Reply, Served

from noria.errors import Conflict, ModelError
from noria.loop.staging import worker_command
from noria.records import Deployment, Field, ModelVersion, Route, Signature
from noria.serve import DataPlane, Plane, choose
from noria.serve.address import listen
from noria.serve.listen import ServerThread
from noria.serve.rules import key_text
from noria.store import Store

GOOD = {"id": 1, "age": 40, "city": "Oslo", "bonus": 0.5}
NOW = datetime(2024, 1, 1, tzinfo=UTC)


def workers() -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process().children(recursive=True)
        if child.is_running() and child.status() != psutil.STATUS_ZOMBIE and "noria.loop.worker" in child.cmdline()
    ]


def has_gone(pid: int) -> bool:
    return pid not in {worker.pid for worker in workers()}


def test_versions_are_swapped_under_load_without_a_failed_request(served: Served) -> None:
    stop = threading.Event()
    statuses: Counter[int] = Counter()
    seen: Counter[int] = Counter()
    wrong: list[Any] = []

    def hammer(place: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
        while not stop.is_set():
            body = json.dumps([{**GOOD, "id": place * 1000 + n} for n in range(3)])
            connection.request("POST", "/predict/churn", body)
            response = connection.getresponse()
            answer = json.loads(response.read())
            statuses[response.status] += 1
            if response.status != 200:
                wrong.append(answer)
                continue
            seen.update(one["version"] for one in answer["predictions"])
        connection.close()

    def answered_or_failed(wanted: list[int], before: Counter[int]) -> bool:
        return bool(wrong) or all(seen[number] > before[number] + 5 for number in wanted)

    with ThreadPoolExecutor(6) as pool:
        running = [pool.submit(hammer, place) for place in range(6)]
        try:
            for shares in (((2, 100.0),), ((1, 50.0), (2, 50.0)), ((1, 100.0),), ((2, 100.0),)):
                before = seen.copy()
                served.deploy(*shares)
                wanted = [number for number, percent in shares if percent]
                served.until(partial(answered_or_failed, wanted, before))
        finally:
            stop.set()
        for one in running:
            one.result()
    assert not wrong
    assert set(statuses) == {200}
    recorded = Counter(made.version for _, made in served.store.predictions.predictions("churn", limit=1_000_000))
    assert recorded[1] >= seen[1]
    assert recorded[2] >= seen[2]
    digests = {v.version: v.model_digest for v in served.versions}
    rows = served.store.predictions.predictions("churn", limit=1_000_000)
    assert all(made.model_digest == digests[made.version] for _, made in rows)
    served.until(lambda: len(workers()) == 1)


def test_a_killed_model_process_is_restarted_and_answers_again(served: Served) -> None:
    assert served.post("/predict/churn", GOOD).status == 200
    for _ in range(2):
        (worker,) = workers()
        worker.send_signal(signal.SIGKILL)
        served.until(partial(has_gone, worker.pid))
        served.until(lambda: served.post("/predict/churn", GOOD).status == 200)
        (fresh,) = workers()
        assert fresh.pid != worker.pid


def test_a_request_in_a_dying_process_is_told_to_try_again(served: Served) -> None:
    (worker,) = workers()
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(served.post, "/predict/churn", {**GOOD, "city": "Sloth"})
        time.sleep(0.2)
        worker.send_signal(signal.SIGKILL)
        reply = slow.result()
    assert reply.status in (200, 503)  # it may have been answered just before
    if reply.status == 503:
        assert reply.headers["retry-after"] == "1"


def test_a_canary_that_dies_costs_no_caller_an_answer(served: Served) -> None:
    served.deploy((1, 50.0), (2, 50.0))
    served.until(lambda: len(workers()) == 2)
    records = [{**GOOD, "id": number} for number in range(100)]
    served.until(
        lambda: {one["version"] for one in served.post("/predict/churn", records).body["predictions"]} == {1, 2}
    )
    newest = max(workers(), key=lambda worker: worker.create_time())
    stop = threading.Event()
    statuses: Counter[int] = Counter()

    def hammer() -> None:
        while not stop.is_set():
            statuses[served.post("/predict/churn", records).status] += 1

    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(hammer) for _ in range(2)]
        served.until(lambda: statuses[200] > 3)
        newest.send_signal(signal.SIGKILL)
        before = statuses[200]
        served.until(lambda: statuses[200] > before + 3)
        stop.set()
        for one in running:
            one.result()
    assert set(statuses) == {200}


def test_one_stall_of_a_shadow_counts_for_the_request_that_met_it(served: Served) -> None:
    served.deploy((1, 100.0), shadow=(2, 100.0))
    served.until(lambda: served.plane is not None and served.plane.deployment("churn").route("shadow") is not None)
    good, keys = {"age": 40, "city": "Oslo", "bonus": 0.5}, range(81_000, 81_011)
    served.post("/predict/churn", [{**good, "id": keys[0], "city": "Sloth"}])  # half a second, and again in the shadow
    for key in keys[1:]:  # their answers in the shadow wait for that
        served.post("/predict/churn", [{**good, "id": key}])

    def shadow() -> dict[str, int]:
        rows = served.store.predictions.rows("churn", limit=1_000_000)
        return {
            str(one.key): one.latency_us for _, one in rows if one.role == "shadow" and str(one.key) in map(str, keys)
        }

    served.until(lambda: len(shadow()) == 11)
    found = shadow()
    assert found.pop(str(keys[0])) > 500_000
    assert sorted(found.values())[5] < 250_000


def test_shares_over_http_are_about_those_asked_for_and_sticky(served: Served) -> None:
    served.deploy((1, 75.0), (2, 25.0))
    records = [{**GOOD, "id": number} for number in range(2000)]

    def versions() -> list[int]:
        return [one["version"] for one in served.post("/predict/churn", records).body["predictions"]]

    served.until(lambda: 2 in versions())
    first = versions()
    assert 0.2 < first.count(2) / 2000 < 0.3
    assert versions() == first
    before = served.deployments["churn"].revision
    served.deploy((1, 50.0), (2, 50.0))
    assert served.deployments["churn"].revision == before + 1
    served.until(lambda: versions() != first)
    later = versions()
    assert all(now == 2 for now, then in zip(later, first, strict=True) if then == 2)


def test_a_pinned_version_never_answers_for_another(served: Served) -> None:
    served.deploy((1, 100.0), (2, 0.0))
    served.until(lambda: len(workers()) == 2)
    served.until(lambda: served.post("/predict/churn?version=2", GOOD).status == 200)
    newest = max(workers(), key=lambda worker: worker.create_time())
    newest.send_signal(signal.SIGKILL)
    for _ in range(20):
        reply = served.post("/predict/churn?version=2", GOOD)
        assert reply.status in (200, 503)
        if reply.status == 200:
            assert reply.body["predictions"][0]["version"] == 2


def test_a_bundle_that_cannot_be_loaded_leaves_the_old_version_serving(served: Served) -> None:
    broken = served.store.blobs.put(b'{"not": "a manifest"}')
    former = served.deployments["churn"]
    served.deployments["churn"] = Deployment("churn", 99, NOW, (Route(9, broken, "champion", 100.0),))
    time.sleep(0.5)
    assert served.post("/predict/churn", GOOD).body["predictions"][0]["version"] == 1
    served.deployments["churn"] = former


def test_a_model_that_is_loading_is_told_to_be(served: Served) -> None:
    load = "/v2/repository/models/churn"
    assert served.request("POST", f"{load}/unload", b"").status == 200
    assert served.post("/predict/churn", GOOD).status == 404
    loaded: list[Reply] = []
    loading = threading.Thread(target=lambda: loaded.append(served.request("POST", f"{load}/load", b"")))
    loading.start()
    met = []
    while loading.is_alive():
        reply = served.post("/predict/churn", GOOD)
        states = [one["state"] for one in served.request("POST", "/v2/repository/index", b"").body]
        met.append((reply.status, states))
        if reply.status == 503:
            assert reply.body["error"].endswith("it is loading")
            assert reply.headers["retry-after-ms"]
    loading.join()
    assert loaded[0].status == 200
    assert (503, ["LOADING"]) in met
    assert served.post("/predict/churn", GOOD).status == 200


def test_a_loop_no_longer_deployed_is_no_longer_served(served: Served) -> None:
    served.deployments.clear()
    served.until(lambda: served.post("/predict/churn", GOOD).status == 404)
    served.until(lambda: workers() == [])


def test_stopping_finishes_the_requests_in_flight(trained: tuple[Store, list[ModelVersion]]) -> None:
    found = Served(*trained)
    found.deploy((1, 100.0))
    with ThreadPoolExecutor(3) as pool:
        with found.up():
            assert found.post("/predict/churn", GOOD).status == 200
            slow = [pool.submit(found.post, "/predict/churn", {**GOOD, "city": "Snail"}) for _ in range(3)]
            assert found.plane is not None
            served = next(iter(found.plane._served.values()))
            found.until(lambda: served.users == 3)
        assert [one.result().status for one in slow] == [200, 200, 200]
    assert workers() == []


def test_who_waits_for_a_model_that_hangs_is_told_when_the_server_stops(
    trained: tuple[Store, list[ModelVersion]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noria.serve.listen._DRAIN_SECONDS", 0.2)
    found = Served(*trained)
    found.deploy((1, 100.0))
    with ThreadPoolExecutor(1) as pool:
        with found.up():
            (worker,) = workers()
            before = worker.cpu_times().user
            hung = pool.submit(found.post, "/predict/churn", {**GOOD, "city": "Sisyphus"})
            found.until(lambda: worker.cpu_times().user > before + 0.2)
        reply = hung.result()
    assert (reply.status, "was stopped" in reply.body["error"]) == (503, True)
    assert has_gone(worker.pid)


def test_a_port_in_use_is_said(trained: tuple[Store, list[ModelVersion]]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Conflict, match=f"Port {port} on 127.0.0.1 is in use"):
            listen("127.0.0.1", port)
    with pytest.raises(Conflict, match="65535"):
        listen("127.0.0.1", 70_000)
    with pytest.raises(Conflict):
        listen("203.0.113.1", 0)


def test_a_server_that_cannot_start_says_why_and_leaves_nothing(
    trained: tuple[Store, list[ModelVersion]],
) -> None:
    store, _ = trained

    def unreadable() -> dict[str, Deployment]:
        raise ModelError("cannot be read")

    plane = Plane(store, Clock(), ["false"], unreadable)
    server = ServerThread(DataPlane(plane))
    with pytest.raises(ModelError, match="cannot be read"), server:
        pass
    listen("127.0.0.1", server.port).close()


@pytest.mark.parametrize("command", [["/nowhere/python"], ["false"], [sys.executable, "-c", "import os; os.abort()"]])
def test_a_model_process_that_never_comes_up_is_said(
    trained: tuple[Store, list[ModelVersion]], command: list[str]
) -> None:
    store, versions = trained
    deployment = Deployment("churn", 1, NOW, (Route(1, versions[0].bundle, "champion", 100.0),))
    plane = Plane(store, Clock(), command, lambda: {"churn": deployment})
    found = Served(store, versions)
    with ServerThread(DataPlane(plane)) as server:
        found.port = server.port
        reply = found.post("/predict/churn", GOOD)
        assert reply.status == 503
        assert "cannot be served" in reply.body["error"]
        assert found.get("/v2/models/churn/ready").status == 503


def test_a_model_that_does_not_come_back_is_not_called_ready(
    trained: tuple[Store, list[ModelVersion]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noria.serve.process._RESTART_SECONDS", 0.5)
    store, versions = trained
    broken = tmp_path / "broken"
    command = ["sh", "-c", f'test -e {broken} && exit 1; exec "$0" "$@"', *worker_command(store)]
    deployment = Deployment("churn", 1, NOW, (Route(1, versions[0].bundle, "champion", 100.0),))
    found = Served(store, versions)
    with ServerThread(DataPlane(Plane(store, Clock(), command, lambda: {"churn": deployment}))) as server:
        found.port = server.port
        places = ("/v2/health/ready", "/v2/models/churn/ready", "/health")
        assert [found.get(place).status for place in places] == [200] * 3
        broken.touch()
        assert found.post("/predict/churn", {**GOOD, "city": "Pompeii"}).status == 503
        found.until(lambda: [found.get(place).status for place in places] == [503] * 3)
        broken.unlink()
        found.until(lambda: [found.get(place).status for place in places] == [200] * 3)


def test_a_model_that_never_comes_up_keeps_no_other_waiting(trained: tuple[Store, list[ModelVersion]]) -> None:
    store, versions = trained
    script = f'case "$*" in *{versions[1].bundle}*) exec sleep 600;; esac; exec "$0" "$@"'
    deployments = {"churn": Deployment("churn", 1, NOW, (Route(1, versions[0].bundle, "champion", 100.0),))}
    command = ["sh", "-c", script, *worker_command(store)]
    plane = Plane(store, Clock(), command, lambda: dict(deployments), refresh_s=0.05)
    found = Served(store, versions)
    with ServerThread(DataPlane(plane)) as server:
        found.port = server.port
        deployments["stuck"] = Deployment("stuck", 1, NOW, (Route(2, versions[1].bundle, "champion", 100.0),))
        found.until(lambda: "it is loading" in str(found.post("/predict/stuck", GOOD).body))
        assert found.get("/v2/health/ready").status == 503
        del deployments["churn"]
        found.until(lambda: found.post("/predict/churn", GOOD).status == 404)
        deployments["stuck"] = Deployment("stuck", 2, NOW, (Route(1, versions[0].bundle, "champion", 100.0),))
        found.until(lambda: found.post("/predict/stuck", GOOD).status == 200)
        assert found.get("/v2/health/ready").status == 200


def test_model_processes_see_no_credentials(
    trained: tuple[Store, list[ModelVersion]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "PGPASSWORD", "NORIA_TOKEN"):
        monkeypatch.setenv(name, "a secret")
    found = Served(*trained)
    found.deploy((1, 100.0))
    with found.up():
        (worker,) = workers()
        given = worker.environ()
    assert "PATH" in given
    assert "a secret" not in given.values()


def test_what_a_model_forked_keeps_nobody_waiting_once_it_has_ended(served: Served) -> None:
    (worker,) = workers()
    assert served.post("/predict/churn", {**GOOD, "city": "Lerna"}).status == 200
    (forked,) = worker.children()
    assert served.post("/predict/churn", {**GOOD, "city": "Pompeii"}).status == 503
    served.until(lambda: served.post("/predict/churn", GOOD).status == 200)
    assert has_gone(forked.pid)


def test_a_model_neither_reads_requests_nor_writes_answers(served: Served) -> None:
    for _ in range(3):
        assert served.post("/predict/churn", {**GOOD, "city": "Babel"}).status == 200
        assert served.post("/predict/churn", GOOD).status == 200


def test_temporary_files_of_a_model_go_with_its_process(served: Served) -> None:
    (worker,) = workers()
    folder = Path(worker.environ()["TMPDIR"])
    assert list(folder.iterdir())
    assert served.post("/predict/churn", {**GOOD, "city": "Pompeii"}).status == 503
    served.until(lambda: not folder.exists())


# -- routing, pure


def deployment(percent: float) -> Deployment:
    routes = (Route(1, "a", "champion", 100 - percent), Route(2, "b", "canary", percent))
    return Deployment("churn", 1, NOW, routes)


@given(st.text(), st.floats(0, 100), st.floats(0, 100))
def test_a_key_that_met_the_canary_meets_it_at_any_larger_share(key: str, one: float, two: float) -> None:
    low, high = sorted((one, two))
    if choose(deployment(low), key).version == 2:
        assert choose(deployment(high), key).version == 2
    assert choose(deployment(0), key).version == 1
    assert choose(deployment(100), key).version == 2
    assert choose(deployment(low), key) == choose(deployment(low), key)


@pytest.mark.parametrize("percent", [1, 5, 25, 50, 99])
@pytest.mark.parametrize("keyed", [True, False])
def test_shares_are_those_asked_for(percent: float, keyed: bool) -> None:
    rows = 20_000
    met = sum(choose(deployment(percent), str(n) if keyed else None).version == 2 for n in range(rows))
    spread = 5 * (percent / 100 * (1 - percent / 100) / rows) ** 0.5
    assert abs(met / rows - percent / 100) < spread


def test_another_challenger_meets_other_keys() -> None:
    second = Deployment("churn", 2, NOW, (Route(1, "a", "champion", 50), Route(3, "c", "canary", 50)))
    keys = [str(number) for number in range(1000)]
    met = {key for key in keys if choose(deployment(50), key).version == 2}
    again = {key for key in keys if choose(second, key).version == 3}
    assert 0.3 < len(met & again) / len(met) < 0.7


@pytest.mark.parametrize(
    ("dtype", "value", "text"),
    [
        ("Int64", 7, "7"),
        ("Int64", 7.0, "7"),
        ("Int64", "7", "7"),
        ("Int64", 7.5, "7.5"),
        ("Float64", 7, "7.0"),
        ("Float64", 7.5, "7.5"),
        ("String", "", ""),
        ("Int64", None, None),
        ("Boolean", True, "True"),
    ],
)
def test_a_key_is_one_text_however_it_is_written(dtype: str, value: Any, text: str | None) -> None:
    signature = Signature((Field("id", dtype),), (), "binary", key="id")
    assert key_text(value, signature) == text


def test_a_record_both_versions_refuse_is_named_by_its_place(served: Served) -> None:
    served.deploy((1, 50.0), (2, 50.0))
    served.until(lambda: served.post("/predict/churn?version=2", GOOD).status == 200)
    records = [{**GOOD, "id": number} for number in range(20)]
    for wrong in range(0, 20, 3):
        asked = [{**record, "city": "Atlantis"} if place == wrong else record for place, record in enumerate(records)]
        reply = served.post("/predict/churn", asked)
        assert reply.status == 422
        assert [detail["record"] for detail in reply.body["details"]] == [wrong]
        assert reply.body["error"].startswith(f"A record cannot be predicted. record {wrong}: feature 'town' failed")
