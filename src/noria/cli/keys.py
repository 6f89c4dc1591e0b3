"""``noria keys``: who may ask served models."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["keys"]

keys = typer.Typer(help="Keys that open served models.", no_args_is_help=True)
StoreFolder = Annotated[
    Path | None, typer.Option("--store", envvar="NORIA_STORE", help="The store's folder.", show_default=False)
]


@keys.command()
def add(
    name: Annotated[str, typer.Argument(help="What the key is called, e.g. who holds it.")],
    model: Annotated[str | None, typer.Option(help="The one model it opens; every model by default.")] = None,
    store: StoreFolder = None,
) -> None:
    """Make a key and print it once: only its digest is kept."""
    from noria.cli.places import opened
    from noria.errors import Conflict, NotFound
    from noria.loop.clock import SystemClock
    from noria.records import ModelVersion
    from noria.serve.access import digest_of, new_secret
    from noria.store.ports import ApiKey, Transaction

    secret, now, by = new_secret(), SystemClock().now(), getpass.getuser()
    made = ApiKey(name=name, digest=digest_of(secret), created=now, model=model, by=by)

    def change(tx: Transaction) -> None:
        if tx.find(ApiKey, name=name) is not None:
            raise Conflict(f"There is a key '{name[:80]}' already; remove it first, or choose another name.")
        if model is not None and not tx.count(ModelVersion, loop=model):
            raise NotFound(f"There is no model '{model[:80]}' in this store.")
        tx.put(made)
        tx.audit(now, by, "key added", name, model=model or "every model")

    with opened(store) as kept:
        kept.ledger.write(change)
    print(secret)


@keys.command(name="list")
def list_keys(store: StoreFolder = None) -> None:
    """The keys there are, without the keys themselves."""
    from rich.console import Console
    from rich.text import Text

    from noria.cli.places import opened
    from noria.cli.tables import moment, table
    from noria.store.ports import ApiKey

    with opened(store, read_only=True) as kept, kept.ledger.read() as db:
        found = db.list(ApiKey, oldest_first=True)
    shown = table("name", "opens", "made", "by")
    for key in found:
        shown.add_row(Text(key.name), Text(key.model or "every model"), moment(key.created), Text(key.by))
    Console(highlight=False).print(shown)


@keys.command()
def remove(
    name: Annotated[str, typer.Argument(help="The key's name.")],
    store: StoreFolder = None,
) -> None:
    """Take a key back: servers refuse it within a second."""
    from noria.cli.places import opened
    from noria.errors import NotFound
    from noria.loop.clock import SystemClock
    from noria.store.ports import ApiKey, Transaction

    now, by = SystemClock().now(), getpass.getuser()

    def change(tx: Transaction) -> str:
        gone = tx.find(ApiKey, name=name)
        if gone is None:
            raise NotFound(f"There is no key '{name[:80]}'.")
        tx.remove(ApiKey, name=name)
        tx.audit(now, by, "key removed", name)
        guarded = any(key.model in (None, gone.model) for key in tx.list(ApiKey))
        return "" if guarded else f"model '{gone.model}'" if gone.model else "models without a key of their own"

    with opened(store) as kept:
        bare = kept.ledger.write(change)
    print(f"Key '{name}' opens nothing any more.")
    if bare:
        print(f"It was the last: on this machine anybody may ask {bare} now.")
