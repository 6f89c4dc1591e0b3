"""Experiments and runs that people tracked: a sweep, a run that goes on, files of every kind, a registered model."""

from __future__ import annotations

import base64
import math
import random

from seed_story import NOW, name

from noria.records.registry import LoggedModel
from noria.records.tracking import Input, ModelLink, Point, RunInfo, TrackedDataset
from noria.register import registry
from noria.store.ports import Store, Transaction
from noria.store.tracking import Artifact, TrackingTransaction

EXPERIMENT = 1
MODEL = "taxi time"
SWEEP, GOING, ODD = name("sweep", 0), name("going", 0), name("odd", 0)
TRIALS = [name("trial", number) for number in range(130)]
ARABIC, CHINESE = "تجربة الوقت", "出租车行程时间"
EVIL = '"><script>alert(1)</script><img src=x onerror=alert(1)>'
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAoAAAAKCAIAAAACUFjqAAAAEklEQVR4nGMQKOvBgxhGpbEhACtxchGRUSaHAAAAAElFTkSuQmCC"
)
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>parent.alert(1)</script></svg>'
FILES: dict[str, bytes] = {
    "environment.lock": b"numpy==2.1.0\npolars==1.30.0\nscikit-learn==1.6.1\n",
    "git.diff": b"--- a/train.py\n+++ b/train.py\n@@ -1 +1 @@\n-depth = 6\n+depth = 8\n",
    "plots/residuals.png": PNG,
    "plots/evil.svg": SVG,
    "plots/masked.png": b"<html><script>alert(1)</script></html>",
    "plots/report.pdf": b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n",
    "tables/errors.csv": 'zone,error,note\nHarlem,3.2,"one, two"\n上海,1.5,<b>bold</b>\n'.encode(),
    "model/MLmodel.json": b'{"flavors":{"sklearn":{"version":"1.6.1"}},"name":"<script>"}',
    "model/weights.bin": bytes(range(256)) * 4,
    f"notes/{ARABIC}.txt": "الوقت\n<script>alert(1)</script>\n".encode(),
    "page.html": b"<html><body><script>alert(1)</script></body></html>",
}
_START = int(NOW.timestamp() * 1000) - 3_600_000


def info(run: str, title: str, status: str, started: int, took: int | None, experiment: int = EXPERIMENT) -> RunInfo:
    """A run of the seeded experiment; times in ms."""
    return RunInfo(
        id=run,
        experiment=experiment,
        name=title,
        user="ada",
        status=status,
        stage="active",
        started=started,
        ended=None if took is None else started + took,
        artifacts=f"mlflow-artifacts:/{experiment}/{run}/artifacts",
    )


def curve(key: str, started: int, steps: int, level: float, every: int = 1000) -> list[Point]:
    """A loss that falls towards a level."""
    noise = random.Random(f"{key}{level}")
    return [
        Point(key, level + 2 * math.exp(-4 * step / steps) + noise.gauss(0, 0.02), started + step * every, step)
        for step in range(steps)
    ]


def fill_tracking(store: Store) -> None:
    """Write the experiments, runs, artifacts and registered model."""
    digests = {path: store.blobs.put(data) for path, data in FILES.items()}
    lock = store.blobs.put(b"numpy==2.0.2\npolars==1.30.0\nscikit-learn==1.6.1\n")

    def track(tx: TrackingTransaction) -> None:
        tx.add_experiment(
            "taxi-sweep", "mlflow-artifacts:/{id}", _START,
            {"team": "routing", "mlflow.note.content": "Which depth and rate serve the evening rush best?"},
        )  # fmt: skip
        tx.add_experiment(CHINESE, "mlflow-artifacts:/{id}", _START - 5, {})
        tx.add_experiment(EVIL, "mlflow-artifacts:/{id}", _START - 9, {"mlflow.note.content": EVIL})
        _sweep(tx)
        _files(tx, digests, lock)
        _going(tx)
        _odd(tx)

    def register(tx: Transaction) -> None:
        tx.put(LoggedModel("m-" + TRIALS[0], EXPERIMENT, "forest", "", _START, _START, TRIALS[0], "sklearn", "READY"))
        about = "Minutes a ride takes."
        registry.create_model(tx, MODEL, now=NOW, by="ada", description=about, tags={"team": "routing"})
        for number, run in enumerate((TRIALS[3], TRIALS[0], TRIALS[0])):
            registry.create_version(
                tx, MODEL, source=f"models:/m-{run}", location=f"mlflow-artifacts:/1/{run}/artifacts/model", now=NOW,
                by="ada", run=run, user="ada", description="Deeper trees." if number else "", tags={"checked": "yes"},
            )  # fmt: skip
        registry.set_alias(tx, MODEL, "champion", 2, now=NOW, by="ada")
        registry.set_alias(tx, MODEL, "next", 3, now=NOW, by="grace")
        registry.create_model(tx, CHINESE, now=NOW, by="ada", description=EVIL)

    store.tracking.write(track)
    store.ledger.write(register)


def _sweep(tx: TrackingTransaction) -> None:
    tx.add_run(info(SWEEP, "sweep of 130", "FINISHED", _START, 3_000_000), {"mlflow.runName": "sweep of 130"})
    data = TrackedDataset("yellow-2020-04", "ab12cd34ef56", "delta", '{"path": "s3://rides/2020-04"}')
    choose = random.Random(4)
    for number, run in enumerate(TRIALS):
        started = _START - 2_000_000 + number * 10_000 if number < 100 else _START + number
        status = "FAILED" if number % 17 == 5 else "FINISHED"
        tags = {"mlflow.user": "ada", "mlflow.source.git.commit": f"{number // 50 + 1}" * 40, "fold": str(number % 5)}
        if number >= 100:
            tags["mlflow.parentRunId"] = SWEEP
        tx.add_run(info(run, f"trial {number}", status, started, 9_000), tags)
        depth, rate = choose.choice((4, 6, 8, 10)), choose.choice((0.3, 0.1, 0.03))
        params = {
            "depth": str(depth),
            "rate": str(rate),
            "booster": choose.choice(("gbtree", "dart")),
            "seed": str(number),
        }
        level = 0.2 + 0.1 / depth + abs(rate - 0.1) + choose.random() * 0.1
        points = curve("loss", started, 60 if number < 20 else 1, level)
        points += curve("val/loss", started, 60 if number < 20 else 1, level * 1.1)
        tx.log(run, points=[*points, Point("mae", 3 + level, started + 9_000, 0)], params=params)
        tx.add_inputs(run, [Input(data, {"mlflow.data.context": "training"})])
    tx.link_models(TRIALS[0], [ModelLink("m-" + TRIALS[0], "output", 59)])


def _files(tx: TrackingTransaction, digests: dict[str, str], lock: str) -> None:
    for path, digest in digests.items():
        tx.put_artifact(Artifact(f"{EXPERIMENT}/{TRIALS[0]}/artifacts/{path}", digest, len(FILES[path]), _START))
    tx.put_artifact(Artifact(f"{EXPERIMENT}/{TRIALS[1]}/artifacts/environment.lock", lock, 49, _START))


def _going(tx: TrackingTransaction) -> None:
    """A run that goes on, with a long history and readings of its machine."""
    started = _START + 1_000_000
    tags = {"mlflow.source.name": "train.py", "noria.command": "train.py --depth 8", "note": EVIL}
    tx.add_run(info(GOING, "long run", "RUNNING", started, None), tags)
    points = curve("loss", started, 3_000, 0.3, every=500) + curve("rate", started, 3_000, 0.01, every=500)
    for reading in ("cpu_percent", "process_memory_mib"):
        for step in range(150):
            points.append(Point(f"system/{reading}", 40 + 9 * math.sin(step / 7), started + step * 10_000, step))
    config = '{"layers": [64, 64], "note": "' + "long " * 60 + '"}'
    tx.log(GOING, points=points, params={"depth": "8", "config": config})


def _odd(tx: TrackingTransaction) -> None:
    """A run whose every name is odd."""
    tags = {EVIL: EVIL, "noria.failure": EVIL, "mlflow.note.content": EVIL}
    tx.add_run(info(ODD, EVIL, "KILLED", _START, 10**15, experiment=3), tags)
    values = (1.0, math.nan, math.inf, -2.0)
    keys = (EVIL, CHINESE, "system/" + EVIL)
    points = [Point(key, value, _START + step, step) for key in keys for step, value in enumerate(values)]
    tx.log(ODD, points=points, params={ARABIC: CHINESE, EVIL: EVIL})
    tx.add_inputs(ODD, [Input(TrackedDataset(EVIL, "'; DROP", EVIL, EVIL), {"mlflow.data.context": EVIL})])
