"""Training scripts for the client's tests: ``python training.py WHAT STORE [MORE]``."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import noria
from noria.errors import RequestError
from noria.track import callbacks, flush


def everything(store: str) -> None:
    with noria.run("e", params={"depth": 8}, store=store) as run:
        run.params(name="x")
        run.tags(colour="red")
        run.tags(colour="blue")
        for value in (4.0, 1.0, 0.5, 0.25):
            run.log(loss=value)
        run.log({"odd": float("nan")})
        run.log(own=1.0, step=7, time=1_700_000_000.5)
        run.artifact(b"hello", "notes/a.txt")
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "folder"
            (folder / "deep").mkdir(parents=True)
            (folder / "one.txt").write_text("1")
            (folder / "deep" / "two.txt").write_text("2")
            run.artifact(folder)
        run.input(__file__, "rows")
        try:
            with noria.run("e", store=store, system_metrics=False):
                _ = 1 / 0
        except ZeroDivisionError:
            pass


def count(store: str, number: str) -> None:
    with noria.run("e", store=store, system_metrics=False) as run:
        for step in range(int(number)):
            run.log(m=step / 2)


def said(store: str, number: str) -> None:
    run = noria.run("e", store=store, system_metrics=False)
    for step in range(int(number)):
        run.log(m=step)
    print("said", flush=True)
    threading.Event().wait(60)


def resume(store: str, run_id: str) -> None:
    with noria.run("e", store=store, resume=run_id, system_metrics=False) as run:
        assert run.id == run_id
        run.params(again="yes")


def aloud(store: str) -> None:
    """Say each step, once ``log`` has returned, on standard output too."""
    with noria.run("e", store=store, system_metrics=False) as run:
        for step in range(10_000_000):
            run.log(m=step)
            os.write(1, b"%d\n" % step)


def waits(store: str) -> None:
    with noria.run("e", store=store, system_metrics=False) as run:
        run.log(m=1.0)
        print("said", flush=True)
        threading.Event().wait(60)


def many(store: str) -> None:
    with noria.run("e", store=store, system_metrics=False) as run:
        run.log({f"metric/with/a/name/of/some/length/{number}": number for number in range(50_000)}, step=1)
        run.params({f"p{number}": "x" * 6000 for number in range(4000)})
        run.log(after=1.0)


def stranger(store: str) -> None:
    """Say something of a run that no store has."""
    try:
        with noria.run("e", store=store, resume="0" * 32, system_metrics=False) as run:
            for step in range(2000):
                run.log(m=step)
            run.artifact(b"kept", "a.txt")
    finally:
        flush()


def forks(store: str) -> None:
    """Children log to their parent's run while its threads do, and leave its ``with`` block."""
    with noria.run("e", store=store, system_metrics=False) as run:
        over = threading.Event()

        def work(number: int) -> None:
            while not over.is_set():
                run.log({f"t{number}": 1.0})

        workers = [threading.Thread(target=work, args=(number,)) for number in range(3)]
        for worker in workers:
            worker.start()
        for number in range(40):
            child = os.fork()
            if child == 0:
                try:
                    with run:
                        run.log(child=float(number), step=number)
                finally:
                    os._exit(0)
            assert os.waitpid(child, 0) == (child, 0)
        over.set()
        for worker in workers:
            worker.join()


def names(store: str) -> None:
    """The command line and what is said hold bytes that are no characters."""
    with noria.run("e", params={"p": "\udcff"}, tags={"t": "\udcff"}, store=store, system_metrics=False) as run:
        run.input(__file__, "it's rows")


def refused(store: str) -> None:
    with noria.run("e", store=store, system_metrics=False) as run:
        run.params(p=1)
        run.params(p=2)
        run.log(after=1.0)


def wrong(store: str) -> None:
    found = []
    with noria.run("e", store=store, system_metrics=False) as run:
        for call in (
            lambda: run.log(m="x"),  # type: ignore[arg-type]
            lambda: run.log({"../x": 1.0}),
            lambda: run.artifact("nowhere.txt"),
            lambda: run.artifact(b"x"),
            lambda: run.artifact(b"x", "../up"),
            lambda: run.log(m=1.0, step=2**63),
            lambda: noria.run(store="ftp://x"),
        ):
            try:
                call()
            except RequestError as error:
                found.append(str(error))
    print(json.dumps(found), flush=True)


def threads(store: str) -> None:
    with noria.run("e", name="parent", store=store, system_metrics=False) as run:

        def work(number: int) -> None:
            for step in range(200):
                run.log({f"t{number}": step})

        workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        child = os.fork()
        if child == 0:
            with noria.run("e", name="child", store=store, system_metrics=False) as own:
                own.log(m=1.0)
            os._exit(0)
        os.waitpid(child, 0)


def callback(store: str, library: str) -> None:
    import numpy as np

    draw = np.random.default_rng(0)
    x = draw.normal(size=(200, 3))
    y = x @ np.array([1.0, 2.0, 3.0])
    with noria.run("e", store=store, system_metrics=False) as run:
        if library == "lightgbm":
            import lightgbm

            data = lightgbm.Dataset(x, y)
            lightgbm.train(
                {"objective": "regression", "verbose": -1, "num_threads": 1},
                data,
                5,
                valid_sets=[lightgbm.Dataset(x, y)],
                callbacks=[callbacks.lightgbm(run)],
            )
        elif library == "xgboost":
            import xgboost

            matrix = xgboost.DMatrix(x, y)
            params = {"nthread": 1, "max_depth": 2}
            run.params(params)
            xgboost.train(
                params, matrix, 5, evals=[(matrix, "test")], verbose_eval=False, callbacks=[callbacks.xgboost(run)]
            )
        elif library == "keras":
            import keras

            model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
            model.compile(optimizer="sgd", loss="mse")
            run.params(optimizer="sgd", loss="mse")
            model.fit(x, y, epochs=5, verbose=0, callbacks=[callbacks.keras(run)])
        else:
            from sklearn.linear_model import Ridge

            callbacks.sklearn(run, Ridge().fit(x, y), x, y)


if __name__ == "__main__":
    what, where, *more = sys.argv[1:]
    if what == "flush":
        sys.exit(not flush(60, store=where))
    scripts: dict[str, Callable[..., None]] = {
        "all": everything,
        "count": count,
        "said": said,
        "resume": resume,
        "aloud": aloud,
        "waits": waits,
        "many": many,
        "stranger": stranger,
        "forks": forks,
        "names": names,
        "refused": refused,
        "wrong": wrong,
        "threads": threads,
        "callback": callback,
    }
    scripts[what](where, *more)
