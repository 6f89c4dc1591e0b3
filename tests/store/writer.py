"""A process that writes to a store and says what was acknowledged, until it is killed."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from threading import Thread

from noria.records import Turn, TurnState
from noria.store import open_store
from noria.store.ports import CacheEntry, Label, Prediction, Transaction

AT = datetime(2024, 1, 1, tzinfo=UTC)


def prediction(name: str) -> Prediction:
    return Prediction(f"p-{name}", "churn", AT, 1, "", "champion", {"k": name}, 1, key=name)


def turn(name: str, number: int) -> Turn:
    return Turn(name, name.split("-")[0], number, TurnState.ordered, AT, AT, "manual", "because")


def main(folder: str, who: str, count: int, threads: int) -> None:
    store = open_store(folder)

    def work(place: int) -> None:
        for number in range(count):
            name = f"{who}{place}-{number}"
            digest = store.blobs.put(name.encode())

            def change(tx: Transaction, name: str = name, number: int = number, digest: str = digest) -> None:
                tx.put(turn(name, number))
                tx.put(CacheEntry(f"key-{name}", "step", "churn", AT, {"blob": digest}, {}, 0.0))
                tx.audit(AT, who, "wrote", name)

            store.ledger.write(change)
            store.predictions.append([prediction(f"{name}/{half}") for half in (1, 2)])
            store.predictions.label([Label("churn", AT, 1, key=f"{name}/1")])
            sys.stdout.write(f"{name}\n")
            sys.stdout.flush()

    started = [Thread(target=work, args=(place,)) for place in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    store.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
