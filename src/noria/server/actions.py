"""The changes that pages can ask for: a form becomes one call, then says where to go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from noria.core.clock import Clock
from noria.errors import NotFound, RequestError
from noria.register import decide as decide_version
from noria.retrain.request import request_turn
from noria.store.ports import LoopRecord, Store

_LIMITS = {"by": 100, "comment": 2000, "reason": 500}


@dataclass(frozen=True, slots=True)
class Form:
    """What was asked: parts of the address and fields of the form."""

    store: Store
    clock: Clock
    path: Mapping[str, str]
    fields: Mapping[str, str]

    def text(self, name: str, *, required: bool = False) -> str:
        """A field, without control characters and blanks about it.

        Raises:
            RequestError: it is too long, or absent and required.
        """
        found = "".join(c for c in self.fields.get(name, "") if c.isprintable() or c in "\r\n\t").strip()
        if required and not found:
            raise RequestError(f"Fill in '{name}'.", [{"field": name, "problem": "is empty"}])
        if len(found) > _LIMITS[name]:
            raise RequestError(f"'{name}' is longer than {_LIMITS[name]} characters.")
        return found

    def loop(self) -> LoopRecord:
        """The loop the address names.

        Raises:
            NotFound: there is none of this name.
        """
        with self.store.ledger.read() as db:
            found = db.find(LoopRecord, name=self.path["loop"])
        if found is None:
            raise NotFound(f"There is no loop '{self.path['loop'][:80]}' in this store.")
        return found


def decide(form: Form) -> str:
    """Approve or reject a version that awaits it."""
    loop, version = form.loop(), form.path["version"]
    if not (version.isascii() and version.isdigit() and len(version) < 12):
        raise NotFound(f"'{version[:80]}' is not a version number.")
    answer = form.fields.get("decision", "")
    if answer not in ("approve", "reject"):
        raise RequestError("decision must be approve or reject.")
    decide_version(
        form.store.ledger,
        loop.name,
        int(version),
        approved=answer == "approve",
        by=form.text("by", required=True),
        role=_role(loop.plan),
        now=form.clock.now(),
        comment=form.text("comment"),
    )
    return f"/loops/{quote(loop.name, safe='')}/models/{int(version)}"


def _role(plan: Mapping[str, Any]) -> str:
    approval = plan.get("approval")
    return str(approval.get("role") or "owner") if isinstance(approval, Mapping) else "owner"


def order_turn(form: Form) -> str:
    """Ask for a turn by hand, unless one is asked for already."""
    loop = form.loop()
    by = form.text("by") or "someone at the pages"
    reason = form.text("reason") or f"Asked for from the pages by {by}."
    request_turn(form.store.ledger, loop.name, form.clock.now(), by=by, reason=reason)
    return f"/loops/{quote(loop.name, safe='')}/turns"


ACTIONS: dict[str, Callable[[Form], str]] = {"decide": decide, "order_turn": order_turn}
